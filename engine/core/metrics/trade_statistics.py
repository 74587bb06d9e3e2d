"""Metrics of the closed trades: how often they win, how much, and in what order."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.metrics.facts import Facts
from engine.core.metrics.registry import Metric, Outcome

NET = "closed trades, net of costs; a trade closed by the end of the data counts"
NO_TRADE = "no trade was closed"
NO_WIN = "no trade won"
NO_LOSS = "no trade lost"


def _mean(pick: Callable[[Facts], FloatColumn], reason: str) -> Callable[[Facts], Outcome]:
    def measure(facts: Facts) -> Outcome:
        values = pick(facts)
        return float(np.mean(values)) if len(values) else reason

    return measure


def _count(choose: Callable[[Facts], np.ndarray]) -> Callable[[Facts], Outcome]:
    return lambda facts: int(np.count_nonzero(choose(facts)))


def _win_rate(facts: Facts) -> Outcome:
    decided = len(facts.wins) + len(facts.losses)
    return len(facts.wins) / decided if decided else "no trade won or lost"


def _profit_factor(facts: Facts) -> Outcome:
    if not len(facts.trades):
        return NO_TRADE
    return float(facts.wins.sum() / -facts.losses.sum()) if len(facts.losses) else NO_LOSS


def _payoff(facts: Facts) -> Outcome:
    if not len(facts.wins):
        return NO_WIN
    return float(np.mean(facts.wins) / -np.mean(facts.losses)) if len(facts.losses) else NO_LOSS


def _kelly(facts: Facts) -> Outcome:
    payoff = _payoff(facts)
    if isinstance(payoff, str):
        return payoff
    rate = len(facts.wins) / (len(facts.wins) + len(facts.losses))
    return rate - (1 - rate) / payoff


def _risk_multiples(facts: Facts) -> FloatColumn | None:
    """Return profit per initial risk, or None when a trade had no stop at its entry."""
    risk = facts.trades.initial_risk
    return facts.pnl / risk if len(risk) and not np.isnan(risk).any() else None


def _risk_expectancy(facts: Facts) -> Outcome:
    multiples = _risk_multiples(facts)
    if multiples is not None:
        return float(np.mean(multiples))
    return "a trade had no stop at its entry" if len(facts.trades) else NO_TRADE


def _system_quality(most_trades: float) -> Callable[[Facts], Outcome]:
    def measure(facts: Facts) -> Outcome:
        multiples = _risk_multiples(facts)
        values = facts.pnl if multiples is None else multiples
        if len(values) < 2:
            return f"{len(values)} closed trades; 2 are needed"
        spread, size = float(np.std(values, ddof=1)), float(np.max(np.abs(values)))
        if spread <= 1e-14 * size:
            return "the trades do not vary"
        return math.sqrt(min(len(values), most_trades)) * float(np.mean(values)) / spread

    return measure


def _longest_run(hits: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], hits, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _extreme(largest: bool) -> Callable[[Facts], Outcome]:
    def measure(facts: Facts) -> Outcome:
        values = facts.wins if largest else facts.losses
        if not len(values):
            return NO_WIN if largest else NO_LOSS
        return float(values.max() if largest else values.min())

    return measure


TRADE_METRICS: tuple[Metric, ...] = (
    Metric(
        "trades", "Closed trades", "count", "number of closed trades", NET, "definition", "",
        lambda facts: len(facts.trades),
    ),
    Metric(
        "winning_trades", "Winning trades", "count", "trades with pnl > 0", NET, "TradingView", "",
        _count(lambda facts: facts.pnl > 0),
    ),
    Metric(
        "losing_trades", "Losing trades", "count", "trades with pnl < 0", NET, "TradingView", "",
        _count(lambda facts: facts.pnl < 0), better="lower",
    ),
    Metric(
        "even_trades", "Even trades", "count", "trades with pnl = 0", NET, "definition", "",
        _count(lambda facts: facts.pnl == 0),
    ),
    Metric(
        "long_trades", "Long trades", "count", "trades that bought first", NET, "definition", "",
        _count(lambda facts: facts.trades.side > 0),
    ),
    Metric(
        "short_trades", "Short trades", "count", "trades that sold first", NET, "definition", "",
        _count(lambda facts: facts.trades.side < 0),
    ),
    Metric(
        "win_rate", "Win rate", "fraction", "winning / (winning + losing) trades",
        f"{NET}; trades with pnl = 0 are in neither", "TradingView, percent profitable", "no trade won or lost",
        _win_rate,
    ),
    Metric(
        "profit_factor", "Profit factor", "ratio", "sum of winning pnl / -sum of losing pnl", f"{NET}; money",
        "TradingView, vectorbt", "no losing trade", _profit_factor,
    ),
    Metric(
        "expectancy", "Expectancy", "money", "mean pnl of a trade", NET, "freqtrade, expectancy", "no trade",
        _mean(lambda facts: facts.pnl, NO_TRADE),
    ),
    Metric(
        "risk_expectancy", "Expectancy in risk multiples", "ratio", "mean of pnl / initial risk",
        f"{NET}; initial risk is the loss at the stop of the entry, before costs", "Tharp 1998",
        "no trade, or a trade without a stop at its entry", _risk_expectancy,
    ),
    Metric(
        "payoff", "Payoff ratio", "ratio", "mean winning pnl / -mean losing pnl", NET,
        "TradingView, ratio avg win / avg loss", "no winning or no losing trade", _payoff,
    ),
    Metric(
        "sqn", "System quality number", "ratio", "sqrt(N) * mean(x) / standard deviation(x, n - 1)",
        "x is pnl / initial risk when every trade had a stop at its entry, else pnl", "Tharp 1998; backtesting.py (pnl)",
        "fewer than 2 trades, or trades that do not vary", _system_quality(math.inf),
    ),
    Metric(
        "sqn_100", "System quality number, at most 100 trades", "ratio",
        "sqrt(min(N, 100)) * mean(x) / standard deviation(x, n - 1)", "x as in sqn", "Tharp 1998",
        "fewer than 2 trades, or trades that do not vary", _system_quality(100.0),
    ),
    Metric(
        "kelly", "Kelly fraction", "fraction", "win rate - (1 - win rate) / payoff",
        f"{NET}; an estimate of the past, never advice: half of it is the usual bound", "Kelly 1956; backtesting.py",
        "no winning or no losing trade", _kelly,
    ),
    Metric(
        "average_win", "Average win", "money", "mean pnl of winning trades", NET, "TradingView", "no winning trade",
        _mean(lambda facts: facts.wins, NO_WIN),
    ),
    Metric(
        "average_loss", "Average loss", "money", "mean pnl of losing trades, negative", NET, "TradingView",
        "no losing trade", _mean(lambda facts: facts.losses, NO_LOSS),
    ),
    Metric(
        "largest_win", "Largest win", "money", "largest pnl above zero", NET, "TradingView", "no winning trade",
        _extreme(largest=True),
    ),
    Metric(
        "largest_loss", "Largest loss", "money", "smallest pnl below zero, negative", NET, "TradingView",
        "no losing trade", _extreme(largest=False),
    ),
    Metric(
        "average_bars", "Average bars held", "bars", "mean of exit bar - entry bar",
        "0 for a trade that ends in the bar of its entry", "definition", "no trade",
        _mean(lambda facts: facts.trades.bars.astype(np.float64), NO_TRADE),
    ),
    Metric(
        "max_consecutive_wins", "Longest winning run", "count", "most winning trades in a row", NET, "definition", "",
        lambda facts: _longest_run(facts.pnl > 0),
    ),
    Metric(
        "max_consecutive_losses", "Longest losing run", "count", "most losing trades in a row", NET, "definition", "",
        lambda facts: _longest_run(facts.pnl < 0),
    ),
)  # fmt: skip
