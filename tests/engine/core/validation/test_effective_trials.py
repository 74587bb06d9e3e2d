"""The effective number of trials: invariants, limits, and the calibration that made it the choice."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.core.validation.effective_trials import EffectiveTrials, effective_trials, null_sharpe_variance
from engine.core.validation.sharpe_inference import deflated_sharpe, expected_max_sharpe
from engine.core.validation.sharpe_moments import trial_moments
from engine.errors import BadRequest

Matrix = NDArray[np.float64]
DAYS = 250


def weigh(returns: Matrix, pairs: int = 512) -> EffectiveTrials:
    return effective_trials(returns, np.random.default_rng(1), pairs)


def alike(draws: np.random.Generator, trials: int, correlation: float) -> Matrix:
    common = draws.standard_normal(DAYS)
    return math.sqrt(correlation) * common + math.sqrt(1 - correlation) * draws.standard_normal((trials, DAYS))


def crossings(draws: np.random.Generator) -> Matrix:
    """Return daily returns of a grid of moving-average crossings, long only, on a random walk."""
    returns = 0.02 * draws.standard_normal(DAYS + 80)
    totals = np.concatenate(([0.0], np.cumsum(np.cumsum(returns))))

    def average(length: int) -> Matrix:
        return ((totals[length:] - totals[:-length]) / length)[-DAYS - 1 : -1]

    pairs = [(fast, slow) for fast in range(2, 20, 3) for slow in range(20, 80, 8)]
    return np.array([(average(fast) > average(slow)) * returns[-DAYS:] for fast, slow in pairs])


def blocks(draws: np.random.Generator) -> Matrix:
    return np.vstack([alike(draws, 10, 0.9) for _ in range(6)])


STUDIES: dict[str, Callable[[np.random.Generator], Matrix]] = {
    "independent": lambda draws: draws.standard_normal((60, DAYS)),
    "all correlate": lambda draws: alike(draws, 60, 0.9),
    "blocks": blocks,
    "crossings": crossings,
}


@pytest.mark.parametrize("kind", STUDIES)
def test_the_deflated_sharpe_keeps_its_promise_on_noise(kind: str) -> None:
    draws = np.random.default_rng(11)
    bests, hurdles, passed = [], [], 0
    studies = 150
    for _ in range(studies):
        returns = STUDIES[kind](draws)
        moments = trial_moments(returns)
        best = int(np.nanargmax(moments.sharpe))
        found = effective_trials(returns, draws, 64)
        variance = null_sharpe_variance(DAYS)
        bests.append(moments.sharpe[best])
        hurdles.append(expected_max_sharpe(found.effective, variance))
        deflated = deflated_sharpe(
            bests[-1], found.effective, variance, DAYS, float(moments.skew[best]), float(moments.kurtosis[best])
        )
        passed += deflated > 0.95
    # The hurdle is the average best of all trials without skill, whatever their correlation.
    error = float(np.std(bests)) / math.sqrt(studies)
    assert abs(float(np.mean(hurdles)) - float(np.mean(bests))) < 4 * error
    # At most 5 % pass, and three binomial standard errors.
    assert passed / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_the_number_of_clusters_would_let_too_much_noise_pass() -> None:
    draws = np.random.default_rng(12)
    passed = 0
    studies = 400
    for _ in range(studies):
        returns = alike(draws, 60, 0.9)
        best = float(trial_moments(returns).sharpe.max())
        assert weigh(returns, 16).clusters == 1
        passed += deflated_sharpe(best, 1, null_sharpe_variance(DAYS), DAYS) > 0.95
    # More than 5 % and three binomial standard errors.
    assert passed / studies > 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_independent_trials_all_count() -> None:
    found = weigh(np.random.default_rng(2).standard_normal((400, 700)))
    assert (found.raw, found.clusters, found.flat) == (400, 400, 0)
    assert found.effective == pytest.approx(400, rel=4 * 3 * found.expected_max_error)
    assert abs(found.mean_correlation) < 0.01


def test_the_same_trial_many_times_is_one_trial() -> None:
    returns = np.tile(np.random.default_rng(3).standard_normal(300), (40, 1))
    found = weigh(returns)
    assert (found.raw, found.effective, found.clusters) == (40, 1.0, 1)
    assert found.expected_max == pytest.approx(0, abs=1e-6)
    assert found.mean_correlation == pytest.approx(1)


def test_copies_add_nothing() -> None:
    returns = np.random.default_rng(4).standard_normal((50, 300))
    tripled = weigh(np.vstack((returns, returns, returns)))
    assert tripled.expected_max == pytest.approx(weigh(returns).expected_max, rel=1e-6)
    assert tripled.effective == pytest.approx(50, rel=0.1)


def test_scale_drift_and_precision_do_not_matter() -> None:
    returns = np.random.default_rng(5).standard_normal((50, 300))
    moved = 0.01 * returns * np.arange(1, 51)[:, None] + 0.005
    assert weigh(moved).effective == pytest.approx(weigh(returns).effective, rel=1e-4)
    assert weigh(moved.astype(np.float32)).effective == pytest.approx(weigh(returns).effective, rel=1e-3)


def test_trials_that_never_traded_are_counted_but_weigh_nothing() -> None:
    returns = np.random.default_rng(6).standard_normal((30, 200))
    found = weigh(np.vstack((returns, np.zeros((500, 200)))))
    assert (found.raw, found.flat, found.clusters) == (530, 500, 30)
    assert found.effective == weigh(returns).effective
    nothing = weigh(np.zeros((5, 200)))
    assert (nothing.raw, nothing.effective, nothing.expected_max, nothing.clusters) == (5, 1.0, 0.0, 0)


def test_a_single_trial_is_one() -> None:
    assert weigh(np.random.default_rng(7).standard_normal((1, 100))).effective == 1.0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    trials=st.integers(1, 40),
    days=st.integers(3, 60),
    correlation=st.floats(0, 0.99),
    extra=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_number_lies_between_one_and_raw_and_never_falls_when_trials_are_added(
    trials: int, days: int, correlation: float, extra: int, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    common = draws.standard_normal(days)
    returns = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * draws.standard_normal(
        (trials + extra, days)
    )
    fewer, more = weigh(returns[:trials], 32), weigh(returns, 32)
    assert 1 <= fewer.effective <= trials
    assert fewer.effective <= more.effective * (1 + 1e-4)
    assert fewer.clusters <= fewer.raw
    assert -1 <= fewer.mean_correlation <= 1 + 1e-6


def test_clusters_of_a_large_search_are_found_in_a_sketch() -> None:
    draws = np.random.default_rng(8)
    centres = draws.standard_normal((30, 1, 200))
    returns = (math.sqrt(0.9) * centres + math.sqrt(0.1) * draws.standard_normal((30, 70, 200))).reshape(2_100, 200)
    assert weigh(returns.astype(np.float32), 16).clusters == 30


@pytest.mark.parametrize("returns", [np.zeros((3, 2)), np.full((3, 9), math.nan)])
def test_a_matrix_that_cannot_be_weighed_is_refused(returns: Matrix) -> None:
    with pytest.raises(BadRequest):
        weigh(returns)
    with pytest.raises(BadRequest):
        weigh(np.ones((2, 9)), pairs=1)
    with pytest.raises(BadRequest):
        null_sharpe_variance(1)
