"""The stationary bootstrap against the package arch, the slow recursion and the theory of its blocks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from engine.core.validation.bootstrap import optimal_block_length, sample_counts, stationary_indices
from engine.core.validation.return_matrix import RandomSource
from engine.errors import BadRequest


@pytest.fixture(scope="module")
def arch_bootstrap() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arch.bootstrap", reason="arch is in the dependency group oracles")


def trending(share: float, count: int, draws: np.random.Generator) -> np.ndarray:
    shocks = draws.standard_normal(count)
    for row in range(1, count):
        shocks[row] += share * shocks[row - 1]
    return shocks


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_indices_are_those_of_arch_for_the_same_draws(make: Any, arch_bootstrap: Any) -> None:
    theirs = [data[0][0] for data in arch_bootstrap.StationaryBootstrap(7, np.arange(60), seed=make(3)).bootstrap(8)]
    assert np.array_equal(np.array(theirs), stationary_indices(60, 8, 7, make(3)))


def test_indices_follow_the_recursion_one_by_one() -> None:
    found = stationary_indices(25, 6, 4.0, np.random.default_rng(9))
    draws = np.random.default_rng(9)
    for row in found:
        starts, uniforms = draws.integers(25, size=25), draws.random(25)
        place = 0
        for at in range(25):
            place = int(starts[at]) if at == 0 or uniforms[at] <= 0.25 else (place + 1) % 25
            assert row[at] == place


@pytest.mark.parametrize("random", [np.random.default_rng(1), np.random.RandomState(1)])
def test_blocks_have_the_mean_length_asked_for_and_draw_every_row_alike(random: RandomSource) -> None:
    indices = stationary_indices(200, 400, 8.0, random)
    continues = np.diff(indices, axis=1) % 200 == 1
    # A new block continues the old one by chance once in 200 times.
    assert continues.mean() == pytest.approx(1 - 1 / 8 + 1 / 8 / 200, abs=0.005)
    assert np.bincount(indices.ravel(), minlength=200).std() / 400 < 0.2


def test_blocks_of_one_are_the_independent_bootstrap() -> None:
    indices = stationary_indices(50, 300, 1.0, np.random.default_rng(2))
    assert (np.diff(indices, axis=1) % 50 == 1).mean() == pytest.approx(1 / 50, abs=0.01)


def test_counts_times_returns_are_the_sample_means() -> None:
    draws = np.random.default_rng(3)
    returns = draws.normal(size=(4, 30))
    indices = stationary_indices(30, 5, 3.0, draws)
    means = sample_counts(indices, np.float64) @ returns.T / 30
    for sample in range(5):
        for trial in range(4):
            assert means[sample, trial] == pytest.approx(returns[trial, indices[sample]].mean(), abs=1e-12)


@pytest.mark.parametrize(("observations", "samples", "block"), [(0, 1, 2), (5, 0, 2), (5, 1, 0.5), (5, 1, np.nan)])
def test_a_bootstrap_without_sense_is_refused(observations: int, samples: int, block: float) -> None:
    with pytest.raises(BadRequest):
        stationary_indices(observations, samples, block, np.random.default_rng(0))


def test_optimal_lengths_are_those_of_arch_but_never_below_one(arch_bootstrap: Any) -> None:
    draws = np.random.default_rng(4)
    for count in (30, 120, 833):
        rows = np.array([trending(share, count, draws) for share in (0.0, 0.0, 0.3, 0.6, 0.9, -0.5)])
        expected = arch_bootstrap.optimal_block_length(rows.T)["stationary"].to_numpy()
        found = optimal_block_length(rows, per_trial=True)
        assert found == pytest.approx(np.maximum(expected, 1.0), rel=1e-9)
        assert optimal_block_length(rows[4]) == found[4]


def test_more_dependence_asks_for_longer_blocks() -> None:
    draws = np.random.default_rng(5)
    lengths = [optimal_block_length(trending(share, 3_000, draws)) for share in (0.0, 0.4, 0.95)]
    assert lengths == sorted(lengths)
    assert lengths[2] > 10


def test_returns_that_do_not_vary_ask_for_blocks_of_one() -> None:
    assert optimal_block_length(np.zeros(100)) == 1.0


def test_too_short_a_series_has_no_optimal_length() -> None:
    with pytest.raises(BadRequest):
        optimal_block_length(np.arange(8.0))
