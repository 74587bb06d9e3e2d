import json

import numpy as np
import pytest

from engine.analysis.backtest_reading import backtest_brief
from engine.analysis.comparison import comparison_brief
from engine.analysis.risk import PathSimulation, kelly_of_days, kelly_of_trades, risk_brief
from engine.core.perpetual import MarginTier, liquidation_price
from engine.errors import BadRequest


def flags_of(brief):
    return {one["flag"] for one in brief["flags"]}


def test_kelly_of_trades_is_the_hand_worked_one():
    # 6 of 10 win 2, 4 lose 1: 0.6 - 0.4 / 2 = 0.4.
    pnl = np.array([2.0] * 6 + [-1.0] * 4)
    found = kelly_of_trades(pnl)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high


def test_kelly_of_days_is_mean_over_variance():
    returns = np.random.default_rng(4).normal(0.001, 0.02, 400)
    found = kelly_of_days(returns)
    assert found.value == pytest.approx(returns.mean() / returns.var(ddof=1))
    assert found.low < found.value < found.high


def test_a_path_is_worth_what_its_days_multiply_to():
    returns = np.full(30, 0.01)
    final, fall, lowest = PathSimulation(returns, days=50, paths=3).at(2.0)
    assert final == pytest.approx([1.02**50] * 3)
    assert fall == pytest.approx([0, 0, 0])
    assert lowest == pytest.approx([1, 1, 1])


def test_the_largest_size_keeps_the_tolerance_and_a_larger_one_does_not():
    paths = PathSimulation(np.random.default_rng(4).normal(0.0, 0.02, 300), paths=300)
    largest = paths.largest_multiple(0.2, 0.95)
    assert paths.drawdown_quantile(largest, 0.95) <= 0.2
    assert paths.drawdown_quantile(largest * 1.01, 0.95) > 0.2


def test_the_drawdown_of_a_path_is_found_by_walking_it():
    returns = np.random.default_rng(6).normal(0.0, 0.03, 90)
    paths = PathSimulation(returns, days=90, paths=20, seed=8)
    _, falls, lowest = paths.at(1.5)
    for row in range(20):
        equity = peak = least = 1.0
        worst = 0.0
        for value in paths._drawn[row]:
            equity *= 1.0 + 1.5 * value
            peak, least = max(peak, equity), min(least, equity)
            worst = max(worst, 1.0 - equity / peak)
        assert falls[row] == pytest.approx(worst)
        assert lowest[row] == pytest.approx(least)


def test_figures_equal_the_engines(computed):
    brief = risk_brief(computed.run, None, 0.2)
    metrics = computed.outcome.result["metrics"]
    assert brief["kelly"]["from_trades"]["value"] == pytest.approx(metrics["kelly"], rel=1e-5)
    assert brief["measured"]["max_drawdown"] == metrics["max_drawdown"]
    assert brief["request"]["capital"] == metrics["initial_capital"]
    trades = computed.run.trades
    assert brief["measured"]["worst_excursion_of_price"] == pytest.approx(
        float(np.max(trades.mae / (trades.quantity * trades.entry_price))), rel=1e-5
    )
    json.dumps(brief, allow_nan=False)


def test_money_scales_with_the_capital_and_fractions_do_not(computed):
    small, large = risk_brief(computed.run, 1_000, 0.2), risk_brief(computed.run, 2_000, 0.2)
    for one, two in zip(small["simulation"]["sizes"]["rows"], large["simulation"]["sizes"]["rows"], strict=True):
        assert two[1] == pytest.approx(2 * one[1], rel=1e-3)
        assert two[3:] == one[3:]


def test_liquidation_distances_follow_the_tier_of_the_position(computed):
    brief = risk_brief(computed.run, 100_000, 0.2)
    rows = {row[0]: row for row in brief["liquidation"]["rows"]}
    price = float(computed.run.trades.exit_price[-1])
    # 100,000 x 50 is in the second tier.
    tier = MarginTier(1e7, 0.01, 10_000.0, 50.0)
    quantity = 5e6 / price
    for side, column in ((1, 2), (-1, 3)):
        distance = abs(liquidation_price(side, quantity, price, 50.0, tier, inverse=False) / price - 1)
        assert rows[50.0][column] == pytest.approx(distance, rel=1e-3)
    # 100,000 x 100 would be allowed by no tier.
    assert 100.0 not in rows


def test_a_run_that_loses_gets_no_size(make_run):
    losing = make_run(
        {"name": "churn", "long_entry": "hour % 2 == 0", "long_exit": "hour % 2 == 1"}, slippage_percent=0.2
    )
    brief = risk_brief(losing.run, None, 0.2)
    assert "no_edge" in flags_of(brief)
    assert brief["kelly"]["continuous"]["value"] < 0


def test_a_run_without_trades_gets_no_size(silent):
    brief = risk_brief(silent.run, None, 0.2)
    assert flags_of(brief) == {"no_trades"}
    assert brief["simulation"]["why"] == "the daily returns do not vary"
    json.dumps(brief, allow_nan=False)


def test_a_run_of_one_trade_has_no_kelly_interval(single):
    brief = risk_brief(single.run, None, 0.2)
    assert brief["kelly"]["from_trades"]["value"] is None
    assert "few_trades" in flags_of(brief)
    json.dumps(brief, allow_nan=False)


def test_a_ruined_run_is_not_simulated_further(ruined):
    brief = risk_brief(ruined.run, None, 0.2)
    assert "ruined" in flags_of(brief)
    assert brief["simulation"]["why"] == "the equity fell to zero or below"
    json.dumps(brief, allow_nan=False)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1])
def test_a_tolerance_that_is_no_fraction_is_refused(computed, tolerance):
    with pytest.raises(BadRequest, match="tolerance"):
        risk_brief(computed.run, None, tolerance)


@pytest.mark.parametrize(
    ("interval", "category"), [("60", "inverse"), ("60", "spot"), ("D", "linear"), ("W", "linear"), ("1", "linear")]
)
def test_every_kind_of_market_and_interval_can_be_read(make_run, make_candles, interval, category):
    candles = make_candles(250 if interval == "W" else 900, interval=interval, volatility=0.01)
    document = {
        "name": "swing",
        "long_entry": "crossover(close, sma(close, 5))",
        "short_entry": "crossunder(close, sma(close, 5))",
    }
    run = make_run(document, candles, interval=interval, category=category).run
    read = backtest_brief(run, candles, {})
    assert sum(row[2] for row in read["clusters"]["rows"] if row[0] == "side") == len(run.trades) > 10
    advised = risk_brief(run, None, 0.2)
    assert (advised["liquidation"].get("why") == "spot is not liquidated") == (category == "spot")
    json.dumps([read, advised, comparison_brief([run, run])], allow_nan=False)
