"""Runs the batches of a search: those that are committed are read, the others evaluated and recorded, each in one go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.evaluations import EvaluationBatch
from engine.core.search.objectives import Objective, eligible_points, ranking, unswept_metrics
from engine.core.search.table import PointTable
from engine.core.strategy_document import StrategyDocument
from engine.errors import Cancelled, Conflict
from engine.jobs import JobContext
from engine.ports import Clock
from engine.searches.market import LoadedMarket, ShouldStop, run_off_loop
from engine.searches.proposals import Proposer
from engine.store import Store
from engine.store.trial_store import METRIC, PARAMETER

BEST_METRICS = ("sharpe", "total_return", "max_drawdown", "trades")


@dataclass(frozen=True, slots=True)
class Order:
    """What the batches of one job share.

    Attributes
    ----------
    study_id : str
    origin : str
        Kind of the job, as the ledger keeps it.
    strategy : StrategyDocument
    objectives : sequence of Objective
    min_trades : int
    seed : int or None
    """

    study_id: str
    origin: str
    strategy: StrategyDocument
    objectives: Sequence[Objective]
    min_trades: int
    seed: int | None


@dataclass(slots=True)
class Progress:
    """Counts evaluations of a job and tells how far it is."""

    context: JobContext
    clock: Clock
    total: int
    done: int = 0
    message: str = ""
    best: dict[str, Any] | None = None
    _began: float = 0.0
    _done_at_begin: int = 0

    def begin(self, done: int) -> None:
        """Start the clock after `done` evaluations that an earlier run committed."""
        self._began, self._done_at_begin = self.clock.monotonic(), done

    def add(self, count: int) -> None:
        """Count evaluations and say so."""
        self.done += count
        self._report()

    def say(self, message: str) -> None:
        """Say what is done now."""
        self.message = message
        self._report()

    def _report(self) -> None:
        here = self.done - self._done_at_begin
        spent = self.clock.monotonic() - self._began
        left = max(self.total - self.done, 0)
        self.context.report(
            {
                "done": self.done,
                "total": self.total,
                "eta_seconds": round(spent / here * left, 1) if here > 0 else None,
                "message": self.message or f"{self.done:,} of {self.total:,} evaluations",
                "best": self.best,
            }
        )


@dataclass(slots=True)
class BatchRunner:
    """Runs proposals of one job over its markets. Numbers of batches count on over all of them.

    Attributes
    ----------
    committed : dict of int to PointTable
        What earlier runs of the job left.
    next_number : int
        Of the next batch of the job.
    """

    store: Store
    clock: Clock
    threads: int
    context: JobContext
    order: Order
    progress: Progress
    committed: dict[int, PointTable] = field(default_factory=dict[int, PointTable])
    next_number: int = 0

    async def recall(self, names: tuple[str, ...]) -> None:
        """Read what earlier runs of the job committed."""
        stored = await self.store.search_batches(self.context.job_id)
        self.committed = {number: table_of(columns, names) for number, columns in stored}
        self.progress.begin(sum(len(table) for table in self.committed.values()))

    async def run(self, market: LoadedMarket, names: tuple[str, ...], proposer: Proposer) -> PointTable:
        """Evaluate everything that is proposed and return it in the order of the proposals."""
        parts: list[PointTable] = []
        writing: asyncio.Task[Any] | None = None
        try:
            for number in itertools.count():
                self._stop_if_cancelled()
                part = self.committed.pop(self.next_number, None)
                if part is None:
                    known = PointTable.joined(names, parts)
                    values = await run_off_loop(self.context, lambda _, k=known, n=number: proposer.propose(n, k))
                    if len(values) == 0:
                        break
                    batch = await self._evaluated(market, names, values)
                    if writing is not None:
                        await writing
                    # The next batch is computed while this one is written; they are committed in order.
                    writing = asyncio.create_task(self._record(market, batch, self.next_number))
                    part = PointTable(names, values, dict(batch.metrics))
                elif number == 0:
                    await self._check_unchanged(market, part)
                parts.append(part)
                self.next_number += 1
                await self._tell(PointTable.joined(names, parts), len(part))
            if writing is not None:
                await writing
        finally:
            if writing is not None and not writing.done():
                await asyncio.wait({writing})
        return PointTable.joined(names, parts)

    async def _evaluated(
        self, market: LoadedMarket, names: tuple[str, ...], values: NDArray[np.float64]
    ) -> EvaluationBatch:
        points = [dict(zip(names, row, strict=True)) for row in values.tolist()]

        def evaluate(should_stop: ShouldStop) -> EvaluationBatch:
            return market.evaluate(
                self.order.strategy,
                points,
                should_stop=should_stop,
                threads=self.threads,
                seed=self.order.seed,
                unswept=unswept_metrics(self.order.objectives),
            )

        return await run_off_loop(self.context, evaluate)

    async def _record(self, market: LoadedMarket, batch: EvaluationBatch, number: int) -> None:
        where = await asyncio.to_thread(lambda: market.slice)
        await self.store.record_trials(
            self.order.study_id,
            where,
            batch,
            origin=self.order.origin,
            at_ms=self.clock.now_ms(),
            job_id=self.context.job_id,
            batch_no=number,
        )

    async def _check_unchanged(self, market: LoadedMarket, stored: PointTable) -> None:
        """Refuse to go on where candles, costs or rules are no longer those of the committed points."""
        again = await self._evaluated(market, stored.names, stored.values[:1])
        if any(
            not np.array_equal(column[:1], stored.metrics[name][:1], equal_nan=True)
            for name, column in again.metrics.items()
        ):
            raise Conflict(
                "the candles or costs have changed since this search began, so its points cannot be compared",
                fix="start the search again: it begins anew on the data of today",
            )

    async def _tell(self, table: PointTable, count: int) -> None:
        self.progress.best = await run_off_loop(
            self.context, lambda _: best_of(table, self.order.objectives, self.order.min_trades)
        )
        self.progress.add(count)

    def _stop_if_cancelled(self) -> None:
        if self.context.cancelled.is_set():
            raise Cancelled("the search was cancelled", fix="the same request goes on from the last batch")


def table_of(columns: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> PointTable:
    """Return a stored batch as it was evaluated."""
    return PointTable(
        names,
        np.stack([columns[PARAMETER + name] for name in names], axis=1),
        {name.removeprefix(METRIC): column for name, column in columns.items() if name.startswith(METRIC)},
    )


def score_matrix(table: PointTable, objectives: Sequence[Objective], min_trades: int) -> NDArray[np.float64]:
    """Return the score of every point in every objective (shape (n, k)), higher is better, NaN where there is none."""
    eligible = eligible_points(table.metrics, min_trades)
    return np.stack([objective.scores(table.metrics, eligible) for objective in objectives], axis=1)


def best_of(table: PointTable, objectives: Sequence[Objective], min_trades: int) -> dict[str, Any] | None:
    """Return the best point so far with its figures; None while no point is eligible."""
    scores = score_matrix(table, objectives, min_trades)
    row = int(ranking(objectives, scores)[0][0])
    if np.isnan(scores[row]).any():
        return None
    return {
        "params": dict(zip(table.names, table.values[row].tolist(), strict=True)),
        "score": objectives[0].shown(float(scores[row, 0])),
        **{name: rounded(table.metrics[name][row]) for name in BEST_METRICS},
    }


def rounded(value: float) -> float | None:
    """Return six digits, None for NaN."""
    return None if np.isnan(value) else float(f"{value:.6g}")
