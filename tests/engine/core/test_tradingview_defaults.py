"""A run with default costs against exports of it: rounding is no difference, and each planted difference is named."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.times import iso_utc
from engine.core.tradingview import Comparison, TradeColumns, columns_of, compare_trades, parse_trade_list
from engine.core.tradingview.lists import BoolColumn

TICK, HOUR_MS = 0.01, 3_600_000
DEFAULTS = ExecutionSettings(
    capital=10_000.0, slippage_fraction=0.0001, round_to_lot=True, lot_step=0.001, min_quantity=0.001, tick_size=TICK
)
RULES = {"name": "cross", "long_entry": "crossover(ema(close, 9), ema(close, 30))",
         "short_entry": "crossunder(ema(close, 9), ema(close, 30))"}  # fmt: skip


@lru_cache(maxsize=1)
def candles() -> Candles:
    random = np.random.default_rng(5)
    close = (2_900 * np.exp(np.cumsum(random.normal(0, 0.004, 3_000)))).round(2)
    opened = np.round(np.concatenate((close[:1], close[:-1])) + random.normal(0, 0.6, 3_000), 2)
    high, low = np.maximum(opened, close) + 3, np.minimum(opened, close) - 3
    ts = np.arange(3_000, dtype=np.int64) * HOUR_MS + 1_704_067_200_000
    return Candles(ts, opened, high, low, close, np.ones(3_000), np.ones(3_000))


def run(bars: Candles, settings: ExecutionSettings = DEFAULTS) -> TradeColumns:
    signals = compute_signals(compile_strategy(parse_strategy(RULES)), bars, "60")
    return columns_of(simulate(bars, signals, settings).trades, bars)


@lru_cache(maxsize=1)
def ours() -> TradeColumns:
    return run(candles())


def exported(trades: TradeColumns, keep: BoolColumn | None = None, pnl: np.ndarray | None = None) -> TradeColumns:
    """Write what TradingView would: prices on the tick, profits of those prices to the cent."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["Trade #", "Type", "Date/Time", "Price USDT", "Position size (qty)", "Net P&L USDT"])
    entry, leave = np.round(trades.entry_price, 2), np.round(trades.exit_price, 2)
    fees = 0.00055 * trades.quantity * (entry + leave)
    profit = trades.side * trades.quantity * (leave - entry) - fees if pnl is None else pnl
    for row in range(len(trades)):
        if keep is None or keep[row]:
            side = "long" if trades.side[row] > 0 else "short"
            for kind, at, price in (
                (f"Exit {side}", trades.exit_ms[row], leave[row]),
                (f"Entry {side}", trades.entry_ms[row], entry[row]),
            ):
                size = f"{trades.quantity[row]:.3f}"
                writer.writerow([row + 1, kind, iso_utc(int(at)), f"{price:.2f}", size, f"{profit[row]:.2f}"])
    return parse_trade_list(file.getvalue())


def compared(theirs: TradeColumns, own: TradeColumns | None = None) -> Comparison:
    return compare_trades(theirs, own or ours(), candles(), tick=TICK)


def test_an_export_of_a_run_with_default_slippage_matches_it_in_every_trade() -> None:
    assert np.abs(ours().entry_price / TICK - np.round(ours().entry_price / TICK)).max() > 0.1
    found = compared(exported(ours()))
    assert (found.matched, found.their_trades) == (len(ours()), len(ours()))
    assert found.first_difference is None


def sliced(trades: TradeColumns, start: int, stop: int) -> BoolColumn:
    rows = np.arange(len(trades))
    return (rows >= start) & (rows < stop)


def at_close() -> TradeColumns:
    rows, exits = (np.searchsorted(candles().ts, column) - 1 for column in (ours().entry_ms, ours().exit_ms))
    moved = DEFAULTS.slippage_fraction * ours().side
    return replace(
        ours(),
        entry_ms=candles().ts[rows],
        exit_ms=candles().ts[exits],
        entry_price=candles().close[rows] * (1 + moved),
        exit_price=candles().close[exits] * (1 - moved),
    )


