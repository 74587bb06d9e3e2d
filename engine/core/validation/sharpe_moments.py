"""Sharpe ratio, skew and kurtosis of one series of returns, or of every trial of a matrix, per observation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.core.validation.return_matrix import (
    FLAT_SHARE,
    FloatArray,
    ReturnMatrix,
    checked_matrix,
    checked_series,
    row_chunks,
)
from engine.errors import BadRequest


@dataclass(frozen=True, slots=True)
class SharpeMoments:
    """Sharpe ratio of one series per observation, with the moments that its standard error needs.

    Attributes
    ----------
    sharpe : float
        Mean / sample standard deviation (ddof 1).
    skew, kurtosis : float
        Population moments; kurtosis is raw.
    observations : int
    """

    sharpe: float
    skew: float
    kurtosis: float
    observations: int


@dataclass(frozen=True, slots=True, eq=False)
class TrialMoments:
    """The moments of many trials: ndarrays of float64, shape (trials,), NaN for a trial whose returns do not vary."""

    sharpe: FloatArray
    skew: FloatArray
    kurtosis: FloatArray
    observations: int


def sharpe_moments(returns: FloatArray) -> SharpeMoments:
    """Measure one series.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        Simple returns per observation; n >= 2, no NaN. A series that does not vary is refused.

    >>> round(sharpe_moments(np.array([0.01, 0.03])).sharpe, 4)
    1.4142
    """
    moments = trial_moments(checked_series(returns)[None, :])
    if math.isnan(moments.sharpe[0]):
        raise BadRequest("the returns do not vary, so they have no Sharpe ratio", fix="choose a run that trades")
    return SharpeMoments(
        float(moments.sharpe[0]), float(moments.skew[0]), float(moments.kurtosis[0]), moments.observations
    )


def trial_moments(returns: ReturnMatrix) -> TrialMoments:
    """Measure every trial of a matrix.

    Parameters
    ----------
    returns : ndarray of float32 or float64, shape (trials, observations)
        At least 2 observations, no NaN.

    Returns
    -------
    TrialMoments
        In float64; NaN where the spread of a trial is rounding noise.
    """
    matrix = checked_matrix(returns)
    trials, observations = matrix.shape
    table = np.empty((3, trials))
    for rows in row_chunks(trials, observations):
        table[:, rows] = _moments(matrix[rows].astype(np.float64))
    return TrialMoments(table[0], table[1], table[2], observations)


def _moments(rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    means = rows.mean(axis=1)
    centred = rows - means[:, None]
    squares = centred**2
    variance = squares.mean(axis=1)
    is_flat = np.sqrt(variance) <= FLAT_SHARE * np.abs(rows).max(axis=1)
    variance[is_flat] = math.nan
    count = rows.shape[1]
    return (
        means / np.sqrt(variance * count / (count - 1)),
        (squares * centred).mean(axis=1) / variance**1.5,
        (squares**2).mean(axis=1) / variance**2,
    )
