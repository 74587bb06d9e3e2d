"""Candle segments: up to 1,440 bars of one series as seven packed little-endian columns with a checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.core.candles import VALUE_COLUMNS, Candles, TimeColumn
from engine.core.timeframes import Interval, floor_open, step_ms
from engine.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.core.series import Series

# A UTC day of minutes; other intervals get the same number of bars a bucket.
BARS_PER_BUCKET = 1440
# Ten years of months.
_MONTHS_PER_BUCKET = 120
# int64 opens, then six float64 columns, uncompressed: reading is then one copy.
RAW_CODEC = 1
ROW_BYTES = 8 * (1 + len(VALUE_COLUMNS))


@dataclass(frozen=True, slots=True)
class Segment:
    """One stored bucket."""

    bucket: int
    rows: int
    first_ms: int
    last_ms: int
    crc32: int
    codec: int
    data: bytes


def bucket_of(interval: Interval, open_ms: int) -> int:
    """Return the bucket number of one bar open."""
    return int(bucket_numbers(interval, np.array([open_ms], np.int64))[0])


def bucket_numbers(interval: Interval, opens: TimeColumn) -> NDArray[np.int64]:
    """Return the bucket numbers of bar opens (milliseconds UTC), same shape."""
    if interval == "M":
        months = opens.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
        return months // _MONTHS_PER_BUCKET
    return opens // (BARS_PER_BUCKET * step_ms(interval))


def encode(interval: Interval, candles: Candles) -> Segment:
    """Pack candles of one bucket; there is at least one."""
    data = b"".join(
        (
            np.ascontiguousarray(candles.ts, "<i8").tobytes(),
            *(np.ascontiguousarray(column, "<f8").tobytes() for column in candles.columns()[1:]),
        )
    )
    first_ms, last_ms = int(candles.ts[0]), int(candles.ts[-1])
    return Segment(bucket_of(interval, first_ms), len(candles), first_ms, last_ms, zlib.crc32(data), RAW_CODEC, data)


@dataclass(slots=True)
class Columns:
    """Room for a known number of bars, filled segment by segment, so that a long read holds its bars once."""

    opens: NDArray[np.int64]
    values: NDArray[np.float64]
    filled: int = 0

    @classmethod
    def of(cls, rows: int) -> Columns:
        """Return empty room."""
        return cls(np.empty(rows, np.int64), np.empty((len(VALUE_COLUMNS), rows), np.float64))

    def unpack(self, series: Series, segments: Sequence[Segment]) -> None:
        """Append segments, checking each checksum.

        Raises
        ------
        StorageFailed
            Naming the series and the bucket whose bytes are not those that were written.
        """
        for segment in segments:
            _verify(series, segment)
            start, end = self.filled, self.filled + segment.rows
            self.opens[start:end] = np.frombuffer(segment.data, "<i8", segment.rows)
            packed = np.frombuffer(segment.data, "<f8", offset=8 * segment.rows)
            self.values[:, start:end] = packed.reshape(len(VALUE_COLUMNS), segment.rows)
            self.filled = end

    def candles(self) -> Candles:
        """Return what was filled in."""
        return Candles(self.opens[: self.filled], *self.values[:, : self.filled])


def decode(series: Series, segments: Sequence[Segment]) -> Candles:
    """Unpack segments that ascend into one set of fresh columns, checking each checksum."""
    columns = Columns.of(sum(segment.rows for segment in segments))
    columns.unpack(series, segments)
    return columns.candles()


def check_page(series: Series, candles: Candles, start_ms: int, end_ms: int) -> str:
    """Return what is wrong with a page of candles for a window, or nothing."""
    opens = candles.ts
    if not len(opens):
        return ""
    if np.any(opens[1:] <= opens[:-1]):
        return "times do not ascend strictly"
    if opens[0] < start_ms or opens[-1] >= end_ms:
        return "some bars open outside the window"
    if not _are_aligned(series.interval, opens):
        return f"some bars do not open at a boundary of interval {series.interval!r}"
    if not all(np.isfinite(column).all() for column in candles.columns()[1:5]):
        return "some prices are not finite"
    return ""


def _verify(series: Series, segment: Segment) -> None:
    if segment.codec != RAW_CODEC:
        raise StorageFailed(
            f"the candles of {str(series)!r} in bucket {segment.bucket} have the unknown codec {segment.codec}",
            fix="open the database with the version that wrote it",
        )
    intact = len(segment.data) == segment.rows * ROW_BYTES and zlib.crc32(segment.data) == segment.crc32
    if not intact:
        raise StorageFailed(
            f"the stored candles of {str(series)!r} in bucket {segment.bucket} are damaged (checksum differs)",
            fix="clear the stored candles of this series and fetch them again",
        )


def _are_aligned(interval: Interval, opens: TimeColumn) -> bool:
    if interval == "M":
        return all(floor_open(interval, int(at)) == int(at) for at in opens)
    anchor = floor_open(interval, int(opens[0]))
    return anchor == int(opens[0]) and not np.any((opens - anchor) % step_ms(interval))


@dataclass(frozen=True, slots=True)
class Revision:
    """A closed candle whose values changed after it was stored. Values: open, high, low, close, volume, turnover."""

    ts: int
    old: tuple[float, ...]
    new: tuple[float, ...]
    seen_ms: int


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of laying a page over stored candles.

    Attributes
    ----------
    merged : Candles
        All candles of the touched buckets, the page's values winning.
    changed : list of Segment
        Buckets to write.
    inserted, revised, repeated : int
        Rows of the page that were new, differed, or were there already.
    revisions : list of Revision
    """

    merged: Candles
    changed: list[Segment]
    inserted: int
    revised: int
    repeated: int
    revisions: list[Revision]


