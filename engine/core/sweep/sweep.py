"""One strategy at many points of its parameters: the figures of each, without its trades or equity.

Results are those of `simulate` and `compute_metrics`. Parts that combinations share are computed once (`plan`, `batch`),
positions are followed from event to event (`event_kernel`); what that kernel does not cover goes through the bar loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.execution import ExecutionSettings
from engine.core.expressions.limits import MAX_WARMUP
from engine.core.expressions.nodes import Node
from engine.core.kernel import KernelRules
from engine.core.kernel_inputs import check_inputs, kernel_rules, read_only
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.metrics.facts import daily_marks
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.sweep import event_kernel as kernel
from engine.core.sweep.batch import Shapes, make_batch
from engine.core.sweep.blocks import PriceBlocks, price_blocks
from engine.core.sweep.columns import BoundedMemo, ColumnBank, Evaluation, Spread
from engine.core.sweep.coverage import reason_for_bar_loop
from engine.core.sweep.figures import SWEEP_METRICS, daily_returns, measure
from engine.core.sweep.levels import document_size_mode, document_sizes, level_table
from engine.core.sweep.masks import words_needed
from engine.core.sweep.perpetual_events import Margin, Settled, margin_of, settled_bars
from engine.core.sweep.plan import Plan, plan_strategy
from engine.core.sweep.result import SweepResult
from engine.core.timeframes import DAY_MS, Interval, next_open
from engine.errors import BadExpression, BadRequest, Cancelled

_DEFAULT_BYTES = 256 * 1024 * 1024
_MOST_A_BATCH = 4_096
# Few combinations are still several tasks, so that every thread has some.
_MOST_RUNS_A_TASK, _FEWEST_TASKS = 32, 8


def sweep(  # noqa: PLR0913 - the request, flat
    candles: Candles,
    document: StrategyDocument,
    points: Sequence[Mapping[str, float]],
    interval: Interval,
    settings: ExecutionSettings,
    *,
    detail: MarketDetail = NO_DETAIL,
    extras: Mapping[str, FloatColumn] | None = None,
    metrics: Sequence[str] = SWEEP_METRICS,
    returns_dtype: type[np.float64 | np.float32] = np.float64,
    uses_document_size: bool = False,
    threads: int = 2,
    memory_bytes: int = _DEFAULT_BYTES,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SweepResult:
    """Run a strategy at every point and return figures and daily returns.

    Parameters
    ----------
    candles : Candles
    document : StrategyDocument
    points : sequence of mapping of str to float
        What a point does not name keeps its default.
    interval : Interval
    settings : ExecutionSettings
        The same for all points.
    detail : MarketDetail
        Funding, mark prices and minutes, laid beside the candles.
    extras : mapping of str to ndarray of float64, optional
        `funding_rate` and `open_interest`, aligned with the candles.
    metrics : sequence of str
        Of `SWEEP_METRICS`.
    returns_dtype : type
        Of the daily returns that are kept; figures are computed in float64.
    uses_document_size : bool
        Size positions as the document says, at each point, instead of as the settings say.
    threads : int
    memory_bytes : int
        Bound of the shared columns and masks together; combinations are run in batches that fit.
    progress : callable, optional
        Is told how many combinations are done, and of how many.
    cancelled : callable, optional
        Asked between tasks; True ends the sweep with `Cancelled`.

    Returns
    -------
    SweepResult
    """
    unknown = [name for name in metrics if name not in SWEEP_METRICS]
    if unknown:
        raise BadRequest(f"a sweep does not measure {unknown[0]!r}", fix=f"metrics: {', '.join(SWEEP_METRICS)}")
    if not points:
        raise BadRequest("there are no points to run", fix="give at least one combination of parameters")
    columns = _columns(document, points)
    _check_points(document, columns, points)
    settings = _sized(settings, document, columns, len(points), uses_document_size=uses_document_size)
    reason = reason_for_bar_loop(candles, document, settings, detail)
    marks_ms, mark_bars = daily_marks(candles.ts, np.arange(len(candles), dtype=np.float64), interval)
    job = _Job(
        candles, document, points, columns, interval, settings, detail, extras, mark_bars.astype(np.int64), uses_document_size,
        memory_bytes, progress or _say_nothing, cancelled or _never,
    )  # fmt: skip
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        spread: Spread = map if threads <= 1 else pool.map
        outcome = job.by_events(spread) if reason is None else job.by_bars(spread)
    figures, marks, warmups = outcome
    returns = daily_returns(marks, settings.capital)
    elapsed_days = (next_open(interval, int(candles.ts[-1])) - int(candles.ts[0])) / DAY_MS
    values = measure(figures, marks, returns, settings.capital, len(candles), elapsed_days)
    return SweepResult(
        points=points,
        values={name: values[name] for name in metrics},
        marks_ms=marks_ms,
        daily_returns=returns if returns_dtype is np.float64 else returns.astype(np.float32),
        warmup_bars=warmups,
        bar_loop_reason=reason,
    )


_Outcome = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Job:
    """A checked request."""

    candles: Candles
    document: StrategyDocument
    points: Sequence[Mapping[str, float]]
    columns: dict[str, NDArray[np.float64]]
    interval: Interval
    settings: ExecutionSettings
    detail: MarketDetail
    extras: Mapping[str, FloatColumn] | None
    mark_bars: NDArray[np.int64]
    uses_document_size: bool
    memory_bytes: int
    progress: Callable[[int, int], None]
    cancelled: Callable[[], bool]

    def by_events(self, spread: Spread) -> _Outcome:
        """Run every combination through the event kernel."""
        count, bars = len(self.points), len(self.candles)
        first = {name: float(column[0]) for name, column in self.columns.items()}
        plan = plan_strategy(self.document, first)
        row_bytes = words_needed(bars) * (64 * 8 + 8)
        bank = ColumnBank(bars, max(len(plan.parts) + 2, int(self.memory_bytes * 0.6) // row_bytes))
        evaluation = Evaluation(self.candles, self.interval, self.extras, int(self.memory_bytes * 0.1))
        sizes = (
            document_sizes(self.document, self.columns, count) if self.uses_document_size else self.settings.size_value
        )
        levels = level_table(self.document, self.columns, count, sizes)
        check_inputs(self.candles, _least_levels(len(self.candles), levels))
        figures = np.empty((count, kernel.FIGURES))
        marks = np.empty((count, len(self.mark_bars)))
        warmups = np.empty(count, np.int64)
        market = self._market()
        trees: dict[object, Node] = {}
        start, size = 0, min(count, _MOST_A_BATCH)
        while start < count:
            end = min(start + size, count)
            shapes = self._shapes(plan, start, end, trees)
            if end - start > 1 and not self._fits(shapes, bank):
                size = (end - start) // 2
                continue
            batch = make_batch(plan, shapes, bank, evaluation, bars, spread)
            warmups[start:end] = batch.warmups
            tables = _Tables(batch.masks, batch.mask_rows, bank.table, batch.distance_rows, levels[start:end],
                             batch.warmups, marks[start:end], figures[start:end])  # fmt: skip
            self._run(tables, market, spread, start)
            start = end
        return figures, marks, warmups

    def by_bars(self, spread: Spread) -> _Outcome:
        """Run every combination through the bar loop."""
        count = len(self.points)
        memo = BoundedMemo(int(self.memory_bytes * 0.6))
        modes = document_size_mode(self.document)
        sizes = document_sizes(self.document, self.columns, count) if self.uses_document_size and modes else None

        def run(row: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
            self._stop_if_cancelled()
            compiled = compile_strategy(self.document, self.points[row])
            signals = compute_signals(compiled, self.candles, self.interval, extras=self.extras, memo=memo)
            settings = self.settings if sizes is None else replace(self.settings, size_value=float(sizes[row]))
            simulation = simulate(self.candles, signals, settings, self.detail)
            return (
                _figures_of(simulation, self.settings.capital),
                simulation.equity[self.mark_bars],
                signals.warmup_bars,
            )

        rows: list[tuple[NDArray[np.float64], NDArray[np.float64], int]] = []
        for outcome in spread(run, range(count)):
            rows.append(outcome)
            self.progress(len(rows), count)
        figures, marks, warmups = zip(*rows, strict=True)
        return np.stack(figures), np.stack(marks), np.array(warmups, np.int64)

    def _shapes(self, plan: Plan, start: int, end: int, trees: dict[object, Node]) -> Shapes:
        points = {name: column[start:end] for name, column in self.columns.items()}
        try:
            shapes = Shapes(plan, points, end - start, self.interval, trees)
        except (BadExpression, BadRequest):
            # Told as for a single run: with its place in the document.
            for point in self.points[start:end]:
                compile_strategy(self.document, point)
            raise
        longest = int(np.argmax(shapes.warmups))
        if shapes.warmups[longest] > MAX_WARMUP:
            compile_strategy(self.document, self.points[start + longest])
        return shapes

    def _fits(self, shapes: Shapes, bank: ColumnBank) -> bool:
        mask_bytes = shapes.masks * words_needed(len(self.candles)) * 8
        return len(shapes.columns) <= bank.capacity and mask_bytes <= self.memory_bytes * 0.3

    def _market(self) -> _Market:
        candles, detail, settings = self.candles, self.detail, self.settings
        prices = (read_only(candles.open), read_only(candles.high), read_only(candles.low), read_only(candles.close))
        return _Market(
            prices, price_blocks(candles), kernel_rules(_least_levels(0), settings), settled_bars(candles, detail),
            margin_of(candles, detail, settings.margin_tiers),
        )  # fmt: skip

    def _run(self, tables: _Tables, market: _Market, spread: Spread, done: int) -> None:
        count = len(tables.figures)
        step = min(_MOST_RUNS_A_TASK, -(-count // _FEWEST_TASKS))

        def run(first: int) -> None:
            self._stop_if_cancelled()
            kernel.run_combinations(
                *market.prices, market.blocks, tables.masks, tables.mask_rows, tables.distances,
                tables.distance_rows, tables.levels, tables.warmups, market.rules, market.settled,
                market.margin, self.mark_bars, tables.marks, tables.figures, first, min(first + step, count),
            )  # fmt: skip

        finished = 0
        for _ in spread(run, range(0, count, step)):
            finished = min(finished + step, count)
            self.progress(done + finished, len(self.points))

    def _stop_if_cancelled(self) -> None:
        if self.cancelled():
            raise Cancelled("the sweep was cancelled", fix="start it again when it is wanted")


@dataclass(frozen=True, slots=True)
class _Market:
    """Inputs of the event kernel that all combinations share."""

    prices: tuple[FloatColumn, FloatColumn, FloatColumn, FloatColumn]
    blocks: PriceBlocks
    rules: KernelRules
    settled: Settled
    margin: Margin


@dataclass(frozen=True, slots=True)
class _Tables:
    """Inputs and outputs of the event kernel that differ from batch to batch."""

    masks: tuple[Any, ...]
    mask_rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    distance_rows: NDArray[np.int64]
    levels: NDArray[np.float64]
    warmups: NDArray[np.int64]
    marks: NDArray[np.float64]
    figures: NDArray[np.float64]


def _columns(document: StrategyDocument, points: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Return each parameter's value at every point."""
    for point in points:
        if not point.keys() <= document.params.keys():
            compile_strategy(document, point)
    columns: dict[str, NDArray[np.float64]] = {}
    for name, param in document.params.items():
        values = [point.get(name, param.default) for point in points]
        for row, value in enumerate(values):
            if type(value) not in (int, float):
                compile_strategy(document, points[row])
        columns[name] = np.array(values, np.float64)
    return columns


