"""Snooping tests against the package arch, the slow version, and their promises under the null."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.core.validation.bootstrap import stationary_indices
from engine.core.validation.data_snooping import (
    bootstrap_means,
    bootstrap_spreads,
    reality_check,
    snooping_p_value,
    superior_predictive_ability,
    superior_trials,
)
from engine.errors import BadRequest

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def arch_bootstrap() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arch.bootstrap", reason="arch is in the dependency group oracles")


def study(seed: int, edge: float = 0.0) -> Matrix:
    """Return 12 trials of which two lose badly, and the first has an edge."""
    returns = np.random.default_rng(seed).normal(0, 1, (12, 150))
    returns[-2:] -= 1.0
    returns[0] += edge
    return returns


@pytest.mark.parametrize("edge", [0.0, 0.15, 0.5])
def test_p_values_and_superior_trials_are_those_of_arch(edge: float, arch_bootstrap: Any) -> None:
    returns = study(1, edge)
    losses, benchmark = -returns.T, np.zeros(150)
    theirs = arch_bootstrap.SPA(benchmark, losses, block_size=5, reps=300, seed=np.random.default_rng(7))
    theirs.compute()
    ours = bootstrap_means(returns, 5, 300, np.random.default_rng(7))
    found = superior_predictive_ability(ours, is_studentised=False)
    assert [found.lower, found.consistent, found.upper] == theirs.pvalues.tolist()
    assert ours.spreads == pytest.approx(np.sqrt(theirs._loss_diff_var), rel=1e-9)
    steps = arch_bootstrap.StepM(benchmark, losses, block_size=5, reps=300, seed=np.random.default_rng(7))
    steps.compute()
    assert list(superior_trials(ours, is_studentised=False).trials) == steps.superior_models


def test_the_studentised_test_is_that_of_the_definition() -> None:
    returns = study(2, 0.2) * np.arange(1.0, 13.0)[:, None]
    found = superior_predictive_ability(bootstrap_means(returns, 4, 200, np.random.default_rng(8)))
    indices = stationary_indices(150, 200, 4, np.random.default_rng(8))
    spreads = bootstrap_spreads(returns, 4)
    limit = -math.sqrt(2 * math.log(math.log(150)) / 150)
    exceeded = [0, 0, 0]
    means = [float(np.mean(series)) for series in returns]
    statistic = max(math.sqrt(150) * mean / spread for mean, spread in zip(means, spreads, strict=True))
    for sample in indices:
        tops = [-math.inf] * 3
        for series, mean, spread in zip(returns, means, spreads, strict=True):
            centres = (max(mean, 0.0), mean if mean >= limit * spread else 0.0, mean)
            for version, centre in enumerate(centres):
                value = math.sqrt(150) * (float(np.mean(series[sample])) - centre) / spread
                tops[version] = max(tops[version], value)
        exceeded = [count + (top > statistic) for count, top in zip(exceeded, tops, strict=True)]
    assert found.statistic == pytest.approx(statistic)
    assert [found.lower, found.consistent, found.upper] == [count / 200 for count in exceeded]


def test_the_spread_is_that_of_bootstrap_means() -> None:
    draws = np.random.default_rng(3)
    returns = draws.normal(0, 1, (3, 120))
    returns[1] = np.convolve(draws.normal(0, 1, 124), np.ones(5), "valid")
    drawn = bootstrap_means(returns, 6, 6_000, draws)
    assert drawn.spreads == pytest.approx(drawn.sample_means.std(axis=0) * math.sqrt(120), rel=0.04)


def test_the_reality_check_is_the_upper_p_value_of_raw_means() -> None:
    drawn = bootstrap_means(study(4, 0.2), 5, 200, np.random.default_rng(1))
    assert reality_check(drawn) == superior_predictive_ability(drawn, is_studentised=False).upper


def test_p_values_are_ordered_and_poor_trials_do_not_hide_a_good_one() -> None:
    returns = study(5, 0.4)
    found = superior_predictive_ability(bootstrap_means(returns, 3, 500, np.random.default_rng(2)))
    assert found.lower <= found.consistent <= found.upper
    assert found.best_trial == 0
    wild = np.vstack((returns, np.random.default_rng(6).normal(-40, 60, (40, 150))))
    raw = superior_predictive_ability(bootstrap_means(wild, 3, 500, np.random.default_rng(2)), is_studentised=False)
    studentised = superior_predictive_ability(bootstrap_means(wild, 3, 500, np.random.default_rng(2)))
    assert studentised.consistent < 0.05 < 0.5 < raw.upper


@pytest.mark.parametrize("is_studentised", [False, True])
def test_noise_is_found_superior_no_more_often_than_the_level(is_studentised: bool) -> None:
    draws = np.random.default_rng(9)
    rejected, stepped = 0, 0
    studies = 200
    for _ in range(studies):
        common = draws.standard_normal(120)
        returns = 0.7 * common + 0.7 * draws.standard_normal((25, 120))
        drawn = bootstrap_means(returns, 2, 120, draws)
        rejected += superior_predictive_ability(drawn, is_studentised=is_studentised).consistent <= 0.05
        stepped += bool(superior_trials(drawn, is_studentised=is_studentised).trials)
    allowed = studies * 0.05 + 3 * math.sqrt(studies * 0.05 * 0.95)
    assert rejected <= allowed
    assert stepped <= allowed


def test_rare_losses_still_to_come_fool_standard_errors_but_not_both_tests() -> None:
    draws = np.random.default_rng(14)
    # On 3 % of the days nine small gains for each loss nine times as large: no edge.
    active, lost = draws.random((200, 400)) < 0.03, draws.random((200, 400)) < 0.1
    drawn = bootstrap_means(np.where(active, np.where(lost, -9.0, 1.0), 0.0), 2, 300, draws)
    assert superior_predictive_ability(drawn).consistent < 0.01
    assert snooping_p_value(drawn) > 0.2


def test_an_edge_shows_in_both_tests() -> None:
    assert snooping_p_value(bootstrap_means(study(15, 0.6), 3, 300, np.random.default_rng(1))) == 0.0


def test_single_precision_and_chunks_give_the_same_answer() -> None:
    draws = np.random.default_rng(10)
    returns = draws.normal(0, 1, (3_000, 100))
    returns[1_234] += 1.0
    exact = bootstrap_means(returns, 2, 400, np.random.default_rng(1))
    rounded = bootstrap_means(returns.astype(np.float32), 2, 400, np.random.default_rng(1))
    assert rounded.sample_means.dtype == np.float32
    # A p-value counts samples: rounding may move one across the line.
    assert superior_predictive_ability(exact).upper == pytest.approx(
        superior_predictive_ability(rounded).upper, abs=1 / 400
    )
    assert superior_trials(exact).trials == superior_trials(rounded).trials == (1_234,)


def test_trials_that_never_traded_neither_win_nor_disturb() -> None:
    returns = study(11, 0.5)
    padded = np.vstack((returns, np.zeros((3, 150))))
    plain = bootstrap_means(returns, 3, 300, np.random.default_rng(5))
    wider = bootstrap_means(padded, 3, 300, np.random.default_rng(5))
    assert superior_trials(plain).trials == superior_trials(wider).trials
    nothing = bootstrap_means(np.zeros((3, 50)), 3, 50, np.random.default_rng(5))
    assert superior_trials(nothing).trials == ()
    assert superior_predictive_ability(nothing).statistic == 0.0


def test_every_trial_may_be_superior() -> None:
    returns = np.random.default_rng(12).normal(2.0, 1.0, (4, 100))
    found = superior_trials(bootstrap_means(returns, 2, 200, np.random.default_rng(1)))
    assert found.trials == (0, 1, 2, 3)


def test_arguments_without_sense_are_refused() -> None:
    drawn = bootstrap_means(study(13), 3, 50, np.random.default_rng(1))
    with pytest.raises(BadRequest):
        superior_trials(drawn, 0.0)
    with pytest.raises(BadRequest):
        bootstrap_means(np.zeros((2, 2)), 1, 10, np.random.default_rng(1))
    with pytest.raises(BadRequest):
        bootstrap_means(np.full((2, 9), np.nan), 1, 10, np.random.default_rng(1))
