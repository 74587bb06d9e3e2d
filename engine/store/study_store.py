"""Studies: units of research on one market, the seals they hold and the openings recorded against them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import and_, func, insert, or_, select, update

from engine.core.holdout import Withheld
from engine.errors import Conflict, NotFound
from engine.store.database import Database
from engine.store.ledger_rows import add_event
from engine.store.seal_rows import seals_over, underlyings_of, withheld_of
from engine.store.tables import LEDGER_EVENTS, OPENINGS, RUN_STUDIES, SEAL_HOLDERS, SEALS, STUDIES, TRIAL_RETURNS
from engine.store.witness import Statement, Witness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.series import Category, FeedName

_ID_DIGITS = 12
_LISTED_NAMES = 5


@dataclass(frozen=True, slots=True)
class Opening:
    """One act of opening a holdout.

    Attributes
    ----------
    id : str
        The act; the same for every study it is recorded against.
    seal_id, study_id, run_id : str
        What was opened, for which study this record is, and the run it was opened for.
    reason : str
    at_ms : int
    from_ms : int
        Where the holdout began.
    holdout_run_id : str or None
        The run that evaluated it; None until that is stored.
    study : str
        Name of the study.
    figures : mapping or None
        Of the sealed days alone, as that run found them.
    """

    id: str
    seal_id: str
    study_id: str
    run_id: str
    reason: str
    at_ms: int
    from_ms: int
    holdout_run_id: str | None
    study: str
    figures: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as stored.

    Attributes
    ----------
    id, name : str
    feed, category : str
    symbols : tuple of str
    sealed : bool
        As it was created.
    created_ms : int
    range_ms : (int, int)
        First asked for.
    sealed_from_ms : int or None
        Start of the seal it holds; None when it holds none, or none any more.
    already_seen : tuple of mapping
        What had been evaluated in the sealed part before the seal was set: study, until_ms, trials.
    openings : tuple of Opening
        Recorded against it, oldest first.
    slice_openings : tuple of Opening
        Acts of any study of the same coin that opened bars of the study's holdout, oldest first, each once.
    trials : int
        Distinct strategies evaluated, including those that only the witness remembers.
    chain_length, head : int, str
        Of the hash chain of the trials in this database.
    rolled_back_ms, witness_lost_ms : int or None
        When it was found that the database was older than the witness, or that the witness was gone.
    """

    id: str
    name: str
    feed: FeedName
    category: Category
    symbols: tuple[str, ...]
    sealed: bool
    created_ms: int
    range_ms: tuple[int, int]
    sealed_from_ms: int | None
    already_seen: tuple[Mapping[str, Any], ...]
    openings: tuple[Opening, ...]
    slice_openings: tuple[Opening, ...]
    trials: int
    chain_length: int
    head: str
    rolled_back_ms: int | None
    witness_lost_ms: int | None

    @property
    def visible_end_ms(self) -> int | None:
        """Return the time after which no bar of the study's market closes that it may see; None: no limit."""
        return self.sealed_from_ms


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Something that happened to a study besides its trials."""

    at_ms: int
    kind: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Some studies, newest first, and how many there are."""

    items: list[StudyRecord]
    total: int


