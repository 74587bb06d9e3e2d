"""Instruments as dated snapshots: a new row only when a rule changed."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, or_, select, update

from engine.core.markets import Instrument, RiskTier
from engine.store.database import Database
from engine.store.dialect import upsert
from engine.store.tables import INSTRUMENTS, META

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.series import Category, FeedName

_DECIMALS = ("tick_size", "lot_step", "min_quantity", "max_market_quantity", "min_notional", "max_leverage")


@dataclasses.dataclass(frozen=True, slots=True)
class InstrumentPage:
    """Some instruments and how many match in all."""

    items: list[Instrument]
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class KnownTiers:
    """Maintenance tiers and when they were seen (milliseconds UTC)."""

    at_ms: int
    tiers: tuple[RiskTier, ...]


class InstrumentStore(Database):
    """Instruments and their history of rules."""

    async def save_instruments(
        self, feed: FeedName, instruments: Sequence[Instrument], at_ms: int, *, listing_of: Category | None = None
    ) -> int:
        """Keep what changed, dated `at_ms`, and return how many did.

        `listing_of` says that this was the whole list of that category: symbols that are not on it stop being found by
        search, and `instruments_listed_ms` moves.
        """

        async def change(connection: AsyncConnection) -> int:
            changed = 0
            for category in sorted({each.category for each in instruments}):
                known = await _current(connection, feed, category)
                chosen = {each.symbol: each for each in instruments if each.category == category}
                changed += await _save_changes(connection, feed, chosen, known, at_ms)
            if listing_of is not None:
                key = _listing_key(feed, listing_of)
                await connection.execute(upsert(META).values(key=key, value=str(at_ms)))
            return changed

        return await self._write(change)

    async def instrument(
        self, feed: FeedName, category: Category, symbol: str, at_ms: int | None = None
    ) -> Instrument | None:
        """Return the newest rules known of a symbol, or those in force at `at_ms`."""
        same = and_(INSTRUMENTS.c.feed == feed, INSTRUMENTS.c.category == category, INSTRUMENTS.c.symbol == symbol)
        wanted = same if at_ms is None else and_(same, INSTRUMENTS.c.valid_from_ms <= at_ms)
        newest = select(INSTRUMENTS.c.document).where(wanted).order_by(INSTRUMENTS.c.valid_from_ms.desc()).limit(1)

        async def query(connection: AsyncConnection) -> Instrument | None:
            document = (await connection.execute(newest)).scalar_one_or_none()
            return None if document is None else _parse(document)

        return await self._read(query)

    async def search_instruments(
        self, feed: FeedName, category: Category | None = None, text: str = "", *, limit: int = 50, offset: int = 0
    ) -> InstrumentPage:
        """Return instruments of the last listing whose symbol or coins contain `text`; an exact base coin comes first."""
        needle = text.strip().upper()

        async def query(connection: AsyncConnection) -> InstrumentPage:
            wanted = and_(
                INSTRUMENTS.c.feed == feed,
                INSTRUMENTS.c.is_current,
                await _on_the_list(connection, feed, category),
                or_(*(INSTRUMENTS.c[name].contains(needle, autoescape=True) for name in ("symbol", "base_coin"))),
            )
            total = (await connection.execute(select(func.count()).select_from(INSTRUMENTS).where(wanted))).scalar_one()
            best_first = (
                (INSTRUMENTS.c.symbol != needle),
                (INSTRUMENTS.c.base_coin != needle),
                INSTRUMENTS.c.symbol,
                INSTRUMENTS.c.category,
            )
            found = select(INSTRUMENTS.c.document).where(wanted).order_by(*best_first).limit(limit).offset(offset)
            documents = (await connection.execute(found)).scalars().all()
            return InstrumentPage([_parse(document) for document in documents], int(total))

        return await self._read(query)

    async def save_risk_tiers(
        self, feed: FeedName, category: Category, symbol: str, tiers: Sequence[RiskTier], at_ms: int
    ) -> None:
        """Keep the maintenance tiers of a symbol as they are today."""
        rows = [dataclasses.asdict(tier) for tier in tiers]
        document = json.dumps({"at_ms": at_ms, "tiers": rows}, default=str, sort_keys=True)

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(upsert(META).values(key=_tiers_key(feed, category, symbol), value=document))

        await self._write(change)

    async def risk_tiers(self, feed: FeedName, category: Category, symbol: str) -> KnownTiers | None:
        """Return the maintenance tiers last seen; None when nobody asked."""

        async def query(connection: AsyncConnection) -> str | None:
            wanted = select(META.c.value).where(META.c.key == _tiers_key(feed, category, symbol))
            return (await connection.execute(wanted)).scalar_one_or_none()

        document = await self._read(query)
        if document is None:
            return None
        known = json.loads(document)
        decimals = ("limit_value", "maintenance_margin", "initial_margin", "max_leverage", "deduction")
        tiers = tuple(RiskTier(row["tier"], *(Decimal(row[name]) for name in decimals)) for row in known["tiers"])
        return KnownTiers(known["at_ms"], tiers)

    async def instruments_listed_ms(self, feed: FeedName, category: Category) -> int | None:
        """Return when the whole list of a category was last saved; None when it never was."""

        async def query(connection: AsyncConnection) -> int | None:
            return await _listed_ms(connection, feed, category)

        return await self._read(query)

    async def instruments_age_ms(self, feed: FeedName, category: Category, now_ms: int) -> int | None:
        """Return how old the list of a category is; None when there is none."""
        listed_ms = await self.instruments_listed_ms(feed, category)
        return None if listed_ms is None else now_ms - listed_ms


def _tiers_key(feed: str, category: str, symbol: str) -> str:
    return f"risk tiers {feed} {category} {symbol}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    row_id: int
    document: str
    valid_from_ms: int


async def _current(connection: AsyncConnection, feed: str, category: str) -> dict[str, _Known]:
    columns = INSTRUMENTS.c
    rows = await connection.execute(
        select(columns.symbol, columns.id, columns.document, columns.valid_from_ms).where(
            and_(columns.feed == feed, columns.category == category, columns.is_current)
        )
    )
    return {row.symbol: _Known(row.id, row.document, row.valid_from_ms) for row in rows}


async def _save_changes(
    connection: AsyncConnection,
    feed: str,
    instruments: dict[str, Instrument],
    known: dict[str, _Known],
    at_ms: int,
) -> int:
    documents = {symbol: _document(each) for symbol, each in instruments.items()}
    changed = [
        symbol
        for symbol, document in documents.items()
        if symbol not in known or (known[symbol].document != document and known[symbol].valid_from_ms < at_ms)
    ]
    seen = [known[symbol].row_id for symbol in documents if symbol in known and symbol not in changed]
    outdated = [known[symbol].row_id for symbol in changed if symbol in known]
    for ids, values in ((seen, {"seen_ms": at_ms}), (outdated, {"is_current": False})):
        for some in (ids[at : at + 500] for at in range(0, len(ids), 500)):
            await connection.execute(update(INSTRUMENTS).where(INSTRUMENTS.c.id.in_(some)).values(**values))
    if changed:
        rows = [_row(feed, instruments[symbol], documents[symbol], at_ms) for symbol in changed]
        await connection.execute(insert(INSTRUMENTS), rows)
    return len(changed)


async def _listed_ms(connection: AsyncConnection, feed: str, category: str) -> int | None:
    known = select(META.c.value).where(META.c.key == _listing_key(feed, category))
    value = (await connection.execute(known)).scalar_one_or_none()
    return None if value is None else int(value)


async def _on_the_list(connection: AsyncConnection, feed: str, category: str | None) -> ColumnElement[bool]:
    choices: list[ColumnElement[bool]] = []
    for each in ("linear", "inverse", "spot") if category is None else (category,):
        listed_ms = await _listed_ms(connection, feed, each) or 0
        choices.append(and_(INSTRUMENTS.c.category == each, INSTRUMENTS.c.seen_ms >= listed_ms))
    return or_(*choices)


def _listing_key(feed: str, category: str) -> str:
    return f"instruments listed {feed} {category}"


def _row(feed: str, instrument: Instrument, document: str, at_ms: int) -> dict[str, str | int | bool]:
    return {
        "feed": feed,
        "category": instrument.category,
        "symbol": instrument.symbol,
        "base_coin": instrument.base_coin,
        "quote_coin": instrument.quote_coin,
        "status": instrument.status,
        "valid_from_ms": at_ms,
        "seen_ms": at_ms,
        "is_current": True,
        "document": document,
    }


def _document(instrument: Instrument) -> str:
    return json.dumps(dataclasses.asdict(instrument), default=str, sort_keys=True)


def _parse(document: str) -> Instrument:
    fields: dict[str, Any] = json.loads(document)
    for name in _DECIMALS:
        if fields[name] is not None:
            fields[name] = Decimal(fields[name])
    return Instrument(**fields)
