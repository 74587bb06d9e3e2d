"""The agents themselves: ask them, run their pipelines, see their state, hand in what they left to the calling model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from agents.questions import AskRequest, RoutedAnswer
from engine.core.series import Series, clean_symbol
from engine.core.timeframes import parse_interval
from engine.errors import LabError, NotFound
from tools.agent_answers import AgentAttempt, RouteTaken, attempts_of, route_of
from tools.agent_streaming import Streaming
from tools.declare import LabHandle, ProgressHandle, tool
from tools.lab import Lab

if TYPE_CHECKING:
    from engine.jobs import JobView

# A direct answer has 45 s; what takes longer is asked for again and goes on meanwhile.
ASKING_SECONDS = 40.0
PIPELINE_SECONDS = 38.0
_LOOK_SECONDS = 1.0
_EXCHANGE_SECONDS = 3.0

TaskName = Literal["reason", "research", "explain", "code", "document", "audit"]
PipelineName = Literal["code-review", "strategy-development", "refactor-with-audit", "research-loop"]


class AgentAnswer(BaseModel):
    """An agent's checked answer, or the question handed back to the calling model."""

    status: Literal["answered", "delegated"] = Field(
        description="delegated: answer by instructions and output_schema, then submit_analysis"
    )
    agent: str
    served_model: str
    answer: str | dict[str, Any] | None
    attempts: list[AgentAttempt]
    cached: bool
    route: RouteTaken
    cost_usd: float
    sources: list[dict[str, str]] = []
    notes: list[str] = []
    brief: dict[str, Any] | None = Field(default=None, description="Facts of the runs named")
    instructions: str | None = None
    output_schema: dict[str, Any] | None = None
    submission_id: str | None = None


