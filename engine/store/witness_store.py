"""Database and witness brought together: what one forgot, the other tells, and the difference stays on record."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, insert, select, update

from engine.store.dialect import upsert
from engine.store.ledger_rows import add_event
from engine.store.probe_store import ProbeStore, recall_probes, unsaid_probes
from engine.store.study_store import seal_statement, study_statement
from engine.store.tables import META, OPENINGS, SEAL_HOLDERS, SEALS, STUDIES, TRIALS
from engine.store.trial_store import TrialStore
from engine.store.witness import Statement, Witness

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Row, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

_WITNESS_KEY = "ledger witness"


@dataclass(frozen=True, slots=True)
class Reunion:
    """What was found when database and witness met.

    Attributes
    ----------
    rolled_back : tuple of str
        Studies of which the witness knew more than the database.
    witness_lost : bool
        The database knew a witness that is not there any more.
    """

    rolled_back: tuple[str, ...] = ()
    witness_lost: bool = False


@dataclass(slots=True)
class _Memory:
    """What the witness said, the latest word on each thing."""

    id: str | None = None
    studies: dict[str, Statement] = field(default_factory=dict[str, Statement])
    seals: dict[str, Statement] = field(default_factory=dict[str, Statement])
    holders: set[tuple[str, str]] = field(default_factory=set["tuple[str, str]"])
    openings: dict[tuple[str, str], Statement] = field(default_factory=dict["tuple[str, str]", Statement])
    trials: dict[str, Statement] = field(default_factory=dict[str, Statement])
    probes: list[Statement] = field(default_factory=list[Statement])

    @classmethod
    def of(cls, statements: list[Statement]) -> _Memory:
        memory = cls()
        for said in statements:
            # A line that somebody mangled says nothing.
            with suppress(KeyError, TypeError):
                memory._hear(said)
        return memory

    def _hear(self, said: Statement) -> None:
        kind = said["kind"]
        if kind == "witness":
            self.id = str(said["id"])
        elif kind == "study":
            self.studies[said["id"]] = said
        elif kind == "seal":
            # The start of a seal only ever moves back.
            known = self.seals.get(said["id"])
            from_ms = said["from_ms"] if known is None else min(known["from_ms"], said["from_ms"])
            self.seals[said["id"]] = {**said, "from_ms": from_ms}
        elif kind == "holds":
            self.holders.add((said["seal"], said["study"]))
        elif kind == "opening":
            self.openings[said["id"], said["study_id"]] = said
        elif kind == "trials":
            self.trials[said["study"]] = said
        elif kind == "probe":
            self.probes.append(said)


class WitnessStore(TrialStore, ProbeStore):
    """The ledger with its witness."""

    async def keep_witness(self, path: Path, *, at_ms: int) -> Reunion:
        """Meet the witness at this path and have it remember everything from now on.

        A database that is older than the witness regains the seals and openings it forgot, counts the trials it lost, and
        its studies are marked for good; so they are when the database knew a witness and there is none.
        """
        witness = Witness(path)
        memory = _Memory.of(await asyncio.to_thread(witness.statements))

        async def change(connection: AsyncConnection) -> tuple[Reunion, list[Statement]]:
            reunion, witness_id = await _meet(connection, memory, at_ms)
            said = await _unsaid(connection, memory, reunion, at_ms)
            opening: list[Statement] = [{"kind": "witness", "id": witness_id, "at_ms": at_ms}]
            return reunion, [*([] if memory.id == witness_id else opening), *said]

        reunion, said = await self._write(change)
        self._witness = witness
        await self.testify(said)
        return reunion


async def _meet(connection: AsyncConnection, memory: _Memory, at_ms: int) -> tuple[Reunion, str]:
    known_id = (await connection.execute(select(META.c.value).where(META.c.key == _WITNESS_KEY))).scalar_one_or_none()
    forgotten = await _recall(connection, memory, at_ms)
    lost = known_id is not None and memory.id != known_id
    if lost:
        await connection.execute(
            update(STUDIES).where(STUDIES.c.witness_lost_ms.is_(None)).values(witness_lost_ms=at_ms)
        )
        await add_event(connection, "witness_lost", {"witness": known_id}, at_ms=at_ms)
    witness_id = memory.id or secrets.token_hex(8)
    if witness_id != known_id:
        await connection.execute(upsert(META).values(key=_WITNESS_KEY, value=witness_id))
    for study_id in sorted(forgotten):
        await connection.execute(update(STUDIES).where(STUDIES.c.id == study_id).values(rolled_back_ms=at_ms))
        await add_event(connection, "rolled_back", {}, at_ms=at_ms, study_id=study_id)
    return Reunion(tuple(sorted(forgotten)), lost), witness_id


async def _recall(connection: AsyncConnection, memory: _Memory, at_ms: int) -> set[str]:
    """Give the database back what only the witness knows; return the studies concerned."""
    forgotten: set[str] = set()
    for study_id, said in memory.studies.items():
        if not await _has(connection, STUDIES, id=study_id):
            row = {name: value for name, value in said.items() if name != "kind"}
            await connection.execute(insert(STUDIES).values(**row, trials=0, lost_trials=0, head=study_id))
            forgotten.add(study_id)
    forgotten |= await _recall_seals(connection, memory)
    for (act, study_id), said in memory.openings.items():
        if not await _has(connection, OPENINGS, id=act, study_id=study_id):
            row = {name: said[name] for name in ("id", "study_id", "seal_id", "run_id", "reason", "at_ms")}
            await connection.execute(insert(OPENINGS).values(row))
            await add_event(connection, "opening_recalled", {"act": act}, at_ms=at_ms, study_id=study_id)
            forgotten.add(study_id)
        closed = and_(SEALS.c.id.in_(said["seals"]), SEALS.c.opened_ms.is_(None))
        await connection.execute(update(SEALS).where(closed).values(opened_ms=said["at_ms"]))
    await recall_probes(connection, memory.probes)
    for study_id, said in memory.trials.items():
        if await _recall_trials(connection, study_id, said):
            forgotten.add(study_id)
    return forgotten


async def _recall_seals(connection: AsyncConnection, memory: _Memory) -> set[str]:
    forgotten: set[str] = set()
    for seal_id, said in memory.seals.items():
        if not await _has(connection, SEALS, id=seal_id):
            row = {name: value for name, value in said.items() if name != "kind"}
            await connection.execute(insert(SEALS).values(row))
            forgotten.add(said["study_id"])
        earlier = and_(SEALS.c.id == seal_id, SEALS.c.from_ms > said["from_ms"])
        if (await connection.execute(update(SEALS).where(earlier).values(from_ms=said["from_ms"]))).rowcount:
            forgotten.add(said["study_id"])
    for seal_id, study_id in sorted(memory.holders):
        if not await _has(connection, SEAL_HOLDERS, seal_id=seal_id, study_id=study_id):
            await connection.execute(insert(SEAL_HOLDERS).values(seal_id=seal_id, study_id=study_id))
            forgotten.add(study_id)
    return forgotten


async def _recall_trials(connection: AsyncConnection, study_id: str, said: Statement) -> bool:
    """Compare a chain with what the witness saw of it; count the trials that are gone."""
    study = (await connection.execute(select(STUDIES).where(STUDIES.c.id == study_id))).one_or_none()
    if study is None:
        return False
    same = and_(TRIALS.c.study_id == study_id, TRIALS.c.number == said["length"])
    there = (await connection.execute(select(TRIALS.c.hash).where(same))).scalar_one_or_none()
    if there == said["head"] or said["length"] == 0:
        return False
    lost = max(0, said["trials"] - study.trials)
    more = and_(STUDIES.c.id == study_id, STUDIES.c.lost_trials < lost)
    await connection.execute(update(STUDIES).where(more).values(lost_trials=lost))
    return True


async def _unsaid(connection: AsyncConnection, memory: _Memory, reunion: Reunion, at_ms: int) -> list[Statement]:
    """Return what the database knows and the witness does not: after a crash between the two, or for a new witness."""
    said: list[Statement] = []
    for study in list(await connection.execute(select(STUDIES))):
        if study.id not in memory.studies:
            said.append(study_statement({name: getattr(study, name) for name in STUDIES.c.keys()}))  # noqa: SIM118
        said += _unsaid_trials(study, memory.trials.get(study.id), at_ms, changed=study.id in reunion.rolled_back)
    said += await unsaid_probes(connection, memory.probes)
    return [*said, *await _unsaid_seals(connection, memory), *await _unsaid_openings(connection, memory)]


def _unsaid_trials(study: Row[Any], heard: Statement | None, at_ms: int, *, changed: bool) -> list[Statement]:
    if not study.trials:
        # Nothing of the chain is left: what is counted as lost must not be found missing again.
        return [{**heard, "length": 0, "head": study.id, "at_ms": at_ms}] if changed and heard is not None else []
    if heard is not None and heard["head"] == study.head and not changed:
        return []
    counted = study.trials + study.lost_trials
    return [
        {"kind": "trials", "study": study.id, "length": study.trials, "head": study.head, "at_ms": at_ms, "trials": counted}
    ]  # fmt: skip


async def _unsaid_seals(connection: AsyncConnection, memory: _Memory) -> list[Statement]:
    said: list[Statement] = []
    for seal in (await connection.execute(select(SEALS))).mappings():
        heard = memory.seals.get(seal["id"])
        if heard is None or heard["from_ms"] > seal["from_ms"]:
            said.append(seal_statement(dict(seal)))
    held = await connection.execute(select(SEAL_HOLDERS.c.seal_id, SEAL_HOLDERS.c.study_id))
    fresh = {tuple(row) for row in held} - memory.holders
    return [*said, *({"kind": "holds", "seal": seal, "study": study} for seal, study in sorted(fresh))]


async def _unsaid_openings(connection: AsyncConnection, memory: _Memory) -> list[Statement]:
    rows = [dict(row) for row in (await connection.execute(select(OPENINGS))).mappings()]
    opened: dict[str, set[str]] = {}
    for row in rows:
        opened.setdefault(row["id"], set()).add(row["seal_id"])
    names = ("id", "study_id", "seal_id", "run_id", "reason", "at_ms")
    return [
        {"kind": "opening", **{name: row[name] for name in names}, "seals": sorted(opened[row["id"]])}
        for row in rows
        if (row["id"], row["study_id"]) not in memory.openings
    ]


async def _has(connection: AsyncConnection, table: Table, **key: Any) -> bool:
    same = and_(*(table.c[name] == value for name, value in key.items()))
    return (await connection.execute(select(*(table.c[name] for name in key)).where(same))).first() is not None
