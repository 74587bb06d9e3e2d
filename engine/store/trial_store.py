"""The trial ledger: every strategy ever evaluated in a study, once, in a chain of hashes, with its daily returns."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from sqlalchemy import and_, func, insert, or_, select, update

from engine.core.holdout import Withheld
from engine.core.underlyings import underlying_of
from engine.errors import BadRequest, NotFound, StorageFailed
from engine.store import trial_rows
from engine.store.columns import Columns, PackedColumns, pack, unpack
from engine.store.job_store import withheld_of_stored_job
from engine.store.ledger_rows import chained
from engine.store.seal_rows import withheld_of
from engine.store.sketch_rows import Coin, are_of, keep_sketches, same_markets
from engine.store.study_store import StudyStore
from engine.store.tables import JOBS, SEARCH_BATCHES, STUDIES, TRIAL_RETURNS, TRIALS
from engine.store.trial_matrix import TrialMatrix, build_matrix
from engine.store.witness import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from engine.core.candles import TimeColumn
    from engine.core.evaluations import EvaluationBatch, EvaluationSlice

TrialSort = Literal["newest", "sharpe", "total_return", "max_drawdown", "trades"]
PARAMETER, METRIC = "param:", "metric:"
# Names in one question to the database; every database takes that many.
_KEYS_PER_QUESTION = 5_000
_MOST_MATRIX_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class TrialReceipt:
    """How many trials of a batch were new to the study, and how many it knew already."""

    recorded: int
    repeated: int


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial for people. Figures are None where undefined; `sharpe` is per day, not annualised."""

    number: int
    strategy: str
    params: Mapping[str, float]
    symbol: str
    category: str
    interval: str
    start_ms: int
    end_ms: int
    bars: int
    trades: float | None
    daily_sharpe: float | None
    total_return: float | None
    max_drawdown: float | None
    origin: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TrialPage:
    """Some trials, how many there are, and how many are not shown because they rest on withheld bars."""

    items: list[TrialRecord]
    total: int
    withheld: int


