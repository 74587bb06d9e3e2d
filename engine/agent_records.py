"""What is remembered of the agents' work: attempts, answers, hand-ins, pipeline steps. Plain records, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CallOutcome = Literal["answered", "invalid", "failed", "skipped"]
SubmissionState = Literal["open", "answered"]
StepState = Literal["finished", "failed", "delegated"]


@dataclass(frozen=True, slots=True)
class AgentCall:
    """One attempt at one agent, or one reason why none was made.

    Attributes
    ----------
    id, question_id, number : str, str, int
        This row; the question it belongs to; its place among the attempts at that question, from 1.
    at_ms : int
        Beginning, milliseconds UTC.
    task, purpose : str
        Task type; the tool, command or step that asked.
    pipeline_id, step : str, optional
        The pipeline it was part of.
    outcome : CallOutcome
        What came of it; `invalid` is an answer that did not pass the checks (and was paid for).
    error_class, detail, http_status
        Why not; the vendor's text shortened and without keys.
    duration_ms, first_token_ms : float
        How long it took.
    cost_usd, cost_source : float, str
        `provider`: named in the answer; `price_list`: tokens times our list; `estimate`: the worst case, because it is
        not known whether the vendor bills; `none`: free or not sent.
    question_hash : str
        SHA-256 of instructions and question; the text itself is not kept.
    """

    id: str
    question_id: str
    number: int
    at_ms: int
    task: str
    purpose: str
    pipeline_id: str | None
    step: str | None
    agent: str
    vendor: str
    requested_model: str
    served_model: str
    outcome: CallOutcome
    error_class: str
    detail: str
    http_status: int | None
    duration_ms: float
    first_token_ms: float | None
    tokens_in: int
    tokens_out: int
    tokens_reasoning: int
    tokens_cached: int
    cost_usd: float
    cost_source: str
    rule: str
    prompt_version: str
    question_hash: str


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent: USD, and tokens in and out together."""

    cost_usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """What one agent did since some time."""

    agent: str
    attempts: int
    answered: int
    invalid: int
    failed: int
    tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A checked answer that may be given again until `expires_ms`."""

    key: str
    created_ms: int
    expires_ms: int
    task: str
    agent: str
    served_model: str
    text: str
    search_results: tuple[Mapping[str, str], ...]
    cost_usd: float


@dataclass(frozen=True, slots=True)
class CacheSize:
    """How much the answer cache holds."""

    answers: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A question handed to the calling model, and its answer once it has come."""

    id: str
    created_ms: int
    question_id: str
    task: str
    purpose: str
    schema_name: str
    question: str
    brief: Any
    state: SubmissionState = "open"
    answer: Any = None
    answered_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PipelineStep:
    """One step of a pipeline as it ended; a pipeline goes on after its last finished step."""

    pipeline_id: str
    number: int
    name: str
    pipeline: str
    state: StepState
    at_ms: int
    input_hash: str
    output: Any
    agent: str
    served_model: str
    attempts: int
    cost_usd: float
    tokens: int
