"""One agent after another: attempts with retries inside a deadline, checks, re-asks, and a record of everything."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from agents.breaker import Breaker
from agents.budget import BudgetSpent, worst_case
from agents.checks import Evidence, Judged, judge
from agents.client import ABOUT_THE_QUESTION, ACCOUNT, MAYBE_BILLED, AttemptFailed, Completion, CompletionRequest, Usage
from agents.prompting import asked_again
from agents.questions import AgentProgress, AskRequest, Attempt, Progress
from engine.agent_records import AgentCall, CallOutcome, Spending

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agents.budget import Budget, Purse
    from agents.client import AgentClient, CostSource
    from agents.memory import AgentMemory
    from agents.providers import Agent
    from agents.routing import Route
    from engine.ports import Clock

MOST_TRIES = 3
MOST_RE_ASKS = 2
# A vendor that asks for a longer pause is left for the next agent; the last one in the chain is waited for.
PATIENCE_S = 5.0
LAST_PATIENCE_S = 30.0
# One agent may use this share of the time that is left while others wait behind it.
_SHARE_OF_DEADLINE = 0.6
_MILLISECONDS = 1_000.0
_full_jitter = wait_random_exponential(multiplier=0.5, max=8)


@dataclass(slots=True)
class Question:
    """A question on its way through the agents."""

    id: str
    request: AskRequest
    route: Route
    system: str
    prompt: str
    schema: dict[str, Any] | None
    evidence: Evidence
    deadline: float
    purse: Purse
    hash: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def form(self) -> type[BaseModel] | None:
        """Return the form of the answer."""
        return self.request.schema


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checked answer and who gave it."""

    agent: Agent
    completion: Completion
    value: BaseModel | str


