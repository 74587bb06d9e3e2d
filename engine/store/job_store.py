"""Durable jobs: rows that say what was asked, who is at it, how far it got and how it ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, func, insert, or_, select, update

from engine.errors import NotFound
from engine.store.database import Database
from engine.store.job_scopes import (
    CARRYING_KINDS,
    first_withheld,
    from_text,
    scopes_of,
    to_text,
    visible_part,
    widest,
)
from engine.store.tables import JOBS

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.holdout import Withheld

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
Document = Mapping[str, Any]
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as stored. Times are milliseconds UTC; `owner` is who runs it, until `lease_until_ms`."""

    id: str
    kind: str
    request: Document
    state: JobState
    attempts: int
    created_ms: int
    updated_ms: int
    started_ms: int | None
    finished_ms: int | None
    cursor_ms: int | None
    owner: str | None
    lease_until_ms: int
    cancel_asked: bool
    progress: Document | None
    result: Document | None
    error: Document | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first, and how many match in all."""

    items: list[JobRecord]
    total: int


class JobStore(Database):
    """Jobs and their life."""

    async def add_job(self, kind: str, request: Document, *, at_ms: int, fresh: bool = False) -> JobRecord:
        """Return the newest job of this request unless it failed or was cancelled; otherwise add a queued one.

        `fresh` adds one although a finished job exists. Its id derives from kind, request and a counter, so two
        processes that ask at the same time get the same job.
        """
        text = json.dumps(dict(request), sort_keys=True, separators=(",", ":"))
        digest = _digest(kind, text)

        async def change(connection: AsyncConnection) -> JobRecord:
            of_request = JOBS.c.request_hash == digest
            count = int(
                (await connection.execute(select(func.count()).select_from(JOBS).where(of_request))).scalar_one()
            )
            if count:
                last = await _get(connection, _job_id(digest, count))
                if last.state in {"queued", "running", "interrupted"} or (last.state == "done" and not fresh):
                    return last
            job_id = _job_id(digest, count + 1)
            values = {
                "id": job_id,
                "kind": kind,
                "request_hash": digest,
                "request": text,
                "state": "queued",
                "attempts": 0,
                "created_ms": at_ms,
                "updated_ms": at_ms,
                "lease_until_ms": 0,
                "cancel_asked": False,
                "scopes": to_text(await visible_part(connection, await scopes_of(connection, kind, request))),
            }
            await connection.execute(insert(JOBS).values(values))
            return await _get(connection, job_id)

        return await self._write(change)

    async def withheld_of_request(self, kind: str, request: Document) -> Withheld | None:
        """Return the seal that keeps back what earlier jobs of a request left for the next one; None when there is none."""
        if kind not in CARRYING_KINDS:
            return None
        digest = _digest(kind, json.dumps(dict(request), sort_keys=True, separators=(",", ":")))

        async def query(connection: AsyncConnection) -> Withheld | None:
            same = select(JOBS.c.id).where(JOBS.c.request_hash == digest)
            for job_id in list((await connection.execute(same)).scalars()):
                if (withheld := await withheld_of_stored_job(connection, job_id)) is not None:
                    return withheld
            return None

        return await self._read(query)

    async def job(self, job_id: str) -> JobRecord:
        """Return a job."""

        async def query(connection: AsyncConnection) -> JobRecord:
            return await _get(connection, job_id)

        return await self._read(query)

    async def list_jobs(
        self, *, states: tuple[JobState, ...] = (), kind: str | None = None, limit: int = 50, offset: int = 0
    ) -> JobPage:
        """Return jobs, newest first."""
        wanted: list[ColumnElement[bool]] = [JOBS.c.state.in_(states)] if states else []
        wanted += [] if kind is None else [JOBS.c.kind == kind]

        async def query(connection: AsyncConnection) -> JobPage:
            total = (await connection.execute(select(func.count()).select_from(JOBS).where(*wanted))).scalar_one()
            newest = (
                select(JOBS).where(*wanted).order_by(JOBS.c.created_ms.desc(), JOBS.c.id).limit(limit).offset(offset)
            )
            return JobPage([_record(row) for row in await connection.execute(newest)], int(total))

        return await self._read(query)

    async def claim_job(self, job_id: str, owner: str, *, now_ms: int, lease_ms: int) -> JobRecord | None:
        """Start a job that waits, was interrupted or whose runner vanished; None when somebody else runs or ended it."""
        record = await self.job(job_id)
        runner = record.owner
        is_orphan = record.state == "running" and runner is not None and not await self.is_owner_alive(runner)

        async def change(connection: AsyncConnection) -> JobRecord | None:
            expired = and_(JOBS.c.state == "running", JOBS.c.lease_until_ms <= now_ms)
            orphaned = and_(JOBS.c.state == "running", JOBS.c.owner == runner) if is_orphan else expired
            free = and_(JOBS.c.id == job_id, or_(JOBS.c.state.in_(("queued", "interrupted")), expired, orphaned))
            claimed = await connection.execute(
                update(JOBS)
                .where(free)
                .values(
                    state="running",
                    owner=owner,
                    attempts=JOBS.c.attempts + 1,
                    started_ms=func.coalesce(JOBS.c.started_ms, now_ms),
                    updated_ms=now_ms,
                    lease_until_ms=now_ms + lease_ms,
                )
            )
            if not claimed.rowcount:
                return None
            await _widen_scopes(connection, job_id)
            return await _get(connection, job_id)

        return await self._write(change)

    async def renew_job(
        self, job_id: str, owner: str, *, now_ms: int, lease_ms: int, progress: Document | None = None
    ) -> JobRecord:
        """Show that a job is alive, with its progress; the record tells whether it is still ours or should stop."""
        values: dict[str, object] = {"updated_ms": now_ms, "lease_until_ms": now_ms + lease_ms}
        if progress is not None:
            values["progress"] = json.dumps(dict(progress))

        async def change(connection: AsyncConnection) -> JobRecord:
            mine = and_(JOBS.c.id == job_id, JOBS.c.owner == owner, JOBS.c.state == "running")
            await connection.execute(update(JOBS).where(mine).values(**values))
            return await _get(connection, job_id)

        return await self._write(change)

    async def finish_job(
        self,
        job_id: str,
        owner: str,
        state: JobState,
        *,
        now_ms: int,
        result: Document | None = None,
        error: Document | None = None,
        progress: Document | None = None,
    ) -> JobRecord:
        """End a job that `owner` runs, or set it aside as interrupted; somebody else's job stays as it is."""
        values: dict[str, object] = {
            "state": state,
            "updated_ms": now_ms,
            "finished_ms": None if state == "interrupted" else now_ms,
            "lease_until_ms": 0,
            "result": None if result is None else json.dumps(dict(result)),
            "error": None if error is None else json.dumps(dict(error)),
        }
        if progress is not None:
            values["progress"] = json.dumps(dict(progress))

        async def change(connection: AsyncConnection) -> JobRecord:
            mine = and_(JOBS.c.id == job_id, JOBS.c.owner == owner, JOBS.c.state == "running")
            if (await connection.execute(update(JOBS).where(mine).values(**values))).rowcount:
                await _widen_scopes(connection, job_id)
            return await _get(connection, job_id)

        return await self._write(change)

    async def ask_job_to_stop(self, job_id: str, *, now_ms: int) -> JobRecord:
        """Cancel a job: at once when nobody runs it, otherwise its runner sees the wish at its next sign of life."""

        async def change(connection: AsyncConnection) -> JobRecord:
            idle = and_(JOBS.c.id == job_id, JOBS.c.state.in_(("queued", "interrupted")))
            ended = {"state": "cancelled", "updated_ms": now_ms, "finished_ms": now_ms}
            await connection.execute(update(JOBS).where(idle).values(**ended))
            busy = and_(JOBS.c.id == job_id, JOBS.c.state == "running")
            await connection.execute(update(JOBS).where(busy).values(cancel_asked=True, updated_ms=now_ms))
            return await _get(connection, job_id)

        return await self._write(change)


