"""How orders are sized, charged and filled: the execution settings of one run, validated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args

from engine.core.perpetual import MarginTier, check_tiers
from engine.core.series import Category
from engine.errors import BadRequest

SizeMode = Literal["equity_fraction", "quote", "quantity", "risk"]
Intrabar = Literal["pessimistic", "optimistic", "magnify"]
TargetFee = Literal["maker", "taker"]

LARGEST_LEVERAGE = 200.0
LARGEST_FEE_FRACTION = 0.05
LARGEST_SLIPPAGE_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """Everything about execution that is neither a candle nor a signal.

    Attributes
    ----------
    capital : float
        Starting equity in the settlement currency: quote (linear, spot) or coin (inverse).
    category : {"linear", "inverse", "spot"}
        Which profit formula holds. Spot has no shorts and no leverage.
    taker_fee_fraction, maker_fee_fraction : float
        Of the notional of each fill (0.00055 is 0.055 %).
    slippage_fraction : float
        Adverse, part of the fill price of market and stop orders.
    size_mode, size_value
        `equity_fraction`: notional = value * leverage * equity; `quote`: notional in quote currency; `quantity`: base
        units (USD contracts for inverse); `risk`: fraction of equity lost at the initial stop, before costs.
    leverage : float
        Also the bound of every position: notional <= leverage * equity at the fill. Fees come on top of the margin,
        as on perpetuals, so that cash may end slightly below zero at leverage 1; on spot they are set aside first.
    intrabar : {"pessimistic", "optimistic", "magnify"}
        Which comes first when stop and target lie in one bar: the stop, the target, or what the bar's one-minute candles
        say.
    round_to_lot, lot_step
        Round the quantity down to whole lots.
    min_quantity, min_notional, max_quantity, tick_size : float
        Rules of the instrument; 0 means none. `min_notional` in quote currency. Levels are rounded to the tick away
        from profit: long stops down, long targets up, shorts mirrored.
    target_fee : {"maker", "taker"}
        Which fee a limit order pays: targets and limit entries.
    allow_long, allow_short : bool
        A forbidden entry still closes the opposite position.
    margin_tiers : tuple of MarginTier
        Maintenance tiers, ascending. Empty: positions have no liquidation price and no position limit.

    Notes
    -----
    Bybit charges the fee of a spot purchase in the base coin: a buyer of q receives q * (1 - fee). Here the fee is paid in
    quote at the fill price, set aside before sizing. Both cost fee * notional at the fill; the quantity held differs by
    fee squared, 1e-6 of it at 0.1 %.
    """

    capital: float
    category: Category = "linear"
    taker_fee_fraction: float = 0.00055
    maker_fee_fraction: float = 0.0002
    slippage_fraction: float = 0.0
    size_mode: SizeMode = "equity_fraction"
    size_value: float = 1.0
    leverage: float = 1.0
    intrabar: Intrabar = "pessimistic"
    round_to_lot: bool = False
    lot_step: float = 0.0
    min_quantity: float = 0.0
    min_notional: float = 0.0
    max_quantity: float = 0.0
    tick_size: float = 0.0
    target_fee: TargetFee = "maker"
    allow_long: bool = True
    allow_short: bool = True
    margin_tiers: tuple[MarginTier, ...] = ()

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        self._check_size()
        self._check_spot()
        check_tiers(self.margin_tiers)

    @property
    def target_fee_fraction(self) -> float:
        """Return the fee a target pays, as a fraction of notional."""
        return self.maker_fee_fraction if self.target_fee == "maker" else self.taker_fee_fraction

    @property
    def fee_reserve_fraction(self) -> float:
        """Return what is set aside of the notional, times leverage, before sizing.

        The entry fee on spot; nothing for a position that is paid in full. Above leverage 1 Bybit takes, beside the initial
        margin, the fee of opening and that of closing at the bankruptcy price, whose value is at most (1 + 1 / leverage) of
        the entry's, so that an isolated position never costs more than the account has (Bybit help center, "Order cost").
        """
        if self.category == "spot":
            return self.taker_fee_fraction
        return self.taker_fee_fraction * (2.0 * self.leverage + 1.0) if self.leverage > 1.0 else 0.0

    def _check_choices(self) -> None:
        for name, choices in (
            ("category", get_args(Category)),
            ("size_mode", get_args(SizeMode)),
            ("intrabar", get_args(Intrabar)),
            ("target_fee", get_args(TargetFee)),
        ):
            if getattr(self, name) not in choices:
                raise BadRequest(f"{name} is {getattr(self, name)!r}", fix=f"{name} is one of {', '.join(choices)}")

    def _check_ranges(self) -> None:
        for name, low, high in (
            ("taker_fee_fraction", 0.0, LARGEST_FEE_FRACTION),
            ("maker_fee_fraction", -LARGEST_FEE_FRACTION, LARGEST_FEE_FRACTION),
            ("slippage_fraction", 0.0, LARGEST_SLIPPAGE_FRACTION),
            ("leverage", 1.0, LARGEST_LEVERAGE),
            ("capital", 0.0, math.inf),
            ("lot_step", 0.0, math.inf),
            ("min_quantity", 0.0, math.inf),
            ("min_notional", 0.0, math.inf),
            ("max_quantity", 0.0, math.inf),
            ("tick_size", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise BadRequest(f"{name} is {value!r}", fix=f"{name} is a number from {low:g} to {high:g}")
        if self.capital == 0:
            raise BadRequest("capital is 0", fix="capital is a number above 0")
        if self.round_to_lot and self.lot_step == 0:
            raise BadRequest(
                "round_to_lot needs a lot_step", fix="give the instrument's lot_step, or round_to_lot false"
            )

    def _check_size(self) -> None:
        bound = 1.0 if self.size_mode in ("equity_fraction", "risk") else math.inf
        if not (math.isfinite(self.size_value) and 0 < self.size_value <= bound):
            valid = "a fraction above 0 and up to 1 (leverage multiplies it)" if bound == 1 else "a number above 0"
            raise BadRequest(
                f"size_value is {self.size_value!r} with size_mode {self.size_mode!r}", fix=f"give {valid}"
            )

    def _check_spot(self) -> None:
        if self.category != "spot":
            return
        if self.allow_short:
            raise BadRequest("spot cannot be sold short", fix="set allow_short false, or choose category linear")
        if self.leverage != 1:
            raise BadRequest(f"leverage is {self.leverage!r} on spot", fix="set leverage 1, or choose category linear")
        if self.margin_tiers:
            raise BadRequest(
                "spot has no maintenance margin", fix="leave margin_tiers empty, or choose category linear"
            )


def step_ratio(step: float) -> tuple[float, float]:
    """Return a decimal step as numerator and denominator, (0, 1) when there is none.

    Multiplying whole steps by the one and dividing by the other rounds once, so 3 lots of 0.1 are 0.3.

    >>> step_ratio(0.05)
    (1.0, 20.0)
    """
    exact = Fraction(Decimal(repr(float(step))))
    return float(exact.numerator), float(exact.denominator)
