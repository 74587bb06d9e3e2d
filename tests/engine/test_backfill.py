import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from decimal import Decimal

import numpy as np
import pytest

from engine.backfill import Backfill
from engine.core.candles import Candles
from engine.core.markets import Instrument
from engine.core.series import Series
from engine.core.timeframes import advance, ceil_open, floor_open
from engine.errors import BadPayload, BadRequest, Cancelled, Conflict, Unavailable
from engine.jobs import BackfillBody, Jobs, backfill_request
from engine.ports import CandlePage
from engine.store.store import Store

MINUTE = 60_000
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
BTC = Series("simulated", "linear", "BTCUSDT", "trade", "1")
LISTING = Instrument(
    category="linear", symbol="BTCUSDT", base_coin="BTC", quote_coin="USDT", settle_coin="USDT", status="Trading",
    contract_type="LinearPerpetual", launch_ms=START, delivery_ms=None, tick_size=Decimal("0.1"),
    lot_step=Decimal("0.001"), min_quantity=Decimal("0.001"), max_market_quantity=None, min_notional=None,
    max_leverage=None, funding_interval_minutes=480,
)  # fmt: skip


class JumpingClock:
    """Sleeping takes no real time and moves the clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return START + int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class TableFeed:
    """An exchange that has every minute from `first_ms` on, except those in `absent`."""

    name = "simulated"

    def __init__(self, now_ms: int, first_ms: int = START) -> None:
        self.now_ms = now_ms
        self.first_ms = first_ms
        self.listing: Instrument | None = LISTING
        self.absent: set[int] = set()
        self.calls: list[tuple[str, int, int]] = []
        self.twist: Callable[[CandlePage, int, int], Awaitable[CandlePage] | CandlePage] | None = None
        self.in_flight = self.most_in_flight = 0

    async def server_time_ms(self) -> int:
        return self.now_ms

    async def instruments(self, category, symbol=None):
        return [] if self.listing is None else [self.listing]

    def bars(self, series: Series, start_ms: int, end_ms: int) -> Candles:
        interval = series.interval
        closed_ms = floor_open(interval, self.now_ms)
        opens, at = [], max(start_ms, floor_open(interval, self.first_ms))
        while at < min(end_ms, closed_ms):
            if at not in self.absent:
                opens.append(at)
            at = advance(interval, at, 1)
        ts = np.array(opens, np.int64)
        base = ts / 1e9
        return Candles(ts, base, base + 2, base - 2, base + 1, base * 3, base * 5)

    async def candle_page(self, series: Series, start_ms: int, end_ms: int) -> CandlePage:
        assert ceil_open(series.interval, start_ms) == start_ms < end_ms == ceil_open(series.interval, end_ms)
        self.calls.append((series.interval, start_ms, end_ms))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(1 + len(self.calls) * 7 % 5):
                await asyncio.sleep(0)
            closed_ms = floor_open(series.interval, self.now_ms)
            page = CandlePage(
                self.bars(series, start_ms, end_ms), "simulated", self.now_ms, max(start_ms, min(end_ms, closed_ms))
            )
            if self.twist is not None:
                twisted = self.twist(page, start_ms, end_ms)
                return twisted if isinstance(twisted, CandlePage) else await twisted
            return page
        finally:
            self.in_flight -= 1


@pytest.fixture
async def store():
    opened = await Store.open("sqlite://")
    yield opened
    await opened.close()


@pytest.fixture
def feed():
    return TableFeed(now_ms=START + 5000 * MINUTE + 30_000)


@pytest.fixture
def backfill(feed, store):
    return Backfill(feed, store, JumpingClock())


async def stored(store, series=BTC):
    return await store.read_candles(series, 0, 2**52)


async def test_a_range_is_fetched_once_in_windows_and_the_second_run_asks_for_nothing(backfill, feed, store):
    told = []
    report = await backfill.run(BTC, START, START + 4500 * MINUTE, progress=told.append)
    assert (report.bars, report.upserts, report.pages, report.gaps, report.complete) == (4500, 4500, 5, 0, True)
    assert (report.mode, report.symbol, report.interval, report.source) == ("sync", "BTCUSDT", "1", "simulated")
    assert (await stored(store)).sha256() == feed.bars(BTC, START, START + 4500 * MINUTE).sha256()
    assert [(each.pages_done, each.pages_total) for each in told] == [(n, 5) for n in range(1, 6)]
    assert feed.most_in_flight == 4
    feed.calls.clear()
    again = await backfill.run(BTC, START, START + 4500 * MINUTE)
    assert (again.upserts, again.pages, again.bars, again.complete) == (0, 0, 4500, True)
    assert feed.calls == []


async def test_an_end_in_the_future_is_cut_at_the_last_closed_bar_and_an_update_reads_two_bars_again(
    backfill, feed, store
):
    report = await backfill.run(BTC, START, START + 10**6 * MINUTE)
    assert (report.end_ms, report.bars, report.complete) == (START + 5000 * MINUTE, 5000, True)
    feed.calls.clear()
    feed.now_ms += 3 * MINUTE
    report = await backfill.run(BTC, START, START + 10**6 * MINUTE)
    assert (report.upserts, report.bars) == (3, 5003)
    assert feed.calls == [("1", START + 4998 * MINUTE, START + 5003 * MINUTE)]


@pytest.mark.parametrize(
    ("low", "high", "bars"),
    [(1, 120_000, 1), (0, 120_001, 3), (59_999, 60_001, 1), (60_000, 60_000, 0), (1, 59_999, 0), (0, 60_000, 1)],
)
async def test_bounds_are_half_open_wherever_they_lie(backfill, store, low, high, bars):
    report = await backfill.run(BTC, START + low, START + high)
    assert report.bars == bars == len(await stored(store))


async def test_a_range_that_ends_before_it_starts_is_refused(backfill):
    with pytest.raises(BadRequest, match="ends before"):
        await backfill.run(BTC, START + 1, START)


async def test_another_feed_is_refused(backfill):
    with pytest.raises(BadRequest, match="bybit"):
        await backfill.run(dataclasses.replace(BTC, feed="bybit"), START, START + MINUTE)


@pytest.mark.parametrize("launch_known", [True, False])
async def test_years_before_the_launch_cost_a_few_requests_and_are_no_gap(backfill, feed, store, launch_known):
    feed.first_ms = START + 7 * MINUTE
    feed.listing = LISTING if launch_known else dataclasses.replace(LISTING, launch_ms=None)
    report = await backfill.run(BTC, START - 10**6 * MINUTE, START + 2000 * MINUTE)
    assert (report.bars, report.gaps, report.start_ms) == (1993, 0, START + 7 * MINUTE)
    assert report.complete
    assert len(feed.calls) <= 6
    feed.calls.clear()
    again = await backfill.run(BTC, START - 10**6 * MINUTE, START + 2000 * MINUTE)
    assert (again.upserts, feed.calls) == (0, [])


async def test_a_gap_is_recorded_not_asked_for_again_and_found_filled_when_rechecked(backfill, feed, store):
    feed.absent = {START + at * MINUTE for at in range(100, 150)}
    report = await backfill.run(BTC, START, START + 3000 * MINUTE)
    assert (report.bars, report.gaps, report.complete) == (2950, 1, True)
    feed.calls.clear()
    await backfill.run(BTC, START, START + 3000 * MINUTE)
    assert feed.calls == []
    feed.absent = set()
    report = await backfill.run(BTC, START, START + 3000 * MINUTE, recheck_gaps=True)
    assert (report.bars, report.gaps, report.upserts) == (3000, 0, 50)
    assert feed.calls == [("1", START + 100 * MINUTE, START + 150 * MINUTE)]


async def test_a_silently_short_page_is_continued_where_it_ended(backfill, feed, store):
    def shorten(page, start_ms, end_ms):
        until_ms = min(end_ms, start_ms + 300 * MINUTE)
        return dataclasses.replace(page, complete_until_ms=until_ms)

    feed.twist = shorten
    report = await backfill.run(BTC, START, START + 2000 * MINUTE)
    assert (report.bars, report.gaps, report.complete) == (2000, 0, True)
    assert (await stored(store)).sha256() == feed.bars(BTC, START, START + 2000 * MINUTE).sha256()


async def test_a_page_that_never_gets_further_ends_in_an_error_and_stores_nothing_false(backfill, feed, store):
    def stand_still(page, start_ms, _end_ms):
        if start_ms < START + 1000 * MINUTE:
            return page
        return dataclasses.replace(page, candles=Candles.empty(), complete_until_ms=start_ms)

    feed.twist = stand_still
    with pytest.raises(BadPayload, match="incomplete"):
        await backfill.run(BTC, START, START + 2000 * MINUTE)
    assert len(await stored(store)) == 1000
    assert await store.gaps(BTC, 0, 2**52) == []


async def test_failures_that_pass_are_waited_for_and_told(backfill, feed, store):
    troubles = iter(range(6))
    told = []

    def fail(page, _start_ms, _end_ms):
        if next(troubles, None) is not None:
            raise Unavailable("the exchange is away", retry_after_s=3)
        return page

    feed.twist = fail
    report = await backfill.run(BTC, START, START + 2000 * MINUTE, progress=told.append)
    assert report.bars == 2000
    assert any("the exchange is away" in each.message for each in told)


async def test_failures_that_do_not_pass_end_the_run_but_keep_what_was_committed(backfill, feed, store):
    def fail(page, start_ms, _end_ms):
        if start_ms >= START + 1000 * MINUTE:
            raise Unavailable("the exchange is away")
        return page

    feed.twist = fail
    with pytest.raises(Unavailable):
        await backfill.run(BTC, START, START + 4000 * MINUTE)
    assert len(await stored(store)) == 1000
    feed.twist = None
    assert (await backfill.run(BTC, START, START + 4000 * MINUTE)).bars == 4000


async def test_max_pages_stops_early_and_says_so(backfill, feed):
    report = await backfill.run(BTC, START, START + 4000 * MINUTE, max_pages=2)
    assert (report.pages, report.bars, report.complete) == (2, 2000, False)
    assert len(feed.calls) == 2


async def test_two_runs_of_the_same_range_fetch_it_once(backfill, feed, store):
    reports = await asyncio.gather(*(backfill.run(BTC, START, START + 4000 * MINUTE) for _ in range(3)))
    assert [report.bars for report in reports] == [4000] * 3
    assert len(feed.calls) == 4


async def test_overlapping_runs_fetch_only_what_the_other_left(backfill, feed):
    await asyncio.gather(
        backfill.run(BTC, START, START + 2000 * MINUTE), backfill.run(BTC, START + 1000 * MINUTE, START + 3000 * MINUTE)
    )
    assert len(feed.calls) <= 4


async def test_cancelling_stops_between_pages_and_a_later_run_goes_on(backfill, feed, store):
    cancelled = asyncio.Event()

    def stop(progress):
        if progress.pages_done == 2:
            cancelled.set()

    with pytest.raises(Cancelled):
        await backfill.run(BTC, START, START + 5000 * MINUTE, progress=stop, cancelled=cancelled)
    assert 2000 <= len(await stored(store)) < 5000
    assert feed.in_flight == 0
    assert (await backfill.run(BTC, START, START + 5000 * MINUTE)).bars == 5000


async def test_a_symbol_that_was_given_to_another_instrument_is_refused(backfill, feed, store):
    await backfill.run(BTC, START, START + 10 * MINUTE)
    feed.listing = dataclasses.replace(LISTING, launch_ms=START + MINUTE)
    with pytest.raises(Conflict, match="2024-01-01T00:01:00"):
        await backfill.run(BTC, START, START + 20 * MINUTE)
    assert len(await stored(store)) == 10


async def test_a_candle_corrected_after_it_closed_is_reported_as_a_revision(backfill, feed, store):
    await backfill.run(BTC, START, START + 10 * MINUTE)

    def correct(page, _start_ms, _end_ms):
        candles = page.candles
        candles.close[candles.ts == START + 9 * MINUTE] += 0.5
        return page

    feed.twist = correct
    report = await backfill.run(BTC, START, START + 20 * MINUTE)
    assert (report.revisions, report.upserts) == (1, 11)
    (revision,) = await store.revisions(BTC, 0, 2**52)
    assert revision.new[3] == revision.old[3] + 0.5


async def test_months_are_fetched_by_the_calendar(feed, store):
    feed.now_ms = 1_735_689_600_000  # 2025-01-01
    series = dataclasses.replace(BTC, interval="M")
    report = await Backfill(feed, store, JumpingClock()).run(series, START, START + 10**6 * MINUTE, page=5)
    assert (report.bars, report.gaps, report.pages) == (12, 0, 3)


async def test_a_backfill_job_runs_once_and_its_result_is_kept(backfill, feed, store):
    jobs = Jobs(store, JumpingClock(), {"backfill": BackfillBody(backfill, store)})
    request = backfill_request(BTC, START, START + 2500 * MINUTE)
    first, second = await asyncio.gather(jobs.submit("backfill", request), jobs.submit("backfill", request))
    assert first.id == second.id
    done = await jobs.wait(first.id, 60)
    assert done.state == "done"
    result = await jobs.result(first.id)
    assert (result["bars"], result["mode"], result["complete"]) == (2500, "async", True)
    assert (await store.job(first.id)).cursor_ms == START + 2500 * MINUTE
    assert (await jobs.submit("backfill", request)).id == first.id
    assert len(feed.calls) == 3
    await store.delete_series(BTC)
    renewed = await jobs.submit("backfill", request)
    assert renewed.id != first.id
    assert (await jobs.wait(renewed.id, 60)).state == "done"
    await jobs.close()
