"""One agent after another: attempts with retries inside a deadline, checks, re-asks, and a record of everything."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base

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
UNREACHABLE_REST_S = 10.0
# One agent may use this share of the time that is left while others wait behind it.
_SHARE_OF_DEADLINE = 0.6
_MILLISECONDS = 1_000.0
_LONGEST_DETAIL = 800
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
    judged: Judged


class ClientNotReady(Exception):
    """The client library is not there by the deadline, or cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt.

    Attributes
    ----------
    assumed : Spending, optional
        The worst case, when it is not known whether the vendor bills.
    """

    outcome: CallOutcome
    error_class: str = ""
    detail: str = ""
    status: int | None = None
    completion: Completion | None = None
    assumed: Spending | None = None
    problems: tuple[str, ...] = ()
    started_ms: int | None = None
    duration_ms: float = 0.0

    @property
    def usage(self) -> Usage:
        """Return the tokens, assumed ones counted as read."""
        if self.completion:
            return self.completion.usage
        return Usage(tokens_in=self.assumed.tokens if self.assumed else 0)

    @property
    def cost_usd(self) -> float:
        """Return the cost, named, calculated or assumed."""
        if self.completion:
            return self.completion.cost_usd
        return self.assumed.cost_usd if self.assumed else 0.0

    @property
    def cost_source(self) -> CostSource:
        """Return where the cost comes from."""
        if self.completion:
            return self.completion.cost_source
        return "estimate" if self.assumed else "none"

    @property
    def served_model(self) -> str:
        """Return who says it answered."""
        return self.completion.served_model if self.completion else ""


class _Timing:
    """When an attempt began and how long it has taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_ms, self._started = clock.now_ms(), clock.monotonic()

    def of(self, result: Result) -> Result:
        """Return the result with its times."""
        passed_ms = (self._clock.monotonic() - self._started) * _MILLISECONDS
        return replace(result, started_ms=self._started_ms, duration_ms=passed_ms)


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
        self._rests_until: dict[str, float] = {}
        self._places: dict[str, asyncio.Semaphore] = {}

    def breaker(self, agent: Agent) -> Breaker:
        """Return the breaker of an agent, blocked when its vendor's account is."""
        breaker = self._breakers.setdefault(agent.name, Breaker(self._clock))
        if (reason := self._vendor_blocks.get(_account(agent))) and not breaker.blocked_because:
            breaker.block(reason)
        breaker.rest(self._rests_until.get(_account(agent), 0.0) - self._clock.monotonic())
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

    async def record(self, question: Question, agent: Agent, result: Result) -> None:
        """Keep one attempt in the audit trail and show it in the answer; its cost leaves the purse."""
        question.purse.pay(result.cost_usd, result.usage.total, is_known=result.assumed is None)
        question.attempts.append(_shown(agent, result))
        await self._memory.add_agent_call(_row(question, agent, result, self._clock.now_ms()))

    async def _ask_one(
        self, question: Question, agent: Agent, progress: Progress | None, *, is_last: bool
    ) -> Accepted | None:
        """Ask one agent until its answer passes, it fails for good, or it has been re-asked often enough."""
        breaker = self.breaker(agent)
        if not breaker.allows():
            reason = breaker.blocked_because or f"left alone for {breaker.closes_in_s:.0f} s after failures"
            await self.record(question, agent, Result("skipped", f"breaker_{breaker.state}", reason))
            return None
        prompt = question.prompt
        marked: Accepted | None = None
        try:
            async with self._place(agent, question.deadline):
                for re_asked in range(MOST_RE_ASKS + 1):
                    step = _Step(question, agent, prompt, progress, is_last=is_last, is_marked=marked is not None)
                    completion, judged = await self._try(step, breaker)
                    if judged.value is not None:
                        # Figures that nothing can be held against are asked about once; then the answer is given marked.
                        accepted = Accepted(agent, completion, judged)
                        if not judged.unchecked or marked is not None:
                            return accepted
                        marked = accepted
                    prompt = asked_again(question.prompt, completion.text, judged.complaints)
                    if progress and re_asked < MOST_RE_ASKS:
                        await progress(AgentProgress("again", agent.name, "; ".join(judged.complaints)[:200]))
        except AttemptFailed:
            return marked
        except TimeoutError:
            detail = f"all {agent.concurrency} connections to it were busy until the deadline"
            await self.record(question, agent, Result("skipped", "busy", detail))
        except BudgetSpent as spent:
            await self.record(question, agent, Result("skipped", f"{spent.scope}_budget", spent.detail))
        finally:
            breaker.abandoned()
        return marked

    async def _try(self, step: _Step, breaker: Breaker) -> tuple[Completion, Judged]:
        """Ask one prompt of one agent, again in a moment when the failure is a passing one."""
        patience_s = LAST_PATIENCE_S if step.is_last else PATIENCE_S
        deadline = step.deadline(self._clock.monotonic())

        tries = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, AttemptFailed) and error.is_transient),
            wait=_pause_s,
            stop=stop_after_attempt(MOST_TRIES) | _PatienceEnds(self._clock, breaker, patience_s, deadline),
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
        async with self._budget.reserved(worst, question.purse):
            deadline = max(deadline, await self._loaded(step))
            timing = _Timing(self._clock)
            try:
                completion = await self._completion(request, deadline, step)
            except AttemptFailed as failure:
                self._remember_failure(agent, breaker, failure)
                assumed = worst if failure.kind in MAYBE_BILLED else None
                result = Result("failed", failure.kind, failure.detail, failure.status, assumed=assumed)
                await self.record(question, agent, timing.of(result))
                raise
            except asyncio.CancelledError:
                # The vendor may go on working, and bills what it does.
                result = timing.of(Result("failed", "cancelled", assumed=worst))
                await asyncio.shield(self.record(question, agent, result))
                raise
            breaker.succeeded()
            judged = judge(completion.text, question.form, _with_sources(question.evidence, completion))
            result = Result("answered", status=200, completion=completion)
            if judged.problems or (judged.unchecked and not step.is_marked):
                result = Result("invalid", "checks", status=200, completion=completion, problems=judged.complaints)
            await self.record(question, agent, timing.of(result))
        return completion, judged

    async def _loaded(self, step: _Step) -> float:
        """Wait for the client library, which nobody needs before a request is sent; return when the step's time is over."""
        try:
            async with asyncio.timeout(max(0.0, step.question.deadline - self._clock.monotonic())):
                await self._client.ready()
        except TimeoutError as error:
            raise ClientNotReady("the client library was still being loaded; ask again") from error
        except AttemptFailed as failure:
            raise ClientNotReady(failure.detail) from failure
        return step.deadline(self._clock.monotonic())

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
        if failure.kind == "unreachable":
            # Nobody listens there: no reason to find that out again for every agent and question.
            self._rests_until[_account(agent)] = self._clock.monotonic() + UNREACHABLE_REST_S
        if failure.retry_after_s is not None and failure.retry_after_s > PATIENCE_S:
            breaker.rest(failure.retry_after_s)

    @asynccontextmanager
    async def _place(self, agent: Agent, deadline: float) -> AsyncGenerator[None]:
        """Hold one of the connections to a vendor, or raise `TimeoutError` when none becomes free in time."""
        places = self._places.setdefault(_account(agent), asyncio.Semaphore(agent.concurrency))
        async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
            await places.acquire()
        try:
            yield
        finally:
            places.release()


