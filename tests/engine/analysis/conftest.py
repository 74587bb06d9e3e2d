"""Runs for the analyses: computed by the engine on made-up candles, or written by hand where a figure must be known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from engine.analysis.stored_runs import StoredRun, stored_run
from engine.backtests.computation import Outcome, canonical_json, compute
from engine.core.candles import Candles
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.timeframes import next_open, step_ms
from engine.core.validation.noise import random_walk_candles
from engine.history import LoadedCandles
from engine.run_inputs import RunInputs
from engine.store import RunRecord

CROSS = {
    "name": "cross",
    "long_entry": "crossover(ema(close, 10), ema(close, 30))",
    "short_entry": "crossover(ema(close, 30), ema(close, 10))",
    "stop_loss": {"percent": 2},
    "take_profit": {"percent": 3},
}
TIERS = [[2e6, 0.005, 0.0, 100.0], [1e7, 0.01, 10_000.0, 50.0]]
START_MS = 1_704_067_200_000


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A run as it is stored, and everything the engine knew when it made it."""

    run: StoredRun
    outcome: Outcome
    candles: Candles


def walk(bars: int, *, seed: int = 3, interval: str = "60", volatility: float = 0.006) -> Candles:
    ts = START_MS + step_ms(interval) * np.arange(bars, dtype=np.int64)
    return random_walk_candles(ts, np.random.default_rng(seed), 100.0, volatility)


def compute_run(
    document: dict[str, Any] | None = None,
    candles: Candles | None = None,
    *,
    source: str = "bybit",
    interval: str = "60",
    category: str = "linear",
    **settings: Any,
) -> Computed:
    candles = walk(3_000) if candles is None else candles
    compiled = compile_strategy(parse_strategy(document or CROSS))
    series = Series("bybit", category, "TESTUSDT", "trade", interval)
    span = (int(candles.ts[0]), next_open(interval, int(candles.ts[-1])))
    outcome = compute(
        compiled,
        "inline",
        LoadedCandles(candles, source, (), 0),
        series,
        span,
        RunSettings.model_validate(settings),
        None,
        RunInputs(described={"tiers": TIERS, "minutes_sha256": None}, unmodelled={"funding_paid": "not modelled here"}),
    )
    record = RunRecord(
        outcome.run_id,
        0,
        compiled.name,
        compiled.name,
        category,
        "TESTUSDT",
        interval,
        source,
        canonical_json(outcome.manifest),
        canonical_json(outcome.result),
    )
    return Computed(stored_run(record, outcome.trades, outcome.equity), outcome, candles)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Computed]:
    """Return a maker of runs: (document, candles, **settings)."""
    return compute_run


@pytest.fixture(scope="session")
def make_candles() -> Callable[..., Candles]:
    """Return a maker of random walks: (bars, seed=..., interval=...)."""
    return walk


@pytest.fixture(scope="session")
def computed() -> Computed:
    """Return a run with stops, targets, reversals and costs."""
    return compute_run()


@pytest.fixture(scope="session")
def silent() -> Computed:
    """Return a run that never trades."""
    return compute_run({"name": "silent", "long_entry": "close > 1000000000", "max_bars": 5})


@pytest.fixture(scope="session")
def single() -> Computed:
    """Return a run with one trade, held to the end."""
    return compute_run({"name": "single", "long_entry": "close > 0"})


@pytest.fixture(scope="session")
def ruined() -> Computed:
    """Return a run that loses all of its capital: short at high leverage, and the price doubles."""
    candles = walk(600)
    rise = np.exp(np.linspace(0.0, 1.2, 600))
    rising = Candles(
        candles.ts,
        100.0 * rise * 0.999,
        100.0 * rise * 1.01,
        100.0 * rise * 0.99,
        100.0 * rise,
        candles.volume,
        candles.turnover,
    )
    return compute_run({"name": "ruined", "short_entry": "close > 0"}, rising, leverage=3)
