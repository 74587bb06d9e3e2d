"""F3, F4 and F5: the exchange says slower, not now, or go away."""

import asyncio
import json

import pytest

from engine.core.series import Series
from engine.errors import Banned
from engine.market.clock import SystemClock

pytestmark = pytest.mark.faults

BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, DAY = 60_000, 86_400_000
KLINE = {"path": "kline"}


async def test_a_storm_of_too_many_visits_slows_the_rate_and_ends_with_every_candle(bench, truth, sound, fast_clock):
    high = START + 20_000 * MINUTE
    bench.exchange.faults({"kind": "retcode", "match": {**KLINE, "probability": 0.3}}, seed=5)
    store = await bench.store()
    clock = fast_clock(20)
    report = await bench.backfill(store, clock=clock, rate=20.0).run(BTC, START, high)
    assert report.complete
    assert bench.limiter.rate_per_s < 20.0
    await sound(store, BTC, START, high, truth(BTC, START, high))
    asked = bench.exchange.pages(interval="1")
    refused = [entry for entry in asked if entry["ret_code"] == 10006]
    assert len(refused) >= 3
    assert len(asked) <= 20 * 2.0


def arrived_between(entries, first_ms, until_ms):
    return [entry for entry in entries if first_ms < entry["arrived_ms"] < until_ms]


async def test_nothing_is_asked_between_too_many_visits_and_the_reset_the_exchange_named(bench, truth, sound):
    high = START + 8000 * MINUTE
    bench.exchange.faults({"kind": "retcode", "reset_after_ms": 1500, "match": {**KLINE, "every": 4}})
    store = await bench.store()
    await bench.backfill(store, clock=SystemClock(), rate=50.0, in_flight=1).run(BTC, START, high)
    await sound(store, BTC, START, high, truth(BTC, START, high))
    asked = bench.exchange.journal()
    refused = [place for place, entry in enumerate(asked) if entry["ret_code"] == 10006]
    assert refused
    for place in refused:
        # The reset is named after the refused request has arrived.
        assert asked[place + 1]["arrived_ms"] >= asked[place]["arrived_ms"] + 1500, "asked again before the reset"


async def test_with_pages_in_flight_only_those_under_way_arrive_before_the_named_reset(bench, truth, sound):
    high = START + 12_000 * MINUTE
    bench.exchange.faults({"kind": "retcode", "reset_after_ms": 2000, "match": {**KLINE, "nth": 3}})
    store = await bench.store()
    await bench.backfill(store, clock=SystemClock(), rate=50.0).run(BTC, START, high)
    await sound(store, BTC, START, high, truth(BTC, START, high))
    asked = bench.exchange.pages(interval="1")
    (refused,) = [entry for entry in asked if entry["ret_code"] == 10006]
    assert len(arrived_between(asked, refused["at_ms"], refused["arrived_ms"] + 2000)) <= 3


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "status", "code": 429},
        {"kind": "status", "code": 500},
        {"kind": "status", "code": 502, "html": True},
        {"kind": "status", "code": 503, "retry_after_s": 1},
        {"kind": "retcode", "code": 10016, "message": "server error"},
        {"kind": "retcode", "code": 10000, "message": "Server Timeout"},
    ],
    ids=lambda answer: "-".join(
        str(value) for value in answer.values() if not isinstance(value, str) or " " not in value
    ),
)
async def test_a_burst_of_ten_failed_answers_is_waited_out_with_jitter(bench, truth, sound, fast_clock, answer):
    high = START + 6000 * MINUTE
    bench.exchange.faults({**answer, "match": {**KLINE, "from_call": 3, "count": 10}})
    store = await bench.store()
    clock = fast_clock(50)
    report = await bench.backfill(store, clock=clock).run(BTC, START, high)
    assert report.complete
    await sound(store, BTC, START, high, truth(BTC, START, high))
    assert len(bench.exchange.pages(interval="1")) <= 6 + 10 + 2
    waits = [seconds for seconds in clock.waits if seconds > 0]
    assert len(set(waits)) > 3, "waits differ"


async def test_a_burst_of_failures_longer_than_all_tries_ends_with_an_error_and_leaves_a_prefix(
    bench, truth, sound, fast_clock
):
    high = START + 6000 * MINUTE
    bench.exchange.faults({"kind": "status", "code": 503, "match": {**KLINE, "from_call": 4}})
    store = await bench.store()
    with pytest.raises(Exception) as failed:  # noqa: PT011 - the type is what is looked at
        await bench.backfill(store, clock=fast_clock(200), in_flight=1).run(BTC, START, high)
    assert failed.value.code == "unavailable"
    assert len(bench.exchange.pages(interval="1")) <= 80
    prefix = await store.count_bars(BTC, START, high)
    assert prefix % 1000 == 0
    await sound(store, BTC, START, START + prefix * MINUTE, truth(BTC, START, START + prefix * MINUTE))
    bench.exchange.faults()
    bench.exchange.forget()
    await bench.backfill(store).run(BTC, START, high)
    await sound(store, BTC, START, high, truth(BTC, START, high))
    assert len(bench.exchange.pages(interval="1")) <= (6000 - prefix) // 1000 + 2


