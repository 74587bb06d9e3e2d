"""F16: exactly the bars that open in [from, to), whatever the bounds are."""

import pytest

from engine.core.series import Series
from engine.core.timeframes import ceil_open
from engine.errors import LabError

pytestmark = pytest.mark.faults

START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LAUNCH = 1_585_132_560_000  # BTCUSDT: 2020-03-25 10:36 UTC
NOW = START + 30 * DAY + 12_345

CASES = {
    "aligned": ("1", START, START + 1500 * MINUTE, 2),
    "from-inside-a-bar": ("1", START + 1, START + 1500 * MINUTE, 2),
    "from-a-millisecond-before-a-bar": ("1", START - 1, START + 1500 * MINUTE, 2),
    "to-inside-a-bar": ("1", START, START + 1499 * MINUTE + 1, 2),
    "to-a-millisecond-before-a-bar": ("1", START, START + 1500 * MINUTE - 1, 2),
    "both-inside-bars": ("15", START + 7 * MINUTE, START + 9 * DAY + 8 * MINUTE, 1),
    "inside-hours": ("60", START + 59 * MINUTE, START + 20 * DAY + 1, 1),
    "inside-days": ("D", START - 40 * DAY + 1, START + 20 * DAY - 1, 1),
    "inside-weeks": ("W", START - 100 * DAY, START + 15 * DAY, 1),
    "inside-months": ("M", START - 200 * DAY, START + 15 * DAY, 1),
    "one-bar": ("1", START, START + MINUTE, 1),
    "one-bar-not-aligned": ("1", START - 30_000, START + 1, 1),
    "a-page-and-one-bar": ("1", START, START + 1001 * MINUTE, 2),
    "no-bar-opens": ("1", START + 1, START + MINUTE, 0),
    "from-before-launch": ("1", LAUNCH - 3 * DAY, LAUNCH + DAY, 4),
    "from-far-before-launch": ("60", 0, LAUNCH + 10 * DAY, 3),
    "all-before-launch": ("1", LAUNCH - 3 * DAY, LAUNCH - DAY, 1),
    "to-in-the-future": ("1", NOW - DAY, NOW + DAY, 3),
    "all-in-the-future": ("1", NOW + DAY, NOW + 2 * DAY, 0),
    "the-open-bar-alone": ("1", NOW // MINUTE * MINUTE, NOW // MINUTE * MINUTE + MINUTE, 1),
    "before-the-epoch": ("60", -DAY, LAUNCH + DAY, 2),
}


@pytest.fixture(scope="module")
def other_reading():
    """Hold the exchange that begins an unaligned start with the next candle; started when first needed."""
    started = []
    yield started
    for exchange in started:
        exchange.kill()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("unaligned", ["containing", "next"])
async def test_exactly_the_bars_that_open_in_the_range_are_stored(
    exchange, new_bench, other_reading, truth, sound, outcome, case, unaligned
):
    if unaligned == "next":
        if not other_reading:
            other_reading.append(type(exchange)("--unaligned-start", "next"))
        exchange = other_reading[0]
        exchange.reset()
    interval, low, high, ideal = CASES[case]
    series = Series("bybit", "linear", "BTCUSDT", "trade", interval)
    exchange.set_clock(now_ms=NOW, stopped=True)
    bench = new_bench(exchange)
    store = await bench.store()
    right = truth(series, max(low, 0), high, now_ms=NOW)
    came = await outcome(bench.backfill(store).run(series, low, high))
    if isinstance(came, LabError):
        # A range without a bar may be an error that names the argument; one with bars may not.
        assert not len(right.ts)
        assert came.code in {"bad_request", "data_missing"}
        assert came.fix
    else:
        assert came.bars == len(right.ts)
        assert came.complete
        assert came.gaps == 0
    await sound(store, series, low, high, right)
    assert len(exchange.pages(interval=interval)) <= ideal + 2
    if len(right.ts):
        assert right.ts[0] >= ceil_open(interval, low)


@pytest.mark.parametrize(("low", "high"), [(START + DAY, START), (START, START)], ids=["from-after-to", "empty"])
async def test_a_range_that_ends_before_it_begins_or_is_empty_asks_for_no_page(bench, outcome, low, high):
    store = await bench.store()
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    came = await outcome(bench.backfill(store).run(series, low, high))
    if isinstance(came, LabError):
        assert came.code == "bad_request"
        assert came.fix
    else:
        assert high == low
        assert came.bars == came.upserts == 0
    assert bench.exchange.pages() == []
    assert await store.coverage(series) == []


async def test_the_command_takes_bounds_inside_bars_and_refuses_reversed_ones(bench, truth, sound):
    done = bench.cli("backfill", "BTCUSDT", "--start", "2024-01-05T00:00:30", "--end", "2024-01-05T02:00:01", "--json")
    assert done.returncode == 0, done.stderr
    low = START + 4 * DAY
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    store = await bench.store()
    await sound(store, series, low + 30_000, low + 2 * HOUR + 1000, truth(series, low + 30_000, low + 2 * HOUR + 1000))
    reversed_bounds = bench.cli("backfill", "BTCUSDT", "--start", "2024-01-06", "--end", "2024-01-05")
    assert reversed_bounds.returncode in (1, 2)
    assert "Traceback" not in reversed_bounds.stderr
