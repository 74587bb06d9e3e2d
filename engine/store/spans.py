"""Arithmetic of half-open time spans: what is covered, what is missing, where bars are absent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engine.core.timeframes import Interval, next_open, step_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.core.candles import TimeColumn
    from engine.core.series import Source

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, order=True)
class CoverageSpan:
    """A stretch [start_ms, end_ms) that was asked for and answered by one source."""

    start_ms: int
    end_ms: int
    source: Source


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Bars opening in [start_ms, end_ms) do not exist at the source, as last checked."""

    start_ms: int
    end_ms: int
    first_seen_ms: int
    last_checked_ms: int


def subtract(whole: Span, parts: Iterable[Span]) -> list[Span]:
    """Return what of `whole` no part covers, ascending.

    >>> subtract((0, 10), [(2, 4), (8, 12)])
    [(0, 2), (4, 8)]
    """
    left: list[Span] = []
    at, end = whole
    for start, stop in sorted(part for part in parts if part[0] < part[1]):
        if start >= end:
            break
        if start > at:
            left.append((at, start))
        at = max(at, stop)
    if at < end:
        left.append((at, end))
    return left


def union(parts: Iterable[Span]) -> list[Span]:
    """Return the spans joined where they touch or overlap, ascending; empty ones vanish.

    >>> union([(5, 7), (0, 2), (2, 3), (9, 9)])
    [(0, 3), (5, 7)]
    """
    joined: list[Span] = []
    for start, end in sorted(part for part in parts if part[0] < part[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def lay_over(existing: Sequence[CoverageSpan], fresh: CoverageSpan) -> list[CoverageSpan]:
    """Return coverage with `fresh` on top: it replaces what it overlaps and joins neighbours of its own source."""
    if fresh.start_ms >= fresh.end_ms:
        return sorted(existing)
    kept = [
        replace(old, start_ms=start, end_ms=end)
        for old in existing
        for start, end in subtract((old.start_ms, old.end_ms), [(fresh.start_ms, fresh.end_ms)])
    ]
    joined: list[CoverageSpan] = []
    for span in sorted([*kept, fresh]):
        last = joined[-1] if joined else None
        if last is not None and last.end_ms == span.start_ms and last.source == span.source:
            joined[-1] = replace(last, end_ms=span.end_ms)
        else:
            joined.append(span)
    return joined


def absent(interval: Interval, opens: TimeColumn, start_ms: int, end_ms: int) -> list[Span]:
    """Return the stretches of [start_ms, end_ms) in which bars should open but none of `opens` does.

    Parameters
    ----------
    interval : Interval
    opens : ndarray of int64, shape (n,)
        Bar opens inside the window, ascending, milliseconds UTC.
    start_ms, end_ms : int
        Aligned bounds of the window.
    """
    if start_ms >= end_ms:
        return []
    if interval == "M":
        closes = np.array([next_open(interval, int(at)) for at in opens], np.int64)
    else:
        closes = opens + step_ms(interval)
    starts = np.concatenate((np.array([start_ms], np.int64), closes))
    ends = np.concatenate((opens, np.array([end_ms], np.int64)))
    holes = np.flatnonzero(ends > starts)
    return [(int(starts[hole]), int(ends[hole])) for hole in holes]


def recheck_gaps(known: Sequence[Gap], window: Span, found: Iterable[Span], at_ms: int) -> list[Gap]:
    """Return the gaps after a window was read: inside it only what was `found`, outside it what was known.

    A gap that persists keeps the time it was first seen; gaps that touch become one.
    """
    outside = [
        replace(old, start_ms=start, end_ms=end)
        for old in known
        for start, end in subtract((old.start_ms, old.end_ms), [window])
    ]
    inside = [Gap(start, end, _first_seen(known, start, end, at_ms), at_ms) for start, end in found]
    joined: list[Gap] = []
    for gap in sorted([*outside, *inside]):
        last = joined[-1] if joined else None
        if last is not None and last.end_ms == gap.start_ms:
            joined[-1] = Gap(
                last.start_ms,
                gap.end_ms,
                min(last.first_seen_ms, gap.first_seen_ms),
                min(last.last_checked_ms, gap.last_checked_ms),
            )
        else:
            joined.append(gap)
    return joined


def _first_seen(known: Sequence[Gap], start_ms: int, end_ms: int, at_ms: int) -> int:
    overlapping = (old.first_seen_ms for old in known if old.start_ms < end_ms and start_ms < old.end_ms)
    return min(overlapping, default=at_ms)