class Fallback:
    """Asks the agents of a chain in turn until one gives an answer that passes.

    Parameters
    ----------
    client : AgentClient
        Who does the asking.
    memory : AgentMemory
        Where every attempt is recorded before anything else happens.
    budget : Budget
        What may be spent.
    clock : Clock
        Time, and waiting.
    """

    def __init__(self, client: AgentClient, memory: AgentMemory, budget: Budget, clock: Clock) -> None:
        self._client = client
        self._memory = memory
        self._budget = budget
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._vendor_blocks: dict[str, str] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def breaker(self, agent: Agent) -> Breaker:
        """Return the breaker of an agent, blocked when its vendor's account is."""
        breaker = self._breakers.setdefault(agent.name, Breaker(self._clock))
        if (reason := self._vendor_blocks.get(_account(agent))) and not breaker.blocked_because:
            breaker.block(reason)
        return breaker

    async def answer(self, question: Question, agents: Sequence[Agent], progress: Progress | None) -> Accepted | None:
        """Return the first answer that passes, or None when the chain is at its end."""
        for position, agent in enumerate(agents):
            if self._clock.monotonic() >= question.deadline:
                break
            if position and progress:
                await progress(AgentProgress("next_agent", agent.name, f"now asking {agent.name}"))
            is_last = position == len(agents) - 1
            accepted = await self._ask_one(question, agent, progress, is_last=is_last)
            if accepted is not None:
                return accepted
        return None

    async def record(
        self,
        question: Question,
        agent: Agent,
        outcome: CallOutcome,
        *,
        error_class: str = "",
        detail: str = "",
        status: int | None = None,
        started_ms: int | None = None,
        duration_ms: float = 0.0,
        completion: Completion | None = None,
        assumed: Spending | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        """Keep one attempt in the audit trail and show it in the answer; its cost leaves the purse."""
        usage = completion.usage if completion else Usage(tokens_in=assumed.tokens if assumed else 0)
        cost_usd = completion.cost_usd if completion else assumed.cost_usd if assumed else 0.0
        source: CostSource = completion.cost_source if completion else "estimate" if assumed else "none"
        served = completion.served_model if completion else ""
        request = question.request
        question.purse.pay(cost_usd, usage.total)
        question.attempts.append(
            Attempt(
                agent=agent.name,
                requested_model=agent.model,
                served_model=served,
                outcome=outcome,
                error_class=error_class,
                status=status,
                ms=round(duration_ms, 3),
                tokens=usage.total,
                cost_usd=cost_usd,
                cost_source=source,
                problems=problems,
            )
        )
        await self._memory.add_agent_call(
            AgentCall(
                id="call_" + secrets.token_hex(8),
                question_id=question.id,
                number=len(question.attempts),
                at_ms=self._clock.now_ms() if started_ms is None else started_ms,
                task=question.route.task,
                purpose=request.purpose,
                pipeline_id=request.pipeline_id,
                step=request.step,
                agent=agent.name,
                vendor=agent.vendor,
                requested_model=agent.model,
                served_model=served,
                outcome=outcome,
                error_class=error_class,
                detail=detail or " | ".join(problems)[:800],
                http_status=status,
                duration_ms=duration_ms,
                first_token_ms=completion.first_token_ms if completion else None,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                tokens_reasoning=usage.tokens_reasoning,
                tokens_cached=usage.tokens_cached,
                cost_usd=cost_usd,
                cost_source=source,
                rule=question.route.rule,
                prompt_version=request.prompt_version,
                question_hash=question.hash,
            )
        )

    async def _ask_one(
        self, question: Question, agent: Agent, progress: Progress | None, *, is_last: bool
    ) -> Accepted | None:
        """Ask one agent until its answer passes, it fails for good, or it has been re-asked often enough."""
        breaker = self.breaker(agent)
        if not breaker.allows():
            reason = breaker.blocked_because or f"left alone for {breaker.closes_in_s:.0f} s after failures"
            await self.record(question, agent, "skipped", error_class=f"breaker_{breaker.state}", detail=reason)
            return None
        prompt = question.prompt
        try:
            async with self._slot(agent):
                for re_asked in range(MOST_RE_ASKS + 1):
                    step = _Step(question, agent, prompt, progress, is_last=is_last)
                    completion, judged = await self._try(step, breaker)
                    if judged.value is not None:
                        return Accepted(agent, completion, judged.value)
                    prompt = asked_again(question.prompt, completion.text, judged.problems)
                    if progress and re_asked < MOST_RE_ASKS:
                        await progress(AgentProgress("again", agent.name, "; ".join(judged.problems)[:200]))
        except AttemptFailed:
            return None
        except BudgetSpent as spent:
            await self.record(question, agent, "skipped", error_class=f"{spent.scope}_budget", detail=spent.detail)
        finally:
            breaker.abandoned()
        return None

    async def _try(self, step: _Step, breaker: Breaker) -> tuple[Completion, Judged]:
        """Ask one prompt of one agent, again in a moment when the failure is a passing one."""
        patience_s = LAST_PATIENCE_S if step.is_last else PATIENCE_S
        deadline = step.deadline(self._clock.monotonic())

        def is_over(state: RetryCallState) -> bool:
            wait_s = state.upcoming_sleep
            return wait_s > patience_s or self._clock.monotonic() + wait_s >= deadline

        tries = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, AttemptFailed) and error.is_transient),
            wait=_pause_s,
            stop=stop_after_attempt(MOST_TRIES) | is_over,
            sleep=self._clock.sleep,
            reraise=True,
        )
        async for attempt in tries:
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    await step.tell("restart", "the answer broke off; asking again")
                return await self._attempt(step, breaker, deadline)
        raise AssertionError("tenacity either returns or raises")

    async def _attempt(self, step: _Step, breaker: Breaker, deadline: float) -> tuple[Completion, Judged]:
        """Send one request, judge what comes back, and record both."""
        question, agent = step.question, step.agent
        request = CompletionRequest(
            agent, question.system, step.prompt, question.schema, question.request.max_output_tokens
        )
        worst = worst_case(request)
        started_ms, started = self._clock.now_ms(), self._clock.monotonic()

        def passed_ms() -> float:
            return (self._clock.monotonic() - started) * _MILLISECONDS

        async with self._budget.reserved(worst, question.purse):
            try:
                completion = await self._completion(request, deadline, step)
            except AttemptFailed as failure:
                self._remember_failure(agent, breaker, failure)
                await self.record(
                    question, agent, "failed", error_class=failure.kind, detail=failure.detail, status=failure.status,
                    started_ms=started_ms, duration_ms=passed_ms(), assumed=worst if failure.kind in MAYBE_BILLED else None,
                )  # fmt: skip
                raise
            except asyncio.CancelledError:
                # The vendor may go on working, and bills what it does.
                await asyncio.shield(
                    self.record(
                        question, agent, "failed", error_class="cancelled", started_ms=started_ms,
                        duration_ms=passed_ms(), assumed=worst,
                    )
                )  # fmt: skip
                raise
            breaker.succeeded()
            judged = judge(completion.text, question.form, _with_sources(question.evidence, completion))
            await self.record(
                question, agent, "invalid" if judged.problems else "answered",
                error_class="checks" if judged.problems else "", status=200, started_ms=started_ms,
                duration_ms=passed_ms(), completion=completion, problems=judged.problems,
            )  # fmt: skip
        return completion, judged

    async def _completion(self, request: CompletionRequest, deadline: float, step: _Step) -> Completion:
        if step.progress is None:
            return await self._client.complete(request, deadline)
        await step.tell("asking", f"asking {request.agent.name}")
        count = 0
        pieces = self._client.stream(request, deadline)
        async with aclosing(pieces):  # pyright: ignore[reportArgumentType]  generators, by the protocol's contract
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
                count += 1
                await step.tell("reasoning" if piece.is_reasoning else "text", piece.text, count)
        raise AttemptFailed("cut_stream", "the stream ended without its end")

    def _remember_failure(self, agent: Agent, breaker: Breaker, failure: AttemptFailed) -> None:
        if failure.kind in ACCOUNT:
            self._vendor_blocks[_account(agent)] = f"{failure.kind}: mend the account or key, then restart"
            breaker.block(self._vendor_blocks[_account(agent)])
        elif failure.kind not in ABOUT_THE_QUESTION:
            breaker.failed()
        if failure.retry_after_s is not None and failure.retry_after_s > PATIENCE_S:
            breaker.rest(failure.retry_after_s)

    def _slot(self, agent: Agent) -> asyncio.Semaphore:
        return self._slots.setdefault(_account(agent), asyncio.Semaphore(agent.concurrency))


