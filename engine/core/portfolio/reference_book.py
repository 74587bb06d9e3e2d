"""One symbol on its way through time: the trades it would make with one unit, and the one it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail
from engine.core.portfolio.legs import Leg, one_unit
from engine.core.signals import Signals
from engine.core.simulation import Simulation
from engine.core.trades import EXITS_AT_THE_OPEN, ExitReason, Trades

Execution = Callable[[Candles, Signals, ExecutionSettings, MarketDetail], Simulation]
# Bars looked ahead after a refusal: most trades end sooner, and longer ones are planned again with more.
FEW_BARS = 256
# Beyond the last step of any run.
NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Planned:
    """One trade of one unit; bars are rows of the symbol's candles."""

    side: float
    signal_bar: int
    entry_bar: int
    exit_bar: int
    entry: float
    exit: float
    reason: ExitReason
    is_ambiguous: bool
    mae: float
    mfe: float
    risk: float

    @property
    def leaves_at_open(self) -> bool:
        """Say whether the trade ends by a decision, before anything inside its last bar."""
        return self.reason in EXITS_AT_THE_OPEN


@dataclass(slots=True)
class Holding:
    """An open position; fees and funding so far."""

    plan: Planned
    quantity: float
    entry_fee: float
    funding: float = 0.0