def shifted() -> TradeColumns:
    return replace(ours(), entry_ms=ours().entry_ms + 3 * HOUR_MS, exit_ms=ours().exit_ms + 3 * HOUR_MS)


def seeded() -> TradeColumns:
    bars = candles()
    return run(replace(bars, close=np.concatenate((bars.close[:60] * 0.97, bars.close[60:]))))


PLANTED: dict[str, Callable[[], TradeColumns]] = {
    "size": lambda: exported(replace(ours(), quantity=2 * ours().quantity)),
    "fee": lambda: exported(run(candles(), replace(DEFAULTS, taker_fee_fraction=0.0)), pnl=run(candles(), replace(DEFAULTS, taker_fee_fraction=0.0)).pnl),
    "slippage": lambda: exported(run(candles(), replace(DEFAULTS, slippage_fraction=0.0))),
    "missing_trade": lambda: exported(ours(), keep=np.arange(len(ours())) != 7),
    "range": lambda: exported(ours(), keep=sliced(ours(), 0, len(ours()) - 9)),
    "session_or_time_zone": lambda: exported(shifted()),
    "fill_rule": lambda: exported(at_close()),
    "seed_of_the_average": lambda: exported(seeded()),
}  # fmt: skip


@pytest.mark.parametrize("reason", PLANTED)
def test_what_was_changed_in_an_export_is_the_likely_reason(reason: str) -> None:
    found = compared(PLANTED[reason]())
    assert found.likely_reason == reason, found.explanations


def test_fees_left_out_of_the_same_trades_are_measured() -> None:
    found = compared(
        exported(ours(), pnl=ours().pnl + 0.00055 * ours().quantity * (ours().entry_price + ours().exit_price))
    )
    assert found.likely_reason == "fee"
    assert "0.055 % of each fill less" in found.explanations[0].detail
    assert found.first_difference is not None
    assert (found.first_difference.their_row, found.first_difference.fields) == (0, ("pnl",))


def test_profits_without_funding_are_told_from_fees() -> None:
    funding = np.full(len(ours()), 1.7)
    paid = replace(ours(), pnl=ours().pnl - funding, funding=funding)
    assert compared(exported(ours()), paid).likely_reason == "funding"


def test_a_trade_we_lack_is_named_with_its_time_and_the_position_that_stood_in_its_way() -> None:
    gone = np.arange(len(ours())) != 7
    # The trade before it lasts over the time of the one that is gone.
    own = ours().take(np.flatnonzero(gone))
    exits = own.exit_ms.copy()
    exits[6] = own.entry_ms[7]
    found = compared(exported(ours()), replace(own, exit_ms=exits))
    assert found.missing_in_ours == 1
    assert found.missing[0].at_ms == int(ours().entry_ms[7])
    assert "holds a position from" in found.missing[0].reason


def test_a_trade_they_lack_is_named_with_its_time() -> None:
    found = compared(PLANTED["missing_trade"]())
    assert (found.missing_in_theirs, found.missing_in_ours) == (1, 0)
    assert found.matched == len(ours()) - 1
    assert found.missing[0].at_ms == int(ours().entry_ms[7])
    assert iso_utc(int(ours().entry_ms[7])) in found.explanations[0].detail


def test_a_bar_we_lack_is_named() -> None:
    row = int(np.searchsorted(candles().ts, ours().entry_ms[12]))
    holed = candles().take(np.delete(np.arange(3_000), row))
    found = compare_trades(exported(ours()), run(holed), holed, tick=TICK)
    assert found.likely_reason == "missing_bar"
    assert iso_utc(int(ours().entry_ms[12])) in found.explanations[0].detail


def test_one_tick_is_a_difference_where_our_fills_are_on_the_tick() -> None:
    plain = run(candles(), replace(DEFAULTS, slippage_fraction=0.0))
    theirs = exported(replace(plain, entry_price=plain.entry_price + TICK * plain.side))
    assert compared(theirs, plain).likely_reason == "slippage"
