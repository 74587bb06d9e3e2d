"""Sealed markets under a foreign name: found by comparing bars where they may be read, told as a yes or no."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, func, insert, select, update

from engine.core.holdout import Withheld
from engine.core.resemblance import SAME_CORRELATION, resemblance
from engine.core.series import Series
from engine.core.sketches import MarketSketch, sketch_of
from engine.core.timeframes import next_open, step_ms
from engine.core.underlyings import underlying_of
from engine.store.candle_store import CandleStore, read_buckets
from engine.store.ledger_rows import add_event
from engine.store.probe_store import seen_by_probes
from engine.store.seal_rows import ActiveSeal, active_seals, underlyings_of
from engine.store.series_rows import find_series
from engine.store.sketch_rows import Coin, are_of, same_markets
from engine.store.study_store import StudyStore, new_seal, note_already_seen, seal_statement, study_statement
from engine.store.tables import COVERAGE, SEAL_HOLDERS, SEALS, SERIES, STUDIES, TRIAL_RETURNS

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

    async def note_seen_before(self, study_id: str) -> bool:
        """Add what probes, and trials under another name, saw of a new study's holdout before; return whether any did."""
        sketches = await self._read(lambda connection: _stored_sketches(connection, study_id))

        async def change(connection: AsyncConnection) -> list[Statement]:
            study = dict((await connection.execute(select(STUDIES).where(STUDIES.c.id == study_id))).mappings().one())
            own = {(study["feed"], underlying_of(symbol)) for symbol in json.loads(study["symbols"])}
            held = select(SEALS.c.from_ms).join(SEAL_HOLDERS, SEAL_HOLDERS.c.seal_id == SEALS.c.id)
            mine = and_(SEAL_HOLDERS.c.study_id == study_id, SEALS.c.opened_ms.is_(None))
            from_ms = (
                await connection.execute(held.where(mine).order_by(SEALS.c.from_ms).limit(1))
            ).scalar_one_or_none()
            if from_ms is None:
                return []
            every = await same_markets(connection, own, sketches)
            seen = [*await seen_by_probes(connection, every, from_ms)]
            if copies := every - own:
                seen += await _seen_on_copies(connection, copies, from_ms)
            if not seen:
                return []
            study["already_seen"] = json.dumps([*json.loads(study["already_seen"]), *seen])
            noted = update(STUDIES).where(STUDIES.c.id == study_id).values(already_seen=study["already_seen"])
            await connection.execute(noted)
            return [study_statement(study)]

        said = await self._write(change)
        await self.testify(said)
        return bool(said)


async def _stored_sketches(connection: AsyncConnection, study_id: str) -> list[MarketSketch]:
    """Return how the markets of a study look by the candles that are stored; nothing may have been evaluated on them yet."""
    asked = select(STUDIES.c.feed, STUDIES.c.category, STUDIES.c.symbols).where(STUDIES.c.id == study_id)
    feed, category, symbols = (await connection.execute(asked)).one()
    mine = [
        each
        for each in await _traded(connection)
        if (each.feed, each.category) == (feed, category) and each.symbol in json.loads(symbols)
    ]
    return [sketch_of(each.symbol, each.interval, await _all_bars(connection, each)) for each in mine]


async def _seen_on_copies(connection: AsyncConnection, coins: frozenset[Coin], from_ms: int) -> list[dict[str, Any]]:
    batches = TRIAL_RETURNS.c
    inside = and_(are_of(batches.feed, batches.underlying, coins), batches.end_ms > from_ms)
    found = (
        select(STUDIES.c.name, func.max(batches.end_ms), func.sum(batches.rows))
        .join(STUDIES, STUDIES.c.id == batches.study_id)
        .where(inside)
        .group_by(STUDIES.c.name)
        .order_by(STUDIES.c.name)
    )
    return [
        {"study": name, "from_ms": from_ms, "until_ms": int(until_ms), "trials": int(trials)}
        for name, until_ms, trials in await connection.execute(found)
    ]


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
