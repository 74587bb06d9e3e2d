"""Saved strategies: documents with versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, insert, select

from engine.errors import NotFound
from engine.store.database import Database
from engine.store.tables import STRATEGIES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class SavedStrategy:
    """One version of a saved strategy; `document` is canonical JSON text, `sha256` its hash."""

    name: str
    version: int
    created_ms: int
    sha256: str
    document: str


class StrategyStore(Database):
    """Strategy documents by name and version."""

    async def save_strategy(self, name: str, document: str, *, at_ms: int) -> SavedStrategy:
        """Keep a document (JSON text) as the newest version; content equal to the newest version adds none."""
        canonical = json.dumps(json.loads(document), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()

        async def change(connection: AsyncConnection) -> SavedStrategy:
            newest = await _newest(connection, name)
            if newest is not None and newest.sha256 == digest:
                return newest
            saved = SavedStrategy(name, 1 if newest is None else newest.version + 1, at_ms, digest, canonical)
            await connection.execute(
                insert(STRATEGIES).values(
                    name=name, version=saved.version, created_ms=at_ms, sha256=digest, document=canonical
                )
            )
            return saved

        return await self._write(change)

    async def strategy(self, name: str, version: int | None = None) -> SavedStrategy:
        """Return a version of a saved strategy, the newest when none is named."""

        async def query(connection: AsyncConnection) -> SavedStrategy | None:
            return await _newest(connection, name, version)

        found = await self._read(query)
        if found is None:
            which = repr(name) if version is None else f"{name!r} version {version}"
            raise NotFound(f"there is no saved strategy {which}", fix="list_strategies shows the names there are")
        return found

    async def list_strategies(self) -> list[SavedStrategy]:
        """Return the newest version of every saved strategy in order of their names."""
        newest = select(STRATEGIES.c.name, func.max(STRATEGIES.c.version).label("version")).group_by(STRATEGIES.c.name)
        chosen = newest.subquery()
        rows_of = (
            select(STRATEGIES)
            .join(chosen, and_(STRATEGIES.c.name == chosen.c.name, STRATEGIES.c.version == chosen.c.version))
            .order_by(STRATEGIES.c.name)
        )

        async def query(connection: AsyncConnection) -> list[SavedStrategy]:
            return [SavedStrategy(*row) for row in await connection.execute(rows_of)]

        return await self._read(query)


async def _newest(connection: AsyncConnection, name: str, version: int | None = None) -> SavedStrategy | None:
    wanted = STRATEGIES.c.name == name
    if version is not None:
        wanted = and_(wanted, STRATEGIES.c.version == version)
    newest = select(STRATEGIES).where(wanted).order_by(STRATEGIES.c.version.desc()).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    return None if row is None else SavedStrategy(*row)
