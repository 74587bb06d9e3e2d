"""Probability of backtest overfitting: how the best trial of one half of the days ranks in the other half."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FLAT_SHARE, FloatArray, ReturnMatrix, checked_matrix, row_chunks
from engine.errors import BadRequest

MOST_BLOCKS = 20


@dataclass(frozen=True, slots=True, eq=False)
class OverfittingResult:
    """What combinatorially symmetric cross-validation found.

    Attributes
    ----------
    pbo : float
        Share of splits in which the best trial of one half ranks at or below the median of the other half.
    logits : ndarray of float64, shape (splits,)
        ln(w / (1 - w)), w the relative rank of the chosen trial in the other half; in the order of the combinations.
    degradation_slope : float
        Of the Sharpe ratio in the other half on the one in the chosen half, per unit; below 0 the better fit does
        worse. 0 when the chosen Sharpe ratios are all alike.
    probability_of_loss : float
        Share of splits in which the chosen trial loses in the other half.
    median_out_of_sample_sharpe : float
        Per observation.
    blocks, splits, trials, observations : int
        `observations` counts those used: a multiple of `blocks`.
    """

    pbo: float
    logits: FloatArray
    degradation_slope: float
    probability_of_loss: float
    median_out_of_sample_sharpe: float
    blocks: int
    splits: int
    trials: int
    observations: int


def probability_of_overfitting(returns: ReturnMatrix, blocks: int = 16) -> OverfittingResult:
    """Choose the best trial on every half of the blocks and see how it ranks on the other half.

    Parameters
    ----------
    returns : ndarray of float32 or float64, shape (trials, observations)
        At least 2 trials and 2 observations a block; no NaN. Observations beyond a multiple of `blocks` are left out
        at the end.
    blocks : int
        Even, 2 to 20. All C(blocks, blocks/2) splits are looked at: 12,870 for 16.

    Returns
    -------
    OverfittingResult

    Notes
    -----
    Bailey, Borwein, Lopez de Prado and Zhu 2017, "The probability of backtest overfitting", section 3. The measure is
    the Sharpe ratio, 0 for a trial that does not vary in a half; of equal best trials the first is chosen, equal ranks
    are averaged. Sums per block are taken once; a split is a sum of blocks.
    """
    if blocks % 2 or not 2 <= blocks <= MOST_BLOCKS:
        raise BadRequest(f"{blocks} blocks", fix=f"blocks is an even number from 2 to {MOST_BLOCKS}")
    matrix = checked_matrix(returns, fewest_observations=2 * blocks, fewest_trials=2)
    trials, observations = matrix.shape
    length = observations // blocks
    # Compiling takes a second and numba itself half of one: whoever only counts trials does without.
    from engine.core.validation.half_kernel import OUTCOMES, rank_winners

    sums, squares = _block_sums(matrix, blocks, length)
    halves = _first_halves(blocks)
    outcomes = np.empty((OUTCOMES, 2 * len(halves)))
    rank_winners(halves, sums, squares, blocks // 2 * length, FLAT_SHARE**2, outcomes)
    return _summary(outcomes, blocks, trials, blocks * length)


def _block_sums(matrix: ReturnMatrix, blocks: int, length: int) -> tuple[FloatArray, FloatArray]:
    """Return the sums of centred, scaled returns and of their squares per block, each of shape (blocks, trials)."""
    trials = len(matrix)
    sums, squares = np.empty((2, blocks, trials))
    for rows in row_chunks(trials, blocks * length):
        part = matrix[rows, : blocks * length].astype(np.float64)
        largest = np.abs(part).max(axis=1, keepdims=True)
        # The Sharpe ratio does not see the scale; at scale 1 a spread of rounding noise has a size of its own.
        part /= np.where(largest > 0, largest, 1.0)
        cut = part.reshape(len(part), blocks, length)
        sums[:, rows] = cut.sum(axis=2).T
        squares[:, rows] = np.einsum("ijk,ijk->ji", cut, cut)
    return sums, squares


def _first_halves(blocks: int) -> NDArray[np.int64]:
    """Return the combinations that hold block 0; their complements are the rest, in reverse order."""
    combinations = itertools.combinations(range(1, blocks), blocks // 2 - 1)
    return np.array([(0, *rest) for rest in combinations], np.int64)


def _summary(outcomes: FloatArray, blocks: int, trials: int, observations: int) -> OverfittingResult:
    rank, found, chosen = outcomes
    logits = np.log(rank / (1.0 - rank))
    outside, inside = np.sign(found) * np.sqrt(np.abs(found)), np.sign(chosen) * np.sqrt(np.abs(chosen))
    centred = inside - inside.mean()
    spread = float(centred @ centred)
    return OverfittingResult(
        pbo=float((logits <= 0).mean()),
        logits=logits,
        degradation_slope=float(centred @ outside) / spread if spread > 0 else 0.0,
        probability_of_loss=float((found < 0).mean()),
        median_out_of_sample_sharpe=float(np.median(outside)),
        blocks=blocks,
        splits=math.comb(blocks, blocks // 2),
        trials=trials,
        observations=observations,
    )
