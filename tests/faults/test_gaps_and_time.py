"""F12 to F15: bars that do not exist, bars nobody traded, bars still open, and clocks that disagree."""

import asyncio
import hashlib
import json
import random
import time

import numpy as np
import pytest

from engine.core.series import Series
from engine.store.spans import union

pytestmark = pytest.mark.faults

BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
HIGH = START + 6000 * MINUTE
KLINE = {"path": "kline"}


def without(candles, first_ms, end_ms):
    return candles.take((candles.ts < first_ms) | (candles.ts >= end_ms))


@pytest.mark.parametrize(
    ("first", "bars"),
    [(1980, 157), (1000, 1), (2000, 1000), (1500, 3000), (1000, 400), (1600, 400), (0, 30), (5900, 100), (999, 2)],
    ids=["13:00-15:37", "first-bar-of-a-page", "a-whole-page", "over-several-pages", "head-of-a-page", "tail-of-a-page",
         "head-of-the-range", "tail-of-the-range", "across-a-seam"],
)  # fmt: skip
async def test_a_downtime_is_a_recorded_gap_not_filled_not_asked_again_and_found_when_it_is_filled_later(
    bench, truth, sound, first, bars
):
    low, high = START + first * MINUTE, START + (first + bars) * MINUTE
    bench.exchange.faults({"kind": "gap", "from_ms": low, "to_ms": high, "match": KLINE})
    store = await bench.store()
    backfill = bench.backfill(store)
    await backfill.run(BTC, START, HIGH)
    whole = truth(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, without(whole, low, high))
    assert union((gap.start_ms, gap.end_ms) for gap in await store.gaps(BTC, 0, 2**52)) == [(low, high)]
    assert len(bench.exchange.pages(interval="1")) <= 6 * 4
    bench.exchange.forget()
    report = await backfill.run(BTC, START, HIGH)
    assert report.gaps >= 1
    assert len(bench.exchange.pages(interval="1")) <= 1, "a known gap is not asked for again"
    await backfill.run(BTC, START, HIGH, recheck_gaps=True)
    assert len(bench.exchange.pages(interval="1")) <= 1 + 4 * (2 + bars // 1000)
    await sound(store, BTC, START, HIGH, without(whole, low, high))
    bench.exchange.faults()
    report = await backfill.run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, without(whole, low, high))
    report = await backfill.run(BTC, START, HIGH, recheck_gaps=True)
    assert report.gaps == 0
    assert report.upserts == bars
    assert report.revisions == 0, "a bar that comes late is new, not revised"
    await sound(store, BTC, START, HIGH, whole)


async def test_a_gap_filled_in_part_leaves_the_rest_as_the_gap(bench, truth, sound):
    low, middle, high = START + 1980 * MINUTE, START + 2050 * MINUTE, START + 2137 * MINUTE
    bench.exchange.faults({"kind": "gap", "from_ms": low, "to_ms": high, "match": KLINE})
    store = await bench.store()
    backfill = bench.backfill(store)
    await backfill.run(BTC, START, HIGH)
    bench.exchange.faults({"kind": "gap", "from_ms": middle, "to_ms": high, "match": KLINE})
    await backfill.run(BTC, START, HIGH, recheck_gaps=True)
    assert [(gap.start_ms, gap.end_ms) for gap in await store.gaps(BTC, 0, 2**52)] == [(middle, high)]
    await sound(store, BTC, START, HIGH, without(truth(BTC, START, HIGH), middle, high))


