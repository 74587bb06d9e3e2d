"""The bar loop with every rule, compiled: what `engine.core.kernel` leaves out for speed is here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core import kernel
from engine.core.candles import FloatColumn
from engine.core.kernel import KernelRules, distance_at, gross_of, level_at, whole_steps_down
from engine.core.simulation import SkipReason
from engine.core.trades import ExitReason

PESSIMISTIC, OPTIMISTIC, MAGNIFY = 0, 1, 2
MARKET_ORDER, LIMIT_ORDER, STOP_ORDER = 0, 1, 2
# Where an order filled, or that it did not.
_NOWHERE, _AT_OPEN, _INSIDE = 0, 1, 2

ROW_WIDTH, RECORD_WIDTH = 6, 10
ENTRY_ROW_WIDTH, ENTRY_RECORD_WIDTH = 4, 3
DECIDED = kernel.COUNTERS
COUNTERS = kernel.COUNTERS + 1

# The account and its position in two arrays, so that compiled functions can share them. NaN levels: none stands.
(
    _WALLET, _SIDE, _ENTRY, _QUANTITY, _ENTERED, _BEST, _WORST, _STOP, _INITIAL_STOP, _TRAIL_GAP, _LIQUIDATION_PRICE,
    _BANKRUPTCY, _ENTRY_FEES, _FUNDING, _ORDER_PRICE, FLOAT_STATES,
) = range(16)  # fmt: skip
(
    _ENTRY_BAR, _SIGNAL_BAR, _STOP_REASON, _NEXT_TARGET, _ENTRIES, _POSITIONS, _TRADES, _FILLS, _ORDER_SIDE,
    _ORDER_SIGNAL, _ORDER_LAST, INTEGER_STATES,
) = range(12)  # fmt: skip
TRADES_STATE, FILLS_STATE = _TRADES, _FILLS

_SIGNAL, _STOP_LOSS, _TAKE_PROFIT = int(ExitReason.SIGNAL), int(ExitReason.STOP_LOSS), int(ExitReason.TAKE_PROFIT)
_TRAILING_STOP, _LIQUIDATION = int(ExitReason.TRAILING_STOP), int(ExitReason.LIQUIDATION)
_MAX_BARS, _END_OF_DATA = int(ExitReason.MAX_BARS), int(ExitReason.END_OF_DATA)
_SESSION_END = int(ExitReason.SESSION_END)
_SKIP_CONFLICT = kernel.SKIPS + int(SkipReason.CONFLICTING_SIGNALS)
_SKIP_DIRECTION = kernel.SKIPS + int(SkipReason.DIRECTION_NOT_ALLOWED)
_SKIP_RUINED = kernel.SKIPS + int(SkipReason.RUINED)
_SKIP_NO_STOP = kernel.SKIPS + int(SkipReason.NO_STOP)
_SKIP_QUANTITY = kernel.SKIPS + int(SkipReason.BELOW_MIN_QUANTITY)
_SKIP_NOTIONAL = kernel.SKIPS + int(SkipReason.BELOW_MIN_NOTIONAL)
_SKIP_MARGIN = kernel.SKIPS + int(SkipReason.INSUFFICIENT_MARGIN)
_SKIP_RISK_LIMIT = kernel.SKIPS + int(SkipReason.ABOVE_RISK_LIMIT)
_SKIP_SESSION = kernel.SKIPS + int(SkipReason.OUTSIDE_SESSION)
_SKIP_ORDER = kernel.SKIPS + int(SkipReason.ORDER_NOT_FILLED)


class Inputs(NamedTuple):
    """Columns of a run; a column that does not exist is empty.

    Attributes
    ----------
    open, high, low, close, mark_open, mark_high, mark_low, mark_close : ndarray of float64, shape (n,)
    decisions : ndarray of uint8, shape (n,)
    session : ndarray of bool, shape (n,) or (0,)
    stop_distance, target_distance, trail_distance, order_distance : ndarray of float64, shape (n,) or (0,)
    partial_distance : ndarray of float64, shape (k, n)
        NaN rows where a partial target is a fraction.
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
    session: NDArray[np.bool_]
    stop_distance: FloatColumn
    target_distance: FloatColumn
    trail_distance: FloatColumn
    order_distance: FloatColumn
    partial_distance: FloatColumn
    funding_at_open: FloatColumn
    funding_inside: FloatColumn
    minute_open: FloatColumn
    minute_high: FloatColumn
    minute_low: FloatColumn
    minute_close: FloatColumn
    minute_start: NDArray[np.int64]
    minute_stop: NDArray[np.int64]


