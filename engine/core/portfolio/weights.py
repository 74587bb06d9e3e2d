"""How much of the capital each symbol may take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.indicators.volatility import stdev
from engine.core.portfolio.legs import Leg, PortfolioSettings


def inverse_volatility(candles: Candles, bars: int) -> FloatColumn:
    """Return 1 / the deviation of close-to-close log returns (shape (n,)); NaN where it is not known or zero."""
    returns = np.log(candles.close) - np.log(np.concatenate((candles.close[:1] * np.nan, candles.close[:-1])))
    spread = stdev(returns, bars)
    return np.divide(1.0, spread, out=np.full(len(spread), np.nan), where=spread > 0)


def weight_table(legs: Mapping[str, Leg], settings: PortfolioSettings, ts: TimeColumn) -> FloatColumn:
    """Return the multiple of what each symbol would take alone, for an entry at each of some times.

    Parameters
    ----------
    legs : mapping of str to Leg
    settings : PortfolioSettings
    ts : ndarray of int64, shape (m,)

    Returns
    -------
    ndarray of float64, shape (m, s), or (1, s) where it is always the same

    Notes
    -----
    By inverse volatility the last close before the entry counts; a symbol whose volatility is not known yet counts as the
    mean of those that are.
    """
    slots = min(settings.max_positions or len(legs), len(legs))
    if settings.weighting == "equal":
        return np.full((1, len(legs)), 1.0 / slots)
    known = np.empty((len(ts), len(legs)))
    for index, leg in enumerate(legs.values()):
        before = np.searchsorted(leg.candles.ts, ts) - 1
        steadiness = inverse_volatility(leg.candles, settings.volatility_bars)
        known[:, index] = np.where(before >= 0, steadiness[np.maximum(before, 0)], np.nan)
    unknown = np.isnan(known)
    count = len(legs) - np.count_nonzero(unknown, axis=1)
    # Where nothing is known all are alike.
    mean = np.where(unknown, 0.0, known).sum(axis=1) / np.maximum(count, 1)
    filled = np.where(unknown, np.where(count > 0, mean, 1.0)[:, None], known)
    return filled / filled.mean(axis=1)[:, None] / slots
