"""Numbers that papers, a published notebook and other libraries print, to the printed digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.core.validation.data_snooping import bootstrap_means, superior_predictive_ability, superior_trials
from engine.core.validation.overfitting import probability_of_overfitting
from engine.core.validation.return_matrix import RandomSource
from engine.core.validation.sharpe_inference import (
    deflated_sharpe,
    expected_max_sharpe,
    minimum_backtest_years,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_standard_error,
)
from engine.core.validation.sharpe_moments import trial_moments
from engine.core.validation.splits import combinatorial_purged_splits

# Bailey and Lopez de Prado 2014: 2.5 a year on 250 days, variance of the trials' Sharpe ratios 1/2 a year.
DAILY_SHARPE = 2.5 / math.sqrt(250)
DAILY_VARIANCE = 0.5 / 250


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float64]:
    """Return 100 trials of 1,000 days without an edge."""
    return np.ascontiguousarray(np.random.default_rng(20261122).normal(0, 0.01, (1000, 100)).T)


@pytest.fixture(scope="module")
def planted(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same with an edge in trial 7."""
    returns = noise.copy()
    returns[7] += 0.0015
    return returns


def test_the_deflated_sharpe_paper_comes_out() -> None:
    assert round(expected_max_sharpe(100, DAILY_VARIANCE), 4) == 0.1132
    assert round(deflated_sharpe(DAILY_SHARPE, 100, DAILY_VARIANCE, 1250, -3.0, 10.0), 4) == 0.9004


def test_the_deflated_sharpe_of_fewer_trials_comes_out() -> None:
    assert round(deflated_sharpe(DAILY_SHARPE, 46, DAILY_VARIANCE, 1250, -3.0, 10.0), 4) == 0.9505


def test_the_deflated_sharpe_of_normal_returns_comes_out() -> None:
    assert round(deflated_sharpe(DAILY_SHARPE, 88, DAILY_VARIANCE, 1250), 4) == 0.9505
    assert round(deflated_sharpe(DAILY_SHARPE, 100, DAILY_VARIANCE, 1250), 4) == 0.9428


def test_the_probabilistic_sharpe_paper_comes_out() -> None:
    assert round(probabilistic_sharpe(0.458, 0.0, 24), 3) == 0.982
    assert round(probabilistic_sharpe(0.458, 0.0, 24, -2.448, 10.164), 3) == 0.913


@pytest.mark.parametrize(
    ("skew", "kurtosis", "sharpe", "error", "years"),
    [(-0.2250, 2.9570, 0.7079, 0.1028, 0.7152), (-1.4455, 7.0497, 0.8183, 0.1550, 1.1593)],
)
def test_standard_errors_and_track_records_of_hedge_fund_indices_come_out(
    skew: float, kurtosis: float, sharpe: float, error: float, years: float
) -> None:
    assert round(sharpe_standard_error(sharpe, 134, skew, kurtosis), 4) == error
    assert round(minimum_track_record(sharpe, 0.0, skew, kurtosis) / 12, 4) == years