class FullRules(NamedTuple):
    """What a run has beyond `KernelRules`; tiers and partial targets are columns of equal length each."""

    plain: KernelRules
    intrabar: int
    has_own_marks: bool
    order_kind: int
    order_fraction: float
    order_bars: int
    max_entries: int
    flat_outside: bool
    partial_share: FloatColumn
    partial_fraction: FloatColumn
    partial_closes_all: NDArray[np.bool_]
    tier_limit: FloatColumn
    tier_maintenance: FloatColumn
    tier_deduction: FloatColumn
    tier_leverage: FloatColumn


class Account(NamedTuple):
    """State and output: two state arrays, levels of the partial targets and the target, and the tables."""

    f: FloatColumn
    k: NDArray[np.int64]
    levels: FloatColumn
    rows: NDArray[np.int64]
    records: FloatColumn
    entry_rows: NDArray[np.int64]
    entry_records: FloatColumn
    counters: NDArray[np.int64]


class Candle(NamedTuple):
    """Prices of a bar or a minute; marks are NaN where they are not known."""

    open: float
    high: float
    low: float
    close: float
    mark_open: float
    mark_high: float
    mark_low: float
    mark_close: float


@njit(cache=True, nogil=True, error_model="numpy")
def _is_at(level: float, way: float, price: float) -> bool:
    return way * price >= way * level


@njit(cache=True, nogil=True, error_model="numpy")
def _stretch(f: FloatColumn, price: float) -> None:
    side = f[_SIDE]
    if side * price > side * f[_BEST]:
        f[_BEST] = price
    if side * price < side * f[_WORST]:
        f[_WORST] = price


@njit(cache=True, nogil=True, error_model="numpy")
def _tighten(f: FloatColumn, k: NDArray[np.int64], level: float, reason: int) -> None:
    if np.isnan(level):
        return
    if np.isnan(f[_STOP]) or f[_SIDE] * level > f[_SIDE] * f[_STOP]:
        f[_STOP] = level
        k[_STOP_REASON] = reason


@njit(cache=True, nogil=True, error_model="numpy")
def _move_stop(f: FloatColumn, k: NDArray[np.int64], plain: KernelRules) -> None:
    side = f[_SIDE]
    up, down = plain.tick_numerator, plain.tick_denominator
    if side * f[_BEST] >= side * (f[_ENTRY] * (1.0 + side * plain.breakeven)):
        _tighten(f, k, level_at(f[_ENTRY], -side, 0.0, np.nan, up, down), _STOP_LOSS)
    reach = f[_ENTRY] * (1.0 + side * plain.trail_activation)
    if np.isnan(plain.trail_activation) or side * f[_BEST] >= side * reach:
        trail = level_at(f[_BEST], -side, plain.trail_fraction, f[_TRAIL_GAP], up, down)
        _tighten(f, k, trail, _TRAILING_STOP)


@njit(cache=True, nogil=True, error_model="numpy")
def _set_levels(inputs: Inputs, rules: FullRules, account: Account, bar: int) -> None:
    """Put the levels on the average entry with the distances of a signal bar; a tighter trailing stop stays."""
    f, k, plain = account.f, account.k, rules.plain
    side, entry = f[_SIDE], f[_ENTRY]
    up, down = plain.tick_numerator, plain.tick_denominator
    trailed = f[_STOP] if k[_STOP_REASON] == _TRAILING_STOP else np.nan
    f[_STOP] = level_at(entry, -side, plain.stop_fraction, distance_at(inputs.stop_distance, bar), up, down)
    k[_STOP_REASON] = _STOP_LOSS
    _tighten(f, k, trailed, _TRAILING_STOP)
    partials = len(rules.partial_share)
    for row in range(partials):
        gap = distance_at(inputs.partial_distance[row], bar)
        account.levels[row] = level_at(entry, side, rules.partial_fraction[row], gap, up, down)
    gap = distance_at(inputs.target_distance, bar)
    account.levels[partials] = level_at(entry, side, plain.target_fraction, gap, up, down)
    f[_TRAIL_GAP] = distance_at(inputs.trail_distance, bar)
    _move_stop(f, k, plain)
    f[_INITIAL_STOP] = f[_STOP]


@njit(cache=True, nogil=True, error_model="numpy")
def _lone_stop(inputs: Inputs, plain: KernelRules, side: float, price: float, bar: int) -> float:
    """Return the stop an addition would have alone."""
    up, down = plain.tick_numerator, plain.tick_denominator
    stop = level_at(price, -side, plain.stop_fraction, distance_at(inputs.stop_distance, bar), up, down)
    if np.isnan(plain.trail_activation):
        gap = distance_at(inputs.trail_distance, bar)
        trail = level_at(price, -side, plain.trail_fraction, gap, up, down)
        if np.isnan(stop) or side * trail > side * stop:
            stop = trail
    return stop


