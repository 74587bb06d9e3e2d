"""The compiled loop of cross-validation over halves: the best trial of each half, and its rank in the other half."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FloatArray

# Rows of the table of outcomes: relative rank of the chosen trial in the other half, its score there and here.
RANK, FOUND, CHOSEN, OUTCOMES = range(4)


@njit(cache=True, nogil=True, error_model="numpy")
def _score(total: float, square: float, count: float, flat: float) -> float:
    """Return s |s| of a Sharpe ratio s, which orders as s does and needs no root; 0 without a spread."""
    mean = total / count
    variance = (square - total * mean) / (count - 1.0)
    return mean * abs(mean) / variance if variance > flat else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _rank(scores: FloatArray, winner: int) -> float:
    found = scores[winner]
    below, equal = 0, 0
    for trial in range(len(scores)):
        below += scores[trial] < found
        equal += scores[trial] == found
    return (below + (equal + 1) / 2.0) / (len(scores) + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def rank_winners(
    halves: NDArray[np.int64],
    sums: FloatArray,
    squares: FloatArray,
    observations: float,
    flat: float,
    outcomes: FloatArray,
) -> None:
    """Fill `outcomes` for each half and its complement.

    Parameters
    ----------
    halves : ndarray of int64, shape (n, blocks / 2)
        Blocks of each half; the complement of row i has row 2 n - 1 - i of the outcomes.
    sums, squares : ndarray of float64, shape (blocks, trials)
    observations : float
        In a half.
    flat : float
        Variances up to this are none.
    outcomes : ndarray of float64, shape (OUTCOMES, 2 n)
    """
    trials = sums.shape[1]
    total, square = np.zeros(trials), np.zeros(trials)
    for block in range(len(sums)):
        total += sums[block]
        square += squares[block]
    half, half_square = np.empty(trials), np.empty(trials)
    here, there = np.empty(trials), np.empty(trials)
    for row in range(len(halves)):
        half[:] = 0.0
        half_square[:] = 0.0
        for block in halves[row]:
            for trial in range(trials):
                half[trial] += sums[block, trial]
                half_square[trial] += squares[block, trial]
        for trial in range(trials):
            here[trial] = _score(half[trial], half_square[trial], observations, flat)
            there[trial] = _score(total[trial] - half[trial], square[trial] - half_square[trial], observations, flat)
        best, other = int(np.argmax(here)), int(np.argmax(there))
        mirror = 2 * len(halves) - 1 - row
        outcomes[RANK, row] = _rank(there, best)
        outcomes[FOUND, row], outcomes[CHOSEN, row] = there[best], here[best]
        outcomes[RANK, mirror] = _rank(here, other)
        outcomes[FOUND, mirror], outcomes[CHOSEN, mirror] = here[other], there[other]
