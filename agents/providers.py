"""The agents as data: who they are, what they cost, how they are asked. Model names are settings with today's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agents.copilot import chosen_model, is_logged_in
from agents.settings import DEFAULT_MODELS, AgentSettings, LocalServer

Vendor = Literal["deepseek", "perplexity", "copilot", "local"]
Thinking = Literal["off", "on", "high", "max"]
HOST = "host"

COPILOT_NOTICE = (
    "Copilot is reached through an undocumented address with an editor's identity; several projects consider that outside "
    "its terms, and it may cost the account. It is billed in credits and used only when asked for."
)


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, at the dearest hour."""

    input_usd: float
    output_usd: float
    cached_input_usd: float

    def cost_usd(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> float:
        """Return what this many tokens cost at most."""
        fresh = max(0, tokens_in - tokens_cached)
        return (
            fresh * self.input_usd + tokens_cached * self.cached_input_usd + tokens_out * self.output_usd
        ) / 1_000_000


FREE = Price(0.0, 0.0, 0.0)
# For models without a row below: dear enough that a budget holds.
UNKNOWN_PRICE = Price(5.0, 25.0, 5.0)
# Vendors' price pages, November 2026; Perplexity names the cost in every answer, so its rows serve the estimate only.
PRICES: Mapping[str, Price] = {
    "deepseek/deepseek-v4-pro": Price(1.32, 3.96, 0.044),
    "deepseek/deepseek-flash": Price(0.30, 1.20, 0.006),
    "perplexity/preset/fast": Price(1.0, 1.0, 1.0),
    "perplexity/preset/low": Price(3.0, 15.0, 3.0),
    "github_copilot/claude-sonnet-5.5": Price(2.0, 10.0, 0.10),
    "github_copilot/claude-haiku-5.5": Price(0.5, 2.5, 0.05),
}
# A web search is billed by request, besides tokens.
SEARCH_FEE_USD = 0.012


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent.

    Attributes
    ----------
    name : str
        As in routes, arguments and the audit trail.
    vendor : Vendor
        Whose account pays; agents of one vendor share its connections and its refusals.
    model : str
        As LiteLLM names it.
    thinking : Thinking
        How long the model may reason before it answers.
    searches : bool
        Whether it looks at the web; the others answer from memory, which research answers say.
    price : Price
        For estimates, and for costs that the vendor does not name.
    fee_usd : float
        Added per request in estimates.
    concurrency : int
        Most requests at a time to this vendor.
    base_url, api_key : str, optional
        Where and with what.
    unusable_because : str
        Empty when the agent can be asked; otherwise what is missing and how to mend it.
    notice : str
        What a user must know before choosing it.
    """

    name: str
    vendor: Vendor
    model: str
    thinking: Thinking = "off"
    searches: bool = False
    price: Price = FREE
    fee_usd: float = 0.0
    concurrency: int = 2
    base_url: str | None = None
    api_key: str | None = None
    unusable_because: str = ""
    notice: str = ""

    def __repr__(self) -> str:
        """Return the name and model; never the key."""
        return f"Agent(name={self.name!r}, model={self.model!r})"

    @property
    def is_usable(self) -> bool:
        """Return whether everything needed to ask it is there."""
        return not self.unusable_because

    @property
    def sends_schema(self) -> bool:
        """Return whether the vendor takes a JSON schema; DeepSeek refuses one (its documentation, JSON output)."""
        return self.vendor != "deepseek"


def agents_of(settings: AgentSettings) -> dict[str, Agent]:
    """Return every agent by name, usable or not, in the order in which they are shown."""
    found = [_deepseek(settings, "deepseek", "high"), _deepseek(settings, "deepseek-fast", "off")]
    found += [_perplexity(settings, "perplexity"), _perplexity(settings, "perplexity-fast")]
    found += [_local(server) for server in settings.local_servers]
    found.append(_copilot(settings))
    return {agent.name: agent for agent in found}


def model_of(settings: AgentSettings, name: str) -> str:
    """Return the model that an agent is asked for."""
    return settings.models.get(name) or DEFAULT_MODELS.get(name, "")


def _deepseek(settings: AgentSettings, name: str, thinking: Thinking) -> Agent:
    model = model_of(settings, name)
    return Agent(
        name=name,
        vendor="deepseek",
        model=model,
        thinking=thinking,
        price=PRICES.get(model, UNKNOWN_PRICE),
        concurrency=8,
        base_url=settings.deepseek_api_base,
        api_key=settings.deepseek_api_key,
        unusable_because="" if settings.deepseek_api_key else "no key: set DEEPSEEK_API_KEY",
    )


def _perplexity(settings: AgentSettings, name: str) -> Agent:
    model = model_of(settings, name)
    return Agent(
        name=name,
        vendor="perplexity",
        model=model,
        searches=True,
        price=PRICES.get(model, UNKNOWN_PRICE),
        fee_usd=SEARCH_FEE_USD,
        concurrency=3,
        base_url=settings.perplexity_api_base,
        api_key=settings.perplexity_api_key,
        unusable_because="" if settings.perplexity_api_key else "no key: set PERPLEXITY_API_KEY",
    )


def _copilot(settings: AgentSettings) -> Agent:
    folder = settings.copilot_token_folder
    named = settings.models.get("copilot") or (chosen_model(folder) if folder else None)
    model = f"github_copilot/{named.removeprefix('github_copilot/')}" if named else ""
    reason = ""
    if not settings.is_copilot_enabled:
        reason = "switched off: set BST_COPILOT=1 after reading its notice"
    elif folder is None or not is_logged_in(folder):
        reason = "not logged in: run `bst login copilot`"
    elif not model:
        reason = "no model chosen: run `bst login copilot`, or name one in BST_AGENT_MODELS"
    return Agent(
        name="copilot",
        vendor="copilot",
        model=model,
        price=PRICES.get(model, UNKNOWN_PRICE),
        concurrency=1,
        base_url=settings.copilot_api_base,
        unusable_because=reason,
        notice=COPILOT_NOTICE,
    )


def _local(server: LocalServer) -> Agent:
    return Agent(
        name=server.name,
        vendor="local",
        model=f"openai/{server.model}",
        base_url=server.base_url,
        # Servers at home take any key, but the client library insists on one.
        api_key="local",
        concurrency=2,
    )
