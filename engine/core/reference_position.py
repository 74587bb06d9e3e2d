"""One position of the plain reference: its levels, its size, and how far prices went while it was open."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine.core.candles import FloatColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.perpetual import bankruptcy_price, find_tier, liquidation_price
from engine.core.signals import Signals
from engine.core.simulation import SkipReason
from engine.core.trades import ExitReason


@dataclass(slots=True)
class Position:
    """An open position; levels are None where none stands."""

    number: int
    side: int
    signal_bar: int
    entry_bar: int
    entry: float
    best: float
    worst: float
    stop: float | None = None
    stop_reason: ExitReason = ExitReason.STOP_LOSS
    initial_stop: float | None = None
    # Partial targets, then the target of the rest; those before `next_target` are done.
    targets: list[float | None] = field(default_factory=list)
    next_target: int = 0
    trail_distance: float = math.nan
    liquidation: float | None = None
    bankruptcy: float = math.nan
    quantity: float = 0.0
    entered: float = 0.0
    entries: int = 0
    # Not yet charged to a closed part.
    entry_fees: float = 0.0
    funding: float = 0.0

    def stretch(self, low: float, high: float) -> None:
        """Widen the excursions by prices that certainly traded."""
        if self.side > 0:
            self.best, self.worst = max(self.best, high), min(self.worst, low)
        else:
            self.best, self.worst = min(self.best, low), max(self.worst, high)

    def tighten(self, level: float | None, reason: ExitReason) -> None:
        """Move the stop to the level when that is closer to the market."""
        if level is None:
            return
        if self.stop is None or (level > self.stop if self.side > 0 else level < self.stop):
            self.stop, self.stop_reason = level, reason

    def move_stop(self, signals: Signals, settings: ExecutionSettings) -> None:
        """Move breakeven and trailing stop by the best price so far (rule 5)."""
        away = -self.side
        if self.has_gained(signals.breakeven_fraction):
            self.tighten(level(self.entry, away, 0.0, math.nan, settings), ExitReason.STOP_LOSS)
        if math.isnan(signals.trail_activation_fraction) or self.has_gained(signals.trail_activation_fraction):
            trail = level(self.best, away, signals.trail_fraction, self.trail_distance, settings)
            self.tighten(trail, ExitReason.TRAILING_STOP)

    def has_gained(self, fraction: float) -> bool:
        """Say whether the best price reached a gain on the entry; never for NaN."""
        reach = self.entry * (1.0 + self.side * fraction)
        return self.best >= reach if self.side > 0 else self.best <= reach

    def set_levels(self, bar: int, signals: Signals, settings: ExecutionSettings) -> None:
        """Put the levels on the average entry, with the distances of a signal bar; a tighter trailing stop stays."""
        trailed = self.stop if self.stop_reason == ExitReason.TRAILING_STOP else None
        stop = level(self.entry, -self.side, signals.stop_fraction, frozen(signals.stop_distance, bar), settings)
        self.stop, self.stop_reason = stop, ExitReason.STOP_LOSS
        self.tighten(trailed, ExitReason.TRAILING_STOP)
        self.targets = [
            level(self.entry, self.side, part.fraction, frozen(part.distance, bar), settings)
            for part in signals.partial_targets
        ]
        gap = frozen(signals.target_distance, bar)
        self.targets.append(level(self.entry, self.side, signals.target_fraction, gap, settings))
        self.trail_distance = frozen(signals.trail_distance, bar)
        self.move_stop(signals, settings)
        self.initial_stop = self.stop

    def target(self) -> float | None:
        """Return the next target's level; places without one are passed by."""
        while self.next_target < len(self.targets):
            if self.targets[self.next_target] is not None:
                return self.targets[self.next_target]
            self.next_target += 1
        return None

    def part_of_target(self, signals: Signals, settings: ExecutionSettings) -> float:
        """Return how much the next target closes."""
        partials = signals.partial_targets
        if self.next_target == len(partials):
            return self.quantity
        if sum(part.share for part in partials[: self.next_target + 1]) >= 1.0 - 1e-9:
            return self.quantity
        return min(round_down(self.entered * partials[self.next_target].share, settings), self.quantity)

    def find_liquidation(self, settings: ExecutionSettings) -> None:
        """Set liquidation and bankruptcy price of what is held."""
        if not settings.margin_tiers:
            return
        inverse = settings.category == "inverse"
        tier = find_tier(settings.margin_tiers, notional_value(self.quantity, self.entry, inverse=inverse))
        tier = tier or settings.margin_tiers[-1]
        self.bankruptcy = bankruptcy_price(self.side, self.entry, settings.leverage, inverse=inverse)
        self.liquidation = None
        if not math.isnan(self.bankruptcy):
            found = liquidation_price(self.side, self.quantity, self.entry, settings.leverage, tier, inverse=inverse)
            self.liquidation = None if math.isnan(found) else found


