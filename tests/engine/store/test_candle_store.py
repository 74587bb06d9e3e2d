import asyncio
import itertools
import logging
import math
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.timeframes import DAY_MS, INTERVALS, advance, floor_open
from engine.errors import BadRequest, StorageFailed
from engine.store.store import Store

MINUTE = 60_000
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")


def candles(opens, level=1.0):
    opens = np.asarray(opens, np.int64)
    base = opens / 1e12 + level
    return Candles(opens, base, base + 2, base - 1, base + 1, base * 3, base * 7)


def minutes(first, last, level=1.0):
    return candles(START + MINUTE * np.arange(first, last), level)


async def keep(store, page, first, last, *, series=BTC, source="bybit", at_ms=5):
    return await store.commit_page(
        series, page, start_ms=START + first * MINUTE, end_ms=START + last * MINUTE, source=source, at_ms=at_ms
    )


async def read_all(store, series=BTC):
    return await store.read_candles(series, 0, 2**52)


async def test_a_page_across_days_is_read_back_byte_for_byte(store):
    page = minutes(1000, 3000)
    receipt = await keep(store, page, 1000, 3000)
    assert (receipt.inserted, receipt.revised, receipt.repeated) == (2000, 0, 0)
    assert (await read_all(store)).sha256() == page.sha256()
    part = await store.read_candles(BTC, START + 1439 * MINUTE, START + 1441 * MINUTE)
    assert part.ts.tolist() == [START + 1439 * MINUTE, START + 1440 * MINUTE]


async def test_committing_the_same_page_again_changes_nothing(store):
    page = minutes(0, 100)
    await keep(store, page, 0, 100)
    before = (await store.coverage(BTC), await store.gaps(BTC, 0, 2**52))
    receipt = await keep(store, page, 0, 100)
    assert (receipt.inserted, receipt.revised, receipt.repeated) == (0, 0, 100)
    assert (await store.coverage(BTC), await store.gaps(BTC, 0, 2**52)) == before
    assert await store.revisions(BTC, 0, 2**52) == []


async def test_a_changed_closed_candle_wins_and_is_recorded_as_a_revision(store):
    await keep(store, minutes(0, 10), 0, 10)
    receipt = await keep(store, minutes(4, 6, level=2.0), 4, 6, at_ms=77)
    assert (receipt.inserted, receipt.revised, receipt.repeated) == (0, 2, 0)
    first, second = await store.revisions(BTC, 0, 2**52)
    assert (first.ts, second.ts, first.seen_ms) == (START + 4 * MINUTE, START + 5 * MINUTE, 77)
    assert first.old[0] == minutes(4, 5).open[0]
    assert first.new[0] == minutes(4, 5, level=2.0).open[0] == (await read_all(store)).open[4]


async def test_nan_turnover_is_kept_and_repeating_it_is_no_revision(store):
    page = minutes(0, 5)
    page = Candles(*page.columns()[:6], np.full(5, np.nan))
    await keep(store, page, 0, 5)
    assert (await keep(store, page, 0, 5)).repeated == 5
    assert np.isnan((await read_all(store)).turnover).all()
    await keep(store, minutes(0, 1), 0, 1)
    (revision,) = await store.revisions(BTC, 0, 2**52)
    assert math.isnan(revision.old[5])


async def test_bars_that_do_not_exist_become_a_gap_which_shrinks_when_they_appear(store):
    page = minutes(0, 20).take(np.r_[0:5, 15:20])
    await keep(store, page, 0, 20, at_ms=100)
    (gap,) = await store.gaps(BTC, 0, 2**52)
    assert (gap.start_ms, gap.end_ms) == (START + 5 * MINUTE, START + 15 * MINUTE)
    assert await store.missing(BTC, START, START + 20 * MINUTE) == []
    await keep(store, minutes(5, 10), 5, 10, at_ms=200)
    (gap,) = await store.gaps(BTC, 0, 2**52)
    assert (gap.start_ms, gap.end_ms, gap.first_seen_ms) == (START + 10 * MINUTE, START + 15 * MINUTE, 100)
    await keep(store, minutes(10, 15), 10, 15, at_ms=300)
    assert await store.gaps(BTC, 0, 2**52) == []


