"""Perpetual contracts beyond price: funding settlements, maintenance tiers, liquidation and bankruptcy prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.core.candles import FloatColumn, TimeColumn
from engine.core.markets import RiskTier
from engine.errors import BadRequest


@dataclass(frozen=True, slots=True, eq=False)
class Settlements:
    """Recorded funding settlements, ascending and unique in time.

    Attributes
    ----------
    ts : ndarray of int64, shape (m,)
        Milliseconds UTC, as recorded: intervals change without notice.
    rate : ndarray of float64, shape (m,)
        Fraction of position value; positive when longs pay shorts.
    mark_price : ndarray of float64, shape (m,)
        Mark price at the settlement: the open of the mark candle that starts there.
    """

    ts: TimeColumn
    rate: FloatColumn
    mark_price: FloatColumn

    def __post_init__(self) -> None:
        if not len(self.ts) == len(self.rate) == len(self.mark_price):
            raise BadRequest("settlements have columns of different length", fix="give one rate and mark price a time")
        if np.any(np.diff(self.ts) <= 0):
            raise BadRequest("settlements are not in ascending, unique order", fix="sort them by time, each time once")
        priced = np.isfinite(self.mark_price) & (self.mark_price > 0)
        if not (np.all(np.isfinite(self.rate)) and np.all(priced)):
            raise BadRequest(
                "a settlement has no rate or no mark price above zero", fix="leave it out and name it as missing"
            )

    def __len__(self) -> int:
        return len(self.ts)

    def paid_per_unit(self, *, inverse: bool) -> FloatColumn:
        """Return what one long unit pays at each settlement, in settlement currency.

        Notes
        -----
        Linear: mark * rate in quote a base unit; inverse: rate / mark in coin a USD contract (Bybit help centre, "Funding
        Fee Calculation").
        """
        return self.rate / self.mark_price if inverse else self.mark_price * self.rate


@dataclass(frozen=True, slots=True)
class MarginTier:
    """One maintenance tier: up to `limit_value` (settlement currency, inclusive) margin is value * fraction - deduction."""

    limit_value: float
    maintenance_fraction: float
    deduction: float = 0.0
    max_leverage: float = math.inf


def margin_tiers(tiers: Sequence[RiskTier]) -> tuple[MarginTier, ...]:
    """Return an instrument's recorded tiers as the simulator reads them, deductions filled in where none was printed."""
    ordered = sorted(tiers, key=lambda tier: tier.limit_value)
    derived = tier_deductions(
        [float(tier.limit_value) for tier in ordered], [float(tier.maintenance_margin) for tier in ordered]
    )
    has_printed = any(tier.deduction > 0 for tier in ordered)
    return tuple(
        MarginTier(
            float(tier.limit_value),
            float(tier.maintenance_margin),
            float(tier.deduction) if has_printed else deduction,
            float(tier.max_leverage),
        )
        for tier, deduction in zip(ordered, derived, strict=True)
    )


def tier_deductions(limits: Sequence[float], maintenance_fractions: Sequence[float]) -> list[float]:
    """Return the deduction of each tier, which makes the maintenance margin continuous across tiers.

    Notes
    -----
    MMD_k = MMD_(k-1) + limit_(k-1) * (MMR_k - MMR_(k-1)), MMD_1 = 0 (Bybit help centre, "Maintenance Margin (USDT Contract)").

    >>> [round(value) for value in tier_deductions([2e6, 4e6, 6e6], [0.005, 0.01, 0.015])]
    [0, 10000, 30000]
    """
    deductions = [0.0] if limits else []
    for row in range(1, len(limits)):
        step = maintenance_fractions[row] - maintenance_fractions[row - 1]
        deductions.append(deductions[-1] + limits[row - 1] * step)
    return deductions


def check_tiers(tiers: Sequence[MarginTier]) -> None:
    """Refuse tiers that are out of order or hold impossible fractions."""
    previous = 0.0
    for tier in tiers:
        numbers = (tier.limit_value, tier.maintenance_fraction, tier.deduction)
        if not all(math.isfinite(number) for number in numbers) or tier.limit_value <= previous:
            raise BadRequest("margin tiers must have finite, ascending limits", fix="sort the tiers by limit_value")
        if not 0 < tier.maintenance_fraction < 1 or tier.deduction < 0 or not tier.max_leverage >= 1:
            raise BadRequest(
                f"the tier up to {tier.limit_value:g} has maintenance {tier.maintenance_fraction!r}, deduction "
                f"{tier.deduction!r}, leverage {tier.max_leverage!r}",
                fix="maintenance is a fraction between 0 and 1, the deduction 0 or more, the leverage 1 or more",
            )
        previous = tier.limit_value


def find_tier(tiers: Sequence[MarginTier], value: float) -> MarginTier | None:
    """Return the tier of a position value; None above the last limit."""
    return next((tier for tier in tiers if value <= tier.limit_value), None)


def liquidation_price(
    side: int, quantity: float, entry_price: float, leverage: float, tier: MarginTier, *, inverse: bool
) -> float:
    """Return the mark price at which an isolated position is liquidated; NaN where no price does it.

    Parameters
    ----------
    side : int
        +1 long, -1 short.
    quantity : float
        Base units (linear) or USD contracts (inverse).
    entry_price : float
        Average entry, quote currency.
    leverage : float
        Position margin is value / leverage; no margin is added.
    tier : MarginTier
        The tier of the position value at the average entry.
    inverse : bool

    Notes
    -----
    Linear: position margin + profit at the mark = maintenance margin at the mark, solved for the mark:
    long (q*e*(1 - 1/l) - D) / (q*(1 - m)), short (q*e*(1 + 1/l) + D) / (q*(1 + m)).
    Inverse: long q*(1 + m) / (q/e + q/e/l + D), short q*(1 - m) / (q/e - q/e/l - D).
    Bybit help centre, "Maintenance Margin (USDT Contract)" and "Liquidation Price under Isolated Mode (UTA)".

    >>> round(liquidation_price(1, 1.0, 50_000.0, 10.0, MarginTier(2e6, 0.005), inverse=False), 2)
    45226.13
    """
    maintenance, deduction = tier.maintenance_fraction, tier.deduction
    if inverse:
        coins = quantity / entry_price
        above = quantity * (1.0 + side * maintenance)
        below = coins + side * coins / leverage + side * deduction
    else:
        above = quantity * entry_price * (1.0 - side / leverage) - side * deduction
        below = quantity * (1.0 - side * maintenance)
    if not (above > 0.0 and below > 0.0):
        return math.nan
    return above / below


def bankruptcy_price(side: int, entry_price: float, leverage: float, *, inverse: bool) -> float:
    """Return the price at which the loss equals the position margin; NaN where no price does it.

    Notes
    -----
    Linear: entry * (1 - side / leverage); inverse: entry * leverage / (leverage + side) (Bybit help centre, "Bankruptcy
    Price").

    >>> bankruptcy_price(-1, 100.0, 4.0, inverse=False)
    125.0
    """
    if inverse:
        return entry_price * leverage / (leverage + side) if leverage + side > 0 else math.nan
    price = entry_price * (1.0 - side / leverage)
    return price if price > 0 else math.nan
