"""A laboratory on the simulated exchange, and the orders that tests place in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.core.run_settings import RunSettings
from engine.core.times import parse_range_ms
from engine.searches.searches import SearchOrder
from server.assembly import close_lab, open_lab
from server.mcp_app import serve_lab
from server.settings import Settings
from tools.lab import Lab

OpenLab = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture
def opened(tmp_path: Path) -> OpenLab:
    @asynccontextmanager
    async def open_one(name: str = "home", **settings: Any) -> AsyncIterator[Lab]:
        given = Settings(home=tmp_path / name, feed="simulated", _env_file=None, **settings)
        lab = await open_lab(given, serve_lab(given))
        try:
            yield lab
        finally:
            await close_lab(lab)

    return open_one


@pytest.fixture
def order() -> Callable[..., SearchOrder]:
    """Return a function that places an order, the defaults of the tests changed as told."""
    return _order


@pytest.fixture
def finished() -> Callable[[Lab, str], Awaitable[dict[str, Any]]]:
    """Return a function that waits for a job and returns its result."""
    return _finished


@pytest.fixture
def whole_table() -> Callable[[Lab, str], Awaitable[list[dict[str, Any]]]]:
    """Return a function that reads every item of a search, without the ids of runs, which only the first ones have."""
    return _whole_table


def _order(**changes: Any) -> SearchOrder:
    given = {
        "strategy": "ema_cross",
        "symbol": "BTCUSDT",
        "category": "spot",
        "interval": "60",
        "range_ms": parse_range_ms("2024-01-01", "2024-03-01"),
        "settings": RunSettings(),
        "objective": "sharpe",
        "min_trades": 3,
        "constraints": (),
        "study": None,
        "sealed": None,
    }
    return SearchOrder(**(given | changes))


async def _finished(lab: Lab, job_id: str) -> dict[str, Any]:
    job = await lab.jobs.wait(job_id, 240)
    assert job.state == "done", job.error
    return dict(await lab.jobs.result(job_id))


async def _whole_table(lab: Lab, job_id: str) -> list[dict[str, Any]]:
    job = await lab.jobs.view(job_id)
    result = dict(await lab.jobs.result(job_id))
    items = await lab.searches.page(job, result, 0, result["total"])
    return [{name: value for name, value in item.items() if name != "run_id"} for item in items]
