"""Dated figures as plain rows: funding rates, open interest, long/short ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import and_, select

from engine.core.markets import FundingRate, LongShortRatio, OpenInterest
from engine.core.series import Category, FeedName, Source
from engine.errors import BadRequest
from engine.store.database import Database
from engine.store.dialect import upsert
from engine.store.seal_rows import withheld_of
from engine.store.series_rows import find_series, identify, load_coverage, save_coverage
from engine.store.spans import CoverageSpan, Span, lay_over, subtract
from engine.store.tables import POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.ports import SampleInterval

PointKind = Literal["funding", "open_interest", "long_short_ratio"]
Point = FundingRate | OpenInterest | LongShortRatio


@dataclass(frozen=True, slots=True, order=True)
class PointSeries:
    """The name of a series of dated figures; `interval` is empty for funding, which comes when it comes."""

    feed: FeedName
    category: Category
    symbol: str
    kind: PointKind
    interval: SampleInterval | Literal[""] = ""


class PointStore(Database):
    """Dated figures and their coverage."""

    async def save_points(
        self, series: PointSeries, points: Sequence[Point], *, start_ms: int, end_ms: int, source: Source
    ) -> int:
        """Keep the answer for the window [start_ms, end_ms) in one transaction and return how many points it had."""
        if outside := [point.at_ms for point in points if not start_ms <= point.at_ms < end_ms]:
            raise BadRequest(
                f"{len(outside)} points of {series.kind} lie outside the window", fix="save only points of the window"
            )

        async def change(connection: AsyncConnection) -> int:
            series_id = await identify(connection, series)
            if points:
                rows = [{"series_id": series_id, "at_ms": point.at_ms, **_values(point)} for point in points]
                await connection.execute(upsert(POINTS), rows)
            before = await load_coverage(connection, series_id)
            await save_coverage(connection, series_id, before, lay_over(before, CoverageSpan(start_ms, end_ms, source)))
            return len(points)

        return await self._write(change)

    async def read_points(self, series: PointSeries, start_ms: int, end_ms: int) -> list[Point]:
        """Return the points of [start_ms, end_ms), ascending, without those at or after the start of a seal."""

        async def query(connection: AsyncConnection) -> list[Point]:
            series_id = await find_series(connection, series)
            withheld = await withheld_of(connection, series.feed, series.category, series.symbol)
            visible_ms = end_ms if withheld is None else min(end_ms, withheld.from_ms)
            inside = and_(POINTS.c.series_id == series_id, POINTS.c.at_ms >= start_ms, POINTS.c.at_ms < visible_ms)
            found = select(POINTS.c.at_ms, POINTS.c.value, POINTS.c.second_value).where(inside).order_by(POINTS.c.at_ms)
            return [_point(series.kind, *row) for row in await connection.execute(found)]

        return await self._read(query)

    async def point_coverage(self, series: PointSeries) -> list[CoverageSpan]:
        """Return what was asked for and answered, ascending, split by source."""

        async def query(connection: AsyncConnection) -> list[CoverageSpan]:
            series_id = await find_series(connection, series)
            return [] if series_id is None else await load_coverage(connection, series_id)

        return await self._read(query)

    async def missing_points(self, series: PointSeries, start_ms: int, end_ms: int) -> list[Span]:
        """Return the stretches of [start_ms, end_ms) nobody asked for yet."""
        covered = await self.point_coverage(series)
        return subtract((start_ms, end_ms), ((span.start_ms, span.end_ms) for span in covered))


def _values(point: Point) -> dict[str, float | None]:
    if isinstance(point, FundingRate):
        return {"value": point.rate, "second_value": None}
    if isinstance(point, OpenInterest):
        return {"value": point.value, "second_value": None}
    return {"value": point.long_share, "second_value": point.short_share}


def _point(kind: PointKind, at_ms: int, value: float, second_value: float | None) -> Point:
    if kind == "funding":
        return FundingRate(at_ms, value)
    if kind == "open_interest":
        return OpenInterest(at_ms, value)
    return LongShortRatio(at_ms, value, second_value or 0.0)
