"""One position of the plain reference: its levels, its size, and how far prices went while it was open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.signals import Signals
from engine.core.simulation import SkipReason
from engine.core.trades import ExitReason


@dataclass(slots=True)
class Position:
    """An open position; `stop` and `target` are None where none stands."""

    side: int
    entry_bar: int
    entry: float
    best: float
    worst: float
    stop: float | None
    target: float | None
    trail_distance: float
    stop_reason: ExitReason = ExitReason.STOP_LOSS
    quantity: float = 0.0
    entry_fee: float = 0.0
    initial_risk: float = math.nan

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


def open_position(bar: int, side: int, price: float, signals: Signals, settings: ExecutionSettings) -> Position:
    """Return a position without a size, with the levels that stand at its entry."""
    stop_gap, target_gap, trail_gap = (
        math.nan if column is None or not column[bar - 1] > 0 else float(column[bar - 1])
        for column in (signals.stop_distance, signals.target_distance, signals.trail_distance)
    )
    stop = level(price, -side, signals.stop_fraction, stop_gap, settings)
    target = level(price, side, signals.target_fraction, target_gap, settings)
    position = Position(side, bar, price, price, price, stop, target, trail_gap)
    position.move_stop(signals, settings)
    return position


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


def give_size(position: Position, equity: float, settings: ExecutionSettings) -> tuple[SkipReason | None, int]:
    """Set quantity, entry fee and initial risk; return why there is none, and how often the size was capped."""
    price, inverse, capped = position.entry, settings.category == "inverse", 0
    power = equity * settings.leverage / (1.0 + settings.fee_reserve_fraction)
    unit_risk = math.nan
    if position.stop is not None:
        unit_risk = 0.0 - gross_profit(float(position.side), 1.0, price, position.stop, inverse=inverse)
    quantity = _wanted_quantity(price, power, equity, unit_risk, settings)
    if math.isnan(quantity):
        return SkipReason.NO_STOP, 0
    most = power * price if inverse else power / price
    if settings.size_mode == "risk" and quantity > most:
        quantity, capped = most, capped + 1
    if 0 < settings.max_quantity < quantity:
        quantity, capped = settings.max_quantity, capped + 1
    if settings.round_to_lot:
        numerator, denominator = step_ratio(settings.lot_step)
        quantity = float(math.floor(quantity * denominator / numerator * (1.0 + 1e-12))) * numerator / denominator
    notional = notional_value(quantity, price, inverse=inverse)
    if quantity <= 0 or quantity < settings.min_quantity:
        return SkipReason.BELOW_MIN_QUANTITY, capped
    if (quantity if inverse else notional) < settings.min_notional:
        return SkipReason.BELOW_MIN_NOTIONAL, capped
    if notional > power * (1.0 + 1e-9):
        return SkipReason.INSUFFICIENT_MARGIN, capped
    position.quantity = quantity
    position.entry_fee = notional * settings.taker_fee_fraction
    if position.stop is not None:
        side = float(position.side)
        position.initial_risk = 0.0 - gross_profit(side, quantity, price, position.stop, inverse=inverse)
    return None, capped


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
