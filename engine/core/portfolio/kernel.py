"""The account over several symbols, compiled: the rules of `engine.core.portfolio.run`, step by step.

Each symbol trades one unit by the compiled rules of a run alone (two flat arrays a symbol, laid out in
`engine.core.full_layout`); the account decides how many units that are and books what they bring. Everything lies in
arrays, so that the loop can be left after any step and entered again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core import full_layout as unit
from engine.core import kernel
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.fill_rules import EQUITY_FRACTION, QUOTE, gross_of, part_of_loop, whole_steps_down
from engine.core.fill_rules import QUANTITY as FIXED_QUANTITY
from engine.core.full_exits import live_through
from engine.core.full_position import enter, leave, move_stop
from engine.core.portfolio import layout
from engine.core.portfolio.layout import (
    AMBIGUOUS,
    CAPPED,
    END_ROW,
    ENTRY_FEE,
    FEE_RESERVE,
    FIRST_ROW,
    FUNDING,
    LEVERAGE,
    LOT_DOWN,
    LOT_UP,
    MAX_QUANTITY,
    MIN_NOTIONAL,
    MIN_QUANTITY,
    MOST_POSITIONS,
    NEXT_ROW,
    OF_VALUE,
    PEAK,
    PRICE,
    QUANTITY,
    REALISED,
    REFUSED,
    ROW,
    RUINED_STEP,
    SIDE_BEFORE,
    SIZE_MODE,
    SIZE_VALUE,
    TAKER_FEE,
    TARGET_FEE,
    TIER_LIMIT,
    TOO_LARGE,
    WALLET,
)
from engine.core.simulation import SkipReason

IntegerTable = NDArray[np.int64]

# Compiled code wants plain integers, not enumerations.
_ACCEPTED = -1
_RUINED, _NO_STOP = int(SkipReason.RUINED), int(SkipReason.NO_STOP)
_TOO_LITTLE, _TOO_CHEAP = int(SkipReason.BELOW_MIN_QUANTITY), int(SkipReason.BELOW_MIN_NOTIONAL)
_TOO_MUCH, _NO_FREE_SLOT = int(SkipReason.INSUFFICIENT_MARGIN), len(SkipReason)
_STAYS = -1


class Columns(NamedTuple):
    """Bars of all symbols, one behind the other; a column that does not exist is empty.

    Attributes
    ----------
    ts : ndarray of int64, shape (n,)
    open, high, low, close, mark_open, mark_high, mark_low, mark_close : ndarray of float64, shape (n,)
    decisions : ndarray of uint8, shape (n,)
        As `engine.core.full_run.all_decisions` packs them.
    distances : ndarray of float64, shape (3, n) or (0, n)
        Stop, target and trail distance in price units; NaN where there is none.
    funding_at_open, funding_inside : ndarray of float64, shape (n,) or (0,)
    """

    ts: TimeColumn
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


class State(NamedTuple):
    """An account on its way.

    Attributes
    ----------
    f : ndarray of float64, shape (s, _)
    k : ndarray of int64, shape (s, _)
        One unit of each symbol, laid out in `engine.core.full_layout`.
    a : ndarray of float64, shape (s, SYMBOL_FLOATS)
    n : ndarray of int64, shape (s, SYMBOL_NUMBERS)
        What each symbol is in the account.
    wallet : ndarray of float64, shape (ACCOUNT_FLOATS,)
    counts : ndarray of int64, shape (ACCOUNT_NUMBERS,)
    scratch : ndarray of float64
        A row of a unit's trade, and one of its entry.
    """

    f: FloatColumn
    k: IntegerTable
    a: FloatColumn
    n: IntegerTable
    wallet: FloatColumn
    counts: IntegerTable
    scratch: FloatColumn


@part_of_loop
def _value_of(quantity: float, price: float, inverse: bool) -> float:
    return quantity / price if inverse else quantity * price


@part_of_loop
def _unrealised(f: FloatColumn, k: IntegerTable, a: FloatColumn, symbol: int) -> float:
    return gross_of(
        f[symbol, unit.SIDE],
        a[symbol, QUANTITY],
        f[symbol, unit.ENTRY],
        a[symbol, PRICE],
        k[symbol, unit.INVERSE] != 0,
    )


@part_of_loop
def _equity(f: FloatColumn, k: IntegerTable, a: FloatColumn, cash: float) -> float:
    """Return cash and open positions at the prices last seen."""
    total = cash
    for symbol in range(len(a)):
        if f[symbol, unit.SIDE] != 0.0:
            total += _unrealised(f, k, a, symbol)
    return total


@part_of_loop
def _pay_funding(
    f: FloatColumn, a: FloatColumn, n: IntegerTable, wallet: FloatColumn, per_unit: FloatColumn
) -> None:  # fmt: skip
    for symbol in range(len(a)):
        row = n[symbol, ROW]
        if row >= 0 and f[symbol, unit.SIDE] != 0.0:
            paid = f[symbol, unit.SIDE] * a[symbol, QUANTITY] * per_unit[row]
            wallet[WALLET] -= paid
            a[symbol, FUNDING] += paid
            a[symbol, REALISED] -= paid


@part_of_loop
def _decision_at(n: IntegerTable, symbol: int, decisions: NDArray[np.uint8]) -> int:
    """Return what was decided at the close before a symbol's bar; nothing before its first one."""
    row = n[symbol, ROW]
    return int(decisions[row - 1]) if row > n[symbol, FIRST_ROW] else 0


