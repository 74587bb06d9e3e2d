"""The exchange behind a client in process, and behind a real port."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from engine.market.exchange import FaultScript, SimulatedExchange

# 2024-11-22 16:19:05.678 UTC, inside a minute, an hour, a day, a week and a month.
NOW_MS = 1_732_292_345_678

Ask = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def exchange() -> SimulatedExchange:
    return SimulatedExchange(clock_ms=lambda: NOW_MS)


@pytest.fixture
async def client(exchange: SimulatedExchange) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(exchange) as opened:
        yield opened


@pytest.fixture
def ask(client: httpx2.AsyncClient) -> Ask:
    """Ask a market path and return the envelope."""

    async def asked(path: str, **parameters: object) -> dict[str, Any]:
        answer = await client.get(f"/v5/market/{path}", params=parameters)  # pyright: ignore[reportArgumentType]
        assert answer.status_code == 200
        return answer.json()

    return asked


def client_of(exchange: SimulatedExchange) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange")


class ServedExchange:
    """An exchange on a loopback port."""

    def __init__(self, exchange: SimulatedExchange, url: str) -> None:
        self.exchange = exchange
        self.url = url

    def script(self, *rules: dict[str, Any], seed: int = 1) -> None:
        self.exchange.replace_faults(FaultScript.model_validate({"seed": seed, "rules": list(rules)}))


@pytest.fixture(scope="module")
def port() -> Iterator[ServedExchange]:
    exchange = SimulatedExchange(clock_ms=lambda: NOW_MS, control=True)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(exchange, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield ServedExchange(exchange, f"http://127.0.0.1:{listening.getsockname()[1]}")
    server.should_exit = True
    thread.join(timeout=120)
    listening.close()
    assert not thread.is_alive()
