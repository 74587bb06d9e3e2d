"""One database: opening it, its transactions, and its errors in our words."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from engine.errors import StorageFailed
from engine.store import dialect, locks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Answer = TypeVar("Answer")

# The newest migration. Knowing it here spares an up-to-date database the import of Alembic.
SCHEMA_VERSION = "0005"
_OPENING_PATIENCE_S = 60.0


@dataclass(slots=True)
class _Connections:
    """The mutable inside of a database: its engine, who waits to write, and what still runs."""

    engine: AsyncEngine
    location: dialect.Location
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: set[asyncio.Task[object]] = field(default_factory=set[asyncio.Task[object]])
    owner_lock: locks.FileLock | None = None


class Database:
    """An open database. Every operation is one transaction, and a cancelled caller never tears one apart.

    Attributes
    ----------
    owner : str
        A name of this process's hold on the database, for leases. It dies with the process.
    """

    def __init__(self, connections: _Connections, owner: str) -> None:
        self._connections = connections
        self.owner = owner

    @classmethod
    async def open(cls, url: str, *, busy_timeout_ms: int = 30_000) -> Self:
        """Open a database, creating or migrating it when needed; several processes may do so at once."""
        location = dialect.locate(url)
        if location.path is not None:
            _make_folder(location.path)
        engine = dialect.create_engine(location, busy_timeout_ms=busy_timeout_ms)
        connections = _Connections(engine, location)
        try:
            owner = await _prepare(connections)
            if location.path is not None:
                _keep_private(location.path)
        except BaseException:
            await engine.dispose()
            raise
        return cls(connections, owner)

    @property
    def is_shared(self) -> bool:
        """Return whether other processes can open this database too."""
        return self._connections.location.path is not None

    async def close(self) -> None:
        """Finish what runs, then let go of the file."""
        while running := set(self._connections.running):
            await asyncio.wait(running)
        await self._connections.engine.dispose()
        if (lock := self._connections.owner_lock) is not None:
            lock.release()
            lock.path.unlink(missing_ok=True)
            self._connections.owner_lock = None

    async def is_owner_alive(self, owner: str) -> bool:
        """Tell whether the process behind a lease still has this database open."""
        if owner.startswith(self.owner):
            return True
        path = self._connections.location.path
        if path is None:
            return False
        return await asyncio.to_thread(locks.is_held, _owner_path(path, owner.partition(":")[0]))

    def turn(self, purpose: str) -> locks.Turn:
        """Return what at most one process that uses this database holds at a time; a dead one holds nothing."""
        path = self._connections.location.path
        # Not among the names of owners, which are swept away when nobody holds them.
        return locks.NoTurn() if path is None else locks.FileLock(path.with_name(f"{path.name}-{purpose}.lock"))

    async def check(self) -> str:
        """Return `ok`, or what the database's own quick check found."""

        async def ask(connection: AsyncConnection) -> str:
            return str((await connection.execute(text("PRAGMA quick_check"))).scalar_one())

        return await self._read(ask)

    async def ping(self) -> None:
        """Raise unless the database answers; costs the same however large it is, unlike `check`."""

        async def ask(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT 1"))

        await self._read(ask)

    async def size_bytes(self) -> int:
        """Return how large the database is."""
        return await self._read(dialect.database_bytes)

    async def _read(self, query: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """Run a query on one snapshot of the database."""
        if self._connections.location.path is None:
            # One connection holds a database in memory, so its transactions take turns.
            return await self._finish(self._transact(query, writes=True))
        return await self._finish(self._transact(query, writes=False))

    async def _write(self, change: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """Run a change as one transaction: all of it is kept, or nothing."""
        return await self._finish(self._transact(change, writes=True))

    async def _transact(self, work: Callable[[AsyncConnection], Awaitable[Answer]], *, writes: bool) -> Answer:
        with _errors_in_our_words():
            if not writes:
                async with self._connections.engine.connect() as connection, connection.begin():
                    return await work(connection)
            # Writers of this process queue fairly here instead of polling in SQLite's busy handler.
            async with self._connections.writing, self._connections.engine.connect() as connection:
                await connection.execution_options(**{dialect.WRITES: True})
                async with connection.begin():
                    return await work(connection)

    async def _finish(self, transaction: Coroutine[None, None, Answer]) -> Answer:
        """Wait for a transaction that goes on to its end even when the waiting task is cancelled."""
        task = asyncio.create_task(transaction)
        self._connections.running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._connections.running.discard(task)
        if not task.cancelled():
            # Seen here, so that the failure of an abandoned transaction is not reported as forgotten.
            task.exception()


@contextmanager
def _errors_in_our_words() -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        raise dialect.translate(error) from error


def _keep_private(path: Path) -> None:
    """Let only the owner read the file, which holds questions, answers and results; SQLite gives its side files the same mode."""
    if os.name != "posix":
        return
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(0o600)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the folder of the database {path.name!r} cannot be made",
            fix="choose a folder that may be written (BST_HOME or DATABASE_URL)",
        ) from error


async def _prepare(connections: _Connections) -> str:
    path = connections.location.path
    if path is None:
        with _errors_in_our_words():
            await _migrate(connections.engine)
        return "memory-" + secrets.token_hex(4)
    lock_path = path.with_name(path.name + ".lock")
    opening = await asyncio.to_thread(_enter, lock_path)
    try:
        with _errors_in_our_words():
            await _migrate(connections.engine)
        owner, connections.owner_lock = _claim_owner(path)
    finally:
        opening.release()
    return owner


def _enter(lock_path: Path) -> locks.FileLock:
    return locks.acquire(lock_path, patience_s=_OPENING_PATIENCE_S)


async def _migrate(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        known = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, "alembic_version"))
        version = (
            (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() if known else None
        )
    if version == SCHEMA_VERSION:
        return
    await dialect.use_write_ahead_log(engine)
    # Alembic takes 0.3 s to import, for which nobody should wait, and an up-to-date database never needs it.
    migrations = await asyncio.to_thread(importlib.import_module, "engine.store.migrations.upgrade")
    async with engine.connect() as connection:
        await connection.execution_options(**{dialect.WRITES: True})
        async with connection.begin():
            await connection.run_sync(migrations.upgrade)


def _claim_owner(path: Path) -> tuple[str, locks.FileLock]:
    """Name this process and hold a lock in that name; names whose processes died are swept away."""
    for stale in path.parent.glob(_owner_path(path, "*").name):
        if not locks.is_held(stale):
            stale.unlink(missing_ok=True)
    owner = "process-" + secrets.token_hex(6)
    lock = locks.FileLock(_owner_path(path, owner))
    lock.try_acquire()
    return owner, lock


def _owner_path(path: Path, owner: str) -> Path:
    return path.with_name(f"{path.name}.{owner}.lock")
