"""Which bars a strategy is fitted on and which judge it: walk-forward windows and combinatorial purged splits."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FloatArray
from engine.errors import BadRequest, TooLarge

WalkForwardMode = Literal["rolling", "anchored"]
RowIndex = NDArray[np.int64]
# Every split is a search of its own.
MOST_SPLITS = 5_000


@dataclass(frozen=True, slots=True)
class WalkForwardWindow:
    """Bars [in_sample_start, in_sample_end) to fit on, bars [out_of_sample_start, out_of_sample_end) to judge."""

    in_sample_start: int
    in_sample_end: int
    out_of_sample_start: int
    out_of_sample_end: int


@dataclass(frozen=True, slots=True, eq=False)
class PurgedSplit:
    """One split of combinatorial cross-validation.

    Attributes
    ----------
    train : ndarray of int64
        Observations to fit on, ascending: outside the test folds, their purge and their embargo.
    test_folds : tuple of int
    tests : tuple of (int, int)
        [start, end) of each test fold.
    """

    train: RowIndex
    test_folds: tuple[int, ...]
    tests: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class CombinatorialSplits:
    """All splits, and how their test folds join into paths.

    Attributes
    ----------
    splits : tuple of PurgedSplit
        C(folds, test_folds) of them, in the order of the combinations.
    paths : ndarray of int64, shape (folds, paths)
        The split whose test of that fold belongs to the path; C(folds - 1, test_folds - 1) paths.
    bounds : tuple of (int, int)
        [start, end) of each fold.
    """

    splits: tuple[PurgedSplit, ...]
    paths: RowIndex
    bounds: tuple[tuple[int, int], ...]


def walk_forward_windows(
    bars: int,
    windows: int,
    in_sample_ratio: float = 0.7,
    mode: WalkForwardMode = "rolling",
    purge_bars: int = 0,
    embargo_bars: int = 0,
) -> tuple[WalkForwardWindow, ...]:
    """Cut a range into windows whose out-of-sample parts are disjoint, adjoin and end with the last bar.

    Parameters
    ----------
    bars : int
        Bars that can be traded (without the warm-up).
    windows : int
        At least 1.
    in_sample_ratio : float
        In-sample share of a rolling window, of the first one when anchored; in (0, 1).
    mode : str
        `rolling`: every in-sample part has the same length; `anchored`: every one begins with the first bar.
    purge_bars : int
        Longest holding period: a trade entered in sample must have ended before the judging begins.
    embargo_bars : int
        Bars left out besides, for dependence that outlives the trades. Both are taken from the end of the in-sample
        part, so that the out-of-sample parts stay without gaps.

    Returns
    -------
    tuple of WalkForwardWindow
        Bars that do not divide evenly lengthen the in-sample parts.

    >>> [(window.in_sample_start, window.in_sample_end, window.out_of_sample_end)
    ...  for window in walk_forward_windows(100, 2, 0.6, purge_bars=5)]
    [(0, 39, 72), (28, 67, 100)]
    """
    if bars < 2 or windows < 1 or not 0 < in_sample_ratio < 1 or min(purge_bars, embargo_bars) < 0:
        raise BadRequest(
            f"{windows} windows of {bars} bars, in-sample ratio {in_sample_ratio}, gap {purge_bars} + {embargo_bars}",
            fix="windows is at least 1, in_sample_ratio between 0 and 1, purge and embargo 0 or more",
        )
    judged = math.floor(bars / (in_sample_ratio / (1.0 - in_sample_ratio) + windows) + 1e-9)
    fitted = bars - windows * judged
    gap = purge_bars + embargo_bars
    if judged < 1 or fitted - gap < 1:
        raise BadRequest(
            f"{bars} bars in {windows} windows leave {judged} out-of-sample bars a window and, less purge {purge_bars} and "
            f"embargo {embargo_bars}, {max(fitted - gap, 0)} in-sample bars",
            fix="ask for fewer windows, a smaller purge and embargo, or a longer range",
        )
    return tuple(
        WalkForwardWindow(
            in_sample_start=0 if mode == "anchored" else window * judged,
            in_sample_end=fitted + window * judged - gap,
            out_of_sample_start=fitted + window * judged,
            out_of_sample_end=fitted + (window + 1) * judged,
        )
        for window in range(windows)
    )


def walk_forward_efficiency(in_sample: float, out_of_sample: float) -> float | None:
    """Return the out-of-sample result per unit of the in-sample one, both annualised; None without a gain in sample."""
    return out_of_sample / in_sample if in_sample > 0 else None


def combinatorial_purged_splits(
    observations: int, folds: int, test_folds: int, purge: int = 0, embargo: int = 0
) -> CombinatorialSplits:
    """Leave every choice of folds out once, and whatever overlaps with them in time.

    Parameters
    ----------
    observations : int
    folds : int
        At least 3; consecutive, the last one takes the remainder.
    test_folds : int
        At least 2 and below `folds`.
    purge : int
        Observations left out on both sides of a test fold: longest holding time + horizon of the target.
    embargo : int
        Observations left out after a test fold besides.

    Notes
    -----
    Lopez de Prado 2018, "Advances in financial machine learning", chapter 12.

    >>> made = combinatorial_purged_splits(60, 6, 2)
    >>> len(made.splits), made.paths.shape[1]
    (15, 5)
    """
    if folds < 3 or not 2 <= test_folds < folds or min(purge, embargo) < 0:
        raise BadRequest(
            f"{folds} folds, {test_folds} of them for tests, purge {purge}, embargo {embargo}",
            fix="folds is at least 3, test_folds from 2 to folds - 1, purge and embargo 0 or more",
        )
    count = math.comb(folds, test_folds)
    if count > MOST_SPLITS:
        raise TooLarge(f"{count:,} splits; at most {MOST_SPLITS:,}", fix="ask for fewer folds, such as 6 with 2 tests")
    length = observations // folds
    if purge + embargo >= length - 1:
        raise BadRequest(
            f"purge {purge} and embargo {embargo} leave nothing of a fold of {length} observations",
            fix="ask for fewer folds, a smaller purge or embargo, or a longer range",
        )
    ends = [*range(length, length * folds, length), observations]
    bounds = tuple(zip((0, *ends[:-1]), ends, strict=True))
    chosen = tuple(itertools.combinations(range(folds), test_folds))
    splits = tuple(
        PurgedSplit(_train_rows(observations, [bounds[fold] for fold in tests], purge, embargo), tests,
                    tuple(bounds[fold] for fold in tests))
        for tests in chosen
    )  # fmt: skip
    paths = [[row for row, tests in enumerate(chosen) if fold in tests] for fold in range(folds)]
    return CombinatorialSplits(splits, np.array(paths, np.int64), bounds)


def _train_rows(observations: int, tests: list[tuple[int, int]], purge: int, embargo: int) -> RowIndex:
    is_train = np.ones(observations, np.bool_)
    for start, end in tests:
        is_train[max(0, start - purge) : end + purge + embargo] = False
    return np.flatnonzero(is_train).astype(np.int64)


def assemble_paths(splits: CombinatorialSplits, tested: FloatArray) -> FloatArray:
    """Join the out-of-sample results of the splits into complete paths.

    Parameters
    ----------
    splits : CombinatorialSplits
    tested : ndarray of float64, shape (splits, observations)
        Results of each split; only its test folds are read.

    Returns
    -------
    ndarray of float64, shape (paths, observations)
        Every observation of every path was judged by a strategy that was not fitted on it.
    """
    observations = splits.bounds[-1][1]
    if tested.shape != (len(splits.splits), observations):
        raise BadRequest(
            f"results of shape {tested.shape}; ({len(splits.splits)}, {observations}) is needed",
            fix="hand in one row per split and one column per observation",
        )
    paths = np.empty((splits.paths.shape[1], observations))
    for fold, (start, end) in enumerate(splits.bounds):
        paths[:, start:end] = tested[splits.paths[fold], start:end]
    return paths