def merge(series: Series, stored: Candles, page: Candles, at_ms: int) -> Merge:
    """Lay a page over the stored candles of all buckets it touches; the page wins, differences are recorded."""
    if not len(page):
        return Merge(stored, [], 0, 0, 0, [])
    place = np.searchsorted(stored.ts, page.ts)
    known = np.zeros(len(page), bool)
    inside = place < len(stored)
    known[inside] = stored.ts[place[inside]] == page.ts[inside]
    differs = _rows_differ(stored.take(place[known]), page.take(known))
    revisions = _revisions(stored.take(place[known][differs]), page.take(np.flatnonzero(known)[differs]), at_ms)
    inserted, revised = int((~known).sum()), int(differs.sum())

    fresh = ~known
    fresh[known] = differs
    merged = _lay_over(stored, page, place, known)
    touched = np.unique(bucket_numbers(series.interval, page.ts[fresh]))
    return Merge(
        merged,
        _cut(series.interval, merged, touched),
        inserted,
        revised,
        len(page) - inserted - revised,
        revisions,
    )


def _lay_over(stored: Candles, page: Candles, place: NDArray[np.intp], known: NDArray[np.bool_]) -> Candles:
    columns: list[Any] = []
    for old, new in zip(stored.columns(), page.columns(), strict=True):
        column = old.copy()
        column[place[known]] = new[known]
        columns.append(np.insert(column, place[~known], new[~known]))
    return Candles(*columns)


def _cut(interval: Interval, candles: Candles, buckets: NDArray[np.int64]) -> list[Segment]:
    numbers = bucket_numbers(interval, candles.ts)
    lows, highs = np.searchsorted(numbers, buckets, "left"), np.searchsorted(numbers, buckets, "right")
    return [encode(interval, candles.take(slice(int(low), int(high)))) for low, high in zip(lows, highs, strict=True)]


def _rows_differ(old: Candles, new: Candles) -> NDArray[np.bool_]:
    differs = np.zeros(len(old), bool)
    for before, after in zip(old.columns()[1:], new.columns()[1:], strict=True):
        differs |= (before != after) & ~(np.isnan(before) & np.isnan(after))
    return differs


def _revisions(old: Candles, new: Candles, at_ms: int) -> list[Revision]:
    before = np.stack(old.columns()[1:], axis=1).tolist()
    after = np.stack(new.columns()[1:], axis=1).tolist()
    return [
        Revision(ts, tuple(was), tuple(is_now), at_ms)
        for ts, was, is_now in zip(old.ts.tolist(), before, after, strict=True)
    ]
