"""Markets that exist only as a file: rules that fit their prices, and no generated bars behind the imported ones."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from engine.core.price_steps import decimal_step
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.times import parse_range_ms
from engine.errors import DataMissing
from server.assembly import close_lab, open_lab
from server.mcp_app import serve_lab
from server.settings import Settings
from tools.lab import Lab

TINY = Series("simulated", "linear", "TINYUSDT", "trade", "60")
START_MS, HOUR_MS = 1_704_067_200_000, 3_600_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    given = Settings(home=tmp_path / "home", feed="simulated", _env_file=None)
    opened = await open_lab(given, serve_lab(given))
    try:
        yield opened
    finally:
        await close_lab(opened)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    close = 1e-8 * np.exp(np.cumsum(random.normal(0, 0.01, 24 * 40)))
    path = tmp_path / "tiny.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time", "open", "high", "low", "close", "volume"])
        for hour in range(1, len(close)):
            opened, closed = round(close[hour - 1], 12), round(close[hour], 12)
            high, low = max(opened, closed), min(opened, closed)
            writer.writerow([START_MS + hour * HOUR_MS, opened, high, low, closed, 1_000])
    return path


async def test_tick_and_lot_of_tiny_imported_prices_come_from_the_prices(lab: Lab, file: Path):
    await lab.history.import_file(TINY, str(file))
    start_ms, end_ms = parse_range_ms("2024-01-02", "2024-02-09")
    run = await lab.backtests.run(
        strategy="ema_cross", params={"fast": 5, "slow": 20}, symbol="TINYUSDT", category="linear", interval="60",
        start_ms=start_ms, end_ms=end_ms, settings=RunSettings(funding=False),
    )  # fmt: skip
    assert run["metrics"]["trades"] > 5
    assert any("tick 1e-12 and lot 1e+0" in warning for warning in run["warnings"]), run["warnings"]
    assert (await lab.backtests.reproduce(run["run_id"]))["identical"]


async def test_imported_bars_of_an_unlisted_name_are_not_continued_by_generated_ones(lab: Lab, file: Path):
    await lab.history.import_file(TINY, str(file))
    with pytest.raises(DataMissing, match="imported from 2024-01-01T01:00:00Z to 2024-02-10"):
        await lab.history.load(TINY, *parse_range_ms("2024-01-02", "2024-03-01"))
    assert {span.source for span in await lab.store.coverage(TINY)} == {"imported"}


@pytest.mark.parametrize(
    ("values", "step"),
    [([1.0, 250.0], 1.0), ([0.1, 42_000.5], 0.1), ([2922.56, 2922.5], 0.01), ([1.2e-8], 1e-9)],
)
def test_the_step_of_prices_is_the_last_decimal_they_have(values: list[float], step: float) -> None:
    assert decimal_step(np.array([*values, np.nan])) == step
