"""Walk-forward windows and combinatorial purged splits: by hand, as invariants, and against skfolio."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.core.validation.splits import (
    WalkForwardMode,
    WalkForwardWindow,
    assemble_paths,
    combinatorial_purged_splits,
    walk_forward_efficiency,
    walk_forward_windows,
)
from engine.errors import BadRequest, TooLarge


def test_rolling_windows_by_hand() -> None:
    # 700 = 300 fitted + 4 x 100 judged; 0.75 = 300 / (300 + 100).
    assert walk_forward_windows(700, 4, 0.75, "rolling", purge_bars=10, embargo_bars=5) == (
        WalkForwardWindow(0, 285, 300, 400),
        WalkForwardWindow(100, 385, 400, 500),
        WalkForwardWindow(200, 485, 500, 600),
        WalkForwardWindow(300, 585, 600, 700),
    )


def test_anchored_windows_by_hand() -> None:
    assert walk_forward_windows(700, 4, 0.75, "anchored") == (
        WalkForwardWindow(0, 300, 300, 400),
        WalkForwardWindow(0, 400, 400, 500),
        WalkForwardWindow(0, 500, 500, 600),
        WalkForwardWindow(0, 600, 600, 700),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    bars=st.integers(2, 5_000),
    windows=st.integers(1, 20),
    ratio=st.floats(0.05, 0.95),
    mode=st.sampled_from(["rolling", "anchored"]),
    purge=st.integers(0, 50),
    embargo=st.integers(0, 20),
)
def test_judged_parts_are_disjoint_adjoin_and_follow_what_was_fitted(
    bars: int, windows: int, ratio: float, mode: WalkForwardMode, purge: int, embargo: int
) -> None:
    try:
        made = walk_forward_windows(bars, windows, ratio, mode, purge, embargo)
    except BadRequest as error:
        assume("leave" not in error.message)
        raise
    assert len(made) == windows
    assert made[-1].out_of_sample_end == bars
    lengths = {window.out_of_sample_end - window.out_of_sample_start for window in made}
    assert len(lengths) == 1
    for window, following in itertools.pairwise(made):
        assert following.out_of_sample_start == window.out_of_sample_end
    for window in made:
        assert 0 <= window.in_sample_start < window.in_sample_end
        assert window.in_sample_end + purge + embargo == window.out_of_sample_start < window.out_of_sample_end
        assert mode == "rolling" or window.in_sample_start == 0
    if mode == "rolling":
        assert len({window.in_sample_end - window.in_sample_start for window in made}) == 1


def test_the_ratio_asked_for_is_met_to_a_few_bars() -> None:
    for ratio in (0.5, 0.6, 0.7, 0.8, 0.9):
        first = walk_forward_windows(9_000, 7, ratio)[0]
        assert (first.in_sample_end - first.in_sample_start) / first.out_of_sample_end == pytest.approx(
            ratio, abs=0.003
        )


def test_efficiency_is_undefined_without_a_gain_in_sample() -> None:
    assert walk_forward_efficiency(2.0, 1.0) == 0.5
    assert walk_forward_efficiency(0.0, 1.0) is None
    assert walk_forward_efficiency(-1.0, -1.0) is None


@pytest.mark.parametrize(
    ("bars", "windows", "ratio", "purge"),
    [(1, 1, 0.5, 0), (100, 0, 0.5, 0), (100, 2, 1.0, 0), (100, 2, 0.5, -1), (9, 20, 0.5, 0), (100, 2, 0.5, 60)],
)
def test_windows_that_cannot_be_made_are_refused(bars: int, windows: int, ratio: float, purge: int) -> None:
    with pytest.raises(BadRequest) as caught:
        walk_forward_windows(bars, windows, ratio, purge_bars=purge)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("observations", "folds", "tests", "purge", "embargo"),
    [(60, 6, 2, 0, 0), (64, 6, 2, 2, 1), (103, 10, 8, 3, 2), (50, 5, 3, 0, 4), (31, 3, 2, 4, 0)],
)
def test_splits_and_paths_are_those_of_skfolio(
    observations: int, folds: int, tests: int, purge: int, embargo: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selection: Any = pytest.importorskip(
            "skfolio.model_selection", reason="skfolio is in the dependency group oracles"
        )
        oracle = selection.CombinatorialPurgedCV(
            n_folds=folds, n_test_folds=tests, purged_size=purge, embargo_size=embargo
        )
        expected = list(oracle.split(np.zeros((observations, 1))))
    made = combinatorial_purged_splits(observations, folds, tests, purge, embargo)
    assert len(made.splits) == oracle.n_splits
    assert made.paths.tolist() == oracle.recombined_paths.tolist()
    for split, (train, judged) in zip(made.splits, expected, strict=True):
        assert split.train.tolist() == train.tolist()
        assert [list(range(*bounds)) for bounds in split.tests] == [rows.tolist() for rows in judged]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    folds=st.integers(3, 8),
    tests=st.integers(2, 4),
    length=st.integers(10, 20),
    rest=st.integers(0, 5),
    purge=st.integers(0, 4),
    embargo=st.integers(0, 4),
)
def test_nothing_near_a_test_is_fitted_on_and_every_path_is_complete(
    folds: int, tests: int, length: int, rest: int, purge: int, embargo: int
) -> None:
    assume(tests < folds)
    observations = folds * length + rest
    made = combinatorial_purged_splits(observations, folds, tests, purge, embargo)
    for split in made.splits:
        for start, end in split.tests:
            near = (split.train >= start - purge) & (split.train < end + purge + embargo)
            assert not near.any()
    # Each split writes its number where it tests; a path must not hold anything else.
    tested = np.full((len(made.splits), observations), np.nan)
    for row, split in enumerate(made.splits):
        for start, end in split.tests:
            tested[row, start:end] = row
    paths = assemble_paths(made, tested)
    assert not np.isnan(paths).any()
    # No test is used twice.
    used = {(int(path[start]), start) for path in paths for start, _ in made.bounds}
    assert len(used) == len(made.splits) * tests


@pytest.mark.parametrize(
    ("observations", "folds", "tests", "purge"),
    [(60, 2, 1, 0), (60, 6, 1, 0), (60, 6, 6, 0), (60, 6, 2, 9), (60, 6, 2, -1)],
)
def test_splits_that_cannot_be_made_are_refused(observations: int, folds: int, tests: int, purge: int) -> None:
    with pytest.raises(BadRequest):
        combinatorial_purged_splits(observations, folds, tests, purge)


def test_more_splits_than_anyone_can_fit_are_refused() -> None:
    with pytest.raises(TooLarge):
        combinatorial_purged_splits(10_000, 30, 15)


def test_results_of_another_shape_do_not_make_paths() -> None:
    with pytest.raises(BadRequest):
        assemble_paths(combinatorial_purged_splits(60, 6, 2), np.zeros((14, 60)))
