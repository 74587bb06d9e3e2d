"""Confidence intervals of an annualised Sharpe ratio, for independent returns and for those that depend on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.core.validation.return_matrix import CHUNK_VALUES, FloatArray, RandomSource, checked_series
from engine.core.validation.sharpe_inference import NORMAL, checked_confidence, sharpe_standard_error
from engine.core.validation.sharpe_moments import sharpe_moments

DAYS_PER_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class SharpeInterval:
    """A confidence interval of an annualised Sharpe ratio.

    Attributes
    ----------
    estimate, low, high : float
        Annualised.
    confidence : float
        Share of intervals that hold the true value, in (0, 1).
    method : str
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: str


def sharpe_interval(
    returns: FloatArray, confidence: float = 0.95, periods_per_year: float = DAYS_PER_YEAR
) -> SharpeInterval:
    """Return a two-sided interval of the annualised Sharpe ratio from its standard error.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        Per period; independent from one period to the next.
    confidence : float
    periods_per_year : float
    """
    checked_confidence(confidence)
    moments = sharpe_moments(returns)
    reach = NORMAL.inv_cdf(0.5 + confidence / 2.0) * sharpe_standard_error(
        moments.sharpe, moments.observations, moments.skew, moments.kurtosis
    )
    scale = math.sqrt(periods_per_year)
    return SharpeInterval(
        scale * moments.sharpe,
        scale * (moments.sharpe - reach),
        scale * (moments.sharpe + reach),
        confidence,
        "standard error with skew and kurtosis (Mertens 2002)",
    )


def bootstrap_sharpe_interval(
    returns: FloatArray,
    random: RandomSource,
    confidence: float = 0.95,
    periods_per_year: float = DAYS_PER_YEAR,
    samples: int = 2_000,
    mean_block: float | None = None,
) -> SharpeInterval:
    """Return a two-sided percentile interval of the annualised Sharpe ratio of returns that depend on each other.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
    random : Generator or RandomState
    confidence, periods_per_year : float
    samples : int
        Bootstrap samples.
    mean_block : float or None
        Mean block length in periods; None: the optimal one.

    Notes
    -----
    Stationary bootstrap, percentiles: Ledoit and Wolf 2008, "Robust performance hypothesis testing with the Sharpe
    ratio", discuss its coverage.
    """
    checked_confidence(confidence)
    series = checked_series(returns, fewest=4)
    estimate = sharpe_moments(series).sharpe
    block = optimal_block_length(series) if mean_block is None else mean_block
    ratios: list[FloatArray] = []
    step = max(1, CHUNK_VALUES // len(series))
    for start in range(0, samples, step):
        drawn = series[stationary_indices(len(series), min(step, samples - start), block, random)]
        spread = drawn.std(axis=1, ddof=1)
        # A sample of equal values (few trades, long blocks) says nothing about risk.
        ratios.append(drawn.mean(axis=1) / np.where(spread > 0, spread, math.nan))
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(np.concatenate(ratios), [tail, 1.0 - tail]) * math.sqrt(periods_per_year)
    return SharpeInterval(
        estimate * math.sqrt(periods_per_year),
        float(low),
        float(high),
        confidence,
        f"stationary bootstrap, {samples} samples, mean block {block:.1f}",
    )