@part_of_loop
def _wanted_side(decision: int) -> float:
    long, short = (decision & kernel.LONG_ENTRY) != 0, (decision & kernel.SHORT_ENTRY) != 0
    if long == short:
        return 0.0
    leaves = (decision & (kernel.LONG_EXIT if long else kernel.SHORT_EXIT)) != 0
    return 0.0 if leaves else 1.0 if long else -1.0


@part_of_loop
def _reason_to_leave(f: FloatColumn, k: IntegerTable, decision: int) -> int:
    """Return why a unit is left at an open, `_STAYS` where it is not."""
    side = f[unit.SIDE]
    if (decision & (kernel.LONG_EXIT if side > 0.0 else kernel.SHORT_EXIT)) != 0 or _wanted_side(decision) == -side:
        return unit.SIGNAL_EXIT
    if k[unit.MAX_BARS] > 0 and k[unit.BAR] - k[unit.ENTRY_BAR] >= k[unit.MAX_BARS]:
        return unit.MAX_BARS_EXIT
    if k[unit.FLAT_OUTSIDE] != 0 and (decision & unit.OUTSIDE_SESSION) != 0:
        return unit.SESSION_END
    return _STAYS


@part_of_loop
def _side_to_enter(k: IntegerTable, decision: int, side_before: int) -> float:
    """Return the side of an entry from flat; a side that was held until this open is not entered again."""
    side = _wanted_side(decision)
    if side == float(side_before) or (decision & unit.OUTSIDE_SESSION) != 0:
        return 0.0
    is_allowed = k[unit.ALLOW_LONG] if side > 0.0 else k[unit.ALLOW_SHORT]
    return side if is_allowed != 0 else 0.0


