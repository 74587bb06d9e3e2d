"""Choosing among trials under combinatorial purged cross-validation: not one out-of-sample record but several."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.core.validation.return_matrix import ReturnMatrix
from engine.core.validation.splits import assemble_paths, combinatorial_purged_splits
from engine.core.verdict.examination import annual_sharpe
from engine.core.verdict.study import sharpe_rows

FOLDS, TEST_FOLDS = 6, 2
_FEWEST_DAYS = 60


@dataclass(frozen=True, slots=True)
class CombinationFacts:
    """Annualised Sharpe ratios of the out-of-sample paths; NaN where there are too few days.

    Attributes
    ----------
    splits, paths : int
    low, median, high : float
        Over the paths.
    """

    splits: int
    paths: int
    low: float
    median: float
    high: float


def follow_combinations(returns: ReturnMatrix) -> CombinationFacts:
    """Choose the best trial on every choice of training folds and join what it does on the folds left out.

    Parameters
    ----------
    returns : ndarray, shape (trials, days)
        No NaN.

    Notes
    -----
    Lopez de Prado 2018, chapter 12, with 6 folds of which 2 are left out; a day beside each of them is purged, because a
    position may be held over midnight.
    """
    days = returns.shape[1]
    if days < _FEWEST_DAYS:
        return CombinationFacts(0, 0, math.nan, math.nan, math.nan)
    splits = combinatorial_purged_splits(days, FOLDS, TEST_FOLDS, purge=1)
    tested = np.zeros((len(splits.splits), days))
    for row, split in enumerate(splits.splits):
        best = int(sharpe_rows(returns[:, split.train]).argmax())
        tested[row] = returns[best]
    sharpes = np.array([annual_sharpe(path) for path in assemble_paths(splits, tested)])
    known = sharpes[np.isfinite(sharpes)]
    if len(known) == 0:
        return CombinationFacts(len(splits.splits), len(sharpes), math.nan, math.nan, math.nan)
    return CombinationFacts(
        len(splits.splits), len(sharpes), float(known.min()), float(np.median(known)), float(known.max())
    )
