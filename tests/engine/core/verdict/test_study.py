"""What the trials say about the chosen one, against worlds whose truth is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from engine.core.validation.sharpe_inference import expected_max_sharpe
from engine.core.verdict.study import daily_costs, follow_best, weigh_search

DAYS = 400


def noise(trials: int, seed: int = 0, drift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(drift, 0.01, (trials, DAYS)).astype(np.float32)


def best_of(returns: np.ndarray) -> int:
    return int((returns.mean(axis=1) / returns.std(axis=1)).argmax())


def test_independent_trials_count_as_many_as_they_are():
    facts = weigh_search(noise(200), 0, 200, np.zeros(200))
    assert facts.effective_trials == pytest.approx(200, rel=0.15)
    assert facts.expected_max_sharpe == pytest.approx(
        math.sqrt(365) * expected_max_sharpe(200, 1 / (DAYS - 1)), rel=0.05
    )


def test_copies_of_one_trial_count_as_one():
    facts = weigh_search(np.repeat(noise(1), 100, axis=0), 0, 100, np.zeros(100))
    assert facts.effective_trials == pytest.approx(1.0, abs=0.2)


def test_trials_on_other_days_count_as_much_as_those_compared():
    alone = weigh_search(noise(50), 0, 50, np.zeros(50))
    more = weigh_search(noise(50), 0, 500, np.zeros(50))
    assert more.effective_trials == pytest.approx(10 * alone.effective_trials)
    assert more.deflated_sharpe < alone.deflated_sharpe


def test_the_best_of_noise_is_believed_no_more_often_than_the_level_says():
    # 100 searches of 40 trials without skill: a p-value of 5 % or less in about five of them.
    believed = 0
    for seed in range(100):
        returns = noise(40, seed)
        believed += weigh_search(returns, best_of(returns), 40, np.zeros(40)).no_skill_p <= 0.05
    assert 1 <= believed <= 12


def test_costs_that_are_known_make_the_best_of_losers_stand_out_less_by_luck():
    cost = 0.001
    returns = noise(100, 3, -cost)
    returns[7] = np.random.default_rng(5).normal(0.0016, 0.01, DAYS)
    facts = weigh_search(returns, 7, 100, np.full(100, cost))
    assert facts.no_skill_p < facts.no_edge_p


def test_a_trial_that_lost_everything_stands_aside():
    returns = noise(20)
    returns[3] = np.nan
    facts = weigh_search(returns, 0, 20, np.zeros(20))
    assert math.isfinite(facts.no_edge_p)


def test_a_run_of_a_few_days_is_not_weighed():
    facts = weigh_search(noise(5)[:, :30], 0, 5, np.zeros(5))
    assert math.isnan(facts.deflated_sharpe)
    assert math.isnan(facts.no_skill_p)


def test_following_the_best_is_what_it_is_by_hand():
    returns = noise(30, 11).astype(np.float64)
    facts = follow_best(returns)
    # Five windows of 66 days to the end; fit on everything before a window but its eve.
    stitched = []
    for low, high in pairwise(range(70, 401, 66)):
        past = returns[:, : low - 1]
        best = int((past.mean(axis=1) / past.std(axis=1, ddof=1)).argmax())
        stitched.append(returns[best, low:high])
    record = np.concatenate(stitched)
    assert facts.sharpe == pytest.approx(math.sqrt(365) * record.mean() / record.std(ddof=1), rel=1e-9)
    assert facts.windows == 5


def test_daily_costs_of_even_turnover_are_the_daily_share():
    growth = np.full((1, 100), -0.002)
    equity = 1_000.0 * np.cumprod(1 + growth[0])
    fees = np.array([0.002 * equity.sum()])
    assert daily_costs(growth, fees, 1_000.0)[0] == pytest.approx(0.002)


def test_the_best_of_noise_is_believed_no_more_often_when_only_itself_left_returns():
    believed = 0
    for seed in range(60):
        returns = noise(40, seed)
        best = returns[[best_of(returns)]]
        facts = weigh_search(best, 0, 1, np.zeros(1), probes=39)
        assert facts.effective_trials == pytest.approx(40, abs=0.5)
        believed += facts.no_skill_p <= 0.05
    assert believed <= 7
