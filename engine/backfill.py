"""Backfill: what a series lacks, fetched in windows, committed in order, resumable at any page."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.core.series import Series
from engine.core.timeframes import advance, ceil_open, count_opens, floor_open
from engine.core.times import iso_utc
from engine.errors import (
    BadPayload,
    BadRequest,
    Cancelled,
    Conflict,
    DataMissing,
    NotFound,
    Refused,
    Unavailable,
    Unreachable,
)
from engine.store.spans import Span, union

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

    from engine.core.candles import Candles
    from engine.ports import CandleFeed, CandlePage, Clock
    from engine.store.candle_store import PageReceipt
    from engine.store.store import Store

Answer = TypeVar("Answer")

# How long a direct call lets one page fail; jobs wait longer.
DIRECT_PATIENCE_S = 120.0
# The most bars Bybit answers in one page (Bybit v5 docs, market/kline).
LARGEST_PAGE = 1000
# A closed candle may still be corrected for a while, so an update reads the newest stored ones again.
_BARS_READ_AGAIN = 2
# Looking for the first bar pays when it may spare more pages than this.
_PAGES_WORTH_A_LOOK = 5
# An answer that brings a window no further is asked for again this often.
_STANDSTILLS_ALLOWED = 3
# Longer than the deadline of one page. A dead process loses its lease at once, whatever this says.
_LEASE_MS = 180_000
_LEASE_POLL_S = 0.25
_DAY_MS = 86_400_000
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill got. `eta_seconds` is None before the first page; `message` says what it waits for, if it does."""

    pages_done: int
    pages_total: int
    rows: int
    rows_per_second: float
    eta_seconds: float | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did, and what is stored of the range now.

    Attributes
    ----------
    mode : {"sync", "async"}
        Whether the caller waited or a job ran it.
    upserts : int
        Candles this run added or changed.
    pages : int
        Windows this run fetched.
    start_ms, end_ms : int
        The range that could be had: the asked one cut at the first bar that exists and the last one that is closed.
    bars : int
        Candles stored in that range now.
    gaps : int
        Known gaps in that range; nothing is filled.
    revisions : int
        Closed candles this run found changed.
    source : str or None
        Who answered for the range, `mixed` when several did, None when nothing is covered.
    complete : bool
        Every bar of the range that exists and is closed is stored.
    """

    mode: Literal["sync", "async"]
    symbol: str
    interval: str
    upserts: int
    pages: int
    elapsed_sec: float
    rows_per_sec: float
    start_ms: int
    end_ms: int
    bars: int
    gaps: int
    revisions: int
    source: str | None
    complete: bool


ProgressCallback = Callable[[BackfillProgress], "Awaitable[None] | None"]


@dataclass(slots=True)
class _Run:
    """One run: its order and its counters."""

    series: Series
    start_ms: int
    end_ms: int
    page: int
    max_pages: int | None
    recheck_gaps: bool
    job_id: str | None
    progress: ProgressCallback | None
    began: float
    owner: str
    lease_until_ms: int = 0
    pages_total: int = 0
    pages: int = 0
    rows: int = 0
    inserted: int = 0
    revised: int = 0
    closed_until_ms: int | None = None
    empty_windows: list[Span] = field(default_factory=list["Span"])

    @property
    def lease(self) -> str:
        return "backfill " + " ".join((self.series.feed, self.series.kind, str(self.series)))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came for a window: the stretches of it that are complete, in order, each with its page."""

    window: Span
    stretches: tuple[tuple[Span, CandlePage], ...]

    @property
    def is_whole(self) -> bool:
        """False when the window ends in bars that are not closed yet."""
        return bool(self.stretches) and self.stretches[-1][0][1] == self.window[1]