@njit(cache=True, nogil=True, error_model="numpy")
def _tier_row(rules: FullRules, value: float) -> int:
    for row in range(len(rules.tier_limit)):
        if value <= rules.tier_limit[row]:
            return row
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _find_liquidation(rules: FullRules, account: Account) -> None:
    """Set liquidation and bankruptcy price of what is held (see engine.core.perpetual)."""
    f, inverse, leverage = account.f, rules.plain.inverse, rules.plain.leverage
    tiers = len(rules.tier_limit)
    if tiers == 0:
        return
    side, entry, quantity = f[_SIDE], f[_ENTRY], f[_QUANTITY]
    row = _tier_row(rules, quantity / entry if inverse else quantity * entry)
    maintenance, deduction = rules.tier_maintenance[row], rules.tier_deduction[row]
    if inverse:
        bankruptcy = entry * leverage / (leverage + side) if leverage + side > 0.0 else np.nan
        coins = quantity / entry
        above = quantity * (1.0 + side * maintenance)
        below = coins + side * coins / leverage + side * deduction
    else:
        bankruptcy = entry * (1.0 - side / leverage)
        above = quantity * entry * (1.0 - side / leverage) - side * deduction
        below = quantity * (1.0 - side * maintenance)
    f[_BANKRUPTCY] = bankruptcy if bankruptcy > 0.0 else np.nan
    f[_LIQUIDATION_PRICE] = np.nan
    if bankruptcy > 0.0 and above > 0.0 and below > 0.0:
        f[_LIQUIDATION_PRICE] = above / below


@njit(cache=True, nogil=True, error_model="numpy")
def _find_size(  # noqa: C901, PLR0912 - one way for each mode and bound
    rules: FullRules, account: Account, side: float, price: float, stop: float, equity: float, held: float
) -> tuple[float, int]:
    """Return quantity and the counter of why there is none, 0 where there is one; `held` units are held already."""
    plain, capped, skip = rules.plain, 0, 0
    power = equity * plain.leverage / (1.0 + plain.fee_reserve)
    held_value = held / price if plain.inverse else held * price
    if plain.size_mode == kernel.EQUITY_FRACTION:
        quantity = power * plain.size_value
        quantity = quantity * price if plain.inverse else quantity / price
    elif plain.size_mode == kernel.QUOTE:
        quantity = plain.size_value if plain.inverse else plain.size_value / price
    elif plain.size_mode == kernel.QUANTITY:
        quantity = plain.size_value
    else:
        if np.isnan(stop):
            return 0.0, _SKIP_NO_STOP
        unit_risk = 0.0 - gross_of(side, 1.0, price, stop, plain.inverse)
        quantity = np.inf if unit_risk <= 0.0 else equity * plain.size_value / unit_risk
        room = power - held_value
        most = room * price if plain.inverse else room / price
        if quantity > most:
            quantity = most
            capped += 1
    if plain.max_quantity > 0.0 and quantity > plain.max_quantity:
        quantity = plain.max_quantity
        capped += 1
    if plain.lot_numerator > 0.0:
        quantity = whole_steps_down(quantity, plain.lot_numerator, plain.lot_denominator)
    notional = quantity / price if plain.inverse else quantity * price
    if quantity <= 0.0 or quantity < plain.min_quantity:
        skip = _SKIP_QUANTITY
    elif (quantity if plain.inverse else notional) < plain.min_notional:
        skip = _SKIP_NOTIONAL
    elif notional + held_value > power * (1.0 + 1e-9):
        skip = _SKIP_MARGIN
    elif len(rules.tier_limit) > 0:
        row = _tier_row(rules, notional + held_value)
        if row < 0 or plain.leverage > rules.tier_leverage[row]:
            skip = _SKIP_RISK_LIMIT
    account.counters[kernel.CAPPED] += capped
    return quantity, skip


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(
    rules: FullRules, account: Account, bar: int, quantity: float, price: float, rate: float, is_inside: bool
) -> None:
    f, k = account.f, account.k
    fee = (quantity / price if rules.plain.inverse else quantity * price) * rate
    f[_WALLET] -= fee
    f[_ENTRY_FEES] += fee
    f[_QUANTITY] += quantity
    f[_ENTERED] += quantity
    k[_ENTRIES] += 1
    _find_liquidation(rules, account)
    row, record = account.entry_rows[k[_FILLS]], account.entry_records[k[_FILLS]]
    row[0] = k[_POSITIONS] - 1
    row[1] = int(f[_SIDE])
    row[2] = bar
    row[3] = 1 if is_inside else 0
    record[0] = price
    record[1] = quantity
    record[2] = fee
    k[_FILLS] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _open(  # noqa: PLR0913 - a compiled function takes its state as arguments
    inputs: Inputs,
    rules: FullRules,
    account: Account,
    bar: int,
    side: float,
    signal_bar: int,
    price: float,
    rate: float,
    is_inside: bool,
) -> None:
    """Open a position, or count why not."""
    f, k = account.f, account.k
    if f[_WALLET] <= 0.0:
        account.counters[_SKIP_RUINED] += 1
        return
    f[_SIDE] = side
    f[_ENTRY] = f[_BEST] = f[_WORST] = price
    f[_STOP] = f[_LIQUIDATION_PRICE] = f[_BANKRUPTCY] = np.nan
    k[_STOP_REASON] = _STOP_LOSS
    k[_NEXT_TARGET] = 0
    _set_levels(inputs, rules, account, signal_bar)
    quantity, skip = _find_size(rules, account, side, price, f[_STOP], f[_WALLET], 0.0)
    if skip != 0:
        account.counters[skip] += 1
        f[_SIDE] = 0.0
        return
    k[_SIGNAL_BAR] = signal_bar
    k[_ENTRY_BAR] = bar
    k[_POSITIONS] += 1
    k[_ENTRIES] = 0
    f[_QUANTITY] = f[_ENTERED] = f[_ENTRY_FEES] = f[_FUNDING] = 0.0
    _fill(rules, account, bar, quantity, price, rate, is_inside)


