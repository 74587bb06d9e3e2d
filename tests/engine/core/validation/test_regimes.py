"""Regimes: by hand, causal, and the hidden Markov model against statsmodels and a slow filter."""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.core.validation.hidden_markov import filtered_probabilities, fit_hidden_markov, label_states
from engine.core.validation.regimes import (
    GRID_NAMES,
    UNKNOWN,
    RegimeRule,
    expanding_median,
    label_regimes,
    summarise_regimes,
    weighted_volatility,
)
from engine.errors import BadRequest

Series = NDArray[np.float64]


def two_states(seed: int = 1) -> tuple[Series, NDArray[np.intp]]:
    """Return 2,700 returns whose volatility is 1 % or 3.5 %, and the truth."""
    truth = np.zeros(2_700, np.intp)
    truth[800:1_200] = truth[2_100:] = 1
    returns = np.random.default_rng(seed).standard_normal(2_700) * np.where(truth == 1, 0.035, 0.01)
    return returns, truth


def prices(returns: Series) -> Series:
    return 100 * np.exp(np.concatenate(([0.0], np.cumsum(returns))))


def test_the_rule_finds_the_wild_bars_of_a_market_with_two_states() -> None:
    returns, truth = two_states()
    labels = label_regimes(prices(returns))[1:]
    known = labels != UNKNOWN
    assert (labels[known] % 2 == truth[known]).mean() > 0.98


def test_trends_are_told_from_sideways_markets() -> None:
    draws = np.random.default_rng(2)
    drift = np.repeat([0.004, 0.0, -0.004], 300)
    labels = label_regimes(prices(drift + 0.005 * draws.standard_normal(900)))
    names = [GRID_NAMES[label].split()[0] for label in labels[[300, 290, 899, 880]]]
    assert names == ["up", "up", "down", "down"]
    middle = labels[380:590] // 2
    assert (middle == 1).mean() > 0.5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), cut=st.integers(60, 300))
def test_a_label_never_changes_when_later_bars_arrive(seed: int, cut: int) -> None:
    close = prices(np.random.default_rng(seed).standard_t(3, 300) * 0.01)
    rule = RegimeRule(volatility_bars=12, trend_bars=30)
    assert label_regimes(close, rule)[:cut].tolist() == label_regimes(close[:cut], rule).tolist()


def test_the_warm_up_has_no_label() -> None:
    labels = label_regimes(prices(np.full(70, 0.01)), RegimeRule(trend_bars=40))
    assert (labels[:40] == UNKNOWN).all()
    assert (labels[40:] != UNKNOWN).all()
    assert (label_regimes(np.linspace(1, 2, 30)) == UNKNOWN).all()


def test_weighted_volatility_and_running_medians_are_those_of_the_definition() -> None:
    values = np.random.default_rng(3).standard_normal(60)
    volatility, median = weighted_volatility(values, 9), expanding_median(values)
    for row in range(60):
        weights = [0.8 ** (row - at) for at in range(row + 1)]
        square = sum(w * v**2 for w, v in zip(weights, values[: row + 1], strict=True)) / sum(weights)
        assert volatility[row] == pytest.approx(math.sqrt(square))
        assert median[row] == statistics.median(values[: row + 1])


def test_durations_and_transitions_by_hand() -> None:
    found = summarise_regimes(np.array([UNKNOWN, 0, 0, 1, 1, 1, 0, UNKNOWN, 0], np.int8), 3)
    assert found.share.tolist() == [4 / 7, 3 / 7, 0]
    # Runs of 0: two, one, one; of 1: three; never 2.
    assert found.mean_duration.tolist() == [4 / 3, 3.0, 0.0]
    assert found.transitions.tolist() == [[0.5, 0.5, 0.0], [1 / 3, 2 / 3, 0.0], [0.0, 0.0, 0.0]]
    assert summarise_regimes(np.empty(0, np.int8), 2).share.tolist() == [0, 0]