@part_of_loop
def _book_exit(
    k: IntegerTable, a: FloatColumn, wallet: FloatColumn, counts: IntegerTable, symbol: int, trade: FloatColumn,
    numbers: IntegerTable, records: FloatColumn,
) -> None:  # fmt: skip
    """Write down what the account makes of a unit that was left."""
    k[symbol, unit.TRADES] = 0
    inverse, quantity, reason = k[symbol, unit.INVERSE] != 0, a[symbol, QUANTITY], int(trade[kernel.REASON])
    of_unit = trade[unit.TRADE_NUMBERS :]
    entry, price = of_unit[kernel.ENTRY_PRICE], of_unit[kernel.EXIT_PRICE]
    rate = a[symbol, TARGET_FEE] if reason == unit.TAKE_PROFIT else a[symbol, TAKER_FEE]
    fee = _value_of(quantity, price, inverse) * rate
    fees = a[symbol, ENTRY_FEE] + fee
    gross = gross_of(trade[kernel.SIDE], quantity, entry, price, inverse)
    wallet[WALLET] += gross - fee
    a[symbol, REALISED] += gross - fee
    number, record = numbers[counts[layout.TRADES]], records[counts[layout.TRADES]]
    number[layout.SYMBOL] = symbol
    for place in range(kernel.REASON + 1):
        number[layout.SYMBOL + 1 + place] = int(trade[place])
    record[kernel.ENTRY_PRICE] = entry
    record[kernel.EXIT_PRICE] = price
    record[kernel.QUANTITY_HELD] = quantity
    record[kernel.PNL] = gross - fees - a[symbol, FUNDING]
    record[kernel.GROSS] = gross
    record[kernel.FEES] = fees
    record[kernel.MAE] = of_unit[kernel.MAE] * quantity
    record[kernel.MFE] = of_unit[kernel.MFE] * quantity
    record[kernel.INITIAL_RISK] = of_unit[kernel.INITIAL_RISK] * quantity
    record[kernel.RECORD_WIDTH] = a[symbol, FUNDING]
    counts[layout.TRADES] += 1


@part_of_loop
def _close(  # noqa: PLR0913 - a compiled function takes its state as arguments
    f: FloatColumn, k: IntegerTable, a: FloatColumn, wallet: FloatColumn, counts: IntegerTable, symbol: int,
    price: float, reason: int, trade: FloatColumn, numbers: IntegerTable, records: FloatColumn,
) -> None:  # fmt: skip
    """Leave a symbol's position at a price."""
    leave(f[symbol], k[symbol], trade, 1.0, price, reason)
    _book_exit(k, a, wallet, counts, symbol, trade, numbers, records)


@part_of_loop
def _find_quantity(
    a: FloatColumn, n: IntegerTable, price: float, inverse: bool, equity: float, used: float, weight: float,
    unit_risk: float,
) -> int:  # fmt: skip
    """Set how much of a symbol to take and return why nothing, `_ACCEPTED` where something."""
    power = equity * a[LEVERAGE] / (1.0 + a[FEE_RESERVE])
    left = power - used
    mode, value, capped = n[SIZE_MODE], a[SIZE_VALUE], 0
    if mode == FIXED_QUANTITY:
        quantity = value
    elif mode == QUOTE:
        quantity = value if inverse else value / price
    else:
        if mode == EQUITY_FRACTION:
            share = power * value * weight
            quantity = share * price if inverse else share / price
        elif np.isnan(unit_risk):
            return _NO_STOP
        else:
            quantity = np.inf if unit_risk <= 0.0 else equity * value * weight / unit_risk
        most = left * price if inverse else left / price
        if quantity > most:
            quantity = most
            capped = 1
    if 0.0 < a[MAX_QUANTITY] < quantity:
        quantity = a[MAX_QUANTITY]
        capped += 1
    n[CAPPED] += capped
    if a[LOT_UP] > 0.0:
        quantity = whole_steps_down(quantity, a[LOT_UP], a[LOT_DOWN])
    a[QUANTITY] = quantity
    notional = _value_of(quantity, price, inverse)
    if quantity <= 0.0 or quantity < a[MIN_QUANTITY]:
        return _TOO_MUCH if used > 0.0 and capped > 0 else _TOO_LITTLE
    if (quantity if inverse else notional) < a[MIN_NOTIONAL]:
        return _TOO_CHEAP
    return _TOO_MUCH if notional > left * (1.0 + 1e-9) else _ACCEPTED