async def withheld_of_stored_job(connection: AsyncConnection, job_id: str) -> Withheld | None:
    """Return the seal that covers part of what a job looked at; None when there is none, or no such job."""
    asked = select(JOBS.c.kind, JOBS.c.request, JOBS.c.scopes).where(JOBS.c.id == job_id)
    row = (await connection.execute(asked)).one_or_none()
    if row is None:
        return None
    if row.scopes is not None:
        return await first_withheld(connection, from_text(row.scopes))
    return await first_withheld(connection, await scopes_of(connection, row.kind, json.loads(row.request)))


async def _widen_scopes(connection: AsyncConnection, job_id: str) -> None:
    """Remember what a job may see by now: a seal that was opened since shows more."""
    row = (
        await connection.execute(select(JOBS.c.kind, JOBS.c.request, JOBS.c.scopes).where(JOBS.c.id == job_id))
    ).one()
    if row.scopes is not None:
        now = await visible_part(connection, await scopes_of(connection, row.kind, json.loads(row.request)))
        text = to_text(widest(from_text(row.scopes), now))
        await connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(scopes=text))


def _digest(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()


def _job_id(digest: str, counter: int) -> str:
    return "job_" + hashlib.sha256(f"{digest} {counter}".encode()).hexdigest()[:_ID_DIGITS]


async def _get(connection: AsyncConnection, job_id: str) -> JobRecord:
    row = (await connection.execute(select(JOBS).where(JOBS.c.id == job_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id!r}", fix="list_jobs shows the jobs there are")
    return _record(row)


def _record(row: Row[Any]) -> JobRecord:
    return JobRecord(
        id=row.id,
        kind=row.kind,
        request=json.loads(row.request),
        state=row.state,
        attempts=row.attempts,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        cursor_ms=row.cursor_ms,
        owner=row.owner,
        lease_until_ms=row.lease_until_ms,
        cancel_asked=row.cancel_asked,
        progress=_load(row.progress),
        result=_load(row.result),
        error=_load(row.error),
    )


def _load(text: str | None) -> Document | None:
    return None if text is None else json.loads(text)
