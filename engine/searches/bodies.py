"""The jobs of kind `grid` and `bayesian`: one search over one range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.backtests import Backtests
from engine.backtests.computation import rule_warnings
from engine.core.search.table import PointTable
from engine.core.times import iso_utc
from engine.jobs import JobContext
from engine.ports import Clock
from engine.searches.batches import BatchRunner, Order, Progress, table_of
from engine.searches.market import LoadedMarket, MarketLoader, run_off_loop, series_of
from engine.searches.requests import Document, SearchTarget, plan_search, target_of
from engine.searches.results import TOP_ITEMS, Luck, Ranked, measure_luck
from engine.store import Store

# So many of the best points are kept as runs, so that they can be looked at and judged.
KEPT_RUNS = 3


@dataclass(frozen=True, slots=True)
class SearchParts:
    """What the bodies of searches work with.

    Attributes
    ----------
    threads : int
        For one evaluation.
    most_points : int
        Of a grid, and of proposals.
    """

    store: Store
    clock: Clock
    markets: MarketLoader
    backtests: Backtests
    threads: int
    most_points: int


class SearchBody:
    """Proposes, evaluates and records points; then ranks them. The request's `search` is a grid or a space to draw from."""

    def __init__(self, kind: str, parts: SearchParts) -> None:
        self._kind = kind
        self._parts = parts

    async def run(self, request: Document, context: JobContext) -> Document:
        """Run the search, or what is left of it."""
        parts, target = self._parts, target_of(request)
        plan = await run_off_loop(
            context, lambda _: plan_search(target, request["search"], most_points=parts.most_points)
        )
        market = await parts.markets.load(
            target.series, (target.start_ms, target.end_ms), target.settings, target.strategy, context
        )
        runner = make_runner(parts, self._kind, request, target, plan.proposer.total, context)
        await runner.recall(plan.space.names)
        table = await runner.run(market, plan.space.names, plan.proposer)
        runner.progress.say("ranking the points")
        ranked = await run_off_loop(context, lambda _: Ranked.of(plan, target.objectives, target.min_trades, table))
        luck = await measure_luck(parts.store, request["study_id"], context)
        items = await run_off_loop(context, lambda _: ranked.items(0, TOP_ITEMS))
        await keep_runs(parts.backtests, target, request, items[:KEPT_RUNS])
        return {
            "data": data_document(market),
            "study_id": request["study_id"],
            "summary": ranked.summary(target.min_trades),
            "luck": luck.document(),
            "surface": await run_off_loop(context, lambda _: ranked.surface()),
            "total": len(ranked),
            "items": items,
        }

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Return whether the candles are those the search ran on."""
        return await has_same_candles(self._parts.store, request, result)

    async def page(self, job_id: str, request: Document, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return points of a finished search from its stored batches, best first, beyond those its result holds."""
        target = target_of(request)
        stored = await self._parts.store.search_batches(job_id)

        def ranked(_: object) -> list[dict[str, Any]]:
            plan = plan_search(target, request["search"], most_points=self._parts.most_points)
            names = plan.space.names
            table = PointTable.joined(names, [table_of(columns, names) for _, columns in stored])
            return Ranked.of(plan, target.objectives, target.min_trades, table).items(offset, limit)

        return await run_off_loop(JobContext(job_id), ranked)


def make_runner(
    parts: SearchParts, kind: str, request: Document, target: SearchTarget, total: int, context: JobContext
) -> BatchRunner:
    """Return the runner of a job's batches."""
    order = Order(
        study_id=request["study_id"],
        origin=kind,
        strategy=target.strategy,
        objectives=target.objectives,
        min_trades=target.min_trades,
        seed=request["search"].get("seed"),
    )
    return BatchRunner(parts.store, parts.clock, parts.threads, context, order, Progress(context, parts.clock, total))


def data_document(market: LoadedMarket) -> dict[str, Any]:
    """Return what a search ran on."""
    where = market.slice
    return {
        "symbol": where.symbol,
        "category": where.category,
        "interval": where.interval,
        "start": iso_utc(where.start_ms),
        "end": iso_utc(where.end_ms),
        "bars": where.bars,
        "source": market.loaded.source,
        "sha256": where.data_sha256,
        "assumptions": list(market.inputs.assumptions),
        "warnings": [*rule_warnings(market.rules), *market.inputs.warnings],
    }


async def keep_runs(backtests: Backtests, target: SearchTarget, request: Document, items: list[dict[str, Any]]) -> None:
    """Store points that have a score as runs, and put their ids into the items."""
    for item in items:
        if item["score"] is None:
            continue
        run = await backtests.run(
            strategy=target.strategy.model_dump(mode="json", exclude_none=True),
            params=item["params"],
            symbol=target.series.symbol,
            category=target.series.category,
            interval=target.series.interval,
            start_ms=target.start_ms,
            end_ms=target.end_ms,
            settings=target.settings,
            study=request["study"],
        )
        item["run_id"] = run["run_id"]


async def has_same_candles(store: Store, request: Document, result: Mapping[str, Any]) -> bool:
    """Tell whether the stored candles of a request are those of its result."""
    start_ms, end_ms = int(request["start_ms"]), int(request["end_ms"])
    candles = await store.read_candles(series_of(request), start_ms, end_ms)
    return len(candles) > 0 and candles.sha256() == result["data"]["sha256"]


def luck_of(result: Document) -> Luck | None:
    """Return the luck a result was measured against."""
    return Luck(**result["luck"]) if result.get("luck") else None