def _check_points(
    document: StrategyDocument, columns: Mapping[str, NDArray[np.float64]], points: Sequence[Mapping[str, float]]
) -> None:
    """Compile the points at which a parameter is out of place or outermost: all others lie between them."""
    suspects = {0}
    for name, column in columns.items():
        param = document.params[name]
        suspects |= {int(np.argmin(column)), int(np.argmax(column))}
        bad = ~((column >= param.min) & (column <= param.max))
        if param.integer:
            bad |= column != np.floor(column)
        suspects |= set(np.flatnonzero(bad)[:1].tolist())
    for row in sorted(suspects):
        compile_strategy(document, points[row])


def _sized(
    settings: ExecutionSettings,
    document: StrategyDocument,
    columns: Mapping[str, NDArray[np.float64]],
    count: int,
    *,
    uses_document_size: bool,
) -> ExecutionSettings:
    """Return the settings with the document's way of sizing where it is asked for."""
    mode = document_size_mode(document)
    if not uses_document_size:
        return settings
    if mode is None:
        raise BadRequest("the strategy has no size", fix="set uses_document_size false, or give the strategy a size")
    sizes = document_sizes(document, columns, count)
    for value in (float(sizes.min()), float(sizes.max())):
        settings = replace(settings, size_mode=mode, size_value=value)
    return settings


