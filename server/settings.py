"""All settings, read from the environment and `.env` here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agents.settings import AgentSettings, Limits, read_local_servers, read_models, read_routes
from engine.errors import BadRequest

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting has a default that works with no network, no key and no server but Bybit's public data."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
    )

    home: Path = Field(
        default_factory=lambda: user_data_path("bybit-strategy-tester", appauthor=False),
        validation_alias="BST_HOME",
        description="Folder of the database, caches and reports",
    )
    database_url: str | None = Field(
        None, validation_alias="DATABASE_URL", description="sqlite:///...; default: bst.sqlite in BST_HOME"
    )
    feed: Literal["bybit", "simulated"] = Field(
        "bybit", validation_alias="BST_FEED", description="Where market data comes from"
    )
    bybit_rest_url: str = Field(
        "https://api.bybit.com", validation_alias="BYBIT_REST_URL", description="REST base address"
    )
    bybit_ws_url: str = Field(
        "wss://stream.bybit.com", validation_alias="BYBIT_WS_URL", description="WebSocket base address"
    )
    requests_per_second: float = Field(
        20,
        ge=0,
        le=60,
        validation_alias="BST_REQUESTS_PER_SECOND",
        description="To the exchange; 0 lifts the limit (local exchange only)",
    )
    ban_seconds: float = Field(
        600,
        ge=1,
        le=86_400,
        validation_alias="BST_BAN_SECONDS",
        description="Silence after the exchange refused this address",
    )
    simulation_seed: int = Field(
        7, ge=0, validation_alias="BST_SIMULATION_SEED", description="Seed of the simulated feed"
    )
    search_max_points: int = Field(
        20_000,
        ge=1,
        le=1_000_000,
        validation_alias="BST_SEARCH_MAX_POINTS",
        description="Most evaluations of one search",
    )
    toolsets: Names = Field(
        ("all",), validation_alias="BST_TOOLSETS", description="all, core or family names, by comma"
    )
    tools: Names = Field(
        (),
        validation_alias="BST_TOOLS",
        description="Single tools to offer: alone only these, with BST_TOOLSETS besides those",
    )
    exclude_tools: Names = Field((), validation_alias="BST_EXCLUDE_TOOLS", description="Single tools to withhold")
    read_only: bool = Field(False, validation_alias="BST_READ_ONLY", description="Offer only tools that change nothing")
    http_token: SecretStr | None = Field(
        None, validation_alias="BST_HTTP_TOKEN", description="Bearer token of the HTTP transport"
    )
    deepseek_api_key: SecretStr | None = Field(
        None, validation_alias="DEEPSEEK_API_KEY", description="Key of DeepSeek; without one it is not asked"
    )
    deepseek_api_base: str | None = Field(
        None, validation_alias="DEEPSEEK_API_BASE", description="Base address of DeepSeek; default: the vendor's"
    )
    perplexity_api_key: SecretStr | None = Field(
        None, validation_alias="PERPLEXITY_API_KEY", description="Key of Perplexity; without one it is not asked"
    )
    perplexityai_api_key: SecretStr | None = Field(
        None, validation_alias="PERPLEXITYAI_API_KEY", description="The same under its other name; it wins"
    )
    perplexity_api_base: str | None = Field(
        None, validation_alias="PERPLEXITY_API_BASE", description="Base address of Perplexity; default: the vendor's"
    )
    copilot: bool = Field(
        False, validation_alias="BST_COPILOT", description="Ask GitHub Copilot too; needs `bst login copilot`"
    )
    copilot_api_base: str | None = Field(
        None,
        validation_alias="GITHUB_COPILOT_API_BASE",
        description="Base address of Copilot; default: as GitHub names it",
    )
    copilot_token_folder: Path | None = Field(
        None,
        validation_alias="GITHUB_COPILOT_TOKEN_DIR",
        description="Folder of Copilot's tokens; default: in BST_HOME",
    )
    local_agents: str = Field(
        "", validation_alias="BST_LOCAL_AGENTS", description="Own model servers: JSON list of {name, base_url, model}"
    )
    agent_models: str = Field(
        "", validation_alias="BST_AGENT_MODELS", description="Other models: JSON object of agent to model"
    )
    agent_routes: str = Field(
        "",
        validation_alias="BST_AGENT_ROUTES",
        description="Who is asked: JSON object of task to agents, or the path of a file with one",
    )
    agent_call_usd: float = Field(
        0.5, ge=0, validation_alias="BST_AGENT_CALL_USD", description="Most USD for one question"
    )
    agent_pipeline_usd: float = Field(
        3.0, ge=0, validation_alias="BST_AGENT_PIPELINE_USD", description="Most USD for one pipeline"
    )
    agent_day_usd: float = Field(
        10.0, ge=0, validation_alias="BST_AGENT_DAY_USD", description="Most USD for one UTC day"
    )
    agent_call_tokens: int = Field(
        400_000, ge=0, validation_alias="BST_AGENT_CALL_TOKENS", description="Most tokens for one question"
    )
    agent_pipeline_tokens: int = Field(
        2_000_000, ge=0, validation_alias="BST_AGENT_PIPELINE_TOKENS", description="Most tokens for one pipeline"
    )
    agent_day_tokens: int = Field(
        10_000_000, ge=0, validation_alias="BST_AGENT_DAY_TOKENS", description="Most tokens for one UTC day"
    )
    agent_deadline_s: float = Field(
        120.0,
        gt=0,
        le=600,
        validation_alias="BST_AGENT_DEADLINE_S",
        description="Seconds for one question over all attempts",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", validation_alias="BST_LOG_LEVEL", description="Log level, on stderr"
    )

    @field_validator("toolsets", "tools", "exclude_tools", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("home", mode="after")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @property
    def store_url(self) -> str:
        """Return the database address."""
        return self.database_url or f"sqlite:///{(self.home / 'bst.sqlite').as_posix()}"

    def told_to_worker(self) -> dict[str, object]:
        """Return what a process that computes jobs must know, as JSON; no key is among it."""
        secrets = {name for name, value in self if isinstance(value, SecretStr)}
        return self.model_dump(mode="json", exclude=secrets)

    def agents(self) -> AgentSettings:
        """Return what the agents must be told.

        Raises
        ------
        BadRequest
            When local servers, models or routes cannot be read.
        """
        return AgentSettings(
            deepseek_api_key=_revealed(self.deepseek_api_key),
            perplexity_api_key=_revealed(self.perplexityai_api_key) or _revealed(self.perplexity_api_key),
            deepseek_api_base=self.deepseek_api_base,
            perplexity_api_base=self.perplexity_api_base,
            copilot_api_base=self.copilot_api_base,
            is_copilot_enabled=self.copilot,
            copilot_token_folder=self.copilot_folder,
            local_servers=read_local_servers(self.local_agents) if self.local_agents else (),
            models=read_models(self.agent_models) if self.agent_models else {},
            routes=read_routes(_text_or_file(self.agent_routes)) if self.agent_routes else {},
            limits=Limits(
                call_usd=self.agent_call_usd,
                pipeline_usd=self.agent_pipeline_usd,
                day_usd=self.agent_day_usd,
                call_tokens=self.agent_call_tokens,
                pipeline_tokens=self.agent_pipeline_tokens,
                day_tokens=self.agent_day_tokens,
            ),
            deadline_s=self.agent_deadline_s,
        )

    @property
    def copilot_folder(self) -> Path:
        """Return where Copilot's tokens are kept."""
        return (self.copilot_token_folder or self.home / "copilot").expanduser()


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value() or None


def _text_or_file(given: str) -> str:
    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            "BST_AGENT_ROUTES is neither a JSON object nor a file that can be read",
            fix='give {"reason": ["deepseek"]} or the path of a JSON file',
        ) from error
