"""Money and tokens: reserved before a call on the worst case, settled after it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engine.agent_records import Spending

if TYPE_CHECKING:
    from agents.client import CompletionRequest
    from agents.memory import AgentMemory
    from agents.settings import Limits
    from engine.ports import Clock

DAY_MS = 86_400_000
# Bytes of text that make a token at the least; English has about four, Chinese and code fewer.
_BYTES_IN_A_TOKEN = 2.5
_TOKENS_OF_FORM = 100

Scope = Literal["call", "pipeline", "day"]


class BudgetSpent(Exception):
    """The next call could cost more than is left."""

    def __init__(self, scope: Scope, detail: str) -> None:
        super().__init__(detail)
        self.scope: Scope = scope
        self.detail = detail


@dataclass(slots=True)
class Purse:
    """What one question has cost so far: what counts against its limits, and what of it is known."""

    pipeline_id: str | None = None
    call_usd: float | None = None
    spent: Spending = field(default_factory=Spending)
    known: Spending = field(default_factory=Spending)

    def pay(self, cost_usd: float, tokens: int, *, is_known: bool) -> None:
        """Add what a call cost, or may have cost."""
        paid = Spending(cost_usd, tokens)
        self.spent = _sum(self.spent, paid)
        if is_known:
            self.known = _sum(self.known, paid)


class Budget:
    """Holds the limits for one question, one pipeline and one UTC day.

    Calls that run count with their worst case; several processes on one store see each other's finished calls only, so
    together they may pass a limit by what they have under way.
    """

    def __init__(self, limits: Limits, memory: AgentMemory, clock: Clock) -> None:
        self.limits = limits
        self._memory = memory
        self._clock = clock
        self._reserving = asyncio.Lock()
        self._reserved: defaultdict[str, Spending] = defaultdict(Spending)

    @asynccontextmanager
    async def reserved(self, worst: Spending, purse: Purse) -> AsyncGenerator[None]:
        """Hold the worst case of a call while it runs, or raise `BudgetSpent` before anything is sent."""
        scopes = ["day", *([f"pipeline {purse.pipeline_id}"] if purse.pipeline_id else [])]
        async with self._reserving:
            await self._check(worst, purse)
            for scope in scopes:
                self._reserved[scope] = _sum(self._reserved[scope], worst)
        try:
            yield
        finally:
            for scope in scopes:
                self._reserved[scope] = _sum(self._reserved[scope], worst, sign=-1)

    async def today(self) -> Spending:
        """Return what was spent this UTC day."""
        return await self._memory.agent_spending(self._clock.now_ms() // DAY_MS * DAY_MS)

    async def _check(self, worst: Spending, purse: Purse) -> None:
        limits = self.limits
        call_usd = limits.call_usd if purse.call_usd is None else min(limits.call_usd, purse.call_usd)
        _must_fit("call", _sum(purse.spent, worst), call_usd, limits.call_tokens)
        if purse.pipeline_id:
            spent = await self._memory.agent_spending(0, pipeline_id=purse.pipeline_id)
            together = _sum(_sum(spent, self._reserved[f"pipeline {purse.pipeline_id}"]), worst)
            _must_fit("pipeline", together, limits.pipeline_usd, limits.pipeline_tokens)
        together = _sum(_sum(await self.today(), self._reserved["day"]), worst)
        _must_fit("day", together, limits.day_usd, limits.day_tokens)


def worst_case(request: CompletionRequest) -> Spending:
    """Return the most that a call can cost: every byte of the question dear, every token of the answer used."""
    size_bytes = len(request.system.encode()) + len(request.prompt.encode())
    tokens_in = int(size_bytes / _BYTES_IN_A_TOKEN) + _TOKENS_OF_FORM
    agent = request.agent
    cost_usd = agent.price.cost_usd(tokens_in, request.max_output_tokens) + agent.fee_usd
    return Spending(cost_usd, tokens_in + request.max_output_tokens)


def _must_fit(scope: Scope, together: Spending, most_usd: float, most_tokens: int) -> None:
    # Sums of many small costs carry rounding errors; a budget is not exact to a billionth.
    if together.cost_usd > most_usd + 1e-9:
        told = f"this call could bring the {scope} to {together.cost_usd:.4g} USD, the limit is {most_usd:g}"
        raise BudgetSpent(scope, f"{told}: {setting_of(scope, 'USD')}")
    if together.tokens > most_tokens:
        told = f"this call could bring the {scope} to {together.tokens} tokens, the limit is {most_tokens}"
        raise BudgetSpent(scope, f"{told}: {setting_of(scope, 'TOKENS')}")


def setting_of(scope: Scope, unit: Literal["USD", "TOKENS"]) -> str:
    """Return the environment variable behind a limit."""
    own = " or the call's own max_cost_usd" if (scope, unit) == ("call", "USD") else ""
    return f"BST_AGENT_{scope.upper()}_{unit}{own}"


def _sum(first: Spending, second: Spending, *, sign: int = 1) -> Spending:
    return Spending(first.cost_usd + sign * second.cost_usd, first.tokens + sign * second.tokens)
