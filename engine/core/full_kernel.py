"""The bar loop with every rule, compiled: what `engine.core.kernel` leaves out for speed is here.

The parts of the loop see two flat arrays, laid out in `engine.core.full_layout`, and no named tuples: every compiled
function holds all its callees once more. With twenty columns and thirty rules in each signature the first run took 25 to
35 s to compile, as it stands 7 to 10 s (numba 0.68, two shared cores).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core import kernel
from engine.core.candles import FloatColumn
from engine.core.fill_rules import gross_of, level_at, part_of_loop
from engine.core.full_exits import AT_OPEN, INSIDE, NOWHERE, live_through, magnify, target_of, touch
from engine.core.full_layout import (
    ALLOW_LONG,
    ALLOW_SHORT,
    AMBIGUOUS,
    BAR,
    BAR_CANDLE,
    BEST,
    CLOSE,
    DISTANCE_PLACE,
    END_OF_DATA,
    ENTRIES,
    ENTRY,
    ENTRY_BAR,
    EXPOSED,
    FLAT_OUTSIDE,
    FUNDING,
    HIGH,
    IN_SESSION,
    INTRABAR,
    INVERSE,
    LIMIT_ORDER,
    LIQUIDATION,
    LIQUIDATION_PRICE,
    LOW,
    MAGNIFY,
    MARK_CLOSE,
    MARK_HIGH,
    MARK_LOW,
    MARK_OPEN,
    MARKET_ORDER,
    MAX_BARS,
    MAX_BARS_EXIT,
    MAX_ENTRIES,
    MOVES_STOP,
    OPEN,
    ORDER_BARS,
    ORDER_DISTANCE,
    ORDER_FRACTION,
    ORDER_KIND,
    ORDER_LAST,
    ORDER_PRICE,
    ORDER_SIDE,
    ORDER_SIGNAL,
    OUTSIDE_SESSION,
    PREVIOUS_CLOSE,
    QUANTITY,
    RUINED_BAR,
    SESSION_END,
    SIDE,
    SIGNAL_EXIT,
    SKIP_CONFLICT,
    SKIP_DIRECTION,
    SKIP_ORDER,
    SKIP_SESSION,
    SLIPPAGE,
    STOP,
    STOP_ORDER,
    TAKER_FEE,
    TARGET_FEE,
    TICK_DOWN,
    TICK_UP,
    WALLET,
    WORST,
)
from engine.core.full_position import IntegerColumn, enter, leave, move_stop


class Inputs(NamedTuple):
    """Columns of a run; a column that does not exist is empty.

    Attributes
    ----------
    open, high, low, close, mark_open, mark_high, mark_low, mark_close : ndarray of float64, shape (n,)
    decisions : ndarray of uint8, shape (n,)
        The fast loop's bits, and `OUTSIDE_SESSION` where the next bar opens outside the session.
    distances : ndarray of float64, shape (k, n)
        Distances in price units, each row for the place of the flat array that `DISTANCE_PLACE` names.
    funding_at_open, funding_inside : ndarray of float64, shape (n,) or (0,)
    minute_open, minute_high, minute_low, minute_close : ndarray of float64, shape (m,)
    minute_start, minute_stop : ndarray of int64, shape (n,) or (0,)
    """

    open: FloatColumn
    high: FloatColumn
    low: FloatColumn
    close: FloatColumn
    mark_open: FloatColumn
    mark_high: FloatColumn
    mark_low: FloatColumn
    mark_close: FloatColumn
    decisions: NDArray[np.uint8]
    distances: FloatColumn
    funding_at_open: FloatColumn
    funding_inside: FloatColumn
    minute_open: FloatColumn
    minute_high: FloatColumn
    minute_low: FloatColumn
    minute_close: FloatColumn
    minute_start: IntegerColumn
    minute_stop: IntegerColumn


@part_of_loop
def _pay_funding(f: FloatColumn, per_unit: float) -> None:
    paid = f[SIDE] * f[QUANTITY] * per_unit
    f[WALLET] -= paid
    f[FUNDING] += paid


@part_of_loop
def _cancel_order(k: IntegerColumn) -> None:
    k[ORDER_SIDE] = 0
    k[SKIP_ORDER] += 1


@part_of_loop
def _place_order(f: FloatColumn, k: IntegerColumn, side: float) -> None:
    way = -side if k[ORDER_KIND] == LIMIT_ORDER else side
    price = level_at(f[PREVIOUS_CLOSE], way, f[ORDER_FRACTION], f[ORDER_DISTANCE], f[TICK_UP], f[TICK_DOWN])
    if np.isnan(price):
        k[SKIP_ORDER] += 1
        return
    f[ORDER_PRICE] = price
    k[ORDER_SIDE] = int(side)
    k[ORDER_SIGNAL] = k[BAR] - 1
    k[ORDER_LAST] = k[BAR] - 1 + k[ORDER_BARS]


@part_of_loop
def _at_open(  # noqa: C901 - the order of the branches is the order of the rules
    f: FloatColumn, k: IntegerColumn, trades: FloatColumn, decision: int
) -> float:
    """Do at the open what was decided at the last close, and what time says; return the side to enter at the market."""
    conflict = (decision & kernel.LONG_ENTRY) != 0 and (decision & kernel.SHORT_ENTRY) != 0
    go_long = (decision & kernel.LONG_ENTRY) != 0 and not conflict and (decision & kernel.LONG_EXIT) == 0
    go_short = (decision & kernel.SHORT_ENTRY) != 0 and not conflict and (decision & kernel.SHORT_EXIT) == 0
    if conflict:
        k[SKIP_CONFLICT] += 1
    if k[ORDER_SIDE] != 0:
        gives_up = (decision & (kernel.LONG_EXIT if k[ORDER_SIDE] > 0 else kernel.SHORT_EXIT)) != 0
        if go_long or go_short or gives_up:
            _cancel_order(k)
    held = f[SIDE]
    if held != 0.0:
        told = (decision & (kernel.LONG_EXIT if held > 0.0 else kernel.SHORT_EXIT)) != 0
        leaves = told or (go_short if held > 0.0 else go_long)
        timed_out = k[MAX_BARS] > 0 and k[BAR] - k[ENTRY_BAR] >= k[MAX_BARS]
        if leaves or timed_out or (k[FLAT_OUTSIDE] != 0 and k[IN_SESSION] == 0):
            reason = SIGNAL_EXIT if leaves else MAX_BARS_EXIT if timed_out else SESSION_END
            leave(f, k, trades, f[QUANTITY], f[OPEN] * (1.0 - held * f[SLIPPAGE]), reason)
    side = 1.0 if go_long else -1.0 if go_short else 0.0
    if side == 0.0:
        return 0.0
    if side == held:
        if f[SIDE] == 0.0 or k[ENTRIES] >= k[MAX_ENTRIES]:
            return 0.0
    elif (side > 0.0 and k[ALLOW_LONG] == 0) or (side < 0.0 and k[ALLOW_SHORT] == 0):
        k[SKIP_DIRECTION] += 1
        return 0.0
    elif k[ORDER_KIND] != MARKET_ORDER:
        _place_order(f, k, side)
        return 0.0
    if k[IN_SESSION] == 0:
        k[SKIP_SESSION] += 1
        return 0.0
    return side


@part_of_loop
def _load_distances(f: FloatColumn, k: IntegerColumn, distances: FloatColumn, bar: int) -> None:
    for row in range(len(distances)):
        distance = distances[row, bar]
        f[k[DISTANCE_PLACE + row]] = distance if distance > 0.0 else np.nan


@part_of_loop
def _trade_at_bar(
    f: FloatColumn, k: IntegerColumn, trades: FloatColumn, fills: FloatColumn, distances: FloatColumn, decision: int
) -> int:
    """Do at a bar's open what was decided, and fill a resting order; return its kind when that was inside the bar."""
    side, signal_bar, rate, kind = 0.0, k[BAR] - 1, f[TAKER_FEE], MARKET_ORDER
    price = f[OPEN]
    is_inside = False
    if decision != 0:
        _load_distances(f, k, distances, signal_bar)
    if decision != 0 or f[SIDE] != 0.0:
        side = _at_open(f, k, trades, decision)
        price = price * (1.0 + side * f[SLIPPAGE])
    if k[ORDER_SIDE] != 0 and k[IN_SESSION] != 0:
        place = touch(f, k[ORDER_KIND], float(k[ORDER_SIDE]), BAR_CANDLE)
        if place != NOWHERE:
            side, signal_bar = float(k[ORDER_SIDE]), k[ORDER_SIGNAL]
            k[ORDER_SIDE] = 0
            _load_distances(f, k, distances, signal_bar)
            is_inside = place == INSIDE
            price = f[OPEN] if place == AT_OPEN else f[ORDER_PRICE]
            rate = f[TARGET_FEE]
            if k[ORDER_KIND] == STOP_ORDER:
                price = price * (1.0 + side * f[SLIPPAGE])
                rate = f[TAKER_FEE]
            if is_inside:
                kind = k[ORDER_KIND]
    if side != 0.0:
        enter(f, k, fills, side, signal_bar, price, rate, is_inside)
    return kind