@tool("writes", core=True, third_party_text=True)
async def ask_agents(
    prompt: Annotated[str, Field(min_length=1, max_length=40_000)],
    task: Annotated[TaskName | None, Field(description="Default: told by the prompt")] = None,
    context: Annotated[str, Field(max_length=100_000, description="Material")] = "",
    run_ids: Annotated[list[str], Field(max_length=4, description="Facts to add")] = [],  # noqa: B006
    agent: Annotated[str | None, Field(max_length=32, description="Only this one")] = None,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AgentAnswer:
    """Ask another model (DeepSeek, Perplexity ...); without any you answer."""
    brief = await _facts(lab, run_ids)
    streaming = Streaming(progress)
    routed = await lab.router.ask(
        AskRequest(prompt=prompt, task=task, context=context, agent=agent, brief=brief, deadline_s=ASKING_SECONDS),
        streaming.hear,
    )
    await streaming.finish()
    return _answer(routed, brief)


class PipelineStepShown(BaseModel):
    """One step as it stands."""

    number: int
    name: str
    state: Literal["finished", "delegated"]
    agent: str = Field(description="server: computed by tools; host: the calling model")
    served_model: str
    attempts: int
    cost_usd: float
    tokens: int
    output: dict[str, Any] | None


class PipelineAnswer(BaseModel):
    """A pipeline's steps with agent and cost of each."""

    status: Literal["finished", "delegated", "running", "failed"]
    job_id: str
    pipeline_id: str
    name: str
    steps: list[PipelineStepShown]
    cost_usd: float
    tokens: int
    message: str
    next: str
    delegated: dict[str, Any] | None = Field(
        default=None, description="A step for you: answer it, then submit_analysis"
    )
    error: dict[str, Any] | None = None


@tool("writes", core=True, asks_exchange=True, third_party_text=True)
async def run_pipeline(
    name: PipelineName,
    input: Annotated[  # noqa: A002  the name is contract
        dict[str, Any],
        Field(
            description="{code, file?, wish?}, {idea}; research-loop: {idea, symbol, start, end, interval?, study?, sealed?}"
        ),
    ],
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> PipelineAnswer:
    """Run a chain of steps as a job, on after its last finished step; call again with the same input while it runs."""
    request = lab.pipelines.request(name, input)
    if name == "research-loop":
        await _refuse_unknown_market(lab, request["input"])
    job = await lab.jobs.submit("pipeline", request)
    looks = int(PIPELINE_SECONDS / _LOOK_SECONDS)
    for _ in range(looks):
        told = job.progress or {}
        await progress(float(told.get("pages_done", 0)), told.get("pages_total"), told.get("message") or name)
        if job.is_over:
            break
        job = await lab.jobs.wait(job.id, _LOOK_SECONDS)
    return await _pipeline_answer(lab, job)


async def _refuse_unknown_market(lab: Lab, given: dict[str, Any]) -> None:
    """Raise `NotFound` for a symbol that neither the exchange nor the store knows, before an agent is paid to think about it."""
    category, symbol = given["category"], clean_symbol(given["symbol"])
    try:
        async with asyncio.timeout(_EXCHANGE_SECONDS):
            await lab.instruments.find(category, symbol)
    except NotFound:
        series = Series(lab.feed.name, category, symbol, "trade", parse_interval(given["interval"]))
        if not await lab.store.coverage(series):
            raise
    except (LabError, TimeoutError):
        return  # without an exchange the run itself finds out


class AgentShown(BaseModel):
    """One agent."""

    name: str
    model: str
    usable: bool
    reason: str = Field(description="Why not, and how to mend it")
    breaker: str
    free_in_s: float
    searches: bool
    usd_per_million: list[float] = Field(description="In, out")
    attempts_today: int
    answered_today: int
    tokens_today: int
    cost_usd_today: float
    notice: str


class AgentsShown(BaseModel):
    """The agents, who is asked for what, and what was spent."""

    items: list[AgentShown]
    routes: dict[str, list[str]] = Field(description="In order; host is the calling model")
    spent_today_usd: float
    spent_today_tokens: int
    limits: dict[str, float]
    cached_answers: int
    library_ready: bool


@tool("reads")
async def list_agents(*, lab: LabHandle) -> AgentsShown:
    """List agents with state, breaker, routing table, usage, cost and budgets of this UTC day."""
    state = await lab.router.state()
    usage = {each.agent: each for each in state.usage_today}
    items = [
        AgentShown(
            name=each.name,
            model=each.model,
            usable=each.is_usable,
            reason=each.reason,
            breaker=each.breaker,
            free_in_s=each.free_in_s,
            searches=each.searches,
            usd_per_million=[each.input_usd_per_million, each.output_usd_per_million],
            attempts_today=used.attempts if (used := usage.get(each.name)) else 0,
            answered_today=used.answered if used else 0,
            tokens_today=used.tokens if used else 0,
            cost_usd_today=used.cost_usd if used else 0.0,
            notice=each.notice,
        )
        for each in state.agents
    ]
    return AgentsShown(
        items=items,
        routes={task: list(names) for task, names in state.routes.items()},
        spent_today_usd=state.spent_today.cost_usd,
        spent_today_tokens=state.spent_today.tokens,
        limits={**state.limits, "day_tokens": float(state.day_tokens)},
        cached_answers=state.cache.answers,
        library_ready=state.is_library_ready,
    )


class HandedIn(BaseModel):
    """An answer that passed the checks and is stored."""

    status: Literal["answered"]
    submission_id: str
    answer: str | dict[str, Any]
    notes: list[str]
    job_id: str | None = Field(default=None, description="The pipeline that goes on with it")
    next: str


@tool("writes")
async def submit_analysis(
    submission_id: Annotated[str, Field(pattern=r"^sub_[0-9a-f]{16}$", description="Of the delegated answer")],
    answer: Annotated[str | dict[str, Any], Field(description="By its output_schema; text without one")],
    *,
    lab: LabHandle,
) -> HandedIn:
    """Hand in your answer to a delegated question. Figures must come from its brief, like any agent's."""
    from agents import pipelines  # registers the forms of answers that pipelines ask for

    del pipelines
    routed = await lab.router.submit(submission_id, answer)
    request = await lab.pipelines.request_of_submission(submission_id)
    job = None if request is None else await lab.jobs.submit("pipeline", request)
    follow = "tell the user" if request is None else f'run_pipeline with name "{request["name"]}" and the same input'
    return HandedIn(
        status="answered",
        submission_id=submission_id,
        answer=_plain(routed) or "",
        notes=list(routed.notes),
        job_id=None if job is None else job.id,
        next=follow,
    )


async def _facts(lab: Lab, run_ids: list[str]) -> dict[str, Any] | None:
    """Return what the engine knows of the runs named, as data for the question."""
    if not run_ids:
        return None
    return {"runs": [await lab.backtests.card(run_id, 0) for run_id in dict.fromkeys(run_ids)]}


def _answer(routed: RoutedAnswer, brief: dict[str, Any] | None) -> AgentAnswer:
    is_delegated = routed.status == "delegated"
    return AgentAnswer(
        status=routed.status,
        agent=routed.agent,
        served_model=routed.served_model,
        answer=_plain(routed),
        attempts=attempts_of(routed),
        cached=routed.cached,
        route=route_of(routed),
        cost_usd=routed.cost_usd,
        sources=[{"url": each.url, "title": each.title, "date": each.date} for each in routed.search_results],
        notes=list(routed.notes),
        brief=brief if is_delegated else None,
        instructions=routed.instructions if is_delegated else None,
        output_schema=dict(routed.output_schema) if routed.output_schema else None,
        submission_id=routed.submission_id,
    )


def _plain(routed: RoutedAnswer) -> str | dict[str, Any] | None:
    answer = routed.answer
    return answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer


async def _pipeline_answer(lab: Lab, job: JobView) -> PipelineAnswer:
    if job.state != "done":
        return _unfinished(job, await lab.pipelines.steps_of(str(job.request["pipeline_id"])))
    result = dict(await lab.jobs.result(job.id))
    follow = {
        "finished": "tell the user what came of it",
        "delegated": "answer delegated.question from its brief and the input, then submit_analysis, then run_pipeline again",
        "failed": "mend what error.fix says; the same input goes on after its finished steps, a changed one begins anew",
    }[str(result["status"])]
    return PipelineAnswer(job_id=job.id, message=f"{len(result['steps'])} steps", next=follow, **result)


def _unfinished(job: JobView, steps: list[dict[str, Any]]) -> PipelineAnswer:
    is_over = job.is_over
    return PipelineAnswer(
        status="failed" if is_over else "running",
        job_id=job.id,
        pipeline_id=str(job.request["pipeline_id"]),
        name=str(job.request["name"]),
        steps=[PipelineStepShown(**step) for step in steps],
        cost_usd=sum(step["cost_usd"] for step in steps),
        tokens=sum(step["tokens"] for step in steps),
        message=str((job.progress or {}).get("message") or job.state),
        next="run_pipeline again: finished steps are kept" if is_over else "run_pipeline again with the same input",
        error=None if job.error is None else dict(job.error),
    )
