"""Trades of other engines on the same bars, compared one by one (README of the shared data)."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import BoolColumn, Signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.simulator import simulate
from engine.core.trades import EXIT_REASONS

Simulate = Callable[[Candles, Signals, ExecutionSettings], Simulation]
Masks = tuple[BoolColumn, BoolColumn]

SETTINGS = ExecutionSettings(
    capital=1_000_000.0, taker_fee_fraction=0.00055, target_fee="taker", size_mode="quantity", size_value=1.0
)


def read_bars(path: Path) -> Candles:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    ts = np.array([int(row["ts"]) for row in rows])
    values = (np.array([float(row[name]) for row in rows]) for name in ("open", "high", "low", "close", "volume"))
    return Candles(ts, *values, np.full(len(ts), math.nan))


def read_trades(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ema(values: list[float], period: int) -> list[float]:
    """Return the average seeded with the first value, as the oracle jobs define it."""
    result, alpha = [values[0]], 2 / (period + 1)
    for value in values[1:]:
        result.append(result[-1] + alpha * (value - result[-1]))
    return result


def ema_cross_masks(candles: Candles) -> Masks:
    fast, slow = ema(candles.close.tolist(), 20), ema(candles.close.tolist(), 50)
    up, down = np.zeros(len(candles), bool), np.zeros(len(candles), bool)
    for bar in range(50, len(candles)):
        up[bar] = fast[bar] > slow[bar] and fast[bar - 1] <= slow[bar - 1]
        down[bar] = fast[bar] < slow[bar] and fast[bar - 1] >= slow[bar - 1]
    return up, down


def rsi_masks(candles: Candles) -> Masks:
    changes = np.diff(candles.close).tolist()
    gain = sum(max(change, 0.0) for change in changes[:14]) / 14
    loss = sum(max(-change, 0.0) for change in changes[:14]) / 14
    rsi = [math.nan] * 14 + [100 - 100 / (1 + gain / loss)]
    for change in changes[14:]:
        gain, loss = (gain * 13 + max(change, 0.0)) / 14, (loss * 13 + max(-change, 0.0)) / 14
        rsi.append(100 - 100 / (1 + gain / loss))
    up, down = np.zeros(len(candles), bool), np.zeros(len(candles), bool)
    for bar in range(15, len(candles)):
        up[bar] = rsi[bar] > 30 >= rsi[bar - 1]
        down[bar] = rsi[bar] < 70 <= rsi[bar - 1]
    return up, down


def make_signals(masks: Masks, stop: float, target: float, trail: float) -> Signals:
    up, down = masks
    return Signals(up, down, down, up, stop, None, target, None, trail, None, math.nan, math.nan, 0, 50)


JOBS: dict[str, tuple[str, float, float, float]] = {
    "ema_cross": ("btcusd_1h", math.nan, math.nan, math.nan),
    "rsi_reversal": ("btcusd_1h", math.nan, math.nan, math.nan),
    "ema_cross_sltp": ("btcusd_1h", 0.02, 0.04, math.nan),
    "ema_cross_trail": ("btcusd_1h", 0.02, 0.04, 0.015),
    "wild_sltp": ("wild", 0.012, 0.012, math.nan),
    "wild_trail": ("wild", 0.012, 0.03, 0.009),
}


def job_inputs(job: str, oracle: Path) -> tuple[Candles, Signals]:
    bars, *levels = JOBS[job]
    candles = read_bars(oracle / f"bars_{bars}.csv.gz")
    if bars == "wild":
        # The job decides a side every 7 bars; this list holds all 286 decisions because every position had ended.
        masks = np.zeros(len(candles), bool), np.zeros(len(candles), bool)
        for row in read_trades(oracle / "trades_wild_trail_ref.csv"):
            masks[row["side"] == "-1"][int(row["entry_bar"]) - 1] = True
    else:
        masks = rsi_masks(candles) if job == "rsi_reversal" else ema_cross_masks(candles)
    return candles, make_signals(masks, *levels)


REASONS = {"signal": "signal", "stop": "stop", "stop-gap": "stop", "target": "take_profit", "end": "end_of_data"}


@pytest.mark.parametrize("run", [simulate, simulate_plainly])
@pytest.mark.parametrize("job", JOBS)
def test_every_trade_equals_the_oracle(job: str, run: Simulate, shared_folder: Path) -> None:
    oracle = shared_folder / "data" / "oracle"
    candles, signals = job_inputs(job, oracle)
    expected = read_trades(oracle / f"trades_{job}_ref.csv")
    simulation = run(candles, signals, SETTINGS)
    trades = simulation.trades
    assert trades.entry_bar.tolist() == [int(row["entry_bar"]) for row in expected]
    assert trades.exit_bar.tolist() == [int(row["exit_bar"]) for row in expected]
    assert trades.side.tolist() == [int(row["side"]) for row in expected]
    for column, name in (
        (trades.entry_price, "entry_price"),
        (trades.exit_price, "exit_price"),
        (trades.pnl, "pnl_net"),
        (trades.fees, "fees"),
    ):
        np.testing.assert_allclose(column, [float(row[name]) for row in expected], rtol=0, atol=1e-6)
    for reason, row in zip(trades.exit_reason, expected, strict=True):
        found = EXIT_REASONS[reason]
        assert found.replace("stop_loss", "stop").replace("trailing_stop", "stop") == REASONS[row["reason"]]
    assert check_accounting(simulation, candles, SETTINGS) == ()


@pytest.mark.parametrize("job", ["wild_sltp", "wild_trail"])
def test_bars_that_hold_stop_and_target_are_counted_and_the_optimist_earns_more(job: str, shared_folder: Path) -> None:
    candles, signals = job_inputs(job, shared_folder / "data" / "oracle")
    pessimist = simulate(candles, signals, SETTINGS)
    optimist = simulate(
        candles,
        signals,
        ExecutionSettings(
            capital=1_000_000.0, target_fee="taker", size_mode="quantity", size_value=1.0, intrabar="optimistic"
        ),
    )
    assert pessimist.ambiguous_bars > 0
    assert optimist.equity[-1] > pessimist.equity[-1]