@pytest.mark.parametrize(
    ("periods", "skew", "kurtosis", "years"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_years_to_tell_a_sharpe_of_two_from_one_come_out(
    periods: int, skew: float, kurtosis: float, years: float
) -> None:
    root = math.sqrt(periods)
    assert round(minimum_track_record(2 / root, 1 / root, skew, kurtosis) / periods, 2) == years


@pytest.mark.parametrize(("trials", "expected"), [(10, 1.5746), (100, 2.5306), (1000, 3.2551)])
def test_the_expected_maximum_comes_out(trials: int, expected: float) -> None:
    assert round(expected_max_sharpe(trials), 4) == expected


@pytest.mark.parametrize(("trials", "years"), [(7, 1.92), (10, 2.48), (45, 5.00)])
def test_the_minimum_backtest_length_comes_out(trials: int, years: float) -> None:
    assert round(minimum_backtest_years(trials), 2) == years


@pytest.mark.parametrize(("is_legacy", "expected"), [(True, (0.520, 0.723, 0.733)), (False, (0.520, 0.718, 0.729))])
def test_the_published_example_of_superior_predictive_ability_comes_out(
    is_legacy: bool, expected: tuple[float, float, float]
) -> None:
    # The notebook of the package arch seeds numpy's global generator; a generator of our own draws the same.
    draws = np.random.RandomState(23456)
    seed = int(draws.randint(0, 2**31 - 1))
    factors = draws.randn(1000, 3)
    # The notebook draws an error term here and leaves it out of the target.
    draws.randn(1000)
    target = factors @ np.array([1.0, 0.5, 0.1])

    def squared_errors() -> NDArray[np.float64]:
        noisy = factors + draws.randn(1000, 3)
        slopes = np.linalg.lstsq(noisy[:500], target[:500])[0]
        return (target[500:] - noisy[500:] @ slopes) ** 2

    benchmark = squared_errors()
    losses = np.array([squared_errors() for _ in range(500)])
    random: RandomSource = np.random.RandomState(seed) if is_legacy else np.random.default_rng(seed)
    # The notebook leaves the block length at its default, the root of the number of days.
    found = superior_predictive_ability(bootstrap_means(benchmark - losses, 22, 1000, random), is_studentised=False)
    assert (found.lower, found.consistent, found.upper) == expected


def test_the_null_study_of_backtest_overfitting_comes_out() -> None:
    draws = np.random.default_rng(0)
    null = [probability_of_overfitting(draws.normal(size=(1000, 200)).T).pbo for _ in range(20)]
    # Published for 60 matrices: 0.476 +/- 0.137; these are the first 20 of a fixed seed.
    assert round(float(np.mean(null)), 3) == 0.470
    assert round(float(np.std(null, ddof=1)), 3) == 0.155
    assert abs(np.mean(null) - 0.476) < 2 * 0.137 / math.sqrt(20)
    planted: list[float] = []
    for _ in range(10):
        returns = draws.normal(size=(1000, 200)).T
        returns[:20] += 0.15
        planted.append(probability_of_overfitting(returns).pbo)
    # Published: 0.001.
    assert round(float(np.mean(planted)), 5) == 0.00015


@pytest.mark.parametrize(("blocks", "noise_pbo", "planted_pbo"), [(8, 0.242857, 0.028571), (16, 0.337607, 0.058819)])
def test_the_probability_of_overfitting_equals_that_of_ffn(
    blocks: int, noise_pbo: float, planted_pbo: float, noise: NDArray[np.float64], planted: NDArray[np.float64]
) -> None:
    assert round(probability_of_overfitting(noise, blocks).pbo, 6) == noise_pbo
    assert round(probability_of_overfitting(planted, blocks).pbo, 6) == planted_pbo


def test_the_deflated_sharpe_of_a_planted_edge_comes_out(planted: NDArray[np.float64]) -> None:
    moments = trial_moments(planted)
    best = int(np.argmax(moments.sharpe))
    variance = float(np.var(moments.sharpe, ddof=1))
    sharpe, skew, kurtosis = (float(column[best]) for column in (moments.sharpe, moments.skew, moments.kurtosis))
    assert best == 7
    assert round(sharpe, 7) == 0.1586965
    assert round(expected_max_sharpe(100, variance), 7) == 0.0918687
    assert round(deflated_sharpe(sharpe, 100, variance, 1000, skew, kurtosis), 6) == 0.981110


def test_snooping_tests_find_the_planted_edge_and_nothing_else(
    noise: NDArray[np.float64], planted: NDArray[np.float64]
) -> None:
    null = bootstrap_means(noise, 10, 1000, np.random.default_rng(42))
    found = superior_predictive_ability(null, is_studentised=False)
    assert (found.lower, found.consistent, found.upper) == (0.117, 0.183, 0.186)
    assert superior_trials(null, is_studentised=False).trials == ()
    edge = bootstrap_means(planted, 10, 1000, np.random.default_rng(42))
    found = superior_predictive_ability(edge, is_studentised=False)
    assert (found.lower, found.consistent, found.upper) == (0, 0, 0)
    assert superior_trials(edge, is_studentised=False).trials == (7,)


@pytest.mark.parametrize(("folds", "tests", "splits", "paths"), [(6, 2, 15, 5), (10, 8, 45, 36)])
def test_combinatorial_splits_and_paths_count_as_in_skfolio(folds: int, tests: int, splits: int, paths: int) -> None:
    made = combinatorial_purged_splits(600, folds, tests)
    assert (len(made.splits), made.paths.shape[1]) == (splits, paths)
