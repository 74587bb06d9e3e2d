"""The judge of the kernels: the execution rules of `engine.core.simulator` in plain Python, slow and obvious."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.core.candles import Candles
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.reference_position import Position, average_entry, find_size, frozen, level
from engine.core.signals import OrderKind, Signals
from engine.core.simulation import Entries, Simulation, SkipReason
from engine.core.trades import ExitReason, Trades


@dataclass(slots=True)
class _Candle:
    """Prices of a bar or of a minute in it; marks are NaN where they are not known."""

    open: float
    high: float
    low: float
    close: float
    mark_open: float
    mark_high: float
    mark_low: float
    mark_close: float


@dataclass(slots=True)
class _Order:
    side: int
    kind: OrderKind
    price: float
    signal_bar: int
    last_bar: int


@dataclass(slots=True)
class _Reach:
    """How far prices went against and toward a position, and the mark against it."""

    against: float
    toward: float
    mark: float


class _Account:
    def __init__(self, candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> None:
        self.candles, self.signals, self.settings, self.detail = candles, signals, settings, detail
        self.inverse = settings.category == "inverse"
        self.wallet = float(settings.capital)
        self.held: Position | None = None
        self.order: _Order | None = None
        self.filled: _Order | None = None
        self.positions = 0
        self.rows: list[tuple[int, ...]] = []
        self.records: list[tuple[float, ...]] = []
        self.entry_rows: list[tuple[int, ...]] = []
        self.entry_records: list[tuple[float, ...]] = []
        self.skipped = dict.fromkeys(SkipReason, 0)
        self.capped = self.ambiguous = self.decided = self.exposed = 0
        self.ruined_bar: int | None = None

    def run_bar(self, bar: int) -> tuple[float, int]:
        """Return equity and side after the close."""
        candle = self.candle_of(self.candles, bar, self.detail.mark or self.candles)
        if bar > 0:
            self.pay_funding(None if self.detail.funding_at_open is None else float(self.detail.funding_at_open[bar]))
            self.at_open(bar, candle.open)
        kind: OrderKind | None = None
        if self.order:
            kind = self.try_order(self.order, bar, candle)
        if self.held:
            self.exposed += 1
            if kind is None:
                inside = self.detail.funding_inside
                self.pay_funding(None if inside is None else float(inside[bar]))
            self.inside(self.held, bar, candle, kind)
        if self.order and bar in (self.order.last_bar, len(self.candles) - 1):
            self.cancel_order()
        return self.mark(bar, candle.close, is_last=bar == len(self.candles) - 1)

    def candle_of(self, trade: Candles, row: int, mark: Candles | None) -> _Candle:
        columns = (trade.open, trade.high, trade.low, trade.close)
        prices = [float(column[row]) for column in columns]
        marks = [math.nan] * 4
        if mark is not None:
            marks = [float(column[row]) for column in (mark.open, mark.high, mark.low, mark.close)]
        return _Candle(*prices, *marks)

    def pay_funding(self, per_unit: float | None) -> None:
        """Rule 11."""
        if self.held and per_unit is not None:
            paid = self.held.side * self.held.quantity * per_unit
            self.wallet -= paid
            self.held.funding += paid

    def at_open(self, bar: int, opened: float) -> None:
        """Rules 1, 6 and 13."""
        signals, t = self.signals, bar - 1
        conflict = bool(signals.long_entry[t] and signals.short_entry[t])
        go_long = bool(signals.long_entry[t]) and not conflict and not signals.long_exit[t]
        go_short = bool(signals.short_entry[t]) and not conflict and not signals.short_exit[t]
        self.skipped[SkipReason.CONFLICTING_SIGNALS] += conflict
        if self.order:
            gives_up = signals.long_exit[t] if self.order.side > 0 else signals.short_exit[t]
            if go_long or go_short or gives_up:
                self.cancel_order()
        held = self.held
        if held:
            leaves = (signals.long_exit[t] or go_short) if held.side > 0 else (signals.short_exit[t] or go_long)
            timed_out = signals.max_bars and bar - held.entry_bar >= signals.max_bars
            shut = signals.is_flat_outside_session and not self.in_session(bar)
            if leaves or timed_out or shut:
                reason = ExitReason.SIGNAL if leaves else ExitReason.MAX_BARS if timed_out else ExitReason.SESSION_END
                self.leave(held, bar, opened * (1.0 - held.side * self.settings.slippage_fraction), reason)
        side = 1 if go_long else -1 if go_short else 0
        if side and (held is None or held.side != side):
            self.enter(bar, side, opened)
        elif side and self.held and self.held.entries < signals.max_entries:
            self.add(self.held, bar, opened)

    def in_session(self, bar: int) -> bool:
        return self.signals.session is None or bool(self.signals.session[bar])

    def enter(self, bar: int, side: int, opened: float) -> None:
        settings, order = self.settings, self.signals.order
        if not (settings.allow_long if side > 0 else settings.allow_short):
            self.skipped[SkipReason.DIRECTION_NOT_ALLOWED] += 1
        elif order is not None:
            way = -side if order.kind == "limit" else side
            gap = frozen(order.distance, bar - 1)
            price = level(float(self.candles.close[bar - 1]), way, order.fraction, gap, settings)
            if price is None:
                self.skipped[SkipReason.ORDER_NOT_FILLED] += 1
            else:
                self.order = _Order(side, order.kind, price, bar - 1, bar - 1 + order.bars)
        elif not self.in_session(bar):
            self.skipped[SkipReason.OUTSIDE_SESSION] += 1
        else:
            price = opened * (1.0 + side * settings.slippage_fraction)
            self.open(bar, side, bar - 1, price, settings.taker_fee_fraction, is_inside=False)

    def try_order(self, order: _Order, bar: int, candle: _Candle) -> OrderKind | None:
        """Rule 12: fill the order if the bar reaches it; return its kind when that was inside the bar."""
        if not self.in_session(bar):
            return None
        place = self.touch(order, candle)
        if place is None:
            return None
        self.order = None
        price = candle.open if place == "open" else order.price
        fee = self.settings.target_fee_fraction
        if order.kind == "stop":
            price, fee = price * (1.0 + order.side * self.settings.slippage_fraction), self.settings.taker_fee_fraction
        self.open(bar, order.side, order.signal_bar, price, fee, is_inside=place == "inside")
        self.filled = order
        return order.kind if place == "inside" else None

    def touch(self, order: _Order, candle: _Candle) -> str | None:
        # A limit order to buy waits below the market, a stop order to buy above it.
        up = order.side if order.kind == "stop" else -order.side
        if up * candle.open >= up * order.price:
            return "open"
        farthest = candle.high if up > 0 else candle.low
        return "inside" if up * farthest >= up * order.price else None

    def cancel_order(self) -> None:
        self.order = None
        self.skipped[SkipReason.ORDER_NOT_FILLED] += 1

    def open(self, bar: int, side: int, signal_bar: int, price: float, fee: float, *, is_inside: bool) -> None:
        if self.wallet <= 0:
            self.skipped[SkipReason.RUINED] += 1
            return
        position = Position(self.positions, side, signal_bar, bar, price, price, price)
        position.set_levels(signal_bar, self.signals, self.settings)
        quantity, refusal, capped = find_size(price, position.stop, side, self.wallet, None, self.settings)
        self.capped += capped
        if refusal is not None:
            self.skipped[refusal] += 1
            return
        self.positions += 1
        self.held = position
        self.fill(position, bar, quantity, price, fee, is_inside=is_inside)

    def add(self, held: Position, bar: int, opened: float) -> None:
        """Rule 9."""
        settings, side = self.settings, held.side
        equity = self.wallet + gross_profit(float(side), held.quantity, held.entry, opened, inverse=self.inverse)
        if not self.in_session(bar):
            self.skipped[SkipReason.OUTSIDE_SESSION] += 1
            return
        if equity <= 0:
            self.skipped[SkipReason.RUINED] += 1
            return
        price = opened * (1.0 + side * settings.slippage_fraction)
        alone = Position(0, side, bar - 1, bar, price, price, price)
        alone.set_levels(bar - 1, self.signals, settings)
        quantity, refusal, capped = find_size(price, alone.stop, side, equity, held, settings)
        self.capped += capped
        if refusal is not None:
            self.skipped[refusal] += 1
            return
        held.entry = average_entry(held, quantity, price, inverse=self.inverse)
        held.stretch(price, price)
        # The average lies between the fills, but its rounding may not.
        held.stretch(held.entry, held.entry)
        held.set_levels(bar - 1, self.signals, settings)
        self.fill(held, bar, quantity, price, settings.taker_fee_fraction, is_inside=False)

    def fill(self, held: Position, bar: int, quantity: float, price: float, rate: float, *, is_inside: bool) -> None:
        fee = notional_value(quantity, price, inverse=self.inverse) * rate
        self.wallet -= fee
        held.entry_fees += fee
        held.quantity += quantity
        held.entered += quantity
        held.entries += 1
        held.find_liquidation(self.settings)
        self.entry_rows.append((held.number, held.side, bar, is_inside))
        self.entry_records.append((price, quantity, fee))

    def inside(self, held: Position, bar: int, candle: _Candle, kind: OrderKind | None) -> None:
        """Rules 2 to 5 and 10 over one bar; `kind` is that of the order that filled inside it."""
        self.ambiguous += self.pass_through(held, bar, candle, kind, self.settings.intrabar)
        if self.held:
            self.survive(held, candle, kind)
            held.move_stop(self.signals, self.settings)

    def pass_through(self, held: Position, bar: int, candle: _Candle, kind: OrderKind | None, intrabar: str) -> bool:
        """Let one candle act on the position; return whether the unknown order of its prices decided."""
        side = held.side
        if kind is None:
            held.stretch(candle.open, candle.open)
            if _is_at(held.liquidation, -side, candle.mark_open):
                self.leave(held, bar, held.bankruptcy, ExitReason.LIQUIDATION)
                return False
            if _is_at(held.stop, -side, candle.open):
                slipped = candle.open * (1.0 - side * self.settings.slippage_fraction)
                self.leave(held, bar, slipped, held.stop_reason)
                return False
            self.take_targets(held, bar, candle.open, at_limit=True)
            if self.held is None:
                return False
        may, must = _reaches(side, candle, kind)
        may_stop, must_stop = (self.is_stopped(held, reach) for reach in (may, must))
        may_gain, must_gain = (_is_at(held.target(), side, reach.toward) for reach in (may, must))
        doubtful = (may_stop and may_gain) or may_stop != must_stop or may_gain != must_gain
        if doubtful and intrabar == "magnify":
            self.magnify(held, bar, candle, kind)
        elif intrabar == "optimistic":
            self.take_targets(held, bar, may.toward)
            if self.held and must_stop:
                self.stop_out(held, bar, must)
        else:
            self.expect_the_worst(held, bar, may, must)
        return doubtful

    def expect_the_worst(self, held: Position, bar: int, may: _Reach, must: _Reach) -> None:
        if self.is_stopped(held, may):
            self.stop_out(held, bar, may)
        else:
            self.take_targets(held, bar, must.toward)

    def magnify(self, held: Position, bar: int, candle: _Candle, kind: OrderKind | None) -> None:
        """Rule 4: let the minutes of the bar act in order; where they cannot tell, expect the worst."""
        may, must = _reaches(held.side, candle, kind)
        if self.detail.mark is not None and _is_at(held.liquidation, -held.side, may.mark):
            self.expect_the_worst(held, bar, may, must)
            return
        is_open, is_decided = kind is None, True
        for minute in self.minutes_of(bar):
            kind_now = None
            if not is_open and self.filled:
                place = self.touch(self.filled, minute)
                if place is None:
                    continue
                is_open, kind_now = True, kind if place == "inside" else None
            if self.pass_through(held, bar, minute, kind_now, "pessimistic"):
                is_decided = False
            if self.held is None:
                break
            self.survive(held, minute, kind_now)
        if self.held:
            contradicts = self.is_stopped(held, must) or _is_at(held.target(), held.side, must.toward)
            if contradicts or not is_open:
                is_decided = False
                self.expect_the_worst(held, bar, may, must)
        self.decided += is_decided

    def minutes_of(self, bar: int) -> Iterator[_Candle]:
        detail = self.detail
        if detail.minutes is None or detail.minute_start is None or detail.minute_stop is None:
            return
        for row in range(int(detail.minute_start[bar]), int(detail.minute_stop[bar])):
            yield self.candle_of(detail.minutes, row, None if detail.mark is not None else detail.minutes)

    def survive(self, held: Position, candle: _Candle, kind: OrderKind | None) -> None:
        _, must = _reaches(held.side, candle, kind)
        held.stretch(must.against, must.against)
        held.stretch(must.toward, must.toward)

    def is_stopped(self, held: Position, reach: _Reach) -> bool:
        return _is_at(held.stop, -held.side, reach.against) or _is_at(held.liquidation, -held.side, reach.mark)

    def stop_out(self, held: Position, bar: int, reach: _Reach) -> None:
        """Rule 10: whichever of stop and liquidation was reached and is nearer."""
        liquidated = _is_at(held.liquidation, -held.side, reach.mark)
        is_nearer = held.liquidation is not None and _is_at(held.liquidation, held.side, held.stop or 0.0)
        if held.stop is not None and _is_at(held.stop, -held.side, reach.against) and (not liquidated or is_nearer):
            slipped = held.stop * (1.0 - held.side * self.settings.slippage_fraction)
            return self.leave(held, bar, slipped, held.stop_reason)
        return self.leave(held, bar, held.bankruptcy, ExitReason.LIQUIDATION)

    def take_targets(self, held: Position, bar: int, limit: float, *, at_limit: bool = False) -> None:
        """Rules 3 and 14: close the parts whose target lies within the limit, at their targets or all at the limit."""
        while self.held:
            target = held.target()
            if target is None or not _is_at(target, held.side, limit):
                return
            part = held.part_of_target(self.signals, self.settings)
            held.next_target += 1
            if part > 0:
                self.close(held, bar, part, limit if at_limit else target, ExitReason.TAKE_PROFIT)

    def leave(self, held: Position, bar: int, price: float, reason: ExitReason) -> None:
        self.close(held, bar, held.quantity, price, reason)

    def close(self, held: Position, bar: int, quantity: float, price: float, reason: ExitReason) -> None:
        settings, inverse, side = self.settings, self.inverse, float(held.side)
        rate = settings.target_fee_fraction if reason == ExitReason.TAKE_PROFIT else settings.taker_fee_fraction
        fee = notional_value(quantity, price, inverse=inverse) * rate
        entry_fee, funding = held.entry_fees, held.funding
        is_whole = quantity >= held.quantity
        if not is_whole:
            share = quantity / held.quantity
            entry_fee, funding = entry_fee * share, funding * share
        fees = entry_fee + fee
        held.stretch(price, price)
        gross, best, worst = (
            gross_profit(side, quantity, held.entry, at, inverse=inverse) for at in (price, held.best, held.worst)
        )
        risk = math.nan
        if held.initial_stop is not None:
            risk = 0.0 - gross_profit(side, quantity, held.entry, held.initial_stop, inverse=inverse)
        self.wallet += gross - fee
        self.rows.append((held.side, held.signal_bar, held.entry_bar, bar, reason, held.number))
        self.records.append(
            (
                held.entry, price, quantity, gross - fees - funding, gross, fees, 0.0 - worst, 0.0 + best, risk, funding,
            )
        )  # fmt: skip
        if is_whole:
            self.held = None
            return
        held.quantity -= quantity
        held.entry_fees -= entry_fee
        held.funding -= funding
        held.find_liquidation(settings)

    def mark(self, bar: int, close: float, *, is_last: bool) -> tuple[float, int]:
        """Rules 7 and 8: return equity and side after the close."""
        equity, held = self.wallet, self.held
        if held:
            equity += gross_profit(float(held.side), held.quantity, held.entry, close, inverse=self.inverse)
            if equity <= 0 or is_last:
                self.leave(held, bar, close, ExitReason.LIQUIDATION if equity <= 0 else ExitReason.END_OF_DATA)
                equity = self.wallet
        if equity <= 0 and self.ruined_bar is None:
            self.ruined_bar = bar
        return equity, self.held.side if self.held else 0


def _is_at(level: float | None, way: int, price: float) -> bool:
    """Say whether a price is at a level or beyond it, upward for way 1; never where either is missing."""
    return level is not None and way * price >= way * level


def _reaches(side: int, candle: _Candle, kind: OrderKind | None) -> tuple[_Reach, _Reach]:
    """Return how far prices may have gone after the entry, and how far they certainly went.

    A limit order fills on the way against the position, so only the close is certain on the way toward it; a stop order
    fills on the way toward the target, so only the close is certain on the way back.
    """
    against, toward, mark = candle.low, candle.high, candle.mark_low
    if side < 0:
        against, toward, mark = candle.high, candle.low, candle.mark_high
    may = _Reach(against, toward, mark)
    if kind == "limit":
        return may, _Reach(against, candle.close, mark)
    if kind == "stop":
        return may, _Reach(candle.close, toward, candle.mark_close)
    return may, may


def simulate_plainly(
    candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail = NO_DETAIL
) -> Simulation:
    """Return the same simulation as `engine.core.simulator.simulate`, bit for bit, slowly."""
    account = _Account(candles, signals, settings, detail)
    marks = [account.run_bar(bar) for bar in range(len(candles))]
    return Simulation(
        trades=Trades.from_tables(
            np.array(account.rows, np.int64).reshape(-1, 6), np.array(account.records, np.float64).reshape(-1, 10)
        ),
        equity=np.array([equity for equity, _ in marks]),
        position=np.array([side for _, side in marks], np.int8),
        exposed_bars=account.exposed,
        ambiguous_bars=account.ambiguous,
        skipped_entries={skip.name.lower(): count for skip, count in account.skipped.items()},
        capped_entries=account.capped,
        ruined_bar=account.ruined_bar,
        warmup_bars=signals.warmup_bars,
        entries=Entries.from_tables(
            np.array(account.entry_rows, np.int64).reshape(-1, 4),
            np.array(account.entry_records, np.float64).reshape(-1, 3),
        ),
        decided_bars=account.decided,
    )
