"""What the engine asks of the outside: a clock, a feed, processes for heavy work, and a memory for limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from engine.core.candles import Candles
from engine.core.markets import FundingRate, Instrument, LongShortRatio, OpenInterest, OrderBook, RiskTier, Ticker
from engine.core.series import Category, FeedName, Series, Source

SampleInterval = Literal["5min", "15min", "30min", "1h", "4h", "1d"]


class Clock(Protocol):
    """Time as an argument, so that tests can own it."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class CandlePage:
    """One answered window of candles: closed, validated, ascending, unique, inside the window asked for.

    Attributes
    ----------
    candles : Candles
    source : Source
        Who answered.
    server_time_ms : int
        The exchange's clock at the answer; closedness was decided by it.
    complete_until_ms : int
        Every closed bar of the window that opens before this time is in `candles` or does not exist.
        Smaller than the window's end when the page came short or its last bars are not closed yet.
    notes : tuple of str
        Quality remarks (rows dropped, repeats, conflicts), for people.
    """

    candles: Candles
    source: Source
    server_time_ms: int
    complete_until_ms: int
    notes: tuple[str, ...] = ()


class Feed(Protocol):
    """Where market data but candles comes from. Every method raises only `engine.errors`."""

    name: FeedName

    @property
    def source(self) -> Source:
        """Return who answered last; before any answer, who is expected to."""
        ...

    async def server_time_ms(self) -> int:
        """Return the exchange's clock."""
        ...

    async def instruments(self, category: Category, symbol: str | None = None) -> list[Instrument]:
        """Return the instruments that trade (all pages), or the one asked for in whatever state; empty when unknown."""
        ...

    async def ticker(self, category: Category, symbol: str) -> Ticker:
        """Return the latest figures."""
        ...

    async def order_book(self, category: Category, symbol: str, depth: int) -> OrderBook:
        """Return the best `depth` levels a side."""
        ...

    async def funding_history(
        self, category: Category, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> list[FundingRate]:
        """Return the newest `limit` settlements in [start_ms, end_ms), ascending, over as many pages as needed."""
        ...

    async def open_interest(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[OpenInterest]:
        """Return the newest `limit` samples in [start_ms, end_ms), ascending."""
        ...

    async def long_short_ratio(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[LongShortRatio]:
        """Return the newest `limit` samples in [start_ms, end_ms), ascending."""
        ...

    async def risk_tiers(self, category: Category, symbol: str) -> list[RiskTier]:
        """Return the maintenance tiers, lowest first."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class CandleFeed(Feed, Protocol):
    """A feed that gives pages of candles too: the backfill's alone, everybody else reads what is stored."""

    async def candle_page(self, series: Series, start_ms: int, end_ms: int) -> CandlePage:
        """Return the closed candles of one window [start_ms, end_ms), both aligned, at most 1,000 bars."""
        ...


class Queue(Protocol):
    """Hands jobs to whoever runs them: tasks of this process, or workers elsewhere.

    A job that is handed over twice runs once, because its runner claims it first.
    """

    def put(self, job_id: str, kind: str) -> None:
        """Hand a job over; its runner calls `Jobs.run_job`."""
        ...


class JobWorkers(Protocol):
    """Processes that run jobs, so that the one that serves people keeps its interpreter and its memory to itself."""

    async def run(self, job_id: str, stop: asyncio.Event) -> None:
        """Have a process run a job and return when it is over or the process is gone.

        `stop` asks the job to stop. A caller that is cancelled ends the process. `Unavailable` means that none could be
        started; the job is untouched then.
        """
        ...

    async def close(self) -> None:
        """End all processes."""
        ...


class LimitMemory(Protocol):
    """What the request limiter must remember beyond one process: bans, and who else is asking."""

    async def ban_until_ms(self, host: str) -> int:
        """Return when the ban of this host ends; 0 when there is none."""
        ...

    async def remember_ban(self, host: str, until_ms: int) -> None:
        """Keep the later of the known end and this one."""
        ...

    async def active_callers(self, host: str, owner: str, now_ms: int, lease_ms: int) -> int:
        """Renew the lease of `owner` and return how many owners (this one included) hold a live lease."""
        ...