@dataclass(frozen=True, slots=True)
class ChainState:
    """Whether the stored trials are those that were recorded.

    Attributes
    ----------
    intact : bool
    length : int
        Links that hold, from the first on.
    head : str
        Hash of the last of them.
    broken_at : int or None
        Number of the first trial that does not follow from what is before it.
    """

    intact: bool
    length: int
    head: str
    broken_at: int | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one call records, packed before the transaction so that other writers wait for nothing."""

    shared: dict[str, Any]
    trials: list[trial_rows.PreparedTrial]
    returns: NDArray[np.float32]
    marks: bytes
    data: bytes
    crc32: int

    @classmethod
    def of(cls, where: EvaluationSlice, batch: EvaluationBatch, shared: dict[str, Any]) -> _Batch:
        trials = trial_rows.prepare(where, batch)
        return cls._packed(shared, trials, batch.daily_returns, trial_rows.pack_marks(batch.marks_ms))

    def only(self, keys: set[str]) -> _Batch:
        """Return the batch with only these trials."""
        if len(keys) == len(self.trials):
            return self
        return self._packed(self.shared, [each for each in self.trials if each.key in keys], self.returns, self.marks)

    @classmethod
    def _packed(
        cls, shared: dict[str, Any], trials: list[trial_rows.PreparedTrial], returns: NDArray[np.float32], marks: bytes
    ) -> _Batch:
        kept = returns[[each.position for each in trials]]
        placed = [replace(each, position=position) for position, each in enumerate(trials)]
        return cls(shared, placed, kept, marks, *trial_rows.pack_returns(kept))


class TrialStore(StudyStore):
    """Trials of studies, and the batches of searches."""

    async def record_trials(
        self,
        study_id: str,
        where: EvaluationSlice,
        batch: EvaluationBatch,
        *,
        origin: str,
        at_ms: int,
        job_id: str | None = None,
        cursor: int | None = None,
        batch_no: int | None = None,
    ) -> TrialReceipt:
        """Keep evaluated strategies in one transaction; what the study knows already is not counted again.

        With `job_id` and `batch_no` all points with their metrics are kept too, under that number, so that the search can
        go on from there; `cursor` moves the job's.
        """
        shared = {
            "category": where.category,
            "symbol": where.symbol,
            "interval": where.interval,
            "start_ms": where.start_ms,
            "end_ms": where.end_ms,
            "bars": where.bars,
            "data_sha256": where.data_sha256,
            "costs_sha256": where.costs_sha256,
            "strategy": batch.strategy,
            "origin": origin,
            "job_id": job_id,
            "seed": batch.seed,
            "at_ms": at_ms,
        }
        ready = await asyncio.to_thread(_Batch.of, where, batch, shared)
        saved = None if job_id is None or batch_no is None else pack(_search_columns(batch))

        async def change(connection: AsyncConnection) -> tuple[TrialReceipt, list[Statement]]:
            study = (await connection.execute(select(STUDIES).where(STUDIES.c.id == study_id))).one_or_none()
            if study is None:
                raise NotFound(f"there is no study {study_id!r}", fix="list_trials without a study lists them")
            await keep_sketches(connection, study.feed, where.category, batch.sketches, at_ms=at_ms)
            said = await _record(connection, study, ready)
            if saved is not None:
                await _save_search_batch(connection, study_id, where, (str(job_id), int(batch_no or 0)), saved)
            if job_id is not None and cursor is not None:
                moved = update(JOBS).where(JOBS.c.id == job_id).values(cursor_ms=cursor, updated_ms=at_ms)
                await connection.execute(moved)
            recorded = said["length"] - study.trials if said else 0
            return TrialReceipt(recorded, len(batch) - recorded), [said] if said else []

        receipt, said = await self._write(change)
        await self.testify(said)
        return receipt

    async def search_batches(self, job_id: str) -> list[tuple[int, Columns]]:
        """Return what a search committed, in order: columns `param:NAME` and `metric:NAME` (float64, NaN: none)."""
        columns = [SEARCH_BATCHES.c[name] for name in ("batch_no", "rows", "crc32", "codec", "data")]
        mine = select(*columns).where(SEARCH_BATCHES.c.job_id == job_id).order_by(SEARCH_BATCHES.c.batch_no)

        async def query(connection: AsyncConnection) -> list[Row[Any]]:
            return list(await connection.execute(mine))

        return [
            (
                row.batch_no,
                unpack(
                    PackedColumns(row.rows, row.crc32, row.codec, row.data), what=f"batch {row.batch_no} of {job_id!r}"
                ),
            )
            for row in await self._read(query)
        ]

    async def withheld_of_job(self, job_id: str) -> Withheld | None:
        """Return the seal that keeps back what a job found on bars that were not sealed then; None when there is none."""
        columns = (STUDIES.c.feed, STUDIES.c.category, SEARCH_BATCHES.c.symbol, func.max(SEARCH_BATCHES.c.end_ms))
        searched = (
            select(*columns)
            .join(STUDIES, STUDIES.c.id == SEARCH_BATCHES.c.study_id)
            .where(SEARCH_BATCHES.c.job_id == job_id)
            .group_by(*columns[:3])
        )

        async def query(connection: AsyncConnection) -> Withheld | None:
            if (looked_at := await withheld_of_stored_job(connection, job_id)) is not None:
                return looked_at
            for feed, category, symbol, end_ms in list(await connection.execute(searched)):
                withheld = await withheld_of(connection, feed, category, symbol)
                if withheld is not None and withheld.covers_run(end_ms):
                    return withheld
            return None

        return await self._read(query)

    async def trial_count(self, study_id: str) -> int:
        """Return how many distinct strategies a study evaluated, those included that only the witness remembers."""
        return (await self.study(study_id)).trials

    async def market_trial_count(
        self, study_id: str, range_ms: tuple[int, int] | None = None, coins: Collection[Coin] | None = None
    ) -> int:
        """Return how many trials all studies of the same market made: another name does not make a search smaller.

        With a range, of the other studies only the trials that saw a bar of it. `coins` are the market and its copies; left
        out, they are looked for.
        """
        study = await self.study(study_id)
        seen = TRIAL_RETURNS.c.study_id == study_id
        if range_ms is not None:
            seen = or_(seen, and_(TRIAL_RETURNS.c.start_ms < range_ms[1], TRIAL_RETURNS.c.end_ms > range_ms[0]))

        async def query(connection: AsyncConnection) -> int:
            own = {(study.feed, underlying_of(symbol)) for symbol in study.symbols}
            every = await same_markets(connection, own) if coins is None else {*own, *coins}
            market = are_of(TRIAL_RETURNS.c.feed, TRIAL_RETURNS.c.underlying, every)
            same = or_(
                market, *[await _shared_by(connection, feed, every) for feed in sorted({name for name, _ in every})]
            )
            same = same if range_ms is None else and_(same, seen)
            counted = (
                select(func.count(TRIALS.c.key.distinct()))
                .join(TRIAL_RETURNS, TRIAL_RETURNS.c.id == TRIALS.c.batch_id)
                .where(same)
            )
            return int((await connection.execute(counted)).scalar_one())

        return max(await self._read(query), study.trials)

    async def list_trials(
        self, study_id: str, *, sort: TrialSort = "newest", limit: int = 50, offset: int = 0
    ) -> TrialPage:
        """Return trials of a study, newest or best first; those that rest on withheld bars are only counted."""
        if sort not in get_args(TrialSort):
            raise BadRequest(
                f"trials cannot be sorted by {sort!r}", fix=f"sort is one of {', '.join(get_args(TrialSort))}"
            )
        own = [TRIALS.c[name] for name in ("number", "params", *_SHOWN_FIGURES)]
        common = [TRIAL_RETURNS.c[name] for name in _SHOWN_SHARED]
        joined = TRIALS.join(TRIAL_RETURNS, TRIAL_RETURNS.c.id == TRIALS.c.batch_id)

        async def query(connection: AsyncConnection) -> TrialPage:
            mine = TRIALS.c.study_id == study_id
            total = (await connection.execute(select(func.count()).select_from(TRIALS).where(mine))).scalar_one()
            visible = and_(mine, await _visible(connection, study_id))
            shown = (await connection.execute(select(func.count()).select_from(joined).where(visible))).scalar_one()
            page = select(*own, *common).select_from(joined).where(visible).order_by(*_order(sort))
            rows = await connection.execute(page.limit(limit).offset(offset))
            items = [TrialRecord(**{**row, "params": json.loads(row["params"])}) for row in rows.mappings()]
            return TrialPage(items, int(total), int(total) - int(shown))

        return await self._read(query)

    async def trial_matrix(
        self, study_id: str, *, like: TimeColumn | None = None, limit: int = _MOST_MATRIX_ROWS
    ) -> TrialMatrix:
        """Return the daily returns of a study's trials on the days of `like`, by default those of the newest trials.

        Parameters
        ----------
        like : ndarray of int64, shape (d,), optional
            Ends of daily returns, milliseconds UTC, ascending. A trial that was not evaluated on all of them is left out.
        limit : int
            Most rows; the latest trials stay.
        """

        async def query(connection: AsyncConnection) -> tuple[list[Row[Any]], list[Row[Any]], int]:
            batches = select(TRIAL_RETURNS).where(TRIAL_RETURNS.c.study_id == study_id).order_by(TRIAL_RETURNS.c.id)
            names = ("number", "key", "fingerprint", "batch_id", "position", "trades", "fees_paid")
            trials = select(*(TRIALS.c[name] for name in names)).where(TRIALS.c.study_id == study_id)
            rows = list(await connection.execute(trials.order_by(TRIALS.c.number)))
            return list(await connection.execute(batches)), rows, len(rows)

        batches, trials, total = await self._read(query)
        return await asyncio.to_thread(build_matrix, batches, trials, like, limit, total)

    async def verify_chain(self, study_id: str) -> ChainState:
        """Recompute every link of a study's trials and compare."""
        study = await self.study(study_id)
        mine = TRIAL_RETURNS.c.study_id == study_id
        state, expected = ChainState(True, 0, study_id), 1

        async def ids(connection: AsyncConnection) -> list[int]:
            return list(
                (
                    await connection.execute(select(TRIAL_RETURNS.c.id).where(mine).order_by(TRIAL_RETURNS.c.id))
                ).scalars()
            )

        for batch_id in await self._read(ids):

            async def load(connection: AsyncConnection, batch_id: int = batch_id) -> tuple[Row[Any], list[Row[Any]]]:
                batch = (await connection.execute(select(TRIAL_RETURNS).where(TRIAL_RETURNS.c.id == batch_id))).one()
                links = select(TRIALS).where(TRIALS.c.batch_id == batch_id).order_by(TRIALS.c.number)
                return batch, list(await connection.execute(links))

            batch, links = await self._read(load)
            state, expected = await asyncio.to_thread(_follow, state, expected, batch, links)
            if not state.intact:
                return state
        if state.length != study.chain_length or state.head != study.head:
            return replace(state, intact=False, broken_at=state.length + 1)
        return state


