"""The base series all metrics share: daily marks, their returns and drawdowns, and the closed trades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.execution import ExecutionSettings
from engine.core.simulation import Simulation
from engine.core.timeframes import DAY_MS, Interval, next_open, step_ms
from engine.core.trades import Trades

# Crypto trades around the clock: a year of daily marks has 365 of them.
PERIODS_PER_YEAR = 365.0
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Everything a metric may look at, computed once.

    Attributes
    ----------
    simulation : Simulation
    candles : Candles
    settings : ExecutionSettings
    marks_ms : ndarray of int64, shape (m + 1,)
        Open of the first bar, then the times of the daily marks.
    marks : ndarray of float64, shape (m + 1,)
        Starting capital, then the daily marks.
    returns : ndarray of float64, shape (m,), or None
        Simple returns between marks; None when a mark is zero or less.
    market_returns : ndarray of float64, shape (m,), or None
        Of the same days, of holding the market from the first bar an order could fill at; 0 before it. None when there
        is no such bar.
    drawdowns : ndarray of float64, shape (m + 1,)
        1 - mark / highest mark so far.
    elapsed_days : float
        From the open of the first bar to the close of the last one.
    wins, losses : ndarray of float64
        Net profits of the trades above zero, and of those below.
    """

    simulation: Simulation
    candles: Candles
    settings: ExecutionSettings
    marks_ms: TimeColumn
    marks: FloatColumn
    returns: FloatColumn | None
    market_returns: FloatColumn | None
    drawdowns: FloatColumn
    elapsed_days: float
    wins: FloatColumn
    losses: FloatColumn

    @property
    def trades(self) -> Trades:
        """Return the closed trades."""
        return self.simulation.trades

    @property
    def pnl(self) -> FloatColumn:
        """Return the net profit of each trade."""
        return self.simulation.trades.pnl


def gather_facts(simulation: Simulation, candles: Candles, interval: Interval, settings: ExecutionSettings) -> Facts:
    """Return the base series of one run."""
    times, rows = _daily_rows(candles.ts, interval)
    equity = simulation.equity[rows]
    first_ms = int(candles.ts[0])
    marks = np.concatenate(([settings.capital], equity))
    is_solvent = bool(np.all(marks > 0))
    pnl = simulation.trades.pnl
    return Facts(
        simulation=simulation,
        candles=candles,
        settings=settings,
        marks_ms=np.concatenate(([first_ms], times)),
        marks=marks,
        returns=marks[1:] / marks[:-1] - 1.0 if is_solvent else None,
        market_returns=_market_returns(simulation.warmup_bars + 1, candles, rows),
        drawdowns=1.0 - marks / np.maximum.accumulate(marks),
        elapsed_days=(next_open(interval, int(candles.ts[-1])) - first_ms) / DAY_MS,
        wins=pnl[pnl > 0],
        losses=pnl[pnl < 0],
    )


def _market_returns(first_fill: int, candles: Candles, rows: NDArray[np.intp]) -> FloatColumn | None:
    if first_fill >= len(candles):
        return None
    worth = np.where(rows < first_fill, 1.0, candles.close[rows] / candles.open[first_fill])
    held = np.concatenate(([1.0], worth))
    return held[1:] / held[:-1] - 1.0


def daily_marks(ts: TimeColumn, equity: FloatColumn, interval: Interval) -> tuple[TimeColumn, FloatColumn]:
    """Return the equity at every 00:00 UTC of the run, and at its end when that is not midnight.

    Parameters
    ----------
    ts : ndarray of int64, shape (n,)
        Bar opens, milliseconds UTC, ascending; n >= 1.
    equity : ndarray of float64, shape (n,)
        Marked at the close of each bar.
    interval : Interval

    Returns
    -------
    times : ndarray of int64, shape (m,)
        Milliseconds UTC, after the first bar's open.
    marks : ndarray of float64, shape (m,)
        Equity of the last bar that closed at or before the time; days without a bar repeat the mark before them.

    Notes
    -----
    Before the first close the mark is that of the first bar, in which nothing can have been filled.

    >>> hours = np.arange(48, dtype=np.int64) * 3_600_000
    >>> times, marks = daily_marks(hours, np.arange(48.0), "60")
    >>> times.tolist(), marks.tolist()
    ([86400000, 172800000], [23.0, 47.0])
    """
    times, rows = _daily_rows(ts, interval)
    return times, equity[rows]


def _daily_rows(ts: TimeColumn, interval: Interval) -> tuple[TimeColumn, NDArray[np.intp]]:
    """Return the times of the daily marks and the bar each of them is taken from."""
    first_ms, end_ms = int(ts[0]), next_open(interval, int(ts[-1]))
    times = np.arange(first_ms // DAY_MS * DAY_MS + DAY_MS, end_ms + 1, DAY_MS, dtype=np.int64)
    if not len(times) or times[-1] != end_ms:
        times = np.append(times, np.int64(end_ms))
    if interval == "M":
        closes = np.array([next_open(interval, int(open_ms)) for open_ms in ts], np.int64)
        rows = np.searchsorted(closes, times, side="right") - 1
    else:
        rows = np.searchsorted(ts, times - step_ms(interval), side="right") - 1
    return times, np.maximum(rows, 0)
