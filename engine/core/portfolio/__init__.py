"""One strategy over several symbols that share one account."""

from engine.core.portfolio.account import MOST_SYMBOLS, simulate_portfolio
from engine.core.portfolio.legs import Leg, PortfolioSettings, Weighting
from engine.core.portfolio.result import (
    PortfolioResult,
    SymbolResult,
    basket_candles,
    check_portfolio_accounting,
    combined_simulation,
    correlation_table,
    daily_changes,
)

__all__ = [
    "MOST_SYMBOLS", "Leg", "PortfolioResult", "PortfolioSettings", "SymbolResult", "Weighting", "basket_candles",
    "check_portfolio_accounting", "combined_simulation", "correlation_table", "daily_changes", "simulate_portfolio",
]  # fmt: skip