_SHOWN_FIGURES = ("trades", "daily_sharpe", "total_return", "max_drawdown")
_SHOWN_SHARED = ("strategy", "symbol", "category", "interval", "start_ms", "end_ms", "bars", "origin", "at_ms")


def _order(sort: TrialSort) -> tuple[ColumnElement[Any], ...]:
    if sort == "newest":
        return (TRIALS.c.number.desc(),)
    column = TRIALS.c["daily_sharpe" if sort == "sharpe" else sort]
    best = column.asc() if sort == "max_drawdown" else column.desc()
    return (best.nulls_last(), TRIALS.c.number)


async def _visible(connection: AsyncConnection, study_id: str) -> ColumnElement[bool]:
    """Return the condition that a trial rests on no withheld bar."""
    batches = TRIAL_RETURNS.c
    markets = select(batches.feed, batches.category, batches.symbol).where(batches.study_id == study_id).distinct()
    allowed: ColumnElement[bool] = batches.study_id == study_id
    for feed, category, symbol in list(await connection.execute(markets)):
        withheld = await withheld_of(connection, feed, category, symbol)
        if withheld is not None:
            here = and_(batches.category == category, batches.symbol == symbol)
            allowed = and_(allowed, ~and_(here, batches.end_ms > withheld.from_ms))
    return allowed


