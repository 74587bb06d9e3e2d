"""The stationary bootstrap: resampled rows that keep the dependence inside blocks, and how long the blocks should be."""

from __future__ import annotations

import math
from typing import overload

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FloatArray, RandomSource, ReturnMatrix, checked_matrix, row_chunks
from engine.errors import BadRequest

Indices = NDArray[np.int64]


def stationary_indices(observations: int, samples: int, mean_block: float, random: RandomSource) -> Indices:
    """Draw the rows of bootstrap samples: blocks of geometric length that start anywhere and wrap around.

    Parameters
    ----------
    observations : int
    samples : int
    mean_block : float
        Expected block length in observations, at least 1 (1 is the independent bootstrap).
    random : Generator or RandomState
        For each sample draws `observations` starts, then as many uniforms: the draws of the package arch.

    Returns
    -------
    ndarray of int64, shape (samples, observations)
        In [0, observations).

    Notes
    -----
    Politis and Romano 1994, "The stationary bootstrap".
    """
    if observations < 1 or samples < 1 or not 1 <= mean_block < math.inf:
        raise BadRequest(
            f"{samples} samples of {observations} observations in blocks of {mean_block}",
            fix="samples and observations are at least 1, the mean block length too",
        )
    starts = np.empty((samples, observations), np.int64)
    uniforms = np.empty((samples, observations))
    for row in range(samples):
        if isinstance(random, np.random.Generator):
            starts[row] = random.integers(observations, size=observations, dtype=np.int64)
            uniforms[row] = random.random(observations)
        else:
            starts[row] = random.randint(observations, size=observations, dtype=np.int64)
            uniforms[row] = random.random_sample(observations)
    places = np.arange(observations)
    is_start = uniforms <= 1.0 / mean_block
    is_start[:, 0] = True
    # The place where the block of each observation began.
    begun = np.maximum.accumulate(np.where(is_start, places, 0), axis=1)
    return (np.take_along_axis(starts, begun, axis=1) + (places - begun)) % observations


def sample_counts(indices: Indices, dtype: type[np.float32 | np.float64]) -> ReturnMatrix:
    """Count how often each bootstrap sample drew each observation: counts @ returns.T / n are the sample means.

    Returns
    -------
    ndarray of `dtype`, shape (samples, observations)
    """
    samples, observations = indices.shape
    flat = (indices + np.arange(samples)[:, None] * observations).ravel()
    counts = np.bincount(flat, minlength=samples * observations)
    return counts.reshape(samples, observations).astype(dtype)


@overload
def optimal_block_length(returns: FloatArray) -> float: ...
@overload
def optimal_block_length(returns: ReturnMatrix, *, per_trial: bool) -> FloatArray: ...
def optimal_block_length(returns: ReturnMatrix, *, per_trial: bool = False) -> float | FloatArray:
    """Return the mean block length that estimates the variance of a mean best.

    Parameters
    ----------
    returns : ndarray, shape (n,), or (trials, n) with `per_trial`
        n >= 9, no NaN.
    per_trial : bool
        Answer for each row of a matrix.

    Returns
    -------
    float or ndarray of float64, shape (trials,)
        In [1, ceil(min(3 sqrt(n), n / 3))]; 1 for returns that do not vary.

    Notes
    -----
    Politis and White 2004, "Automatic block-length selection for the dependent bootstrap", with the correction of
    Patton, Politis and White 2009; the lag is chosen as in Patton's program. Independent returns ask for blocks
    shorter than 1, which do not exist.
    """
    matrix = checked_matrix(returns if per_trial else returns[None, :], fewest_observations=9)
    trials, observations = matrix.shape
    lengths = np.empty(trials)
    for rows in row_chunks(trials, observations):
        lengths[rows] = _block_lengths(matrix[rows].astype(np.float64))
    return lengths if per_trial else float(lengths[0])


def _block_lengths(rows: FloatArray) -> FloatArray:
    count = rows.shape[1]
    needed = max(5, int(math.log10(count)))
    last_lag = min(math.ceil(math.sqrt(count)) + needed, count - 2)
    centred = rows - rows.mean(axis=1, keepdims=True)
    covariances, correlations = _autocovariances(centred, last_lag)
    band = 2.0 * math.sqrt(math.log10(count) / count)
    lags = np.arange(last_lag + 1)
    is_small = np.abs(correlations) < band
    # The first lag after which `needed` correlations in a row stay inside the band.
    runs = np.lib.stride_tricks.sliding_window_view(is_small[:, :-1], needed, axis=1).all(axis=-1)
    bandwidth = np.where(runs.any(axis=-1), 2 * np.maximum(runs.argmax(axis=-1), 1), last_lag)
    bandwidth = np.minimum(bandwidth, last_lag)[:, None]
    weights = np.where(lags <= bandwidth, np.clip(2.0 * (1.0 - lags / bandwidth), 0.0, 1.0), 0.0)
    weighted = 2.0 * weights[:, 1:] * covariances[:, 1:]
    slope = (weighted * lags[1:]).sum(axis=1)
    spectrum = covariances[:, 0] + weighted.sum(axis=1)
    with np.errstate(all="ignore"):
        lengths = np.cbrt(slope**2 / spectrum**2 * count)
    longest = math.ceil(min(3.0 * math.sqrt(count), count / 3.0))
    return np.where(np.isnan(lengths), 1.0, np.clip(lengths, 1.0, longest))


def _autocovariances(centred: FloatArray, last_lag: int) -> tuple[FloatArray, FloatArray]:
    """Return autocovariances (divided by n) and correlations of the overlapping parts, shape (trials, last_lag + 1)."""
    trials, count = centred.shape
    covariances, correlations = np.empty((2, trials, last_lag + 1))
    for lag in range(last_lag + 1):
        ahead, behind = centred[:, lag + 1 :], centred[:, : count - lag - 1]
        products = np.einsum("ij,ij->i", centred[:, lag:], centred[:, : count - lag])
        sizes = np.sqrt(np.einsum("ij,ij->i", ahead, ahead) * np.einsum("ij,ij->i", behind, behind))
        covariances[:, lag] = products / count
        # Returns that do not vary are uncorrelated.
        correlations[:, lag] = np.divide(products, sizes, out=np.zeros(trials), where=sizes > 0)
    return covariances, correlations
