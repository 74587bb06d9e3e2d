"""The matrix of returns that every test of many trials reads: its shape, its checks and its standardised rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRequest

# One row per trial, one column per day (or bar); float32 halves memory and time, float64 is exact.
ReturnMatrix = NDArray[np.float32 | np.float64]
FloatArray = NDArray[np.float64]
RandomSource = np.random.Generator | np.random.RandomState

# A spread below this share of the largest return is rounding, not risk.
FLAT_SHARE = 1e-6
# Temporary arrays stay in cache and far below the memory a laptop has to spare.
CHUNK_VALUES = 1 << 20


def checked_matrix(returns: ReturnMatrix, *, fewest_observations: int = 2, fewest_trials: int = 1) -> ReturnMatrix:
    """Return the matrix as float32 or float64 of shape (trials, observations), or refuse it.

    Parameters
    ----------
    returns : ndarray, shape (trials, observations)
        NaN and infinities are refused: a missing day is a flat day (0) or no day at all, and only the caller knows.
    fewest_observations, fewest_trials : int
    """
    matrix = np.asarray(returns)
    if matrix.ndim != 2:
        raise BadRequest(
            f"the returns have {matrix.ndim} dimensions, 2 are needed", fix="one row per trial, one column per day"
        )
    trials, observations = matrix.shape
    if trials < fewest_trials or observations < fewest_observations:
        raise BadRequest(
            f"{trials} trials of {observations} returns; {fewest_trials} trials of {fewest_observations} are needed",
            fix="evaluate more trials or a longer range",
        )
    if matrix.dtype != np.float32:
        matrix = matrix.astype(np.float64, copy=False)
    refuse_missing(matrix)
    return matrix


def checked_series(returns: FloatArray, *, fewest: int = 2) -> FloatArray:
    """Return one series of returns as float64 of shape (n,), or refuse it: NaN, infinities and too few."""
    series = np.asarray(returns, np.float64)
    if series.ndim != 1 or len(series) < fewest:
        raise BadRequest(
            f"returns of shape {series.shape}; a series of at least {fewest} is needed", fix="test a longer range"
        )
    refuse_missing(series)
    return series


def refuse_missing(values: ReturnMatrix) -> None:
    """Raise when a value is NaN or infinite."""
    # A NaN or an infinity makes the sum one too; adding up is one pass without a temporary.
    with np.errstate(all="ignore"):
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total) and not np.isfinite(values).all():
        raise BadRequest("the returns hold NaN or infinite values", fix="fill missing days with 0 or cut them off")


def row_chunks(trials: int, width: int) -> Iterator[slice]:
    """Cut the rows of a (trials, width) array so that a chunk holds at most `CHUNK_VALUES` values."""
    step = max(1, CHUNK_VALUES // max(width, 1))
    for start in range(0, trials, step):
        yield slice(start, min(start + step, trials))


def standardised(rows: ReturnMatrix) -> tuple[ReturnMatrix, NDArray[np.bool_]]:
    """Return rows with mean 0 and length 1, so that a product of two is their correlation, and which rows are flat.

    Parameters
    ----------
    rows : ndarray, shape (trials, observations)

    Returns
    -------
    unit_rows : ndarray of the same shape and dtype
        0 where the row is flat.
    is_flat : ndarray of bool, shape (trials,)
        The spread is rounding noise beside the largest return: a trial that never traded.
    """
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    is_flat = lengths <= FLAT_SHARE * np.abs(rows).max(axis=1) * np.sqrt(rows.shape[1])
    centred /= np.where(is_flat, 1, lengths)[:, None].astype(centred.dtype)
    centred[is_flat] = 0
    return centred, is_flat
