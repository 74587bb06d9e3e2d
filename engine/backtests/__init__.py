"""A backtest from request to stored run: strategy, candles (fetched when missing), simulation, figures, provenance."""

from engine.backtests.backtests import Backtests
from engine.backtests.holdout import Holdouts

__all__ = ["Backtests", "Holdouts"]