@part_of_loop
def _pass_quiet_bars(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one loop over columns
    f: FloatColumn, k: IntegerColumn, bar: int, open_: FloatColumn, high: FloatColumn, low: FloatColumn,
    close: FloatColumn, mark_open: FloatColumn, mark_high: FloatColumn, mark_low: FloatColumn,
    decisions: NDArray[np.uint8], funding_at_open: FloatColumn, funding_inside: FloatColumn,
    equity: FloatColumn, position: NDArray[np.int8],
) -> int:  # fmt: skip
    """Mark the bars on which nothing is decided and no level is reached, and return the first other one."""
    end = len(close)
    side, wallet = f[SIDE], f[WALLET]
    if side == 0.0:
        entries = kernel.LONG_ENTRY | kernel.SHORT_ENTRY
        while bar < end and (decisions[bar - 1] & entries) == 0:
            equity[bar] = wallet
            position[bar] = 0
            bar += 1
        return bar
    is_long, inverse = side > 0.0, k[INVERSE] != 0
    acts = kernel.SHORT_ENTRY | kernel.LONG_EXIT if is_long else kernel.LONG_ENTRY | kernel.SHORT_EXIT
    if k[ENTRIES] < k[MAX_ENTRIES]:
        acts |= kernel.LONG_ENTRY | kernel.SHORT_ENTRY
    if k[FLAT_OUTSIDE] != 0:
        acts |= OUTSIDE_SESSION
    end -= 1
    if k[MAX_BARS] > 0:
        end = min(end, k[ENTRY_BAR] + k[MAX_BARS])
    pays_funding = len(funding_at_open) > 0
    moves_stop = k[MOVES_STOP] != 0
    entry, quantity = f[ENTRY], f[QUANTITY]
    units, funding = side * quantity, f[FUNDING]
    stop, target, liquidation = f[STOP], target_of(f, k), f[LIQUIDATION_PRICE]
    best, worst = f[BEST], f[WORST]
    first = bar
    while bar < end:
        # An unsigned place cannot count from the end, so that nothing is computed to find out.
        row = np.uint64(bar)
        if (decisions[np.uint64(bar - 1)] & acts) != 0:
            break
        top, bottom = max(high[row], open_[row]), min(low[row], open_[row])
        if is_long:
            if bottom <= stop or top >= target or min(mark_low[row], mark_open[row]) <= liquidation:
                break
        elif top >= stop or bottom <= target or max(mark_high[row], mark_open[row]) >= liquidation:
            break
        after, paid = wallet, 0.0
        funding_after = funding
        if pays_funding:
            if funding_at_open[row] != 0.0:
                paid = units * funding_at_open[row]
                after -= paid
                funding_after += paid
            if funding_inside[row] != 0.0:
                paid = units * funding_inside[row]
                after -= paid
                funding_after += paid
        marked = after + gross_of(side, quantity, entry, close[row], inverse)
        if marked <= 0.0:
            break
        wallet, funding = after, funding_after
        if is_long:
            best, worst = max(best, top), min(worst, bottom)
        else:
            best, worst = min(best, bottom), max(worst, top)
        if moves_stop:
            f[BEST] = best
            move_stop(f, k)
            stop = f[STOP]
        equity[row] = marked
        position[row] = int(side)
        bar += 1
    f[WALLET], f[FUNDING], f[BEST], f[WORST] = wallet, funding, best, worst
    k[EXPOSED] += bar - first
    return bar


