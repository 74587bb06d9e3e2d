"""What a holdout may show if the past told the truth: the band that an in-sample Sharpe ratio predicts."""

from __future__ import annotations

import math

from engine.core.candles import FloatColumn
from engine.core.metrics.facts import PERIODS_PER_YEAR
from engine.core.validation.sharpe_inference import NORMAL, sharpe_standard_error
from engine.core.validation.sharpe_moments import sharpe_moments

CONFIDENCE = 0.95


def holdout_band(returns: FloatColumn, holdout_days: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the prediction interval of the annualised Sharpe ratio of days that follow.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        Daily, in sample; no NaN, n >= 2.
    holdout_days : int
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : float
        NaN where either part has fewer than 2 days or the returns do not vary.

    Notes
    -----
    Both estimates err: the squared standard errors (Mertens 2002) of the two parts add up, with the moments of the first.
    """
    if min(len(returns), holdout_days) < 2 or not float(returns.std()) > 1e-12:
        return math.nan, math.nan
    moments = sharpe_moments(returns)
    past, future = (
        sharpe_standard_error(moments.sharpe, days, moments.skew, moments.kurtosis)
        for days in (len(returns), holdout_days)
    )
    reach = NORMAL.inv_cdf(0.5 + confidence / 2.0) * math.hypot(past, future)
    scale = math.sqrt(PERIODS_PER_YEAR)
    return scale * (moments.sharpe - reach), scale * (moments.sharpe + reach)
