"""A market made ready for many evaluations: candles, instrument rules and other inputs, gathered once as for one run."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from engine.backfill import Backfill, BackfillProgress
from engine.backtests.backtests import check_leverage
from engine.backtests.computation import execution_settings, fitting_rules, instrument_rules
from engine.backtests.evaluation import evaluation_slice
from engine.core.candles import Candles, FloatColumn
from engine.core.evaluations import EvaluationBatch, EvaluationSlice
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import part_of
from engine.core.metrics import METRICS, gather_facts
from engine.core.run_settings import RunSettings
from engine.core.series import Category, Series
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.sketches import sketch_of
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.sweep import sweep
from engine.core.sweep.columns import BoundedMemo
from engine.core.times import iso_utc
from engine.errors import BadRequest, Cancelled, DataMissing
from engine.history import History, LoadedCandles
from engine.instruments import Instruments
from engine.jobs import JobContext
from engine.run_inputs import RunInputs, RunInputSource

Points = Sequence[Mapping[str, float]]
ShouldStop = Callable[[], bool]
Result = TypeVar("Result")
# Of the columns that runs of single points share.
_MEMO_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, eq=False)
class LoadedMarket:
    """Everything that evaluations of strategies on one range share.

    Attributes
    ----------
    series : Series
    loaded : LoadedCandles
    settings : RunSettings
    rules : dict or None
        Of the instrument, as they stand in the manifest of a run.
    inputs : RunInputs
        Funding, marks, tiers and series of the strategy language, laid beside the candles.
    """

    series: Series
    loaded: LoadedCandles
    settings: RunSettings
    rules: Mapping[str, str | None] | None
    inputs: RunInputs

    @property
    def candles(self) -> Candles:
        """Return the candles."""
        return self.loaded.candles

    @property
    def slice(self) -> EvaluationSlice:
        """Return what trials on this market are recorded under."""
        return evaluation_slice(self.series, self.candles, self.settings, self.rules, self.inputs.described)

    def part(self, start: int, end: int) -> LoadedMarket:
        """Return the bars [start, end) as a market of their own."""
        inputs = replace(
            self.inputs,
            detail=part_of(self.inputs.detail, start, end),
            extras={name: column[start:end] for name, column in self.inputs.extras.items()},
        )
        candles = self.candles.take(slice(start, end))
        return replace(self, loaded=replace(self.loaded, candles=candles), inputs=inputs)

    def execution(self, compiled: CompiledStrategy) -> ExecutionSettings:
        """Return the simulator's settings for a strategy, as run_backtest has them."""
        return execution_settings(self.settings, compiled.size, self.series.category, self.rules, self.inputs)

    def evaluate(
        self,
        document: StrategyDocument,
        points: Points,
        *,
        should_stop: ShouldStop,
        threads: int,
        seed: int | None = None,
        unswept: Sequence[str] = (),
    ) -> EvaluationBatch:
        """Run a strategy at every point; the figures are those of run_backtest at the same point.

        Metrics `unswept` are measured besides, in a second run of each point.
        """
        compiled = [compile_strategy(document, point) for point in points[:1]]
        result = sweep(
            self.candles,
            document,
            points,
            self.series.interval,
            self.execution(compiled[0]),
            extras=self.inputs.extras,
            returns_dtype=np.float32,
            uses_document_size=self.settings.size is None and document.size is not None,
            threads=threads,
            cancelled=should_stop,
            detail=self.inputs.detail,
        )
        return EvaluationBatch(
            strategy=document.name,
            fingerprints=fingerprints(document, points, should_stop),
            points=points,
            metrics=result.values | self._unswept(document, points, unswept, should_stop, threads),
            marks_ms=result.marks_ms,
            daily_returns=result.daily_returns.astype(np.float32, copy=False),
            seed=seed,
            sketches=[sketch_of(self.series.symbol, self.series.interval, self.candles)],
        )

    def _unswept(
        self,
        document: StrategyDocument,
        points: Points,
        names: Sequence[str],
        should_stop: ShouldStop,
        threads: int,
    ) -> dict[str, FloatColumn]:
        if not names:
            return {}
        for name in names:
            if name in self.inputs.unmodelled:
                raise BadRequest(
                    f"{name!r} cannot be an objective here: {self.inputs.unmodelled[name]}", fix="choose another metric"
                )
        memo = BoundedMemo(_MEMO_BYTES)

        def measured(point: Mapping[str, float]) -> list[float]:
            if should_stop():
                raise Cancelled("the search was cancelled", fix="start it again when it is wanted")
            compiled = compile_strategy(document, point)
            interval, execution = self.series.interval, self.execution(compiled)
            signals = compute_signals(compiled, self.candles, interval, extras=self.inputs.extras, memo=memo)
            simulation = simulate(self.candles, signals, execution, self.inputs.detail)
            facts = gather_facts(simulation, self.candles, interval, execution)
            return [_number(METRICS[name].measure(facts)) for name in names]

        with ThreadPoolExecutor(max(threads, 1)) as pool:
            columns = np.array(list(pool.map(measured, points)), np.float64).T
        return dict(zip(names, columns, strict=True))


