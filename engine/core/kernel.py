"""The bar loop, compiled: the execution rules of `engine.core.simulator` over plain arrays."""

# Loops choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.fill_rules import (
    NOT_REFUSED,
    distance_at,
    exit_inside,
    find_quantity,
    gross_of,
    level_at,
    part_of_loop,
    refusal_of,
)
from engine.core.simulation import SkipReason
from engine.core.trades import ExitReason

LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT = 1, 2, 4, 8

# Counters: four figures of the run, then one per SkipReason.
AMBIGUOUS, EXPOSED, RUINED_BAR, CAPPED, SKIPS = 0, 1, 2, 3, 4
COUNTERS = SKIPS + len(SkipReason)

RATIO_BARS = 256

# Columns of the two trade tables (see Trades.from_tables).
SIDE, SIGNAL_BAR, ENTRY_BAR, EXIT_BAR, REASON, ROW_WIDTH = 0, 1, 2, 3, 4, 5
ENTRY_PRICE, EXIT_PRICE, QUANTITY_HELD, PNL, GROSS, FEES, MAE, MFE, INITIAL_RISK, RECORD_WIDTH = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
)

# Compiled code wants plain integers, not enumerations.
_SIGNAL, _STOP_LOSS, _TAKE_PROFIT = int(ExitReason.SIGNAL), int(ExitReason.STOP_LOSS), int(ExitReason.TAKE_PROFIT)
_TRAILING_STOP, _LIQUIDATION = int(ExitReason.TRAILING_STOP), int(ExitReason.LIQUIDATION)
_MAX_BARS, _END_OF_DATA = int(ExitReason.MAX_BARS), int(ExitReason.END_OF_DATA)
_SKIP_CONFLICT = SKIPS + int(SkipReason.CONFLICTING_SIGNALS)
_SKIP_DIRECTION = SKIPS + int(SkipReason.DIRECTION_NOT_ALLOWED)
_SKIP_RUINED = SKIPS + int(SkipReason.RUINED)


# Prices are finite (check_inputs): without the question after NaN the compiler makes vectors of running extremes.
_part_over_finite = njit(
    nogil=True, error_model="numpy", fastmath={"nnan"}, no_cpython_wrapper=True, no_cfunc_wrapper=True
)  # pyright: ignore[reportCallIssue]


class KernelRules(NamedTuple):
    """Settings and levels of one run as scalars; zero numerators and quantities mean none, NaN fractions too."""

    capital: float
    taker_fee: float
    target_fee: float
    fee_reserve: float
    slippage: float
    size_mode: int
    size_value: float
    leverage: float
    lot_numerator: float
    lot_denominator: float
    tick_numerator: float
    tick_denominator: float
    min_quantity: float
    min_notional: float
    max_quantity: float
    stop_fraction: float
    target_fraction: float
    trail_fraction: float
    trail_activation: float
    breakeven: float
    max_bars: int
    optimistic: bool
    allow_long: bool
    allow_short: bool
    inverse: bool


@part_of_loop
def _close_trade(  # noqa: PLR0913 - a compiled function takes its state as arguments
    rows: NDArray[np.int64],
    records: NDArray[np.float64],
    trade: int,
    bar: int,
    reason: int,
    price: float,
    fee_rate: float,
    best: float,
    worst: float,
    inverse: bool,
) -> float:
    """Write the exit of a trade and return what it changes in the wallet."""
    side = float(rows[trade, SIDE])
    entry = records[trade, ENTRY_PRICE]
    quantity = records[trade, QUANTITY_HELD]
    if side * price > side * best:
        best = price
    if side * price < side * worst:
        worst = price
    gross = gross_of(side, quantity, entry, price, inverse)
    fee = (quantity / price if inverse else quantity * price) * fee_rate
    fees = records[trade, FEES] + fee
    rows[trade, EXIT_BAR] = bar
    rows[trade, REASON] = reason
    records[trade, EXIT_PRICE] = price
    records[trade, GROSS] = gross
    records[trade, FEES] = fees
    records[trade, PNL] = gross - fees
    records[trade, MAE] = 0.0 - gross_of(side, quantity, entry, worst, inverse)
    records[trade, MFE] = 0.0 + gross_of(side, quantity, entry, best, inverse)
    return gross - fee


@njit(cache=True, nogil=True, error_model="numpy")
def are_prices(column: FloatColumn) -> bool:
    """Say whether every value is above zero and finite."""
    found = True
    for row in range(len(column)):
        found &= (column[row] > 0.0) & (column[row] < np.inf)
    return found


