"""Stored candles: pages in, columns out, and what is known of each series."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, get_args

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.core.candles import Candles
from engine.core.series import CandleKind, Series, Source
from engine.core.timeframes import ceil_open
from engine.errors import BadRequest
from engine.store import segments
from engine.store.database import Database
from engine.store.dialect import upsert
from engine.store.segments import Revision, Segment
from engine.store.series_rows import (
    find_series,
    identify,
    is_series,
    load_coverage,
    load_gaps,
    save_coverage,
    save_gaps,
)
from engine.store.spans import CoverageSpan, Gap, Span, absent, lay_over, recheck_gaps, subtract
from engine.store.tables import COVERAGE, GAPS, JOBS, POINTS, REVISIONS, SEGMENTS, SERIES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

Fact = TypeVar("Fact")
_Loader = Callable[[AsyncConnection, int], Awaitable[list[Fact]]]

_CANDLE_KINDS: tuple[str, ...] = get_args(CandleKind)
# 256 days of minutes are 20 MB: enough to be quick, little enough to be bounded.
_SEGMENTS_PER_READ = 256
# Work on more bars than this takes long enough to belong into a thread.
_BARS_INLINE = 4_000
_SEGMENT_COLUMNS = tuple(
    SEGMENTS.c[name] for name in ("bucket", "rows", "first_ms", "last_ms", "crc32", "codec", "data")
)


@dataclass(frozen=True, slots=True)
class PageReceipt:
    """What committing a page changed: bars that were new, that had other values before, that were there already."""

    inserted: int
    revised: int
    repeated: int


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What is known of a series besides its candles.

    Attributes
    ----------
    listed_ms : int or None
        Launch of the instrument the candles belong to.
    begins_ms : int or None
        No bar exists before this time; None when nobody looked.
    """

    listed_ms: int | None
    begins_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredRange:
    """What is stored of a range, in one snapshot.

    Attributes
    ----------
    candles : Candles
        Empty where it was asked for complete ranges only and something is missing.
    missing : list of (start, end)
        Aligned stretches nobody asked for yet; known gaps are not missing.
    sources : set of str
        Who answered for bars of the range.
    gaps : list of Gap
        Known gaps that reach into the range, ascending, in their full length.
    """

    candles: Candles
    missing: list[Span]
    sources: set[Source]
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One stored series at a glance; times are None when no candle is stored."""

    series: Series
    bars: int
    first_ms: int | None
    last_ms: int | None
    stored_bytes: int


class CandleStore(Database):
    """Candles and their coverage."""

    async def commit_page(
        self,
        series: Series,
        candles: Candles,
        *,
        start_ms: int,
        end_ms: int,
        source: Source,
        at_ms: int,
        job_id: str | None = None,
        cursor_ms: int | None = None,
    ) -> PageReceipt:
        """Keep the answer for one window in one transaction; repeating it changes nothing.

        Parameters
        ----------
        series : Series
        candles : Candles
            Every closed bar of the window that exists. Bars that are expected and absent become gaps.
        start_ms, end_ms : int
            The window [start_ms, end_ms) that was answered, milliseconds UTC.
        source : Source
            Who answered; it replaces the source of what was covered before.
        at_ms : int
            Time of the answer, for gaps and revisions.
        job_id, cursor_ms : optional
            The job whose cursor moves in the same transaction.
        """
        start_ms, end_ms = _aligned(series, start_ms, end_ms)
        if wrong := segments.check_page(series, candles, start_ms, end_ms):
            raise BadRequest(
                f"the page of {str(series)!r} cannot be stored: {wrong}",
                fix="candles ascend, are aligned and open inside the window",
            )
        fresh = CoverageSpan(start_ms, end_ms, source)

        async def change(connection: AsyncConnection) -> PageReceipt:
            series_id = await identify(connection, series)
            receipt = PageReceipt(0, 0, 0)
            if start_ms < end_ms:
                receipt = await _merge_page(connection, series, series_id, candles, fresh, at_ms)
            if job_id is not None:
                moved = update(JOBS).where(JOBS.c.id == job_id).values(cursor_ms=cursor_ms, updated_ms=at_ms)
                await connection.execute(moved)
            return receipt

        return await self._write(change)

    async def read_candles(self, series: Series, start_ms: int, end_ms: int) -> Candles:
        """Return the stored bars that open in [start_ms, end_ms).

        Raises
        ------
        StorageFailed
            When a segment's bytes are not those that were written.
        """
        if start_ms >= end_ms:
            return Candles.empty()

        async def query(connection: AsyncConnection) -> Candles:
            series_id = await find_series(connection, series)
            if series_id is None:
                return Candles.empty()
            return await _read_buckets(connection, series, series_id, start_ms, end_ms)

        return await self._read(query)

    async def stored_range(self, series: Series, start_ms: int, end_ms: int, *, only_whole: bool) -> StoredRange:
        """Return candles, missing stretches, sources and gaps of [start_ms, end_ms); `only_whole`: candles if none is missing."""

        async def query(connection: AsyncConnection) -> StoredRange:
            found = select(SERIES.c.id, SERIES.c.begins_ms).where(is_series(series))
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                return StoredRange(Candles.empty(), _uncovered(series, start_ms, end_ms, None, []), set(), [])
            coverage = await load_coverage(connection, row.id)
            missing = _uncovered(series, start_ms, end_ms, row.begins_ms, coverage)
            gaps = await load_gaps(connection, row.id, start_ms, end_ms)
            candles = Candles.empty()
            if start_ms < end_ms and not (missing and only_whole):
                candles = await _read_buckets(connection, series, row.id, start_ms, end_ms)
            return StoredRange(
                candles, missing, _answering(coverage, start_ms, end_ms), _reaching(gaps, start_ms, end_ms)
            )

        return await self._read(query)

    async def count_bars(self, series: Series, start_ms: int, end_ms: int) -> int:
        """Return how many stored bars open in [start_ms, end_ms)."""
        if start_ms >= end_ms:
            return 0

        async def query(connection: AsyncConnection) -> int:
            series_id = await find_series(connection, series)
            if series_id is None:
                return 0
            mine = SEGMENTS.c.series_id == series_id
            whole = and_(mine, SEGMENTS.c.first_ms >= start_ms, SEGMENTS.c.last_ms < end_ms)
            inner = (
                await connection.execute(select(func.coalesce(func.sum(SEGMENTS.c.rows), 0)).where(whole))
            ).scalar_one()
            cut = and_(
                mine,
                SEGMENTS.c.last_ms >= start_ms,
                SEGMENTS.c.first_ms < end_ms,
                (SEGMENTS.c.first_ms < start_ms) | (SEGMENTS.c.last_ms >= end_ms),
            )
            edges = await _select_segments(connection, cut)
            return int(inner) + sum(len(segments.decode(series, [edge]).between(start_ms, end_ms)) for edge in edges)

        return await self._read(query)

    async def coverage(self, series: Series) -> list[CoverageSpan]:
        """Return what was asked for and answered, ascending, split by source."""
        return await self._facts_of(series, load_coverage)

    async def sources(self, series: Series, start_ms: int, end_ms: int) -> set[Source]:
        """Return who answered for bars in [start_ms, end_ms)."""
        return _answering(await self.coverage(series), start_ms, end_ms)

    async def missing(self, series: Series, start_ms: int, end_ms: int) -> list[Span]:
        """Return the aligned stretches of [start_ms, end_ms) nobody asked for yet; known gaps are not missing."""
        facts = await self.series_facts(series)
        begins_ms = None if facts is None else facts.begins_ms
        return _uncovered(series, start_ms, end_ms, begins_ms, await self.coverage(series))

    async def gaps(self, series: Series, start_ms: int, end_ms: int) -> list[Gap]:
        """Return the known gaps that reach into [start_ms, end_ms), ascending, in their full length."""

        async def load(connection: AsyncConnection, series_id: int) -> list[Gap]:
            return await load_gaps(connection, series_id, start_ms, end_ms)

        return _reaching(await self._facts_of(series, load), start_ms, end_ms)

    async def revisions(self, series: Series, start_ms: int, end_ms: int, *, limit: int = 1000) -> list[Revision]:
        """Return closed candles in [start_ms, end_ms) that changed after they were stored, oldest change first."""

        async def load(connection: AsyncConnection, series_id: int) -> list[Revision]:
            columns = REVISIONS.c
            inside = and_(columns.series_id == series_id, columns.ts >= start_ms, columns.ts < end_ms)
            rows = await connection.execute(
                select(columns.ts, columns.old_values, columns.new_values, columns.seen_ms)
                .where(inside)
                .order_by(columns.id)
                .limit(limit)
            )
            return [Revision(row.ts, _values(row.old_values), _values(row.new_values), row.seen_ms) for row in rows]

        return await self._facts_of(series, load)

    async def series_facts(self, series: Series) -> SeriesFacts | None:
        """Return what is known of a series; None when it was never stored."""

        async def query(connection: AsyncConnection) -> SeriesFacts | None:
            found = select(SERIES.c.listed_ms, SERIES.c.begins_ms).where(is_series(series))
            row = (await connection.execute(found)).one_or_none()
            return None if row is None else SeriesFacts(row.listed_ms, row.begins_ms)

        return await self._read(query)

    async def save_series_facts(
        self, series: Series, *, listed_ms: int | None = None, begins_ms: int | None = None
    ) -> None:
        """Remember the launch of a series' instrument, or its first bar; None leaves what is known."""
        known = {
            name: value for name, value in (("listed_ms", listed_ms), ("begins_ms", begins_ms)) if value is not None
        }

        async def change(connection: AsyncConnection) -> None:
            series_id = await identify(connection, series)
            if known:
                await connection.execute(update(SERIES).where(SERIES.c.id == series_id).values(**known))

        await self._write(change)

    async def trim_beginning(self, series: Series) -> None:
        """Move the known beginning to the first bar: before it there is no gap, there is nothing."""

        async def change(connection: AsyncConnection) -> None:
            found = select(SERIES.c.id, SERIES.c.begins_ms).where(is_series(series))
            row = (await connection.execute(found)).one_or_none()
            if row is None or row.begins_ms is None:
                return
            known = await load_gaps(connection, row.id, row.begins_ms, row.begins_ms)
            leading = [gap for gap in known if gap.start_ms <= row.begins_ms < gap.end_ms]
            if leading:
                await save_gaps(connection, row.id, leading, [])
                await connection.execute(
                    update(SERIES).where(SERIES.c.id == row.id).values(begins_ms=leading[0].end_ms)
                )

        await self._write(change)

    async def list_series(self, *, feed: str | None = None, symbol: str | None = None) -> list[SeriesSummary]:
        """Return the stored candle series in order of their names."""
        wanted = [SERIES.c.kind.in_(_CANDLE_KINDS)]
        wanted += [] if feed is None else [SERIES.c.feed == feed]
        wanted += [] if symbol is None else [SERIES.c.symbol == symbol]
        names = [SERIES.c[name] for name in ("feed", "category", "symbol", "kind", "interval")]
        bars = func.coalesce(func.sum(SEGMENTS.c.rows), 0)
        first, last = func.min(SEGMENTS.c.first_ms), func.max(SEGMENTS.c.last_ms)
        rows_of = (
            select(*names, bars, first, last)
            .select_from(SERIES.outerjoin(SEGMENTS, SEGMENTS.c.series_id == SERIES.c.id))
            .where(*wanted)
            .group_by(SERIES.c.id, *names)
            .order_by(*names)
        )

        async def query(connection: AsyncConnection) -> list[SeriesSummary]:
            found = [tuple(row) for row in await connection.execute(rows_of)]
            return [
                SeriesSummary(Series(*row[:5]), int(row[5]), row[6], row[7], int(row[5]) * segments.ROW_BYTES)
                for row in found
            ]

        return await self._read(query)

    async def delete_series(self, series: Series) -> bool:
        """Forget a series with everything known of it; False when there was none."""

        async def change(connection: AsyncConnection) -> bool:
            series_id = await find_series(connection, series)
            if series_id is None:
                return False
            for table in (SEGMENTS, COVERAGE, GAPS, REVISIONS, POINTS):
                await connection.execute(delete(table).where(table.c.series_id == series_id))
            await connection.execute(delete(SERIES).where(SERIES.c.id == series_id))
            return True

        return await self._write(change)

    async def _facts_of(self, series: Series, load: _Loader[Fact]) -> list[Fact]:
        async def query(connection: AsyncConnection) -> list[Fact]:
            series_id = await find_series(connection, series)
            return [] if series_id is None else await load(connection, series_id)

        return await self._read(query)


