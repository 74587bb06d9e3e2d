"""TradingView's lists of trades: two real ones against our trades, spellings, and planted differences."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.tradingview import TradeColumns, columns_of, compare_trades, parse_trade_list
from engine.errors import BadRequest

TICK = 1e-5
RULES = {
    "rsi": ("crossover(rsi(close, 14), 30)", "crossunder(rsi(close, 14), 70)", 194),
    "macd": ("crossover(macd_hist(close), 0)", "crossunder(macd_hist(close), 0)", 1_808),
}


@lru_cache(maxsize=1)
def read_bars(folder: Path) -> Candles:
    table = parquet.read_table(folder / "data" / "eurusd_1h_2022-01_2025-09.parquet")
    prices = [table.column(name).to_numpy().astype(np.float64) for name in ("open", "high", "low", "close")]
    nothing = np.full(len(table), np.nan)
    return Candles(table.column("ts").to_numpy().astype(np.int64), *prices, nothing, nothing)


def our_trades(candles: Candles, name: str, *, fee: float = 0.0) -> TradeColumns:
    long_entry, short_entry, _ = RULES[name]
    document = parse_strategy({"name": name, "long_entry": long_entry, "short_entry": short_entry})
    signals = compute_signals(compile_strategy(document), candles, "60")
    execution = ExecutionSettings(
        capital=1_000.0, size_mode="quantity", size_value=1.0, leverage=10.0, taker_fee_fraction=fee
    )
    return columns_of(simulate(candles, signals, execution).trades, candles)


@lru_cache(maxsize=4)
def pair(folder: Path, name: str) -> tuple[TradeColumns, TradeColumns]:
    text = (folder / "data" / "tradingview" / f"{name}_trades.csv").read_text(encoding="utf-8-sig")
    return parse_trade_list(text), our_trades(read_bars(folder), name)


@pytest.mark.parametrize("name", RULES)
def test_the_real_lists_are_ours_trade_for_trade(shared_folder: Path, name: str) -> None:
    theirs, ours = pair(shared_folder, name)
    count = RULES[name][2]
    assert len(theirs) == count
    found = compare_trades(theirs, ours.take(np.arange(count)), read_bars(shared_folder), tick=TICK)
    assert found.matched_entries == count
    assert found.matched == count
    assert found.first_difference is None
    assert found.explanations == ()


def rsi(folder: Path) -> tuple[TradeColumns, TradeColumns, Candles]:
    theirs, ours = pair(folder, "rsi")
    return theirs, ours.take(np.arange(len(theirs))), read_bars(folder)


def test_a_shifted_chart_is_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    moved = replace(theirs, entry_ms=theirs.entry_ms - 5 * 3_600_000, exit_ms=theirs.exit_ms - 5 * 3_600_000)
    found = compare_trades(moved, ours, candles, tick=TICK)
    assert found.likely_reason == "session_or_time_zone"
    assert "+300 minutes" in found.explanations[0].detail
    assert found.explanations[0].confidence > 0.95


def test_a_missing_bar_is_recognised(shared_folder: Path) -> None:
    theirs, _, candles = rsi(shared_folder)
    row = int(np.searchsorted(candles.ts, theirs.entry_ms[40]))
    holed = candles.take(np.delete(np.arange(len(candles)), row))
    found = compare_trades(theirs, our_trades(holed, "rsi").take(np.arange(194)), holed, tick=TICK)
    assert found.first_difference is not None
    assert found.first_difference.their_row in (39, 40)
    assert found.likely_reason == "missing_bar"


def test_fills_at_the_close_of_the_deciding_bar_are_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    rows, exits = (np.searchsorted(candles.ts, column) - 1 for column in (theirs.entry_ms, theirs.exit_ms))
    earlier = replace(
        theirs,
        entry_ms=candles.ts[rows],
        exit_ms=candles.ts[exits],
        entry_price=candles.close[rows],
        exit_price=candles.close[exits],
    )
    found = compare_trades(earlier, ours, candles, tick=TICK)
    assert found.matched_entries == 0
    assert found.likely_reason == "fill_rule"


def test_slippage_is_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    slipped = replace(
        theirs,
        entry_price=theirs.entry_price + 7 * TICK * theirs.side,
        exit_price=theirs.exit_price - 7 * TICK * theirs.side,
    )
    found = compare_trades(slipped, ours, candles, tick=TICK)
    assert found.likely_reason == "slippage"
    assert "7e-05 worse" in found.explanations[0].detail
    assert found.first_difference is not None
    assert found.first_difference.their_row == 0
    assert found.first_difference.fields == ("entry_price", "exit_price")


def test_slippage_in_percent_is_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    slipped = replace(theirs, entry_price=theirs.entry_price * (1 + 0.001 * theirs.side))
    assert compare_trades(slipped, ours, candles, tick=TICK).likely_reason == "slippage"


def test_coarser_ticks_are_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    coarse = replace(theirs, entry_price=np.round(theirs.entry_price, 3), exit_price=np.round(theirs.exit_price, 3))
    found = compare_trades(coarse, ours, candles)
    assert found.likely_reason == "tick_rounding"
    assert "0.001" in found.explanations[0].detail


def test_another_size_is_recognised(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    doubled = replace(theirs, quantity=theirs.quantity * 2, pnl=theirs.pnl * 2)
    found = compare_trades(doubled, ours, candles, tick=TICK)
    assert found.likely_reason == "size"
    assert "2 times ours" in found.explanations[0].detail


def test_a_fee_is_recognised_and_measured(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    turnover = theirs.quantity * (theirs.entry_price + theirs.exit_price)
    exact = replace(theirs, pnl=ours.pnl - 0.001 * turnover, pnl_step=np.full(len(theirs), 5e-6))
    found = compare_trades(exact, ours, candles, tick=TICK)
    assert found.likely_reason == "fee"
    assert "0.1 % of each fill more" in found.explanations[0].detail


def test_an_average_seeded_otherwise_is_recognised(shared_folder: Path) -> None:
    candles = read_bars(shared_folder)
    theirs, _ = pair(shared_folder, "macd")
    # Another price before the first trades seeds the averages elsewhere; once they have forgotten, signals are the same.
    late = replace(candles, close=np.concatenate((candles.close[:60] * 1.02, candles.close[60:])))
    ours = our_trades(late, "macd")
    ours = ours.take(np.flatnonzero(ours.entry_ms <= theirs.entry_ms[-1]))
    found = compare_trades(theirs, ours, late, tick=TICK)
    assert 0 < len(theirs) - found.matched < 40
    assert found.likely_reason == "seed_of_the_average"


def test_differences_without_a_pattern_are_called_unknown(shared_folder: Path) -> None:
    theirs, ours, candles = rsi(shared_folder)
    noise = np.random.default_rng(1).normal(0, 0.01, len(theirs))
    found = compare_trades(replace(theirs, entry_price=theirs.entry_price + noise), ours, candles, tick=TICK)
    assert found.likely_reason == "unknown"
    assert found.explanations[0].confidence == 0.0


OLD = """Trade #,Type,Signal,Date/Time,Price USDT,Contracts,Profit USDT,Profit %,Cum. Profit USDT,Cum. Profit %
1,Exit Long,Close,2024-01-02 08:00,"42,100.5",0.5,50.25,0.2,50.25,0.2
1,Entry Long,Buy,2024-01-01 00:00,42000,0.5,50.25,0.2,50.25,0.2
2,Entry Short,Sell,2024-01-03 00:00,43000,0.5,\u2212100.00,-0.4,-49.75,-0.2
2,Exit Short,Open,2024-01-04 00:00,43200,0.5,\u2212100.00,-0.4,-49.75,-0.2
"""


def test_older_headers_local_times_either_order_and_an_open_trade_are_read() -> None:
    found = parse_trade_list(OLD, utc_offset_minutes=120)
    assert found.side.tolist() == [1, -1]
    assert found.entry_ms[0] == 1_704_067_200_000 - 7_200_000
    assert found.entry_price.tolist() == [42_000.0, 43_000.0]
    assert found.exit_price[0] == 42_100.5
    assert found.pnl.tolist() == [50.25, -100.0]
    assert found.pnl_step[0] == pytest.approx(0.005)
    assert found.open.tolist() == [False, True]


def test_a_trade_without_exit_row_is_open_and_semicolons_are_read() -> None:
    found = parse_trade_list("Trade #;Type;Date and time;Price\n1;Entry long;2024-01-01T00:00:00Z;5\n")
    assert found.open.tolist() == [True]
    assert np.isnan(found.exit_price[0])
    assert np.isnan(found.quantity[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column"),
        ("a,b\n1,2", "no column for number, type, time, price"),
        ("Trade #,Type,Date/Time,Price\n1,Bought,2024-01-01,5", "not a type"),
        ("Trade #,Type,Date/Time,Price\n1,Entry long,yesterday,5", "not a time"),
        ("Trade #,Type,Date/Time,Price\n1,Entry long,2024-01-01,much", "not a number"),
        ("Trade #,Type,Date/Time,Price\n1,Exit long,2024-01-01,5", "no entry row"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_trade_list(text)


def test_a_header_alone_is_an_empty_list() -> None:
    assert len(parse_trade_list("Trade #,Type,Date/Time,Price")) == 0
