"""F8 to F11: pages with wrong, repeated, changed, missing or foreign rows."""

import pytest

from engine.core.series import Series
from engine.errors import LabError

pytestmark = pytest.mark.faults

BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, DAY = 60_000, 86_400_000
HIGH = START + 8000 * MINUTE
KLINE = {"path": "kline"}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "out_of_order"},
        {"kind": "duplicates", "rows": 40},
        {"kind": "foreign_rows", "rows": 5},
        {"kind": "foreign_rows", "rows": 5, "shift_ms": 1000 * MINUTE},
        {"kind": "foreign_rows", "rows": 1000, "shift_ms": -1000 * MINUTE},
    ],
    ids=["out-of-order", "repeated-rows", "rows-of-last-month", "rows-of-the-next-page", "a-page-too-many"],
)
@pytest.mark.parametrize("in_flight", [1, 4])
async def test_disorder_in_every_page_changes_nothing_of_what_is_stored(bench, truth, sound, fault, in_flight):
    bench.exchange.faults({**fault, "match": KLINE})
    store = await bench.store()
    report = await bench.backfill(store, in_flight=in_flight).run(BTC, START, HIGH)
    assert report.complete
    assert report.gaps == 0
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) == 8


@pytest.mark.parametrize("shift_pages", [-1, 1, -20])
async def test_the_page_of_another_window_is_refused_and_asked_again(bench, truth, sound, shift_pages):
    bench.exchange.faults(
        {"kind": "other_window", "shift_ms": shift_pages * 1000 * MINUTE, "match": {**KLINE, "every": 3}}
    )
    store = await bench.store()
    await bench.backfill(store).run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 2


async def test_a_page_moved_by_a_part_of_itself_leaves_no_hole(bench, truth, sound):
    bench.exchange.faults({"kind": "other_window", "shift_ms": 300 * MINUTE, "match": {**KLINE, "every": 2}})
    store = await bench.store()
    await bench.backfill(store).run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 4


async def test_one_bar_with_two_values_in_a_page_is_not_believed_but_asked_again(bench, truth, sound):
    bench.exchange.faults({"kind": "conflict", "rows": 3, "factor": 1.02, "match": {**KLINE, "every": 3}})
    store = await bench.store()
    report = await bench.backfill(store).run(BTC, START, HIGH)
    assert report.revisions == 0
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 2


async def test_a_closed_candle_that_changed_later_is_recorded_the_latest_wins_and_the_coverage_tells(
    bench, truth, sound
):
    changed = (HIGH - 2 * MINUTE, HIGH)
    bench.exchange.faults(
        {"kind": "revise", "from_ms": changed[0], "to_ms": changed[1], "factor": 1.05, "match": KLINE}
    )
    store = await bench.store()
    backfill = bench.backfill(store)
    await backfill.run(BTC, START, HIGH)
    right = truth(BTC, *changed)
    wrong = await store.read_candles(BTC, *changed)
    assert (wrong.close != right.close).all()
    assert await store.revisions(BTC, 0, 2**52) == []
    bench.exchange.faults()
    bench.exchange.forget()
    later = HIGH + 500 * MINUTE
    report = await backfill.run(BTC, START, later)
    assert report.revisions == 2
    assert len(bench.exchange.pages(interval="1")) <= 2
    revisions = await store.revisions(BTC, 0, 2**52)
    assert len(revisions) == 2
    await sound(store, BTC, START, later, truth(BTC, START, later))
    await bench.close()
    (series,) = bench.call("get_coverage", symbol="BTCUSDT")["items"]
    assert series["revised_bars"] == 2
    assert series["bars"] == 8500


@pytest.mark.parametrize("side", ["newest", "oldest"])
@pytest.mark.parametrize("in_flight", [1, 4])
async def test_a_server_that_always_sends_200_of_1000_rows_leaves_no_hole(bench, truth, sound, side, in_flight):
    bench.exchange.faults({"kind": "short_page", "keep": 200, "side": side, "match": KLINE})
    store = await bench.store()
    report = await bench.backfill(store, in_flight=in_flight).run(BTC, START, HIGH)
    assert report.complete
    assert report.gaps == 0
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 5 * 1.5


@pytest.mark.parametrize("keep", [0, 1, 200, 999])
@pytest.mark.parametrize("side", ["newest", "oldest"])
async def test_a_page_that_is_short_now_and_then_leaves_no_hole(bench, truth, sound, keep, side):
    bench.exchange.faults({"kind": "short_page", "keep": keep, "side": side, "match": {**KLINE, "every": 3}})
    store = await bench.store()
    report = await bench.backfill(store).run(BTC, START, HIGH)
    assert report.gaps == 0
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 3


async def test_a_server_that_ignores_the_bounds_is_noticed_and_nothing_is_stored(bench, fast_clock):
    bench.exchange.faults({"kind": "ignore_start", "match": KLINE})
    store = await bench.store()
    with pytest.raises(LabError) as failed:
        await bench.backfill(store, clock=fast_clock(100), patience_s=20).run(BTC, START, HIGH)
    assert failed.value.code == "bad_payload"
    assert await store.coverage(BTC) == []
    assert await store.count_bars(BTC, 0, 2**52) == 0
    assert len(bench.exchange.pages(interval="1")) <= 8 * 12


async def test_a_server_that_ignores_the_bounds_now_and_then_costs_only_further_requests(bench, truth, sound):
    bench.exchange.faults({"kind": "ignore_start", "match": {**KLINE, "every": 3}})
    store = await bench.store()
    await bench.backfill(store).run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 * 2
