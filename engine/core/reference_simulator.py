"""The judge of the kernel: the execution rules of `engine.core.simulator` in plain Python, slow and obvious."""

from __future__ import annotations

import numpy as np

from engine.core.candles import Candles
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings
from engine.core.reference_position import Position, give_size, open_position
from engine.core.signals import Signals
from engine.core.simulation import Simulation, SkipReason
from engine.core.trades import ExitReason, Trades


class _Account:
    def __init__(self, signals: Signals, settings: ExecutionSettings) -> None:
        self.signals, self.settings = signals, settings
        self.inverse = settings.category == "inverse"
        self.wallet = float(settings.capital)
        self.held: Position | None = None
        self.rows: list[tuple[int, ...]] = []
        self.records: list[tuple[float, ...]] = []
        self.skipped = dict.fromkeys(SkipReason, 0)
        self.capped = self.ambiguous = self.exposed = 0
        self.ruined_bar: int | None = None

    def at_open(self, bar: int, opened: float) -> None:
        """Rules 1 and 6."""
        signals, t = self.signals, bar - 1
        conflict = bool(signals.long_entry[t] and signals.short_entry[t])
        go_long = bool(signals.long_entry[t]) and not conflict and not signals.long_exit[t]
        go_short = bool(signals.short_entry[t]) and not conflict and not signals.short_exit[t]
        self.skipped[SkipReason.CONFLICTING_SIGNALS] += conflict
        held = self.held
        if held:
            leaves = (signals.long_exit[t] or go_short) if held.side > 0 else (signals.short_exit[t] or go_long)
            if leaves or (signals.max_bars and bar - held.entry_bar >= signals.max_bars):
                reason = ExitReason.SIGNAL if leaves else ExitReason.MAX_BARS
                self.leave(held, bar, opened * (1.0 - held.side * self.settings.slippage_fraction), reason)
        if go_long and (held is None or held.side < 0):
            self.enter(bar, 1, opened)
        elif go_short and (held is None or held.side > 0):
            self.enter(bar, -1, opened)

    def enter(self, bar: int, side: int, opened: float) -> None:
        settings = self.settings
        if not (settings.allow_long if side > 0 else settings.allow_short):
            self.skipped[SkipReason.DIRECTION_NOT_ALLOWED] += 1
        elif self.wallet <= 0:
            self.skipped[SkipReason.RUINED] += 1
        else:
            price = opened * (1.0 + side * settings.slippage_fraction)
            position = open_position(bar, side, price, self.signals, settings)
            refusal, capped = give_size(position, self.wallet, settings)
            self.capped += capped
            if refusal is not None:
                self.skipped[refusal] += 1
            else:
                self.wallet -= position.entry_fee
                self.held = position

    def inside(self, held: Position, bar: int, opened: float, high: float, low: float) -> None:
        """Rules 2 to 5."""
        self.exposed += 1
        held.stretch(opened, opened)
        slipped = 1.0 - held.side * self.settings.slippage_fraction
        stop, target, is_long = held.stop, held.target, held.side > 0
        if stop is not None and (opened <= stop if is_long else opened >= stop):
            return self.leave(held, bar, opened * slipped, held.stop_reason)
        if target is not None and (opened >= target if is_long else opened <= target):
            return self.leave(held, bar, opened, ExitReason.TAKE_PROFIT)
        stopped = stop is not None and (low <= stop if is_long else high >= stop)
        reached = target is not None and (high >= target if is_long else low <= target)
        self.ambiguous += stopped and reached
        if stop is not None and stopped and (not reached or self.settings.intrabar == "pessimistic"):
            return self.leave(held, bar, stop * slipped, held.stop_reason)
        if target is not None and reached:
            return self.leave(held, bar, target, ExitReason.TAKE_PROFIT)
        held.stretch(low, high)
        return held.move_stop(self.signals, self.settings)

    def leave(self, held: Position, bar: int, price: float, reason: ExitReason) -> None:
        settings, inverse = self.settings, self.inverse
        rate = settings.target_fee_fraction if reason == ExitReason.TAKE_PROFIT else settings.taker_fee_fraction
        fee = notional_value(held.quantity, price, inverse=inverse) * rate
        fees = held.entry_fee + fee
        held.stretch(price, price)
        gross, best, worst = (
            gross_profit(float(held.side), held.quantity, held.entry, at, inverse=inverse)
            for at in (price, held.best, held.worst)
        )
        self.wallet += gross - fee
        self.rows.append((held.side, held.entry_bar - 1, held.entry_bar, bar, reason))
        self.records.append(
            (held.entry, price, held.quantity, gross - fees, gross, fees, 0.0 - worst, 0.0 + best, held.initial_risk)
        )
        self.held = None

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


def simulate_plainly(candles: Candles, signals: Signals, settings: ExecutionSettings) -> Simulation:
    """Return the same simulation as `engine.core.simulator.simulate`, bit for bit, slowly."""
    account, marks = _Account(signals, settings), list[tuple[float, int]]()
    columns = (column.tolist() for column in (candles.open, candles.high, candles.low, candles.close))
    for bar, (opened, high, low, close) in enumerate(zip(*columns, strict=True)):
        if bar > 0:
            account.at_open(bar, opened)
        if account.held:
            account.inside(account.held, bar, opened, high, low)
        marks.append(account.mark(bar, close, is_last=bar == len(candles) - 1))
    return Simulation(
        trades=Trades.from_tables(
            np.array(account.rows, np.int64).reshape(-1, 5), np.array(account.records, np.float64).reshape(-1, 9)
        ),
        equity=np.array([equity for equity, _ in marks]),
        position=np.array([side for _, side in marks], np.int8),
        exposed_bars=account.exposed,
        ambiguous_bars=account.ambiguous,
        skipped_entries={skip.name.lower(): count for skip, count in account.skipped.items()},
        capped_entries=account.capped,
        ruined_bar=account.ruined_bar,
        warmup_bars=signals.warmup_bars,
    )
