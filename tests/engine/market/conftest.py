"""A clock the test owns, and an in-process exchange whose answers a test can bend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest

from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.market.retries import Patience

MINUTE_MS = 60_000


class FakeClock:
    """Virtual time: it moves to the earliest wake-up once every sleeper waits."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall_offset_ms = 1_700_000_000_000
        self.slept: list[float] = []
        self._wakes: list[float] = []

    def now_ms(self) -> int:
        return self.wall_offset_ms + round(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake = self.seconds + seconds
        self._wakes.append(wake)
        try:
            while self.seconds < wake:
                for _ in range(3):
                    await asyncio.sleep(0)
                if min(self._wakes) == wake:
                    self.seconds = max(self.seconds, wake)
        finally:
            self._wakes.remove(wake)


class Memory:
    """A `LimitMemory` two limiters can share."""

    def __init__(self) -> None:
        self.bans: dict[str, int] = {}
        self.leases: dict[tuple[str, str], int] = {}
        self.consultations = 0

    async def ban_until_ms(self, host: str) -> int:
        self.consultations += 1
        return self.bans.get(host, 0)

    async def remember_ban(self, host: str, until_ms: int) -> None:
        self.bans[host] = max(self.bans.get(host, 0), until_ms)

    async def active_callers(self, host: str, owner: str, now_ms: int, lease_ms: int) -> int:
        self.leases[host, owner] = now_ms + lease_ms
        return sum(known == host and until > now_ms for (known, _), until in self.leases.items())


Reply = tuple[int, dict[str, str], bytes]
Bend = Callable[[dict[str, str], Reply], Reply]


class OddExchange:
    """An ASGI application that answers like Bybit, each answer bent by the next entry of `bends` (None: not bent)."""

    def __init__(self) -> None:
        self.rows: dict[int, list[str]] = {}
        self.time_ms = 2_000_000_000_000
        self.headers: dict[str, str] = {}
        self.bends: list[Bend | None] = []
        self.always: Bend | None = None
        self.routes: dict[str, Callable[[dict[str, str]], Any]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        self.requests.append((scope["path"], query))
        reply = self._reply(scope["path"], query)
        bend = self.bends.pop(0) if self.bends else self.always
        status, headers, body = bend(query, reply) if bend else reply
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _reply(self, path: str, query: dict[str, str]) -> Reply:
        if path in self.routes:
            result = self.routes[path](query)
        elif path.endswith("kline"):
            result = {"category": query["category"], "symbol": query["symbol"], "list": self._window(query)}
        else:
            return 404, {}, b"404 page not found"
        return 200, dict(self.headers), self.envelope(result)

    def envelope(self, result: Any, code: int = 0, text: str = "OK") -> bytes:
        frame = {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": self.time_ms}
        return json.dumps(frame).encode()

    def _window(self, query: dict[str, str]) -> list[list[str]]:
        start, end, limit = (int(query[name]) for name in ("start", "end", "limit"))
        return [self.rows[ts] for ts in sorted(self.rows, reverse=True) if start <= ts <= end][:limit]


def make_row(ts: int, *, price: float = 100.0, volume: str = "2.5") -> list[str]:
    """Return a row whose values depend on its time, so that rows cannot be mistaken for each other."""
    close = price + ts // MINUTE_MS % 7
    turnover = repr(float(volume) * price)
    return [str(ts), repr(price), repr(price + 7), repr(price - 1), repr(close), volume, turnover]


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limit_memory() -> Memory:
    return Memory()


@pytest.fixture(scope="session")
def row_of() -> Callable[..., list[str]]:
    return make_row


@pytest.fixture
def odd_exchange() -> OddExchange:
    return OddExchange()


@pytest.fixture
async def feed(fake_clock: FakeClock, odd_exchange: OddExchange):
    limiter = RequestLimiter("exchange.test", clock=fake_clock, rules=RateRules(rate_per_s=None, ban_s=600))
    made = BybitFeed(
        base_url="http://exchange.test",
        clock=fake_clock,
        limiter=limiter,
        patience=Patience(),
        transport=httpx2.ASGITransport(odd_exchange),
    )
    yield made
    await made.close()