@njit(cache=True, nogil=True, error_model="numpy")
def _add(inputs: Inputs, rules: FullRules, account: Account, bar: int) -> None:
    """Enlarge the position at the open, or count why not."""
    f, plain = account.f, rules.plain
    side, held = f[_SIDE], f[_QUANTITY]
    equity = f[_WALLET] + gross_of(side, held, f[_ENTRY], inputs.open[bar], plain.inverse)
    if len(inputs.session) > 0 and not inputs.session[bar]:
        account.counters[_SKIP_SESSION] += 1
        return
    if equity <= 0.0:
        account.counters[_SKIP_RUINED] += 1
        return
    price = inputs.open[bar] * (1.0 + side * plain.slippage)
    stop = _lone_stop(inputs, plain, side, price, bar - 1)
    quantity, skip = _find_size(rules, account, side, price, stop, equity, held)
    if skip != 0:
        account.counters[skip] += 1
        return
    total = held + quantity
    if plain.inverse:
        f[_ENTRY] = total / (held / f[_ENTRY] + quantity / price)
    else:
        f[_ENTRY] = (held * f[_ENTRY] + quantity * price) / total
    _stretch(account.f, price)
    # The average lies between the fills, but its rounding may not.
    _stretch(account.f, f[_ENTRY])
    _set_levels(inputs, rules, account, bar - 1)
    _fill(rules, account, bar, quantity, price, plain.taker_fee, False)


@njit(cache=True, nogil=True, error_model="numpy")
def _close(rules: FullRules, account: Account, bar: int, quantity: float, price: float, reason: int) -> None:
    """Close a part or all of the position and write its row."""
    f, k, plain = account.f, account.k, rules.plain
    side, entry = f[_SIDE], f[_ENTRY]
    rate = plain.target_fee if reason == _TAKE_PROFIT else plain.taker_fee
    fee = (quantity / price if plain.inverse else quantity * price) * rate
    entry_fee, funding = f[_ENTRY_FEES], f[_FUNDING]
    is_whole = quantity >= f[_QUANTITY]
    if not is_whole:
        share = quantity / f[_QUANTITY]
        entry_fee = entry_fee * share
        funding = funding * share
    fees = entry_fee + fee
    _stretch(account.f, price)
    made = gross_of(side, quantity, entry, price, plain.inverse)
    row, record = account.rows[k[_TRADES]], account.records[k[_TRADES]]
    row[kernel.SIDE] = int(side)
    row[kernel.SIGNAL_BAR] = k[_SIGNAL_BAR]
    row[kernel.ENTRY_BAR] = k[_ENTRY_BAR]
    row[kernel.EXIT_BAR] = bar
    row[kernel.REASON] = reason
    row[5] = k[_POSITIONS] - 1
    record[kernel.ENTRY_PRICE] = entry
    record[kernel.EXIT_PRICE] = price
    record[kernel.QUANTITY_HELD] = quantity
    record[kernel.PNL] = made - fees - funding
    record[kernel.GROSS] = made
    record[kernel.FEES] = fees
    record[kernel.MAE] = 0.0 - gross_of(side, quantity, entry, f[_WORST], plain.inverse)
    record[kernel.MFE] = 0.0 + gross_of(side, quantity, entry, f[_BEST], plain.inverse)
    record[kernel.INITIAL_RISK] = np.nan
    if not np.isnan(f[_INITIAL_STOP]):
        record[kernel.INITIAL_RISK] = 0.0 - gross_of(side, quantity, entry, f[_INITIAL_STOP], plain.inverse)
    record[9] = funding
    k[_TRADES] += 1
    f[_WALLET] += made - fee
    if is_whole:
        f[_SIDE] = 0.0
        return
    f[_QUANTITY] -= quantity
    f[_ENTRY_FEES] -= entry_fee
    f[_FUNDING] -= funding
    _find_liquidation(rules, account)


