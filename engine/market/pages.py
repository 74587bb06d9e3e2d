"""One window of candles: what is closed, what came short, and what is really missing.

Bybit answers a bounded window with its newest rows, and an overloaded server may answer with fewer rows than exist.
One answer therefore cannot tell a gap from a short page. An answer speaks for the absence of a bar when it has rows on
both sides of it, or when it is empty and none of the bars asked for is known; a bar is believed absent when two
answers speak for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, TimeColumn
from engine.core.series import Source
from engine.core.timeframes import Interval, floor_open, next_open, step_ms
from engine.errors import BadPayload
from engine.market.rows import merge
from engine.ports import CandlePage

# Enough for a server that answers with a sixteenth of what was asked; more would be a server that does not work.
MAX_FURTHER_READINGS = 16
_ANSWERS_TO_BELIEVE_A_GAP = 2
# Nothing in an empty window speaks for the answer being whole, so it takes one more to be believed.
_ANSWERS_TO_BELIEVE_AN_EMPTY_WINDOW = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """One trusted answer: rows inside the window asked for; the last may still be open."""

    candles: Candles
    server_time_ms: int
    source: Source
    notes: tuple[str, ...] = ()


Read = Callable[[int, int], Awaitable[Reading]]


def open_times(interval: Interval, start_ms: int, end_ms: int) -> TimeColumn:
    """Return every bar open in [start_ms, end_ms), both aligned, shape (n,), int64 milliseconds."""
    if interval != "M":
        return np.arange(start_ms, end_ms, step_ms(interval), dtype=np.int64)
    opens: list[int] = []
    while start_ms < end_ms:
        opens.append(start_ms)
        start_ms = next_open(interval, start_ms)
    return np.array(opens, np.int64)


async def read_page(interval: Interval, start_ms: int, end_ms: int, read: Read) -> CandlePage:
    """Read the window [start_ms, end_ms) until every closed bar of it has arrived or is believed absent.

    The clock of the first answer decides which bars are closed (closed: close time <= server time), so a bar that
    closes between two readings is left to the next page.
    """
    first = await read(start_ms, end_ms)
    closed_until = max(start_ms, min(end_ms, floor_open(interval, first.server_time_ms)))
    search = _Search(interval, open_times(interval, start_ms, closed_until), first)
    while search.doubtful.any() and search.readings <= MAX_FURTHER_READINGS:
        await search.look_again(read)
    if search.doubtful.any():
        closed_until = int(search.expected[search.doubtful.argmax()])
        if closed_until == start_ms:
            raise BadPayload(
                f"{search.readings} answers in a row came short of bars, each in another way",
                fix="try again later; nothing was kept",
            )
        search.notes.append("the window came short; the rest is to be asked for again")
    if search.absent:
        search.notes.append(f"{search.absent} missing bars were asked for again and do not exist")
    return CandlePage(
        candles=search.known.between(start_ms, closed_until),
        source=search.source,
        server_time_ms=first.server_time_ms,
        complete_until_ms=closed_until,
        notes=tuple(dict.fromkeys(search.notes)),
    )


class _Search:
    """What is known of one window so far."""

    def __init__(self, interval: Interval, expected: TimeColumn, first: Reading) -> None:
        self.interval: Interval = interval
        self.expected = expected
        self.known = Candles.empty()
        self.source: Source = first.source
        self.notes: list[str] = []
        self.readings = 0
        self._present: NDArray[np.bool_] = np.zeros(len(expected), np.bool_)
        self._missed: NDArray[np.int64] = np.zeros(len(expected), np.int64)
        if len(expected):
            self._take(first, 0, len(expected) - 1)

    @property
    def doubtful(self) -> NDArray[np.bool_]:
        """Bars that neither arrived nor were missed by enough answers."""
        enough = _ANSWERS_TO_BELIEVE_A_GAP if self._present.any() else _ANSWERS_TO_BELIEVE_AN_EMPTY_WINDOW
        return ~self._present & (self._missed < enough)

    @property
    def absent(self) -> int:
        """How many bars are believed absent."""
        return int((~self._present & ~self.doubtful).sum())

    async def look_again(self, read: Read) -> None:
        """Ask once more: first for everything in doubt at once, then run by run, oldest first."""
        doubted = np.flatnonzero(self.doubtful)
        low, high = int(doubted[0]), int(doubted[-1])
        if self.readings > 1:
            breaks = np.flatnonzero(np.diff(doubted) > 1)
            high = int(doubted[breaks[0]]) if len(breaks) else high
        reading = await read(int(self.expected[low]), next_open(self.interval, int(self.expected[high])))
        before = int(self._present.sum())
        self._take(reading, low, high)
        if self._present.sum() > before:
            self.notes.append("some bars came only when asked for again")

    def _take(self, reading: Reading, low: int, high: int) -> None:
        """Learn from the answer to the question about bars `low` to `high`."""
        seen = reading.candles.ts
        contradicts = not len(seen) and bool(self._present[low : high + 1].any())
        self.readings += 1
        self.known, changed = merge(self.known, reading.candles)
        self._present = np.isin(self.expected, self.known.ts, assume_unique=True)
        if len(seen):
            low, high = (int(index) for index in np.searchsorted(self.expected, (seen[0], seen[-1])))
        # An empty answer about bars some of which are known to exist proves nothing.
        if not contradicts:
            self._missed[low : high + 1] += 1
        self.notes += reading.notes
        if changed:
            self.notes.append(f"{changed} bars changed between two readings; the later values were taken")
        if reading.source != "bybit":
            self.source = reading.source
