"""What a job looked at: which coins and up to when, so that what it found is withheld when a seal covers part of it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import select

from engine.core.holdout import Withheld
from engine.store.seal_rows import active_seals, underlyings_of
from engine.store.tables import RUNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

# These fetch and evaluate nothing.
_BLIND_KINDS = frozenset({"backfill", "conformance"})
# A verdict tells the figures of an opened holdout too, and a pipeline those of a verdict.
_UNBOUNDED_KINDS = frozenset({"verdict", "pipeline"})
# What a job of these kinds found goes into the next one of the same request.
CARRYING_KINDS = frozenset({"pipeline"})
_ALWAYS_MS = sys.maxsize


@dataclass(frozen=True, slots=True)
class Scope:
    """A market that a job looked at.

    Attributes
    ----------
    feed : str or None
        None: of whatever feed.
    category, symbol : str
        Several symbols are joined by commas.
    end_ms : int
        When the last bar it may have seen closed.
    """

    feed: str | None
    category: str
    symbol: str
    end_ms: int


async def scopes_of(connection: AsyncConnection, kind: str, request: Mapping[str, Any]) -> list[Scope]:
    """Return the widest that a job of this request may look at."""
    if kind in _BLIND_KINDS:
        return []
    if "run_id" in request:
        return [await _of_run(connection, kind, str(request["run_id"]))]
    asked = cast("Mapping[str, Any]", request.get("input") if isinstance(request.get("input"), dict) else request)
    names = [asked.get("symbol"), *(asked.get("symbols") or ())]
    symbol = ",".join(str(name) for name in names if name)
    if not symbol:
        return []
    end_ms = asked.get("end_ms")
    bounded = isinstance(end_ms, int) and kind not in _UNBOUNDED_KINDS
    category = str(asked.get("category") or "linear")
    return [Scope(asked.get("feed"), category, symbol, cast("int", end_ms) if bounded else _ALWAYS_MS)]


async def visible_part(connection: AsyncConnection, scopes: list[Scope]) -> list[Scope]:
    """Return scopes ended by the seals that lie on them now: what is sealed can be looked at by nobody."""
    seen: list[Scope] = []
    for scope in scopes:
        withheld = await _withheld(connection, scope)
        end_ms = scope.end_ms if withheld is None else min(scope.end_ms, withheld.from_ms)
        seen.append(Scope(scope.feed, scope.category, scope.symbol, end_ms))
    return seen


async def first_withheld(connection: AsyncConnection, scopes: list[Scope]) -> Withheld | None:
    """Return a seal that covers part of what was looked at; None when there is none."""
    for scope in scopes:
        withheld = await _withheld(connection, scope)
        if withheld is not None and withheld.covers_run(scope.end_ms):
            return withheld
    return None


def widest(first: list[Scope], second: list[Scope]) -> list[Scope]:
    """Return both, each market once with its latest end."""
    ends: dict[tuple[str | None, str, str], int] = {}
    for scope in (*first, *second):
        key = (scope.feed, scope.category, scope.symbol)
        ends[key] = max(ends.get(key, 0), scope.end_ms)
    return [Scope(*key, end_ms) for key, end_ms in ends.items()]


def to_text(scopes: list[Scope]) -> str:
    """Return scopes as a row of the database keeps them."""
    return json.dumps([[each.feed, each.category, each.symbol, each.end_ms] for each in scopes])


def from_text(text: str) -> list[Scope]:
    """Return what `to_text` wrote."""
    return [Scope(*each) for each in json.loads(text)]


async def _of_run(connection: AsyncConnection, kind: str, run_id: str) -> Scope:
    columns = (RUNS.c.feed, RUNS.c.category, RUNS.c.symbol, RUNS.c.end_ms)
    row = (await connection.execute(select(*columns).where(RUNS.c.id == run_id))).one_or_none()
    if row is None:
        # Of a run that is gone nobody knows what it rested on.
        return Scope(None, "", "", _ALWAYS_MS)
    known_ms: int = _ALWAYS_MS if row.end_ms is None else row.end_ms
    return Scope(row.feed, row.category, row.symbol, _ALWAYS_MS if kind in _UNBOUNDED_KINDS else known_ms)


async def _withheld(connection: AsyncConnection, scope: Scope) -> Withheld | None:
    for seal in await active_seals(connection, scope.feed):
        is_anything = not scope.symbol
        if is_anything or seal.underlying in await underlyings_of(connection, seal.feed, scope.category, scope.symbol):
            return Withheld(seal.from_ms, seal.study)
    return None
