"""Which bars are withheld now: asked in the very transaction that reads bars, so that no reader is early or late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from engine.core.holdout import Withheld
from engine.core.underlyings import underlying_of
from engine.store.tables import INSTRUMENTS, SEALS, STUDIES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class ActiveSeal:
    """A seal that nobody has opened."""

    id: str
    feed: str
    underlying: str
    from_ms: int
    study: str


async def active_seals(connection: AsyncConnection, feed: str | None = None) -> list[ActiveSeal]:
    """Return the unopened seals, earliest first."""
    wanted = SEALS.c.opened_ms.is_(None) if feed is None else and_(SEALS.c.opened_ms.is_(None), SEALS.c.feed == feed)
    found = (
        select(SEALS.c.id, SEALS.c.feed, SEALS.c.underlying, SEALS.c.from_ms, STUDIES.c.name)
        .join(STUDIES, STUDIES.c.id == SEALS.c.study_id)
        .where(wanted)
        .order_by(SEALS.c.from_ms, SEALS.c.id)
    )
    return [ActiveSeal(*row) for row in await connection.execute(found)]


async def underlyings_of(connection: AsyncConnection, feed: str, category: str, symbol: str) -> set[str]:
    """Return the coins a symbol follows: as it is spelled and, where the exchange's listing is stored, as that says.

    Symbols joined by commas, as a portfolio names them, follow the coins of each.
    """
    columns, names = INSTRUMENTS.c, symbol.split(",")
    same = and_(columns.feed == feed, columns.category == category, columns.symbol.in_(names))
    known = await connection.execute(select(columns.symbol, columns.base_coin).where(same).distinct())
    return {*map(underlying_of, names), *(underlying_of(name, base) for name, base in known)}


async def seals_over(connection: AsyncConnection, feed: str, category: str, symbol: str) -> list[ActiveSeal]:
    """Return the unopened seals of the coin behind a symbol, earliest first."""
    seals = await active_seals(connection, feed)
    if not seals:
        return []
    coins = await underlyings_of(connection, feed, category, symbol)
    return [seal for seal in seals if seal.underlying in coins]


async def withheld_of(connection: AsyncConnection, feed: str, category: str, symbol: str) -> Withheld | None:
    """Return what is withheld of a symbol; None when nothing is."""
    seals = await seals_over(connection, feed, category, symbol)
    return Withheld(seals[0].from_ms, seals[0].study) if seals else None
