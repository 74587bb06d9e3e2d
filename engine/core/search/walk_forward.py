"""Judging refitted parameters on bars they were not fitted on, and joining the judged stretches into one curve."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail, part_of
from engine.core.metrics import daily_marks
from engine.core.metrics.facts import PERIODS_PER_YEAR
from engine.core.search.table import PointTable
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.sweep.figures import daily_returns
from engine.core.timeframes import Interval
from engine.core.validation.sharpe_interval import SharpeInterval, sharpe_interval
from engine.errors import BadRequest

# Of the in-sample bars a purge found by itself takes no more than this share.
MOST_PURGED_SHARE = 0.1


def purge_bars(document: StrategyDocument, table: PointTable, interval: Interval, in_sample_bars: int) -> int:
    """Return how many bars lie between fitting and judging: the longest stay or warm-up of any point tried.

    Parameters
    ----------
    document : StrategyDocument
    table : PointTable
        The corners of the space are enough: stays and warm-ups grow with their parameters.
    interval : Interval
    in_sample_bars : int
        A tenth of them is the most that is left out.
    """
    most = 0
    for row in table.values.tolist():
        compiled = compile_strategy(document, dict(zip(table.names, row, strict=True)))
        most = max(most, compiled.max_bars, compiled.warmup_bars(interval))
    return min(most, int(in_sample_bars * MOST_PURGED_SHARE))


def judge(
    compiled: CompiledStrategy,
    candles: Candles,
    interval: Interval,
    settings: ExecutionSettings,
    detail: MarketDetail,
    extras: Mapping[str, FloatColumn],
    rows: tuple[int, int],
) -> Simulation:
    """Trade bars [start, end) from a flat account; indicators have seen all bars before, decisions begin with the first.

    Parameters
    ----------
    compiled : CompiledStrategy
    candles : Candles
        The whole range; bars from `end` on are not looked at.
    settings : ExecutionSettings
    detail : MarketDetail
        Of the whole range.
    extras : mapping of str to ndarray of float64
        Of the whole range.
    rows : (int, int)
        start and end.

    Returns
    -------
    Simulation
        Of the bars [start, end); the first decision is that of the close of bar `start`, a position still open at the end
        is closed at the last close.
    """
    start, end = rows
    seen = candles.take(slice(0, end))
    signals = compute_signals(compiled, seen, interval, extras={name: column[:end] for name, column in extras.items()})
    return simulate(
        candles.take(slice(start, end)), signals_from(signals, start), settings, part_of(detail, start, end)
    )


def signals_from(signals: Signals, start: int) -> Signals:
    """Return the signals of the bars from `start` on."""

    def cut(column: Any) -> Any:
        return None if column is None else column[start:]

    return replace(
        signals,
        long_entry=cut(signals.long_entry),
        long_exit=cut(signals.long_exit),
        short_entry=cut(signals.short_entry),
        short_exit=cut(signals.short_exit),
        stop_distance=cut(signals.stop_distance),
        target_distance=cut(signals.target_distance),
        trail_distance=cut(signals.trail_distance),
        warmup_bars=max(signals.warmup_bars - start, 0),
        order=None if signals.order is None else replace(signals.order, distance=cut(signals.order.distance)),
        partial_targets=tuple(replace(part, distance=cut(part.distance)) for part in signals.partial_targets),
        session=cut(signals.session),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """The judged stretches as one account.

    Attributes
    ----------
    ts : ndarray of int64, shape (n,)
        Bar opens.
    equity : ndarray of float64, shape (n,)
        At their closes; every stretch goes on with what the one before ended with.
    marks_ms : ndarray of int64, shape (d,)
    daily_returns : ndarray of float64, shape (d,)
    """

    ts: TimeColumn
    equity: FloatColumn
    marks_ms: TimeColumn
    daily_returns: FloatColumn


def stitch(parts: Sequence[tuple[Candles, FloatColumn]], capital: float, interval: Interval) -> Stitched:
    """Join stretches that each began with `capital`: their growth is multiplied.

    Parameters
    ----------
    parts : sequence of (Candles, ndarray of float64)
        Bars and equity of each stretch, in order, not overlapping.
    capital : float
    interval : Interval

    Notes
    -----
    A stretch that loses everything leaves an equity of zero from then on.
    """
    if not parts:
        raise BadRequest("no stretch was judged", fix="ask for at least one window")
    curves: list[FloatColumn] = []
    growth = 1.0
    for _, equity in parts:
        curves.append(np.maximum(equity, 0.0) * growth)
        growth = float(curves[-1][-1]) / capital
    ts = np.concatenate([candles.ts for candles, _ in parts])
    curve = np.concatenate(curves)
    marks_ms, marks = daily_marks(ts, curve, interval)
    return Stitched(ts, curve, marks_ms, daily_returns(marks[None, :], capital)[0])


def stitched_sharpe(stitched: Stitched, confidence: float = 0.95) -> SharpeInterval | None:
    """Return the annualised Sharpe ratio of the joined curve with its interval; None where its returns do not vary."""
    returns = stitched.daily_returns
    if len(returns) < 3 or np.isnan(returns).any() or np.ptp(returns) == 0:
        return None
    return sharpe_interval(returns, confidence, PERIODS_PER_YEAR)


def annual_return(returns: FloatColumn) -> float | None:
    """Return the mean daily return times 365; None where there is none."""
    if len(returns) == 0 or np.isnan(returns).any():
        return None
    return float(returns.mean() * PERIODS_PER_YEAR)


def drift(names: Sequence[str], chosen: Sequence[NDArray[np.float64] | None]) -> list[dict[str, Any]]:
    """Return how each parameter moved from window to window; None where a window chose nothing."""
    rows: list[dict[str, Any]] = []
    for column, name in enumerate(names):
        values = [None if point is None else float(point[column]) for point in chosen]
        known = [value for value in values if value is not None]
        moves = sum(later != earlier for earlier, later in itertools.pairwise(known))
        rows.append(
            {
                "param": name,
                "values": values,
                "lowest": min(known, default=None),
                "highest": max(known, default=None),
                "changes": moves,
            }
        )
    return rows
