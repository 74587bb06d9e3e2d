"""The proof of causality over everything the language has, and that it finds planted leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.core import catalogue, causality
from engine.core.candles import Candles
from engine.core.causality import delay, first_difference, prove_causality, with_future
from engine.core.execution import ExecutionSettings
from engine.core.expressions import evaluate
from engine.core.indicators import REGISTRY
from engine.core.indicators.registry import Indicator
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.errors import BadRequest, DataMissing


def make_candles(rows: int = 1_500, seed: int = 3) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.006, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.004, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.004, rows))
    ts = np.arange(rows, dtype=np.int64) * 900_000 + 1_704_067_200_000
    return Candles(ts, opened, high, low, close, random.uniform(1, 9, rows), random.uniform(1, 9, rows))


CANDLES = make_candles()


def run(candles: Candles, signals: Signals) -> Simulation:
    return simulate(candles, signals, ExecutionSettings(capital=10_000.0, slippage_fraction=0.0001))


@pytest.mark.parametrize("name", catalogue.names())
def test_every_shipped_strategy_is_causal(name: str) -> None:
    report = prove_causality(compile_strategy(catalogue.load(name)), CANDLES, "15", cuts=5, seed=1, execution=run)
    assert report.leaks == ()
    assert report.causal
    assert len(report.cuts) == 5
    assert report.comparisons >= 5 * (3 * 4 + 16)
    assert report.lag is not None


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_no_function_sees_a_poisoned_future(name: str) -> None:
    known = REGISTRY[name]
    candles = CANDLES.take(slice(0, 700))
    whole = evaluate(known.example(), candles, "15")
    random = np.random.default_rng(9)
    for cut in (250, 480, 577):
        for future in causality.FUTURES:
            part = evaluate(known.example(), with_future(candles, cut, future, random), "15")
            assert first_difference(whole[:cut], part[:cut]) is None, (future, cut)


def test_higher_timeframes_are_causal() -> None:
    document = parse_strategy(
        {
            "name": "frames",
            "long_entry": 'close > tf("60", ema(close, 5)) and tf("240", rsi(close, 3)) > 40',
            "long_exit": 'close < tf("60", lowest(low, 4))',
            "stop_loss": {"distance": 'tf("60", atr(5))'},
        }
    )
    report = prove_causality(compile_strategy(document), CANDLES, "15", cuts=20, execution=run)
    assert report.causal
    assert report.compared_trades > 20


def peek(source: np.ndarray) -> np.ndarray:
    return np.append(source[1:], np.nan)


def whole_mean(source: np.ndarray) -> np.ndarray:
    return np.full(len(source), np.nanmean(source))


@pytest.mark.parametrize("compute", [peek, whole_mean])
def test_a_planted_look_ahead_is_found(monkeypatch: pytest.MonkeyPatch, compute) -> None:
    source = REGISTRY["sma"].parameters[0]
    leaky = Indicator("peek", "averages", (source,), "Leaks.", "a test", "next bar", compute=compute)
    monkeypatch.setitem(REGISTRY, "peek", leaky)
    document = parse_strategy({"name": "leak", "long_entry": "peek(close) > close", "max_bars": 3})
    report = prove_causality(compile_strategy(document), CANDLES, "15", cuts=30, seed=2, execution=run)
    assert not report.causal
    assert {leak.what for leak in report.leaks} >= {"long_entry"}
    assert all(leak.row < leak.cut for leak in report.leaks if not leak.what.startswith("trades."))


def test_a_leak_in_the_simulation_alone_is_found() -> None:
    def see_the_end(candles: Candles, signals: Signals) -> Simulation:
        found = run(candles, signals)
        trades = replace(found.trades, pnl=found.trades.pnl + candles.close[-1])
        return replace(found, trades=trades)

    strategy = compile_strategy(catalogue.load("ema_cross"))
    report = prove_causality(strategy, CANDLES, "15", cuts=3, execution=see_the_end)
    assert {leak.what for leak in report.leaks} == {"trades.pnl"}


def test_extra_series_are_poisoned_too() -> None:
    document = parse_strategy({"name": "funding", "long_entry": "funding_rate > 0", "long_exit": "funding_rate < 0"})
    rates = np.random.default_rng(4).normal(0, 1e-4, len(CANDLES))
    report = prove_causality(compile_strategy(document), CANDLES, "15", extras={"funding_rate": rates})
    assert report.causal
    assert report.lag is None
    assert report.compared_trades == 0


def test_delayed_signals_are_the_same_one_bar_later() -> None:
    signals = compute_signals(compile_strategy(catalogue.load("atr_channel")), CANDLES, "15")
    late = delay(signals)
    assert not late.long_entry[0]
    np.testing.assert_array_equal(late.long_entry[1:], signals.long_entry[:-1])
    assert late.warmup_bars == signals.warmup_bars + 1


def test_too_few_bars_and_too_many_cuts_are_refused() -> None:
    strategy = compile_strategy(catalogue.load("ema_cross"))
    with pytest.raises(DataMissing, match="nothing to cut"):
        prove_causality(strategy, CANDLES.take(slice(0, 40)), "15")
    with pytest.raises(BadRequest, match="cuts is 0"):
        prove_causality(strategy, CANDLES, "15", cuts=0)
