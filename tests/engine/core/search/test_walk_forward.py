"""Judging on bars that were not fitted on, and joining what was judged."""

from __future__ import annotations

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail
from engine.core.search.table import PointTable
from engine.core.search.walk_forward import annual_return, drift, judge, purge_bars, stitch, stitched_sharpe
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy

HOUR = 3_600_000
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC, a midnight
SETTINGS = ExecutionSettings(capital=1_000.0, taker_fee_fraction=0.0005, slippage_fraction=0.0001)
DOCUMENT = parse_strategy(
    {
        "name": "cross",
        "params": {"n": {"default": 5, "min": 2, "max": 50, "integer": True}},
        "long_entry": "crossover(close, sma(close, n))",
        "long_exit": "crossunder(close, sma(close, n))",
    }
)


def walk(bars: int) -> Candles:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, bars)))
    opens = np.concatenate(([100.0], close[:-1]))
    ts = START + HOUR * np.arange(bars, dtype=np.int64)
    return Candles(
        ts,
        opens,
        np.maximum(opens, close) * 1.001,
        np.minimum(opens, close) * 0.999,
        close,
        np.ones(bars),
        np.ones(bars),
    )


def test_indicators_have_seen_the_bars_before_and_the_account_begins_flat():
    candles = walk(300)
    compiled = compile_strategy(DOCUMENT)
    tested = judge(compiled, candles, "60", SETTINGS, MarketDetail(), {}, (120, 260))
    signals = compute_signals(compiled, candles, "60")
    entries = np.flatnonzero(signals.long_entry[120:260])
    assert len(tested.equity) == 140
    # The first entry of the whole history at or after bar 120 is the first trade, filled one bar later.
    assert tested.trades.entry_bar[0] == entries[0] + 1
    assert (tested.equity[: entries[0] + 1] == 1_000.0).all()


def test_what_comes_after_the_window_changes_nothing():
    candles = walk(300)
    compiled = compile_strategy(DOCUMENT)
    whole = judge(compiled, candles, "60", SETTINGS, MarketDetail(), {}, (120, 200))
    cut = judge(compiled, candles.take(slice(0, 200)), "60", SETTINGS, MarketDetail(), {}, (120, 200))
    assert np.array_equal(whole.equity, cut.equity)


def test_judging_everything_is_an_ordinary_run():
    candles = walk(300)
    compiled = compile_strategy(DOCUMENT)
    plain = simulate(candles, compute_signals(compiled, candles, "60"), SETTINGS)
    tested = judge(compiled, candles, "60", SETTINGS, MarketDetail(), {}, (0, 300))
    assert np.array_equal(plain.equity, tested.equity)


def test_funding_at_the_close_of_the_last_bar_is_charged_in_its_window():
    candles = walk(40)
    always = compile_strategy(parse_strategy({"name": "hold", "long_entry": "close > 0"}))
    at_open, inside = np.zeros(40), np.zeros(40)
    at_open[20] = 0.5
    detail = MarketDetail(funding_at_open=at_open, funding_inside=inside)
    free = ExecutionSettings(capital=1_000.0, size_mode="quantity", size_value=1.0)
    paid = judge(always, candles, "60", free, detail, {}, (10, 20))
    unpaid = judge(always, candles, "60", free, MarketDetail(), {}, (10, 20))
    assert paid.equity[-1] == pytest.approx(unpaid.equity[-1] - 0.5, abs=1e-9)
    assert np.allclose(paid.equity[:-1], unpaid.equity[:-1])
    assert inside[19] == 0.0, "the whole market's funding stays as it is"


def test_stitched_equity_is_the_product_of_the_stretches_by_hand():
    candles = walk(72)
    first = np.full(48, 1_000.0)
    first[23], first[24:] = 1_100.0, 1_200.0
    second = np.full(24, 1_000.0)
    second[-1] = 900.0
    joined = stitch([(candles.take(slice(0, 48)), first), (candles.take(slice(48, 72)), second)], 1_000.0, "60")
    assert joined.equity[[0, 23, 47, 48, 70, 71]].tolist() == pytest.approx([1_000, 1_100, 1_200, 1_200, 1_200, 1_080])
    # Daily marks at 00:00 of days 2, 3 and 4: 1100, 1200, 1080.
    assert joined.daily_returns.tolist() == pytest.approx([0.1, 1_200 / 1_100 - 1, -0.1])
    assert annual_return(joined.daily_returns) == pytest.approx(365 * (0.1 + 1_200 / 1_100 - 1 - 0.1) / 3)


def test_a_stretch_that_loses_everything_ends_the_account():
    candles = walk(48)
    joined = stitch(
        [(candles.take(slice(0, 24)), np.full(24, -5.0)), (candles.take(slice(24, 48)), np.full(24, 1_000.0))],
        1_000.0,
        "60",
    )
    assert (joined.equity == 0).all()
    assert stitched_sharpe(joined) is None
    assert annual_return(joined.daily_returns) is None


def test_a_purge_is_the_longest_warm_up_but_a_tenth_at_most():
    table = PointTable(("n",), np.array([[2.0], [50.0]]), {})
    assert purge_bars(DOCUMENT, table, "60", 10_000) == compile_strategy(DOCUMENT, {"n": 50}).warmup_bars("60")
    assert purge_bars(DOCUMENT, table, "60", 100) == 10


def test_drift_tells_what_every_window_chose():
    rows = drift(["a", "b"], [np.array([1.0, 5.0]), None, np.array([2.0, 5.0]), np.array([2.0, 7.0])])
    assert rows[0] == {"param": "a", "values": [1, None, 2, 2], "lowest": 1, "highest": 2, "changes": 1}
    assert rows[1]["changes"] == 1
