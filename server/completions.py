"""Completions for the arguments of prompts and resource templates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from mcp.types import Completion, CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference

from engine.errors import LabError
from server.pages import page_names

if TYPE_CHECKING:
    from server.lab_server import LabServer
    from server.lifespan import LabKeeper

logger = logging.getLogger(__name__)

# The protocol allows no more in one answer.
MOST_VALUES: Final = 100
Source = Callable[[str], Awaitable[Iterable[str]]]


def add_completions(server: LabServer, keeper: LabKeeper) -> None:
    """Answer completion requests by the name of the argument."""
    sources = Suggestions(keeper).sources

    async def complete(
        _reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _context: CompletionContext | None,
    ) -> Completion:
        source = sources.get(argument.name)
        if source is None:
            return Completion(values=[], total=0, has_more=False)
        try:
            known = await source(argument.value)
        except LabError as error:  # a suggestion is a courtesy; the call itself will tell
            logger.info("no completions for %s: %s", argument.name, error.message)
            known = ()
        return _best(known, argument.value)

    server.completion()(complete)


def _best(known: Iterable[str], typed: str) -> Completion:
    """Return what begins with the typed text, then what contains it."""
    wanted = typed.strip().lower()
    found = [name for name in dict.fromkeys(known) if wanted in name.lower()]
    found.sort(key=lambda name: not name.lower().startswith(wanted))
    return Completion(values=found[:MOST_VALUES], total=len(found), has_more=len(found) > MOST_VALUES)


class Suggestions:
    """Knows what could stand in each argument."""

    def __init__(self, keeper: LabKeeper) -> None:
        self._keeper = keeper
        self.sources: dict[str, Source] = {
            "symbol": self._symbols,
            "strategy": self._strategies,
            "name": self._strategies,
            "indicator": self._indicators,
            "metric": self._metrics,
            "page": self._pages,
            "run_id": self._runs,
            "job_id": self._jobs,
        }

    async def _symbols(self, typed: str) -> list[str]:
        lab = await self._keeper.lab()
        # Only what is stored already: typing must not ask the exchange.
        page = await lab.store.search_instruments(lab.feed.name, None, typed, limit=MOST_VALUES)
        return [instrument.symbol for instrument in page.items]

    async def _strategies(self, _typed: str) -> list[str]:
        return [item.name for item in await (await self._keeper.lab()).strategies.list()]

    async def _indicators(self, _typed: str) -> list[str]:
        lab = await self._keeper.lab()
        return [str(word["name"]) for word in lab.strategies.words("", None)]

    async def _metrics(self, _typed: str) -> list[str]:
        return await asyncio.to_thread(_metric_names)

    async def _pages(self, _typed: str) -> list[str]:
        return await asyncio.to_thread(page_names)

    async def _runs(self, _typed: str) -> list[str]:
        lab = await self._keeper.lab()
        return [run.id for run in (await lab.store.list_runs(limit=MOST_VALUES)).items]

    async def _jobs(self, _typed: str) -> list[str]:
        lab = await self._keeper.lab()
        return [job.id for job in (await lab.store.list_jobs(limit=MOST_VALUES)).items]


def _metric_names() -> list[str]:
    from engine.core.metrics import METRICS  # numpy and the numeric core, which listing tools must not load

    return list(METRICS)
