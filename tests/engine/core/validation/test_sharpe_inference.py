"""Sharpe inference against slow obvious versions, simulations and its own inverses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.validation.sharpe_inference import (
    deflated_sharpe,
    expected_max_sharpe,
    minimum_backtest_years,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_standard_error,
    trials_of_expected_max,
)
from engine.core.validation.sharpe_interval import bootstrap_sharpe_interval, sharpe_interval
from engine.core.validation.sharpe_moments import sharpe_moments, trial_moments
from engine.errors import BadRequest


def test_moments_of_a_matrix_are_those_of_each_row_by_the_definitions() -> None:
    returns = np.random.default_rng(1).standard_t(5, (7, 40)) * 0.01
    found = trial_moments(returns)
    for row, series in enumerate(returns):
        mean, values = sum(series) / 40, [float(value) for value in series]
        moments = [sum((value - mean) ** power for value in values) / 40 for power in (2, 3, 4)]
        assert found.sharpe[row] == pytest.approx(mean / math.sqrt(moments[0] * 40 / 39), rel=1e-12)
        assert found.skew[row] == pytest.approx(moments[1] / moments[0] ** 1.5, rel=1e-12)
        assert found.kurtosis[row] == pytest.approx(moments[2] / moments[0] ** 2, rel=1e-12)


def test_single_precision_returns_give_the_same_moments_to_six_digits() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.02, (3, 500))
    exact, rounded = trial_moments(returns), trial_moments(returns.astype(np.float32))
    assert rounded.sharpe == pytest.approx(exact.sharpe, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.01, 1e-9, -3.0])
def test_a_trial_that_does_not_vary_has_no_sharpe(value: float) -> None:
    returns = np.vstack((np.full(50, value), np.random.default_rng(3).normal(size=50)))
    assert np.isnan(trial_moments(returns).sharpe).tolist() == [True, False]
    with pytest.raises(BadRequest, match="do not vary"):
        sharpe_moments(returns[0])


@pytest.mark.parametrize(
    "returns",
    [np.zeros((2, 1)), np.zeros(5), np.zeros((0, 5)), np.array([[0.1, math.nan]]), np.array([[0.1, math.inf]])],
)
def test_a_matrix_that_cannot_be_judged_is_refused(returns: np.ndarray) -> None:
    with pytest.raises(BadRequest) as caught:
        trial_moments(returns)
    assert caught.value.fix


def test_excess_kurtosis_is_refused_instead_of_flattering() -> None:
    with pytest.raises(BadRequest, match="kurtosis"):
        probabilistic_sharpe(0.1, 0.0, 100, 0.0, 0.0)


def test_the_standard_error_is_the_spread_of_estimates_of_skewed_returns() -> None:
    draws = np.random.default_rng(4)
    # Exponential returns: skew 2, kurtosis 9, mean moved to a Sharpe ratio of 0.3.
    estimates = trial_moments(draws.exponential(1.0, (4_000, 250)) - 0.7).sharpe
    predicted = sharpe_standard_error(0.3, 250, 2.0, 9.0)
    assert estimates.std() == pytest.approx(predicted, rel=0.05)
    # The normal formula would be 32 % too wide.
    assert sharpe_standard_error(0.3, 250) > 1.25 * estimates.std()


def test_the_expected_maximum_is_that_of_simulated_trials() -> None:
    draws = np.random.default_rng(5).standard_normal((2_000, 200))
    assert expected_max_sharpe(200) == pytest.approx(draws.max(axis=1).mean(), abs=0.03)


def test_one_trial_needs_no_deflation() -> None:
    assert expected_max_sharpe(1, 0.5) == 0.0
    assert deflated_sharpe(0.1, 1, 0.5, 100) == probabilistic_sharpe(0.1, 0.0, 100)
    assert minimum_backtest_years(1) == 0.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(1.5, 1e8), st.floats(1.0, 100.0))
def test_the_number_of_trials_is_recovered_from_their_expected_maximum(trials: float, room: float) -> None:
    assert trials_of_expected_max(expected_max_sharpe(trials), trials * room) == pytest.approx(trials, rel=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.01, 0.5), st.floats(-1.5, 1.5), st.floats(0.0, 8.0), st.integers(20, 2_000))
def test_deflation_only_ever_lowers_and_more_trials_lower_further(
    sharpe: float, skew: float, extra: float, observations: int
) -> None:
    kurtosis = 1.0 + skew**2 + extra
    values = [deflated_sharpe(sharpe, n, 1 / observations, observations, skew, kurtosis) for n in (1, 2, 10, 1_000)]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.02, 0.5), st.floats(-1.5, 1.5), st.floats(0.5, 8.0), st.floats(0.6, 0.999))
def test_at_the_minimum_track_record_the_probability_is_the_confidence(
    sharpe: float, skew: float, extra: float, confidence: float
) -> None:
    kurtosis = 1.0 + skew**2 + extra
    length = minimum_track_record(sharpe, 0.0, skew, kurtosis, confidence)
    if length >= 2:
        assert probabilistic_sharpe(sharpe, 0.0, length, skew, kurtosis) == pytest.approx(confidence, abs=1e-9)


def test_a_sharpe_below_its_benchmark_never_has_enough_track_record() -> None:
    assert minimum_track_record(0.1, 0.1) == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: expected_max_sharpe(0),
        lambda: expected_max_sharpe(math.nan),
        lambda: expected_max_sharpe(10, -1.0),
        lambda: sharpe_standard_error(0.1, 1),
        lambda: minimum_track_record(0.1, confidence=1.0),
        lambda: minimum_backtest_years(10, 0.0),
        lambda: sharpe_interval(np.arange(5.0), confidence=0.4),
    ],
)
def test_arguments_without_sense_are_refused(call: object) -> None:
    with pytest.raises(BadRequest):
        call()  # type: ignore[operator]


def test_intervals_hold_the_true_sharpe_as_often_as_they_say() -> None:
    draws = np.random.default_rng(6)
    truth = 0.08 * math.sqrt(365)
    analytic, resampled = 0, 0
    for _ in range(100):
        returns = draws.normal(0.08, 1.0, 400)
        found = sharpe_interval(returns, 0.9)
        analytic += found.low <= truth <= found.high
        found = bootstrap_sharpe_interval(returns, draws, 0.9, samples=200, mean_block=1.0)
        resampled += found.low <= truth <= found.high
    # 90 of 100, give or take three binomial standard errors.
    assert 81 <= analytic <= 99
    assert 81 <= resampled <= 99


def test_the_bootstrap_interval_widens_when_returns_trend_and_the_analytic_one_does_not() -> None:
    draws = np.random.default_rng(7)
    shocks = draws.standard_normal(2_000)
    returns = np.empty(2_000)
    returns[0] = shocks[0]
    for row in range(1, 2_000):
        returns[row] = 0.5 * returns[row - 1] + shocks[row]
    analytic, resampled = sharpe_interval(returns), bootstrap_sharpe_interval(returns, draws, samples=600)
    # The variance of a mean of these is (1 + 0.5) / (1 - 0.5) times that of independent ones.
    assert (resampled.high - resampled.low) / (analytic.high - analytic.low) == pytest.approx(math.sqrt(3), rel=0.15)
    assert "mean block" in resampled.method
