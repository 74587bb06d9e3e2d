"""All settings, read from the environment and `.env` here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

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
