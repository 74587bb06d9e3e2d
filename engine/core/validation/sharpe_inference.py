"""How sure a Sharpe ratio is: standard error, probabilistic and deflated Sharpe, and track record lengths.

Everything here is per observation, never annualised, unless the name says so; kurtosis is raw (3 for a normal law).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import overload

import numpy as np

from engine.core.validation.return_matrix import FloatArray
from engine.errors import BadRequest

NORMAL = NormalDist()
EULER_GAMMA = 0.5772156649015329


@overload
def sharpe_standard_error(sharpe: float, observations: float, skew: float = ..., kurtosis: float = ...) -> float: ...
@overload
def sharpe_standard_error(
    sharpe: FloatArray, observations: float, skew: FloatArray = ..., kurtosis: FloatArray = ...
) -> FloatArray: ...
def sharpe_standard_error(
    sharpe: float | FloatArray, observations: float, skew: float | FloatArray = 0.0, kurtosis: float | FloatArray = 3.0
) -> float | FloatArray:
    """Return the standard error of a Sharpe ratio of returns that need not be normal.

    Parameters
    ----------
    sharpe : float or ndarray of float64, shape (trials,)
        Per observation.
    observations : float
        At least 2.
    skew, kurtosis : float or ndarray
        Kurtosis raw. No distribution has kurtosis < 1 + skew^2; such values are refused. NaN stays NaN.

    Notes
    -----
    sqrt((1 - skew s + (kurtosis - 1)/4 s^2) / (T - 1)): Mertens 2002; Bailey and Lopez de Prado 2012, eq. 8.

    >>> round(sharpe_standard_error(0.7079, 134, -0.2250, 2.9570), 4)
    0.1028
    """
    errors = np.sqrt(_unit_variance(sharpe, skew, kurtosis) / (_checked_count(observations) - 1.0))
    return errors if isinstance(sharpe, np.ndarray) else float(errors)


def _unit_variance(sharpe: float | FloatArray, skew: float | FloatArray, kurtosis: float | FloatArray) -> FloatArray:
    """Return (T - 1) times the variance of the estimate."""
    third, fourth = np.asarray(skew, np.float64), np.asarray(kurtosis, np.float64)
    if np.any(fourth < 1.0 + third**2 - 1e-6):
        raise BadRequest(
            "no distribution has kurtosis below 1 + skew^2", fix="hand in raw kurtosis (3 for a normal law), not excess"
        )
    ratio = np.asarray(sharpe, np.float64)
    # Exactly zero for the two-point law at its own Sharpe; rounding may fall below.
    return np.maximum(1.0 - third * ratio + (fourth - 1.0) / 4.0 * ratio**2, 0.0)


def _checked_count(observations: float) -> float:
    if not 2 <= observations < math.inf:
        raise BadRequest(f"{observations} observations; at least 2 are needed", fix="test a longer range")
    return observations


def probabilistic_sharpe(
    sharpe: float, benchmark: float, observations: float, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Return the probability that the true Sharpe ratio lies above a benchmark.

    Parameters
    ----------
    sharpe, benchmark : float
        Per observation, both at the same frequency.
    observations : float
    skew, kurtosis : float
        Kurtosis raw.

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Phi((s - s*) / sigma(s)): Bailey and Lopez de Prado 2012, "The Sharpe ratio efficient frontier", eq. 11.

    >>> round(probabilistic_sharpe(0.458, 0.0, 24, -2.448, 10.164), 3)
    0.913
    """
    error = sharpe_standard_error(sharpe, observations, skew, kurtosis)
    excess = sharpe - benchmark
    if error <= 0.0:
        return 0.5 if excess == 0 else float(excess > 0)
    return NORMAL.cdf(excess / error)


def expected_max_sharpe(trials: float, variance: float = 1.0) -> float:
    """Return the Sharpe ratio that the best of some trials without skill is expected to show.

    Parameters
    ----------
    trials : float
        Independent trials, or their effective number; at least 1.
    variance : float
        Of the Sharpe ratios of the trials, at the frequency wanted back.

    Returns
    -------
    float
        At least 0; 0 for a single trial.

    Notes
    -----
    sqrt(V) ((1 - g) z(1 - 1/N) + g z(1 - 1/(N e))), g Euler's constant: Bailey and Lopez de Prado 2014, "The deflated
    Sharpe ratio", eq. 1. It is an approximation for large N and falls below zero under N = 1.36; there it is cut off.

    >>> [round(expected_max_sharpe(trials), 4) for trials in (10, 100, 1000)]
    [1.5746, 2.5306, 3.2551]
    """
    if not 1 <= trials < math.inf:
        raise BadRequest(f"{trials} trials; at least 1 is needed", fix="count the trials of the study")
    if not 0 <= variance < math.inf:
        raise BadRequest(f"variance {variance} of the Sharpe ratios", fix="a variance is a number of 0 or more")
    if trials == 1:
        return 0.0
    upper = NORMAL.inv_cdf(1.0 - 1.0 / trials)
    further = NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * max(0.0, (1.0 - EULER_GAMMA) * upper + EULER_GAMMA * further)