def frozen(column: FloatColumn | None, bar: int) -> float:
    """Return a distance as of its signal bar, NaN where there is none."""
    return math.nan if column is None or not column[bar] > 0 else float(column[bar])


def level(price: float, way: int, fraction: float, distance: float, settings: ExecutionSettings) -> float | None:
    """Return the level a fraction or else a distance above (way 1) or below (-1), rounded away to the tick."""
    found = price + way * distance if math.isnan(fraction) else price * (1.0 + way * fraction)
    if math.isnan(found):
        return None
    if settings.tick_size > 0:
        numerator, denominator = step_ratio(settings.tick_size)
        ticks = found * denominator / numerator
        whole = math.ceil(ticks * (1.0 - 1e-12)) if way > 0 else math.floor(ticks * (1.0 + 1e-12))
        found = float(whole) * numerator / denominator
    return found if found > 0 else None


def round_down(quantity: float, settings: ExecutionSettings) -> float:
    """Return the quantity in whole lots."""
    if not settings.round_to_lot:
        return quantity
    numerator, denominator = step_ratio(settings.lot_step)
    return float(math.floor(quantity * denominator / numerator * (1.0 + 1e-12))) * numerator / denominator


def find_size(
    price: float, stop: float | None, side: int, equity: float, held: Position | None, settings: ExecutionSettings
) -> tuple[float, SkipReason | None, int]:
    """Return quantity, why there is none, and how often it was capped; `stop` is that of this entry alone."""
    inverse, capped = settings.category == "inverse", 0
    power = equity * settings.leverage / (1.0 + settings.fee_reserve_fraction)
    held_value = notional_value(held.quantity, price, inverse=inverse) if held else 0.0
    unit_risk = math.nan
    if stop is not None:
        unit_risk = 0.0 - gross_profit(float(side), 1.0, price, stop, inverse=inverse)
    quantity = _wanted_quantity(price, power, equity, unit_risk, settings)
    if math.isnan(quantity):
        return 0.0, SkipReason.NO_STOP, 0
    room = power - held_value
    most = room * price if inverse else room / price
    if settings.size_mode == "risk" and quantity > most:
        quantity, capped = most, capped + 1
    if 0 < settings.max_quantity < quantity:
        quantity, capped = settings.max_quantity, capped + 1
    quantity = round_down(quantity, settings)
    notional = notional_value(quantity, price, inverse=inverse)
    refusal = None
    if quantity <= 0 or quantity < settings.min_quantity:
        refusal = SkipReason.BELOW_MIN_QUANTITY
    elif (quantity if inverse else notional) < settings.min_notional:
        refusal = SkipReason.BELOW_MIN_NOTIONAL
    elif notional + held_value > power * (1.0 + 1e-9):
        refusal = SkipReason.INSUFFICIENT_MARGIN
    elif settings.margin_tiers and not _is_within_tiers(notional + held_value, settings):
        refusal = SkipReason.ABOVE_RISK_LIMIT
    return quantity, refusal, capped


def average_entry(held: Position, quantity: float, price: float, *, inverse: bool) -> float:
    """Return the entry price after an addition: by value in quote, or by value in coin (Bybit, inverse average entry)."""
    total = held.quantity + quantity
    if inverse:
        return total / (held.quantity / held.entry + quantity / price)
    return (held.quantity * held.entry + quantity * price) / total


def _is_within_tiers(value: float, settings: ExecutionSettings) -> bool:
    tier = find_tier(settings.margin_tiers, value)
    return tier is not None and settings.leverage <= tier.max_leverage


def _wanted_quantity(price: float, power: float, equity: float, unit_risk: float, settings: ExecutionSettings) -> float:
    """Return the quantity before bounds and rounding; NaN when risk cannot be measured."""
    value, inverse = settings.size_value, settings.category == "inverse"
    if settings.size_mode == "quantity":
        return value
    if settings.size_mode == "quote":
        return value if inverse else value / price
    if settings.size_mode == "equity_fraction":
        return power * value * price if inverse else power * value / price
    return math.inf if unit_risk <= 0 else equity * value / unit_risk
