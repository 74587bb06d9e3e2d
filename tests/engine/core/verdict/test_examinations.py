"""The parts of an examination, against hand-worked values and plain rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.validation.noise import random_walk_candles
from engine.core.verdict.combinations import follow_combinations
from engine.core.verdict.examination import Bench
from engine.core.verdict.holdout import holdout_band
from engine.core.verdict.stress import stress, without_positions
from engine.core.verdict.warmup import history_sensitivity

CROSS = {
    "name": "cross",
    "long_entry": "crossover(close, sma(close, 20))",
    "long_exit": "crossunder(close, sma(close, 20))",
    "short_entry": "crossunder(close, sma(close, 20))",
    "short_exit": "crossover(close, sma(close, 20))",
    "stop_loss": {"percent": 2},
}
SETTINGS = ExecutionSettings(capital=10_000.0, size_mode="quantity", size_value=0.1)


@pytest.fixture(scope="module")
def candles() -> Candles:
    ts = 1_704_067_200_000 + 3_600_000 * np.arange(3_000)
    return random_walk_candles(ts, np.random.default_rng(11), steps_per_bar=4)


def test_the_band_of_a_holdout_adds_the_errors_of_both_parts():
    # Returns of +2 % and 0 in turn: mean 0.01, skew 0, kurtosis 1, so both errors are 1 / sqrt(n - 1).
    returns = np.tile([0.02, 0.0], 50)
    ratio = 0.01 / returns.std(ddof=1)
    low, high = holdout_band(returns, 30)
    reach = 1.959964 * math.sqrt(1 / 99 + 1 / 29)
    assert (low, high) == pytest.approx((math.sqrt(365) * (ratio - reach), math.sqrt(365) * (ratio + reach)), rel=1e-6)


@pytest.mark.parametrize(("returns", "days"), [(np.zeros(50), 30), (np.array([0.1]), 30), (np.tile([0.02, 0.0], 9), 1)])
def test_there_is_no_band_where_nothing_varies_or_nearly_nothing_was_seen(returns: np.ndarray, days: int):
    assert all(math.isnan(end) for end in holdout_band(returns, days))


def test_trades_that_are_missed_are_gone_and_no_other_trade_is_moved(candles: Candles):
    signals = compute_signals(compile_strategy(parse_strategy(CROSS), {}), candles, "60")
    whole = simulate(candles, signals, SETTINGS)
    dropped = np.random.default_rng(2).choice(np.unique(whole.trades.position_id), 9, replace=False)
    rest = simulate(candles, without_positions(signals, whole, dropped), SETTINGS)
    expected = ~np.isin(whole.trades.position_id, dropped)
    assert len(whole.trades.pnl) - len(rest.trades.pnl) == 9
    # The exit signals still end every other trade; what ended by a reversal ends at the same open.
    np.testing.assert_array_equal(rest.trades.entry_bar, whole.trades.entry_bar[expected])
    np.testing.assert_array_equal(rest.trades.exit_bar, whole.trades.exit_bar[expected])
    np.testing.assert_allclose(rest.trades.pnl, whole.trades.pnl[expected])


def test_a_stress_table_is_the_same_each_time_and_stops_when_asked(candles: Candles):
    bench = Bench(candles, "60", SETTINGS)
    compiled = compile_strategy(parse_strategy(CROSS), {})
    rows = stress(bench, compiled, draws=3, seed=4)
    assert [(row.scenario, row.net_profit) for row in rows] == [
        (row.scenario, row.net_profit) for row in stress(bench, compiled, draws=3, seed=4)
    ]
    assert [row.draws for row in rows] == [1, 1, 1, 1, 1, 3, 3]
    asked = iter([False, False, True])
    assert len(stress(bench, compiled, draws=3, should_stop=lambda: next(asked))) == 2


def test_a_plain_average_needs_no_more_than_its_warm_up_and_a_recursive_one_does(candles: Candles):
    plain = history_sensitivity(compile_strategy(parse_strategy(CROSS), {}), candles, "60")
    assert [row.history_bars for row in plain] == [plain[0].history_bars * factor for factor in (1, 2, 4, 8)]
    assert all(row.changed_decisions == 0 for row in plain)
    recursive = {"name": "atr", "long_entry": "close > open", "stop_loss": {"distance": "atr(100)"}}
    forgetting = history_sensitivity(compile_strategy(parse_strategy(recursive), {}), candles, "60")
    changes = [row.largest_change for row in forgetting]
    assert changes[0] > 1e-3
    assert 0 < changes[-1] < changes[0] / 10
    short = candles.take(slice(0, 150))
    assert history_sensitivity(compile_strategy(parse_strategy(CROSS), {}), short, "60") == []


def test_paths_of_combinations_follow_what_was_best_elsewhere():
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.01, (30, 360))
    luck = follow_combinations(noise)
    assert (luck.splits, luck.paths) == (15, 5)
    noise[7] += 0.004
    skill = follow_combinations(noise)
    own = math.sqrt(365) * noise[7].mean() / noise[7].std(ddof=1)
    # A trial that is best in every training part is every path.
    assert (skill.low, skill.median, skill.high) == pytest.approx((own, own, own))
    assert luck.median < own / 2
    assert math.isnan(follow_combinations(noise[:, :40]).median)
