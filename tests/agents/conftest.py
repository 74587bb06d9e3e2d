"""A scripted model server on a real port, and routers that reach it through LiteLLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agents import llm
from agents.memory import MemoryInProcess
from agents.router import Router, build_router
from agents.scripted import ScriptedModel, ServedModel, serve
from agents.settings import AgentSettings
from tests.agents.surroundings import SOURCES, HurriedClock, settings_for


@pytest.fixture(scope="session")
def port() -> Iterator[ServedModel]:
    with serve(ScriptedModel()) as served:
        yield served


@pytest.fixture
def scripted(port: ServedModel) -> ServedModel:
    """Return the server as if it were new: answers honestly, breaks nothing, remembers nothing."""
    port.model.restart()
    port.model.search_results = SOURCES
    return port


@pytest.fixture
def settings(scripted: ServedModel) -> AgentSettings:
    return settings_for(scripted)


RouterMaker = Callable[..., Router]


@pytest.fixture
async def make_router(scripted: ServedModel) -> AsyncIterator[RouterMaker]:
    """Return a maker of routers whose connections are closed at the end."""
    # However slow the machine, loading the library costs no question its deadline.
    await llm.ready()
    made: list[Router] = []

    def make(memory: Any = None, clock: Any = None, **changes: Any) -> Router:
        router = build_router(settings_for(scripted, **changes), memory or MemoryInProcess(), clock or HurriedClock())
        made.append(router)
        return router

    yield make
    for router in made:
        await router.close()
