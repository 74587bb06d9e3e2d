"""The one way to an agent's answer: cache, route, attempts, checks, and the calling model when nobody else answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agents import llm
from agents.answers import form_named, schema_of
from agents.budget import Budget, Purse
from agents.cache import AnswerCache, answer_key, search_results_of
from agents.checks import Evidence, judge
from agents.fallback import Accepted, ClientNotReady, Fallback, Question
from agents.prompting import (
    MOST_CONTEXT_CHARACTERS,
    MOST_PROMPT_CHARACTERS,
    prompt_text,
    prompt_version,
    system_text,
    user_text,
)
from agents.providers import HOST, Agent, agents_of
from agents.questions import AgentProgress, AgentState, AskRequest, Progress, RoutedAnswer, RouterState
from agents.routing import LOCAL, Route, Task, checked_task, classify, read_table
from engine.agent_records import Submission
from engine.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from agents.client import AgentClient
    from agents.memory import AgentMemory
    from agents.settings import AgentSettings
    from engine.ports import Clock

_MILLISECONDS = 1_000.0
_DAY_MS = 86_400_000
_TEXT_FORM = "text"


class Router:
    """Routes questions to agents.

    Parameters
    ----------
    settings : AgentSettings
        Keys, models, routes, limits.
    memory : AgentMemory
        Audit trail, cache, hand-ins.
    clock : Clock
        Time.
    client : AgentClient
        Who does the asking.
    """

    def __init__(self, settings: AgentSettings, memory: AgentMemory, clock: Clock, client: AgentClient) -> None:
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._client = client
        self._agents = agents_of(settings)
        self._table = read_table(settings.routes, list(self._agents))
        self._budget = Budget(settings.limits, memory, clock)
        self._cache = AnswerCache(memory, clock)
        self._fallback = Fallback(client, memory, self._budget, clock)
        self._asked_again: set[str] = set()

    @property
    def has_agents(self) -> bool:
        """Return whether any agent is configured; without one, every question is delegated."""
        return any(agent.is_usable for agent in self._agents.values())

    @property
    def can_answer(self) -> bool:
        """Return whether an agent could be asked now: one is configured, and its breaker lets it."""
        agents = [agent for agent in self._agents.values() if agent.is_usable]
        return any(self._fallback.breaker(agent).state in {"closed", "half_open"} for agent in agents)

    def warm_up(self) -> None:
        """Begin loading the client library in the background if any agent is configured."""
        if self.has_agents:
            llm.warm_up()

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def ask(self, request: AskRequest, progress: Progress | None = None) -> RoutedAnswer:
        """Return an agent's checked answer, or the question delegated to the calling model.

        Raises
        ------
        BadRequest
            When the question is empty or too long, or names an unknown task or agent.
        """
        started = self._clock.monotonic()
        question = self._question(request, started)
        chain = [self._agents[name] for name in question.route.agents]
        answer = await self._answer(question, chain, progress)
        return replace(answer, duration_ms=round((self._clock.monotonic() - started) * _MILLISECONDS, 3))

    async def submit(self, submission_id: str, answer: Any) -> RoutedAnswer:
        """Check and keep the calling model's answer to a delegated question.

        Raises
        ------
        NotFound
            When the id is unknown.
        Conflict
            When it has been answered.
        BadRequest
            When the answer does not pass; `fix` lists the problems.
        """
        submission = await self._memory.submission(submission_id)
        form = None if submission.schema_name == _TEXT_FORM else form_named(submission.schema_name)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        evidence = Evidence(brief=submission.brief, texts=[submission.question], urls=None)
        judged = judge(text, form, evidence)
        if judged.value is None:
            raise BadRequest("the answer was refused", fix="; ".join(judged.problems))
        if judged.unchecked and submission_id not in self._asked_again:
            # As an agent would be: asked again once, then taken with a mark.
            self._asked_again.add(submission_id)
            fix = f"{'; '.join(judged.complaints)}; handed in once more it is kept, with a note that they are unchecked"
            raise BadRequest("the answer holds figures that nothing supports", fix=fix)
        stored = judged.value.model_dump(mode="json") if isinstance(judged.value, BaseModel) else judged.value
        await self._memory.answer_submission(submission_id, stored, self._clock.now_ms())
        task = checked_task(submission.task)
        return RoutedAnswer(
            status="answered",
            agent=HOST,
            served_model="",
            answer=judged.value,
            attempts=(),
            cached=False,
            route=Route(task, "handed in by the calling model", ()),
            cost_usd=0.0,
            tokens=0,
            duration_ms=0.0,
            question_id=submission.question_id,
            notes=tuple(
                filter(
                    None,
                    ("addresses in this answer were not checked: the calling model did its own search", judged.note),
                )
            ),
            submission_id=submission_id,
        )

    async def state(self) -> RouterState:
        """Return agents, routes, spending and cache as they stand."""
        limits = self._settings.limits
        return RouterState(
            agents=tuple(self._state_of(agent) for agent in self._agents.values()),
            routes={task: (*self._expanded(names), HOST) for task, names in self._table.items()},
            spent_today=await self._budget.today(),
            day_usd=limits.day_usd,
            day_tokens=limits.day_tokens,
            usage_today=await self._memory.agent_usage(self._clock.now_ms() // _DAY_MS * _DAY_MS),
            cache=await self._memory.agent_cache_size(),
            is_library_ready=llm.is_ready(),
            limits={"call_usd": limits.call_usd, "pipeline_usd": limits.pipeline_usd, "day_usd": limits.day_usd},
        )

    def route(self, request: AskRequest) -> Route:
        """Return who would be asked."""
        if request.task is not None:
            task, rule = checked_task(request.task), "task given by the caller"
        else:
            task, rule = classify(request.prompt)
        if request.agent is None:
            names = self._expanded(self._table[task])
        elif request.agent == HOST:
            names = []
        elif request.agent in self._agents:
            names, rule = [request.agent], f"{rule}; agent given by the caller"
        else:
            known = ", ".join([*self._agents, HOST])
            raise BadRequest(f"unknown agent {request.agent!r}", fix=f"agent is one of {known}, or left out")
        usable = tuple(name for name in names if self._agents[name].is_usable)
        unusable = {name: reason for name in names if (reason := self._agents[name].unusable_because)}
        return Route(task, rule, usable, unusable)

    def _expanded(self, names: Sequence[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            servers = [agent.name for agent in self._agents.values() if agent.vendor == "local"]
            found += servers if name == LOCAL else [] if name == HOST else [name]
        return list(dict.fromkeys(found))

    def _state_of(self, agent: Agent) -> AgentState:
        breaker = self._fallback.breaker(agent)
        return AgentState(
            name=agent.name,
            model=agent.model,
            is_usable=agent.is_usable and not breaker.blocked_because,
            reason=agent.unusable_because or breaker.blocked_because,
            breaker=breaker.state,
            free_in_s=round(breaker.closes_in_s, 1),
            searches=agent.searches,
            notice=agent.notice,
            input_usd_per_million=agent.price.input_usd,
            output_usd_per_million=agent.price.output_usd,
        )

    def _question(self, request: AskRequest, started: float) -> Question:
        _check_length(request)
        route = self.route(request)
        schema = None if request.schema is None else schema_of(request.schema)
        system = system_text(route.task, instructions=request.instructions, is_structured=schema is not None)
        prompt = user_text(request.prompt, brief=request.brief, context=request.context, schema=schema)
        deadline_s = self._settings.deadline_s if request.deadline_s is None else request.deadline_s
        version = request.prompt_version or prompt_version(f"task-{route.task}")
        return Question(
            id="ask_" + secrets.token_hex(8),
            request=replace(request, prompt_version=version),
            route=route,
            system=system,
            prompt=prompt,
            schema=schema,
            evidence=Evidence(brief=request.brief, texts=[request.prompt, request.context]),
            deadline=started + deadline_s,
            purse=Purse(request.pipeline_id, request.max_cost_usd),
            hash=hashlib.sha256(f"{system}\n{prompt}".encode()).hexdigest(),
        )

    async def _answer(self, question: Question, chain: list[Agent], progress: Progress | None) -> RoutedAnswer:
        if not chain:
            return await self._delegated(question)
        tokens = question.request.max_output_tokens
        keys = [answer_key(agent, question.system, question.prompt, question.schema, tokens) for agent in chain]
        if question.request.no_cache:
            return await self._asked(question, chain, keys, progress)
        try:
            async with asyncio.timeout(max(0.0, question.deadline - self._clock.monotonic())) as waiting:
                async with self._cache.turn(keys[0]):
                    known = await self._known(question, keys)
                    if known is not None:
                        if progress:
                            await progress(AgentProgress("cached", known.agent))
                        return known
                    # From here on the attempts keep the deadline themselves.
                    waiting.reschedule(None)
                    return await self._asked(question, chain, keys, progress)
        except TimeoutError:
            return await self._delegated(question, "the same question was still being asked at the deadline")

    async def _known(self, question: Question, keys: list[str]) -> RoutedAnswer | None:
        found = await self._cache.find(keys)
        if found is None:
            return None
        results = search_results_of(found)
        evidence = replace(
            question.evidence,
            urls=[each.url for each in results],
            snippets=[f"{each.title} {each.snippet} {each.date}" for each in results],
        )
        judged = judge(found.text, question.form, evidence)
        if judged.value is None:
            return None
        agent = self._agents[found.agent]
        return RoutedAnswer(
            status="answered",
            agent=found.agent,
            served_model=found.served_model,
            answer=judged.value,
            attempts=(),
            cached=True,
            route=question.route,
            cost_usd=0.0,
            tokens=0,
            duration_ms=0.0,
            question_id=question.id,
            search_results=results,
            notes=_notes(agent, question.route.task, judged.note),
        )

    async def _asked(
        self, question: Question, chain: list[Agent], keys: list[str], progress: Progress | None
    ) -> RoutedAnswer:
        try:
            accepted = await self._fallback.answer(question, chain, progress)
        except ClientNotReady as late:
            return await self._delegated(question, str(late))
        if accepted is None:
            return await self._delegated(question)
        await self._cache.keep(
            keys[chain.index(accepted.agent)], question.route.task, accepted.agent, accepted.completion
        )
        return _routed(question, accepted)

    async def _delegated(self, question: Question, note: str = "") -> RoutedAnswer:
        """Hand the question to the calling model, with everything it needs to answer."""
        request = question.request
        submission_id = "sub_" + secrets.token_hex(8)
        await self._memory.add_submission(
            Submission(
                id=submission_id,
                created_ms=self._clock.now_ms(),
                question_id=question.id,
                task=question.route.task,
                purpose=request.purpose,
                schema_name=request.schema.__name__ if request.schema else _TEXT_FORM,
                question="\n\n".join(filter(None, (request.prompt, request.context))),
                brief=request.brief,
            )
        )
        reasons = [f"{name}: {reason}" for name, reason in question.route.unusable.items()]
        reasons += [f"{each.agent}: {each.error_class}: {each.why}".removesuffix(": ") for each in question.attempts]
        hand_out = "delegated" if request.brief is not None else "delegated-free"
        parts = [prompt_text(hand_out), prompt_text(f"task-{question.route.task}"), request.instructions]
        return RoutedAnswer(
            status="delegated",
            agent=HOST,
            served_model="",
            answer=None,
            attempts=tuple(question.attempts),
            cached=False,
            route=question.route,
            cost_usd=question.purse.known.cost_usd,
            tokens=question.purse.known.tokens,
            duration_ms=0.0,
            question_id=question.id,
            notes=tuple(filter(None, (note, *dict.fromkeys(reasons)))),
            instructions="\n\n".join(part for part in parts if part),
            output_schema=question.schema,
            submission_id=submission_id,
        )


def _check_length(request: AskRequest) -> None:
    if not request.prompt.strip():
        raise BadRequest("the question is empty", fix="give prompt")
    for name, text, most in (
        ("prompt", request.prompt, MOST_PROMPT_CHARACTERS),
        ("context", request.context, MOST_CONTEXT_CHARACTERS),
    ):
        if len(text) > most:
            raise TooLarge(f"{name} has {len(text)} characters, at most {most} are sent", fix=f"shorten {name}")


def build_router(
    settings: AgentSettings, memory: AgentMemory, clock: Clock, client: AgentClient | None = None
) -> Router:
    """Return a router over LiteLLM, or over another client."""
    return Router(settings, memory, clock, client or llm.LiteLLMClient(settings, clock))


def _routed(question: Question, accepted: Accepted) -> RoutedAnswer:
    return RoutedAnswer(
        status="answered",
        agent=accepted.agent.name,
        served_model=accepted.completion.served_model,
        answer=accepted.judged.value,
        attempts=tuple(question.attempts),
        cached=False,
        route=question.route,
        cost_usd=question.purse.known.cost_usd,
        tokens=question.purse.known.tokens,
        duration_ms=0.0,
        question_id=question.id,
        search_results=accepted.completion.search_results,
        notes=_notes(accepted.agent, question.route.task, accepted.judged.note),
    )


def _notes(agent: Agent, task: Task, unchecked: str) -> tuple[str, ...]:
    ungrounded = "answered from memory, without looking at the web" if task == "research" and not agent.searches else ""
    return tuple(filter(None, (unchecked, ungrounded, agent.notice)))
