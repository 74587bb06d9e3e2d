"""Whether good points have good neighbours: a lonely peak is luck, a plateau may be more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.search.objectives import Objective
from engine.core.search.space import Space
from engine.core.search.table import PointTable

Column = NDArray[np.float64]

# Below this share of its own score the neighbours of a point do not support it.
SPIKE_SHARE = 0.5
# Of points that were drawn there are no steps; these many nearest ones stand for the neighbours.
NEAREST = 8
# With more dimensions than this only one parameter at a time is moved: corners multiply.
_MOST_CORNERS = 4
SURFACE_VALUES = 10
SURFACE_BINS = 6


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """How the neighbours of one point do.

    Attributes
    ----------
    neighbours : int
        Evaluated points one step away.
    without_score : int
        Of them, those that traded too rarely or whose metric is undefined; they count as 0.
    median : float or None
        Of the neighbours' scores, as people know them.
    plateau : float or None
        Median score of the neighbours / score; None where the score is not above zero, where there is no neighbour, or
        where scores are not shares of each other.
    spike : bool
        Whether the neighbours do not support the point.
    """

    neighbours: int
    without_score: int
    median: float | None
    plateau: float | None
    spike: bool


class Neighbours:
    """Finds the neighbours of evaluated points: one step away on a grid, nearest ones otherwise.

    Parameters
    ----------
    space : Space
    table : PointTable
        Distinct points.
    is_grid : bool
        Whether all points of the space's steps were tried.
    """

    def __init__(self, space: Space, table: PointTable, *, is_grid: bool) -> None:
        self._is_grid = is_grid
        self._places: dict[tuple[int, ...], int] = {}
        self._steps = np.empty(table.values.shape, np.int64)
        if is_grid:
            for column, dimension in enumerate(space.dimensions):
                self._steps[:, column] = np.searchsorted(dimension.values() - 1e-9, table.values[:, column])
            self._places = {tuple(row): place for place, row in enumerate(list(self._steps))}
        spread = np.array([dimension.high - dimension.low for dimension in space.dimensions])
        self._scaled = table.values / np.where(spread > 0, spread, 1.0)

    @property
    def kind(self) -> str:
        """Say who counts as a neighbour."""
        return "one grid step away, diagonals too" if self._is_grid else f"the {NEAREST} nearest evaluated points"

    def of(self, row: int) -> NDArray[np.int64]:
        """Return the rows of a point's neighbours."""
        if self._is_grid:
            here = self._steps[row]
            found = (self._places.get(tuple((here + step).tolist())) for step in _moves(len(here)))
            return np.array([place for place in found if place is not None], np.int64)
        distance = np.abs(self._scaled - self._scaled[row]).max(axis=1)
        distance[row] = np.inf
        nearest = np.argsort(distance, kind="stable")[: min(NEAREST, len(distance) - 1)]
        return nearest.astype(np.int64)


def neighbourhood(objective: Objective, scores: Column, neighbours: NDArray[np.int64], row: int) -> Neighbourhood:
    """Compare a point with its neighbours.

    Parameters
    ----------
    objective : Objective
    scores : ndarray of float64, shape (n,)
        NaN where there is none.
    neighbours : ndarray of int64
        Rows.
    row : int
    """
    around, own = scores[neighbours], float(scores[row])
    missing = int(np.count_nonzero(np.isnan(around)))
    if np.isnan(own) or len(around) == 0:
        return Neighbourhood(len(around), missing, None, None, spike=not np.isnan(own))
    if not objective.is_ratio:
        known = around[~np.isnan(around)]
        median = float(np.median(known)) if len(known) else float("nan")
        plateau = _inverse_ratio(own, median) if not objective.is_weighted else None
        lonely = missing * 2 > len(around) or (plateau is not None and plateau < SPIKE_SHARE)
        return Neighbourhood(len(around), missing, objective.shown(median), plateau, lonely)
    median = float(np.median(np.where(np.isnan(around), 0.0, around)))
    plateau = median / own if own > 0 else None
    return Neighbourhood(len(around), missing, median, plateau, spike=plateau is not None and plateau < SPIKE_SHARE)


