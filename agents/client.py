"""How a model is asked, whoever serves it: the request, the answer, its pieces, and the ways to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from agents.providers import Agent

Role = Literal["system", "user"]
CostSource = Literal["provider", "price_list", "estimate", "none"]

FailureKind = Literal[
    "missing_key",
    "authentication",
    "payment",
    "permission",
    "model_not_found",
    "bad_request",
    "context_window",
    "content_policy",
    "quota",
    "rate_limited",
    "server",
    "overloaded",
    "timeout",
    "unreachable",
    "connection",
    "cut_stream",
    "bad_payload",
    "failed_run",
]

# Worth asking the same agent again. A timeout has eaten the time for that, an unreachable server will not be there in a
# second either: both go to the next agent at once.
TRANSIENT: frozenset[FailureKind] = frozenset(
    ("rate_limited", "server", "overloaded", "connection", "cut_stream", "bad_payload", "failed_run")
)
# Somebody must change the account or its key before this vendor can answer anything.
ACCOUNT: frozenset[FailureKind] = frozenset(("missing_key", "authentication", "payment", "permission", "quota"))
# The question is at fault, not the agent, so its breaker does not count them.
ABOUT_THE_QUESTION: frozenset[FailureKind] = frozenset(("bad_request", "context_window", "content_policy"))
# Whether the vendor worked (and bills) is not known, so the budget assumes it did.
MAYBE_BILLED: frozenset[FailureKind] = frozenset(("timeout", "connection", "cut_stream", "bad_payload", "failed_run"))


class AttemptFailed(Exception):
    """One attempt at one agent came to nothing; the router decides what happens next, so nobody else sees this.

    Parameters
    ----------
    kind : FailureKind
        What to do about it is decided by kind alone.
    detail : str
        For the audit trail: the vendor's text, shortened, without keys.
    status : int, optional
        HTTP status.
    retry_after_s : float, optional
        Seconds the vendor asks us to wait.
    """

    def __init__(
        self, kind: FailureKind, detail: str = "", *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind: FailureKind = kind
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_transient(self) -> bool:
        """Return whether the same agent may answer the same question in a moment."""
        return self.kind in TRANSIENT


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One source that an agent found and names."""

    url: str
    title: str = ""
    snippet: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; reasoning is part of out, cached part of in."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    tokens_cached: int = 0

    @property
    def total(self) -> int:
        """Return all tokens."""
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One question to one agent.

    Attributes
    ----------
    agent : Agent
        Who is asked.
    system, prompt : str
        Our instructions; the question with its data.
    schema : mapping, optional
        JSON schema of the answer; the client asks for JSON in whatever way the vendor understands.
    max_output_tokens : int
        Most tokens to write, reasoning included.
    """

    agent: Agent
    system: str
    prompt: str
    schema: Mapping[str, Any] | None = None
    max_output_tokens: int = 8_000


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer on its way; reasoning is not part of the answer."""

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    text: str
    served_model: str
    usage: Usage = Usage()
    cost_usd: float = 0.0
    cost_source: CostSource = "none"
    search_results: tuple[SearchResult, ...] = field(default=())
    first_token_ms: float | None = None


class AgentClient(Protocol):
    """Asks models. Raises `AttemptFailed` and nothing else (but cancellation)."""

    async def ready(self) -> None:
        """Wait until a call would begin at once, so that loading costs no agent its time."""
        ...

    async def complete(self, request: CompletionRequest, deadline: float) -> Completion:
        """Return the whole answer; `deadline` is a time of the clock's `monotonic`."""
        ...

    def stream(self, request: CompletionRequest, deadline: float) -> AsyncIterator[Delta | Completion]:
        """Yield pieces as they come and the whole answer last; a stream that ends without it has failed."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