async def test_a_gap_across_two_pages_is_one_gap(store):
    await keep(store, minutes(0, 8), 0, 10)
    await keep(store, minutes(12, 20), 10, 20)
    (gap,) = await store.gaps(BTC, 0, 2**52)
    assert (gap.start_ms, gap.end_ms) == (START + 8 * MINUTE, START + 12 * MINUTE)


async def test_what_is_missing_and_who_answered_follows_the_coverage(store):
    await keep(store, minutes(10, 20), 10, 20)
    await keep(store, minutes(15, 30), 15, 30, source="imported")
    assert await store.missing(BTC, START + 1, START + 40 * MINUTE - 1) == [
        (START + MINUTE, START + 10 * MINUTE),
        (START + 30 * MINUTE, START + 40 * MINUTE),
    ]
    assert await store.sources(BTC, START, START + 12 * MINUTE) == {"bybit"}
    assert await store.sources(BTC, START, START + 40 * MINUTE) == {"bybit", "imported"}


async def test_nothing_is_missing_before_the_known_beginning_unless_older_bars_turn_up(store):
    await store.save_series_facts(BTC, listed_ms=7, begins_ms=START)
    assert await store.missing(BTC, START - 5 * MINUTE, START + MINUTE) == [(START, START + MINUTE)]
    await keep(store, minutes(-3, -1), -3, -1)
    facts = await store.series_facts(BTC)
    assert (facts.listed_ms, facts.begins_ms) == (7, START - 3 * MINUTE)


async def test_a_gap_right_at_the_beginning_is_trimmed_away(store):
    await store.save_series_facts(BTC, begins_ms=START)
    await keep(store, minutes(7, 10), 0, 10)
    await store.trim_beginning(BTC)
    assert await store.gaps(BTC, 0, 2**52) == []
    assert (await store.series_facts(BTC)).begins_ms == START + 7 * MINUTE


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        (candles([START, START]), "ascend"),
        (candles([START + 1]), "boundary"),
        (candles([START - MINUTE]), "outside"),
        (candles([START], level=math.inf), "finite"),
    ],
)
async def test_a_page_that_breaks_the_rules_is_refused_whole(store, page, wrong):
    with pytest.raises(BadRequest, match=wrong):
        await keep(store, page, 0, 10)
    assert await store.coverage(BTC) == []


@pytest.mark.parametrize("interval", INTERVALS)
async def test_every_interval_is_stored_in_its_buckets(store, interval):
    series = Series("bybit", "linear", "BTCUSDT", "trade", interval)
    first = floor_open(interval, START)
    opens = [advance(interval, first, bar) for bar in range(-130, 130)]
    page = candles(opens)
    end_ms = advance(interval, first, 130)
    await store.commit_page(series, page, start_ms=opens[0], end_ms=end_ms, source="bybit", at_ms=1)
    assert (await read_all(store, series)).sha256() == page.sha256()
    assert await store.gaps(series, 0, 2**52) == []
    assert await store.count_bars(series, opens[3], opens[-1]) == 256


async def test_a_damaged_segment_is_named_and_never_returned(store, database_url):
    await keep(store, minutes(0, 10), 0, 10)
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as raw:
        raw.execute("UPDATE segments SET data = zeroblob(length(data))")
    raw.close()
    with pytest.raises(StorageFailed, match=r"BTCUSDT linear 1.*bucket 19723"):
        await read_all(store)


async def test_deleting_a_series_leaves_no_trace_of_it(store):
    await keep(store, minutes(0, 10), 0, 12)
    other = Series("bybit", "linear", "ETHUSDT", "trade", "1")
    await keep(store, minutes(0, 10), 0, 10, series=other)
    assert await store.delete_series(BTC)
    assert not await store.delete_series(BTC)
    assert len(await read_all(store)) == 0
    assert await store.gaps(BTC, 0, 2**52) == []
    (left,) = await store.list_series()
    assert (left.series, left.bars, left.first_ms) == (other, 10, START)


