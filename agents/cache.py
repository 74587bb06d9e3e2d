"""Answers given again: addressed by everything that could change them, asked for once at a time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agents.client import SearchResult
from engine.agent_records import CachedAnswer

if TYPE_CHECKING:
    from agents.client import Completion
    from agents.memory import AgentMemory
    from agents.providers import Agent
    from agents.routing import Task
    from engine.ports import Clock

# Changes whenever the meaning of a stored answer does: checks, composition of questions, routes.
CACHE_VERSION = 1
_HOUR_MS = 3_600_000
TIME_TO_LIVE_MS: Mapping[Task, int] = {
    "explain": 30 * 24 * _HOUR_MS,
    "reason": 7 * 24 * _HOUR_MS,
    "code": 7 * 24 * _HOUR_MS,
    "document": 7 * 24 * _HOUR_MS,
    "audit": 7 * 24 * _HOUR_MS,
    "research": 6 * _HOUR_MS,
}


def answer_key(agent: Agent, system: str, prompt: str, schema: Mapping[str, Any] | None, max_output_tokens: int) -> str:
    """Return the address of an answer: SHA-256 of everything that went into it."""
    everything = {
        "version": CACHE_VERSION,
        "agent": agent.name,
        "model": agent.model,
        "thinking": agent.thinking,
        "base_url": agent.base_url,
        "system": system,
        "prompt": prompt,
        "schema": schema,
        "max_output_tokens": max_output_tokens,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class AnswerCache:
    """Reads and keeps answers, and lets one question at a time be asked under a key."""

    def __init__(self, memory: AgentMemory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    async def find(self, keys: list[str]) -> CachedAnswer | None:
        """Return the first answer in the order of the keys."""
        found = await self._memory.cached_answers(keys, self._clock.now_ms())
        return next((found[key] for key in keys if key in found), None)

    async def keep(self, key: str, task: Task, agent: Agent, completion: Completion) -> None:
        """Keep an answer that has passed its checks."""
        now_ms = self._clock.now_ms()
        results = tuple(
            {"url": each.url, "title": each.title, "snippet": each.snippet, "date": each.date}
            for each in completion.search_results
        )
        await self._memory.keep_answer(
            CachedAnswer(
                key=key,
                created_ms=now_ms,
                expires_ms=now_ms + TIME_TO_LIVE_MS[task],
                task=task,
                agent=agent.name,
                served_model=completion.served_model,
                text=completion.text,
                search_results=results,
                cost_usd=completion.cost_usd,
            )
        )

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncGenerator[None]:
        """Wait until nobody else asks the same; whoever waited finds the answer in the cache."""
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns[key]
            if users == 1:
                del self._turns[key]
            else:
                self._turns[key] = (lock, users - 1)


def search_results_of(answer: CachedAnswer) -> tuple[SearchResult, ...]:
    """Return the sources stored with an answer."""
    return tuple(SearchResult(**each) for each in answer.search_results)