@njit(cache=True, nogil=True, error_model="numpy")
def _target(rules: FullRules, account: Account) -> float:
    """Return the next target's level, NaN where none is left; places without one are passed by."""
    k = account.k
    while k[_NEXT_TARGET] <= len(rules.partial_share):
        level = account.levels[k[_NEXT_TARGET]]
        if not np.isnan(level):
            return float(level)
        k[_NEXT_TARGET] += 1
    return np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _take_targets(rules: FullRules, account: Account, bar: int, limit: float, at_limit: bool) -> None:
    f, k, plain = account.f, account.k, rules.plain
    while f[_SIDE] != 0.0:
        target = _target(rules, account)
        if not _is_at(target, f[_SIDE], limit):
            return
        part, place = f[_QUANTITY], k[_NEXT_TARGET]
        if place < len(rules.partial_share) and not rules.partial_closes_all[place]:
            part = f[_ENTERED] * rules.partial_share[place]
            if plain.lot_numerator > 0.0:
                part = whole_steps_down(part, plain.lot_numerator, plain.lot_denominator)
            part = min(part, f[_QUANTITY])
        k[_NEXT_TARGET] += 1
        if part > 0.0:
            _close(rules, account, bar, part, limit if at_limit else target, _TAKE_PROFIT)


@njit(cache=True, nogil=True, error_model="numpy")
def _reaches(side: float, candle: Candle, kind: int) -> tuple[float, float, float, float, float, float]:
    """Return against, toward and mark as they may have been after the entry, then as they certainly were."""
    against = candle.low if side > 0.0 else candle.high
    toward = candle.high if side > 0.0 else candle.low
    mark = candle.mark_low if side > 0.0 else candle.mark_high
    if kind == LIMIT_ORDER:
        return against, toward, mark, against, candle.close, mark
    if kind == STOP_ORDER:
        return against, toward, mark, candle.close, toward, candle.mark_close
    return against, toward, mark, against, toward, mark


@njit(cache=True, nogil=True, error_model="numpy")
def _is_stopped(account: Account, against: float, mark: float) -> bool:
    f = account.f
    return _is_at(f[_STOP], -f[_SIDE], against) or _is_at(f[_LIQUIDATION_PRICE], -f[_SIDE], mark)


@njit(cache=True, nogil=True, error_model="numpy")
def _stop_out(rules: FullRules, account: Account, bar: int, against: float, mark: float) -> None:
    """Leave at whichever of stop and liquidation was reached and is nearer."""
    f = account.f
    side = f[_SIDE]
    liquidated = _is_at(f[_LIQUIDATION_PRICE], -side, mark)
    if _is_at(f[_STOP], -side, against) and (not liquidated or side * f[_STOP] >= side * f[_LIQUIDATION_PRICE]):
        price = f[_STOP] * (1.0 - side * rules.plain.slippage)
        _close(rules, account, bar, f[_QUANTITY], price, account.k[_STOP_REASON])
    else:
        _close(rules, account, bar, f[_QUANTITY], f[_BANKRUPTCY], _LIQUIDATION)


@njit(cache=True, nogil=True, error_model="numpy")
def _expect_the_worst(rules: FullRules, account: Account, bar: int, candle: Candle, kind: int) -> None:
    against, _, mark, _, must_toward, _ = _reaches(account.f[_SIDE], candle, kind)
    if _is_stopped(account, against, mark):
        _stop_out(rules, account, bar, against, mark)
    else:
        _take_targets(rules, account, bar, must_toward, False)


@njit(cache=True, nogil=True, error_model="numpy")
def _leave_at_open(rules: FullRules, account: Account, bar: int, candle: Candle) -> None:
    """Let the open of a candle act on the position held before it."""
    f = account.f
    side = f[_SIDE]
    _stretch(account.f, candle.open)
    if _is_at(f[_LIQUIDATION_PRICE], -side, candle.mark_open):
        _close(rules, account, bar, f[_QUANTITY], f[_BANKRUPTCY], _LIQUIDATION)
    elif _is_at(f[_STOP], -side, candle.open):
        price = candle.open * (1.0 - side * rules.plain.slippage)
        _close(rules, account, bar, f[_QUANTITY], price, account.k[_STOP_REASON])
    else:
        _take_targets(rules, account, bar, candle.open, True)


