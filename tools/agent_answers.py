"""How an agent's answer is shown, by every tool that asks one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from agents.questions import RoutedAnswer


class AgentAttempt(BaseModel):
    """One attempt to get an agent's answer."""

    agent: str
    outcome: str
    status: int | None
    ms: float
    tokens: int | None
    cost_usd: float | None = Field(description="null: not told by the vendor, which may bill up to reserved_usd")
    reserved_usd: float = 0.0
    why: str = ""


class RouteTaken(BaseModel):
    """Who was to be asked, in order, and why."""

    task: str
    rule: str
    agents: list[str]


def attempts_of(routed: RoutedAnswer) -> list[AgentAttempt]:
    """Return the attempts as they are shown."""
    return [
        AgentAttempt(
            agent=one.agent,
            outcome=one.outcome,
            status=one.status,
            ms=one.ms,
            tokens=one.tokens,
            cost_usd=one.cost_usd,
            reserved_usd=one.reserved_usd,
            why=one.why or one.error_class,
        )
        for one in routed.attempts
    ]


def route_of(routed: RoutedAnswer) -> RouteTaken:
    """Return the route as it is shown."""
    return RouteTaken(task=routed.route.task, rule=routed.route.rule, agents=list(routed.route.agents))
