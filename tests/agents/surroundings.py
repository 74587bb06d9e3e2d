"""Clocks, a brief, and settings that lead to the scripted model server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from agents.scripted import Fault, FaultPlan, ServedModel
from agents.settings import AgentSettings, LocalServer

BRIEF: dict[str, Any] = {
    "sharpe": 1.2345,
    "max_drawdown_fraction": 0.2311,
    "trades": {"count": 128, "win_rate_fraction": 0.4375},
}
SOURCES = ({"url": "https://example.org/paper", "title": "A paper", "snippet": "Moving averages lag by 10 bars"},)
DEEPSEEK_KEY, PERPLEXITY_KEY = "sk-deepseek-secret-1", "pplx-perplexity-secret-2"


class RealClock:
    """Time as it passes."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class HurriedClock(RealClock):
    """Time as it passes, but pauses are short."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        await asyncio.sleep(min(seconds, 0.001))


class LeapingClock(HurriedClock):
    """Time as it passes and as far ahead as a test puts it: what follows a leap keeps its time on a slow machine."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class ManualClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1_000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


def settings_for(served: ServedModel, **changes: Any) -> AgentSettings:
    values: dict[str, Any] = {
        "deepseek_api_key": DEEPSEEK_KEY,
        "perplexity_api_key": PERPLEXITY_KEY,
        "deepseek_api_base": served.base_url("deepseek"),
        "perplexity_api_base": served.base_url("perplexity"),
        "local_servers": (LocalServer(name="attic", base_url=served.base_url("attic") + "/v1", model="tiny"),),
        "deadline_s": 120.0,
    }
    return AgentSettings(**{**values, **changes})


def plan(*faults: Fault) -> FaultPlan:
    return FaultPlan(faults=faults)