def trials_of_expected_max(expected_max: float, most: float) -> float:
    """Return the number of independent trials whose expected maximum, in standard deviations, is the one given.

    Parameters
    ----------
    expected_max : float
        In units of the standard deviation of one trial.
    most : float
        Upper end of the answer.

    Returns
    -------
    float
        In [1, most]; 1 when the expected maximum is zero or less.

    >>> round(trials_of_expected_max(2.530602, 1e6), 1)
    100.0
    """
    if expected_max <= 0.0 or most <= 1.0:
        return 1.0
    low, high = 0.0, math.log(most)
    if expected_max_sharpe(most) <= expected_max:
        return float(most)
    # The expected maximum rises with the number of trials, and 60 halvings exhaust a float.
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expected_max_sharpe(math.exp(middle)) < expected_max else (low, middle)
    return math.exp(high)


def deflated_sharpe(
    sharpe: float,
    trials: float,
    variance: float,
    observations: float,
    skew: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Return the probability that the best of several trials has skill at all: its Sharpe beats the expected maximum.

    Parameters
    ----------
    sharpe : float
        Of the chosen trial, per observation.
    trials : float
        Independent trials, or their effective number.
    variance : float
        Of the trials' Sharpe ratios per observation. With `effective_trials` it is the variance that the estimate of
        one trial has without skill, 1 / (T - 1): the spread between correlated trials already leaves out what they
        share, and both together would count the correlation twice.
    observations : float
    skew, kurtosis : float
        Of the chosen trial, kurtosis raw.

    Notes
    -----
    Bailey and Lopez de Prado 2014, eq. 2.

    >>> daily = 2.5 / math.sqrt(250)
    >>> round(deflated_sharpe(daily, 100, 0.5 / 250, 1250, -3.0, 10.0), 4)
    0.9004
    """
    return probabilistic_sharpe(sharpe, expected_max_sharpe(trials, variance), observations, skew, kurtosis)


def minimum_track_record(
    sharpe: float, benchmark: float = 0.0, skew: float = 0.0, kurtosis: float = 3.0, confidence: float = 0.95
) -> float:
    """Return how many observations it takes to say with `confidence` that the Sharpe ratio beats the benchmark.

    Parameters
    ----------
    sharpe, benchmark, skew, kurtosis : float
        Per observation, kurtosis raw.
    confidence : float
        In (0.5, 1).

    Returns
    -------
    float
        Observations, not rounded; infinite when the Sharpe ratio does not exceed the benchmark.

    Notes
    -----
    1 + (1 - skew s + (kurtosis - 1)/4 s^2) (z / (s - s*))^2: Bailey and Lopez de Prado 2012, eq. 13.

    >>> round(minimum_track_record(0.7079, 0.0, -0.2250, 2.9570) / 12, 4)
    0.7152
    """
    checked_confidence(confidence)
    unit_variance = float(_unit_variance(sharpe, skew, kurtosis))
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + unit_variance * (NORMAL.inv_cdf(confidence) / (sharpe - benchmark)) ** 2


def minimum_backtest_years(trials: float, target_sharpe: float = 1.0) -> float:
    """Return the years below which the best of some trials without skill is expected to reach an annual Sharpe.

    Notes
    -----
    (E[max_N] / target)^2 in years, whatever the frequency: Bailey, Borwein, Lopez de Prado and Zhu 2014,
    "Pseudo-mathematics and financial charlatanism", theorem 2.

    >>> [round(minimum_backtest_years(trials), 2) for trials in (7, 10, 45)]
    [1.92, 2.48, 5.0]
    """
    if not 0 < target_sharpe < math.inf:
        raise BadRequest(f"target Sharpe {target_sharpe}", fix="the target is an annual Sharpe ratio above 0")
    return (expected_max_sharpe(trials) / target_sharpe) ** 2


def checked_confidence(confidence: float) -> None:
    """Refuse what is no confidence level."""
    if not 0.5 < confidence < 1:
        raise BadRequest(f"confidence {confidence}", fix="confidence is a share between 0.5 and 1, such as 0.95")