@part_of_loop
def _enter(  # noqa: PLR0913 - a compiled function takes its state as arguments
    f: FloatColumn, k: IntegerTable, a: FloatColumn, n: IntegerTable, wallet: FloatColumn, counts: IntegerTable,
    symbol: int, side: float, weight: float, distances: FloatColumn, fill: FloatColumn,
) -> int:  # fmt: skip
    """Open a position at a symbol's open and return why not, `_ACCEPTED` where it is open."""
    equity, used, held = _equity(f, k, a, wallet[WALLET]), 0.0, 0
    for other in range(len(a)):
        if f[other, unit.SIDE] != 0.0:
            used += _value_of(a[other, QUANTITY], a[other, PRICE], k[other, unit.INVERSE] != 0)
            held += 1
    if equity <= 0.0:
        return _RUINED
    if held >= counts[MOST_POSITIONS]:
        return _NO_FREE_SLOT
    one, whole, inverse = f[symbol], k[symbol], k[symbol, unit.INVERSE] != 0
    for place in range(len(distances)):
        distance = distances[place, n[symbol, ROW] - 1]
        one[unit.STOP_DISTANCE + place] = distance if distance > 0.0 else np.nan
    price = a[symbol, PRICE] * (1.0 + side * one[unit.SLIPPAGE])
    enter(one, whole, fill, side, whole[unit.BAR] - 1, price, one[unit.TAKER_FEE], False)
    whole[unit.FILLS] = 0
    unit_risk = np.nan
    if not np.isnan(one[unit.INITIAL_STOP]):
        unit_risk = 0.0 - gross_of(side, 1.0, price, one[unit.INITIAL_STOP], inverse)
    refusal = _find_quantity(a[symbol], n[symbol], price, inverse, equity, used, weight, unit_risk)
    if refusal != _ACCEPTED:
        one[unit.SIDE] = 0.0
        return refusal
    notional = _value_of(a[symbol, QUANTITY], price, inverse)
    if notional > a[symbol, TIER_LIMIT]:
        counts[TOO_LARGE], wallet[OF_VALUE] = symbol, notional
    fee = notional * a[symbol, TAKER_FEE]
    wallet[WALLET] -= fee
    a[symbol, ENTRY_FEE] = fee
    a[symbol, FUNDING] = 0.0
    a[symbol, REALISED] -= fee
    leverage = (used + notional) / equity
    if leverage > wallet[PEAK]:
        wallet[PEAK] = leverage
    return _ACCEPTED


