"""Metrics by hand-worked values, by formulas written a second time, and in the cases where there is no figure."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.metrics import METRICS, MetricSet, compute_metrics, daily_marks
from engine.core.signals import Signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.timeframes import DAY_MS, Interval
from engine.core.trades import Trades

HOUR_MS = 3_600_000
SETTINGS = ExecutionSettings(capital=100.0)


def make_trades(pnl: list[float], risk: list[float] | None = None, side: int = 1) -> Trades:
    count = len(pnl)
    rows = np.array([[side, 2 * row, 2 * row + 1, 2 * row + 2, 0] for row in range(count)], np.int64).reshape(-1, 5)
    records = np.zeros((count, 9))
    records[:, 3], records[:, 8] = pnl, risk if risk is not None else math.nan
    return Trades.from_tables(rows, records)


def measure(
    equity: list[float], pnl: list[float] | None = None, interval: Interval = "D", **parts: object
) -> MetricSet:
    """Measure an equity curve with one bar a day."""
    bars = len(equity)
    prices = np.full(bars, 50.0)
    candles = Candles(np.arange(bars, dtype=np.int64) * DAY_MS, prices, prices, prices, prices, prices, prices)
    simulation = Simulation(
        trades=make_trades(pnl or []), equity=np.array(equity, float), position=np.zeros(bars, np.int8), exposed_bars=0,
        ambiguous_bars=0, skipped_entries={}, capped_entries=0, ruined_bar=None, warmup_bars=0,
    )  # fmt: skip
    return compute_metrics(replace(simulation, **parts), candles, interval, SETTINGS)


def test_hand_worked_curve() -> None:
    found = measure([100, 110, 99, 121]).values
    # Returns 0, 10 %, -10 %, 22.2222 %; the peak of 110 fell to 99 and was passed again two days later.
    assert found["total_return"] == pytest.approx(0.21)
    assert found["net_profit"] == pytest.approx(21)
    assert found["max_drawdown"] == pytest.approx(0.1)
    assert found["max_drawdown_days"] == 2
    assert found["ulcer"] == pytest.approx(0.05)
    assert found["recovery_factor"] == pytest.approx(21 / 11)
    assert found["omega"] == pytest.approx(0.3222222222 / 0.1)
    assert found["cagr"] == pytest.approx(1.21 ** (365.25 / 4) - 1)
    assert found["calmar"] == pytest.approx(10 * (1.21 ** (365.25 / 4) - 1))
    assert found["sortino"] == pytest.approx(math.sqrt(365) * (0.2222222222 / 4) / math.sqrt(0.01 / 4))


def test_a_drawdown_still_open_at_the_end_counts_in_days() -> None:
    assert measure([100, 110, 105, 100, 109]).values["max_drawdown_days"] == 3
    assert measure([90, 80, 95]).values["max_drawdown_days"] == 3


curves = st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=60)


@settings(max_examples=200, deadline=None)
@given(changes=curves)
def test_ratios_equal_the_formulas_written_plainly(changes: list[float]) -> None:
    equity = (100 * np.cumprod(1 + np.array(changes))).tolist()
    marks = [100.0, *equity]
    returns = [later / earlier - 1 for earlier, later in itertools.pairwise(marks)]
    result = measure(equity)
    found = result.values
    spread = statistics.stdev(returns)
    assert found["volatility"] == pytest.approx(math.sqrt(365) * spread, rel=1e-9, abs=1e-12)
    if spread > 1e-9:
        assert found["sharpe"] == pytest.approx(math.sqrt(365) * statistics.fmean(returns) / spread, rel=1e-6, abs=1e-9)
        growth = [math.log(mark / 100) for mark in equity]
        if statistics.pstdev(growth) > 1e-9:
            correlation = statistics.correlation(growth, [float(day) for day in range(len(growth))])
            assert found["stability"] == pytest.approx(correlation**2, abs=1e-6)
    peak = worst = 0.0
    for mark in marks:
        peak = max(peak, mark)
        worst = max(worst, 1 - mark / peak)
    assert found["max_drawdown"] == pytest.approx(worst)
    ordered, place = sorted(returns), 0.05 * (len(returns) - 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    quantile = low + (high - low) * (place - int(place))
    assert found["value_at_risk"] == pytest.approx(quantile, abs=1e-12)
    assert found["conditional_value_at_risk"] <= found["value_at_risk"] + 1e-12
    assert set(result.reasons) == {name for name, value in found.items() if value is None}


def test_trade_statistics_by_hand() -> None:
    found = measure([100, 120], [30.0, -10.0, 0.0, -10.0, 10.0]).values
    assert (found["trades"], found["winning_trades"], found["losing_trades"], found["even_trades"]) == (5, 2, 2, 1)
    assert found["win_rate"] == 0.5
    assert found["profit_factor"] == 2
    assert found["payoff"] == 2
    assert found["kelly"] == 0.25
    assert found["expectancy"] == 4
    assert found["sqn"] == pytest.approx(math.sqrt(5) * 4 / statistics.stdev([30, -10, 0, -10, 10]))
    assert (found["largest_win"], found["largest_loss"]) == (30, -10)
    assert (found["max_consecutive_wins"], found["max_consecutive_losses"]) == (1, 1)
    assert found["average_bars"] == 1


def test_risk_multiples_are_used_when_every_trade_had_a_stop() -> None:
    trades = make_trades([20.0, -10.0, 5.0], [10.0, 10.0, 5.0])
    found = measure([100, 115], trades=trades).values
    assert found["risk_expectancy"] == pytest.approx(2 / 3)
    assert found["sqn"] == pytest.approx(math.sqrt(3) * (2 / 3) / statistics.stdev([2, -1, 1]))
    partly = measure([100, 115], trades=make_trades([20.0, -10.0], [10.0, math.nan]))
    assert partly.reasons["risk_expectancy"] == "a trade had no stop at its entry"


def test_without_trades_ratios_are_undefined_with_a_reason_and_counts_are_zero() -> None:
    result = measure([100, 100, 100])
    undefined = {
        "sharpe", "sortino", "calmar", "martin", "recovery_factor", "omega", "tail_ratio", "stability", "win_rate",
        "profit_factor", "expectancy", "risk_expectancy", "payoff", "sqn", "sqn_100", "kelly", "average_win",
        "average_loss", "largest_win", "largest_loss", "average_bars", "funding_paid", "alpha", "beta",
    }  # fmt: skip
    assert {name for name, value in result.values.items() if value is None} == undefined
    assert set(result.reasons) == undefined
    assert all(result.reasons.values())
    assert (result.values["trades"], result.values["max_drawdown"], result.values["volatility"]) == (0, 0, 0)


def test_only_losses_leave_no_payoff_and_a_profit_factor_of_zero() -> None:
    result = measure([90, 80], [-10.0, -10.0])
    assert (result.values["profit_factor"], result.values["win_rate"]) == (0, 0)
    assert (result.reasons["payoff"], result.reasons["kelly"]) == ("no trade won", "no trade won")
    assert result.reasons["sqn"] == "the trades do not vary"


def test_only_wins_leave_no_profit_factor() -> None:
    assert measure([110, 125], [10.0, 15.0]).reasons["profit_factor"] == "no trade lost"


def test_lost_capital_leaves_no_return_ratios_but_a_whole_drawdown() -> None:
    result = measure([50, -10, -10], [-110.0])
    assert result.values["max_drawdown"] == pytest.approx(1.1)
    assert result.values["total_return"] == pytest.approx(-1.1)
    for name in ("sharpe", "sortino", "volatility", "cagr", "calmar", "omega", "value_at_risk"):
        assert result.reasons[name] == "the equity fell to zero or below"


def test_one_bar_is_measured() -> None:
    result = measure([100])
    assert result.reasons["sharpe"] == "1 daily returns; 2 are needed"
    assert result.reasons["buy_and_hold_return"] == "the warm-up leaves no bar to trade"


def test_a_run_shorter_than_a_day_has_no_yearly_rate() -> None:
    ts = np.arange(3, dtype=np.int64) * HOUR_MS
    prices = np.array([50.0, 40.0, 60.0])
    candles = Candles(ts, prices, prices, prices, prices, prices, prices)
    nothing = np.zeros(3, bool)
    none = Signals(
        nothing, nothing, nothing, nothing, math.nan, None, math.nan, None, math.nan, None, math.nan, math.nan, 0, 1
    )
    result = compute_metrics(simulate(candles, none, SETTINGS), candles, "60", SETTINGS)
    assert result.reasons["cagr"] == "the run is shorter than a day"
    # Warm-up 1: the first decision is at the close of row 1, the first fill at the open of row 2.
    assert result.values["buy_and_hold_return"] == 0
    assert "funding_paid" in result.reasons
    modelled = compute_metrics(simulate(candles, none, SETTINGS), candles, "60", SETTINGS, unmodelled={})
    assert modelled.values["funding_paid"] == 0


def test_marks_lie_at_midnight_and_at_the_end_and_repeat_over_days_without_bars() -> None:
    # Four-hour bars from noon: closes at 16:00, 20:00, 24:00, 04:00; then nothing until noon two days later.
    ts = np.array([12, 16, 20, 24, 84], dtype=np.int64) * HOUR_MS
    times, marks = daily_marks(ts, np.array([1.0, 2, 3, 4, 5]), "240")
    assert (times // HOUR_MS).tolist() == [24, 48, 72, 88]
    assert marks.tolist() == [3, 4, 4, 5]


@pytest.mark.parametrize(("interval", "opens", "end"), [("W", [4, 11], 18), ("M", [0, 31, 59], 90)])
def test_long_bars_mark_at_their_close(interval: Interval, opens: list[int], end: int) -> None:
    equity = np.arange(len(opens)) + 100.0
    times, marks = daily_marks(np.array(opens, dtype=np.int64) * DAY_MS, equity, interval)
    assert times[-1] == end * DAY_MS
    assert marks[-1] == equity[-1]
    by_day = dict(zip((times // DAY_MS).tolist(), marks.tolist(), strict=True))
    assert by_day[opens[1]] == 100
    if len(opens) == 3:
        assert by_day[opens[2]] == 101


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert all((metric.title, metric.definition, metric.convention, metric.source))


def test_metrics_of_a_real_run_agree_with_its_trades_and_equity() -> None:
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 2_000)))
    open_ = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) * 0.998
    candles = Candles(np.arange(2_000, dtype=np.int64) * HOUR_MS, open_, high, low, close, close, close)
    up, down = rng.random(2_000) < 0.02, rng.random(2_000) < 0.02
    signals = Signals(up, down, down, up, 0.02, None, 0.04, None, math.nan, None, math.nan, math.nan, 0, 0)
    chosen = ExecutionSettings(capital=10_000.0, slippage_fraction=0.0001)
    simulation = simulate(candles, signals, chosen)
    found = compute_metrics(simulation, candles, "60", chosen).values
    trades = simulation.trades
    assert len(trades) > 30
    assert found["net_profit"] == pytest.approx(trades.pnl.sum(), abs=1e-6)
    assert found["final_equity"] == simulation.equity[-1]
    assert found["fees_paid"] == pytest.approx((trades.gross_pnl - trades.pnl).sum(), abs=1e-6)
    assert found["long_trades"] + found["short_trades"] == found["trades"] == len(trades)
    assert found["max_drawdown"] <= found["max_drawdown_intraday"]
    assert 0 < found["exposure"] <= 1