def _uncovered(
    series: Series, start_ms: int, end_ms: int, begins_ms: int | None, coverage: list[CoverageSpan]
) -> list[Span]:
    start_ms, end_ms = _aligned(series, start_ms, end_ms)
    if begins_ms is not None:
        start_ms = max(start_ms, begins_ms)
    if start_ms >= end_ms:
        return []
    return subtract((start_ms, end_ms), ((span.start_ms, span.end_ms) for span in coverage))


def _answering(coverage: list[CoverageSpan], start_ms: int, end_ms: int) -> set[Source]:
    return {span.source for span in coverage if span.start_ms < end_ms and start_ms < span.end_ms}


def _reaching(gaps: list[Gap], start_ms: int, end_ms: int) -> list[Gap]:
    return [gap for gap in gaps if gap.start_ms < end_ms and start_ms < gap.end_ms]


async def _merge_page(
    connection: AsyncConnection,
    series: Series,
    series_id: int,
    page: Candles,
    fresh: CoverageSpan,
    at_ms: int,
) -> PageReceipt:
    """Write what a page changes: segments, revisions, coverage, gaps."""
    window = (fresh.start_ms, fresh.end_ms)
    stored = await _select_segments(connection, _buckets_between(series, series_id, *window))

    def merge() -> segments.Merge:
        return segments.merge(series, segments.decode(series, stored), page, at_ms)

    is_large = len(page) + sum(segment.rows for segment in stored) > _BARS_INLINE
    merged = await asyncio.to_thread(merge) if is_large else merge()
    if merged.changed:
        rows = [{"series_id": series_id, **_as_row(segment)} for segment in merged.changed]
        await connection.execute(upsert(SEGMENTS), rows)
    if merged.revisions:
        await connection.execute(insert(REVISIONS), [_revision_row(series_id, each) for each in merged.revisions])

    before = await load_coverage(connection, series_id)
    await save_coverage(connection, series_id, before, lay_over(before, fresh))
    known = await load_gaps(connection, series_id, *window)
    found = absent(series.interval, merged.merged.between(*window).ts, *window)
    await save_gaps(connection, series_id, known, recheck_gaps(known, window, found, at_ms))
    if len(page):
        older = and_(SERIES.c.id == series_id, SERIES.c.begins_ms > int(page.ts[0]))
        await connection.execute(update(SERIES).where(older).values(begins_ms=int(page.ts[0])))
    return PageReceipt(merged.inserted, merged.revised, merged.repeated)