def _number(outcome: float | str) -> float:
    return float(outcome) if not isinstance(outcome, str) and math.isfinite(outcome) else math.nan


def fingerprints(document: StrategyDocument, points: Points, should_stop: ShouldStop) -> list[str]:
    """Return the fingerprint of the strategy at every point."""
    found: list[str] = []
    for point in points:
        if should_stop():
            raise Cancelled("the search was cancelled", fix="start it again when it is wanted")
        found.append(compile_strategy(document, point).fingerprint())
    return found


class MarketLoader:
    """Gathers markets for jobs; what is missing of the candles is fetched, however long it takes."""

    def __init__(self, backfill: Backfill, history: History, instruments: Instruments, inputs: RunInputSource) -> None:
        self._backfill = backfill
        self._history = history
        self._instruments = instruments
        self._inputs = inputs

    async def load(
        self,
        series: Series,
        range_ms: tuple[int, int],
        settings: RunSettings,
        document: StrategyDocument,
        context: JobContext,
    ) -> LoadedMarket:
        """Return the market of a job's request."""

        def tell(progress: BackfillProgress) -> None:
            context.report({"message": progress.message or f"fetching {series}: page {progress.pages_done}"})

        start_ms, end_ms = range_ms
        try:
            loaded = await self._history.load(series, start_ms, end_ms)
        except DataMissing:
            await self._backfill.run(series, start_ms, end_ms, progress=tell, cancelled=context.cancelled)
            loaded = await self._history.load(series, start_ms, end_ms)
        if len(loaded.candles) == 0:
            raise DataMissing(
                f"there are no candles of {series} between {iso_utc(start_ms)} and {iso_utc(end_ms)}",
                fix="choose a later range: get_instrument shows the launch, get_coverage what is stored",
            )
        instrument = await self._instruments.find_if_reachable(series.category, series.symbol)
        check_leverage(settings, instrument)
        # When the exchange does not even tell the instrument, only what is stored can be used.
        stored_tiers = () if instrument is None else None
        inputs = await self._inputs.gather(
            series, loaded.candles, settings, minutes=settings.intrabar == "magnify", stored_tiers=stored_tiers
        )
        extras = await self._inputs.extras(series, loaded.candles, compile_strategy(document).series)
        rules = fitting_rules(instrument_rules(instrument), loaded)
        return LoadedMarket(series, loaded, settings, rules, replace(inputs, extras=extras))


async def run_off_loop(context: JobContext, work: Callable[[ShouldStop], Result]) -> Result:
    """Run a computation on a thread; a wish to stop, or the end of the job's task, reaches it at its next look."""
    stop = threading.Event()

    def should_stop() -> bool:
        return stop.is_set() or context.cancelled.is_set()

    try:
        return await asyncio.to_thread(work, should_stop)
    except asyncio.CancelledError:
        stop.set()
        raise


def series_of(request: Mapping[str, Any]) -> Series:
    """Return the candle series of a job's request."""
    category: Category = request["category"]
    return Series(request["feed"], category, request["symbol"], "trade", request["interval"])