async def test_the_exchanges_own_downtime_is_a_gap_that_the_command_and_the_coverage_tool_tell(bench, truth, sound):
    low, high = (
        START + 780 * DAY,
        START + 790 * DAY,
    )  # 2026-02-19 to 2026-03-01; down on 02-23 from 15:45 for 74 minutes
    done = bench.cli("backfill", "BTCUSDT", "--start", "2026-02-19", "--end", "2026-03-01", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["gaps"] == 1
    assert report["complete"]
    store = await bench.store()
    kept = await sound(store, BTC, low, high, truth(BTC, low, high))
    assert len(kept.ts) == 10 * 1440 - 74
    await bench.close()
    (series,) = bench.call("get_coverage", symbol="BTCUSDT")["items"]
    assert series["gaps"] == [{"start": "2026-02-23T15:45:00Z", "end": "2026-02-23T16:59:00Z", "bars": 74}]


async def test_a_run_of_bars_without_trades_is_kept_counted_and_no_gap(bench, truth, sound):
    series = Series("bybit", "linear", "LUNAUSDT", "trade", "1")
    low = 1_635_724_800_000  # 2021-11-01 00:00 UTC
    high = low + 5 * DAY
    right = truth(series, low, high)
    flat = int((right.volume == 0).sum())
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, (right.volume == 0).astype(int), 0])))[::2]
    assert flat > 20
    assert runs.max() >= 5, "several quiet minutes in a row"
    store = await bench.store()
    report = await bench.backfill(store).run(series, low, high)
    assert report.gaps == 0
    await sound(store, series, low, high, right)
    await bench.close()
    (row,) = bench.call("get_coverage", symbol="LUNAUSDT")["items"]
    assert row["flat_bars"] == flat


async def test_an_open_candle_is_never_stored_and_the_next_run_stores_its_final_values(bench, truth, sound):
    store = await bench.store()
    backfill = bench.backfill(store)
    bench.exchange.faults({"kind": "open_close", "factor": 1.2, "match": KLINE})
    end = START + 30 * HOUR
    for minutes, seconds in ((100, 30), (100, 59.999), (101, 0), (105, 0.001), (1207, 15)):
        now = START + minutes * MINUTE + int(seconds * 1000)
        bench.exchange.set_clock(now_ms=now, stopped=True)
        report = await backfill.run(BTC, START, end)
        assert report.revisions == 0, "what was stored was final"
        assert report.gaps == 0
        await sound(store, BTC, START, START + minutes * MINUTE, truth(BTC, START, end, now_ms=now))


@pytest.mark.parametrize("interval", ["15", "240", "D", "W", "M"])
async def test_open_candles_of_long_intervals_are_left_out_until_they_close(bench, truth, sound, interval):
    series = Series("bybit", "linear", "BTCUSDT", "trade", interval)
    low = START - 60 * DAY
    store = await bench.store()
    backfill = bench.backfill(store)
    for now in (START + 75 * DAY + 7 * HOUR + 5 * MINUTE, START + 100 * DAY + 1):
        bench.exchange.set_clock(now_ms=now, stopped=True)
        report = await backfill.run(series, low, now + 10 * DAY)
        assert report.revisions == 0
        kept = await store.read_candles(series, 0, 2**52)
        right = truth(series, low, now, now_ms=now)
        np.testing.assert_array_equal(kept.ts, right.ts)
        assert kept.sha256() == right.sha256()


async def test_a_candle_that_closes_between_two_pages_is_stored_once_with_its_final_values(bench, truth, sound):
    bench.exchange.faults({"kind": "open_close", "factor": 1.2, "match": KLINE})
    begin = START + 40 * MINUTE + 30_000
    bench.exchange.set_clock(now_ms=begin, stopped=True)
    store = await bench.store()
    clock_ms = [begin]

    async def tick(progress) -> None:
        clock_ms[0] += 20_000
        bench.exchange.set_clock(now_ms=clock_ms[0], stopped=True)

    backfill = bench.backfill(store, in_flight=1)
    report = await backfill.run(BTC, START, START + HOUR, page=10, progress=tick)
    assert report.gaps == 0
    kept = await store.read_candles(BTC, 0, 2**52)
    assert len(kept.ts) >= 40
    right = truth(BTC, START, START + HOUR, now_ms=clock_ms[0])
    assert kept.sha256() == right.between(START, int(kept.ts[-1]) + 1).sha256()
    bench.exchange.set_clock(now_ms=START + 2 * HOUR, stopped=True)
    report = await backfill.run(BTC, START, START + HOUR)
    assert report.revisions == 0
    await sound(store, BTC, START, START + HOUR, truth(BTC, START, START + HOUR))