@njit(cache=True, nogil=True, error_model="numpy")
def _is_doubtful(rules: FullRules, account: Account, candle: Candle, kind: int) -> bool:
    """Return whether the unknown order of a candle's prices decides."""
    side = account.f[_SIDE]
    against, toward, mark, must_against, must_toward, must_mark = _reaches(side, candle, kind)
    may_stop, must_stop = _is_stopped(account, against, mark), _is_stopped(account, must_against, must_mark)
    target = _target(rules, account)
    may_gain, must_gain = _is_at(target, side, toward), _is_at(target, side, must_toward)
    return (may_stop and may_gain) or may_stop != must_stop or may_gain != must_gain


@njit(cache=True, nogil=True, error_model="numpy")
def _survive(account: Account, candle: Candle, kind: int) -> None:
    _, _, _, against, toward, _ = _reaches(account.f[_SIDE], candle, kind)
    _stretch(account.f, against)
    _stretch(account.f, toward)


@njit(cache=True, nogil=True, error_model="numpy")
def _touch(kind: int, side: float, order_price: float, candle: Candle) -> int:
    """Return where in a candle an order fills."""
    # A limit order to buy waits below the market, a stop order to buy above it.
    up = side if kind == STOP_ORDER else -side
    if up * candle.open >= up * order_price:
        return _AT_OPEN
    farthest = candle.high if up > 0.0 else candle.low
    return _INSIDE if up * farthest >= up * order_price else _NOWHERE


@njit(cache=True, nogil=True, error_model="numpy")
def _minute(inputs: Inputs, rules: FullRules, row: int) -> Candle:
    open_, high, low, close = (
        inputs.minute_open[row],
        inputs.minute_high[row],
        inputs.minute_low[row],
        inputs.minute_close[row],
    )
    if rules.has_own_marks:
        return Candle(open_, high, low, close, np.nan, np.nan, np.nan, np.nan)
    return Candle(open_, high, low, close, open_, high, low, close)


@njit(cache=True, nogil=True, error_model="numpy")
def _magnify(  # noqa: C901, PLR0912 - the order of the minutes is the order of the branches
    inputs: Inputs, rules: FullRules, account: Account, bar: int, candle: Candle, kind: int
) -> None:
    """Let the minutes of a bar act in order; where they cannot tell, expect the worst."""
    f = account.f
    side = f[_SIDE]
    _, _, mark, must_against, must_toward, must_mark = _reaches(side, candle, kind)
    if rules.has_own_marks and _is_at(f[_LIQUIDATION_PRICE], -side, mark):
        _expect_the_worst(rules, account, bar, candle, kind)
        return
    is_open, is_decided = kind == MARKET_ORDER, True
    first, last = 0, 0
    if len(inputs.minute_start) > 0:
        first, last = inputs.minute_start[bar], inputs.minute_stop[bar]
    for row in range(first, last):
        minute = _minute(inputs, rules, row)
        kind_now = MARKET_ORDER
        if not is_open:
            place = _touch(kind, side, f[_ORDER_PRICE], minute)
            if place == _NOWHERE:
                continue
            is_open = True
            if place == _INSIDE:
                kind_now = kind
        if kind_now == MARKET_ORDER:
            _leave_at_open(rules, account, bar, minute)
            if f[_SIDE] == 0.0:
                break
        if _is_doubtful(rules, account, minute, kind_now):
            is_decided = False
        _expect_the_worst(rules, account, bar, minute, kind_now)
        if f[_SIDE] == 0.0:
            break
        _survive(account, minute, kind_now)
    if f[_SIDE] != 0.0:
        contradicts = _is_stopped(account, must_against, must_mark) or _is_at(
            _target(rules, account), side, must_toward
        )
        if contradicts or not is_open:
            is_decided = False
            _expect_the_worst(rules, account, bar, candle, kind)
    if is_decided:
        account.counters[DECIDED] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _inside(inputs: Inputs, rules: FullRules, account: Account, bar: int, candle: Candle, kind: int) -> None:
    """Let a bar act on the position; `kind` is that of the order that filled inside it."""
    f = account.f
    if kind == MARKET_ORDER:
        _leave_at_open(rules, account, bar, candle)
        if f[_SIDE] == 0.0:
            return
    is_doubtful = _is_doubtful(rules, account, candle, kind)
    if is_doubtful:
        account.counters[kernel.AMBIGUOUS] += 1
    if is_doubtful and rules.intrabar == MAGNIFY:
        _magnify(inputs, rules, account, bar, candle, kind)
    elif rules.intrabar == OPTIMISTIC:
        _, toward, _, must_against, _, must_mark = _reaches(f[_SIDE], candle, kind)
        must_stop = _is_stopped(account, must_against, must_mark)
        _take_targets(rules, account, bar, toward, False)
        if f[_SIDE] != 0.0 and must_stop:
            _stop_out(rules, account, bar, must_against, must_mark)
    else:
        _expect_the_worst(rules, account, bar, candle, kind)
    if f[_SIDE] != 0.0:
        _survive(account, candle, kind)
        _move_stop(f, account.k, rules.plain)


