"""What every compiled loop shares, compiled into each of them: profit, levels, sizes, exits inside a bar, liquidation."""

from __future__ import annotations

import numpy as np
from numba import njit

from engine.core.candles import FloatColumn
from engine.core.simulation import SkipReason

EQUITY_FRACTION, QUOTE, QUANTITY, RISK = 0, 1, 2, 3

# Compiled code wants plain integers, not enumerations.
NOT_REFUSED = -1
_NO_STOP, _TOO_LITTLE = int(SkipReason.NO_STOP), int(SkipReason.BELOW_MIN_QUANTITY)
_TOO_CHEAP, _TOO_MUCH = int(SkipReason.BELOW_MIN_NOTIONAL), int(SkipReason.INSUFFICIENT_MARGIN)

# What only compiled code calls needs no wrappers and no cache entry of its own: they are half of its compile time. The
# stubs of numba lack these two options.
part_of_loop = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # pyright: ignore[reportCallIssue]


@part_of_loop
def gross_of(side: float, quantity: float, entry: float, exit_: float, inverse: bool) -> float:
    """Return the profit of a position before costs (see engine.core.costs)."""
    if inverse:
        return side * quantity * (1.0 / entry - 1.0 / exit_)
    return side * quantity * (exit_ - entry)


@part_of_loop
def whole_steps_down(value: float, numerator: float, denominator: float) -> float:
    """Return the value rounded down to whole steps of a decimal (see engine.core.execution.step_ratio)."""
    return np.floor(value * denominator / numerator * (1.0 + 1e-12)) * numerator / denominator


@part_of_loop
def level_at(price: float, way: float, fraction: float, distance: float, numerator: float, denominator: float) -> float:
    """Return the level a fraction or else a distance away, above for way 1 and below for -1, on the tick beyond it.

    NaN where there is neither, and where the level would not be a price.
    """
    level = price + way * distance if np.isnan(fraction) else price * (1.0 + way * fraction)
    if numerator > 0.0:
        ticks = level * denominator / numerator
        whole = np.ceil(ticks * (1.0 - 1e-12)) if way > 0.0 else np.floor(ticks * (1.0 + 1e-12))
        level = whole * numerator / denominator
    return level if level > 0.0 else np.nan


@part_of_loop
def distance_at(column: FloatColumn, bar: int) -> float:
    """Return the distance frozen at a bar, NaN where there is none."""
    if len(column) > 0 and column[bar] > 0.0:
        return column[bar]
    return np.nan


@part_of_loop
def find_quantity(  # noqa: PLR0913 - a compiled function takes its state as arguments
    mode: int, value: float, equity: float, power: float, room: float, unit_risk: float, price: float, inverse: bool,
    max_quantity: float, lot_numerator: float, lot_denominator: float,
) -> tuple[float, int]:  # fmt: skip
    """Return how much to trade at a fill and how often it was capped; NaN where a size by risk has no stop.

    `power` is the largest notional, `room` what is left of it, `unit_risk` the loss of one unit at the stop (NaN: no stop).
    """
    capped = 0
    if mode == EQUITY_FRACTION:
        quantity = power * value
        quantity = quantity * price if inverse else quantity / price
    elif mode == QUOTE:
        quantity = value if inverse else value / price
    elif mode == QUANTITY:
        quantity = value
    elif np.isnan(unit_risk):
        return np.nan, 0
    else:
        quantity = np.inf if unit_risk <= 0.0 else equity * value / unit_risk
        most = room * price if inverse else room / price
        if quantity > most:
            quantity = most
            capped += 1
    if max_quantity > 0.0 and quantity > max_quantity:
        quantity = max_quantity
        capped += 1
    if lot_numerator > 0.0:
        quantity = whole_steps_down(quantity, lot_numerator, lot_denominator)
    return quantity, capped


@part_of_loop
def refusal_of(
    quantity: float, notional: float, inverse: bool, held_value: float, power: float, min_quantity: float, min_notional: float
) -> int:  # fmt: skip
    """Return the `SkipReason` why a quantity cannot be traded, `NOT_REFUSED` where it can."""
    if np.isnan(quantity):
        return _NO_STOP
    if quantity <= 0.0 or quantity < min_quantity:
        return _TOO_LITTLE
    if (quantity if inverse else notional) < min_notional:
        return _TOO_CHEAP
    if notional + held_value > power * (1.0 + 1e-9):
        return _TOO_MUCH
    return NOT_REFUSED


@part_of_loop
def exit_inside(
    side: float, opened: float, against: float, toward: float, stop: float, target: float, optimistic: bool,
    slippage: float,
) -> tuple[float, bool, bool, bool]:  # fmt: skip
    """Return the price at which a bar that reaches stop or target is left, and whether that is the target, the open, a doubt.

    Rule 3: an open beyond a level decides at once; rule 4: else both levels in one bar are ambiguous. Levels that do not
    exist are infinite.
    """
    gapped_stop = side * opened <= side * stop
    gapped_target = side * opened >= side * target
    stopped = side * against <= side * stop
    takes_target = side * toward >= side * target
    is_ambiguous = False
    if gapped_stop:
        takes_target = False
    elif gapped_target:
        takes_target = True
    elif stopped and takes_target:
        is_ambiguous = True
        takes_target = optimistic
    if takes_target:
        return opened if gapped_target else target, True, gapped_target, is_ambiguous
    return (opened if gapped_stop else stop) * (1.0 - side * slippage), False, gapped_stop, is_ambiguous


@part_of_loop
def liquidation_of(
    side: float, quantity: float, entry: float, leverage: float, maintenance: float, deduction: float, inverse: bool
) -> tuple[float, float]:  # fmt: skip
    """Return liquidation and bankruptcy price of a position, NaN where there is none (see engine.core.perpetual)."""
    if inverse:
        bankruptcy = entry * leverage / (leverage + side) if leverage + side > 0.0 else np.nan
        coins = quantity / entry
        above = quantity * (1.0 + side * maintenance)
        below = coins + side * coins / leverage + side * deduction
    else:
        bankruptcy = entry * (1.0 - side / leverage)
        above = quantity * entry * (1.0 - side / leverage) - side * deduction
        below = quantity * (1.0 - side * maintenance)
    if not bankruptcy > 0.0:
        return np.nan, np.nan
    return above / below if above > 0.0 and below > 0.0 else np.nan, bankruptcy
