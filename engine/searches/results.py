"""What a finished search says: the best points with their neighbours, the surface, and what luck alone would show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.metrics.facts import PERIODS_PER_YEAR
from engine.core.search.objectives import Objective, eligible_points, ranking
from engine.core.search.plateau import Neighbours, neighbourhood, share_above_zero, surface
from engine.core.search.table import PointTable
from engine.core.validation.effective_trials import effective_trials
from engine.core.validation.sharpe_inference import expected_max_sharpe
from engine.errors import BadRequest
from engine.jobs import JobContext
from engine.searches.batches import rounded, score_matrix
from engine.searches.market import ShouldStop, run_off_loop
from engine.searches.requests import SearchPlan
from engine.store import Store

SHOWN_METRICS = ("sharpe", "total_return", "max_drawdown", "trades", "win_rate", "profit_factor")
TOP_ITEMS = 50
_MULTIPLIER_SEED = 20_140_831
_LEAST_DAYS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """All distinct points of a search, best first."""

    plan: SearchPlan
    objectives: Sequence[Objective]
    table: PointTable
    scores: NDArray[np.float64]
    order: NDArray[np.int64]
    best: int
    neighbours: Neighbours

    @classmethod
    def of(cls, plan: SearchPlan, objectives: Sequence[Objective], min_trades: int, table: PointTable) -> Ranked:
        """Rank the points of a search."""
        distinct = table.distinct()
        scores = score_matrix(distinct, objectives, min_trades)
        order, best = ranking(objectives, scores)
        neighbours = Neighbours(plan.space, distinct, is_grid=plan.is_grid)
        return cls(plan, objectives, distinct, scores, order, best, neighbours)

    def __len__(self) -> int:
        return len(self.table)

    def items(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return some points as people see them."""
        return [self._item(offset + place, int(row)) for place, row in enumerate(self.order[offset : offset + limit])]

    def _item(self, place: int, row: int) -> dict[str, Any]:
        objective, scores = self.objectives[0], self.scores[:, 0]
        around = neighbourhood(objective, scores, self.neighbours.of(row), row)
        names = dict.fromkeys((*SHOWN_METRICS, *(name for each in self.objectives for name in each.weights)))
        item: dict[str, Any] = {
            "rank": place + 1,
            "params": dict(zip(self.table.names, self.table.values[row].tolist(), strict=True)),
            "score": _shown(objective, scores[row]),
            "metrics": {name: rounded(self.table.metrics[name][row]) for name in names},
            "neighbours": {
                "count": around.neighbours,
                "median": None if around.median is None else rounded(around.median),
                "plateau": None if around.plateau is None else rounded(around.plateau),
                "spike": around.spike,
            },
        }
        if len(self.objectives) > 1:
            item["on_front"] = place < self.best
        return item

    def summary(self, min_trades: int) -> dict[str, Any]:
        """Return what is said about the search as a whole."""
        eligible = eligible_points(self.table.metrics, min_trades)
        return {
            "objective": " and ".join(objective.text for objective in self.objectives),
            "min_trades": min_trades,
            "points": len(self),
            "eligible": int(np.count_nonzero(~np.isnan(self.scores).any(axis=1))),
            "too_few_trades": int(np.count_nonzero(~eligible)),
            "skipped_by_constraints": self.plan.skipped,
            "share_above_zero": share_above_zero(self.scores[:, 0]) if self.objectives[0].is_ratio else None,
            "share_profitable": share_above_zero(self.table.metrics["total_return"]),
            "neighbours_are": self.neighbours.kind,
            "front": self.best if len(self.objectives) > 1 else None,
        }

    def surface(self) -> dict[str, Any]:
        """Return the scores over the parameters that matter most."""
        return surface(self.plan.space, self.table, self.objectives[0], self.scores[:, 0])


def _shown(objective: Objective, score: float) -> float | None:
    shown = objective.shown(float(score))
    return None if shown is None else rounded(shown)


@dataclass(frozen=True, slots=True)
class Luck:
    """The Sharpe ratio that the best of a study's trials is expected to show without any skill.

    Attributes
    ----------
    trials : int
        Distinct strategies the study evaluated so far.
    effective_trials : float
        Independent ones among them; those on other days count in full.
    sharpe_variance : float
        Of the annualised Sharpe ratios of the trials.
    expected_max_sharpe : float
        Annualised.
    method : str
    """

    trials: int
    effective_trials: float
    sharpe_variance: float
    expected_max_sharpe: float
    method: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


async def measure_luck(
    store: Store, study_id: str, context: JobContext, marks_ms: NDArray[np.int64] | None = None
) -> Luck:
    """Return what luck alone would show in a study, judged on the days of the search.

    Notes
    -----
    Bailey and Lopez de Prado 2014, eq. 1, with the variance of the trials' Sharpe ratios and the effective number of
    trials; the square root of 365 makes it annual.
    """
    trials = await store.trial_count(study_id)
    matrix = await store.trial_matrix(study_id, like=marks_ms)

    def weigh(_: ShouldStop) -> Luck:
        known = matrix.daily_sharpe[~np.isnan(matrix.daily_sharpe)]
        variance = float(known.var(ddof=1)) if len(known) > 1 else 0.0
        count, method = float(max(trials, 1)), "all trials counted as independent"
        if len(matrix) > 1 and matrix.returns.shape[1] >= _LEAST_DAYS:
            try:
                weighed = effective_trials(matrix.returns, np.random.default_rng(_MULTIPLIER_SEED))
            except BadRequest:
                weighed = None
            if weighed is not None:
                count = min(weighed.effective + max(trials - len(matrix), 0), count)
                method = weighed.method
        best = expected_max_sharpe(max(count, 1.0), variance) * np.sqrt(PERIODS_PER_YEAR)
        return Luck(trials, round(count, 2), variance * PERIODS_PER_YEAR, float(best), method)

    return await run_off_loop(context, weigh)
