"""Everything that only SQLite knows: its URLs, pragmas, transactions, upserts and error codes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from engine.errors import BadRequest, LabError, StorageFailed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Insert, Table
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncConnection

# The execution option that makes a transaction a writing one.
WRITES = "bst_writes"

# Blobs of 80 kB cross fewer overflow pages than with the default of 4 kB.
_PAGE_BYTES = 16_384
_PRIMARY_CODE = 0xFF


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is; `path` is None in memory."""

    url: URL
    path: Path | None


def locate(url: str) -> Location:
    """Read a database URL: `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` (memory)."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadRequest(
            "the database URL cannot be read", fix="use sqlite:///path/to/file.db or sqlite:// (in memory)"
        ) from error
    if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        raise BadRequest(
            f"databases of kind {parsed.drivername!r} are not supported by this version (PostgreSQL is not supported by this version)",
            fix="use sqlite:///path/to/file.db or sqlite:// (in memory)",
        )
    in_memory = parsed.database in {None, "", ":memory:"}
    path = None if in_memory else Path(parsed.database or "")
    return Location(parsed.set(drivername="sqlite+aiosqlite"), path)


def create_engine(location: Location, *, busy_timeout_ms: int) -> AsyncEngine:
    """Return an engine whose writing transactions begin immediately.

    A deferred transaction that reads and then writes fails at once when another process wrote in between: the busy
    handler is not asked for lock upgrades (SQLite docs, "Transaction"). One connection holds a database in memory.
    """
    pool: dict[str, Any] = (
        {"poolclass": StaticPool}
        if location.path is None
        else {"poolclass": AsyncAdaptedQueuePool, "pool_size": 4, "max_overflow": 4}
    )
    engine = create_async_engine(
        location.url, connect_args={"isolation_level": None, "timeout": busy_timeout_ms / 1000}, **pool
    )

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (
            f"page_size = {_PAGE_BYTES}",
            f"busy_timeout = {busy_timeout_ms}",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "cache_size = -16384",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


async def use_write_ahead_log(engine: AsyncEngine) -> None:
    """Turn on WAL for good; two processes must not do so at once on a fresh file."""

    def turn_on(connection: Connection) -> None:
        # On the driver's own cursor: a journal cannot change inside a transaction.
        cursor = connection.connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    async with engine.connect() as connection:
        await connection.run_sync(turn_on)


def upsert(table: Table, columns: Sequence[str] | None = None) -> Insert:
    """Return an insert that overwrites `columns` (all but the key when omitted) of a row with the same primary key."""
    statement = insert(table)
    key = [column.name for column in table.primary_key]
    names = columns if columns is not None else [column.name for column in table.c if column.name not in key]
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in names})


def translate(error: DBAPIError) -> LabError:
    """Return our own error for a database error."""
    origin = error.orig
    code = getattr(origin, "sqlite_errorcode", None)
    primary = code & _PRIMARY_CODE if isinstance(code, int) else None
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Unavailable(
            "the database is locked by another process that is writing", fix="try again in a moment", retry_after_s=2
        )
    if primary == sqlite3.SQLITE_FULL:
        return StorageFailed(
            "there is no space left for the database; nothing of this write was kept",
            fix="free disk space, or clear cached candles, then repeat",
        )
    if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StorageFailed(
            "the database file is damaged or is not a database",
            fix="restore the file from a copy, or move it away so that a new one is made",
        )
    name = getattr(origin, "sqlite_errorname", None) or type(origin).__name__
    return StorageFailed(
        f"the database refused the operation ({name})", fix="check that the folder exists and may be written"
    )


async def database_bytes(connection: AsyncConnection) -> int:
    """Return the size of the database, pages times page size."""
    pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
    return int(pages) * int((await connection.exec_driver_sql("PRAGMA page_size")).scalar_one())
