"""Halves of a long computation side by side: the same columns, the same figures, the same errors."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engine.core import simulator
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.expressions import evaluation
from engine.core.metrics.returns import percentile
from engine.core.side_thread import side_by_side
from engine.core.signals import Signals, compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.errors import BadRequest

STRATEGY = parse_strategy(
    {
        "name": "halves",
        "long_entry": "crossover(ema(close, 5), ema(close, 20)) and rsi(close, 14) > 40",
        "long_exit": "crossunder(ema(close, 5), ema(close, 20)) or close > bb_upper(close, 20, 2)",
        "short_entry": "tf('15', crossunder(sma(close, 3), sma(close, 9))) and close < bb_lower(close, 20, 2)",
        "short_exit": "crossover(ema(close, 5), ema(close, 20))",
        "stop_loss": {"distance": "2 * atr(14)"},
    }
)
SETTINGS = ExecutionSettings(capital=10_000.0)


def candles_of(bars: int) -> Candles:
    rng = np.random.default_rng(bars)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, bars)))
    open_ = np.concatenate(([100.0], close[:-1]))
    volume = np.ones(bars)
    return Candles(np.arange(bars) * 60_000, open_, np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999,
                   close, volume, volume)  # fmt: skip


@pytest.fixture(params=[0, 1 << 60])
def shared_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let every run be shared between two threads, or none."""
    for module in (simulator, evaluation):
        monkeypatch.setattr(module, "WORTH_SHARING_BARS", request.param)
    return int(request.param)


def test_both_halves_run_and_the_first_error_is_told() -> None:
    assert side_by_side(lambda: 1, lambda: "a") == (1, "a")
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1 // 0, lambda: 1)


def test_nobody_waits_for_a_thread_that_is_busy() -> None:
    begun, ended = threading.Event(), threading.Event()

    def occupy() -> bool:
        begun.set()
        return ended.wait(60)

    def beside() -> tuple[int, int]:
        assert begun.wait(60)
        return side_by_side(lambda: 1, lambda: 2)

    def release() -> tuple[int, int]:
        try:
            return beside()
        finally:
            ended.set()

    assert side_by_side(release, occupy) == ((1, 2), True)


def test_columns_and_runs_are_those_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    candles = candles_of(6_000)
    compiled = compile_strategy(STRATEGY, {})
    found: list[tuple[Signals, bytes]] = []
    for bars in (0, 1 << 60):
        for module in (simulator, evaluation):
            monkeypatch.setattr(module, "WORTH_SHARING_BARS", bars)
        signals = compute_signals(compiled, candles, "1")
        simulation = simulate(candles, signals, SETTINGS)
        assert len(simulation.trades) > 10
        found.append((signals, simulation.equity.tobytes()))
    (one, equity), (other, expected) = found
    assert equity == expected
    for name in ("long_entry", "long_exit", "short_entry", "short_exit", "stop_distance"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


@pytest.mark.usefixtures("shared_from")
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
def test_prices_that_are_none_are_refused_on_either_path(name: str, bad: float) -> None:
    candles = candles_of(500)
    signals = compute_signals(compile_strategy(STRATEGY, {}), candles, "1")
    column = getattr(candles, name).copy()
    column[450] = bad
    with pytest.raises(BadRequest, match=f"the {name} prices"):
        simulate(replace(candles, **{name: column}), signals, SETTINGS)


def test_percentiles_are_numpys_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    for size in (*range(2, 60), 364, 365, 700):
        for values in (rng.normal(0, 0.01, size), np.round(rng.normal(0, 0.01, size), 2) + 0.0):
            for percent in (5, 95):
                assert percentile(values, percent) == float(np.percentile(values, percent))