async def _read_buckets(
    connection: AsyncConnection, series: Series, series_id: int, start_ms: int, end_ms: int
) -> Candles:
    between = _buckets_between(series, series_id, start_ms, end_ms)
    counted = select(func.coalesce(func.sum(SEGMENTS.c.rows), 0)).where(between)
    columns = segments.Columns.of(int((await connection.execute(counted)).scalar_one()))
    last = None
    while True:
        unread = between if last is None else and_(between, SEGMENTS.c.bucket > last)
        stored = await _select_segments(connection, unread, limit=_SEGMENTS_PER_READ)
        if sum(segment.rows for segment in stored) > _BARS_INLINE:
            await asyncio.to_thread(columns.unpack, series, stored)
        else:
            columns.unpack(series, stored)
        if len(stored) < _SEGMENTS_PER_READ:
            return columns.candles().between(start_ms, end_ms)
        last = stored[-1].bucket


async def _select_segments(
    connection: AsyncConnection, condition: ColumnElement[bool], limit: int | None = None
) -> list[Segment]:
    rows = await connection.execute(select(*_SEGMENT_COLUMNS).where(condition).order_by(SEGMENTS.c.bucket).limit(limit))
    return [Segment(*row) for row in rows]


def _buckets_between(series: Series, series_id: int, start_ms: int, end_ms: int) -> ColumnElement[bool]:
    first, last = segments.bucket_of(series.interval, start_ms), segments.bucket_of(series.interval, end_ms - 1)
    return and_(SEGMENTS.c.series_id == series_id, SEGMENTS.c.bucket >= first, SEGMENTS.c.bucket <= last)


def _aligned(series: Series, start_ms: int, end_ms: int) -> Span:
    """Return the bounds moved to bar opens; the same bars open between them."""
    return ceil_open(series.interval, start_ms), ceil_open(series.interval, end_ms)


def _as_row(segment: Segment) -> dict[str, int | bytes]:
    return {
        "bucket": segment.bucket,
        "rows": segment.rows,
        "first_ms": segment.first_ms,
        "last_ms": segment.last_ms,
        "crc32": segment.crc32,
        "codec": segment.codec,
        "data": segment.data,
    }


def _revision_row(series_id: int, revision: Revision) -> dict[str, int | str]:
    return {
        "series_id": series_id,
        "ts": revision.ts,
        "old_values": _text(revision.old),
        "new_values": _text(revision.new),
        "seen_ms": revision.seen_ms,
    }


def _text(values: tuple[float, ...]) -> str:
    return json.dumps([value if math.isfinite(value) else None for value in values])


def _values(text: str) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in json.loads(text))
