"""Metrics of the account: money in and out, time in the market, and the market itself."""

from __future__ import annotations

from engine.core.metrics.facts import Facts
from engine.core.metrics.registry import Metric, Outcome


def _buy_and_hold_return(facts: Facts) -> Outcome:
    first_fill = facts.simulation.warmup_bars + 1
    if first_fill >= len(facts.candles):
        return "the warm-up leaves no bar to trade"
    return float(facts.candles.close[-1] / facts.candles.open[first_fill] - 1.0)


def _exposure(facts: Facts) -> Outcome:
    return facts.simulation.exposed_bars / len(facts.candles)


ACCOUNT_METRICS: tuple[Metric, ...] = (
    Metric(
        "initial_capital", "Starting capital", "money", "capital of the settings", "settlement currency", "definition",
        "", lambda facts: float(facts.settings.capital),
    ),
    Metric(
        "final_equity", "Final equity", "money", "equity at the last close",
        "an open position is closed at the last close, its fee included", "definition", "",
        lambda facts: float(facts.simulation.equity[-1]),
    ),
    Metric(
        "net_profit", "Net profit", "money", "final equity - starting capital", "equals the sum of all trades' pnl",
        "definition", "", lambda facts: float(facts.simulation.equity[-1] - facts.settings.capital),
    ),
    Metric(
        "fees_paid", "Fees paid", "money", "sum of the fees of all fills", "negative when rebates outweigh fees",
        "definition", "", lambda facts: float(facts.trades.fees.sum()), better="lower",
    ),
    Metric(
        "funding_paid", "Funding paid", "money", "sum of the funding of all trades", "positive when paid",
        "Bybit help centre, funding fee calculation", "funding was not modelled",
        lambda facts: float(facts.trades.funding.sum()), better="lower",
    ),
    Metric(
        "exposure", "Exposure", "fraction", "bars with a position / bars",
        "a bar counts when a position existed after the orders at its open, however briefly", "backtesting.py", "",
        _exposure,
    ),
    Metric(
        "buy_and_hold_return", "Buy and hold return", "fraction",
        "last close / open of the first bar an order could fill at - 1",
        "first fill is one bar after the warm-up; price change in quote currency, no costs", "backtesting.py",
        "the warm-up leaves no bar to trade", _buy_and_hold_return,
    ),
)  # fmt: skip
