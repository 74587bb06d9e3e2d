"""Good points with good neighbours, and lonely peaks."""

from __future__ import annotations

import numpy as np
import pytest

from engine.core.search.objectives import read_objectives
from engine.core.search.plateau import Neighbours, neighbourhood, share_above_zero, surface
from engine.core.search.space import grid_points, read_grid, read_space
from engine.core.search.table import PointTable
from engine.core.strategy import parse_strategy

DOCUMENT = parse_strategy(
    {
        "name": "three",
        "params": {name: {"default": 10, "min": 1, "max": 100} for name in ("a", "b", "c")},
        "long_entry": "crossover(close, sma(close, 20)) and close > a and close > b and close > c",
    }
)
(SHARPE,) = read_objectives("sharpe")


def made(grid, score):
    space = read_grid(DOCUMENT, grid, most_points=10_000)
    values = grid_points(space).values
    table = PointTable(space.names, values, {})
    return space, table, np.array([score(*row) for row in values.tolist()], np.float64)


def row_of(table, *point):
    return int(np.flatnonzero((table.values == point).all(axis=1))[0])


def test_neighbours_on_a_grid_are_one_step_away_in_every_direction():
    space, table, _ = made({"a": [1, 2, 4, 8], "b": [10, 20, 30]}, lambda a, b: 0.0)
    found = Neighbours(space, table, is_grid=True).of(row_of(table, 4, 20))
    around = sorted(map(tuple, table.values[found].tolist()))
    assert around == [(2, 10), (2, 20), (2, 30), (4, 10), (4, 30), (8, 10), (8, 20), (8, 30)]
    assert len(Neighbours(space, table, is_grid=True).of(row_of(table, 1, 10))) == 3


def test_a_lonely_peak_is_a_spike_and_a_plateau_is_not():
    space, table, flat = made({"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]}, lambda a, b: 1.0)
    peak = flat.copy()
    peak[row_of(table, 3, 3)] = 4.0
    neighbours = Neighbours(space, table, is_grid=True)
    row = row_of(table, 3, 3)
    lonely = neighbourhood(SHARPE, peak, neighbours.of(row), row)
    assert (lonely.neighbours, lonely.median, lonely.plateau, lonely.spike) == (8, 1.0, 0.25, True)
    level = neighbourhood(SHARPE, flat, neighbours.of(row), row)
    assert (level.plateau, level.spike) == (1.0, False)


def test_neighbours_without_a_score_count_as_nothing():
    space, table, scores = made({"a": [1, 2, 3]}, lambda a: 1.0)
    scores[[0]] = np.nan
    around = neighbourhood(SHARPE, scores, Neighbours(space, table, is_grid=True).of(1), 1)
    assert (around.neighbours, around.without_score, around.median, around.plateau) == (2, 1, 0.5, 0.5)


def test_a_score_below_zero_has_no_plateau():
    space, table, scores = made({"a": [1, 2, 3]}, lambda a: -1.0)
    around = neighbourhood(SHARPE, scores, Neighbours(space, table, is_grid=True).of(1), 1)
    assert around.plateau is None
    assert around.median == -1.0


def test_a_metric_whose_smaller_values_are_better_has_its_ratio_upside_down():
    (drawdown,) = read_objectives("max_drawdown")
    scores = -np.array([0.2, 0.1, 0.4])
    around = neighbourhood(drawdown, scores, np.array([0, 2]), 1)
    assert around.median == pytest.approx(0.3)
    assert around.plateau == pytest.approx(0.1 / 0.3)
    assert around.spike


def test_drawn_points_have_their_nearest_ones_as_neighbours():
    space = read_space(DOCUMENT, {"a": {"from": 1, "to": 100}})
    table = PointTable(("a",), np.arange(1.0, 31.0)[:, None], {})
    found = Neighbours(space, table, is_grid=False).of(9)
    assert sorted(table.values[found, 0].tolist()) == [6, 7, 8, 9, 11, 12, 13, 14]


def test_the_surface_of_two_parameters_is_the_table_itself():
    space, table, scores = made({"a": [1, 2], "b": [10, 20, 30]}, lambda a, b: a * b)
    told = surface(space, table, SHARPE, scores)
    assert told["x"] == {"param": "a", "values": [1, 2]}
    assert told["y"] == {"param": "b", "values": [10, 20, 30]}
    assert told["rows"] == [[10, 20], [20, 40], [30, 60]]
    assert told["median_over"] == []


def test_the_surface_of_three_parameters_shows_the_two_that_matter():
    space, table, scores = made({"a": [1, 2], "b": [1, 2, 3], "c": [1, 2]}, lambda a, b, c: 10 * a + 100 * c + 0.1 * b)
    told = surface(space, table, SHARPE, scores)
    assert (told["x"]["param"], told["y"]["param"], told["median_over"]) == ("a", "c", ["b"])
    assert told["rows"] == [[110.2, 120.2], [210.2, 220.2]]


def test_a_long_axis_is_shown_in_bins_that_hold_every_point():
    space, table, scores = made({"a": {"from": 1, "to": 100, "step": 1}}, lambda a: a)
    told = surface(space, table, SHARPE, scores)
    assert told["y"] is None
    assert len(told["rows"]) == 1
    assert len(told["rows"][0]) == len(told["x"]["values"]) == 6
    assert told["rows"][0] == sorted(told["rows"][0])


def test_the_share_above_zero_leaves_out_what_has_no_score():
    assert share_above_zero([1.0, -1.0, float("nan"), 0.0]) == pytest.approx(1 / 3)
    assert share_above_zero([float("nan")]) is None
