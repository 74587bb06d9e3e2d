"""How much one entry takes of an account that others share, in plain Python."""

from __future__ import annotations

import math

from engine.core.costs import notional_value
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.simulation import SkipReason


def find_quantity(
    price: float, equity: float, used: float, weight: float, unit_risk: float, settings: ExecutionSettings
) -> tuple[float, str | None, int]:
    """Return how much to buy or sell, why nothing, and how often it was cut to fit.

    Parameters
    ----------
    equity, used : float
        Of the whole account, and the notionals of its open positions, settlement currency.
    weight : float
        Multiplies what is a share of equity.
    unit_risk : float
        Money one unit loses at its stop; NaN without one.
    """
    inverse = settings.category == "inverse"
    power = equity * settings.leverage / (1.0 + settings.fee_reserve_fraction)
    left = power - used
    most = left * price if inverse else left / price
    quantity = _wanted(price, power, equity, weight, unit_risk, settings)
    if math.isnan(quantity):
        return 0.0, SkipReason.NO_STOP.name.lower(), 0
    capped = 0
    if settings.size_mode in ("equity_fraction", "risk") and quantity > most:
        quantity, capped = most, 1
    if 0 < settings.max_quantity < quantity:
        quantity, capped = settings.max_quantity, capped + 1
    if settings.round_to_lot:
        numerator, denominator = step_ratio(settings.lot_step)
        quantity = float(math.floor(quantity * denominator / numerator * (1.0 + 1e-12))) * numerator / denominator
    notional = notional_value(quantity, price, inverse=inverse)
    refusal = None
    if quantity <= 0 or quantity < settings.min_quantity:
        was_taken = used > 0 and capped
        refusal = SkipReason.INSUFFICIENT_MARGIN if was_taken else SkipReason.BELOW_MIN_QUANTITY
    elif (quantity if inverse else notional) < settings.min_notional:
        refusal = SkipReason.BELOW_MIN_NOTIONAL
    elif notional > left * (1.0 + 1e-9):
        refusal = SkipReason.INSUFFICIENT_MARGIN
    return quantity, None if refusal is None else refusal.name.lower(), capped


def _wanted(
    price: float, power: float, equity: float, weight: float, unit_risk: float, settings: ExecutionSettings
) -> float:
    """Return the quantity before bounds and rounding; NaN when risk cannot be measured."""
    value, inverse = settings.size_value, settings.category == "inverse"
    if settings.size_mode == "quantity":
        return value
    if settings.size_mode == "quote":
        return value if inverse else value / price
    if settings.size_mode == "equity_fraction":
        return power * value * weight * price if inverse else power * value * weight / price
    return math.inf if unit_risk <= 0 else equity * value * weight / unit_risk
