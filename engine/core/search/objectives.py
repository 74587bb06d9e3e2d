"""What a search looks for: a metric, a weighted combination of metrics, or several at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.expressions.resolution import closest
from engine.core.metrics import METRICS
from engine.core.sweep import SWEEP_METRICS
from engine.errors import BadRequest

Column = NDArray[np.float64]
RawObjective = str | Mapping[str, float] | Sequence[str]

# Metrics that say nothing of how good a point is.
NOT_SEARCHED: Mapping[str, str] = {
    "initial_capital": "it is a setting, the same at every point",
    "buy_and_hold_return": "it is the market's, whatever the strategy does",
}
OBJECTIVES: tuple[str, ...] = tuple(name for name in METRICS if name not in NOT_SEARCHED)
MOST_TERMS = 6
MOST_FRONTS = 3
DEFAULT_MIN_TRADES = 10


@dataclass(frozen=True, slots=True)
class Objective:
    """One number a point.

    Attributes
    ----------
    weights : dict of str to float
        A single metric has weight 1 when higher values are better and -1 when lower ones are.
    is_weighted : bool
        Whether metrics are brought to one scale before they are added: each becomes its percentile rank among the
        eligible points, 0 the lowest value and 1 the highest, ties in the middle.
    """

    weights: Mapping[str, float]
    is_weighted: bool

    @property
    def text(self) -> str:
        """Return its name, for people."""
        if not self.is_weighted:
            return next(iter(self.weights))
        return " ".join(f"{weight:+g} rank({name})" for name, weight in self.weights.items())

    @property
    def is_ratio(self) -> bool:
        """Tell whether scores may be compared as shares of each other: zero is nothing, and more is better."""
        return not self.is_weighted and next(iter(self.weights.values())) > 0

    def scores(self, metrics: Mapping[str, Column], eligible: NDArray[np.bool_]) -> Column:
        """Return the score of every point, higher is better.

        Parameters
        ----------
        metrics : mapping of str to ndarray of float64, shape (n,)
        eligible : ndarray of bool, shape (n,)

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN where a metric is undefined or the point is not eligible.
        """
        undefined = np.stack([np.isnan(metrics[name]) for name in self.weights])
        defined = eligible & ~undefined.any(axis=0)
        total = np.zeros(len(eligible))
        for name, weight in self.weights.items():
            total += weight * (percentile_ranks(metrics[name], defined) if self.is_weighted else metrics[name])
        return np.where(defined, total, np.nan)

    def shown(self, score: float) -> float | None:
        """Return a score as people know it: the metric itself, not its negative."""
        if math.isnan(score):
            return None
        return score if self.is_weighted else score * next(iter(self.weights.values()))


def read_objectives(raw: RawObjective) -> tuple[Objective, ...]:
    """Return what was asked for: a metric's name, weights by metric, or several names that compete."""
    if isinstance(raw, str):
        return (_single(raw),)
    if isinstance(raw, Mapping):
        return (_weighted(raw),)
    names = list(dict.fromkeys(raw))
    if not 1 <= len(names) <= MOST_FRONTS:
        raise BadRequest(f"found {len(names)} objectives", fix=f"name 1 to {MOST_FRONTS} metrics")
    return tuple(_single(name) for name in names)


def unswept_metrics(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return the metrics of the objectives that a sweep does not measure, so that each point needs a run of its own."""
    names = dict.fromkeys(name for objective in objectives for name in objective.weights)
    return tuple(name for name in names if name not in SWEEP_METRICS)


def percentile_ranks(column: Column, among: NDArray[np.bool_]) -> Column:
    """Return where each value stands among the chosen ones: 0 lowest, 1 highest, ties in the middle, alone 0.5.

    >>> percentile_ranks(np.array([3.0, 1.0, 3.0, 9.0]), np.ones(4, bool))
    array([0.5, 0. , 0.5, 1. ])
    """
    ranks = np.full(len(column), np.nan)
    chosen = column[among]
    if len(chosen) == 0:
        return ranks
    _, places, counts = np.unique(chosen, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    middle = below + (counts - 1) / 2.0
    ranks[among] = middle[places] / (len(chosen) - 1) if len(chosen) > 1 else 0.5
    return ranks


def eligible_points(metrics: Mapping[str, Column], min_trades: int) -> NDArray[np.bool_]:
    """Tell which points traded often enough to be judged."""
    return metrics["trades"] >= min_trades


def undominated(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows no other row beats: as good in every column and better in one.

    Parameters
    ----------
    scores : ndarray of float64, shape (n, k)
        Higher is better; a row with NaN is beaten.
    """
    best: list[int] = []
    rows = np.flatnonzero(~np.isnan(scores).any(axis=1))
    # A row can only be beaten by one with a higher sum, so those that are met first stay.
    rows = rows[np.argsort(-scores[rows].sum(axis=1), kind="stable")]
    while len(rows):
        first = scores[rows[0]]
        best.append(int(rows[0]))
        others = scores[rows[1:]]
        is_beaten = np.asarray((first >= others).all(axis=1) & (first > others).any(axis=1))
        rows = rows[1:][~is_beaten]
    return np.isin(np.arange(len(scores)), best)


def ranking(objectives: Sequence[Objective], scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Order points from best to worst and return how many of them are best without dispute.

    Parameters
    ----------
    objectives : sequence of Objective
    scores : ndarray of float64, shape (n, k)

    Returns
    -------
    ndarray of int64, shape (n,)
        Undominated points first, by the first objective; then the others by the mean of their ranks; points without a
        score last. Equal points keep their order of evaluation.
    int
        Undominated points; with one objective those that share the highest score.
    """
    defined: NDArray[np.bool_] = np.asarray(~np.isnan(scores).any(axis=1))
    if len(objectives) == 1:
        key = np.where(defined, scores[:, 0], -np.inf)
        best = int(np.count_nonzero(defined & (scores[:, 0] == key.max(initial=-np.inf))))
        return np.lexsort((np.arange(len(key)), -key, ~defined)).astype(np.int64), best
    front = undominated(scores)
    ranks = np.mean([percentile_ranks(column, defined) for column in scores.T], axis=0)
    key = np.where(front, scores[:, 0], np.where(defined, ranks, -np.inf))
    order = np.lexsort((np.arange(len(key)), -key, ~front, ~defined))
    return order.astype(np.int64), int(np.count_nonzero(front))


def _single(name: str) -> Objective:
    return Objective({_known(name): 1.0 if METRICS[name].better == "higher" else -1.0}, is_weighted=False)


def _weighted(raw: Mapping[str, float]) -> Objective:
    weights = {_known(name): float(weight) for name, weight in raw.items()}
    if not 1 <= len(weights) <= MOST_TERMS or not all(math.isfinite(value) and value for value in weights.values()):
        raise BadRequest(
            f"weights {dict(raw)}"[:120],
            fix=f'give 1 to {MOST_TERMS} weights other than 0, below 0 where less is better: {{"sharpe": 1, "max_drawdown": -0.5}}',
        )
    return Objective(weights, is_weighted=True)


def _known(name: str) -> str:
    if name in NOT_SEARCHED:
        raise BadRequest(
            f"{name!r} cannot be an objective: {NOT_SEARCHED[name]}", fix=f"metrics: {', '.join(OBJECTIVES)}"
        )
    if name not in OBJECTIVES:
        raise BadRequest(
            f"there is no metric {name!r}",
            fix=f"{closest(name, OBJECTIVES)} metrics: {', '.join(OBJECTIVES)}".strip(),
        )
    return name
