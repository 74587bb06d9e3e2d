import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.sketches import sketch_of
from engine.core.timeframes import DAY_MS
from engine.store.probe_store import Probe

HOUR_MS = 3_600_000
BARS = 24 * 40


def candles_of(closes: np.ndarray) -> Candles:
    return Candles(np.arange(len(closes), dtype=np.int64) * HOUR_MS, *[closes] * 4, *[np.ones(len(closes))] * 2)


def walk(seed: int) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, BARS)))


def series_of(symbol: str, interval: str = "60") -> Series:
    return Series("bybit", "linear", symbol, "trade", interval)


async def look(
    store, symbol: str, closes: np.ndarray, expression: str = "close < open", days: tuple[int, int] = (0, 40)
):
    sketch = sketch_of(symbol, "60", candles_of(closes))
    range_ms = (days[0] * DAY_MS, days[1] * DAY_MS)
    return await store.note_probe(series_of(symbol), expression, range_ms, sketch, at_ms=7)


async def test_a_probe_is_written_down_once_for_the_bars_it_saw(store):
    assert await look(store, "BTCUSDT", walk(1), days=(10, 30))
    assert not await look(store, "BTCUSDT", walk(1), days=(12, 20))
    assert not await look(store, "BTCPERP", walk(1), days=(10, 30)), "another name of the same coin"
    assert await look(store, "BTCUSDT", walk(1), days=(10, 40))
    assert await look(store, "BTCUSDT", walk(1), "open < close", days=(0, 5))
    btc = [("bybit", "BTC")]
    assert await store.probes(btc, (0, 40 * DAY_MS)) == {Probe("close < open", "60"), Probe("open < close", "60")}
    assert await store.probes(btc, (0, 10 * DAY_MS)) == {Probe("open < close", "60")}
    assert await store.probes([("bybit", "ETH")], (0, 40 * DAY_MS)) == frozenset()
    assert await store.are_probes_intact()


@pytest.mark.parametrize(
    ("closes", "is_copy"),
    [(walk(1) * 3.3, True), (100 / walk(1), True), (walk(2), False), (walk(1) * np.exp(walk(3) / 100), False)],
    ids=["scaled", "upside down", "another", "altered"],
)
async def test_a_coin_whose_closes_move_as_one_is_the_same_market(store, closes, is_copy):
    await look(store, "BTCUSDT", walk(1))
    await look(store, "MYUSDT", closes)
    expected = {("bybit", "BTC"), ("bybit", "MY")} if is_copy else {("bybit", "BTC")}
    assert await store.same_markets([("bybit", "BTC")]) == expected
    sketch = sketch_of("BTCUSDT", "60", candles_of(walk(1)))
    assert await store.same_markets([("bybit", "BTC")], [sketch]) == expected


async def test_bars_that_were_replaced_since_are_still_known(store):
    await look(store, "MYUSDT", walk(1) * 2, "close < 1")
    await look(store, "MYUSDT", walk(5), "close < 1")
    await look(store, "BTCUSDT", walk(1))
    assert ("bybit", "MY") in await store.same_markets([("bybit", "BTC")])


async def test_a_changed_probe_is_found(store):
    from sqlalchemy import update

    from engine.store.tables import PROBES

    for number in range(3):
        await look(store, "BTCUSDT", walk(1), f"close < {number}")

    async def change(connection):
        await connection.execute(update(PROBES).where(PROBES.c.number == 2).values(underlying="ETH"))

    await store._write(change)
    assert not await store.are_probes_intact()
