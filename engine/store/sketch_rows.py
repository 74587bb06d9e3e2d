"""Sketches of the markets that something was evaluated on, and which of them are one market under several names."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, insert, or_, select

from engine.core.sketches import MarketSketch, unpacked
from engine.core.underlyings import underlying_of
from engine.store.tables import MARKET_SKETCHES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

# A feed and a coin.
Coin = tuple[str, str]
_LEVEL = 1


async def keep_sketches(
    connection: AsyncConnection, feed: str, category: str, sketches: Sequence[MarketSketch], *, at_ms: int
) -> None:
    """Keep what is not known yet of some markets; needs a writing transaction."""
    for sketch in await unknown_sketches(connection, feed, category, sketches):
        row = {
            "feed": feed, "category": category, "symbol": sketch.symbol, "sha256": sketch.sha256(),
            "underlying": underlying_of(sketch.symbol), "first_ms": int(sketch.times_ms[0]),
            "last_ms": int(sketch.times_ms[-1]), "rows": len(sketch.times_ms), "at_ms": at_ms,
            "data": zlib.compress(sketch.packed(), _LEVEL),
        }  # fmt: skip
        await connection.execute(insert(MARKET_SKETCHES).values(row))


async def unknown_sketches(
    connection: AsyncConnection, feed: str, category: str, sketches: Sequence[MarketSketch]
) -> list[MarketSketch]:
    """Return the sketches that no kept one of the same series holds whole."""
    found: list[MarketSketch] = []
    columns = MARKET_SKETCHES.c
    for sketch in sketches:
        if len(sketch.times_ms) == 0:
            continue
        same = and_(columns.feed == feed, columns.category == category, columns.symbol == sketch.symbol)
        very = select(columns.rows).where(same, columns.sha256 == sketch.sha256())
        if (await connection.execute(very)).first() is not None:
            continue
        around = and_(columns.first_ms <= int(sketch.times_ms[0]), columns.last_ms >= int(sketch.times_ms[-1]))
        kept = (await connection.execute(select(columns.data).where(same, around))).scalars()
        if not any(_of(sketch.symbol, data).holds(sketch) for data in kept):
            found.append(sketch)
    return found


async def same_markets(
    connection: AsyncConnection, coins: Collection[Coin], sketches: Sequence[MarketSketch] = ()
) -> frozenset[Coin]:
    """Return the coins themselves and all that move as one with them, as far as both were ever evaluated on.

    Without sketches to compare with, the kept ones of the coins are taken.
    """
    columns = MARKET_SKETCHES.c
    mine = _are(coins)
    kept = (columns.feed, columns.underlying, columns.symbol, columns.data)
    if not sketches:
        rows = list(await connection.execute(select(*kept).where(mine)))
        sketches = await asyncio.to_thread(lambda: [_of(row.symbol, row.data) for row in rows])
    spans = [(int(each.times_ms[0]), int(each.times_ms[-1])) for each in sketches if len(each.times_ms)]
    if not spans:
        return frozenset(coins)
    beside = and_(columns.first_ms < max(last for _, last in spans), columns.last_ms > min(first for first, _ in spans))
    others = list(await connection.execute(select(*kept).where(~mine, beside)))
    return frozenset(coins) | await asyncio.to_thread(_alike, sketches, others)


def _alike(sketches: Sequence[MarketSketch], others: Iterable[Any]) -> frozenset[Coin]:
    found: set[Coin] = set()
    for other in others:
        coin = (other.feed, other.underlying)
        if coin in found:
            continue
        sketch = _of(other.symbol, other.data)
        if any(mine.is_like(sketch) for mine in sketches):
            found.add(coin)
    return frozenset(found)


def are_of(feed: ColumnElement[str], underlying: ColumnElement[str], coins: Collection[Coin]) -> ColumnElement[bool]:
    """Return the condition that a row is about one of the coins."""
    by_feed: dict[str, list[str]] = {}
    for name, coin in sorted(coins):
        by_feed.setdefault(name, []).append(coin)
    return or_(*_conditions(feed, underlying, by_feed))


def _conditions(
    feed: ColumnElement[str], underlying: ColumnElement[str], by_feed: dict[str, list[str]]
) -> Iterator[ColumnElement[bool]]:
    for name, coins in by_feed.items():
        yield and_(feed == name, underlying.in_(coins))


def _are(coins: Collection[Coin]) -> ColumnElement[bool]:
    return are_of(MARKET_SKETCHES.c.feed, MARKET_SKETCHES.c.underlying, coins)


def _of(symbol: str, data: bytes) -> MarketSketch:
    return unpacked(symbol, zlib.decompress(data))