class StudyStore(Database):
    """Studies, seals and openings."""

    _witness: Witness | None = None

    async def create_study(
        self,
        name: str,
        *,
        feed: FeedName,
        category: Category,
        symbols: Sequence[str],
        range_ms: tuple[int, int],
        seal_from_ms: int | None,
        at_ms: int,
    ) -> StudyRecord:
        """Return the study of this name, making it first when there is none.

        `seal_from_ms` is None for a study that is not sealed. Where the market carries a seal already, the study joins it;
        the seal starts earlier from then on when the study's range reached into it and its own start is earlier.
        """
        study_id = study_id_of(name)
        values: dict[str, Any] = {
            "id": study_id,
            "name": name,
            "feed": feed,
            "category": category,
            "symbols": json.dumps(list(symbols)),
            "sealed": seal_from_ms is not None,
            "created_ms": at_ms,
            "start_ms": range_ms[0],
            "end_ms": range_ms[1],
            "already_seen": "[]",
            "trials": 0,
            "lost_trials": 0,
            "head": study_id,
        }

        async def change(connection: AsyncConnection) -> tuple[StudyRecord, list[Statement]]:
            known = await _find(connection, study_id)
            if known is not None:
                return await _record(connection, known), []
            await connection.execute(insert(STUDIES).values(values))
            said: list[Statement] = []
            if seal_from_ms is not None:
                for symbol in symbols:
                    said += await _seal(connection, values, symbol, seal_from_ms)
            row = await _find(connection, study_id)
            await add_event(connection, "study_created", {"name": name}, at_ms=at_ms, study_id=study_id)
            created = await _record(connection, cast("Row[Any]", row))
            return created, [study_statement(values | {"already_seen": json.dumps(created.already_seen)}), *said]

        study, said = await self._write(change)
        await self.testify(said)
        return study

    async def study(self, name_or_id: str) -> StudyRecord:
        """Return a study by its name or id."""

        async def query(connection: AsyncConnection) -> StudyRecord:
            row = await _find(connection, name_or_id) or await _find(connection, study_id_of(name_or_id))
            if row is None:
                newest = select(STUDIES.c.name).order_by(STUDIES.c.created_ms.desc()).limit(_LISTED_NAMES)
                names = ", ".join((await connection.execute(newest)).scalars()) or "none yet: naming one creates it"
                raise NotFound(f"there is no study {name_or_id[:64]!r}", fix=f"the newest studies: {names}")
            return await _record(connection, row)

        return await self._read(query)

    async def find_study(self, name: str) -> StudyRecord | None:
        """Return the study of this name; None when there is none."""

        async def query(connection: AsyncConnection) -> StudyRecord | None:
            row = await _find(connection, study_id_of(name))
            return None if row is None else await _record(connection, row)

        return await self._read(query)

    async def list_studies(self, *, limit: int = 50, offset: int = 0) -> StudyPage:
        """Return studies, newest first."""

        async def query(connection: AsyncConnection) -> StudyPage:
            total = (await connection.execute(select(func.count()).select_from(STUDIES))).scalar_one()
            newest = select(STUDIES).order_by(STUDIES.c.created_ms.desc(), STUDIES.c.id).limit(limit).offset(offset)
            rows = list(await connection.execute(newest))
            return StudyPage([await _record(connection, row) for row in rows], int(total))

        return await self._read(query)

    async def withheld(self, feed: str, category: str, symbol: str) -> Withheld | None:
        """Return what is withheld of a market now; None when nothing is."""

        async def query(connection: AsyncConnection) -> Withheld | None:
            return await withheld_of(connection, feed, category, symbol)

        return await self._read(query)

    async def link_run(self, run_id: str, study_id: str, *, at_ms: int) -> None:
        """Remember that a run was evaluated in a study."""
        same = and_(RUN_STUDIES.c.run_id == run_id, RUN_STUDIES.c.study_id == study_id)

        async def change(connection: AsyncConnection) -> None:
            if (await connection.execute(select(RUN_STUDIES.c.at_ms).where(same))).first() is None:
                row = {"run_id": run_id, "study_id": study_id, "at_ms": at_ms}
                await connection.execute(insert(RUN_STUDIES).values(row))

        await self._write(change)

    async def studies_of_run(self, run_id: str) -> list[StudyRecord]:
        """Return the studies a run was evaluated in, latest first."""

        async def query(connection: AsyncConnection) -> list[StudyRecord]:
            linked = (
                select(STUDIES)
                .join(RUN_STUDIES, RUN_STUDIES.c.study_id == STUDIES.c.id)
                .where(RUN_STUDIES.c.run_id == run_id)
                .order_by(RUN_STUDIES.c.at_ms.desc(), STUDIES.c.id)
            )
            return [await _record(connection, row) for row in list(await connection.execute(linked))]

        return await self._read(query)

    async def open_seal(
        self, feed: str, category: str, symbol: str, *, run_id: str, reason: str, at_ms: int
    ) -> list[Opening]:
        """Lift the seals of a market for good, recorded against every study that holds them; cannot be undone."""
        act = "opening_" + secrets.token_hex(_ID_DIGITS // 2)

        async def change(connection: AsyncConnection) -> tuple[list[Opening], list[Statement]]:
            seals = await seals_over(connection, feed, category, symbol)
            if not seals:
                raise Conflict(f"no seal lies on {symbol}", fix="list_trials shows studies and their openings")
            opened: dict[str, dict[str, Any]] = {}
            for seal in seals:
                held = select(SEAL_HOLDERS.c.study_id).where(SEAL_HOLDERS.c.seal_id == seal.id)
                for study_id in (await connection.execute(held)).scalars():
                    opened[study_id] = {
                        "id": act, "study_id": study_id, "seal_id": seal.id, "run_id": run_id, "reason": reason,
                        "at_ms": at_ms,
                    }  # fmt: skip
            await connection.execute(insert(OPENINGS), list(opened.values()))
            for seal in seals:
                await connection.execute(update(SEALS).where(SEALS.c.id == seal.id).values(opened_ms=at_ms))
            for row in opened.values():
                document = {"act": act, "run_id": run_id, "reason": reason, "seal": row["seal_id"]}
                await add_event(connection, "holdout_opened", document, at_ms=at_ms, study_id=row["study_id"])
            said: list[Statement] = [
                {"kind": "opening", **row, "seals": [seal.id for seal in seals]} for row in opened.values()
            ]
            return await _openings(connection, OPENINGS.c.id == act), said

        openings, said = await self._write(change)
        await self.testify(said)
        return openings

    async def openings_of_run(self, run_id: str) -> list[Opening]:
        """Return the openings made for a run, oldest first, one row a study."""

        async def query(connection: AsyncConnection) -> list[Opening]:
            return await _openings(connection, OPENINGS.c.run_id == run_id)

        return await self._read(query)

    async def note_holdout_run(self, opening_id: str, run_id: str, figures: Mapping[str, Any]) -> None:
        """Remember which run evaluated an opened holdout, and what it found."""

        async def change(connection: AsyncConnection) -> None:
            found = {"holdout_run_id": run_id, "figures": json.dumps(dict(figures))}
            await connection.execute(update(OPENINGS).where(OPENINGS.c.id == opening_id).values(**found))

        await self._write(change)

    async def note_event(self, kind: str, document: Mapping[str, Any], *, at_ms: int, study: str | None = None) -> None:
        """Write down something that concerns the ledger, for a study by name when there is one."""

        async def change(connection: AsyncConnection) -> None:
            study_id = None if study is None else study_id_of(study)
            await add_event(connection, kind, document, at_ms=at_ms, study_id=study_id)

        await self._write(change)

    async def study_events(self, study_id: str, kinds: Sequence[str]) -> list[LedgerEvent]:
        """Return what happened to a study, oldest first."""
        names = [LEDGER_EVENTS.c[name] for name in ("at_ms", "kind", "document")]
        mine = and_(LEDGER_EVENTS.c.study_id == study_id, LEDGER_EVENTS.c.kind.in_(kinds))

        async def query(connection: AsyncConnection) -> list[LedgerEvent]:
            rows = await connection.execute(select(*names).where(mine).order_by(LEDGER_EVENTS.c.id))
            return [LedgerEvent(row.at_ms, row.kind, json.loads(row.document)) for row in rows]

        return await self._read(query)

    async def testify(self, statements: list[Statement]) -> None:
        """Have the witness, where there is one, remember what was just committed."""
        if self._witness is not None and statements:
            await asyncio.to_thread(self._witness.append, statements)


def study_id_of(name: str) -> str:
    """Return the id of a study: upper and lower case are the same name."""
    return "study_" + hashlib.sha256(name.strip().casefold().encode()).hexdigest()[:_ID_DIGITS]


def study_statement(values: Mapping[str, Any]) -> Statement:
    """Return what the witness remembers of a study."""
    names = ("id", "name", "feed", "category", "symbols", "sealed", "created_ms", "start_ms", "end_ms", "already_seen")
    return {"kind": "study", **{name: values[name] for name in names}}


async def _seal(connection: AsyncConnection, study: Mapping[str, Any], symbol: str, from_ms: int) -> list[Statement]:
    """Join the seals of the coin behind a symbol, or set one; return what the witness should know."""
    study_id, at_ms = study["id"], study["created_ms"]
    active = await seals_over(connection, study["feed"], study["category"], symbol)
    coins = await underlyings_of(connection, study["feed"], study["category"], symbol)
    rows: list[dict[str, Any]] = [
        {"id": seal.id, "underlying": seal.underlying, "from_ms": seal.from_ms} for seal in active
    ]
    for coin in sorted(coins - {seal.underlying for seal in active}):
        values = new_seal(study["feed"], coin, from_ms, at_ms, study_id)
        await connection.execute(insert(SEALS).values(values))
        rows.append(values)
    said: list[Statement] = []
    for row in rows:
        # A range that ends before the seal leaves its holdout whole; only one that reaches into it may move the start.
        if from_ms < row["from_ms"] < study["end_ms"]:
            await connection.execute(update(SEALS).where(SEALS.c.id == row["id"]).values(from_ms=from_ms))
        await connection.execute(insert(SEAL_HOLDERS).values(seal_id=row["id"], study_id=study_id))
        stored = (await connection.execute(select(SEALS).where(SEALS.c.id == row["id"]))).mappings().one()
        document = {name: stored[name] for name in ("id", "underlying", "from_ms")}
        await add_event(connection, "sealed", document, at_ms=at_ms, study_id=study_id)
        said += [seal_statement(dict(stored)), {"kind": "holds", "seal": row["id"], "study": study_id}]
    await note_already_seen(connection, study_id, study["feed"], coins, min(row["from_ms"] for row in rows))
    return said


def new_seal(feed: str, coin: str, from_ms: int, at_ms: int, study_id: str) -> dict[str, Any]:
    """Return the row of a fresh seal."""
    seal_id = "seal_" + secrets.token_hex(_ID_DIGITS // 2)
    return {"id": seal_id, "feed": feed, "underlying": coin, "from_ms": from_ms, "set_ms": at_ms, "study_id": study_id}


def seal_statement(seal: Mapping[str, Any]) -> Statement:
    """Return what the witness remembers of a seal."""
    names = ("id", "feed", "underlying", "from_ms", "set_ms", "study_id")
    return {"kind": "seal", **{name: seal[name] for name in names}}


async def note_already_seen(
    connection: AsyncConnection, study_id: str, feed: str, coins: set[str], from_ms: int
) -> None:
    """Write down in a study what had been evaluated on coins after the start of their seal before they were sealed."""
    seen = await _already_seen(connection, feed, coins, from_ms)
    if seen:
        before = json.loads(
            (await connection.execute(select(STUDIES.c.already_seen).where(STUDIES.c.id == study_id))).scalar_one()
        )
        merged = json.dumps([*before, *(each for each in seen if each not in before)])
        await connection.execute(update(STUDIES).where(STUDIES.c.id == study_id).values(already_seen=merged))


async def _already_seen(connection: AsyncConnection, feed: str, coins: set[str], from_ms: int) -> list[dict[str, Any]]:
    batches = TRIAL_RETURNS.c
    # A portfolio's trials stand under all of its symbols at once.
    market = or_(batches.underlying.in_(sorted(coins)), batches.symbol.contains(","))
    found = (
        select(STUDIES.c.name, batches.category, batches.symbol, func.max(batches.end_ms), func.sum(batches.rows))
        .join(STUDIES, STUDIES.c.id == batches.study_id)
        .where(and_(batches.feed == feed, market, batches.end_ms > from_ms))
        .group_by(STUDIES.c.name, batches.category, batches.symbol)
        .order_by(STUDIES.c.name)
    )
    seen: dict[str, dict[str, Any]] = {}
    for name, category, symbol, until, trials in list(await connection.execute(found)):
        if coins.isdisjoint(await underlyings_of(connection, feed, category, symbol)):
            continue
        row = seen.setdefault(name, {"study": name, "from_ms": from_ms, "until_ms": 0, "trials": 0})
        row["until_ms"] = max(row["until_ms"], int(until))
        row["trials"] += int(trials)
    return list(seen.values())


async def _find(connection: AsyncConnection, study_id: str) -> Row[Any] | None:
    return (await connection.execute(select(STUDIES).where(STUDIES.c.id == study_id))).one_or_none()


def _opening(row: Mapping[Any, Any]) -> Opening:
    told = {str(name): value for name, value in row.items()}
    figures = told.pop("figures")
    return Opening(**told, figures=None if figures is None else json.loads(figures))


_OPENING = tuple(OPENINGS.c[name] for name in ("id", "seal_id", "study_id", "run_id", "reason", "at_ms"))


async def _openings(connection: AsyncConnection, condition: Any) -> list[Opening]:
    found = (
        select(*_OPENING, SEALS.c.from_ms, OPENINGS.c.holdout_run_id, STUDIES.c.name.label("study"), OPENINGS.c.figures)
        .join(SEALS, SEALS.c.id == OPENINGS.c.seal_id)
        .join(STUDIES, STUDIES.c.id == OPENINGS.c.study_id)
        .where(condition)
        .order_by(OPENINGS.c.at_ms, OPENINGS.c.id)
    )
    return [_opening(row) for row in (await connection.execute(found)).mappings()]


async def _slice_openings(connection: AsyncConnection, study_id: str) -> list[Opening]:
    """Return the acts that opened bars of a study's holdout, whoever's they were: a slice is a coin's, not a name's.

    An act lays open all bars from the start of its seal to its own time; what closes later may be held back afresh.
    """
    own, mine = SEALS.alias(), SEAL_HOLDERS.alias()
    same_coin = and_(SEALS.c.feed == own.c.feed, SEALS.c.underlying == own.c.underlying)
    found = (
        select(*_OPENING, SEALS.c.from_ms, OPENINGS.c.holdout_run_id, STUDIES.c.name.label("study"), OPENINGS.c.figures)
        .select_from(mine)
        .join(own, own.c.id == mine.c.seal_id)
        .join(SEALS, and_(same_coin, SEALS.c.opened_ms > own.c.from_ms))
        .join(SEAL_HOLDERS, SEAL_HOLDERS.c.seal_id == SEALS.c.id)
        .join(OPENINGS, and_(OPENINGS.c.study_id == SEAL_HOLDERS.c.study_id, OPENINGS.c.at_ms == SEALS.c.opened_ms))
        .join(STUDIES, STUDIES.c.id == OPENINGS.c.study_id)
        .where(mine.c.study_id == study_id)
        .order_by(OPENINGS.c.at_ms, OPENINGS.c.id, STUDIES.c.created_ms)
    )
    acts: dict[str, Opening] = {}
    for row in (await connection.execute(found)).mappings():
        opening = _opening(row)
        acts.setdefault(opening.id, opening)
    return list(acts.values())


async def _record(connection: AsyncConnection, row: Row[Any]) -> StudyRecord:
    held = (
        select(func.min(SEALS.c.from_ms))
        .join(SEAL_HOLDERS, SEAL_HOLDERS.c.seal_id == SEALS.c.id)
        .where(and_(SEAL_HOLDERS.c.study_id == row.id, SEALS.c.opened_ms.is_(None)))
    )
    return StudyRecord(
        id=row.id,
        name=row.name,
        feed=row.feed,
        category=row.category,
        symbols=tuple(json.loads(row.symbols)),
        sealed=row.sealed,
        created_ms=row.created_ms,
        range_ms=(row.start_ms, row.end_ms),
        sealed_from_ms=(await connection.execute(held)).scalar_one(),
        already_seen=tuple(json.loads(row.already_seen)),
        openings=tuple(await _openings(connection, OPENINGS.c.study_id == row.id)),
        slice_openings=tuple(await _slice_openings(connection, row.id)),
        trials=row.trials + row.lost_trials,
        chain_length=row.trials,
        head=row.head,
        rolled_back_ms=row.rolled_back_ms,
        witness_lost_ms=row.witness_lost_ms,
    )
