"""Rows that studies, seals and trials share: the chained journal of events, and what a study is told as."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from engine.store.tables import LEDGER_EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

_GENESIS = "0" * 64


def canonical(value: object) -> str:
    """Return the one spelling of a document that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def chained(before: str, text: str) -> str:
    """Return the hash of a link: of the hash before it and its own text."""
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


async def add_event(
    connection: AsyncConnection, kind: str, document: Mapping[str, Any], *, at_ms: int, study_id: str | None = None
) -> None:
    """Write down what happened to the ledger; needs a writing transaction."""
    newest = select(LEDGER_EVENTS.c.hash).order_by(LEDGER_EVENTS.c.id.desc()).limit(1)
    before = (await connection.execute(newest)).scalar_one_or_none() or _GENESIS
    text = canonical(dict(document))
    link = chained(before, canonical([at_ms, kind, study_id, text]))
    row = {"at_ms": at_ms, "kind": kind, "study_id": study_id, "document": text, "hash": link}
    await connection.execute(insert(LEDGER_EVENTS).values(row))
