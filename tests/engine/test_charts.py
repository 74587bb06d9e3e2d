"""Charts: size, weight, honest merging, and that what is asked for is in the picture."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engine.charts import Caption, draw_monthly_returns, draw_run, draw_surface, merge_candles, spread_rows
from engine.core import catalogue
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.signals import compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy
from engine.errors import BadRequest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
CAPTION = Caption("EMA cross · BTCUSDT linear 15", "Bybit candles, 2024-01-01 to 2024-02-01 UTC")


def make_candles(rows: int, seed: int = 8) -> Candles:
    random = np.random.default_rng(seed)
    close = 42_000 * np.exp(np.cumsum(random.normal(0, 0.003, rows)))
    opened = np.concatenate((close[:1], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.002, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.002, rows))
    ts = np.arange(rows, dtype=np.int64) * 900_000 + 1_704_067_200_000
    return Candles(ts, opened, high, low, close, np.ones(rows), np.ones(rows))


def run(candles: Candles) -> Simulation:
    signals = compute_signals(compile_strategy(catalogue.load("ema_cross")), candles, "15")
    return simulate(candles, signals, ExecutionSettings(capital=10_000.0))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int64)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("rows", [1, 120, 3_000, 30_000])
def test_a_run_is_drawn_at_its_size_and_weight(rows: int) -> None:
    candles = make_candles(rows)
    found = run(candles)
    png = draw_run(candles, found.trades, found.equity, CAPTION)
    assert size_of(png) == (1_200, 900)
    assert len(png) < 150_000


def test_simulated_prices_are_marked_across_the_picture() -> None:
    candles = make_candles(300)
    found = run(candles)
    plain = draw_run(candles, found.trades, found.equity, CAPTION)
    marked = draw_run(candles, found.trades, found.equity, replace(CAPTION, simulated=True))
    changed = (np.abs(pixels(plain) - pixels(marked)) > 6).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 10_000
    assert np.ptp(rows) > 300
    assert np.ptp(columns) > 600


def test_merged_candles_keep_every_extreme_and_the_ends() -> None:
    candles = make_candles(1_001)
    merged, each = merge_candles(candles, 240)
    assert each == 5
    assert len(merged) == 201
    assert merged.high.max() == candles.high.max()
    assert merged.low.min() == candles.low.min()
    assert (merged.open[0], merged.close[-1]) == (candles.open[0], candles.close[-1])
    np.testing.assert_array_equal(merged.high[:200], candles.high[:1_000].reshape(-1, 5).max(axis=1))
    assert merge_candles(candles, 2_000) == (candles, 1)


def test_a_thinned_line_keeps_its_lowest_and_highest_points() -> None:
    values = make_candles(50_000).close
    rows = spread_rows(values, 2_000)
    assert len(rows) <= 2_002
    assert values[rows].max() == values.max()
    assert values[rows].min() == values.min()
    assert (rows[0], rows[-1]) == (0, len(values) - 1)


def test_monthly_returns_and_surfaces_are_drawn() -> None:
    months = [(year, month) for year in (2022, 2023, 2024) for month in range(1, 13)][3:-2]
    returns = np.random.default_rng(1).normal(1, 5, len(months))
    table = draw_monthly_returns(months, returns.tolist(), CAPTION)
    values = np.random.default_rng(2).normal(0, 1, (8, 12))
    values[0, 0] = np.nan
    surface = draw_surface(range(5, 65, 5), range(20, 100, 10), values, CAPTION, names=("fast", "slow", "Sharpe"))
    for png in (table, surface):
        assert size_of(png) == (1_200, 900)
        assert len(png) < 150_000


def test_what_does_not_fit_together_is_refused() -> None:
    candles = make_candles(10)
    with pytest.raises(BadRequest, match="9 equity values"):
        draw_run(candles, run(candles).trades, np.ones(9), CAPTION)
    with pytest.raises(BadRequest, match="0 returns"):
        draw_monthly_returns([(2024, 1)], [], CAPTION)
    with pytest.raises(BadRequest, match="a surface"):
        draw_surface([1.0], [1.0], np.full((1, 1), np.nan), CAPTION, names=("a", "b", "c"))


def test_importing_charts_does_not_import_matplotlib() -> None:
    program = "import sys, engine.charts; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0