@njit(cache=True, nogil=True, error_model="numpy")
def _pay_funding(f: FloatColumn, per_unit: float) -> None:
    paid = f[_SIDE] * f[_QUANTITY] * per_unit
    f[_WALLET] -= paid
    f[_FUNDING] += paid


@njit(cache=True, nogil=True, error_model="numpy")
def _is_eventful(f: FloatColumn, k: NDArray[np.int64], levels: FloatColumn, candle: Candle) -> bool:
    """Return whether a bar may reach a level of the position; most do not, and the loop passes them by."""
    side = f[_SIDE]
    against = candle.low if side > 0.0 else candle.high
    toward = candle.high if side > 0.0 else candle.low
    mark = candle.mark_low if side > 0.0 else candle.mark_high
    stop, liquidation = f[_STOP], f[_LIQUIDATION_PRICE]
    if _is_at(stop, -side, against) or _is_at(stop, -side, candle.open):
        return True
    if _is_at(liquidation, -side, mark) or _is_at(liquidation, -side, candle.mark_open):
        return True
    # A place without a target may hide one behind it.
    place = k[_NEXT_TARGET]
    if place >= len(levels):
        return False
    target = float(levels[place])
    return np.isnan(target) or _is_at(target, side, toward) or _is_at(target, side, candle.open)


@njit(cache=True, nogil=True, error_model="numpy")
def _cancel_order(account: Account) -> None:
    account.k[_ORDER_SIDE] = 0
    account.counters[_SKIP_ORDER] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _enter(inputs: Inputs, rules: FullRules, account: Account, bar: int, side: float) -> None:
    """Open at the market or place an order, or count why not."""
    plain, k = rules.plain, account.k
    if (side > 0.0 and not plain.allow_long) or (side < 0.0 and not plain.allow_short):
        account.counters[_SKIP_DIRECTION] += 1
    elif rules.order_kind != MARKET_ORDER:
        way = -side if rules.order_kind == LIMIT_ORDER else side
        gap = distance_at(inputs.order_distance, bar - 1)
        up, down = plain.tick_numerator, plain.tick_denominator
        price = level_at(inputs.close[bar - 1], way, rules.order_fraction, gap, up, down)
        if np.isnan(price):
            account.counters[_SKIP_ORDER] += 1
        else:
            account.f[_ORDER_PRICE] = price
            k[_ORDER_SIDE] = int(side)
            k[_ORDER_SIGNAL] = bar - 1
            k[_ORDER_LAST] = bar - 1 + rules.order_bars
    elif len(inputs.session) > 0 and not inputs.session[bar]:
        account.counters[_SKIP_SESSION] += 1
    else:
        price = inputs.open[bar] * (1.0 + side * plain.slippage)
        _open(inputs, rules, account, bar, side, bar - 1, price, plain.taker_fee, False)


@njit(cache=True, nogil=True, error_model="numpy")
def _at_open(inputs: Inputs, rules: FullRules, account: Account, bar: int) -> None:
    """Do at the open what was decided at the last close, and what time says."""
    f, k, plain = account.f, account.k, rules.plain
    decision = inputs.decisions[bar - 1]
    conflict = (decision & kernel.LONG_ENTRY) != 0 and (decision & kernel.SHORT_ENTRY) != 0
    go_long = (decision & kernel.LONG_ENTRY) != 0 and not conflict and (decision & kernel.LONG_EXIT) == 0
    go_short = (decision & kernel.SHORT_ENTRY) != 0 and not conflict and (decision & kernel.SHORT_EXIT) == 0
    if conflict:
        account.counters[_SKIP_CONFLICT] += 1
    if k[_ORDER_SIDE] != 0:
        gives_up = (decision & (kernel.LONG_EXIT if k[_ORDER_SIDE] > 0 else kernel.SHORT_EXIT)) != 0
        if go_long or go_short or gives_up:
            _cancel_order(account)
    held = f[_SIDE]
    if held != 0.0:
        told = (decision & (kernel.LONG_EXIT if held > 0.0 else kernel.SHORT_EXIT)) != 0
        leaves = told or (go_short if held > 0.0 else go_long)
        timed_out = plain.max_bars > 0 and bar - k[_ENTRY_BAR] >= plain.max_bars
        shut = rules.flat_outside and len(inputs.session) > 0 and not inputs.session[bar]
        if leaves or timed_out or shut:
            reason = _SIGNAL if leaves else _MAX_BARS if timed_out else _SESSION_END
            price = inputs.open[bar] * (1.0 - held * plain.slippage)
            _close(rules, account, bar, f[_QUANTITY], price, reason)
    side = 1.0 if go_long else -1.0 if go_short else 0.0
    if side != 0.0 and side != held:
        _enter(inputs, rules, account, bar, side)
    elif side != 0.0 and f[_SIDE] != 0.0 and k[_ENTRIES] < rules.max_entries:
        _add(inputs, rules, account, bar)


