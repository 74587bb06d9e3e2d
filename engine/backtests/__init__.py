"""A backtest from request to stored run: strategy, candles (fetched when missing), simulation, figures, provenance."""

from engine.backtests.backtests import Backtests

__all__ = ["Backtests"]