@pytest.mark.parametrize("minutes_off", [-10, 10])
async def test_what_is_closed_is_decided_by_the_clock_of_the_exchange_not_by_ours(bench, truth, sound, minutes_off):
    now = time.time_ns() // 1_000_000 + minutes_off * MINUTE
    bench.exchange.set_clock(now_ms=now, stopped=True)
    low = now // DAY * DAY - DAY
    store = await bench.store()
    report = await bench.backfill(store).run(BTC, low, now + DAY)
    assert report.end_ms == now // MINUTE * MINUTE
    await sound(store, BTC, low, now // MINUTE * MINUTE, truth(BTC, low, now + DAY, now_ms=now))


async def test_jumps_of_the_local_clock_change_nothing(bench, truth, sound, fast_clock):
    chance = random.Random(4)

    class Jumping(fast_clock):
        def now_ms(self) -> int:
            return super().now_ms() + chance.randint(-30, 30) * DAY

    store = await bench.store()
    now = START + 4 * DAY + 12_345
    bench.exchange.set_clock(now_ms=now, stopped=True)
    report = await bench.backfill(store, clock=Jumping(20)).run(BTC, START, START + 9 * DAY)
    assert report.complete
    await sound(store, BTC, START, now // MINUTE * MINUTE, truth(BTC, START, START + 9 * DAY, now_ms=now))


async def test_reports_and_candles_are_byte_identical_in_every_time_zone(bench, new_bench, truth, sound, patience_s):
    series = Series("bybit", "linear", "ETHUSDT", "trade", "60")
    low, high = START + 68 * DAY, START + 100 * DAY  # 2024-03-09 to 2024-04-10: both zones change their clocks
    zones = ("UTC", "America/New_York", "Australia/Lord_Howe")
    homes = [new_bench(bench.exchange, zone.replace("/", "-")) for zone in zones]
    order = {"symbol": "ETHUSDT", "interval": "60", "start": "2024-03-10T02:30:00", "end": "2024-03-11", "limit": 30}
    fetch = ("backfill", "ETHUSDT", "--interval", "60", "--start", "2024-03-09", "--end", "2024-04-10", "--json")

    async def in_all_zones(*command: str) -> list[str]:
        started = [home.start_cli(*command, TZ=zone) for home, zone in zip(homes, zones, strict=True)]
        told = [await asyncio.to_thread(process.communicate, timeout=patience_s) for process in started]
        assert [process.returncode for process in started] == [0, 0, 0], told
        return [out for out, _ in told]

    reports = await in_all_zones(*fetch)
    shown = await in_all_zones("call", "get_candles", json.dumps(order))
    seen = set()
    for home, text, candles in zip(homes, reports, shown, strict=True):
        report = json.loads(text)
        store = await home.store()
        kept = await sound(store, series, low, high, truth(series, low, high))
        timeless = {name: value for name, value in report.items() if not name.endswith("_sec")}
        seen.add((json.dumps(timeless), kept.sha256(), hashlib.sha256(candles.encode()).hexdigest()))
    assert len(seen) == 1, seen


@pytest.mark.parametrize("path", ["time", "kline"])
@pytest.mark.parametrize("minutes_off", [-10, 10])
async def test_answers_from_machines_whose_clocks_disagree_make_no_gap_and_store_no_open_bar(
    bench, truth, sound, path, minutes_off
):
    now = START + 5 * DAY + 12_345
    bench.exchange.set_clock(now_ms=now, stopped=True)
    bench.exchange.faults(
        {"kind": "skew", "offset_ms": minutes_off * MINUTE, "match": {"path": path, "every": 2}},
        {"kind": "open_close", "factor": 1.2, "match": KLINE},
    )
    store = await bench.store()
    backfill = bench.backfill(store)
    for _ in range(3):
        report = await backfill.run(BTC, START, START + 6 * DAY)
        assert report.gaps == 0
        assert report.revisions == 0
    kept = await store.read_candles(BTC, 0, 2**52)
    reached = int(kept.ts[-1]) + MINUTE
    assert now - 11 * MINUTE < reached <= now + 10 * MINUTE
    await sound(store, BTC, START, reached, truth(BTC, START, reached))
    bench.exchange.faults()
    bench.exchange.set_clock(now_ms=START + 7 * DAY, stopped=True)
    report = await backfill.run(BTC, START, START + 6 * DAY)
    assert report.revisions == 0
    await sound(store, BTC, START, START + 6 * DAY, truth(BTC, START, START + 6 * DAY))
