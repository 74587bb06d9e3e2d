"""Which points a search may try."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.search.constraints import Constraint
from engine.core.search.space import draw_points, grid_points, read_grid, read_space
from engine.core.strategy import parse_strategy
from engine.errors import BadExpression, BadRequest, TooLarge

DOCUMENT = parse_strategy(
    {
        "name": "cross",
        "params": {
            "fast": {"default": 10, "min": 2, "max": 100, "integer": True},
            "slow": {"default": 50, "min": 2, "max": 400, "integer": True},
            "stop": {"default": 2, "min": 0.1, "max": 20},
        },
        "long_entry": "crossover(ema(close, fast), ema(close, slow))",
        "stop_loss": {"percent": "stop"},
    }
)


def test_a_grid_is_lists_ranges_and_single_values_in_the_order_given():
    space = read_grid(
        DOCUMENT, {"fast": [10, 5], "slow": {"from": 30, "to": 50, "step": 10}, "stop": 1.5}, most_points=100
    )
    assert space.size == 6
    assert grid_points(space).values.tolist() == [
        [5, 30, 1.5], [5, 40, 1.5], [5, 50, 1.5], [10, 30, 1.5], [10, 40, 1.5], [10, 50, 1.5],
    ]  # fmt: skip


def test_a_range_of_fractions_has_no_rounding_dust():
    values = grid_points(read_grid(DOCUMENT, {"stop": {"from": 0.1, "to": 0.7, "step": 0.1}}, most_points=10)).values
    assert values[:, 0].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_grid_that_is_too_large_is_refused_with_its_size_by_parameter_before_it_is_built():
    grid = {"fast": {"from": 2, "to": 100, "step": 1}, "slow": {"from": 2, "to": 400, "step": 1}}
    with pytest.raises(TooLarge) as refusal:
        read_grid(DOCUMENT, grid, most_points=20_000)
    assert "39,501 points (fast 99 x slow 399)" in refusal.value.message
    with pytest.raises(TooLarge):
        read_grid(DOCUMENT, {"stop": {"from": 0.1, "to": 20, "step": 1e-12}}, most_points=20_000)


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({}, "fast"),
        ({"fst": [5]}, "did you mean 'fast'"),
        ({"fast": [5.5]}, "whole"),
        ({"fast": [1]}, "bounds are 2 to 100"),
        ({"slow": {"from": 50, "to": 30, "step": 1}}, "at most to"),
        ({"slow": {"from": 30, "to": 50, "step": 0}}, "step above 0"),
        ({"slow": {"from": 30}}, '"from"'),
        ({"slow": {"from": 30, "to": 50, "stepp": 1}}, '"step"'),
        ({"stop": {"from": 1, "to": 2}}, "step"),
        ({"fast": []}, "list of values"),
        ({"fast": "5-10"}, "list of values"),
        ({"fast": [True]}, "whole numbers"),
    ],
)
def test_a_wrong_grid_names_what_to_write(grid, named):
    with pytest.raises(BadRequest) as refusal:
        read_grid(DOCUMENT, grid, most_points=1_000)
    assert named in refusal.value.message + refusal.value.fix


def test_points_that_break_a_condition_are_skipped_and_counted():
    space = read_grid(DOCUMENT, {"fast": [10, 20, 60], "slow": [20, 60]}, ["fast < slow"], most_points=10)
    points = grid_points(space)
    assert points.values.tolist() == [[10, 20], [10, 60], [20, 60]]
    assert points.skipped == 3


def test_a_condition_may_speak_of_a_parameter_that_keeps_its_default():
    space = read_grid(DOCUMENT, {"fast": [10, 60]}, ["fast * 2 <= slow"], most_points=10)
    assert grid_points(space).values.tolist() == [[10]]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("fast < slow and slow < 100", [True, False, False]),
        ("fast < slow or slow > 100", [True, False, True]),
        ("not fast == 5", [False, True, True]),
        ("5 < fast <= 10", [False, True, False]),
        ("max(fast, slow) - min(fast, slow) >= abs(-5)", [True, False, True]),
    ],
)
def test_conditions_hold_as_python_would_say(text, holds):
    columns = {"fast": np.array([5.0, 10.0, 200.0]), "slow": np.array([50.0, 10.0, 150.0])}
    constraint = Constraint(text, columns)
    assert (constraint.violations(columns) == 0).tolist() == holds


def test_what_is_no_number_breaks_a_condition():
    columns = {"fast": np.array([0.0, 30.0]), "slow": np.array([10.0, 20.0])}
    assert Constraint("fast / (slow - 10) > 1", columns).violations(columns).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("text", ["fast", "fast + slow", "ema(close, 5) > 3", "slow < nothing", "fast ** 2 < 5"])
def test_what_is_no_condition_between_parameters_is_refused(text):
    with pytest.raises((BadRequest, BadExpression)) as refusal:
        Constraint(text, ["fast", "slow"])
    assert refusal.value.fix


@given(seed=st.integers(0, 2**31), count=st.integers(1, 40))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_drawn_points_are_distinct_valid_and_the_same_for_a_seed(seed, count):
    raw = {"fast": {"from": 2, "to": 60}, "slow": {"from": 20, "to": 200, "log": True}, "stop": {"from": 0.5, "to": 4}}
    space = read_space(DOCUMENT, raw, ["fast < slow"])
    drawn = draw_points(space, count, np.random.default_rng(seed), set())
    assert len({tuple(row) for row in drawn.tolist()}) == count
    assert (space.violations(drawn) == 0).all()
    assert (drawn >= [2, 20, 0.5]).all()
    assert (drawn <= [60, 200, 4]).all()
    assert (drawn[:, :2] == np.floor(drawn[:, :2])).all()
    assert np.array_equal(drawn, draw_points(space, count, np.random.default_rng(seed), set()))


def test_a_small_space_ends_when_every_point_was_drawn():
    space = read_space(DOCUMENT, {"fast": [5, 10], "slow": [20, 30]})
    drawn = draw_points(space, 10, np.random.default_rng(1), {(5.0, 20.0)})
    assert sorted(map(tuple, drawn.tolist())) == [(5, 30), (10, 20), (10, 30)]
