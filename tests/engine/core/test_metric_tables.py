"""Tables of a run by hand: months, drawdowns, rolling Sharpe, sides, and TradingView's report."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.metrics import (
    Facts,
    deepest_drawdowns,
    gather_facts,
    period_returns,
    rolling_sharpe,
    side_summary,
    tradingview_report,
)
from engine.core.simulation import Simulation
from engine.core.timeframes import DAY_MS
from engine.core.trades import Trades

# 2024-01-30 00:00 UTC.
FIRST_MS = 1_706_572_800_000


def facts_of(
    equity: list[float], rows: list[list[int]] | None = None, records: list[list[float]] | None = None
) -> Facts:
    bars = len(equity)
    close = np.linspace(50.0, 60.0, bars)
    candles = Candles(FIRST_MS + np.arange(bars, dtype=np.int64) * DAY_MS, close, close, close, close, close, close)
    trades = Trades.from_tables(
        np.array(rows or [], np.int64).reshape(-1, 5), np.array(records or [], float).reshape(-1, 9)
    )
    simulation = Simulation(
        trades=trades, equity=np.array(equity, float), position=np.zeros(bars, np.int8), exposed_bars=0, ambiguous_bars=0,
        skipped_entries={}, capped_entries=0, ruined_bar=None, warmup_bars=0,
    )  # fmt: skip
    return gather_facts(simulation, candles, "D", ExecutionSettings(capital=100.0))


def test_months_end_at_the_midnight_after_their_last_day() -> None:
    facts = facts_of([100, 110, 99, 132])
    months = period_returns(facts, "month")
    assert [(month.label, month.fraction) for month in months] == [
        ("2024-01", pytest.approx(0.1)),
        ("2024-02", pytest.approx(0.2)),
    ]
    assert [(year.label, year.fraction) for year in period_returns(facts, "year")] == [("2024", pytest.approx(0.32))]


def test_a_month_after_the_capital_was_lost_has_no_return() -> None:
    lost = period_returns(facts_of([100, -5, -5, -5]), "month")
    assert [month.fraction for month in lost] == [pytest.approx(-1.05), None]


def test_drawdowns_tell_peak_trough_and_recovery_deepest_first() -> None:
    falls = deepest_drawdowns(facts_of([100, 110, 99, 110, 121, 60.5, 80]))
    assert [round(fall.depth, 3) for fall in falls] == [0.5, 0.1]
    deep, shallow = falls
    assert (deep.recovered_ms, (deep.trough_ms - deep.peak_ms) // DAY_MS, deep.days) == (None, 1, 2)
    assert shallow.recovered_ms is not None
    assert (shallow.recovered_ms - shallow.peak_ms) // DAY_MS == shallow.days == 2
    assert deepest_drawdowns(facts_of([100, 101, 102])) == ()
    assert len(deepest_drawdowns(facts_of([100.0, 90.0] * 15 + [101.0]))) <= 10


def test_rolling_sharpe_is_the_sharpe_of_each_window() -> None:
    rng = np.random.default_rng(1)
    equity = (100 * np.cumprod(1 + rng.normal(0, 0.01, 40))).tolist()
    facts = facts_of(equity)
    rolled = rolling_sharpe(facts, 10)
    assert facts.returns is not None
    assert len(rolled.values) == len(rolled.ts) == 31
    window = facts.returns[5:15].tolist()
    assert rolled.values[5] == pytest.approx(math.sqrt(365) * statistics.fmean(window) / statistics.stdev(window))
    assert rolled.ts[5] == facts.marks_ms[15]
    assert np.isnan(rolling_sharpe(facts_of([100.0] * 20), 10).values).all()
    assert len(rolling_sharpe(facts).values) == 0


# Long won 30, long lost 10, short won 0, short still open with 5; excursions of the first: down 4, up 35.
ROWS = [[1, 0, 1, 2, 0], [1, 2, 3, 4, 1], [-1, 4, 5, 6, 0], [-1, 6, 7, 8, 6]]
RECORDS = [
    [10, 40, 1, 30, 30, 0, 4, 35, math.nan], [10, 0, 1, -10, -9, 1, 12, 0, math.nan],
    [10, 10, 2, 0, 0, 0, 0, 0, math.nan], [10, 5, 1, 5, 5, 0, 0, 5, math.nan],
]  # fmt: skip
EQUITY = [100.0, 100, 130, 130, 120, 120, 120, 120, 125]


def test_sides_are_told_apart() -> None:
    facts = facts_of(EQUITY, ROWS, RECORDS)
    long, short = side_summary(facts, "long"), side_summary(facts, "short")
    assert (long.trades, long.net_profit, long.profit_factor, long.win_rate, long.fees) == (2, 20, 3, 0.5, 1)
    assert (short.trades, short.net_profit, short.profit_factor, short.win_rate) == (2, 5, None, 1)


def test_tradingviews_report_follows_its_own_rules() -> None:
    report = tradingview_report(facts_of(EQUITY, ROWS, RECORDS))
    # The open trade is not a closed one; the trade without profit counts among the closed.
    assert (report.all.total_closed_trades, report.all.total_open_trades, report.all.open_pnl) == (3, 1, 5)
    assert report.all.percent_profitable == pytest.approx(100 / 3)
    assert (report.all.net_profit, report.all.gross_profit, report.all.gross_loss, report.all.profit_factor) == (
        20,
        30,
        10,
        3,
    )
    assert (report.long.largest_winning_trade, report.long.largest_losing_trade) == (30, 10)
    assert (report.short.max_contracts_held, report.all.commission_paid) == (2, 1)
    # From 135 inside the first trade to 118 inside the second; from 100 up to 135.
    assert (report.max_equity_drawdown, report.max_equity_run_up) == (17, 35)
    # Under three months daily returns decide, less 2 % a year, not annualised.
    returns = [later / earlier - 1 for earlier, later in zip([100.0, *EQUITY[:-1]], EQUITY, strict=True)]
    expected = (statistics.fmean(returns) - 0.02 / 365) / statistics.stdev(returns)
    assert (report.ratios_from, report.sharpe) == ("daily returns", pytest.approx(expected))


def test_three_months_make_tradingviews_ratios_monthly() -> None:
    report = tradingview_report(facts_of(np.linspace(100, 130, 90).tolist()))
    assert report.ratios_from == "monthly returns"
    assert report.sharpe is not None


def test_a_run_without_trades_has_a_report() -> None:
    report = tradingview_report(facts_of([100.0, 100.0]))
    assert (report.all.net_profit, report.all.profit_factor, report.max_equity_drawdown, report.sharpe) == (
        0,
        None,
        0,
        None,
    )