@njit(cache=True, nogil=True, error_model="numpy")
def _try_order(inputs: Inputs, rules: FullRules, account: Account, bar: int, candle: Candle) -> int:
    """Fill the resting order if the bar reaches it; return its kind when that was inside the bar."""
    k, plain = account.k, rules.plain
    if len(inputs.session) > 0 and not inputs.session[bar]:
        return MARKET_ORDER
    side, kind = float(k[_ORDER_SIDE]), rules.order_kind
    place = _touch(kind, side, account.f[_ORDER_PRICE], candle)
    if place == _NOWHERE:
        return MARKET_ORDER
    k[_ORDER_SIDE] = 0
    price = candle.open if place == _AT_OPEN else account.f[_ORDER_PRICE]
    rate = plain.target_fee
    if kind == STOP_ORDER:
        price = price * (1.0 + side * plain.slippage)
        rate = plain.taker_fee
    _open(inputs, rules, account, bar, side, k[_ORDER_SIGNAL], price, rate, place == _INSIDE)
    return kind if place == _INSIDE else MARKET_ORDER


@njit(cache=True, nogil=True, error_model="numpy")
def run_all_rules(  # noqa: C901, PLR0912 - one loop over the bars
    inputs: Inputs, rules: FullRules, account: Account, equity: FloatColumn, position: NDArray[np.int8]
) -> None:
    """Run all bars and fill the account's tables, equity and position (shape (n,))."""
    f, k, levels, counters = account.f, account.k, account.levels, account.counters
    plain, bars = rules.plain, len(inputs.close)
    pays_funding = len(inputs.funding_at_open) > 0
    is_timed = plain.max_bars > 0 or rules.flat_outside
    has_trail = not np.isnan(plain.trail_fraction) or len(inputs.trail_distance) > 0
    moves_stop = has_trail or not np.isnan(plain.breakeven)
    for bar in range(bars):
        candle = Candle(
            inputs.open[bar],
            inputs.high[bar],
            inputs.low[bar],
            inputs.close[bar],
            inputs.mark_open[bar],
            inputs.mark_high[bar],
            inputs.mark_low[bar],
            inputs.mark_close[bar],
        )
        if bar > 0:
            if pays_funding and f[_SIDE] != 0.0:
                _pay_funding(f, inputs.funding_at_open[bar])
            if inputs.decisions[bar - 1] != 0 or (f[_SIDE] != 0.0 and is_timed):
                _at_open(inputs, rules, account, bar)
        kind = MARKET_ORDER
        if k[_ORDER_SIDE] != 0:
            kind = _try_order(inputs, rules, account, bar, candle)
        if f[_SIDE] != 0.0:
            counters[kernel.EXPOSED] += 1
            if pays_funding and kind == MARKET_ORDER:
                _pay_funding(f, inputs.funding_inside[bar])
            if kind != MARKET_ORDER or _is_eventful(f, k, levels, candle):
                _inside(inputs, rules, account, bar, candle, kind)
            else:
                _stretch(f, candle.open)
                _stretch(f, candle.low)
                _stretch(f, candle.high)
                if moves_stop:
                    _move_stop(f, k, rules.plain)
        if k[_ORDER_SIDE] != 0 and (bar == k[_ORDER_LAST] or bar == bars - 1):
            _cancel_order(account)
        marked = f[_WALLET]
        if f[_SIDE] != 0.0:
            marked = f[_WALLET] + gross_of(f[_SIDE], f[_QUANTITY], f[_ENTRY], candle.close, rules.plain.inverse)
            if marked <= 0.0 or bar == bars - 1:
                reason = _LIQUIDATION if marked <= 0.0 else _END_OF_DATA
                _close(rules, account, bar, f[_QUANTITY], candle.close, reason)
                marked = f[_WALLET]
        if marked <= 0.0 and counters[kernel.RUINED_BAR] < 0:
            counters[kernel.RUINED_BAR] = bar
        equity[bar] = marked
        position[bar] = int(f[_SIDE])