class Book:
    """What a symbol is going to do, holds and has done.

    Prices and bars of a trade do not depend on its size, so the symbol is simulated alone with one unit. After an entry
    that was refused the symbol is flat, and its next entry follows its next decision; from the one that is taken on it is
    planned anew, in windows that grow until they hold the next trade whole.
    """

    def __init__(self, symbol: str, leg: Leg, steps: NDArray[np.int64], run: Execution) -> None:
        self.symbol, self.leg, self.steps = symbol, leg, steps
        self.inverse = leg.execution.category == "inverse"
        self.held: Holding | None = None
        self.price = 0.0
        self.realised = 0.0
        self.refusals: dict[str, int] = {}
        self.capped = self.ambiguous = 0
        self.rows: list[tuple[int, ...]] = []
        self.records: list[tuple[float, ...]] = []
        self._step: int | None = None
        self._run = run
        self._unit = one_unit(leg.execution)
        self._decided = _entries_from_flat(leg)
        # The row from which the symbol is flat and not planned yet.
        self._flat_from: int | None = None
        self._plan_from(0, len(leg.candles))

    def next_trade(self) -> Planned | None:
        """Return the trade planned next, None when there is none left."""
        count = len(self.leg.candles)
        if self._flat_from is not None:
            decided = self._next_decision(self._flat_from)
            self._plan_from(decided if decided >= 0 else count - 1, FEW_BARS)
        while self._end < count:
            is_left = self._next < len(self._plan)
            if is_left and self._plan.exit_reason[self._next] != ExitReason.END_OF_DATA:
                break
            # A decision of the window's last bar, or a trade that outlives the window, needs a longer one.
            row = int(self._plan.signal_bar[self._next]) + self._shift if is_left else self._end - 1
            self._plan_from(row, 4 * self._span)
        return self._planned(self._next) if self._next < len(self._plan) else None

    def next_step(self) -> int:
        """Return the step of the next entry or exit, `NEVER` when there is none."""
        if self._step is None:
            row = self._next_row()
            self._step = int(self.steps[row]) if row >= 0 else NEVER
        return self._step

    def _next_row(self) -> int:
        if self.held is not None:
            return self.held.plan.exit_bar
        if self._flat_from is not None:
            decided = self._next_decision(self._flat_from)
            return decided + 1 if decided >= 0 else -1
        trade = self.next_trade()
        return -1 if trade is None else trade.entry_bar

    def _next_decision(self, row: int) -> int:
        place = int(np.searchsorted(self._decided, row))
        return int(self._decided[place]) if place < len(self._decided) else -1

    def enter(self, trade: Planned, quantity: float, fee: float) -> None:
        """Take the planned trade."""
        self.held = Holding(trade, quantity, fee)
        self.realised -= fee
        self._next += 1
        self._step = None

    def refuse(self, row: int, reason: str) -> None:
        """Stay flat at the open of a bar, until the next entry signal."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        self._flat_from = row
        self._step = None

    def pay(self, per_unit: float) -> float:
        """Charge funding to what is held and return it."""
        held = self.held
        if held is None:
            return 0.0
        paid = held.plan.side * held.quantity * per_unit
        held.funding += paid
        self.realised -= paid
        return paid

    def notional(self) -> float:
        """Return the value of what is held."""
        return 0.0 if self.held is None else notional_value(self.held.quantity, self.price, inverse=self.inverse)

    def unrealised(self) -> float:
        """Return the profit of what is held, before the fee of its exit."""
        held = self.held
        if held is None:
            return 0.0
        return gross_profit(held.plan.side, held.quantity, held.plan.entry, self.price, inverse=self.inverse)

    def leaves(self, row: int, *, at_open: bool) -> bool:
        """Tell whether the open trade ends at this bar's open, or inside the bar."""
        if self.held is None or self.held.plan.exit_bar != row:
            return False
        plan = self.held.plan
        return plan.reason != ExitReason.END_OF_DATA and plan.leaves_at_open == at_open

    def leave(self, held: Holding, row: int, price: float, reason: ExitReason) -> float:
        """Close the position and return what the account receives."""
        settings, plan, quantity = self.leg.execution, held.plan, held.quantity
        rate = settings.target_fee_fraction if reason == ExitReason.TAKE_PROFIT else settings.taker_fee_fraction
        fee = notional_value(quantity, price, inverse=self.inverse) * rate
        fees = held.entry_fee + fee
        gross = gross_profit(plan.side, quantity, plan.entry, price, inverse=self.inverse)
        is_planned = (row, reason) == (plan.exit_bar, plan.reason)
        worst, best = (plan.mae, plan.mfe) if is_planned else self._excursions(plan, row)
        self.ambiguous += is_planned and plan.is_ambiguous
        self.realised += gross - fee
        self.rows.append((int(plan.side), plan.signal_bar, plan.entry_bar, row, reason, len(self.rows)))
        self.records.append(
            (
                plan.entry, price, quantity, gross - fees - held.funding, gross, fees, worst * quantity, best * quantity,
                plan.risk * quantity, held.funding,
            )
        )  # fmt: skip
        self.held = None
        self._step = None
        if not is_planned:
            self._flat_from = row
        return gross - fee

    def trades(self) -> Trades:
        """Return what was done."""
        rows = np.array(self.rows, np.int64).reshape(-1, 6)
        return Trades.from_tables(rows, np.array(self.records, np.float64).reshape(-1, 10))

    def _excursions(self, plan: Planned, row: int) -> tuple[float, float]:
        """Return worst and best of a position that lived to the close of a bar."""
        lived = slice(plan.entry_bar, row + 1)
        low = min(plan.entry, float(self.leg.candles.low[lived].min()))
        high = max(plan.entry, float(self.leg.candles.high[lived].max()))
        against, toward = (low, high) if plan.side > 0 else (high, low)
        worst, best = (gross_profit(plan.side, 1.0, plan.entry, at, inverse=self.inverse) for at in (against, toward))
        return 0.0 - worst, 0.0 + best

    def _plan_from(self, row: int, span: int) -> None:
        leg, count = self.leg, len(self.leg.candles)
        self._shift, self._span, self._next, self._flat_from = row, span, 0, None
        self._end = min(row + span, count)
        rows = slice(row, self._end)
        candles, signals = leg.candles.take(rows), _rows_of(leg.signals, rows, count)
        detail = MarketDetail(mark=None if leg.detail.mark is None else leg.detail.mark.take(rows))
        simulation = self._run(candles, signals, self._unit, detail)
        self._plan = simulation.trades
        self._doubtful = np.zeros(len(self._plan), np.bool_)
        if simulation.ambiguous_bars:
            other = "optimistic" if self._unit.intrabar == "pessimistic" else "pessimistic"
            read_otherwise = self._run(candles, signals, replace(self._unit, intrabar=other), detail).trades
            # A bar that is ambiguous ends the trade by either reading, so both plans have the same trades.
            self._doubtful = read_otherwise.exit_reason != self._plan.exit_reason

    def _planned(self, index: int) -> Planned:
        plan, shift = self._plan, self._shift
        return Planned(
            side=float(plan.side[index]),
            signal_bar=int(plan.signal_bar[index]) + shift,
            entry_bar=int(plan.entry_bar[index]) + shift,
            exit_bar=int(plan.exit_bar[index]) + shift,
            entry=float(plan.entry_price[index]),
            exit=float(plan.exit_price[index]),
            reason=ExitReason(int(plan.exit_reason[index])),
            is_ambiguous=bool(self._doubtful[index]),
            mae=float(plan.mae[index]),
            mfe=float(plan.mfe[index]),
            risk=float(plan.initial_risk[index]),
        )


def _entries_from_flat(leg: Leg) -> NDArray[np.int64]:
    """Return the rows whose close decides to enter, whatever came before, while nothing is held."""
    signals, execution = leg.signals, leg.execution
    long = signals.long_entry & ~signals.short_entry & ~signals.long_exit
    short = signals.short_entry & ~signals.long_entry & ~signals.short_exit
    decided = (long & execution.allow_long) | (short & execution.allow_short)
    if signals.session is not None:
        decided[:-1] &= signals.session[1:]
    return np.flatnonzero(decided[:-1])


def _rows_of(signals: Signals, rows: slice, count: int) -> Signals:
    """Return the signals of some rows, whichever of their columns have one value a bar."""
    cut: dict[str, Any] = {}
    for one in fields(signals):
        value = getattr(signals, one.name)
        cut[one.name] = value[rows] if isinstance(value, np.ndarray) and len(value) == count else value
    return Signals(**cut)
