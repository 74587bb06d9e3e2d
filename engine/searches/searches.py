"""Takes orders for searches: checked to the end before a job exists, so that a mistake is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from engine.core.run_settings import RunSettings
from engine.core.search.objectives import RawObjective, read_objectives
from engine.core.search.space import Point
from engine.core.series import Category, Series
from engine.core.strategy import compile_strategy
from engine.core.timeframes import Interval, count_opens
from engine.core.validation.splits import walk_forward_windows
from engine.errors import BadRequest
from engine.instruments import Instruments
from engine.jobs import Jobs, JobView
from engine.ports import Feed
from engine.searches.bodies import SearchBody, SearchParts
from engine.searches.requests import SearchPlan, SearchTarget, plan_search
from engine.searches.walk_forward import WalkForwardBody
from engine.store.study_store import StudyRecord
from engine.strategies import Strategies
from engine.studies import Studies

SearchKind = Literal["grid", "bayesian"]
SEARCH_KINDS = ("grid", "bayesian", "walk_forward")


@dataclass(frozen=True, slots=True)
class SearchOrder:
    """What a caller asks for: strategy, market, range, costs and what to look for."""

    strategy: str | Mapping[str, Any]
    symbol: str
    category: Category
    interval: Interval
    range_ms: tuple[int, int]
    settings: RunSettings
    objective: RawObjective
    min_trades: int
    constraints: tuple[str, ...]
    study: str | None
    sealed: bool | None


@dataclass(frozen=True, slots=True)
class Started:
    """A job that was started, or that did or does the same already.

    Attributes
    ----------
    job : JobView
    total : int
        Evaluations the search will take.
    skipped : int
        Points of a grid that break a constraint.
    study : StudyRecord
    """

    job: JobView
    total: int
    skipped: int
    study: StudyRecord


class Searches:
    """Starts searches and reads their results."""

    def __init__(
        self,
        parts: SearchParts,
        feed: Feed,
        instruments: Instruments,
        strategies: Strategies,
        studies: Studies,
        jobs: Jobs,
    ) -> None:
        self._parts = parts
        self._feed = feed
        self._instruments = instruments
        self._strategies = strategies
        self._studies = studies
        self._jobs = jobs

    async def start(self, kind: SearchKind, order: SearchOrder, search: Mapping[str, Any]) -> Started:
        """Start a search over the whole range: `search` is {grid}, or {space, trials, seed, sampler}."""
        target = await self._target(order)
        plan = await self._plan(target, search)
        study = await self._study(order, target)
        job = await self._jobs.submit(kind, target.request(study.id, study.name if order.study else None, search))
        return Started(job, plan.proposer.total, plan.skipped, study)

    async def start_walk_forward(
        self, order: SearchOrder, search: Mapping[str, Any], windows: Mapping[str, Any]
    ) -> Started:
        """Start a walk-forward: `windows` has mode, windows, in_sample_ratio, purge_bars and embargo_bars."""
        target = await self._target(order)
        if len(target.objectives) > 1:
            raise BadRequest(
                "a refit chooses one point, so it needs one objective",
                fix='name one metric, or weights such as {"sharpe": 1, "max_drawdown": -0.5}',
            )
        plan = await self._plan(target, search)
        # What does not fit even the whole range is told now; the stored candles may be fewer.
        walk_forward_windows(
            count_opens(order.interval, *order.range_ms),
            int(windows["windows"]),
            float(windows["in_sample_ratio"]),
            windows["mode"],
            purge_bars=int(windows["purge_bars"] or 0),
            embargo_bars=int(windows["embargo_bars"]),
        )
        total = plan.proposer.total * int(windows["windows"])
        if total > self._parts.most_points:
            raise BadRequest(
                f"{windows['windows']} refits of {plan.proposer.total:,} points are {total:,} evaluations",
                fix=f"at most {self._parts.most_points:,} are run: take a smaller grid, fewer trials or fewer windows",
            )
        study = await self._study(order, target)
        job = await self._jobs.submit(
            "walk_forward",
            target.request(study.id, study.name if order.study else None, search) | {"windows": dict(windows)},
        )
        return Started(job, total, plan.skipped, study)

    async def page(self, job: JobView, result: Mapping[str, Any], offset: int, limit: int) -> list[dict[str, Any]]:
        """Return points of a finished search, best first: the first ones from its result, later ones from the store."""
        items: list[dict[str, Any]] = result["items"]
        if job.kind == "walk_forward" or offset + limit <= len(items) or len(items) >= result["total"]:
            return items[offset : offset + limit]
        rows = await SearchBody(job.kind, self._parts).page(job.id, job.request, offset, limit)
        return [*items[offset : offset + limit], *rows[len(items[offset : offset + limit]) :]]

    async def trial_count(self, study_id: str) -> int:
        """Return how many trials a study holds now."""
        return await self._parts.store.trial_count(study_id)

    async def _target(self, order: SearchOrder) -> SearchTarget:
        named = await self._strategies.resolve(order.strategy)
        return SearchTarget(
            strategy=named.parsed,
            series=Series(self._feed.name, order.category, order.symbol, "trade", order.interval),
            start_ms=order.range_ms[0],
            end_ms=order.range_ms[1],
            settings=order.settings,
            objective=order.objective,
            min_trades=order.min_trades,
            constraints=order.constraints,
        )

    async def _plan(self, target: SearchTarget, search: Mapping[str, Any]) -> SearchPlan:
        read_objectives(target.objective)
        plan = await asyncio.to_thread(plan_search, target, search, most_points=self._parts.most_points)
        await asyncio.to_thread(_check_ends, target, plan)
        return plan

    async def _study(self, order: SearchOrder, target: SearchTarget) -> StudyRecord:
        series = target.series
        if not await self._parts.store.coverage(series):
            await self._instruments.find(order.category, order.symbol)
        return await self._studies.resolve(
            order.study, order.sealed, series.feed, series.category, (series.symbol,), order.range_ms
        )


def _check_ends(target: SearchTarget, plan: SearchPlan) -> None:
    """Compile the points at the ends of every dimension: a rule that cannot be is told now, not when it is its turn."""
    middle: Point = {dimension.name: dimension.low for dimension in plan.space.dimensions}
    compile_strategy(target.strategy, middle)
    for dimension in plan.space.dimensions:
        compile_strategy(target.strategy, middle | {dimension.name: dimension.high})


def search_bodies(parts: SearchParts) -> dict[str, SearchBody | WalkForwardBody]:
    """Return the bodies of all kinds of searches."""
    bodies: dict[str, SearchBody | WalkForwardBody] = {
        kind: SearchBody(kind, parts) for kind in cast("tuple[SearchKind, ...]", ("grid", "bayesian"))
    }
    return bodies | {"walk_forward": WalkForwardBody(parts)}
