"""What the agents leave behind: the audit trail, cached answers, hand-ins and pipeline steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, delete, func, insert, select, update

from engine.agent_records import (
    AgentCall,
    AgentUsage,
    CachedAnswer,
    CacheSize,
    PipelineStep,
    Spending,
    Submission,
)
from engine.errors import Conflict, NotFound
from engine.store import dialect
from engine.store.database import Database
from engine.store.tables import AGENT_CACHE, AGENT_CALLS, AGENT_SUBMISSIONS, PIPELINE_STEPS

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

_SENT = ("answered", "invalid", "failed")


class AgentStore(Database):
    """The memory of the agents (the Protocol `AgentMemory` of the floor above)."""

    async def add_agent_call(self, call: AgentCall) -> None:
        """Keep one row of the audit trail."""
        values = dataclasses.asdict(call)

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(insert(AGENT_CALLS).values(values))

        await self._write(change)

    async def agent_calls(self, *, question_id: str | None = None, limit: int = 100) -> list[AgentCall]:
        """Return rows of the audit trail, newest first."""
        wanted = [] if question_id is None else [AGENT_CALLS.c.question_id == question_id]
        newest = (
            select(AGENT_CALLS)
            .where(*wanted)
            .order_by(AGENT_CALLS.c.at_ms.desc(), AGENT_CALLS.c.question_id, AGENT_CALLS.c.number.desc())
            .limit(limit)
        )

        async def query(connection: AsyncConnection) -> list[AgentCall]:
            return [AgentCall(**row) for row in (await connection.execute(newest)).mappings()]

        return await self._read(query)

    async def agent_spending(self, since_ms: int, *, pipeline_id: str | None = None) -> Spending:
        """Return what was spent since a time, by one pipeline or by all."""
        wanted: list[ColumnElement[bool]] = [AGENT_CALLS.c.at_ms >= since_ms]
        wanted += [] if pipeline_id is None else [AGENT_CALLS.c.pipeline_id == pipeline_id]
        tokens = AGENT_CALLS.c.tokens_in + AGENT_CALLS.c.tokens_out
        sums = select(func.coalesce(func.sum(AGENT_CALLS.c.cost_usd), 0.0), func.coalesce(func.sum(tokens), 0)).where(
            *wanted
        )

        async def query(connection: AsyncConnection) -> Spending:
            cost_usd, count = (await connection.execute(sums)).one()
            return Spending(float(cost_usd), int(count))

        return await self._read(query)

    async def agent_usage(self, since_ms: int) -> list[AgentUsage]:
        """Return what each agent did since a time, by name."""
        tokens = AGENT_CALLS.c.tokens_in + AGENT_CALLS.c.tokens_out
        outcome = AGENT_CALLS.c.outcome
        counts = (
            select(
                AGENT_CALLS.c.agent,
                func.count().label("attempts"),
                *(func.sum(case((outcome == name, 1), else_=0)).label(name) for name in _SENT),
                func.sum(tokens).label("tokens"),
                func.sum(AGENT_CALLS.c.cost_usd).label("cost_usd"),
            )
            .where(AGENT_CALLS.c.at_ms >= since_ms, outcome.in_(_SENT))
            .group_by(AGENT_CALLS.c.agent)
            .order_by(AGENT_CALLS.c.agent)
        )

        async def query(connection: AsyncConnection) -> list[AgentUsage]:
            return [
                AgentUsage(
                    row.agent, row.attempts, row.answered, row.invalid, row.failed, int(row.tokens), row.cost_usd
                )
                for row in await connection.execute(counts)
            ]

        return await self._read(query)

    async def cached_answers(self, keys: Sequence[str], now_ms: int) -> dict[str, CachedAnswer]:
        """Return the answers under these keys that have not expired."""
        fresh = select(AGENT_CACHE).where(AGENT_CACHE.c.key.in_(list(keys)), AGENT_CACHE.c.expires_ms > now_ms)

        async def query(connection: AsyncConnection) -> dict[str, CachedAnswer]:
            return {row["key"]: _cached(row) for row in (await connection.execute(fresh)).mappings()}

        return await self._read(query)

    async def keep_answer(self, answer: CachedAnswer) -> None:
        """Keep an answer under its key, in place of an older one; expired answers go."""
        values = {**dataclasses.asdict(answer), "search_results": json.dumps(answer.search_results)}

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(delete(AGENT_CACHE).where(AGENT_CACHE.c.expires_ms <= answer.created_ms))
            await connection.execute(dialect.upsert(AGENT_CACHE), [values])

        await self._write(change)

    async def agent_cache_size(self) -> CacheSize:
        """Return how much the answer cache holds."""
        size = select(func.count(), func.coalesce(func.sum(func.length(AGENT_CACHE.c.text)), 0))

        async def query(connection: AsyncConnection) -> CacheSize:
            count, length = (await connection.execute(size)).one()
            return CacheSize(int(count), int(length))

        return await self._read(query)

    async def clear_agent_cache(self) -> int:
        """Forget every cached answer and return how many there were."""

        async def change(connection: AsyncConnection) -> int:
            return int((await connection.execute(delete(AGENT_CACHE))).rowcount)

        return await self._write(change)

    async def add_submission(self, submission: Submission) -> None:
        """Keep a question that the calling model shall answer."""
        values = {
            **dataclasses.asdict(submission),
            "brief": json.dumps(submission.brief, default=str),
            "answer": json.dumps(submission.answer),
        }

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(insert(AGENT_SUBMISSIONS).values(values))

        await self._write(change)

    async def submission(self, submission_id: str) -> Submission:
        """Return a question that was handed out."""

        async def query(connection: AsyncConnection) -> Submission:
            return await _submission(connection, submission_id)

        return await self._read(query)

    async def answer_submission(self, submission_id: str, answer: Any, at_ms: int) -> Submission:
        """Keep the answer to an open question; the first one counts."""

        async def change(connection: AsyncConnection) -> Submission:
            still_open = and_(AGENT_SUBMISSIONS.c.id == submission_id, AGENT_SUBMISSIONS.c.state == "open")
            values = {"state": "answered", "answer": json.dumps(answer), "answered_ms": at_ms}
            changed = await connection.execute(update(AGENT_SUBMISSIONS).where(still_open).values(values))
            found = await _submission(connection, submission_id)
            if not changed.rowcount:
                raise Conflict(f"{submission_id!r} has been answered already", fix="ask the tool again for a new one")
            return found

        return await self._write(change)

    async def save_pipeline_step(self, step: PipelineStep) -> None:
        """Keep the end of a step, in place of an earlier end of the same step."""
        values = {**dataclasses.asdict(step), "output": json.dumps(step.output, default=str)}

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(dialect.upsert(PIPELINE_STEPS), [values])

        await self._write(change)

    async def pipeline_steps(self, pipeline_id: str) -> list[PipelineStep]:
        """Return the steps of a pipeline in order; empty when there is none."""
        steps = (
            select(PIPELINE_STEPS).where(PIPELINE_STEPS.c.pipeline_id == pipeline_id).order_by(PIPELINE_STEPS.c.number)
        )

        async def query(connection: AsyncConnection) -> list[PipelineStep]:
            return [_step(row) for row in (await connection.execute(steps)).mappings()]

        return await self._read(query)


def _cached(row: RowMapping) -> CachedAnswer:
    values: dict[str, Any] = dict(row)
    values["search_results"] = tuple(json.loads(row["search_results"]))
    return CachedAnswer(**values)


def _step(row: RowMapping) -> PipelineStep:
    values: dict[str, Any] = dict(row)
    values["output"] = json.loads(row["output"])
    return PipelineStep(**values)


async def _submission(connection: AsyncConnection, submission_id: str) -> Submission:
    wanted = select(AGENT_SUBMISSIONS).where(AGENT_SUBMISSIONS.c.id == submission_id)
    row = (await connection.execute(wanted)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no submission {submission_id!r}", fix="use the submission_id of a delegated answer")
    values: dict[str, Any] = dict(row)
    values["brief"], values["answer"] = json.loads(row["brief"]), json.loads(row["answer"])
    return Submission(**values)
