"""What a search looks for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.metrics import METRICS as REGISTRY
from engine.core.search.objectives import (
    NOT_SEARCHED,
    percentile_ranks,
    ranking,
    read_objectives,
    undominated,
    unswept_metrics,
)
from engine.core.sweep import SWEEP_METRICS
from engine.errors import BadRequest

NAN = float("nan")
METRICS = {
    "sharpe": np.array([1.0, 2.0, NAN, 0.5]),
    "max_drawdown": np.array([0.1, 0.4, 0.1, 0.2]),
    "trades": np.array([50.0, 50.0, 50.0, 50.0]),
}
ALL = np.ones(4, np.bool_)


def test_a_metric_whose_smaller_values_are_better_is_turned_around_and_shown_as_it_is():
    (objective,) = read_objectives("max_drawdown")
    scores = objective.scores(METRICS, ALL)
    assert scores.tolist() == [-0.1, -0.4, -0.1, -0.2]
    assert objective.shown(float(scores[1])) == 0.4


def test_weights_add_percentile_ranks_of_eligible_points():
    (objective,) = read_objectives({"sharpe": 1, "max_drawdown": -0.5})
    # Ranks among rows 0, 1 and 3: sharpe 0.5, 1, 0; drawdown 0, 1, 0.5.
    scores = objective.scores(METRICS, ALL)
    assert scores[[0, 1, 3]].tolist() == [0.5, 0.5, -0.25]
    assert np.isnan(scores[2])
    assert objective.text == "+1 rank(sharpe) -0.5 rank(max_drawdown)"


def test_points_that_are_not_eligible_have_no_score_and_come_last():
    (objective,) = read_objectives("sharpe")
    scores = objective.scores(METRICS, np.array([True, False, True, True]))
    order, best = ranking([objective], scores[:, None])
    assert order.tolist() == [0, 3, 1, 2]
    assert best == 1


@pytest.mark.parametrize("raw", ["luck", {"sharpe": 0}, {}, [], ["sharpe", "calmar", "sortino", "cagr"], {"shrpe": 1}])
def test_an_objective_that_cannot_be_is_refused(raw):
    with pytest.raises(BadRequest):
        read_objectives(raw)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_front_is_what_nobody_beats(rows):
    scores = np.array(rows, np.float64)

    def beats(one: int, other: int) -> bool:
        return bool((scores[one] >= scores[other]).all() and (scores[one] > scores[other]).any())

    slow = [not any(beats(one, other) for one in range(len(rows))) for other in range(len(rows))]
    assert undominated(scores).tolist() == slow


@given(st.lists(st.integers(0, 9), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_rank_is_the_share_of_others_below_and_half_of_those_equal(values):
    column = np.array(values, np.float64)
    slow = [
        (sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2) / (len(values) - 1)
        for one in values
    ]
    assert np.allclose(percentile_ranks(column, np.ones(len(values), np.bool_)), slow, rtol=0, atol=1e-12)


def test_a_front_comes_first_and_ends_where_it_ends():
    objectives = read_objectives(["sharpe", "max_drawdown"])
    scores = np.array([[1.0, -0.3], [2.0, -0.5], [0.5, -0.4], [NAN, -0.1], [0.2, -0.2]])
    order, front = ranking(objectives, scores)
    assert order.tolist() == [1, 0, 4, 2, 3]
    assert front == 3
    assert all(np.isnan(scores[row]).any() for row in itertools.islice(reversed(order.tolist()), 1))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_metric_of_the_registry_is_an_objective_or_says_why_not(name: str) -> None:
    if name in NOT_SEARCHED:
        with pytest.raises(BadRequest, match="cannot be an objective: it is"):
            read_objectives(name)
        return
    (objective,) = read_objectives(name)
    assert unswept_metrics((objective,)) == (() if name in SWEEP_METRICS else (name,))