@dataclass(frozen=True, slots=True)
class _Step:
    """One prompt for one agent."""

    question: Question
    agent: Agent
    prompt: str
    progress: Progress | None
    is_last: bool

    def deadline(self, now: float) -> float:
        """Return when this agent's time is over; while others wait it may not use all of it."""
        left_s = self.question.deadline - now
        return now + (left_s if self.is_last else left_s * _SHARE_OF_DEADLINE)

    async def tell(self, kind: Any, text: str, tokens: int = 0) -> None:
        """Report progress to whoever listens."""
        if self.progress is not None:
            await self.progress(AgentProgress(kind, self.agent.name, text, tokens))


def _pause_s(state: RetryCallState) -> float:
    """Return what the vendor asks for, else a random part of a growing pause."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, AttemptFailed) and failure.retry_after_s is not None:
        return failure.retry_after_s
    return float(_full_jitter(state))


def _account(agent: Agent) -> str:
    return agent.name if agent.vendor == "local" else agent.vendor


def _with_sources(evidence: Evidence, completion: Completion) -> Evidence:
    results = completion.search_results
    return Evidence(
        brief=evidence.brief,
        texts=evidence.texts,
        urls=[each.url for each in results],
        snippets=[f"{each.title} {each.snippet} {each.date}" for each in results],
    )
