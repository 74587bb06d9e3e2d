"""Who answered is told by the answers: a simulated exchange at the configured address is never called Bybit."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from server.diagnosis import check_parts
from server.mcp_app import create_server
from server.settings import Settings

SYMBOL = {"symbol": "BTCUSDT"}
RANGE = {"start": "2024-01-01", "end": "2024-01-02"}


@pytest.fixture
async def pretending(tmp_path: Path) -> AsyncIterator[Settings]:
    """Return settings that name Bybit at an address where the simulated exchange listens."""
    served = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "server", "exchange", "--port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert served.stdout is not None
    found = None
    try:
        while found is None and (line := await served.stdout.readline()):
            found = re.search(rb"http://127\.0\.0\.1:\d+", line)
        assert found is not None
        yield Settings.model_validate({"home": tmp_path, "feed": "bybit", "bybit_rest_url": found[0].decode()})
    finally:
        served.kill()
        await served.communicate()


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.structured_content
    assert result.structured_content is not None
    return result.structured_content


async def test_every_answer_of_a_simulated_exchange_says_so(pretending: Settings) -> None:
    async with Client(create_server(pretending)) as client:
        assert (await call(client, "search_instruments", {"query": "BTC"}))["source"] == "simulated"
        assert (await call(client, "get_instrument", SYMBOL))["source"] == "simulated"
        assert (await call(client, "get_market_snapshot", SYMBOL))["source"] == "simulated"
        for kind in ("funding", "open_interest", "long_short_ratio", "mark_price"):
            table = await call(client, "get_derivatives_history", {**SYMBOL, **RANGE, "kind": kind})
            assert table["source"] == "simulated", kind
        health = await call(client, "health_check", {"exchange": True})
    assert health["feed"] == "simulated"
    assert "a simulated exchange answers at this address" in str(health["parts"])

    async with Client(create_server(pretending)) as client:
        assert (await call(client, "search_instruments", {"query": "BTC"}))["source"] == "stored"
        assert (await call(client, "get_instrument", SYMBOL))["source"] == "stored+simulated"
    _, exchange = await check_parts(pretending)
    assert exchange.found.startswith("a simulated exchange answers at this address; its clock")
