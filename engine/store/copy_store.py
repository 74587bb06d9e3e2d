"""Sealed markets under a foreign name: found by comparing bars where they may be read, told as a yes or no."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Literal

from sqlalchemy import and_, insert, select

from engine.core.holdout import Withheld
from engine.core.resemblance import SAME_CORRELATION, resemblance
from engine.core.series import Series
from engine.core.timeframes import next_open, step_ms
from engine.store.candle_store import CandleStore, read_buckets
from engine.store.ledger_rows import add_event
from engine.store.seal_rows import ActiveSeal, active_seals, underlyings_of
from engine.store.series_rows import find_series
from engine.store.study_store import StudyStore, new_seal, note_already_seen, seal_statement
from engine.store.tables import COVERAGE, SEAL_HOLDERS, SEALS, SERIES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.candles import Candles
    from engine.store.witness import Statement

Likeness = Literal["same", "other", "unknown"]


class CopyStore(CandleStore, StudyStore):
    """Finds copies of sealed markets."""

    async def sealed_twin(self, series: Series, candles: Candles) -> tuple[Likeness, Withheld | None]:
        """Say whether candles that reach past a seal are of its market under another coin's name, and name the seal.

        "unknown": nothing that is stored of a sealed market could be compared.
        """

        async def query(connection: AsyncConnection) -> tuple[Likeness, Withheld | None]:
            own = await underlyings_of(connection, series.feed, series.category, series.symbol)
            found: tuple[Likeness, Withheld | None] = ("other", None)
            for seal in await active_seals(connection):
                reaches = next_open(series.interval, int(candles.ts[-1])) > seal.from_ms
                if seal.underlying in own or not reaches:
                    continue
                likeness = await _likeness(connection, series, candles, seal)
                if likeness == "same":
                    return likeness, Withheld(seal.from_ms, seal.study)
                found = found if likeness == "other" else (likeness, Withheld(seal.from_ms, seal.study))
            return found

        return await self._read(query)

    async def seal_copies(self, study_id: str, *, at_ms: int) -> list[str]:
        """Extend the seals of a study to imported series that are copies of its market; return their coins."""

        async def change(connection: AsyncConnection) -> tuple[list[str], list[Statement]]:
            held = select(SEAL_HOLDERS.c.seal_id).where(SEAL_HOLDERS.c.study_id == study_id)
            mine = set((await connection.execute(held)).scalars())
            active = await active_seals(connection)
            coins: list[str] = []
            said: list[Statement] = []
            for seal in (each for each in active if each.id in mine):
                for series in await _imported_series(connection):
                    own = await underlyings_of(connection, series.feed, series.category, series.symbol)
                    if own & {each.underlying for each in active if each.feed == series.feed} or own & set(coins):
                        continue
                    bars = await _all_bars(connection, series)
                    if await _likeness(connection, series, bars, seal) != "same":
                        continue
                    for coin in sorted(own):
                        values = new_seal(series.feed, coin, seal.from_ms, at_ms, study_id)
                        await connection.execute(insert(SEALS).values(values))
                        await connection.execute(insert(SEAL_HOLDERS).values(seal_id=values["id"], study_id=study_id))
                        document = {"seal": values["id"], "series": str(series), "copy_of": seal.underlying}
                        await add_event(connection, "copy_sealed", document, at_ms=at_ms, study_id=study_id)
                        said += [seal_statement(values), {"kind": "holds", "seal": values["id"], "study": study_id}]
                        coins.append(coin)
                    await note_already_seen(connection, study_id, series.feed, own, seal.from_ms)
            return coins, said

        coins, said = await self._write(change)
        await self.testify(said)
        return coins


async def _likeness(connection: AsyncConnection, series: Series, candles: Candles, seal: ActiveSeal) -> Likeness:
    """Compare candles with what is stored of a sealed coin, before and after the seal; the coarsest series first."""
    found: Likeness = "unknown"
    end_ms = next_open(series.interval, int(candles.ts[-1])) if len(candles) else 0
    for original in await _series_of(connection, seal):
        for low, high in ((seal.from_ms, sys.maxsize), (0, seal.from_ms)):
            part = candles.between(low, high)
            if len(part) == 0:
                continue
            first_ms, last_ms = int(part.ts[0]) - step_ms("M"), min(high, end_ms)
            stored = await _bars(connection, original, max(low, first_ms), last_ms)
            alike = await asyncio.to_thread(resemblance, (series.interval, part), (original.interval, stored))
            if alike is not None and alike >= SAME_CORRELATION:
                return "same"
            found = found if alike is None else "other"
        if found == "other":
            break
    return found


async def _series_of(connection: AsyncConnection, seal: ActiveSeal) -> list[Series]:
    found = [each for each in await _traded(connection) if each.feed == seal.feed]
    mine = [
        each
        for each in found
        if seal.underlying in await underlyings_of(connection, each.feed, each.category, each.symbol)
    ]
    return sorted(mine, key=lambda each: -step_ms(each.interval))


async def _traded(connection: AsyncConnection) -> list[Series]:
    names = [SERIES.c[name] for name in ("feed", "category", "symbol", "kind", "interval")]
    return [Series(*row) for row in await connection.execute(select(*names).where(SERIES.c.kind == "trade"))]


async def _imported_series(connection: AsyncConnection) -> list[Series]:
    names = [SERIES.c[name] for name in ("feed", "category", "symbol", "kind", "interval")]
    imported = and_(SERIES.c.kind == "trade", COVERAGE.c.source == "imported")
    found = select(*names).join(COVERAGE, COVERAGE.c.series_id == SERIES.c.id).where(imported).distinct()
    return [Series(*row) for row in await connection.execute(found)]


async def _all_bars(connection: AsyncConnection, series: Series) -> Candles:
    return await _bars(connection, series, 0, _LATEST_MS)


async def _bars(connection: AsyncConnection, series: Series, start_ms: int, end_ms: int) -> Candles:
    series_id = await find_series(connection, series)
    return await read_buckets(connection, series, series_id or 0, start_ms, end_ms)


# Beyond every bar, and still a year that calendars know.
_LATEST_MS = 32_503_680_000_000