def _inverse_ratio(own: float, median: float) -> float | None:
    """Return own / median of scores that are negatives of a metric whose smaller values are better."""
    return own / median if median < 0 and own < 0 else None


def _moves(dimensions: int) -> list[NDArray[np.int64]]:
    if dimensions <= _MOST_CORNERS:
        steps = [np.array(step) for step in itertools.product((-1, 0, 1), repeat=dimensions)]
        return [step for step in steps if step.any()]
    unit = np.eye(dimensions, dtype=np.int64)
    return [sign * unit[place] for place in range(dimensions) for sign in (-1, 1)]


def surface(space: Space, table: PointTable, objective: Objective, scores: Column) -> dict[str, Any]:
    """Return the scores over the one or two parameters that matter most, medians over all others.

    Parameters
    ----------
    space : Space
    table : PointTable
        Distinct points.
    objective : Objective
    scores : ndarray of float64, shape (n,)

    Returns
    -------
    dict
        `x`, `y` (None for one parameter): name and values or bin centres; `rows`: one list a y value with one median
        score an x value, None where nothing is known; `over`: the parameters that medians were taken over.
    """
    chosen = _main_parameters(table, scores)
    names = [table.names[column] for column in chosen]
    binned = [_binned(space, table, column) for column in chosen]
    labels, places = [each[0] for each in binned], [each[1] for each in binned]
    width, height = len(labels[0]), len(labels[1]) if len(labels) > 1 else 1
    cells = places[0] + (width * places[1] if len(places) > 1 else 0)
    rows = [[_cell(objective, scores[cells == y * width + x]) for x in range(width)] for y in range(height)]
    return {
        "metric": objective.text,
        "x": {"param": names[0], "values": labels[0]},
        "y": {"param": names[1], "values": labels[1]} if len(names) > 1 else None,
        "rows": rows,
        "median_over": [name for name in table.names if name not in names],
    }


def _cell(objective: Objective, scores: Column) -> float | None:
    known = scores[~np.isnan(scores)]
    if len(known) == 0:
        return None
    shown = objective.shown(float(np.median(known)))
    return None if shown is None else float(f"{shown:.4g}")


def _main_parameters(table: PointTable, scores: Column) -> list[int]:
    """Return the columns of the one or two parameters whose levels explain most of the scores' variance."""
    varying = [column for column in range(len(table.names)) if np.ptp(table.values[:, column]) > 0]
    if len(varying) <= 2:
        return varying or [0]
    known = ~np.isnan(scores)

    def explained(column: int) -> float:
        edges = np.unique(np.quantile(table.values[:, column], np.linspace(0, 1, SURFACE_BINS + 1)[1:-1]))
        groups = np.searchsorted(edges, table.values[known, column], side="right")
        counts = np.maximum(np.bincount(groups), 1)
        means = np.bincount(groups, weights=scores[known]) / counts
        return float(np.sum(np.bincount(groups) * (means - scores[known].mean()) ** 2)) if known.any() else 0.0

    best = sorted(varying, key=lambda column: (-explained(column), column))[:2]
    return sorted(best)


def _binned(space: Space, table: PointTable, column: int) -> tuple[list[float], NDArray[np.int64]]:
    values = table.values[:, column]
    levels = np.unique(values)
    if len(levels) <= SURFACE_VALUES:
        return levels.tolist(), np.searchsorted(levels, values).astype(np.int64)
    dimension = space.dimensions[column]
    edges = (
        np.geomspace(dimension.low, dimension.high, SURFACE_BINS + 1)
        if dimension.log
        else np.linspace(dimension.low, dimension.high, SURFACE_BINS + 1)
    )
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, SURFACE_BINS - 1)
    middles = np.sqrt(edges[1:] * edges[:-1]) if dimension.log else (edges[1:] + edges[:-1]) / 2
    return [float(f"{middle:.4g}") for middle in middles], places.astype(np.int64)


def share_above_zero(scores: Sequence[float] | Column) -> float | None:
    """Return the share of points with a score whose score is above zero; None where none has one."""
    known = np.asarray(scores)[~np.isnan(scores)]
    return float(np.count_nonzero(known > 0) / len(known)) if len(known) else None
