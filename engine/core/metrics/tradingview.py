"""The figures of TradingView's strategy report by TradingView's own rules, which differ from ours on purpose.

A position still open at the end is not a closed trade; trades without profit or loss count in the percentage of
profitable ones; Sharpe and Sortino come from monthly returns (daily ones under three months), are not annualised, and
take 2 % a year as free of risk (TradingView help centre, "Strategy report" and "Sharpe ratio").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.metrics.facts import Facts
from engine.core.metrics.tables import period_returns
from engine.core.trades import ExitReason

RISK_FREE_A_YEAR = 0.02
FEWEST_RETURNS = 3


@dataclass(frozen=True, slots=True)
class TradingViewColumn:
    """One column of the report (all, long or short); money in settlement currency, None where nothing defines it."""

    net_profit: float
    gross_profit: float
    gross_loss: float
    profit_factor: float | None
    commission_paid: float
    total_closed_trades: int
    total_open_trades: int
    open_pnl: float
    winning_trades: int
    losing_trades: int
    percent_profitable: float | None
    average_trade: float | None
    average_winning_trade: float | None
    average_losing_trade: float | None
    ratio_average_win_to_loss: float | None
    largest_winning_trade: float | None
    largest_losing_trade: float | None
    average_bars: float | None
    average_bars_winning: float | None
    average_bars_losing: float | None
    max_contracts_held: float
    margin_calls: int


@dataclass(frozen=True, slots=True)
class TradingViewReport:
    """The whole block. Run-up and drawdown are money and take the excursions inside trades into account."""

    all: TradingViewColumn
    long: TradingViewColumn
    short: TradingViewColumn
    max_equity_run_up: float
    max_equity_drawdown: float
    buy_and_hold_return: float | None
    sharpe: float | None
    sortino: float | None
    ratios_from: str


def tradingview_report(facts: Facts) -> TradingViewReport:
    """Return TradingView's figures of a run."""
    side = facts.trades.side
    run_up, drawdown = _equity_extremes(facts)
    returns, risk_free, name = _report_returns(facts)
    return TradingViewReport(
        all=_column(facts, np.ones(len(side), np.bool_)),
        long=_column(facts, side > 0),
        short=_column(facts, side < 0),
        max_equity_run_up=run_up,
        max_equity_drawdown=drawdown,
        buy_and_hold_return=_buy_and_hold(facts),
        sharpe=_sharpe(returns, risk_free),
        sortino=_sortino(returns, risk_free),
        ratios_from=name,
    )


def _column(facts: Facts, chosen: NDArray[np.bool_]) -> TradingViewColumn:
    trades = facts.trades
    is_open = trades.exit_reason == ExitReason.END_OF_DATA
    closed, held = chosen & ~is_open, chosen & is_open
    pnl, bars = trades.pnl[closed], trades.bars[closed].astype(np.float64)
    wins, losses = pnl[pnl > 0], pnl[pnl < 0]
    won, lost = _mean(wins), _mean(-losses)
    lost_total = float(-losses.sum())
    entered = np.bincount(trades.position_id[chosen], trades.quantity[chosen]) if chosen.any() else np.zeros(1)
    return TradingViewColumn(
        net_profit=float(pnl.sum()),
        gross_profit=float(wins.sum()),
        gross_loss=lost_total,
        profit_factor=float(wins.sum()) / lost_total if lost_total > 0 else None,
        commission_paid=float(trades.fees[chosen].sum()),
        total_closed_trades=len(pnl),
        total_open_trades=int(np.count_nonzero(held)),
        open_pnl=float(trades.pnl[held].sum()),
        winning_trades=len(wins),
        losing_trades=len(losses),
        percent_profitable=100.0 * len(wins) / len(pnl) if len(pnl) else None,
        average_trade=_mean(pnl),
        average_winning_trade=won,
        average_losing_trade=lost,
        ratio_average_win_to_loss=won / lost if won is not None and lost is not None else None,
        largest_winning_trade=float(wins.max()) if len(wins) else None,
        largest_losing_trade=float(-losses.min()) if len(losses) else None,
        average_bars=_mean(bars),
        average_bars_winning=_mean(bars[pnl > 0]),
        average_bars_losing=_mean(bars[pnl < 0]),
        max_contracts_held=float(entered.max()),
        margin_calls=int(np.count_nonzero(trades.exit_reason[chosen] == ExitReason.LIQUIDATION)),
    )


def _mean(values: FloatColumn) -> float | None:
    return float(values.mean()) if len(values) else None


def _equity_extremes(facts: Facts) -> tuple[float, float]:
    """Return the largest rise from a low and the largest fall from a high of the account, in money."""
    trades = facts.trades
    if len(trades) == 0:
        return 0.0, 0.0
    after = facts.settings.capital + np.cumsum(trades.pnl)
    before = np.concatenate(([facts.settings.capital], after[:-1]))
    low, high = np.minimum(before - trades.mae, after), np.maximum(before + trades.mfe, after)
    lowest = np.minimum.accumulate(np.concatenate(([facts.settings.capital], low[:-1])))
    highest = np.maximum.accumulate(np.concatenate(([facts.settings.capital], high[:-1])))
    return max(0.0, float(np.max(high - lowest))), max(0.0, float(np.max(highest - low)))


def _buy_and_hold(facts: Facts) -> float | None:
    first_fill = facts.simulation.warmup_bars + 1
    if first_fill >= len(facts.candles):
        return None
    return float(facts.candles.close[-1] / facts.candles.open[first_fill] - 1.0)


def _report_returns(facts: Facts) -> tuple[FloatColumn, float, str]:
    months = [month.fraction for month in period_returns(facts, "month")]
    known = np.array([fraction for fraction in months if fraction is not None])
    if len(known) >= FEWEST_RETURNS:
        return known, RISK_FREE_A_YEAR / 12, "monthly returns"
    daily = np.empty(0) if facts.returns is None else facts.returns
    return daily, RISK_FREE_A_YEAR / 365, "daily returns"


def _sharpe(returns: FloatColumn, risk_free: float) -> float | None:
    if len(returns) < FEWEST_RETURNS:
        return None
    spread = float(returns.std(ddof=1))
    return (float(returns.mean()) - risk_free) / spread if spread > 0 else None


def _sortino(returns: FloatColumn, risk_free: float) -> float | None:
    if len(returns) < FEWEST_RETURNS:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns - risk_free, 0.0) ** 2)))
    return (float(returns.mean()) - risk_free) / downside if downside > 0 else None
