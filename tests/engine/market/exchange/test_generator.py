"""The generated candles: reproducible, consistent between intervals, sane over years, fast to reach."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.series import Category
from engine.core.timeframes import DAY_MS, INTERVALS, MINUTE_MS, Interval, floor_open, next_open
from engine.market.exchange.generator import CandleGenerator
from engine.market.exchange.listings import Listing, listing_on_demand
from engine.market.exchange.randomness import exponential, normals, stream_key, words
from engine.market.exchange.simulated import SimulatedMarket
from engine.market.exchange.sources import Window

NOW_MS = 1_732_292_345_678
FIRST_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS


def listed(category: Category, symbol: str) -> Listing:
    found = listing_on_demand(category, symbol)
    assert found is not None
    return found


def rows(market: SimulatedMarket, listing: Listing, interval: Interval, first: int, last: int, limit: int = 10**6):
    texts = market.candle_rows(listing, "trade", interval, Window(first, last, limit, newest=True), NOW_MS)
    return [json.loads(text) for text in texts]


BTC = listed("linear", "BTCUSDT")
WHOLE = rows(SimulatedMarket(7), BTC, "1", FIRST_MS, FIRST_MS + 3 * DAY_MS)


@settings(max_examples=40, deadline=None)
@given(begin=st.integers(0, 3 * 1440), length=st.integers(1, 1500))
def test_any_window_asked_of_a_fresh_market_is_the_slice_of_the_bigger_one(begin: int, length: int) -> None:
    first, last = FIRST_MS + begin * MINUTE_MS, FIRST_MS + min(begin + length - 1, 3 * 1440) * MINUTE_MS
    expected = [row for row in WHOLE if first <= int(row[0]) <= last]
    assert rows(SimulatedMarket(7), BTC, "1", first, last) == expected


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)))
def test_pages_asked_in_any_order_join_to_the_same_series(order: list[int]) -> None:
    market = SimulatedMarket(7)
    pages = {
        page: rows(market, BTC, "1", FIRST_MS + page * 12 * 60 * MINUTE_MS, FIRST_MS + (page * 720 + 719) * MINUTE_MS)
        for page in order
    }
    joined = [row for page in range(6) for row in pages[page]]
    assert joined == [row for row in WHOLE if int(row[0]) < FIRST_MS + 3 * DAY_MS]


def test_the_series_is_pinned_so_that_every_platform_and_release_makes_the_same() -> None:
    generator = CandleGenerator(7)
    digest = hashlib.sha256()
    for category, symbol in (("linear", "BTCUSDT"), ("inverse", "ETHUSD"), ("spot", "1000PEPEUSDC")):
        for day in (19_700, 20_400):
            block = generator.minutes(listed(category, symbol), "trade", day)
            for column in (block.open, block.high, block.low, block.close, block.volume, block.turnover):
                digest.update(column.astype("<i8").tobytes())
    assert digest.hexdigest() == PINNED


PINNED = "6c233f57aa32a5f175bf5f35acf9fc59365db24af0ac54aa8e61d86c5d5ae6f6"


def test_another_seed_symbol_or_category_gives_another_series() -> None:
    closes = [
        tuple(row[4] for row in rows(SimulatedMarket(seed), listed(category, symbol), "60", FIRST_MS, FIRST_MS + DAY_MS))
        for seed, category, symbol in (
            (7, "linear", "BTCUSDT"), (8, "linear", "BTCUSDT"), (7, "spot", "BTCUSDT"), (7, "linear", "ETHUSDT"),
        )
    ]  # fmt: skip
    assert len(set(closes)) == 4


@pytest.mark.parametrize("interval", [known for known in INTERVALS if known != "1"])
@pytest.mark.parametrize(("category", "symbol"), [("linear", "1000PEPEUSDT"), ("inverse", "BTCUSD")])
def test_longer_candles_are_exact_aggregates_of_the_minutes(
    interval: Interval, category: Category, symbol: str
) -> None:
    market, listing = SimulatedMarket(7), listed(category, symbol)
    first = floor_open(interval, FIRST_MS)
    after = next_open(interval, next_open(interval, first))
    minutes = rows(market, listing, "1", first, after - MINUTE_MS)
    expected = []
    for open_ms in sorted({floor_open(interval, int(row[0])) for row in minutes}):
        part = [row for row in minutes if open_ms <= int(row[0]) < next_open(interval, open_ms)]
        columns = [[Decimal(row[column]) for row in part] for column in range(7)]
        expected.append(
            [open_ms, columns[1][0], max(columns[2]), min(columns[3]), columns[4][-1], sum(columns[5]), sum(columns[6])]
        )
    found = [[int(row[0]), *map(Decimal, row[1:])] for row in rows(market, listing, interval, first, after - 1, 1000)]
    assert found == expected


def test_every_candle_makes_sense_and_opens_at_the_previous_close() -> None:
    generator = CandleGenerator(7)
    for listing in (BTC, listed("inverse", "BTCUSD"), listed("spot", "DOGEUSDT"), listed("linear", "QUIETUSDT")):
        previous = None
        for day in range(19_600, 19_640):
            block = generator.minutes(listing, "trade", day)
            assert previous is None or block.open[0] == previous
            assert (block.open[1:] == block.close[:-1]).all()
            assert (block.high >= np.maximum(block.open, block.close)).all()
            assert (block.low <= np.minimum(block.open, block.close)).all()
            assert block.low.min() > 0
            assert (block.close % listing.tick_units == 0).all()
            assert (block.high % listing.tick_units == 0).all()
            if listing.category != "inverse":
                assert (block.turnover >= block.volume * block.low).all()
                assert (block.turnover <= block.volume * block.high).all()
            previous = block.close[-1]


def test_quiet_minutes_are_flat_rows_without_volume() -> None:
    generator, listing = CandleGenerator(7), listed("linear", "QUIETUSDT")
    blocks = [generator.minutes(listing, "trade", day) for day in range(19_700, 19_710)]
    quiet = [(block.volume == 0) & block.exists for block in blocks]
    assert sum(int(rows.sum()) for rows in quiet) > 50
    for block, rows_ in zip(blocks, quiet, strict=True):
        assert (block.high[rows_] == block.low[rows_]).all()
        assert (block.close[rows_] == block.open[rows_]).all()
        assert (block.turnover[rows_] == 0).all()


def test_downtimes_leave_gaps_that_the_price_does_not_jump_over() -> None:
    market = SimulatedMarket(7)
    category, begin, end = next(found for found in market.downtimes(NOW_MS) if found[0] == "linear")
    assert category == "linear"
    around = rows(market, BTC, "1", begin - 5 * MINUTE_MS, end + 5 * MINUTE_MS)
    opens = [int(row[0]) for row in around]
    assert not [at for at in opens if begin <= at < end]
    before, after = around[opens.index(begin - MINUTE_MS)], around[opens.index(end)]
    assert after[1] == before[4]


def test_prices_stay_within_reason_over_eight_years() -> None:
    market = SimulatedMarket(7)
    for symbol in ("BTCUSDT", "DOGEUSDT", "SOMECOINUSDT"):
        listing = listed("linear", symbol)
        closes = [float(row[4]) for row in rows(market, listing, "D", 0, NOW_MS)]
        assert len(closes) > 300
        centre = listing.first_price * float(np.exp(listing.growth / 2))
        spread = float(np.exp(abs(listing.growth) / 2)) * 8
        assert centre / spread < min(closes) < max(closes) < centre * spread
        assert max(closes) / min(closes) > 1.5


def test_volatility_comes_in_clusters() -> None:
    closes = np.array([float(row[4]) for row in rows(SimulatedMarket(7), BTC, "60", FIRST_MS, NOW_MS)])
    moves = np.abs(np.diff(np.log(closes)))
    daily = moves[: len(moves) // 24 * 24].reshape(-1, 24).mean(axis=1)
    assert np.corrcoef(daily[:-1], daily[1:])[0, 1] > 0.3


def test_spot_linear_and_inverse_of_one_coin_move_together() -> None:
    market = SimulatedMarket(7)
    last = [
        float(rows(market, listed(category, symbol), "D", NOW_MS - DAY_MS, NOW_MS)[-1][4])
        for category, symbol in (
            ("linear", "BTCUSDT"),
            ("spot", "BTCUSDT"),
            ("inverse", "BTCUSD"),
            ("linear", "BTCPERP"),
        )
    ]
    assert max(last) / min(last) < 1.01


def test_the_open_candle_grows_until_it_is_the_closed_one() -> None:
    market = SimulatedMarket(7)
    open_ms = FIRST_MS

    def seen(at_ms: int) -> list[str]:
        texts = market.candle_rows(BTC, "trade", "1", Window(open_ms, open_ms, 1, newest=True), at_ms)
        return json.loads(texts[0])

    stages = [seen(open_ms + step) for step in (0, 15_000, 30_000, 59_999)]
    final = seen(open_ms + MINUTE_MS)
    assert len({tuple(stage) for stage in stages}) == 4
    highs, lows, volumes = ([Decimal(stage[column]) for stage in [*stages, final]] for column in (2, 3, 5))
    assert highs == sorted(highs)
    assert lows == sorted(lows, reverse=True)
    assert volumes == sorted(volumes)
    assert final == seen(NOW_MS)
    for stage in stages:
        first, high, low, close = map(Decimal, stage[1:5])
        assert low <= min(first, close) <= max(first, close) <= high


def test_the_exponential_is_close_and_monotone() -> None:
    values = np.linspace(-4, 4, 4001)
    assert np.allclose(exponential(values), np.exp(values), rtol=2e-4)
    assert (np.diff(exponential(values)) > 0).all()


def test_normals_have_mean_zero_and_deviation_one() -> None:
    drawn = normals(words(stream_key("a test"), 3, 1, 50_000))
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02