async def _record(connection: AsyncConnection, study: Row[Any], batch: _Batch) -> Statement:
    """Append what is new of a batch to the chain; return what the witness should know, empty when nothing is new."""
    fresh = {trial.key for trial in batch.trials} - await _known(connection, study.id, batch.trials)
    if not fresh:
        return {}
    batch = await asyncio.to_thread(batch.only, fresh)
    row = {
        **batch.shared, "study_id": study.id, "feed": study.feed, "underlying": underlying_of(batch.shared["symbol"]),
        "rows": batch.returns.shape[0], "days": batch.returns.shape[1], "crc32": batch.crc32,
        "codec": trial_rows.RETURNS_CODEC, "marks": batch.marks, "data": batch.data,
    }  # fmt: skip
    kept = insert(TRIAL_RETURNS).values(row).returning(TRIAL_RETURNS.c.id)
    batch_id = int((await connection.execute(kept)).scalar_one())
    shared = trial_rows.shared_text(batch.shared)
    rows: list[dict[str, Any]] = []
    head, number = study.head, study.trials
    for trial in batch.trials:
        number += 1
        head = chained(head, trial.link_text(number, shared))
        rows.append(
            {
                "study_id": study.id,
                "number": number,
                "key": trial.key,
                "batch_id": batch_id,
                "position": trial.position,
                "fingerprint": trial.fingerprint,
                "params": trial.params,
                "hash": head,
                **dict(zip(trial_rows.FIGURES, trial.figures, strict=True)),
            }
        )
    await connection.execute(insert(TRIALS), rows)
    await connection.execute(update(STUDIES).where(STUDIES.c.id == study.id).values(trials=number, head=head))
    return {
        "kind": "trials", "study": study.id, "length": number, "trials": number + study.lost_trials, "head": head,
        "at_ms": batch.shared["at_ms"],
    }  # fmt: skip


