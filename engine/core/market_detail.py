"""What is known of a market beyond its candles, laid beside them bar by bar: funding, mark prices, minutes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.perpetual import Settlements
from engine.core.timeframes import Interval, next_open, step_ms
from engine.errors import BadRequest

RowColumn = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MarketDetail:
    """Columns with one row a bar of the candles they were laid beside.

    Attributes
    ----------
    funding_at_open, funding_inside : ndarray of float64, shape (n,), or None
        What one long unit pays, in settlement currency: at settlements exactly at the bar's open, and at those after it.
        None where funding is not charged.
    mark : Candles or None
        Mark prices of the same bars; None: the trade prices stand in for them.
    missing_mark_bars : int
        Bars of `mark` that had no mark candle and hold the trade prices instead.
    minutes : Candles or None
        One-minute candles.
    minute_start, minute_stop : ndarray of int64, shape (n,), or None
        The minutes of bar t are rows [start, stop).
    """

    funding_at_open: FloatColumn | None = None
    funding_inside: FloatColumn | None = None
    mark: Candles | None = None
    missing_mark_bars: int = 0
    minutes: Candles | None = None
    minute_start: RowColumn | None = None
    minute_stop: RowColumn | None = None


NO_DETAIL = MarketDetail()


def lay_beside(
    candles: Candles,
    interval: Interval,
    *,
    settlements: Settlements | None = None,
    mark: Candles | None = None,
    minutes: Candles | None = None,
    inverse: bool = False,
) -> MarketDetail:
    """Return settlements, mark candles and minutes as columns of these candles.

    Parameters
    ----------
    candles : Candles
        Bars of the run; at least one.
    interval : Interval
    settlements : Settlements, optional
        None: funding is not charged. A missing settlement is the caller's to name.
    mark : Candles, optional
        Mark candles of the same interval; a bar without one takes the trade prices and is counted.
    minutes : Candles, optional
        One-minute trade candles, ascending; those outside every bar are not used.
    inverse : bool
        Which funding formula holds.

    Notes
    -----
    A settlement between two bars belongs to the bar before it. One at the close of the last bar belongs to that bar: a
    position closed there was open at it.
    """
    ends = bar_ends(candles.ts, interval)
    at_open = inside = None
    if settlements is not None:
        at_open, inside = _funding_columns(candles.ts, int(ends[-1]), settlements, inverse=inverse)
    marks, missing = (None, 0) if mark is None else _matched(candles, mark)
    start = stop = None
    if minutes is not None:
        if np.any(np.diff(minutes.ts) <= 0):
            raise BadRequest("the minutes are not in ascending, unique order", fix="sort them by time, each once")
        start = np.searchsorted(minutes.ts, candles.ts).astype(np.int64)
        stop = np.searchsorted(minutes.ts, ends).astype(np.int64)
    return MarketDetail(at_open, inside, marks, missing, minutes, start, stop)


def part_of(detail: MarketDetail, start: int, end: int) -> MarketDetail:
    """Return the detail of bars [start, end); a settlement at the close of the last one belongs to it."""
    rows = slice(start, end)
    at_open, inside = detail.funding_at_open, detail.funding_inside
    if at_open is not None and inside is not None:
        after = at_open[end] if end < len(at_open) else 0.0
        at_open, inside = at_open[rows], inside[rows].copy()
        inside[-1] += after
    return MarketDetail(
        at_open,
        inside,
        None if detail.mark is None else detail.mark.take(rows),
        detail.missing_mark_bars,
        detail.minutes,
        None if detail.minute_start is None else detail.minute_start[rows],
        None if detail.minute_stop is None else detail.minute_stop[rows],
    )


def bar_ends(ts: TimeColumn, interval: Interval) -> TimeColumn:
    """Return the close time of each bar."""
    if interval == "M":
        return np.array([next_open(interval, int(open_ms)) for open_ms in ts], np.int64)
    return ts + step_ms(interval)


def _funding_columns(
    ts: TimeColumn, end_ms: int, settlements: Settlements, *, inverse: bool
) -> tuple[FloatColumn, FloatColumn]:
    at_open, inside = np.zeros(len(ts)), np.zeros(len(ts))
    used = (settlements.ts >= ts[0]) & (settlements.ts <= end_ms)
    times, paid = settlements.ts[used], settlements.paid_per_unit(inverse=inverse)[used]
    rows = np.searchsorted(ts, times, side="right") - 1
    opens = ts[rows] == times
    np.add.at(at_open, rows[opens], paid[opens])
    np.add.at(inside, rows[~opens], paid[~opens])
    return at_open, inside


def _matched(candles: Candles, mark: Candles) -> tuple[Candles, int]:
    if len(mark) == 0:
        return candles, len(candles)
    rows = np.minimum(np.searchsorted(mark.ts, candles.ts), len(mark) - 1)
    found = mark.ts[rows] == candles.ts
    columns = (
        np.where(found, marked[rows], traded)
        for marked, traded in zip(mark.columns()[1:], candles.columns()[1:], strict=True)
    )
    return Candles(candles.ts, *columns), int(np.count_nonzero(~found))
