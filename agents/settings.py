"""What the agents must be told: keys, addresses, models and limits. Nothing here is read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from engine.errors import BadRequest

DEFAULT_MODELS: Mapping[str, str] = {
    "deepseek": "deepseek/deepseek-v4-pro",
    "deepseek-fast": "deepseek/deepseek-flash",
    "perplexity": "perplexity/preset/low",
    "perplexity-fast": "perplexity/preset/fast",
    "copilot": "github_copilot/gpt-5-mini",
}


class LocalServer(BaseModel):
    """A server on this machine or network that speaks OpenAI's chat format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    base_url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1, max_length=200)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be spent.

    Attributes
    ----------
    call_usd, pipeline_usd, day_usd : float
        USD for one question (all its attempts), for one pipeline, for one UTC day.
    call_tokens, pipeline_tokens, day_tokens : int
        The same in tokens, in and out together; they hold for free local models too.
    """

    call_usd: float = 0.50
    pipeline_usd: float = 3.0
    day_usd: float = 10.0
    call_tokens: int = 400_000
    pipeline_tokens: int = 2_000_000
    day_tokens: int = 10_000_000


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Keys, addresses, models, limits. A key that is None or empty means the agent is not configured.

    Attributes
    ----------
    deepseek_api_key, perplexity_api_key : str, optional
        DEEPSEEK_API_KEY; PERPLEXITYAI_API_KEY, then PERPLEXITY_API_KEY.
    deepseek_api_base, perplexity_api_base, copilot_api_base : str, optional
        DEEPSEEK_API_BASE, PERPLEXITY_API_BASE, GITHUB_COPILOT_API_BASE; the vendor's address when None.
    is_copilot_enabled : bool
        BST_COPILOT: the agent is used only when asked for, and only after `bst login copilot`.
    copilot_token_folder : Path, optional
        GITHUB_COPILOT_TOKEN_DIR; where the login keeps its tokens.
    local_servers : tuple of LocalServer
        BST_LOCAL_AGENTS, read with `read_local_servers`.
    models : mapping of agent name to model name
        BST_AGENT_MODELS (JSON object); overrides `DEFAULT_MODELS`.
    routes : mapping of task to agent names
        BST_AGENT_ROUTES (JSON object, or the path of a JSON file); overrides `agents.routing.DEFAULT_ROUTES`.
    limits : Limits
        BST_AGENT_CALL_USD, BST_AGENT_PIPELINE_USD, BST_AGENT_DAY_USD and the same with _TOKENS.
    deadline_s : float
        BST_AGENT_DEADLINE_S: total time of one question over all attempts and agents.
    """

    deepseek_api_key: str | None = field(default=None, repr=False)
    perplexity_api_key: str | None = field(default=None, repr=False)
    deepseek_api_base: str | None = None
    perplexity_api_base: str | None = None
    copilot_api_base: str | None = None
    is_copilot_enabled: bool = False
    copilot_token_folder: Path | None = None
    local_servers: tuple[LocalServer, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    limits: Limits = Limits()
    deadline_s: float = 120.0

    def secrets(self) -> tuple[str, ...]:
        """Return every key, for redaction."""
        return tuple(key for key in (self.deepseek_api_key, self.perplexity_api_key) if key)


_SERVERS = TypeAdapter(tuple[LocalServer, ...])
_MODELS = TypeAdapter(dict[str, str])
_ROUTES = TypeAdapter(dict[str, tuple[str, ...]])


def read_local_servers(text: str) -> tuple[LocalServer, ...]:
    """Return the servers of a JSON list of {name, base_url, model}."""
    try:
        servers = _SERVERS.validate_json(text)
    except ValidationError as error:
        raise BadRequest(
            f"BST_LOCAL_AGENTS cannot be read: {_first(error)}",
            fix='give a JSON list such as [{"name": "ollama", "base_url": "http://127.0.0.1:11434/v1", "model": "qwen3"}]',
        ) from error
    names = [server.name for server in servers]
    taken = {name for name in names if names.count(name) > 1} | (set(names) & {*DEFAULT_MODELS, "host"})
    if taken:
        raise BadRequest(
            f"BST_LOCAL_AGENTS uses a name twice or one that is taken: {sorted(taken)}",
            fix="give each server its own name",
        )
    return servers


def read_models(text: str) -> Mapping[str, str]:
    """Return model names by agent from a JSON object; unknown agents are refused by name."""
    try:
        models = _MODELS.validate_json(text)
    except ValidationError as error:
        raise BadRequest(
            f"BST_AGENT_MODELS cannot be read: {_first(error)}",
            fix='give a JSON object such as {"deepseek": "deepseek/deepseek-v4-pro"}',
        ) from error
    if unknown := sorted(set(models) - set(DEFAULT_MODELS)):
        raise BadRequest(
            f"BST_AGENT_MODELS names an unknown agent {unknown[0]!r}", fix=f"agents are {', '.join(DEFAULT_MODELS)}"
        )
    return models


def read_routes(text: str) -> Mapping[str, tuple[str, ...]]:
    """Return a routing table from JSON, an object of task type to agent names."""
    try:
        return _ROUTES.validate_json(text)
    except ValidationError as error:
        raise BadRequest(
            f"the routing table cannot be read: {_first(error)}",
            fix='give a JSON object such as {"reason": ["deepseek", "perplexity"]}',
        ) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'text'}: {first['msg']}"
