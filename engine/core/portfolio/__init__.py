"""One strategy over several symbols that share one account."""

from engine.core.portfolio.legs import ALONE, MOST_SYMBOLS, Leg, PortfolioSettings, Weighting, refuse_unmodelled
from engine.core.portfolio.result import (
    PortfolioResult,
    SymbolResult,
    basket_candles,
    check_portfolio_accounting,
    combined_simulation,
    correlation_table,
    daily_changes,
)
from engine.core.portfolio.run import simulate_portfolio

__all__ = [
    "ALONE", "MOST_SYMBOLS", "Leg", "PortfolioResult", "PortfolioSettings", "SymbolResult", "Weighting", "basket_candles",
    "check_portfolio_accounting", "combined_simulation", "correlation_table", "daily_changes", "refuse_unmodelled",
    "simulate_portfolio",
]  # fmt: skip
