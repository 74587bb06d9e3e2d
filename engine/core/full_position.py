"""Opening, enlarging and closing a position in the two flat arrays, compiled: sizes, levels, liquidation, rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core import kernel
from engine.core.candles import FloatColumn
from engine.core.fill_rules import (
    NOT_REFUSED,
    find_quantity,
    gross_of,
    level_at,
    liquidation_of,
    part_of_loop,
    refusal_of,
)
from engine.core.full_layout import (
    BANKRUPTCY,
    BAR,
    BEST,
    BREAKEVEN,
    CAPPED,
    ENTERED,
    ENTRIES,
    ENTRY,
    ENTRY_BAR,
    ENTRY_FEES,
    FEE_RESERVE,
    FILL_WIDTH,
    FILLS,
    FUNDING,
    INITIAL_STOP,
    INVERSE,
    LEVERAGE,
    LIQUIDATION_PRICE,
    LOT_DOWN,
    LOT_UP,
    MAX_QUANTITY,
    MIN_NOTIONAL,
    MIN_QUANTITY,
    NEXT_TARGET,
    OPEN,
    PART_DISTANCE,
    PART_FRACTION,
    PART_LEVEL,
    PARTS,
    POSITIONS,
    QUANTITY,
    SIDE,
    SIGNAL_BAR,
    SIZE,
    SIZE_MODE,
    SIZE_VALUE,
    SKIP,
    SKIP_RISK_LIMIT,
    SKIP_RUINED,
    STOP,
    STOP_DISTANCE,
    STOP_FRACTION,
    STOP_LOSS,
    STOP_REASON,
    TAKE_PROFIT,
    TAKER_FEE,
    TARGET_DISTANCE,
    TARGET_FEE,
    TARGET_FRACTION,
    TICK_DOWN,
    TICK_UP,
    TIER,
    TIER_DEDUCTION,
    TIER_LEVERAGE,
    TIER_LIMIT,
    TIER_MAINTENANCE,
    TIER_WIDTH,
    TIERS,
    TRADE_NUMBERS,
    TRADE_WIDTH,
    TRADES,
    TRAIL_ACTIVATION,
    TRAIL_DISTANCE,
    TRAIL_FRACTION,
    TRAIL_GAP,
    TRAILING_STOP,
    WALLET,
    WORST,
)

IntegerColumn = NDArray[np.int64]


@part_of_loop
def is_at(level: float, way: float, price: float) -> bool:
    """Return whether a price is at a level or beyond it; never where there is none."""
    return way * price >= way * level


@part_of_loop
def stretch(f: FloatColumn, price: float) -> None:
    """Let best and worst price of the position include a price."""
    side = f[SIDE]
    if side * price > side * f[BEST]:
        f[BEST] = price
    if side * price < side * f[WORST]:
        f[WORST] = price


@part_of_loop
def _tighten(f: FloatColumn, k: IntegerColumn, level: float, reason: int) -> None:
    if np.isnan(level):
        return
    if np.isnan(f[STOP]) or f[SIDE] * level > f[SIDE] * f[STOP]:
        f[STOP] = level
        k[STOP_REASON] = reason


@part_of_loop
def move_stop(f: FloatColumn, k: IntegerColumn) -> None:
    """Bring the stop to break even and behind the best price, where that is asked for and reached."""
    side, entry, best = f[SIDE], f[ENTRY], f[BEST]
    if side * best >= side * (entry * (1.0 + side * f[BREAKEVEN])):
        _tighten(f, k, level_at(entry, -side, 0.0, np.nan, f[TICK_UP], f[TICK_DOWN]), STOP_LOSS)
    reach = entry * (1.0 + side * f[TRAIL_ACTIVATION])
    if np.isnan(f[TRAIL_ACTIVATION]) or side * best >= side * reach:
        trail = level_at(best, -side, f[TRAIL_FRACTION], f[TRAIL_GAP], f[TICK_UP], f[TICK_DOWN])
        _tighten(f, k, trail, TRAILING_STOP)


@part_of_loop
def _set_levels(f: FloatColumn, k: IntegerColumn) -> None:
    """Put the levels on the average entry with the distances of the signal; a tighter trailing stop stays."""
    side, entry, up, down = f[SIDE], f[ENTRY], f[TICK_UP], f[TICK_DOWN]
    trailed = f[STOP] if k[STOP_REASON] == TRAILING_STOP else np.nan
    f[STOP] = level_at(entry, -side, f[STOP_FRACTION], f[STOP_DISTANCE], up, down)
    k[STOP_REASON] = STOP_LOSS
    _tighten(f, k, trailed, TRAILING_STOP)
    parts = k[PARTS]
    for row in range(parts + 1):
        fraction, gap = f[TARGET_FRACTION], f[TARGET_DISTANCE]
        if row < parts:
            fraction, gap = f[PART_FRACTION + row], f[PART_DISTANCE + row]
        f[PART_LEVEL + row] = level_at(entry, side, fraction, gap, up, down)
    f[TRAIL_GAP] = f[TRAIL_DISTANCE]
    move_stop(f, k)
    f[INITIAL_STOP] = f[STOP]


@part_of_loop
def _lone_stop(f: FloatColumn, price: float) -> float:
    """Return the stop an addition would have alone."""
    side, up, down = f[SIDE], f[TICK_UP], f[TICK_DOWN]
    stop = level_at(price, -side, f[STOP_FRACTION], f[STOP_DISTANCE], up, down)
    if np.isnan(f[TRAIL_ACTIVATION]):
        trail = level_at(price, -side, f[TRAIL_FRACTION], f[TRAIL_DISTANCE], up, down)
        if np.isnan(stop) or side * trail > side * stop:
            stop = trail
    return stop


@part_of_loop
def _tier_of(f: FloatColumn, k: IntegerColumn, value: float) -> int:
    """Return the place of the tier of a value, -1 where it is above all."""
    for row in range(k[TIERS]):
        if value <= f[TIER + TIER_WIDTH * row + TIER_LIMIT]:
            return TIER + TIER_WIDTH * row
    return -1


@part_of_loop
def _find_liquidation(f: FloatColumn, k: IntegerColumn) -> None:
    """Set liquidation and bankruptcy price of what is held (see engine.core.perpetual)."""
    if k[TIERS] == 0:
        return
    side, entry, quantity, leverage, inverse = f[SIDE], f[ENTRY], f[QUANTITY], f[LEVERAGE], k[INVERSE] != 0
    tier = _tier_of(f, k, quantity / entry if inverse else quantity * entry)
    f[LIQUIDATION_PRICE], f[BANKRUPTCY] = liquidation_of(
        side, quantity, entry, leverage, f[tier + TIER_MAINTENANCE], f[tier + TIER_DEDUCTION], inverse
    )


@part_of_loop
def _find_size(f: FloatColumn, k: IntegerColumn, price: float, stop: float, equity: float, held: float) -> int:
    """Set the quantity and return the counter of why there is none, 0 where there is one; `held` is held already."""
    inverse = k[INVERSE] != 0
    power = equity * f[LEVERAGE] / (1.0 + f[FEE_RESERVE])
    held_value = held / price if inverse else held * price
    unit_risk = np.nan if np.isnan(stop) else 0.0 - gross_of(f[SIDE], 1.0, price, stop, inverse)
    quantity, capped = find_quantity(
        k[SIZE_MODE], f[SIZE_VALUE], equity, power, power - held_value, unit_risk, price, inverse, f[MAX_QUANTITY],
        f[LOT_UP], f[LOT_DOWN],
    )  # fmt: skip
    k[CAPPED] += capped
    f[SIZE] = quantity
    notional = quantity / price if inverse else quantity * price
    refusal = refusal_of(quantity, notional, inverse, held_value, power, f[MIN_QUANTITY], f[MIN_NOTIONAL])
    if refusal != NOT_REFUSED:
        return SKIP + refusal
    if k[TIERS] > 0:
        tier = _tier_of(f, k, notional + held_value)
        if tier < 0 or f[LEVERAGE] > f[tier + TIER_LEVERAGE]:
            return SKIP_RISK_LIMIT
    return 0


@part_of_loop
def _fill(f: FloatColumn, k: IntegerColumn, fills: FloatColumn, price: float, rate: float, is_inside: bool) -> None:
    quantity = f[SIZE]
    fee = (quantity / price if k[INVERSE] != 0 else quantity * price) * rate
    f[WALLET] -= fee
    f[ENTRY_FEES] += fee
    f[QUANTITY] += quantity
    f[ENTERED] += quantity
    k[ENTRIES] += 1
    _find_liquidation(f, k)
    row = k[FILLS] * FILL_WIDTH
    fills[row] = k[POSITIONS] - 1
    fills[row + 1] = f[SIDE]
    fills[row + 2] = k[BAR]
    fills[row + 3] = 1.0 if is_inside else 0.0
    fills[row + 4] = price
    fills[row + 5] = quantity
    fills[row + 6] = fee
    k[FILLS] += 1


@part_of_loop
def enter(
    f: FloatColumn, k: IntegerColumn, fills: FloatColumn, side: float, signal_bar: int, price: float, rate: float,
    is_inside: bool,
) -> None:  # fmt: skip
    """Open a position, or enlarge the one that is held, or count why not."""
    held = f[QUANTITY] if f[SIDE] != 0.0 else 0.0
    equity = f[WALLET]
    if held > 0.0:
        equity += gross_of(side, held, f[ENTRY], f[OPEN], k[INVERSE] != 0)
    if equity <= 0.0:
        k[SKIP_RUINED] += 1
        return
    if held > 0.0:
        stop = _lone_stop(f, price)
    else:
        f[SIDE] = side
        f[ENTRY] = f[BEST] = f[WORST] = price
        f[STOP] = f[LIQUIDATION_PRICE] = f[BANKRUPTCY] = np.nan
        k[STOP_REASON] = STOP_LOSS
        k[NEXT_TARGET] = 0
        _set_levels(f, k)
        stop = f[STOP]
    skip = _find_size(f, k, price, stop, equity, held)
    if skip != 0:
        k[skip] += 1
        f[SIDE] = side if held > 0.0 else 0.0
        return
    if held > 0.0:
        quantity = f[SIZE]
        total = held + quantity
        if k[INVERSE] != 0:
            f[ENTRY] = total / (held / f[ENTRY] + quantity / price)
        else:
            f[ENTRY] = (held * f[ENTRY] + quantity * price) / total
        stretch(f, price)
        # The average lies between the fills, but its rounding may not.
        stretch(f, f[ENTRY])
        _set_levels(f, k)
    else:
        k[SIGNAL_BAR] = signal_bar
        k[ENTRY_BAR] = k[BAR]
        k[POSITIONS] += 1
        k[ENTRIES] = 0
        f[QUANTITY] = f[ENTERED] = f[ENTRY_FEES] = f[FUNDING] = 0.0
    _fill(f, k, fills, price, rate, is_inside)


@part_of_loop
def leave(f: FloatColumn, k: IntegerColumn, trades: FloatColumn, quantity: float, price: float, reason: int) -> None:
    """Close a part or all of the position and write its row."""
    side, entry, inverse = f[SIDE], f[ENTRY], k[INVERSE] != 0
    rate = f[TARGET_FEE] if reason == TAKE_PROFIT else f[TAKER_FEE]
    fee = (quantity / price if inverse else quantity * price) * rate
    entry_fee, funding = f[ENTRY_FEES], f[FUNDING]
    is_whole = quantity >= f[QUANTITY]
    if not is_whole:
        share = quantity / f[QUANTITY]
        entry_fee = entry_fee * share
        funding = funding * share
    fees = entry_fee + fee
    stretch(f, price)
    made = gross_of(side, quantity, entry, price, inverse)
    row = k[TRADES] * TRADE_WIDTH
    trades[row + kernel.SIDE] = side
    trades[row + kernel.SIGNAL_BAR] = k[SIGNAL_BAR]
    trades[row + kernel.ENTRY_BAR] = k[ENTRY_BAR]
    trades[row + kernel.EXIT_BAR] = k[BAR]
    trades[row + kernel.REASON] = reason
    trades[row + 5] = k[POSITIONS] - 1
    row += TRADE_NUMBERS
    trades[row + kernel.ENTRY_PRICE] = entry
    trades[row + kernel.EXIT_PRICE] = price
    trades[row + kernel.QUANTITY_HELD] = quantity
    trades[row + kernel.PNL] = made - fees - funding
    trades[row + kernel.GROSS] = made
    trades[row + kernel.FEES] = fees
    trades[row + kernel.MAE] = 0.0 - gross_of(side, quantity, entry, f[WORST], inverse)
    trades[row + kernel.MFE] = 0.0 + gross_of(side, quantity, entry, f[BEST], inverse)
    trades[row + kernel.INITIAL_RISK] = np.nan
    if not np.isnan(f[INITIAL_STOP]):
        trades[row + kernel.INITIAL_RISK] = 0.0 - gross_of(side, quantity, entry, f[INITIAL_STOP], inverse)
    trades[row + 9] = funding
    k[TRADES] += 1
    f[WALLET] += made - fee
    if is_whole:
        f[SIDE] = 0.0
        return
    f[QUANTITY] -= quantity
    f[ENTRY_FEES] -= entry_fee
    f[FUNDING] -= funding
    _find_liquidation(f, k)
