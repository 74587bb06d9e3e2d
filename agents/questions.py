"""What is asked of the router and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from agents.client import CostSource, SearchResult

if TYPE_CHECKING:
    from agents.breaker import BreakerState
    from agents.routing import Route
    from engine.agent_records import AgentUsage, CacheSize, CallOutcome, Spending
    from engine.ports import Clock

AnswerStatus = Literal["answered", "delegated"]
ProgressKind = Literal["asking", "text", "reasoning", "again", "restart", "next_agent", "cached"]


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One question.

    Attributes
    ----------
    prompt : str
        The question of a person or of a tool. Texts of third parties belong into `brief` or `context`.
    task : str, optional
        reason, research, explain, code, document or audit; classified from the prompt when left out.
    context : str
        Text the question is about: code, a selection, somebody else's answer. Data, never instruction.
    agent : str, optional
        Only this agent (then the host); `host` delegates at once.
    schema : type of BaseModel, optional
        Form of the answer (`agents.answers`); plain text when left out.
    brief : any JSON value
        Facts computed by the engine. Every figure of the answer must come from here, the prompt or the context. Texts of
        third parties inside it are cleaned.
    instructions : str
        Our own further instructions (from a prompt file), part of the system text.
    prompt_version : str
        Name and version of the prompt file behind `instructions`.
    purpose : str
        The tool, command or step that asks, for the audit trail.
    pipeline_id, step : str, optional
        The pipeline that this is a step of; its budget counts.
    deadline_s : float, optional
        Seconds for everything together; the setting's when left out.
    no_cache : bool
        Ask even if the answer is known.
    max_cost_usd : float, optional
        For this question; the setting's limit holds as well.
    max_output_tokens : int
        Most tokens of one answer, reasoning included.
    """

    prompt: str
    task: str | None = None
    context: str = ""
    agent: str | None = None
    schema: type[BaseModel] | None = None
    brief: Any = None
    instructions: str = ""
    prompt_version: str = ""
    purpose: str = "ask_agents"
    pipeline_id: str | None = None
    step: str | None = None
    deadline_s: float | None = None
    no_cache: bool = False
    max_cost_usd: float | None = None
    max_output_tokens: int = 8_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as the answer shows it; the audit trail holds the same and more.

    Attributes
    ----------
    status : int, optional
        What the server sent; None when none answered.
    tokens, cost_usd : int, float, optional
        What the vendor reported, or the price list makes of it; None when the vendor said nothing and may bill.
    reserved_usd : float
        Then: the most it can come to, which the budgets count.
    why : str
        What failed or was wrong with it.
    """

    agent: str
    requested_model: str
    served_model: str
    outcome: CallOutcome
    error_class: str
    status: int | None
    ms: float
    tokens: int | None
    cost_usd: float | None
    cost_source: CostSource
    problems: tuple[str, ...] = ()
    reserved_usd: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class RoutedAnswer:
    """What came of a question.

    Attributes
    ----------
    status : {"answered", "delegated"}
        `delegated` when no agent could answer: then the calling model answers with `instructions` and `output_schema` and
        hands its answer in under `submission_id`. There is never an invented text.
    agent, served_model : str
        Who answered; `host` when delegated or handed in.
    answer : str or BaseModel, optional
        Checked text, or an instance of the form asked for.
    attempts : tuple of Attempt
        Every attempt in order.
    cached : bool
        Whether the answer was known; then it cost nothing.
    route : Route
        Task, rule and agents.
    cost_usd, tokens : float, int
        Of all attempts together, as far as it is known.
    search_results : tuple of SearchResult
        The sources the agent found.
    notes : tuple of str
        What a reader must know: answered from memory, account notices, why nobody answered.
    """

    status: AnswerStatus
    agent: str
    served_model: str
    answer: str | BaseModel | None
    attempts: tuple[Attempt, ...]
    cached: bool
    route: Route
    cost_usd: float
    tokens: int
    duration_ms: float
    question_id: str
    search_results: tuple[SearchResult, ...] = ()
    notes: tuple[str, ...] = ()
    instructions: str = ""
    output_schema: Mapping[str, Any] | None = None
    submission_id: str | None = None


@dataclass(frozen=True, slots=True)
class AgentProgress:
    """Something that happened on the way to an answer.

    Attributes
    ----------
    kind : ProgressKind
        `text` and `reasoning` are pieces on their way, not checked and never a result; after `again`, `restart` or
        `next_agent` the pieces before do not count any more.
    agent : str
        Who is at it.
    text : str
        The piece, or what happened in words.
    tokens : int
        Pieces so far, a lower bound of the tokens.
    """

    kind: ProgressKind
    agent: str
    text: str = ""
    tokens: int = 0


Progress = Callable[[AgentProgress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent as `list_agents` shows it."""

    name: str
    model: str
    is_usable: bool
    reason: str
    breaker: BreakerState
    free_in_s: float
    searches: bool
    notice: str
    input_usd_per_million: float
    output_usd_per_million: float


@dataclass(frozen=True, slots=True)
class RouterState:
    """Everything that `list_agents` shows."""

    agents: tuple[AgentState, ...]
    routes: Mapping[str, tuple[str, ...]]
    spent_today: Spending
    day_usd: float
    day_tokens: int
    usage_today: Sequence[AgentUsage]
    cache: CacheSize
    is_library_ready: bool
    limits: Mapping[str, float] = field(default_factory=dict[str, float])


def throttled(progress: Progress, clock: Clock, *, per_second: float = 4.0) -> Progress:
    """Return a listener that hears at most so many pieces a second; what is not a piece always gets through."""
    last_s = -1.0 / per_second

    async def listen(event: AgentProgress) -> None:
        nonlocal last_s
        now_s = clock.monotonic()
        if event.kind in {"text", "reasoning"}:
            if now_s - last_s < 1.0 / per_second:
                return
            last_s = now_s
        await progress(event)

    return listen