@njit(cache=True, nogil=True, error_model="numpy")
def run_steps(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one loop over the steps, every rule at its place in it
    start: int, stop: int, ts: TimeColumn, columns: Columns, weights: FloatColumn, state: State, numbers: IntegerTable,
    records: FloatColumn, equity: FloatColumn, open_positions: IntegerTable, contribution: FloatColumn,
) -> None:  # fmt: skip
    """Go through some steps; ends at the one in which a position leaves the first maintenance tier.

    Parameters
    ----------
    start, stop : int
        Steps; those before `start` were gone through with the same arrays.
    ts : ndarray of int64, shape (m,)
        Opens of all steps.
    columns : Columns
    weights : ndarray of float64, shape (m, s) or (1, s)
        Multiple of what a symbol would take alone, at an entry of each step, or at any.
    state : State
        Changed.
    numbers, records : output, one row a trade
    equity, open_positions : output, shape (m,)
    contribution : output, shape (s, m)
    """
    f, k, a, n, wallet, counts = state.f, state.k, state.a, state.n, state.wallet, state.counts
    trade, fill = state.scratch[: unit.TRADE_WIDTH], state.scratch[unit.TRADE_WIDTH :]
    own_ts, decisions, distances = columns.ts, columns.decisions, columns.distances
    open_, high, low, close = columns.open, columns.high, columns.low, columns.close
    mark_open, mark_high, mark_low, mark_close = (
        columns.mark_open,
        columns.mark_high,
        columns.mark_low,
        columns.mark_close,
    )
    at_open, inside = columns.funding_at_open, columns.funding_inside
    symbols = len(a)
    for step in range(start, stop):
        # Rule 1: funding at the open, positions that leave there, entries in the order of the symbols.
        for symbol in range(symbols):
            row = n[symbol, NEXT_ROW]
            n[symbol, ROW] = -1
            if row < n[symbol, END_ROW] and own_ts[row] == ts[step]:
                n[symbol, ROW] = row
                n[symbol, NEXT_ROW] = row + 1
                k[symbol, unit.BAR] = row - n[symbol, FIRST_ROW]
                a[symbol, PRICE] = open_[row]
        if len(at_open) > 0:
            _pay_funding(f, a, n, wallet, at_open)
        for symbol in range(symbols):
            side = f[symbol, unit.SIDE]
            n[symbol, SIDE_BEFORE] = int(side)
            if n[symbol, ROW] >= 0 and side != 0.0:
                reason = _reason_to_leave(f[symbol], k[symbol], _decision_at(n, symbol, decisions))
                if reason != _STAYS:
                    price = a[symbol, PRICE] * (1.0 - side * f[symbol, unit.SLIPPAGE])
                    _close(f, k, a, wallet, counts, symbol, price, reason, trade, numbers, records)
        for symbol in range(symbols):
            if n[symbol, ROW] >= 0 and f[symbol, unit.SIDE] == 0.0:
                decision = _decision_at(n, symbol, decisions)
                if decision == 0:
                    continue
                side = _side_to_enter(k[symbol], decision, n[symbol, SIDE_BEFORE])
                if side != 0.0:
                    weight = weights[step if len(weights) > 1 else 0, symbol]
                    refusal = _enter(f, k, a, n, wallet, counts, symbol, side, weight, distances, fill)
                    if counts[TOO_LARGE] >= 0:
                        return
                    if refusal != _ACCEPTED:
                        n[symbol, REFUSED + refusal] += 1
        # Then funding inside the bar, and what its prices do.
        if len(inside) > 0:
            _pay_funding(f, a, n, wallet, inside)
        for symbol in range(symbols):
            row = n[symbol, ROW]
            if row < 0:
                continue
            a[symbol, PRICE] = close[row]
            if f[symbol, unit.SIDE] == 0.0:
                continue
            one, whole = f[symbol], k[symbol]
            one[unit.OPEN], one[unit.HIGH], one[unit.LOW], one[unit.CLOSE] = open_[row], high[row], low[row], close[row]
            one[unit.MARK_OPEN], one[unit.MARK_HIGH] = mark_open[row], mark_high[row]
            one[unit.MARK_LOW], one[unit.MARK_CLOSE] = mark_low[row], mark_close[row]
            if live_through(one, whole, trade, unit.BAR_CANDLE, unit.MARKET_ORDER):
                n[symbol, AMBIGUOUS] += 1
            if one[unit.SIDE] == 0.0:
                _book_exit(k, a, wallet, counts, symbol, trade, numbers, records)
            elif whole[unit.MOVES_STOP] != 0:
                move_stop(one, whole)
        # Rule 5: mark at the closes; the end of a symbol's data closes it, a lost capital closes everything.
        marked = _equity(f, k, a, wallet[WALLET])
        is_lost = marked <= 0.0
        held = 0
        for symbol in range(symbols):
            is_last = n[symbol, ROW] == n[symbol, END_ROW] - 1
            if f[symbol, unit.SIDE] != 0.0 and (is_lost or is_last):
                reason = unit.LIQUIDATION if is_lost else unit.END_OF_DATA
                _close(f, k, a, wallet, counts, symbol, a[symbol, PRICE], reason, trade, numbers, records)
        marked = _equity(f, k, a, wallet[WALLET])
        if marked <= 0.0 and counts[RUINED_STEP] < 0:
            counts[RUINED_STEP] = step
        for symbol in range(symbols):
            made = a[symbol, REALISED]
            if f[symbol, unit.SIDE] != 0.0:
                made += _unrealised(f, k, a, symbol)
                held += 1
            contribution[symbol, step] = made
        equity[step] = marked
        open_positions[step] = held
