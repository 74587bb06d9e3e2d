"""A laboratory with two imported markets whose truth is known: one rises every afternoon, one is noise."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp.client import Client

from server.mcp_app import create_server
from server.settings import Settings

START_MS, HOUR_MS = 1_609_459_200_000, 3_600_000  # 2021-01-01
BARS = 2 * 365 * 24
HOURLY_VOLATILITY = 0.6 / np.sqrt(8_760)


def write_market(path: Path, seed: int, afternoon_drift: float) -> None:
    """Write hourly candles with normal returns, a drift of so many deviations from 14 to 20 o'clock, and bar numbers as volume."""
    random = np.random.default_rng(seed)
    hours = np.arange(BARS) % 24
    returns = HOURLY_VOLATILITY * (random.standard_normal(BARS) + afternoon_drift * ((hours >= 14) & (hours < 20)))
    # Holding the market earns nothing in either.
    close = 200 * np.exp(np.cumsum(returns - returns.mean()))
    open_ = np.concatenate(([200.0], close[:-1]))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    columns = zip(*(column.tolist() for column in (open_, high, low, close)), strict=True)
    rows = [f"{START_MS + bar * HOUR_MS},{','.join(map(repr, prices))},{bar}" for bar, prices in enumerate(columns)]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]), encoding="utf-8")


@dataclasses.dataclass
class Lab:
    """A connected client and its folder."""

    client: Client
    home: Path

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a call that must work."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.structured_content
        assert result.structured_content is not None
        return result.structured_content

    async def refused(self, tool: str, arguments: dict[str, Any], code: str) -> dict[str, Any]:
        """Return the error of a call that must fail in this way."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        assert result.structured_content is not None
        assert result.structured_content["code"] == code, result.structured_content
        return result.structured_content

    async def finished(self, job_id: str) -> dict[str, Any]:
        """Wait for a job and return the first page of its result."""
        for _ in range(20):
            state = await self.call("wait_for_job", {"job_id": job_id, "wait_seconds": 30})
            if state["state"] in ("done", "failed", "cancelled"):
                break
        assert state["state"] == "done", state
        return await self.call("get_job_result", {"job_id": job_id, "limit": 10})


OpenLab = Callable[..., AbstractAsyncContextManager[Lab]]


@asynccontextmanager
async def opened(home: Path) -> AsyncGenerator[Lab]:
    """Open a lab over a folder."""
    settings = Settings.model_validate({"home": home, "feed": "simulated"})
    async with Client(create_server(settings, most_characters=None)) as client:
        yield Lab(client, home)


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose database has both markets and nothing else."""
    home = tmp_path_factory.mktemp("filled")

    async def fill() -> None:
        async with opened(home) as lab:
            for symbol, seed, drift in (("EDGEUSDT", 5, 0.16), ("WALKUSDT", 6, 0.0)):
                path = home / f"{symbol}.csv"
                write_market(path, seed, drift)
                await lab.call("import_candles", {"path": str(path), "symbol": symbol, "interval": "60"})

    asyncio.run(fill())
    return home


@pytest.fixture
def open_lab(tmp_path: Path, filled_home: Path) -> OpenLab:
    """Return a way to open the lab; opening it again opens the same one again."""

    @asynccontextmanager
    async def open_one() -> AsyncIterator[Lab]:
        home = tmp_path / "home"
        if not home.exists():
            shutil.copytree(filled_home, home)
        async with opened(home) as lab:
            yield lab

    return open_one


@pytest.fixture
def open_empty_lab(tmp_path: Path) -> OpenLab:
    """Return a way to open a lab that has no market yet; opening it again opens the same one again."""
    return lambda: opened(tmp_path / "empty")


@pytest.fixture
def market_writer() -> Callable[[Path, int, float], None]:
    """Return what writes an artificial market."""
    return write_market
