"""Candles and signals in, a simulation out: the execution rules, said once.

1. A decision at the close of bar t fills at the open of t+1 as a market order: taker fee, adverse slippage in the
   price. An entry against the position closes it and reverses at the same open; an exit decision of the held side only
   closes it. Entries of both sides at one close cancel each other, an entry with the exit of its own side at the same
   close is void, an entry of the side already held at that close is ignored. The last bar's decision does nothing.
2. The bar of the entry counts for stops: its high and low may hit them.
3. A stop fills at the open when the bar opens at or beyond it, else at the stop price, with taker fee and slippage. A
   target is a limit order: it fills at the better of open and target, without slippage, with the fee `target_fee` names.
4. A bar that reaches stop and target, and opens between them, is ambiguous: `intrabar` says which comes first.
5. The trailing stop follows the best price of earlier bars (the entry fill first), `trail_fraction` or `trail_distance`
   behind it, from the moment its activation is reached; the breakeven stop moves to the entry fill likewise. The tightest
   of fixed, breakeven and trailing stop holds.
6. Decisions at the open come before anything inside the bar. After `max_bars` bars the position is closed at the open.
   After a stop or target the account stays flat until the next entry decision, at the earliest that of the exit bar.
7. A position still open at the end is closed at the last close (no slippage, taker fee): `end_of_data`.
8. Equity is marked at every close, fees included. Margin and liquidation prices are not part of these rules: when a mark
   is zero or less the position is closed at that close as `liquidation` and nothing is opened from then on.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.core import kernel
from engine.core.candles import Candles, FloatColumn
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.signals import Signals
from engine.core.simulation import Simulation, SkipReason
from engine.core.trades import Trades
from engine.errors import BadRequest, DataMissing

SMALLEST_FRACTION = 1e-9

_SIZE_MODES = {
    "equity_fraction": kernel.EQUITY_FRACTION,
    "quote": kernel.QUOTE,
    "quantity": kernel.QUANTITY,
    "risk": kernel.RISK,
}


def simulate(candles: Candles, signals: Signals, settings: ExecutionSettings) -> Simulation:
    """Trade the signals over the candles.

    Parameters
    ----------
    candles : Candles
        At least one; prices finite and above zero.
    signals : Signals
        One row a candle.
    settings : ExecutionSettings

    Returns
    -------
    Simulation

    Notes
    -----
    Consecutive rows are consecutive bars, also across a gap in time.
    """
    check_inputs(candles, signals)
    bars = len(candles)
    most_trades = int(np.count_nonzero(signals.long_entry | signals.short_entry))
    equity = np.empty(bars)
    position = np.empty(bars, np.int8)
    rows = np.empty((most_trades, kernel.ROW_WIDTH), np.int64)
    records = np.empty((most_trades, kernel.RECORD_WIDTH))
    counters = np.zeros(kernel.COUNTERS, np.int64)
    counters[kernel.RUINED_BAR] = -1
    count = kernel.run_bars(
        _read_only(candles.open),
        _read_only(candles.high),
        _read_only(candles.low),
        _read_only(candles.close),
        pack_decisions(signals),
        _read_only(signals.stop_distance),
        _read_only(signals.target_distance),
        _read_only(signals.trail_distance),
        kernel_rules(signals, settings),
        equity,
        position,
        rows,
        records,
        counters,
    )
    ruined_bar = int(counters[kernel.RUINED_BAR])
    return Simulation(
        trades=Trades.from_tables(rows[:count], records[:count]),
        equity=equity,
        position=position,
        exposed_bars=int(counters[kernel.EXPOSED]),
        ambiguous_bars=int(counters[kernel.AMBIGUOUS]),
        skipped_entries={skip.name.lower(): int(counters[kernel.SKIPS + skip]) for skip in SkipReason},
        capped_entries=int(counters[kernel.CAPPED]),
        ruined_bar=None if ruined_bar < 0 else ruined_bar,
        warmup_bars=signals.warmup_bars,
    )


def simulate_extremes(candles: Candles, signals: Signals, settings: ExecutionSettings) -> tuple[Simulation, Simulation]:
    """Return the pessimistic and the optimistic run; the same object twice when no bar was ambiguous."""
    pessimistic = simulate(candles, signals, replace(settings, intrabar="pessimistic"))
    if pessimistic.ambiguous_bars == 0:
        return pessimistic, pessimistic
    return pessimistic, simulate(candles, signals, replace(settings, intrabar="optimistic"))


def check_inputs(candles: Candles, signals: Signals) -> None:
    """Refuse what cannot be simulated: no candles, prices at or below zero, columns of another length, bad levels."""
    bars = len(candles)
    if bars == 0:
        raise DataMissing("there are no candles to simulate", fix="choose a range with candles, or fetch them first")
    for name in ("open", "high", "low", "close"):
        column: FloatColumn = getattr(candles, name)
        # A NaN makes the minimum NaN, and the comparison false.
        if not (column.min() > 0 and column.max() < math.inf):
            raise BadRequest(f"the {name} prices hold a value that is not above zero", fix="repair the candles")
    for name in ("long_entry", "long_exit", "short_entry", "short_exit"):
        _check_length(name, len(getattr(signals, name)), bars)
    for name in ("stop_distance", "target_distance", "trail_distance"):
        if getattr(signals, name) is not None:
            _check_length(name, len(getattr(signals, name)), bars)
    for name in (
        "stop_fraction",
        "target_fraction",
        "trail_fraction",
        "trail_activation_fraction",
        "breakeven_fraction",
    ):
        fraction: float = getattr(signals, name)
        # Below this a level could be the entry price itself, and armed before anything moved.
        if not math.isnan(fraction) and not (SMALLEST_FRACTION <= fraction < math.inf):
            raise BadRequest(f"{name} is {fraction!r}", fix=f"{name} is {SMALLEST_FRACTION} or more, or NaN for none")
    if signals.max_bars < 0:
        raise BadRequest(f"max_bars is {signals.max_bars}", fix="max_bars is 1 or more, or 0 for none")


def pack_decisions(signals: Signals) -> NDArray[np.uint8]:
    """Return the four decision columns as bits of one byte a bar, in the kernel's order."""
    packed = signals.long_entry * np.uint8(kernel.LONG_ENTRY)
    packed |= signals.long_exit * np.uint8(kernel.LONG_EXIT)
    packed |= signals.short_entry * np.uint8(kernel.SHORT_ENTRY)
    packed |= signals.short_exit * np.uint8(kernel.SHORT_EXIT)
    return packed