def test_filtered_states_find_the_truth_without_seeing_the_future() -> None:
    returns, truth = two_states()
    model = fit_hidden_markov(returns)
    assert model.has_converged
    assert model.deviations == pytest.approx([0.01, 0.035], rel=0.05)
    assert (label_states(model, returns) == truth).mean() > 0.985
    probabilities = filtered_probabilities(model, returns)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert np.array_equal(filtered_probabilities(model, returns[:900]), probabilities[:900])


def test_a_model_of_earlier_returns_labels_later_ones() -> None:
    returns, truth = two_states(4)
    model = fit_hidden_markov(returns[:1_500])
    assert (label_states(model, returns)[1_500:] == truth[1_500:]).mean() > 0.98


def test_the_filter_is_bayes_rule_applied_bar_by_bar() -> None:
    returns, _ = two_states(5)
    model = fit_hidden_markov(returns, 3)
    belief = [float(value) for value in model.start]
    expected = []
    for row, value in enumerate(returns[:400]):
        if row:
            belief = [sum(belief[i] * model.transitions[i, j] for i in range(3)) for j in range(3)]
        joint = [
            share * statistics.NormalDist(float(model.means[j]), float(model.deviations[j])).pdf(float(value))
            for j, share in enumerate(belief)
        ]
        belief = [share / sum(joint) for share in joint]
        expected.append(belief)
    assert filtered_probabilities(model, returns)[:400] == pytest.approx(np.array(expected), abs=1e-9)


def test_fit_and_filter_are_those_of_statsmodels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        switching: Any = pytest.importorskip(
            "statsmodels.tsa.regime_switching.markov_regression",
            reason="statsmodels is in the dependency group oracles",
        )
        returns, _ = two_states()
        model = fit_hidden_markov(returns)
        oracle = switching.MarkovRegression(100 * returns, k_regimes=2, switching_variance=True)
        ours = np.concatenate((model.transitions[:, 0], 100 * model.means, (100 * model.deviations) ** 2))
        at_ours = oracle.filter(ours)
        fitted = oracle.fit(start_params=ours, disp=False)
    # Scaling the returns by 100 moves the log likelihood by n ln 100.
    assert model.log_likelihood - 2_700 * math.log(100) == pytest.approx(at_ours.llf, abs=1e-6)
    assert filtered_probabilities(model, returns) == pytest.approx(at_ours.filtered_marginal_probabilities, abs=1e-7)
    # Theirs also maximises over the start, which our fit leaves free; one bar of 2,700.
    assert fitted.llf - at_ours.llf < 0.2


def test_the_likelihood_never_falls_while_fitting() -> None:
    returns, _ = two_states(6)
    likelihoods = [fit_hidden_markov(returns, 2, most_iterations=count).log_likelihood for count in (1, 2, 4, 8, 60)]
    # The start is replaced by the long-run shares at the end, worth a fraction of one observation.
    assert all(later > earlier - 0.5 for earlier, later in itertools.pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0]


def test_outliers_and_flat_bars_do_not_break_the_filter() -> None:
    returns, _ = two_states(7)
    returns[::3] = 0.0
    model = fit_hidden_markov(returns)
    shocked = returns.copy()
    shocked[100] = 5.0
    probabilities = filtered_probabilities(model, shocked)
    assert np.isfinite(probabilities).all()
    assert probabilities[100].argmax() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_hidden_markov(np.zeros(100)),
        lambda: fit_hidden_markov(np.random.default_rng(1).standard_normal(30)),
        lambda: fit_hidden_markov(np.random.default_rng(1).standard_normal(300), 4),
        lambda: label_regimes(np.array([1.0, 0.0, 2.0])),
        lambda: label_regimes(np.array([1.0, math.nan, 2.0])),
        lambda: label_regimes(np.arange(1.0, 9.0), RegimeRule(trend_bars=1)),
        lambda: summarise_regimes(np.array([0, 3], np.int8), 3),
    ],
)
def test_what_has_no_regimes_is_refused(call: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        call()
    assert caught.value.fix