async def test_the_cursor_of_a_job_moves_with_the_page(store):
    job = await store.add_job("backfill", {"a": 1}, at_ms=1)
    await store.commit_page(
        BTC, minutes(0, 2), start_ms=START, end_ms=START + 2 * MINUTE, source="bybit", at_ms=3, job_id=job.id,
        cursor_ms=START + 2 * MINUTE,
    )  # fmt: skip
    assert (await store.job(job.id)).cursor_ms == START + 2 * MINUTE


async def test_a_cancelled_caller_tears_no_transaction_apart(store):
    for turn in range(20):
        first = turn * 50
        commit = asyncio.create_task(keep(store, minutes(first, first + 50), first, first + 50))
        for _ in range(turn):
            await asyncio.sleep(0)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
    await keep(store, minutes(2000, 2001), 2000, 2001)
    stored = await read_all(store)
    covered = sum((span.end_ms - span.start_ms) // MINUTE for span in await store.coverage(BTC))
    assert covered == len(stored)
    assert await store.gaps(BTC, 0, 2**52) == []


async def test_a_million_candles_are_read_exactly(store):
    bars = 1_000_000
    page = minutes(0, bars)
    assert (await keep(store, page, 0, bars)).inserted == bars
    longest_s, reading = 0.0, True

    async def watch():
        nonlocal longest_s
        while reading:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    stored = await read_all(store)
    took_s = time.perf_counter() - began
    reading = False
    await watching
    logging.getLogger(__name__).info("read %d candles in %.3f s, longest stall %.3f s", bars, took_s, longest_s)
    assert stored.sha256() == page.sha256()


@st.composite
def pages(draw):
    first = draw(st.integers(0, 60))
    last = draw(st.integers(first, min(first + 25, 70)))
    absent = draw(st.sets(st.integers(0, 70), max_size=6))
    level = draw(st.sampled_from([1.0, 1.0, 1.0, 2.0]))
    return first, last, absent, level


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(pages(), max_size=12))
def test_any_sequence_of_pages_equals_a_dictionary(steps):
    """Pages overlap, repeat, leave bars out and change values; around midnight, so that two buckets are touched."""
    offset = DAY_MS // MINUTE - 35

    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await Store.open(f"sqlite:///{Path(folder).as_posix()}/lab.db")
            model: dict[int, float] = {}
            asked: set[int] = set()
            revised = 0
            for first, last, absent, level in steps:
                rows = [row for row in range(first, last) if row not in absent]
                page = candles(START + MINUTE * (offset + np.array(rows, np.int64)), level)
                receipt = await keep(store, page, offset + first, offset + last)
                changed = [row for row in rows if row in model and model[row] != level]
                assert receipt.inserted == len([row for row in rows if row not in model])
                assert receipt.revised == len(changed)
                revised += len(changed)
                model.update(dict.fromkeys(rows, level))
                asked.update(range(first, last))
            stored = await read_all(store)
            rows = sorted(model)
            assert ((stored.ts - START) // MINUTE - offset).tolist() == rows
            for column, row in enumerate(rows):
                expected = candles([START + MINUTE * (offset + row)], model[row])
                assert stored.open[column] == expected.open[0]
            spans = await store.coverage(BTC)
            assert {at for s in spans for at in range(s.start_ms, s.end_ms, MINUTE)} == {
                START + MINUTE * (offset + row) for row in asked
            }
            gaps = await store.gaps(BTC, 0, 2**52)
            assert {at for gap in gaps for at in range(gap.start_ms, gap.end_ms, MINUTE)} == {
                START + MINUTE * (offset + row) for row in asked - set(model)
            }
            assert all(a.end_ms < b.start_ms for a, b in itertools.pairwise(gaps))
            assert len(await store.revisions(BTC, 0, 2**52)) == revised
            await store.close()

    asyncio.run(story())
