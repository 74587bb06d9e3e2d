"""Everything a tool may use, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.core.series import Source
from engine.errors import LabError

if TYPE_CHECKING:  # the engine's working parts are heavy; naming them must not import them
    from pathlib import Path

    from agents.pipelines.runner import PipelineRunner
    from agents.questions import AskRequest, Progress, RoutedAnswer
    from agents.router import Router
    from engine.analysis import Analyses
    from engine.backfill import Backfill
    from engine.backtests import Backtests, Holdouts
    from engine.history import History
    from engine.instruments import Instruments
    from engine.jobs import Jobs
    from engine.ports import Clock, Feed
    from engine.searches.searches import Searches
    from engine.store import Store
    from engine.strategies import Strategies
    from engine.studies import Studies
    from engine.verdicts import Examinations, Verdicts


_ANSWERERS: dict[Source, str] = {
    "bybit": "Bybit answers",
    "simulated": "a simulated exchange answers",
    "replay": "an exchange that replays local files answers",
}


def describe_answerer(feed: Feed) -> str:
    """Say who answered last: the answers tell, not the settings."""
    told = _ANSWERERS.get(feed.source, f"{feed.source} answers")
    return told if feed.source == feed.name else f"{told} at this address"


class Analyst(Protocol):
    """Whoever answers questions about briefs: the router of the agents."""

    async def ask(self, request: AskRequest, progress: Progress | None = None) -> RoutedAnswer:
        """Return a checked answer, or the question delegated to the calling model."""
        ...


@dataclass(frozen=True, slots=True)
class Lab:
    """The opened laboratory: one feed, one store, one job runner, and what stands on them.

    `feed` shows nothing of a sealed holdout; only `backfill` has the exchange itself, and it shows no candle to anybody.
    """

    version: str
    home: Path
    clock: Clock
    feed: Feed
    store: Store
    backfill: Backfill
    instruments: Instruments
    history: History
    strategies: Strategies
    studies: Studies
    backtests: Backtests
    searches: Searches
    holdouts: Holdouts
    verdicts: Verdicts
    examinations: Examinations
    jobs: Jobs
    analyses: Analyses
    router: Router
    pipelines: PipelineRunner
    analyst: Analyst | None = None

    async def check_health(self, *, exchange: bool) -> list[tuple[str, bool, str]]:
        """Return (part, works, detail) of each part; the exchange only when asked, as it may take seconds."""
        running = (await self.jobs.list(states=("queued", "running"), limit=1)).total
        parts = [("database", *await self._database_state()), ("jobs", True, f"{running} queued or running")]
        if exchange:
            parts.append(("exchange", *await self._exchange_state()))
        return parts

    async def _database_state(self) -> tuple[bool, str]:
        try:
            await self.store.ping()
        except LabError as error:
            return False, error.message
        return True, "answers"

    async def _exchange_state(self) -> tuple[bool, str]:
        try:
            skew_ms = await self.feed.server_time_ms() - self.clock.now_ms()
        except LabError as error:
            return False, error.message
        return True, f"{describe_answerer(self.feed)}; its clock is {skew_ms} ms ahead of ours"
