"""Rows of the tables that candle and point series share: names, coverage, gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sqlalchemy import and_, delete, insert, select

from engine.store.spans import CoverageSpan, Gap
from engine.store.tables import COVERAGE, GAPS, SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection


class SeriesKey(Protocol):
    """The five words that name a series of any kind."""

    @property
    def feed(self) -> str:
        """Return whose market it is."""
        ...

    @property
    def category(self) -> str:
        """Return linear, inverse or spot."""
        ...

    @property
    def symbol(self) -> str:
        """Return the ticker."""
        ...

    @property
    def kind(self) -> str:
        """Return what is recorded: trade, mark, funding and so on."""
        ...

    @property
    def interval(self) -> str:
        """Return the bar or sample interval; empty where records come when they come."""
        ...


def is_series(key: SeriesKey) -> ColumnElement[bool]:
    """Return the condition that selects the row of a series."""
    return and_(
        SERIES.c.feed == key.feed,
        SERIES.c.category == key.category,
        SERIES.c.symbol == key.symbol,
        SERIES.c.kind == key.kind,
        SERIES.c.interval == key.interval,
    )


async def find_series(connection: AsyncConnection, key: SeriesKey) -> int | None:
    """Return the id of a series, or None."""
    return (await connection.execute(select(SERIES.c.id).where(is_series(key)))).scalar_one_or_none()


async def identify(connection: AsyncConnection, key: SeriesKey) -> int:
    """Return the id of a series, naming it first when it is new; needs a writing transaction."""
    known = await find_series(connection, key)
    if known is not None:
        return known
    named = insert(SERIES).values(
        feed=key.feed, category=key.category, symbol=key.symbol, kind=key.kind, interval=key.interval
    )
    return int((await connection.execute(named.returning(SERIES.c.id))).scalar_one())


async def load_coverage(connection: AsyncConnection, series_id: int) -> list[CoverageSpan]:
    """Return the coverage of a series, ascending."""
    columns = (COVERAGE.c.start_ms, COVERAGE.c.end_ms, COVERAGE.c.source)
    rows = await connection.execute(
        select(*columns).where(COVERAGE.c.series_id == series_id).order_by(COVERAGE.c.start_ms)
    )
    return [CoverageSpan(*row) for row in rows]


async def save_coverage(
    connection: AsyncConnection, series_id: int, before: Sequence[CoverageSpan], after: Sequence[CoverageSpan]
) -> None:
    """Replace the spans that changed."""
    gone, fresh = set(before) - set(after), set(after) - set(before)
    if gone:
        stale = and_(COVERAGE.c.series_id == series_id, COVERAGE.c.start_ms.in_(sorted(span.start_ms for span in gone)))
        await connection.execute(delete(COVERAGE).where(stale))
    if fresh:
        rows = [
            {"series_id": series_id, "start_ms": span.start_ms, "end_ms": span.end_ms, "source": span.source}
            for span in sorted(fresh)
        ]
        await connection.execute(insert(COVERAGE), rows)


async def load_gaps(connection: AsyncConnection, series_id: int, start_ms: int, end_ms: int) -> list[Gap]:
    """Return the gaps of a series that overlap or touch [start_ms, end_ms), ascending."""
    columns = (GAPS.c.start_ms, GAPS.c.end_ms, GAPS.c.first_seen_ms, GAPS.c.last_checked_ms)
    near = and_(GAPS.c.series_id == series_id, GAPS.c.start_ms <= end_ms, GAPS.c.end_ms >= start_ms)
    rows = await connection.execute(select(*columns).where(near).order_by(GAPS.c.start_ms))
    return [Gap(*row) for row in rows]


async def save_gaps(connection: AsyncConnection, series_id: int, before: Sequence[Gap], after: Sequence[Gap]) -> None:
    """Replace the gaps that changed."""
    gone, fresh = set(before) - set(after), set(after) - set(before)
    for gap in gone:
        same = and_(GAPS.c.series_id == series_id, GAPS.c.start_ms == gap.start_ms)
        await connection.execute(delete(GAPS).where(same))
    if fresh:
        rows = [
            {
                "series_id": series_id,
                "start_ms": gap.start_ms,
                "end_ms": gap.end_ms,
                "first_seen_ms": gap.first_seen_ms,
                "last_checked_ms": gap.last_checked_ms,
            }
            for gap in sorted(fresh)
        ]
        await connection.execute(insert(GAPS), rows)