@dataclass(frozen=True, slots=True)
class _Step:
    """One prompt for one agent."""

    question: Question
    agent: Agent
    prompt: str
    progress: Progress | None
    is_last: bool
    is_marked: bool = False

    def deadline(self, now: float) -> float:
        """Return when this agent's time is over; while others wait it may not use all of it."""
        left_s = self.question.deadline - now
        return now + (left_s if self.is_last else left_s * _SHARE_OF_DEADLINE)

    async def tell(self, kind: Any, text: str, tokens: int = 0) -> None:
        """Report progress to whoever listens."""
        if self.progress is not None:
            await self.progress(AgentProgress(kind, self.agent.name, text, tokens))


def _shown(agent: Agent, result: Result) -> Attempt:
    is_known = result.assumed is None
    return Attempt(
        agent=agent.name,
        requested_model=agent.model,
        served_model=result.served_model,
        outcome=result.outcome,
        error_class=result.error_class,
        status=result.status,
        ms=round(result.duration_ms, 3),
        tokens=result.usage.total if is_known else None,
        cost_usd=result.cost_usd if is_known else None,
        cost_source=result.cost_source,
        problems=result.problems,
        reserved_usd=0.0 if is_known else result.cost_usd,
        why=" | ".join(result.problems)[:_LONGEST_DETAIL] or (result.detail if result.outcome == "skipped" else ""),
    )


def _row(question: Question, agent: Agent, result: Result, now_ms: int) -> AgentCall:
    request, usage = question.request, result.usage
    return AgentCall(
        id="call_" + secrets.token_hex(8),
        question_id=question.id,
        number=len(question.attempts),
        at_ms=now_ms if result.started_ms is None else result.started_ms,
        task=question.route.task,
        purpose=request.purpose,
        pipeline_id=request.pipeline_id,
        step=request.step,
        agent=agent.name,
        vendor=agent.vendor,
        requested_model=agent.model,
        served_model=result.served_model,
        outcome=result.outcome,
        error_class=result.error_class,
        detail=result.detail or " | ".join(result.problems)[:_LONGEST_DETAIL],
        http_status=result.status,
        duration_ms=result.duration_ms,
        first_token_ms=result.completion.first_token_ms if result.completion else None,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        tokens_reasoning=usage.tokens_reasoning,
        tokens_cached=usage.tokens_cached,
        cost_usd=result.cost_usd,
        cost_source=result.cost_source,
        rule=question.route.rule,
        prompt_version=request.prompt_version,
        question_hash=question.hash,
    )


class _PatienceEnds(stop_base):
    """Stops when the breaker has opened, when the next pause is too long, or when it ends after the deadline."""

    def __init__(self, clock: Clock, breaker: Breaker, patience_s: float, deadline: float) -> None:
        self._clock = clock
        self._breaker = breaker
        self._patience_s = patience_s
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Return whether to give up."""
        pause_s = retry_state.upcoming_sleep
        if self._breaker.state == "open" and self._breaker.closes_in_s > pause_s:
            return True
        return pause_s > self._patience_s or self._clock.monotonic() + pause_s >= self._deadline


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
