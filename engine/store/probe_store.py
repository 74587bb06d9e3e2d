"""Probes: expressions whose outcome on a market somebody looked at without recording a trial, each once, in a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, select

from engine.core.underlyings import underlying_of
from engine.store.ledger_rows import canonical, chained
from engine.store.sketch_rows import Coin, are_of, keep_sketches, same_markets, unknown_sketches
from engine.store.study_store import StudyStore
from engine.store.tables import PROBES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.series import Series
    from engine.core.sketches import MarketSketch
    from engine.store.witness import Statement

_GENESIS = "0" * 64
_IDENTITY = ("feed", "underlying", "interval", "expression")
_CONTENT = (*_IDENTITY, "category", "symbol", "start_ms", "end_ms", "at_ms")


@dataclass(frozen=True, slots=True)
class Probe:
    """What was looked at: an expression in its normal form, and the interval of its bars."""

    expression: str
    interval: str


class ProbeStore(StudyStore):
    """Probes of markets, and which markets are one."""

    async def note_probe(
        self, series: Series, expression: str, range_ms: tuple[int, int], sketch: MarketSketch, *, at_ms: int
    ) -> bool:
        """Write down that an expression was evaluated on a market; return False where that was known already.

        Parameters
        ----------
        expression : str
            In its normal form: one text for what is one thing.
        range_ms : (int, int)
            Open of the first bar and close of the last one.
        """
        values: dict[str, Any] = {
            "feed": series.feed, "underlying": underlying_of(series.symbol), "interval": series.interval,
            "expression": expression, "category": series.category, "symbol": series.symbol,
            "start_ms": range_ms[0], "end_ms": range_ms[1], "at_ms": at_ms,
        }  # fmt: skip

        async def is_known(connection: AsyncConnection) -> bool:
            unknown = await unknown_sketches(connection, series.feed, series.category, [sketch])
            return not unknown and await _is_known(connection, values)

        # Most expressions are asked for again and again; those wait for no writer.
        if await self._read(is_known):
            return False

        async def change(connection: AsyncConnection) -> list[Statement]:
            await keep_sketches(connection, series.feed, series.category, [sketch], at_ms=at_ms)
            return [] if await _is_known(connection, values) else [await add_probe(connection, values)]

        said = await self._write(change)
        await self.testify(said)
        return bool(said)

    async def probes(self, coins: Collection[Coin], range_ms: tuple[int, int]) -> frozenset[Probe]:
        """Return what was looked at on bars of a range, each expression once."""
        columns = PROBES.c
        inside = and_(columns.start_ms < range_ms[1], columns.end_ms > range_ms[0])
        mine = are_of(columns.feed, columns.underlying, coins)
        found = select(columns.expression, columns.interval).where(mine, inside).distinct()

        async def query(connection: AsyncConnection) -> frozenset[Probe]:
            return frozenset(Probe(*row) for row in await connection.execute(found))

        return await self._read(query)

    async def are_probes_intact(self) -> bool:
        """Recompute every link of the chain of probes and compare."""

        async def query(connection: AsyncConnection) -> bool:
            head, expected = _GENESIS, 1
            for row in (await connection.execute(select(PROBES).order_by(PROBES.c.number))).mappings():
                head = _link(head, dict(row))
                if (row["number"], row["hash"]) != (expected, head):
                    return False
                expected += 1
            return True

        return await self._read(query)

    async def same_markets(self, coins: Collection[Coin], sketches: Sequence[MarketSketch] = ()) -> frozenset[Coin]:
        """Return coins and all others whose closes move as one with theirs: copies under another name."""

        async def query(connection: AsyncConnection) -> frozenset[Coin]:
            return await same_markets(connection, coins, sketches)

        return await self._read(query)


async def add_probe(connection: AsyncConnection, values: Mapping[str, Any]) -> Statement:
    """Append a probe to the chain and return what the witness should know; needs a writing transaction."""
    newest = select(PROBES.c.number, PROBES.c.hash).order_by(PROBES.c.number.desc()).limit(1)
    last = (await connection.execute(newest)).first()
    number, head = (0, _GENESIS) if last is None else (last.number, last.hash)
    row = {name: values[name] for name in _CONTENT}
    link = _link(head, row)
    await connection.execute(insert(PROBES).values(number=number + 1, hash=link, **row))
    return {"kind": "probe", **row}


async def seen_by_probes(connection: AsyncConnection, coins: Collection[Coin], from_ms: int) -> list[dict[str, Any]]:
    """Return, as one entry of what was already seen, the probes that looked past a moment; empty where none did."""
    columns = PROBES.c
    inside = and_(are_of(columns.feed, columns.underlying, coins), columns.end_ms > from_ms)
    count, until_ms = (await connection.execute(select(func.count(), func.max(columns.end_ms)).where(inside))).one()
    return [{"study": "probes", "from_ms": from_ms, "until_ms": int(until_ms), "trials": int(count)}] if count else []


async def recall_probes(connection: AsyncConnection, told: Sequence[Statement]) -> None:
    """Give the database back the probes that only the witness knows."""
    for said in told:
        if not await _is_known(connection, said):
            await add_probe(connection, said)


async def unsaid_probes(connection: AsyncConnection, told: Sequence[Statement]) -> list[Statement]:
    """Return the probes that the witness does not know."""
    heard = {tuple(said[name] for name in _CONTENT) for said in told}
    rows = (await connection.execute(select(PROBES).order_by(PROBES.c.number))).mappings()
    return [
        {"kind": "probe", **{name: row[name] for name in _CONTENT}}
        for row in rows
        if tuple(row[name] for name in _CONTENT) not in heard
    ]


async def _is_known(connection: AsyncConnection, values: Mapping[str, Any]) -> bool:
    """Say whether the same was looked at on at least these bars."""
    same = and_(*(PROBES.c[name] == values[name] for name in _IDENTITY))
    around = and_(PROBES.c.start_ms <= values["start_ms"], PROBES.c.end_ms >= values["end_ms"])
    return (await connection.execute(select(PROBES.c.number).where(same, around).limit(1))).first() is not None


def _link(head: str, row: Mapping[Any, Any]) -> str:
    return chained(head, canonical([row[name] for name in _CONTENT]))
