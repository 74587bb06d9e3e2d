"""Sharpe ratio and shape of many rows of daily returns, as the inference about Sharpe ratios takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.metrics.returns import SMALLEST_SPREAD

# 10,000 trials of 833 days would be 66 MB as float64.
_ROWS_AT_ONCE = 512
_NEEDED = 2


def return_moments(returns: NDArray[np.float32] | NDArray[np.float64]) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
    """Return Sharpe ratio, skewness and kurtosis of each row.

    Parameters
    ----------
    returns : ndarray of float32 or float64, shape (n, d)
        Simple daily returns.

    Returns
    -------
    sharpe, skew, kurtosis : ndarray of float64, shape (n,)
        Mean by standard deviation (d - 1), not annualised; population moments, kurtosis 3 for a normal distribution. NaN
        where a row holds NaN, does not vary, or has fewer than 2 returns.

    Notes
    -----
    Bailey and López de Prado 2014, "The Deflated Sharpe Ratio", take these three.
    """
    count, days = returns.shape
    sharpe, skew, kurtosis = (np.full(count, np.nan) for _ in range(3))
    if days < _NEEDED:
        return sharpe, skew, kurtosis
    for at in range(0, count, _ROWS_AT_ONCE):
        rows = slice(at, at + _ROWS_AT_ONCE)
        away = returns[rows].astype(np.float64)
        mean = away.mean(axis=1)
        away -= mean[:, None]
        squared = away * away
        second, third, fourth = (
            np.einsum("nd,nd->n", left, right) / days
            for left, right in ((away, away), (squared, away), (squared, squared))
        )
        varies = second > SMALLEST_SPREAD**2
        with np.errstate(all="ignore"):
            sharpe[rows] = np.where(varies, mean / np.sqrt(second * days / (days - 1)), np.nan)
            skew[rows] = np.where(varies, third / second**1.5, np.nan)
            kurtosis[rows] = np.where(varies, fourth / second**2, np.nan)
    return sharpe, skew, kurtosis
