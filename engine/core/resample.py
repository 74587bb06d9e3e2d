"""Higher bars made of lower ones, and which of them is closed at each lower bar's close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.timeframes import DAY_MS, WEEK_MS, Interval, step_ms

# 1970-01-05 was the first Monday after the epoch.
_MONDAY_MS = 4 * DAY_MS


def bucket_opens(interval: Interval, ts: TimeColumn) -> TimeColumn:
    """Return the open of the bar of `interval` that contains each time (shape (n,), int64 ms UTC)."""
    if interval == "M":
        months = ts.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    if interval == "W":
        return (ts - _MONDAY_MS) // WEEK_MS * WEEK_MS + _MONDAY_MS
    step = step_ms(interval)
    return ts // step * step


def close_times(interval: Interval, opens: TimeColumn) -> TimeColumn:
    """Return when the bars that open at `opens` close (shape (n,), int64 ms UTC)."""
    if interval == "M":
        months = opens.astype("datetime64[ms]").astype("datetime64[M]") + np.timedelta64(1, "M")
        return months.astype("datetime64[ms]").astype(np.int64)
    return opens + step_ms(interval)


def resample(candles: Candles, base: Interval, higher: Interval) -> tuple[Candles, NDArray[np.intp]]:
    """Return the closed bars of a higher interval and the last base row of each.

    Notes
    -----
    A first bucket whose start the data does not hold is left out, and so is a last one that is not closed at the
    last base bar's close. Volumes of a bucket are NaN when one of its bars has none. Rows missing inside a bucket are
    missing from it too: it is made of what is stored.
    """
    if len(candles) == 0:
        return candles, np.empty(0, np.intp)
    opens = bucket_opens(higher, candles.ts)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(opens)) + 1))
    ends = np.concatenate((starts[1:], [len(candles)]))
    made = Candles(
        opens[starts],
        candles.open[starts],
        np.maximum.reduceat(candles.high, starts),
        np.minimum.reduceat(candles.low, starts),
        candles.close[ends - 1],
        np.add.reduceat(candles.volume, starts),
        np.add.reduceat(candles.turnover, starts),
    )
    last_close = close_times(base, candles.ts[-1:])[0]
    kept = close_times(higher, made.ts) <= last_close
    kept[0] = kept[0] and candles.ts[0] == opens[0]
    return made.take(kept), (ends - 1)[kept]


def closed_rows(candles: Candles, base: Interval, higher_bars: Candles, higher: Interval) -> NDArray[np.intp]:
    """Return, for each base row, the last higher row closed at that bar's close; -1 where there is none (shape (n,))."""
    return np.searchsorted(close_times(higher, higher_bars.ts), close_times(base, candles.ts), side="right") - 1


def spread(values: FloatColumn, rows: NDArray[np.intp]) -> FloatColumn:
    """Return `values` at `rows`; NaN where the row is -1 (shape of `rows`)."""
    if len(values) == 0:
        return np.full(len(rows), np.nan)
    return np.where(rows >= 0, values[rows], np.nan)
