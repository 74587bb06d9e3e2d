"""What a portfolio is made of: one leg a symbol, how the capital is shared, and what cannot be shared yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings, Intrabar
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.signals import Signals
from engine.core.times import iso_utc
from engine.errors import BadRequest, DataMissing

Weighting = Literal["equal", "inverse_volatility"]
MOST_SYMBOLS = 100
# So much capital, and so high a tier, that one unit always fits, whatever its price.
_AMPLE, _ENDLESS = 1e18, 1e30
ALONE = "or run the symbols one by one with symbol"


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One symbol: its candles, what the strategy decides on them, the trading rules of its market, and its funding.

    `execution.capital` is not used: the account is shared. Leverage and size are those of each leg.
    """

    candles: Candles
    signals: Signals
    execution: ExecutionSettings
    detail: MarketDetail = NO_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioSettings:
    """How the capital is shared.

    Attributes
    ----------
    capital : float
        Starting equity in the settlement currency that all symbols have in common.
    weighting : {"equal", "inverse_volatility"}
        Weights of the symbols sum to their number divided by `max_positions`, or to 1 without it.
    max_positions : int or None
        Positions open at once.
    volatility_bars : int
        Bars of close-to-close returns, up to the close before the entry, that measure the volatility.
    """

    capital: float
    weighting: Weighting = "equal"
    max_positions: int | None = None
    volatility_bars: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.capital < math.inf:
            raise BadRequest(f"capital is {self.capital!r}", fix="capital is a number above 0")
        if self.weighting not in ("equal", "inverse_volatility"):
            raise BadRequest(f"weighting is {self.weighting!r}", fix="weighting is equal or inverse_volatility")
        if self.max_positions is not None and self.max_positions < 1:
            raise BadRequest(f"max_positions is {self.max_positions}", fix="max_positions is 1 or more, or None")
        if self.volatility_bars < 2:
            raise BadRequest(f"volatility_bars is {self.volatility_bars}", fix="volatility_bars is 2 or more")


def check_legs(legs: Mapping[str, Leg]) -> None:
    """Refuse what has no meaning, and every rule that sizes a position in a way shared capital does not follow yet."""
    if not 1 <= len(legs) <= MOST_SYMBOLS:
        raise BadRequest(f"there are {len(legs)} symbols", fix=f"give 1 to {MOST_SYMBOLS}")
    for symbol, leg in legs.items():
        if len(leg.candles) == 0:
            raise DataMissing(
                f"{symbol} has no candles", fix="choose a range with candles, or fetch them with start_backfill"
            )
        _check_rules(symbol, leg)
    if len({leg.execution.category == "inverse" for leg in legs.values()}) > 1:
        raise BadRequest(
            "inverse markets settle in their own coin", fix="share capital between markets of one currency"
        )


def refuse_unmodelled(*, has_partial_targets: bool, max_entries: int, has_order: bool, intrabar: Intrabar) -> None:
    """Refuse what makes a trade depend on its size, or on more than its own bars."""
    refusals = (
        (has_partial_targets, "partial take-profit levels", "leave them out of the strategy"),
        (max_entries > 1, "several entries a position", "set max_entries 1 in the strategy"),
        (has_order, "resting entry orders", "let the strategy enter at the market"),
        (intrabar == "magnify", 'intrabar "magnify"', 'set settings.intrabar "pessimistic" or "optimistic"'),
    )
    for is_used, what, fix in refusals:
        if is_used:
            raise BadRequest(f"portfolio runs do not model {what}", fix=f"{fix}, {ALONE}")


def _check_rules(symbol: str, leg: Leg) -> None:
    signals, execution = leg.signals, leg.execution
    refuse_unmodelled(
        has_partial_targets=bool(signals.partial_targets),
        max_entries=signals.max_entries,
        has_order=signals.order is not None,
        intrabar=execution.intrabar,
    )
    tiers = execution.margin_tiers
    if tiers and (tiers[0].deduction or execution.leverage > tiers[0].max_leverage):
        raise BadRequest(
            f"{symbol}: portfolio runs model liquidation by the first maintenance tier only, which allows leverage "
            f"{tiers[0].max_leverage:g}, and leverage is {execution.leverage:g}",
            fix=f"lower settings.leverage, {ALONE}",
        )


def one_unit(settings: ExecutionSettings) -> ExecutionSettings:
    """Return the same rules for one unit that always fits; the first maintenance tier does not depend on the size."""
    return replace(
        settings, capital=_AMPLE, size_mode="quantity", size_value=1.0,
        round_to_lot=False, min_quantity=0.0, min_notional=0.0, max_quantity=0.0,
        margin_tiers=tuple(replace(tier, limit_value=_ENDLESS) for tier in settings.margin_tiers[:1]),
    )  # fmt: skip


def refuse_above_tier(symbol: str, leg: Leg, bar: int, notional: float) -> None:
    """Refuse an entry whose liquidation price would depend on its size."""
    tiers = leg.execution.margin_tiers
    if tiers and notional > tiers[0].limit_value:
        raise BadRequest(
            f"{symbol}: the position of {iso_utc(int(leg.candles.ts[bar]))} is worth {notional:,.0f}, and portfolio runs "
            f"model liquidation by the first maintenance tier only, up to {tiers[0].limit_value:,.0f}",
            fix=f"lower settings.capital, settings.leverage or settings.size, {ALONE}",
        )
