"""Kernels and reference on every file of real candles, with and without the rules beyond the fast loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail, lay_beside
from engine.core.perpetual import MarginTier, Settlements
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import check_accounting
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.timeframes import Interval

FILES: dict[str, Interval] = {
    "btc_perp_1m_2022-01": "1",
    "btcusd_bitstamp_1h_2019-11_2022-03": "60",
    "eth_btc_5m_2018-01": "5",
    "xmr_btc_5m_2018-01": "5",
    "xrpusdt_perp_5m_2021-11": "5",
    "eurusd_1h_2022-01_2025-09": "60",
}
PLAIN = {
    "name": "plain",
    "define": {"f": "ema(close, 10)", "s": "ema(close, 30)"},
    "long_entry": "crossover(f, s)",
    "short_entry": "crossunder(f, s)",
    "stop_loss": {"percent": 1.0},
    "take_profit": {"distance": "4 * atr(14)"},
    "trailing_stop": {"percent": 0.8, "activation_percent": 0.5},
}
FULL = PLAIN | {
    "name": "full",
    "long_entry": "close > s and f > s and rsi(close, 5) < 60",
    "max_entries": 3,
    "partial_take_profits": [{"fraction": 0.5, "percent": 0.4}, {"fraction": 0.3, "distance": "2 * atr(14)"}],
    "session": {"start_hour": 6, "end_hour": 22, "weekdays": [0, 1, 2, 3, 4], "flat_outside": True},
    "size": {"equity_fraction": 0.3},
}
ORDERS = PLAIN | {"name": "orders", "entry_order": {"type": "limit", "percent": 0.2, "bars": 4}}
TIERS = (MarginTier(50_000.0, 0.005), MarginTier(1e9, 0.01, 250.0))


def read_candles(path: Path) -> Candles:
    table = parquet.read_table(path)
    columns = [table[name].to_numpy() for name in ("ts", "open", "high", "low", "close", "volume")]
    return Candles(*columns, np.full(len(columns[0]), math.nan))


def assert_equal_runs(candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> int:
    found = simulate(candles, signals, settings, detail)
    judged = simulate_plainly(candles, signals, settings, detail)
    assert found.equity.tobytes() == judged.equity.tobytes()
    for name in ("entry_bar", "exit_bar", "exit_reason", "pnl", "funding", "mae", "mfe"):
        assert getattr(found.trades, name).tobytes() == getattr(judged.trades, name).tobytes(), name
    assert check_accounting(found, candles, settings, detail) == ()
    return len(found.trades)


@pytest.mark.parametrize("name", FILES)
def test_kernels_and_reference_agree_on_real_candles(name: str, shared_folder: Path) -> None:
    candles = read_candles(shared_folder / "data" / f"{name}.parquet")
    candles = candles.take(slice(0, 12_000))
    interval = FILES[name]
    hours = np.arange(candles.ts[0] // 28_800_000 + 1, candles.ts[-1] // 28_800_000) * 28_800_000
    settlements = Settlements(hours, np.full(len(hours), 0.0001), np.full(len(hours), float(candles.close[0])))
    detail = lay_beside(candles, interval, settlements=settlements, mark=candles)
    plain = ExecutionSettings(capital=10_000.0, slippage_fraction=0.0001)
    margined = ExecutionSettings(capital=10_000.0, leverage=20.0, margin_tiers=TIERS, slippage_fraction=0.0001)
    trades = [
        assert_equal_runs(candles, compute_signals(compile_strategy(parse_strategy(PLAIN)), candles, interval), plain,
                          MarketDetail()),
        assert_equal_runs(candles, compute_signals(compile_strategy(parse_strategy(FULL)), candles, interval), margined,
                          detail),
        assert_equal_runs(candles, compute_signals(compile_strategy(parse_strategy(ORDERS)), candles, interval),
                          margined, detail),
    ]  # fmt: skip
    assert all(trades)


def test_real_funding_and_mark_prices_are_charged(shared_folder: Path) -> None:
    data = shared_folder / "data"
    candles = read_candles(data / "xrpusdt_perp_5m_2021-11.parquet")
    funding = parquet.read_table(data / "xrpusdt_perp_funding_8h_2021-11.parquet")
    mark = read_candles(data / "xrpusdt_perp_mark_8h_2021-11.parquet")
    rows = np.searchsorted(mark.ts, funding["ts"].to_numpy())
    settlements = Settlements(funding["ts"].to_numpy(), funding["funding_rate"].to_numpy(), mark.open[rows])
    detail = lay_beside(candles, "5", settlements=settlements)
    within = settlements.ts <= candles.ts[-1]
    assert 0 < within.sum() < len(settlements)
    nothing = np.zeros(len(candles), bool)
    entry = nothing.copy()
    entry[0] = True
    signals = Signals(
        entry, nothing, nothing, nothing, math.nan, None, math.nan, None, math.nan, None, math.nan, math.nan, 0, 0
    )
    settings = ExecutionSettings(capital=10_000.0, size_mode="quantity", size_value=1_000.0)
    simulation = simulate(candles, signals, settings, detail)
    expected = 1_000.0 * float(np.sum(settlements.rate[within] * settlements.mark_price[within]))
    assert simulation.trades.funding[0] == pytest.approx(expected)


def test_real_minutes_decide_the_bars_they_make_up(shared_folder: Path) -> None:
    minutes = read_candles(shared_folder / "data" / "btc_perp_1m_2022-01.parquet")
    edges = np.unique(minutes.ts // 3_600_000) * 3_600_000
    start, stop = np.searchsorted(minutes.ts, edges), np.searchsorted(minutes.ts, edges + 3_600_000)
    candles = Candles(
        edges, minutes.open[start], np.maximum.reduceat(minutes.high, start), np.minimum.reduceat(minutes.low, start),
        minutes.close[stop - 1], np.add.reduceat(minutes.volume, start), np.full(len(edges), math.nan),
    )  # fmt: skip
    document = PLAIN | {"stop_loss": {"percent": 0.3}, "take_profit": {"percent": 0.3}, "long_entry": "close > open"}
    signals = compute_signals(compile_strategy(parse_strategy(document)), candles, "60")
    settings = ExecutionSettings(capital=10_000.0, intrabar="magnify")
    detail = lay_beside(candles, "60", minutes=minutes)
    simulation = simulate(candles, signals, settings, detail)
    assert simulation.ambiguous_bars > 20
    # A minute may hold both itself; nearly all bars are decided.
    assert simulation.decided_bars > 0.9 * simulation.ambiguous_bars
    assert_equal_runs(candles, signals, settings, detail)
