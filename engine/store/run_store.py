"""Finished backtests: what they rest on, what came out, their trades and equity."""

from __future__ import annotations

import json
import math
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, insert, literal, or_, select

from engine.errors import BadRequest, NotFound
from engine.store.columns import Columns, PackedColumns, pack, unpack
from engine.store.database import Database
from engine.store.tables import RUN_COLUMNS, RUN_METRICS, RUNS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

_TRADES = "trades"
_EQUITY = "equity"


def new_run_id() -> str:
    """Return a fresh name for a run."""
    return "run_" + secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished backtest.

    Attributes
    ----------
    id : str
    created_ms : int
    name, strategy, category, symbol, interval, source : str
        For people and for lists.
    manifest, result : str
        JSON texts: everything needed to run it again, and everything that came out.
    metrics : mapping of str to float or None
        Figures a list may be sorted by; None (or not finite) where undefined.
    """

    id: str
    created_ms: int
    name: str
    strategy: str
    category: str
    symbol: str
    interval: str
    source: str
    manifest: str
    result: str
    metrics: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of a list of runs."""

    id: str
    created_ms: int
    name: str
    strategy: str
    category: str
    symbol: str
    interval: str
    source: str
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, how many match in all, and where the next page begins (None at the end)."""

    items: list[RunSummary]
    total: int
    next_cursor: str | None


class RunStore(Database):
    """Runs, their trades and equity."""

    async def save_run(
        self,
        run: RunRecord,
        *,
        trades: Mapping[str, NDArray[Any]] | None = None,
        equity: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Keep a run with its trades and its daily equity (columns of equal length) in one transaction."""
        blobs = [
            (name, pack(columns)) for name, columns in ((_TRADES, trades), (_EQUITY, equity)) if columns is not None
        ]
        values = {name: getattr(run, name) for name in RUNS.c.keys()}  # noqa: SIM118
        metrics = [{"run_id": run.id, "name": name, "value": _finite(value)} for name, value in run.metrics.items()]

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(insert(RUNS).values(values))
            if metrics:
                await connection.execute(insert(RUN_METRICS), metrics)
            for name, packed in blobs:
                await connection.execute(
                    insert(RUN_COLUMNS).values(
                        run_id=run.id,
                        name=name,
                        rows=packed.rows,
                        crc32=packed.crc32,
                        codec=packed.codec,
                        data=packed.data,
                    )
                )

        await self._write(change)

    async def run(self, run_id: str) -> RunRecord:
        """Return a run."""

        async def query(connection: AsyncConnection) -> RunRecord | None:
            row = (await connection.execute(select(RUNS).where(RUNS.c.id == run_id))).mappings().one_or_none()
            metrics = await _metrics(connection, [run_id])
            return None if row is None else RunRecord(**row, metrics=metrics[run_id])

        found = await self._read(query)
        if found is None:
            raise _no_run(run_id)
        return found

    async def list_runs(
        self,
        *,
        strategy: str | None = None,
        symbol: str | None = None,
        sort: str = "created",
        descending: bool = True,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs in order of their creation or of a metric; runs without that metric come last."""
        wanted: list[ColumnElement[bool]] = []
        wanted += [] if strategy is None else [RUNS.c.strategy == strategy]
        wanted += [] if symbol is None else [_trades_symbol(symbol)]
        key = _sort_key(sort, descending=descending)
        after = [] if cursor is None else [_after(key, cursor, descending=descending)]
        order = (key.desc(), RUNS.c.id.desc()) if descending else (key.asc(), RUNS.c.id.asc())
        names = [RUNS.c[name] for name in RunSummary.__dataclass_fields__ if name != "metrics"]

        async def query(connection: AsyncConnection) -> RunPage:
            total = (await connection.execute(select(func.count()).select_from(RUNS).where(*wanted))).scalar_one()
            page = select(*names, key.label("sort_key")).where(*wanted, *after).order_by(*order).limit(limit + 1)
            rows = list((await connection.execute(page)).mappings())
            shown = rows[:limit]
            metrics = await _metrics(connection, [row["id"] for row in shown])
            items = [
                RunSummary(**{name: row[name] for name in row if name != "sort_key"}, metrics=metrics[row["id"]])
                for row in shown
            ]
            more = json.dumps([shown[-1]["sort_key"], shown[-1]["id"]]) if len(rows) > limit else None
            return RunPage(items, int(total), more)

        return await self._read(query)

    async def run_trades(self, run_id: str, *, offset: int = 0, limit: int | None = None) -> Columns:
        """Return the columns of a run's trades, or of some of them in order."""
        columns = await self._columns(run_id, _TRADES)
        end = None if limit is None else offset + limit
        return {name: column[offset:end] for name, column in columns.items()}

    async def count_trades(self, run_id: str) -> int:
        """Return how many trades a run has stored."""

        async def query(connection: AsyncConnection) -> int | None:
            mine = and_(RUN_COLUMNS.c.run_id == run_id, RUN_COLUMNS.c.name == _TRADES)
            return (await connection.execute(select(RUN_COLUMNS.c.rows).where(mine))).scalar_one_or_none()

        found = await self._read(query)
        if found is None:
            await self.run(run_id)
        return found or 0

    async def run_equity(self, run_id: str) -> Columns:
        """Return the columns of a run's daily equity."""
        return await self._columns(run_id, _EQUITY)

    async def _columns(self, run_id: str, name: str) -> Columns:
        columns = (RUN_COLUMNS.c.rows, RUN_COLUMNS.c.crc32, RUN_COLUMNS.c.codec, RUN_COLUMNS.c.data)
        mine = and_(RUN_COLUMNS.c.run_id == run_id, RUN_COLUMNS.c.name == name)

        async def query(connection: AsyncConnection) -> PackedColumns | None:
            row = (await connection.execute(select(*columns).where(mine))).one_or_none()
            return None if row is None else PackedColumns(*row)

        packed = await self._read(query)
        if packed is None:
            await self.run(run_id)
            return {}
        return unpack(packed, what=f"{name} of {run_id!r}")


def _trades_symbol(symbol: str) -> ColumnElement[bool]:
    """Match runs of the symbol alone, and those that name it among others, joined by commas."""
    among = (literal(",") + RUNS.c.symbol + ",").contains(f",{symbol},", autoescape=True)
    return or_(RUNS.c.symbol == symbol, among)


async def _metrics(connection: AsyncConnection, run_ids: list[str]) -> dict[str, dict[str, float | None]]:
    metrics: dict[str, dict[str, float | None]] = {run_id: {} for run_id in run_ids}
    for row in await connection.execute(select(RUN_METRICS).where(RUN_METRICS.c.run_id.in_(run_ids))):
        metrics[row.run_id][row.name] = row.value
    return metrics


def _sort_key(sort: str, *, descending: bool) -> ColumnElement[Any]:
    if sort in {"created", "created_ms"}:
        return RUNS.c.created_ms
    mine = and_(RUN_METRICS.c.run_id == RUNS.c.id, RUN_METRICS.c.name == sort)
    # A number beyond every real one puts runs without the metric last and keeps the cursor a plain comparison.
    beyond = -sys.float_info.max if descending else sys.float_info.max
    value = select(RUN_METRICS.c.value).where(mine).scalar_subquery()
    return case((value.is_(None), literal(beyond)), else_=value)


def _after(key: ColumnElement[Any], cursor: str, *, descending: bool) -> ColumnElement[bool]:
    try:
        value, run_id = json.loads(cursor)
        number = int(value) if isinstance(value, int) else float(value)
    except (ValueError, TypeError) as error:
        raise BadRequest("the cursor is not one of ours", fix="use next_cursor of the previous page") from error
    if descending:
        return or_(key < number, and_(key == number, RUNS.c.id < str(run_id)))
    return or_(key > number, and_(key == number, RUNS.c.id > str(run_id)))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r}", fix="list_runs shows the runs there are")