@part_of_loop
def _moved_stop(  # noqa: PLR0913 - a compiled function takes its state as arguments
    rules: KernelRules, side: float, entry: float, best: float, stop: float, reason: int, breaks_even: bool,
    breakeven_from: float, trails: bool, trail_from: float, trail_gap: float,
) -> tuple[float, int, bool]:  # fmt: skip
    """Return the stop that follows from the best price so far, why it would close, and whether breakeven is still to come."""
    if breaks_even and side * best >= side * breakeven_from:
        breaks_even = False
        level = level_at(entry, -side, 0.0, np.nan, rules.tick_numerator, rules.tick_denominator)
        if side * level > side * stop:
            stop = level
            reason = _STOP_LOSS
    if trails and side * best >= side * trail_from:
        level = level_at(best, -side, rules.trail_fraction, trail_gap, rules.tick_numerator, rules.tick_denominator)
        if side * level > side * stop:
            stop = level
            reason = _TRAILING_STOP
    return stop, reason, breaks_even


@part_of_loop
def _quiet_until(decisions: NDArray[np.uint8], bar: int, end: int, acts: int) -> int:
    """Return the first bar from this one on whose open follows a decision that may do something."""
    while bar < end and (decisions[bar - 1] & acts) == 0:
        bar += 1
    return bar


@_part_over_finite
def _extremes(
    open_: FloatColumn, high: FloatColumn, low: FloatColumn, bar: int, end: int, top: float, bottom: float
) -> tuple[float, float]:
    """Return the highest and the lowest price of some bars, the two given ones included."""
    opens = open_[bar:end]
    highs = high[bar:end]
    lows = low[bar:end]
    for row in range(len(opens)):
        most = opens[row] if opens[row] > highs[row] else highs[row]
        least = opens[row] if opens[row] < lows[row] else lows[row]
        top = most if most > top else top
        bottom = least if least < bottom else bottom
    return top, bottom


@_part_over_finite
def _mark(
    equity: FloatColumn,
    close: FloatColumn,
    bar: int,
    end: int,
    wallet: float,
    units: float,
    entry: float,
    inverse: bool,
) -> float:
    """Mark a position at the close of some bars and return the lowest mark."""
    marks = equity[bar:end]
    closes = close[bar:end]
    lowest = np.inf
    if inverse:
        for row in range(len(marks)):
            marks[row] = wallet + units * (1.0 / entry - 1.0 / closes[row])
            lowest = marks[row] if marks[row] < lowest else lowest
    else:
        for row in range(len(marks)):
            marks[row] = wallet + units * (closes[row] - entry)
            lowest = marks[row] if marks[row] < lowest else lowest
    return lowest


@_part_over_finite
def _range_of(values: FloatColumn) -> tuple[float, float]:
    top = bottom = values[0]
    for row in range(len(values)):
        top = values[row] if values[row] > top else top
        bottom = values[row] if values[row] < bottom else bottom
    return top, bottom


@njit(cache=True, nogil=True, error_model="numpy")
def lowest_ratio(peak: float, equity: FloatColumn) -> float:
    """Return the lowest equity / highest equity so far, 1 at most, `peak` the first of the highest.

    Looks at blocks: one that sets no new peak is lowest at its lowest mark, and one that does is walked only when that mark
    under its own peak would be lower than what was found.
    """
    lowest = 1.0
    for first in range(0, len(equity), RATIO_BARS):
        block = equity[first : first + RATIO_BARS]
        top, bottom = _range_of(block)
        if top <= peak:
            ratio = bottom / peak
            lowest = ratio if ratio < lowest else lowest
        # A debt is the larger fall the smaller its peak was, so its peak has to be known.
        elif bottom < 0.0 or bottom / top < lowest:
            for row in range(len(block)):
                peak = block[row] if block[row] > peak else peak
                ratio = block[row] / peak
                lowest = ratio if ratio < lowest else lowest
        else:
            peak = top
    return lowest