class Backfill:
    """Fetches what a series lacks.

    Parameters
    ----------
    feed : CandleFeed
    store : Store
    clock : Clock
        Its wall clock dates records and leases; which bars are closed is decided by the exchange's clock alone.
    pages_in_flight : int
        Windows asked for at once; they are committed strictly in order.
    patience_s : float
        How long one page may keep failing for reasons that pass before the run gives up. What is committed stays.
    """

    def __init__(
        self,
        feed: CandleFeed,
        store: Store,
        clock: Clock,
        *,
        pages_in_flight: int = 4,
        patience_s: float = DIRECT_PATIENCE_S,
    ) -> None:
        self._feed = feed
        self._store = store
        self._clock = clock
        self._pages_in_flight = pages_in_flight
        self._patience_s = patience_s
        # A direct call does not wait for a network that is not there; a job does.
        self._is_patient = patience_s > DIRECT_PATIENCE_S

    async def run(  # noqa: PLR0913 -- each is an option of the user's command
        self,
        series: Series,
        start_ms: int,
        end_ms: int,
        *,
        page: int = LARGEST_PAGE,
        max_pages: int | None = None,
        recheck_gaps: bool = False,
        progress: ProgressCallback | None = None,
        job_id: str | None = None,
        cancelled: asyncio.Event | None = None,
    ) -> BackfillReport:
        """Fetch the closed bars that open in [start_ms, end_ms) and are not stored yet.

        Run again after any interruption, it goes on where the last commit ended. The same series is fetched by one run
        at a time, over all processes; a second run waits and then finds its work done.

        Raises
        ------
        Conflict
            When the symbol now names another instrument than the one whose candles are stored.
        Cancelled
            When `cancelled` was set. Committed pages stay.
        """
        self._check(series, start_ms, end_ms, page, max_pages)
        run = _Run(
            series=series,
            start_ms=start_ms,
            end_ms=end_ms,
            page=page,
            max_pages=max_pages,
            recheck_gaps=recheck_gaps,
            job_id=job_id,
            progress=progress,
            began=self._clock.monotonic(),
            owner=f"{self._store.owner}:{secrets.token_hex(4)}",
        )
        await _until_cancelled(self._fetch_all(run), cancelled)
        return await self._report(run)

    def _check(self, series: Series, start_ms: int, end_ms: int, page: int, max_pages: int | None) -> None:
        if start_ms > end_ms:
            raise BadRequest("the range ends before it starts", fix="start must not be later than end")
        if not 1 <= page <= LARGEST_PAGE:
            raise BadRequest(f"a page of {page} bars is not possible", fix=f"page is 1 to {LARGEST_PAGE}")
        if max_pages is not None and max_pages < 1:
            raise BadRequest(f"max_pages is {max_pages}", fix="max_pages is 1 or more, or left out")
        if series.feed != self._feed.name:
            raise BadRequest(
                f"the series belongs to the feed {series.feed!r}, but {self._feed.name!r} is connected",
                fix=f"ask for the feed {self._feed.name!r}",
            )

    async def _refuse_mixing(self, series: Series) -> None:
        """Refuse to go on from imported bars of a name no exchange lists with bars generated for it."""
        spans = [span for span in await self._store.coverage(series) if span.source == "imported"]
        if not spans or self._feed.source != "simulated":
            return
        listed = await self._feed.instruments(series.category)
        if all(instrument.symbol != series.symbol for instrument in listed):
            first, last = iso_utc(spans[0].start_ms), iso_utc(spans[-1].end_ms)
            raise DataMissing(
                f"{series} is imported from {first} to {last}, and the simulated exchange does not list it",
                fix="choose a range inside it, or import the rest: generated bars would be no continuation",
            )

    async def _fetch_all(self, run: _Run) -> None:
        if not await self._wanted(run):
            return
        await self._refuse_mixing(run.series)
        async with self._leased(run):
            # Whoever held the lease before us may have fetched it all meanwhile.
            if not await self._wanted(run):
                return
            run.closed_until_ms = floor_open(run.series.interval, await self._patiently(run, self._feed.server_time_ms))
            if not await self._reachable(run):
                return
            await self._learn_listing(run)
            await self._fetch_ranges(run, await self._reachable(run))
            await self._doubt_empty_windows(run)
            await self._store.trim_beginning(run.series)

    async def _wanted(self, run: _Run) -> list[Span]:
        """Return what is missing, and the known gaps when they are to be checked again."""
        ranges = await self._store.missing(run.series, run.start_ms, run.end_ms)
        if run.recheck_gaps:
            low, high = (ceil_open(run.series.interval, at) for at in (run.start_ms, run.end_ms))
            known = await self._store.gaps(run.series, low, high)
            ranges += [(max(low, gap.start_ms), min(high, gap.end_ms)) for gap in known]
        return union(ranges)

    async def _reachable(self, run: _Run) -> list[Span]:
        """Return what of it is closed; a range that continues the stored bars begins with the newest of them again."""
        covered = await self._store.coverage(run.series)
        # Imported bars are somebody's own: an update of what follows them must not revise them.
        continued_ms = covered[-1].end_ms if covered and covered[-1].source != "imported" else None
        closed_until_ms = run.end_ms if run.closed_until_ms is None else run.closed_until_ms
        ranges = [(low, min(high, closed_until_ms)) for low, high in await self._wanted(run)]
        return union(
            (advance(run.series.interval, low, -_BARS_READ_AGAIN) if low == continued_ms else low, high)
            for low, high in ranges
            if low < high
        )

    async def _learn_listing(self, run: _Run) -> None:
        """Learn when the symbol was launched; refuse when stored candles belong to an earlier bearer of its name."""
        series = run.series
        found = await self._patiently(run, lambda: self._feed.instruments(series.category, series.symbol))
        listing = next((each for each in found if each.symbol == series.symbol), None)
        launch_ms = listing.launch_ms if listing is not None else None
        if listing is not None:
            await self._store.save_instruments(self._feed.name, [listing], self._clock.now_ms())
        facts = await self._store.series_facts(series)
        covered = await self._store.coverage(series)
        if facts is not None and covered:
            _check_same_listing(series, facts.listed_ms, launch_ms)
        begins_ms = None
        if facts is None or facts.begins_ms is None:
            first_known_ms = covered[0].start_ms if covered else run.end_ms
            begins_ms = await self._find_beginning(run, launch_ms, min(run.end_ms, first_known_ms))
        await self._store.save_series_facts(series, listed_ms=launch_ms, begins_ms=begins_ms)

    async def _find_beginning(self, run: _Run, launch_ms: int | None, until_ms: int) -> int | None:
        """Return an open before which no bar exists; None when the range does not reach back so far, or nobody knows.

        Daily candles tell: a thousand days in one page, where empty windows of minutes would be thousands of pages.
        """
        interval = run.series.interval
        if launch_ms is None:
            if count_opens(interval, run.start_ms, until_ms) <= _PAGES_WORTH_A_LOOK * run.page:
                return None
            first_ms = await self._first_day(run, run.start_ms, until_ms)
            # A feed of files may know its first day only in part and then has no daily candle of it.
            return None if first_ms is None else floor_open(interval, first_ms - _DAY_MS)
        if run.start_ms >= launch_ms:
            return None
        # Candles from before the printed launch are rare, and never from long before.
        earliest_ms = max(run.start_ms, advance("D", floor_open("D", launch_ms), 1 - LARGEST_PAGE))
        first_ms = await self._first_day(run, earliest_ms, launch_ms)
        return floor_open(interval, launch_ms if first_ms is None else min(first_ms, launch_ms))

    async def _first_day(self, run: _Run, start_ms: int, end_ms: int) -> int | None:
        """Return the first day in [start_ms, end_ms) that has a candle."""
        daily = Series(run.series.feed, run.series.category, run.series.symbol, run.series.kind, "D")
        low, last = floor_open("D", start_ms), ceil_open("D", end_ms)
        while low < last:
            high = min(last, advance("D", low, LARGEST_PAGE))

            async def ask(low: int = low, high: int = high) -> CandlePage:
                return await self._feed.candle_page(daily, low, high)

            try:
                page = await self._patiently(run, ask)
            except (BadRequest, NotFound, Refused):
                # No daily candles here, so nothing is known and nothing will be skipped.
                return None
            if len(page.candles):
                return int(page.candles.ts[0])
            low = high
        return None

    async def _fetch_ranges(self, run: _Run, ranges: list[Span]) -> None:
        """Keep some windows in flight and commit their answers strictly in order."""
        run.pages_total = run.pages + _count_windows(run, ranges)
        windows = islice(_windows(run, ranges), run.max_pages)
        fetching: deque[asyncio.Task[_Answer]] = deque()
        try:
            while True:
                for window in islice(windows, self._pages_in_flight - len(fetching)):
                    fetching.append(asyncio.create_task(self._fetch_window(run, window)))
                if not fetching:
                    return
                answer = await fetching.popleft()
                await self._commit(run, answer)
                if not answer.is_whole:
                    return
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)

    async def _doubt_empty_windows(self, run: _Run) -> None:
        """Ask once more for whole windows without a bar, now that time has passed: an overload may look like a gap."""
        doubted, run.empty_windows = union(run.empty_windows), []
        if doubted and run.max_pages is None:
            await self._fetch_ranges(run, doubted)

    async def _fetch_window(self, run: _Run, window: Span) -> _Answer:
        """Ask until the window is complete or only bars are left that are not closed yet."""
        stretches: list[tuple[Span, CandlePage]] = []
        at_ms, end_ms = window
        standstills = 0
        while at_ms < end_ms:

            async def ask(at_ms: int = at_ms) -> CandlePage:
                return await self._feed.candle_page(run.series, at_ms, end_ms)

            page = await self._patiently(run, ask)
            until_ms = min(page.complete_until_ms, end_ms)
            if until_ms > at_ms:
                stretches.append(((at_ms, until_ms), page))
                at_ms = until_ms
            elif floor_open(run.series.interval, page.server_time_ms) <= at_ms:
                break
            else:
                standstills += 1
                if standstills >= _STANDSTILLS_ALLOWED:
                    raise BadPayload(
                        f"the exchange keeps answering an incomplete window of {str(run.series)!r}",
                        fix="start the backfill again later; what is stored stays",
                    )
        return _Answer(window, tuple(stretches))

    async def _commit(self, run: _Run, answer: _Answer) -> None:
        for (start_ms, end_ms), page in answer.stretches:
            candles = page.candles.between(start_ms, end_ms)

            async def keep(
                start_ms: int = start_ms, end_ms: int = end_ms, page: CandlePage = page, candles: Candles = candles
            ) -> PageReceipt:
                return await self._store.commit_page(
                    run.series,
                    candles,
                    start_ms=start_ms,
                    end_ms=end_ms,
                    source=page.source,
                    at_ms=page.server_time_ms,
                    job_id=run.job_id,
                    cursor_ms=end_ms,
                )

            receipt = await self._patiently(run, keep)
            if len(candles) == 0:
                run.empty_windows.append((start_ms, end_ms))
            run.rows += len(candles)
            run.inserted += receipt.inserted
            run.revised += receipt.revised
        run.pages += 1
        await self._keep_lease(run)
        await self._tell(run)

    async def _patiently(self, run: _Run, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Repeat what fails for reasons that pass, up to the patience for one step."""
        give_up: float | None = None
        pause_s, refusals = _SHORTEST_PAUSE_S, 0
        while True:
            try:
                return await ask()
            except (Unavailable, BadPayload) as error:
                if isinstance(error, Unreachable) and not self._is_patient:
                    raise
                now = self._clock.monotonic()
                give_up = now + self._patience_s if give_up is None else give_up
                wait_s = pause_s if error.retry_after_s is None else error.retry_after_s
                refusals += isinstance(error, BadPayload)
                if now + wait_s > give_up or refusals >= _STANDSTILLS_ALLOWED:
                    raise
                await self._tell(run, f"waiting {wait_s:.0f} s: {error.message}")
            await self._rest(run, wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _rest(self, run: _Run, seconds: float) -> None:
        while seconds > 0:
            nap_s = min(seconds, _LONGEST_PAUSE_S)
            await self._clock.sleep(nap_s)
            await self._keep_lease(run)
            seconds -= nap_s

    @asynccontextmanager
    async def _leased(self, run: _Run) -> AsyncGenerator[None]:
        """Hold the series, waiting for whoever fetches it now."""
        while not await self._take_lease(run):
            await self._tell(run, "waiting: the same series is being fetched already")
            await self._clock.sleep(_LEASE_POLL_S)
        try:
            yield
        finally:
            await self._store.release_lease(run.lease, run.owner)

    async def _take_lease(self, run: _Run) -> bool:
        now_ms = self._clock.now_ms()
        run.lease_until_ms = now_ms + _LEASE_MS
        return await self._store.take_lease(run.lease, run.owner, now_ms=now_ms, lease_ms=_LEASE_MS)

    async def _keep_lease(self, run: _Run) -> None:
        """Renew the lease in good time. Losing it costs requests, never data: commits are idempotent."""
        left_ms = run.lease_until_ms - self._clock.now_ms()
        if not _LEASE_MS // 2 < left_ms <= _LEASE_MS:
            await self._take_lease(run)

    async def _tell(self, run: _Run, message: str = "") -> None:
        if run.progress is None:
            return
        seconds = max(self._clock.monotonic() - run.began, 1e-9)
        left = max(0, run.pages_total - run.pages)
        eta = seconds / run.pages * left if run.pages else None
        told = run.progress(
            BackfillProgress(run.pages, max(run.pages, run.pages_total), run.rows, run.rows / seconds, eta, message)
        )
        if inspect.isawaitable(told):
            await told

    async def _report(self, run: _Run) -> BackfillReport:
        series, interval = run.series, run.series.interval
        start_ms, end_ms = ceil_open(interval, run.start_ms), ceil_open(interval, run.end_ms)
        if run.closed_until_ms is not None:
            end_ms = min(end_ms, run.closed_until_ms)
        facts = await self._store.series_facts(series)
        if facts is not None and facts.begins_ms is not None:
            start_ms = max(start_ms, facts.begins_ms)
        end_ms = max(start_ms, end_ms)
        sources = sorted(await self._store.sources(series, start_ms, end_ms))
        elapsed = self._clock.monotonic() - run.began
        return BackfillReport(
            mode="sync" if run.job_id is None else "async",
            symbol=series.symbol,
            interval=interval,
            upserts=run.inserted + run.revised,
            pages=run.pages,
            elapsed_sec=elapsed,
            rows_per_sec=run.rows / elapsed if elapsed > 0 else 0.0,
            start_ms=start_ms,
            end_ms=end_ms,
            bars=await self._store.count_bars(series, start_ms, end_ms),
            gaps=len(await self._store.gaps(series, start_ms, end_ms)),
            revisions=run.revised,
            source=None if not sources else sources[0] if len(sources) == 1 else "mixed",
            complete=not await self._store.missing(series, start_ms, end_ms),
        )


def _windows(run: _Run, ranges: list[Span]) -> Iterator[Span]:
    """Cut ranges into windows of one page; ranges that fit into one window share it."""
    left = deque(ranges)
    while left:
        start_ms, end_ms = left.popleft()
        limit_ms = advance(run.series.interval, start_ms, run.page)
        while end_ms < limit_ms and left and left[0][0] < limit_ms:
            end_ms = left.popleft()[1]
        if end_ms > limit_ms:
            left.appendleft((limit_ms, end_ms))
        yield start_ms, min(end_ms, limit_ms)


def _count_windows(run: _Run, ranges: list[Span]) -> int:
    """Return how many windows there will be, at most: ranges close together share one."""
    bars = [count_opens(run.series.interval, low, high) for low, high in ranges]
    windows = sum(-(-count // run.page) for count in bars)
    return windows if run.max_pages is None else min(windows, run.max_pages)


def _check_same_listing(series: Series, known_ms: int | None, launch_ms: int | None) -> None:
    if known_ms is None or launch_ms is None or known_ms == launch_ms:
        return
    known, now = (datetime.fromtimestamp(at / 1000, UTC).isoformat() for at in (known_ms, launch_ms))
    raise Conflict(
        f"{series.symbol!r} now names an instrument launched {now}, but the stored candles belong to one launched {known}",
        fix=f"clear the stored candles of {str(series)!r} first; they cannot be mixed",
    )


async def _until_cancelled(work: Coroutine[None, None, None], cancelled: asyncio.Event | None) -> None:
    """Run `work` to its end, or stop it as soon as the event is set."""
    if cancelled is None:
        await work
        return
    working, asked = asyncio.create_task(work), asyncio.create_task(cancelled.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, asked, return_exceptions=True)
    if working.cancelled():
        raise Cancelled("the backfill was cancelled", fix="start it again to go on where it stopped")
    working.result()