def _least_levels(bars: int, levels: NDArray[np.float64] | None = None) -> Signals:
    """Return signals without a decision, with the smallest of the levels of all combinations."""
    nothing = np.zeros(bars, np.bool_)
    least = np.full(kernel.LEVELS, np.nan) if levels is None else np.fmin.reduce(levels, axis=0)
    return Signals(
        nothing, nothing, nothing, nothing,
        stop_fraction=float(least[kernel.STOP]), stop_distance=None,
        target_fraction=float(least[kernel.TARGET]), target_distance=None,
        trail_fraction=float(least[kernel.TRAIL]), trail_distance=None,
        trail_activation_fraction=float(least[kernel.ACTIVATION]),
        breakeven_fraction=float(least[kernel.BREAKEVEN]), max_bars=0, warmup_bars=0,
    )  # fmt: skip


def _figures_of(simulation: Simulation, capital: float) -> NDArray[np.float64]:
    """Return a run of the bar loop as a row of the event kernel's table."""
    pnl = simulation.trades.pnl
    peaks = np.maximum(np.maximum.accumulate(simulation.equity), capital)
    figures = np.empty(kernel.FIGURES)
    figures[kernel.FINAL] = simulation.equity[-1]
    figures[kernel.TRADES] = len(pnl)
    figures[kernel.WINS] = np.count_nonzero(pnl > 0)
    figures[kernel.LOSSES] = np.count_nonzero(pnl < 0)
    figures[kernel.WON] = pnl[pnl > 0].sum()
    figures[kernel.LOST] = -pnl[pnl < 0].sum()
    figures[kernel.FEES] = simulation.trades.fees.sum()
    figures[kernel.EXPOSED] = simulation.exposed_bars
    figures[kernel.LOWEST_RATIO] = min(1.0, float((simulation.equity / peaks).min()))
    return figures


def _say_nothing(done: int, total: int) -> None:
    """Take progress and do nothing with it."""


def _never() -> bool:
    return False
