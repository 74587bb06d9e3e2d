"""What the agents must remember beyond one question; the store keeps it, tests keep it in a dictionary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

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


class AgentMemory(Protocol):
    """Audit trail, budget sums, answer cache, hand-ins, pipeline steps."""

    async def add_agent_call(self, call: AgentCall) -> None:
        """Keep one row of the audit trail."""
        ...

    async def agent_calls(self, *, question_id: str | None = None, limit: int = 100) -> list[AgentCall]:
        """Return rows of the audit trail, newest first."""
        ...

    async def agent_spending(self, since_ms: int, *, pipeline_id: str | None = None) -> Spending:
        """Return what was spent since a time, by one pipeline or by all."""
        ...

    async def agent_usage(self, since_ms: int) -> list[AgentUsage]:
        """Return what each agent did since a time, by name."""
        ...

    async def cached_answers(self, keys: Sequence[str], now_ms: int) -> dict[str, CachedAnswer]:
        """Return the answers under these keys that have not expired."""
        ...

    async def keep_answer(self, answer: CachedAnswer) -> None:
        """Keep an answer under its key, in place of an older one; expired answers may go."""
        ...

    async def agent_cache_size(self) -> CacheSize:
        """Return how much the answer cache holds."""
        ...

    async def clear_agent_cache(self) -> int:
        """Forget every cached answer and return how many there were."""
        ...

    async def add_submission(self, submission: Submission) -> None:
        """Keep a question that the calling model shall answer."""
        ...

    async def submission(self, submission_id: str) -> Submission:
        """Return a question that was handed out, or raise `NotFound`."""
        ...

    async def answer_submission(self, submission_id: str, answer: Any, at_ms: int) -> Submission:
        """Keep the answer to an open question, or raise `Conflict` when it has one."""
        ...

    async def save_pipeline_step(self, step: PipelineStep) -> None:
        """Keep the end of a step, in place of an earlier end of the same step."""
        ...

    async def pipeline_steps(self, pipeline_id: str) -> list[PipelineStep]:
        """Return the steps of a pipeline in order; empty when there is none."""
        ...


class MemoryInProcess:
    """An `AgentMemory` that forgets everything with the process."""

    def __init__(self) -> None:
        self._calls: list[AgentCall] = []
        self._answers: dict[str, CachedAnswer] = {}
        self._submissions: dict[str, Submission] = {}
        self._steps: dict[tuple[str, int], PipelineStep] = {}

    async def add_agent_call(self, call: AgentCall) -> None:
        """Keep one row."""
        self._calls.append(call)

    async def agent_calls(self, *, question_id: str | None = None, limit: int = 100) -> list[AgentCall]:
        """Return rows, newest first."""
        found = [call for call in self._calls if question_id in {None, call.question_id}]
        return found[::-1][:limit]

    async def agent_spending(self, since_ms: int, *, pipeline_id: str | None = None) -> Spending:
        """Return what was spent."""
        counted = [c for c in self._calls if c.at_ms >= since_ms and pipeline_id in {None, c.pipeline_id}]
        return Spending(sum(c.cost_usd for c in counted), sum(c.tokens_in + c.tokens_out for c in counted))

    async def agent_usage(self, since_ms: int) -> list[AgentUsage]:
        """Return what each agent did."""
        outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        spent: defaultdict[str, Spending] = defaultdict(Spending)
        for call in self._calls:
            if call.at_ms < since_ms or call.outcome not in {"answered", "invalid", "failed"}:
                continue
            outcomes[call.agent][call.outcome] += 1
            before = spent[call.agent]
            spent[call.agent] = Spending(
                before.cost_usd + call.cost_usd, before.tokens + call.tokens_in + call.tokens_out
            )
        return [
            AgentUsage(
                agent=name,
                attempts=counts.total(),
                answered=counts["answered"],
                invalid=counts["invalid"],
                failed=counts["failed"],
                tokens=spent[name].tokens,
                cost_usd=spent[name].cost_usd,
            )
            for name, counts in sorted(outcomes.items())
        ]

    async def cached_answers(self, keys: Sequence[str], now_ms: int) -> dict[str, CachedAnswer]:
        """Return what has not expired."""
        found = {key: self._answers[key] for key in keys if key in self._answers}
        return {key: answer for key, answer in found.items() if answer.expires_ms > now_ms}

    async def keep_answer(self, answer: CachedAnswer) -> None:
        """Keep an answer."""
        self._answers[answer.key] = answer

    async def agent_cache_size(self) -> CacheSize:
        """Return how much there is."""
        return CacheSize(len(self._answers), sum(len(answer.text.encode()) for answer in self._answers.values()))

    async def clear_agent_cache(self) -> int:
        """Forget all answers."""
        count = len(self._answers)
        self._answers.clear()
        return count

    async def add_submission(self, submission: Submission) -> None:
        """Keep a question."""
        self._submissions[submission.id] = submission

    async def submission(self, submission_id: str) -> Submission:
        """Return a question."""
        if submission_id not in self._submissions:
            raise NotFound(
                f"there is no submission {submission_id!r}", fix="use the submission_id of a delegated answer"
            )
        return self._submissions[submission_id]

    async def answer_submission(self, submission_id: str, answer: Any, at_ms: int) -> Submission:
        """Keep an answer, once."""
        found = await self.submission(submission_id)
        if found.state == "answered":
            raise Conflict(f"{submission_id!r} has been answered already", fix="ask the tool again for a new one")
        answered = replace(found, state="answered", answer=answer, answered_ms=at_ms)
        self._submissions[submission_id] = answered
        return answered

    async def save_pipeline_step(self, step: PipelineStep) -> None:
        """Keep a step."""
        self._steps[step.pipeline_id, step.number] = step

    async def pipeline_steps(self, pipeline_id: str) -> list[PipelineStep]:
        """Return steps in order."""
        return [step for (owner, _), step in sorted(self._steps.items()) if owner == pipeline_id]