@part_of_loop
def _mark(f: FloatColumn, k: IntegerColumn, trades: FloatColumn, is_last: bool) -> float:
    """Return the equity at the close; a lost capital and the end of the data close the position there."""
    if k[ORDER_SIDE] != 0 and (k[BAR] == k[ORDER_LAST] or is_last):
        _cancel_order(k)
    marked = f[WALLET]
    if f[SIDE] != 0.0:
        marked = f[WALLET] + gross_of(f[SIDE], f[QUANTITY], f[ENTRY], f[CLOSE], k[INVERSE] != 0)
        if marked <= 0.0 or is_last:
            leave(f, k, trades, f[QUANTITY], f[CLOSE], LIQUIDATION if marked <= 0.0 else END_OF_DATA)
            marked = f[WALLET]
    if marked <= 0.0 and k[RUINED_BAR] < 0:
        k[RUINED_BAR] = k[BAR]
    return marked


@njit(cache=True, nogil=True, error_model="numpy")
def run_all_rules(  # noqa: C901 - one loop over the bars
    inputs: Inputs, f: FloatColumn, k: IntegerColumn, trades: FloatColumn, fills: FloatColumn, equity: FloatColumn,
    position: NDArray[np.int8],
) -> None:  # fmt: skip
    """Run all bars and fill the tables (flat, a row behind the other), equity and position (shape (n,))."""
    open_, high, low, close = inputs.open, inputs.high, inputs.low, inputs.close
    mark_open, mark_high, mark_low, mark_close = inputs.mark_open, inputs.mark_high, inputs.mark_low, inputs.mark_close
    decisions, distances = inputs.decisions, inputs.distances
    funding_at_open, funding_inside = inputs.funding_at_open, inputs.funding_inside
    bars = len(close)
    pays_funding = len(funding_at_open) > 0
    bar = 0
    while bar < bars:
        if bar > 0 and k[ORDER_SIDE] == 0:
            bar = _pass_quiet_bars(
                f, k, bar, open_, high, low, close, mark_open, mark_high, mark_low, decisions, funding_at_open, funding_inside, equity, position,
            )  # fmt: skip
            if bar == bars:
                break
        k[BAR] = bar
        f[OPEN], f[HIGH], f[LOW], f[CLOSE] = open_[bar], high[bar], low[bar], close[bar]
        f[MARK_OPEN], f[MARK_HIGH], f[MARK_LOW], f[MARK_CLOSE] = (
            mark_open[bar],
            mark_high[bar],
            mark_low[bar],
            mark_close[bar],
        )
        kind = MARKET_ORDER
        if bar > 0:
            if pays_funding and f[SIDE] != 0.0:
                _pay_funding(f, funding_at_open[bar])
            f[PREVIOUS_CLOSE] = close[bar - 1]
            k[IN_SESSION] = 0 if (decisions[bar - 1] & OUTSIDE_SESSION) != 0 else 1
            kind = _trade_at_bar(f, k, trades, fills, distances, decisions[bar - 1] & ~OUTSIDE_SESSION)
        if f[SIDE] != 0.0:
            k[EXPOSED] += 1
            if pays_funding and kind == MARKET_ORDER:
                _pay_funding(f, funding_inside[bar])
            if live_through(f, k, trades, BAR_CANDLE, kind):
                k[AMBIGUOUS] += 1
                if k[INTRABAR] == MAGNIFY:
                    first, last = 0, 0
                    if len(inputs.minute_start) > 0:
                        first, last = inputs.minute_start[bar], inputs.minute_stop[bar]
                    magnify(
                        f, k, trades, kind, first, last, inputs.minute_open, inputs.minute_high, inputs.minute_low,
                        inputs.minute_close,
                    )  # fmt: skip
            if f[SIDE] != 0.0:
                move_stop(f, k)
        equity[bar] = _mark(f, k, trades, bar == bars - 1)
        position[bar] = int(f[SIDE])
        bar += 1