@njit(cache=True, nogil=True, error_model="numpy")
def run_bars(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one loop over the bars, every rule at its place in it
    open_: FloatColumn,
    high: FloatColumn,
    low: FloatColumn,
    close: FloatColumn,
    decisions: NDArray[np.uint8],
    stop_distance: FloatColumn,
    target_distance: FloatColumn,
    trail_distance: FloatColumn,
    rules: KernelRules,
    equity: FloatColumn,
    position: NDArray[np.int8],
    rows: NDArray[np.int64],
    records: NDArray[np.float64],
    counters: NDArray[np.int64],
) -> int:
    """Run all bars, fill the five output arrays and return the number of trades.

    Parameters
    ----------
    open_, high, low, close : ndarray of float64, shape (n,)
        Finite and positive.
    decisions : ndarray of uint8, shape (n,)
        Bits LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT, decided at the close of their bar.
    stop_distance, target_distance, trail_distance : ndarray of float64, shape (n,) or (0,)
        Price units at the signal bar; empty where there is none.
    rules : KernelRules
    equity, position : output, shape (n,)
    rows, records : output, one row a trade, as many rows as there can be entries
    counters : output, shape (COUNTERS,), zeros but RUINED_BAR, which is -1
    """
    bars = len(close)
    wallet = rules.capital
    trades = 0
    side = 0.0
    quantity = 0.0
    entry_price = 0.0
    entry_bar = 0
    best = worst = 0.0
    stop = target = 0.0
    stop_reason = _STOP_LOSS
    trail_gap = np.nan
    trail_from = breakeven_from = 0.0
    trails = breaks_even = False

    bar = 0
    while bar < bars:
        # Rules 1 and 6: what was decided at the last close happens at this open.
        decision = decisions[bar - 1] if bar > 0 else 0
        if decision != 0 or (side != 0.0 and rules.max_bars > 0):
            conflict = (decision & LONG_ENTRY) != 0 and (decision & SHORT_ENTRY) != 0
            enter_long = (decision & LONG_ENTRY) != 0 and not conflict and (decision & LONG_EXIT) == 0
            enter_short = (decision & SHORT_ENTRY) != 0 and not conflict and (decision & SHORT_EXIT) == 0
            if conflict:
                counters[_SKIP_CONFLICT] += 1
            wanted = 0.0
            if enter_long and side <= 0.0:
                wanted = 1.0
            elif enter_short and side >= 0.0:
                wanted = -1.0
            if side != 0.0:
                told_to_leave = (decision & (LONG_EXIT if side > 0.0 else SHORT_EXIT)) != 0 or wanted != 0.0
                timed_out = rules.max_bars > 0 and bar - entry_bar >= rules.max_bars
                if told_to_leave or timed_out:
                    reason = _SIGNAL if told_to_leave else _MAX_BARS
                    price = open_[bar] * (1.0 - side * rules.slippage)
                    wallet += _close_trade(
                        rows, records, trades, bar, reason, price, rules.taker_fee, best, worst, rules.inverse
                    )
                    trades += 1
                    side = 0.0
            if wanted != 0.0:
                price = open_[bar] * (1.0 + wanted * rules.slippage)
                skip = 0
                if (wanted > 0.0 and not rules.allow_long) or (wanted < 0.0 and not rules.allow_short):
                    skip = _SKIP_DIRECTION
                elif wallet <= 0.0 or counters[RUINED_BAR] >= 0:
                    skip = _SKIP_RUINED
                else:
                    # Levels stand on the fill price; distances were frozen at the signal bar.
                    up, down = rules.tick_numerator, rules.tick_denominator
                    gap = distance_at(stop_distance, bar - 1)
                    stop = level_at(price, -wanted, rules.stop_fraction, gap, up, down)
                    stop_reason = _STOP_LOSS
                    if np.isnan(stop):
                        stop = -wanted * np.inf
                    gap = distance_at(target_distance, bar - 1)
                    target = level_at(price, wanted, rules.target_fraction, gap, up, down)
                    if np.isnan(target):
                        target = wanted * np.inf
                    trail_gap = distance_at(trail_distance, bar - 1)
                    trails = not np.isnan(rules.trail_fraction) or not np.isnan(trail_gap)
                    trail_from = price * (1.0 + wanted * rules.trail_activation)
                    if np.isnan(trail_from):
                        trail_from = -wanted * np.inf
                        level = level_at(price, -wanted, rules.trail_fraction, trail_gap, up, down)
                        if wanted * level > wanted * stop:
                            stop = level
                            stop_reason = _TRAILING_STOP
                    breaks_even = not np.isnan(rules.breakeven)
                    breakeven_from = price * (1.0 + wanted * rules.breakeven)

                    # Size on the equity after the old position is closed.
                    power = wallet * rules.leverage / (1.0 + rules.fee_reserve)
                    bounded = stop > 0.0 and not np.isinf(stop)
                    risk = 0.0 - gross_of(wanted, 1.0, price, stop, rules.inverse) if bounded else np.nan
                    quantity, capped = find_quantity(
                        rules.size_mode, rules.size_value, wallet, power, power, risk, price, rules.inverse,
                        rules.max_quantity, rules.lot_numerator, rules.lot_denominator,
                    )  # fmt: skip
                    counters[CAPPED] += capped
                    notional = quantity / price if rules.inverse else quantity * price
                    refusal = refusal_of(
                        quantity, notional, rules.inverse, 0.0, power, rules.min_quantity, rules.min_notional
                    )
                    if refusal != NOT_REFUSED:
                        skip = SKIPS + refusal
                    if skip == 0:
                        side = wanted
                        entry_bar = bar
                        entry_price = best = worst = price
                        fee = notional * rules.taker_fee
                        wallet -= fee
                        rows[trades, SIDE] = int(side)
                        rows[trades, SIGNAL_BAR] = bar - 1
                        rows[trades, ENTRY_BAR] = bar
                        records[trades, ENTRY_PRICE] = price
                        records[trades, QUANTITY_HELD] = quantity
                        records[trades, FEES] = fee
                        records[trades, INITIAL_RISK] = np.nan
                        if bounded:
                            records[trades, INITIAL_RISK] = 0.0 - gross_of(side, quantity, price, stop, rules.inverse)
                if skip != 0:
                    counters[skip] += 1

        if side != 0.0:
            counters[EXPOSED] += 1
            # Excursions certainly contain the open; the stop does not move before the bar is over (rule 5).
            if side * open_[bar] > side * best:
                best = open_[bar]
            if side * open_[bar] < side * worst:
                worst = open_[bar]
            against = low[bar] if side > 0.0 else high[bar]
            toward = high[bar] if side > 0.0 else low[bar]
            stopped = side * against <= side * stop
            reached = side * toward >= side * target
            if stopped or reached:
                # Rules 3 and 4.
                price, takes_target, _, is_ambiguous = exit_inside(
                    side, open_[bar], against, toward, stop, target, rules.optimistic, rules.slippage
                )
                counters[AMBIGUOUS] += is_ambiguous
                reason = _TAKE_PROFIT if takes_target else stop_reason
                fee_rate = rules.target_fee if takes_target else rules.taker_fee
                wallet += _close_trade(rows, records, trades, bar, reason, price, fee_rate, best, worst, rules.inverse)
                trades += 1
                side = 0.0
            else:
                if side * toward > side * best:
                    best = toward
                if side * against < side * worst:
                    worst = against
                # Rule 5: what this bar reached moves the stop of the next one.
                if breaks_even or trails:
                    stop, stop_reason, breaks_even = _moved_stop(
                        rules, side, entry_price, best, stop, stop_reason, breaks_even, breakeven_from, trails,
                        trail_from, trail_gap,
                    )  # fmt: skip

        # Rules 7 and 8: mark at the close; a lost capital and the end of the data close the position there.
        marked = wallet
        if side != 0.0:
            marked = wallet + gross_of(side, quantity, entry_price, close[bar], rules.inverse)
            if marked <= 0.0 or bar == bars - 1:
                reason = _LIQUIDATION if marked <= 0.0 else _END_OF_DATA
                wallet += _close_trade(
                    rows, records, trades, bar, reason, close[bar], rules.taker_fee, best, worst, rules.inverse
                )
                trades += 1
                side = 0.0
                marked = wallet
        if marked <= 0.0 and counters[RUINED_BAR] < 0:
            counters[RUINED_BAR] = bar
        equity[bar] = marked
        position[bar] = int(side)
        bar += 1

        # Bars on which no rule has anything to say, but for the mark and the extremes; the last bar is never one.
        first = bar
        if side == 0.0:
            bar = _quiet_until(decisions, first, bars, LONG_ENTRY | SHORT_ENTRY)
            equity[first:bar] = wallet
            position[first:bar] = 0
            continue
        until = bars - 1
        if rules.max_bars > 0:
            until = min(until, entry_bar + rules.max_bars)
        until = _quiet_until(
            decisions, first, until, SHORT_ENTRY | LONG_EXIT if side > 0.0 else LONG_ENTRY | SHORT_EXIT
        )
        units = side * quantity
        if not (trails or breaks_even) and np.isinf(stop) and np.isinf(target):
            if first < until and _mark(equity, close, first, until, wallet, units, entry_price, rules.inverse) > 0.0:
                top, bottom = (best, worst) if side > 0.0 else (worst, best)
                top, bottom = _extremes(open_, high, low, first, until, top, bottom)
                best, worst = (top, bottom) if side > 0.0 else (bottom, top)
                bar = until
        else:
            againsts, towards = (low, high) if side > 0.0 else (high, low)
            side_stop, side_target, side_best, side_worst = side * stop, side * target, side * best, side * worst
            while bar < until:
                against, toward, opened = side * againsts[bar], side * towards[bar], side * open_[bar]
                marked = wallet + gross_of(side, quantity, entry_price, close[bar], rules.inverse)
                if against <= side_stop or toward >= side_target or marked <= 0.0:
                    break
                equity[bar] = marked
                if opened < side_worst:
                    side_worst = opened
                if against < side_worst:
                    side_worst = against
                if opened > side_best or toward > side_best:
                    side_best = opened if opened > toward else toward
                    if breaks_even or trails:
                        stop, stop_reason, breaks_even = _moved_stop(
                            rules, side, entry_price, side * side_best, stop, stop_reason, breaks_even, breakeven_from,
                            trails, trail_from, trail_gap,
                        )  # fmt: skip
                        side_stop = side * stop
                bar += 1
            best, worst = side * side_best, side * side_worst
        position[first:bar] = int(side)
        counters[EXPOSED] += bar - first
    return trades
