"""Which combinations of parameters a search may try: a grid, or ranges to draw from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engine.core.expressions.resolution import closest
from engine.core.search.constraints import MOST_CONSTRAINTS, Constraint, total_violation
from engine.core.strategy_document import Param, StrategyDocument
from engine.errors import BadRequest, TooLarge

Matrix = NDArray[np.float64]
Point = dict[str, float]

MOST_VALUES = 100_000
_RANGE_FIX = 'give a list of values, or {"from": 5, "to": 50, "step": 5}'
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Dimension:
    """The values one parameter may take.

    Attributes
    ----------
    name : str
    low, high : float
        Inclusive.
    step : float or None
        Distance of neighbouring values from `low` on; None: any value between.
    log : bool
        Drawn evenly on a logarithmic scale.
    choices : tuple of float or None
        Exactly these instead, ascending.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    choices: tuple[float, ...] | None = None

    @property
    def count(self) -> int | None:
        """Return how many values there are, None for a continuum."""
        if self.choices is not None:
            return len(self.choices)
        return None if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def values(self) -> NDArray[np.float64]:
        """Return all values, ascending; only where they can be counted."""
        if self.choices is not None:
            return np.array(self.choices)
        if self.step is None or self.count is None:
            raise BadRequest(f"{self.name} is a continuum", fix="give a step")
        return np.round(self.low + self.step * np.arange(self.count, dtype=np.float64), _DIGITS)

    def draw(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at places in [0, 1)."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            drawn = np.exp(low + (high - low) * uniform)
            if self.step is None:
                return np.clip(drawn, self.low, self.high)
            steps = np.round((drawn - self.low) / self.step)
            return np.round(self.low + self.step * np.clip(steps, 0, (self.count or 1) - 1), _DIGITS)
        if self.count is not None:
            return self.values()[np.minimum((uniform * self.count).astype(np.int64), self.count - 1)]
        return self.low + (self.high - self.low) * uniform


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions and the conditions between them, checked against a strategy.

    Attributes
    ----------
    dimensions : tuple of Dimension
        In the order they were given.
    constraints : tuple of Constraint
    defaults : dict of str to float
        Of every parameter of the strategy, for conditions that speak of one that is not searched.
    """

    dimensions: tuple[Dimension, ...]
    constraints: tuple[Constraint, ...]
    defaults: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the searched parameters."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """Return how many points there are before conditions, None for a continuum."""
        counts = [dimension.count for dimension in self.dimensions]
        return None if None in counts else math.prod(cast("list[int]", counts))

    def violations(self, values: Matrix) -> NDArray[np.float64]:
        """Return by how much each row (shape (n, d)) breaks the conditions; 0 where all hold."""
        columns = {name: np.full(len(values), value) for name, value in self.defaults.items()}
        columns.update((name, values[:, place]) for place, name in enumerate(self.names))
        return total_violation(self.constraints, columns, len(values))

    def points(self, values: Matrix) -> list[Point]:
        """Return the rows as parameters by name."""
        return [dict(zip(self.names, row, strict=True)) for row in values.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class GridPoints:
    """The valid points of a grid, the last parameter moving fastest.

    Attributes
    ----------
    values : ndarray of float64, shape (n, d)
    skipped : int
        Points that break a condition.
    """

    values: Matrix
    skipped: int


def grid_points(space: Space) -> GridPoints:
    """Build the points of a space whose values can be counted."""
    columns = np.meshgrid(*(dimension.values() for dimension in space.dimensions), indexing="ij")
    values = np.stack([column.ravel() for column in columns], axis=1)
    keeps = space.violations(values) == 0
    return GridPoints(np.ascontiguousarray(values[keeps]), int(np.count_nonzero(~keeps)))


def draw_points(space: Space, count: int, generator: np.random.Generator, taken: set[tuple[float, ...]]) -> Matrix:
    """Return up to `count` distinct valid points that are not in `taken`, fewer where hardly any are left.

    Parameters
    ----------
    space : Space
    count : int
    generator : numpy Generator
    taken : set of tuple
        Points to leave out; it is not changed.

    Returns
    -------
    ndarray of float64, shape (n, d)
    """
    found: list[list[float]] = []
    known = set(taken)
    for _ in range(100):
        places = generator.random((max(count, 32), len(space.dimensions)))
        drawn = np.stack([each.draw(places[:, place]) for place, each in enumerate(space.dimensions)], axis=1)
        for row in drawn[space.violations(drawn) == 0].tolist():
            if len(found) < count and tuple(row) not in known:
                known.add(tuple(row))
                found.append(row)
        if len(found) >= count:
            break
    return np.array(found, np.float64).reshape(len(found), len(space.dimensions))


def read_grid(
    document: StrategyDocument, raw: Mapping[str, Any], constraints: Sequence[str] = (), *, most_points: int
) -> Space:
    """Return the space of a grid: every dimension a list of values, a range with a step, or one value.

    The size is known, and refused when it is too large, before any point exists.
    """
    space = _read(document, raw, constraints, needs_steps=True)
    size = space.size or 0
    if size > most_points:
        each = " x ".join(f"{dimension.name} {dimension.count:,}" for dimension in space.dimensions)
        raise TooLarge(
            f"the grid has {size:,} points ({each}); at most {most_points:,} are run",
            fix="take larger steps or fewer parameters, or draw from the same ranges with start_bayesian_search",
        )
    return space


def read_space(document: StrategyDocument, raw: Mapping[str, Any], constraints: Sequence[str] = ()) -> Space:
    """Return a space to draw from: ranges, perhaps with steps or logarithmic, or lists of choices."""
    return _read(document, raw, constraints, needs_steps=False)


def _read(
    document: StrategyDocument, raw: Mapping[str, Any], constraints: Sequence[str], *, needs_steps: bool
) -> Space:
    if not raw:
        known = ", ".join(document.params) or "none, so there is nothing to search"
        raise BadRequest("no parameter is given", fix=f"{_RANGE_FIX} for some of: {known}")
    if len(constraints) > MOST_CONSTRAINTS:
        raise BadRequest(f"there are {len(constraints)} constraints", fix=f"give at most {MOST_CONSTRAINTS}")
    dimensions: list[Dimension] = []
    for name, given in raw.items():
        param = document.params.get(name)
        if param is None:
            known = ", ".join(document.params) or "none"
            raise BadRequest(
                f"{document.name} has no parameter {name!r}",
                fix=f"{closest(name, document.params)} parameters: {known}".strip(),
            )
        dimension = _dimension(name, param, given, needs_steps=needs_steps)
        _check_bounds(dimension, param)
        dimensions.append(dimension)
    defaults = {name: param.default for name, param in document.params.items()}
    return Space(tuple(dimensions), tuple(Constraint(text, defaults) for text in constraints), defaults)


def _dimension(name: str, param: Param, given: Any, *, needs_steps: bool) -> Dimension:
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = [given]
    if isinstance(given, list | tuple):
        return _choices(name, param, cast("Sequence[Any]", given))
    if not isinstance(given, Mapping):
        raise BadRequest(f"{name}: {str(given)[:40]!r} is no range", fix=_RANGE_FIX)
    parts = dict(cast("Mapping[str, Any]", given))
    unknown = sorted(parts.keys() - {"from", "to", "step", "log"})
    if unknown or not {"from", "to"} <= parts.keys():
        raise BadRequest(f"{name}: found {', '.join(map(str, parts)) or 'nothing'}", fix=f"{name}: {_RANGE_FIX}")
    low, high = _number(name, parts["from"], param), _number(name, parts["to"], param)
    log = parts.get("log") is True
    step = parts.get("step")
    if step is None and (param.integer or needs_steps):
        step = 1.0 if param.integer else param.step
    if step is None and needs_steps:
        raise BadRequest(f"{name}: a grid needs a step", fix=_RANGE_FIX)
    step = None if step is None else _number(name, step, param)
    if low > high or (step is not None and step <= 0) or (log and low <= 0):
        raise BadRequest(
            f"{name}: from {low:g} to {high:g}" + ("" if step is None else f" by {step:g}") + (" (log)" if log else ""),
            fix="from is at most to, step above 0, and a logarithmic range begins above 0",
        )
    dimension = Dimension(name, low, high, step, log)
    if dimension.count is not None and dimension.count > MOST_VALUES:
        raise TooLarge(f"{name} has {dimension.count:,} values", fix="take a larger step")
    return dimension


def _choices(name: str, param: Param, given: Sequence[Any]) -> Dimension:
    if not given or len(given) > MOST_VALUES:
        raise BadRequest(f"{name} has {len(given)} values", fix=_RANGE_FIX)
    values = tuple(sorted({_number(name, value, param) for value in given}))
    return Dimension(name, values[0], values[-1], choices=values)


def _number(name: str, given: Any, param: Param) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if not is_number or (param.integer and not float(given).is_integer()):
        whole = " whole" if param.integer else ""
        raise BadRequest(f"{name}: found {str(given)[:40]!r}", fix=f"{name} takes{whole} numbers; {_RANGE_FIX}")
    return float(given)


def _check_bounds(dimension: Dimension, param: Param) -> None:
    if dimension.low < param.min or dimension.high > param.max:
        raise BadRequest(
            f"{dimension.name} reaches from {dimension.low:g} to {dimension.high:g}",
            fix=f"its bounds are {param.min:g} to {param.max:g}; save_strategy with wider ones to search beyond",
        )