async def _shared_by(connection: AsyncConnection, feed: str, coins: Collection[Coin]) -> ColumnElement[bool]:
    """Return the condition that a row is about a portfolio that held one of these coins."""
    wanted = {coin for name, coin in coins if name == feed}
    joined = and_(TRIAL_RETURNS.c.feed == feed, TRIAL_RETURNS.c.symbol.contains(","))
    names = (await connection.execute(select(TRIAL_RETURNS.c.symbol).where(joined).distinct())).scalars()
    held = [name for name in names if wanted & set(map(underlying_of, name.split(",")))]
    return and_(joined, TRIAL_RETURNS.c.symbol.in_(held))


async def _known(connection: AsyncConnection, study_id: str, trials: list[trial_rows.PreparedTrial]) -> set[str]:
    known: set[str] = set()
    for some in _parts([trial.key for trial in trials]):
        asked = and_(TRIALS.c.study_id == study_id, TRIALS.c.key.in_(some))
        known |= set((await connection.execute(select(TRIALS.c.key).where(asked))).scalars())
    return known


def _parts(keys: list[str]) -> Iterator[list[str]]:
    return (keys[at : at + _KEYS_PER_QUESTION] for at in range(0, len(keys), _KEYS_PER_QUESTION))


async def _save_search_batch(
    connection: AsyncConnection, study_id: str, where: EvaluationSlice, name: tuple[str, int], saved: PackedColumns
) -> None:
    job_id, batch_no = name
    same = and_(SEARCH_BATCHES.c.job_id == job_id, SEARCH_BATCHES.c.batch_no == batch_no)
    if (await connection.execute(select(SEARCH_BATCHES.c.rows).where(same))).first() is not None:
        return
    row = {
        "job_id": job_id, "batch_no": batch_no, "study_id": study_id, "symbol": where.symbol, "end_ms": where.end_ms,
        "rows": saved.rows, "crc32": saved.crc32, "codec": saved.codec, "data": saved.data,
    }  # fmt: skip
    await connection.execute(insert(SEARCH_BATCHES).values(row))


def _search_columns(batch: EvaluationBatch) -> dict[str, NDArray[Any]]:
    names = sorted({name for point in batch.points for name in point})
    columns: dict[str, NDArray[Any]] = {
        PARAMETER + name: np.array([point.get(name, np.nan) for point in batch.points], np.float64) for name in names
    }
    return columns | {METRIC + name: np.asarray(column, np.float64) for name, column in batch.metrics.items()}


def _follow(state: ChainState, expected: int, batch: Row[Any], links: list[Row[Any]]) -> tuple[ChainState, int]:
    """Recompute the links of one batch."""
    shared = trial_rows.shared_text({name: getattr(batch, name) for name in trial_rows.SHARED})
    try:
        returns = trial_rows.unpack_returns(batch, what=f"batch {batch.id}")
    except StorageFailed:
        return replace(state, intact=False, broken_at=expected), expected
    head = state.head
    for link in links:
        figures = [getattr(link, name) for name in trial_rows.FIGURES]
        digest = hashlib.sha256(returns[link.position].tobytes()).hexdigest() if link.position < len(returns) else ""
        text = trial_rows.link_text(expected, link.key, link.fingerprint, link.params, figures, digest, shared)
        if link.number != expected or chained(head, text) != link.hash:
            return ChainState(False, expected - 1, head, expected), expected
        head, expected = link.hash, expected + 1
    return ChainState(True, expected - 1, head), expected