def during(entries, banned, ban_s):
    """Return what arrived after the ban was told and before it was over."""
    return arrived_between(entries, banned["at_ms"], banned["arrived_ms"] + ban_s * 1000)


async def test_during_a_ban_no_process_asks_and_a_restart_obeys_it(new_exchange, new_bench, truth, sound, patience_s):
    exchange = new_exchange()
    bench = new_bench(exchange)
    ban_s = 8
    exchange.faults({"kind": "ban", "seconds": ban_s, "match": {**KLINE, "from_call": 4, "count": 1}})
    span = ("--start", "2024-01-01", "--end", "2024-01-11", "--json")
    first = bench.start_cli("backfill", "BTCUSDT", *span, BST_BAN_SECONDS=str(ban_s))
    banned = exchange.until(lambda: [entry for entry in exchange.journal() if entry["status"] == 403])[0]
    store = await bench.store()
    async with asyncio.timeout(patience_s):
        while not await store.ban_until_ms(exchange.url):  # noqa: ASYNC110 - the refused process writes it
            await asyncio.sleep(0.02)
    second = bench.start_cli("backfill", "ETHUSDT", *span, BST_BAN_SECONDS=str(ban_s))
    first.kill()
    first.communicate()
    restarted = bench.cli("backfill", "BTCUSDT", *span, BST_BAN_SECONDS=str(ban_s))
    _, second_err = second.communicate(timeout=patience_s)
    early = during(exchange.journal(), banned, ban_s)
    assert len(early) <= 3, early  # pages in flight beside the one that was refused
    assert all("kline" in entry["path"] and "BTCUSDT" in entry["query"] for entry in early), early
    outcomes = {}
    for name, code, err in (
        ("restarted", restarted.returncode, restarted.stderr),
        ("second", second.returncode, second_err),
    ):
        assert "Traceback" not in err
        outcomes[name] = (code, err)
    # Whoever gave up during the ban goes on after it.
    high = START + 10 * DAY
    while (await store.ban_until_ms(exchange.url)) > SystemClock().now_ms():  # noqa: ASYNC110 - time alone ends it
        await asyncio.sleep(0.2)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        done = bench.cli("backfill", symbol, *span)
        assert done.returncode == 0, (done.stderr, outcomes)
        series = Series("bybit", "linear", symbol, "trade", "1")
        await sound(store, series, START, high, truth(series, START, high))
    assert len(exchange.pages(interval="1")) <= 2 * 15 * 1.6


async def test_a_running_backfill_waits_for_the_end_of_a_short_ban_and_finishes(new_exchange, new_bench, truth, sound):
    exchange = new_exchange()
    bench = new_bench(exchange)
    exchange.faults({"kind": "ban", "seconds": 3, "match": {**KLINE, "nth": 3}})
    store = await bench.store()
    high = START + 10_000 * MINUTE
    backfill = bench.backfill(store, clock=SystemClock(), ban_s=3.0)
    other = Series("bybit", "linear", "ETHUSDT", "trade", "1")
    await asyncio.gather(backfill.run(BTC, START, high), backfill.run(other, START, high))
    banned = next(entry for entry in exchange.journal() if entry["status"] == 403)
    early = during(exchange.journal(), banned, 3)
    assert len(early) <= 2 * 4 - 1, early  # pages in flight beside the one that was refused
    for series in (BTC, other):
        kept = await store.read_candles(series, START, high)
        assert kept.sha256() == truth(series, START, high).sha256()


async def test_a_ban_is_told_with_the_seconds_that_remain(new_exchange, new_bench):
    exchange = new_exchange()
    bench = new_bench(exchange)
    exchange.faults({"kind": "ban", "seconds": 600, "match": {**KLINE, "nth": 1}})
    store = await bench.store()
    feed = bench.feed(store, clock=SystemClock(), ban_s=600.0)
    with pytest.raises(Banned):
        await feed.candle_page(BTC, START, START + 100 * MINUTE)
    asked = len(exchange.journal())
    for _ in range(20):
        with pytest.raises(Banned) as refused:
            await feed.candle_page(BTC, START, START + 100 * MINUTE)
        assert 0 < refused.value.retry_after_s <= 601
    assert len(exchange.journal()) == asked
    answered = bench.cli("call", "get_candles", json.dumps({"symbol": "BTCUSDT", "interval": "15", "limit": 5}))
    assert answered.returncode == 1
    assert json.loads(answered.stdout)["code"] == "banned", answered.stdout
    assert len(exchange.journal()) == asked