def kernel_rules(signals: Signals, settings: ExecutionSettings) -> kernel.KernelRules:
    """Return settings and levels as the kernel's scalars."""
    lot = step_ratio(settings.lot_step if settings.round_to_lot else 0.0)
    tick = step_ratio(settings.tick_size)
    return kernel.KernelRules(
        capital=float(settings.capital),
        taker_fee=float(settings.taker_fee_fraction),
        target_fee=float(settings.target_fee_fraction),
        fee_reserve=float(settings.fee_reserve_fraction),
        slippage=float(settings.slippage_fraction),
        size_mode=_SIZE_MODES[settings.size_mode],
        size_value=float(settings.size_value),
        leverage=float(settings.leverage),
        lot_numerator=lot[0],
        lot_denominator=lot[1],
        tick_numerator=tick[0],
        tick_denominator=tick[1],
        min_quantity=float(settings.min_quantity),
        min_notional=float(settings.min_notional),
        max_quantity=float(settings.max_quantity),
        stop_fraction=float(signals.stop_fraction),
        target_fraction=float(signals.target_fraction),
        trail_fraction=float(signals.trail_fraction),
        trail_activation=float(signals.trail_activation_fraction),
        breakeven=float(signals.breakeven_fraction),
        max_bars=int(signals.max_bars),
        optimistic=settings.intrabar == "optimistic",
        allow_long=bool(settings.allow_long),
        allow_short=bool(settings.allow_short),
        inverse=settings.category == "inverse",
    )


def _check_length(name: str, found: int, bars: int) -> None:
    if found != bars:
        raise BadRequest(f"{name} has {found} rows for {bars} candles", fix="compute the signals on the same candles")


def _read_only(column: FloatColumn | None) -> FloatColumn:
    """Return a contiguous read-only view: stored columns are read-only, and a second kind would compile twice."""
    view = np.require(np.empty(0) if column is None else column, np.float64, ["C", "A"]).view()
    view.flags.writeable = False
    return view
