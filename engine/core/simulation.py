"""What one simulated run leaves behind: trades, equity and counts, and the check that they add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from engine.core.candles import Candles, FloatColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.signals import BoolColumn
from engine.core.trades import EXITS_AT_THE_OPEN, BarColumn, ExitReason, SideColumn, Trades


class SkipReason(IntEnum):
    """Why an entry signal did not become a position; its lower-case name is what results print."""

    CONFLICTING_SIGNALS = 0
    DIRECTION_NOT_ALLOWED = 1
    RUINED = 2
    NO_STOP = 3
    BELOW_MIN_QUANTITY = 4
    BELOW_MIN_NOTIONAL = 5
    INSUFFICIENT_MARGIN = 6
    ABOVE_RISK_LIMIT = 7
    OUTSIDE_SESSION = 8
    ORDER_NOT_FILLED = 9


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Fills that opened or enlarged positions, in order; every column has one row a fill.

    Attributes
    ----------
    position_id : ndarray of int64
    side : ndarray of int8
    bar : ndarray of int64
    is_inside : ndarray of bool
        Filled inside the bar by a resting order, not at its open.
    price, quantity, fee : ndarray of float64
    """

    position_id: BarColumn
    side: SideColumn
    bar: BarColumn
    is_inside: BoolColumn
    price: FloatColumn
    quantity: FloatColumn
    fee: FloatColumn

    def __len__(self) -> int:
        return len(self.bar)

    @classmethod
    def from_tables(cls, rows: BarColumn, records: FloatColumn) -> Entries:
        """Build the columns from rows (position_id, side, bar, is_inside) and records (price, quantity, fee)."""
        position_id, side, bar, is_inside = (column.copy() for column in rows.reshape(-1, 4).T)
        price, quantity, fee = (column.copy() for column in records.reshape(-1, 3).T)
        return cls(position_id, side.astype(np.int8), bar, is_inside.astype(np.bool_), price, quantity, fee)

    @classmethod
    def none(cls) -> Entries:
        """Return no fills."""
        return cls.from_tables(np.empty((0, 4), np.int64), np.empty((0, 3)))

    @classmethod
    def of_single(cls, trades: Trades, settings: ExecutionSettings) -> Entries:
        """Return the one market entry of each trade of a run without parts, additions and resting orders."""
        value = notional_value(trades.quantity, trades.entry_price, inverse=settings.category == "inverse")
        return cls(
            trades.position_id, trades.side, trades.entry_bar, np.zeros(len(trades), np.bool_), trades.entry_price,
            trades.quantity, value * settings.taker_fee_fraction,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """One run, bar by bar.

    Attributes
    ----------
    trades : Trades
    equity : ndarray of float64, shape (n,)
        Marked at every close, fees included, settlement currency; never NaN.
    position : ndarray of int8, shape (n,)
        Side held when the bar has closed.
    exposed_bars : int
        Bars that had a position at any time after the orders at their open.
    ambiguous_bars : int
        Bars in which the unknown order of prices decided: stop and target both lay in them, or only one that may have
        been touched before a resting order filled. Run the other `intrabar` to see what it matters.
    skipped_entries : dict of str to int
        Entry signals that opened nothing, by the lower-case name of their `SkipReason`.
    capped_entries : int
        Entries made smaller to respect the largest quantity or the leverage.
    ruined_bar : int or None
        First bar whose mark was zero or less; nothing is opened from there on.
    warmup_bars : int
        Rows before this one carry no signal.
    entries : Entries
        Every fill that opened or enlarged a position.
    decided_bars : int
        Ambiguous bars whose one-minute candles told the order; the others were taken pessimistically under `magnify`.
    """

    trades: Trades
    equity: FloatColumn
    position: SideColumn
    exposed_bars: int
    ambiguous_bars: int
    skipped_entries: dict[str, int]
    capped_entries: int
    ruined_bar: int | None
    warmup_bars: int
    entries: Entries = field(default_factory=Entries.none)
    decided_bars: int = 0

    @property
    def ruined(self) -> bool:
        """Say whether the capital was lost."""
        return self.ruined_bar is not None


def check_accounting(
    simulation: Simulation, candles: Candles, settings: ExecutionSettings, detail: MarketDetail = NO_DETAIL
) -> tuple[str, ...]:
    """Rebuild the run from its fills alone and return what does not add up; empty when everything does.

    Checked within 1e-9 of the money that moved: profit of each trade from its fills, fees of every fill, entered against
    closed quantity and value of each position, funding from what was held at each settlement, cash plus value of the
    position = equity at every close, sum of profits = final - initial equity, order and overlap of trades.
    """
    books = _Books(simulation, candles, settings, detail)
    trades, capital = simulation.trades, settings.capital
    findings = {
        "gross profit does not follow from the fills": books.gross - trades.gross_pnl,
        "profit is not gross less fees and funding": trades.gross_pnl - trades.fees - trades.funding - trades.pnl,
        "fees do not follow from the fills": books.fee_errors(),
        "a position closes another value than it entered": books.value_errors(),
        "funding does not follow from what was held": np.atleast_1d(books.funding.sum() - trades.funding.sum()),
        "cash and position are not the equity": books.equity() - simulation.equity,
        "profits do not sum to the change of equity": np.atleast_1d(
            np.sum(trades.pnl) - (simulation.equity[-1] - capital)
        ),
    }
    broken = [text for text, errors in findings.items() if not np.all(np.abs(errors) <= books.tolerance)]
    if np.any(np.abs(books.quantity_errors()) > 1e-9 * trades.quantity.max(initial=0.0)):
        broken.append("a position closes another quantity than it entered")
    same = trades.position_id[1:] == trades.position_id[:-1]
    free_from = trades.exit_bar[:-1] + ~books.left_at_open[:-1]
    starts = np.where(same, trades.exit_bar[1:] >= trades.exit_bar[:-1], trades.entry_bar[1:] >= free_from)
    if not np.all(starts) or np.any(trades.bars < 0):
        broken.append("trades overlap")
    if np.any(trades.signal_bar >= trades.entry_bar):
        broken.append("an entry does not follow its signal")
    return tuple(broken)


class _Books:
    """The flows of one run, from its fills: what was paid and received at each bar, and what was held after it."""

    def __init__(
        self, simulation: Simulation, candles: Candles, settings: ExecutionSettings, detail: MarketDetail
    ) -> None:
        self.trades, self.entries, self.settings = simulation.trades, simulation.entries, settings
        self.close, self.inverse = candles.close, settings.category == "inverse"
        trades, entries = self.trades, self.entries
        self.entry_value = notional_value(entries.quantity, entries.price, inverse=self.inverse)
        self.exit_value = notional_value(trades.quantity, trades.exit_price, inverse=self.inverse)
        moved = settings.capital + np.abs(simulation.equity).max(initial=0.0)
        self.tolerance = 1e-9 * (moved + float(np.sum(self.entry_value)) + float(np.sum(self.exit_value)))
        self.gross = gross_profit(
            trades.side.astype(np.float64), trades.quantity, trades.entry_price, trades.exit_price, inverse=self.inverse
        )
        is_target = trades.exit_reason == ExitReason.TAKE_PROFIT
        self.exit_fee = self.exit_value * np.where(is_target, settings.target_fee_fraction, settings.taker_fee_fraction)
        self.left_at_open = np.isin(trades.exit_reason, EXITS_AT_THE_OPEN)
        self.funding = self._funding(detail)

    def fee_errors(self) -> FloatColumn:
        rates = (self.settings.taker_fee_fraction, self.settings.target_fee_fraction)
        of_entries = np.minimum(*(np.abs(self.entry_value * rate - self.entries.fee) for rate in rates))
        of_positions = self._by_position(self.entries.fee, self.exit_fee) - self._by_position(None, self.trades.fees)
        return np.concatenate((of_entries, of_positions))

    def value_errors(self) -> FloatColumn:
        closed = notional_value(self.trades.quantity, self.trades.entry_price, inverse=self.inverse)
        return self._by_position(self.entry_value, -closed)

    def quantity_errors(self) -> FloatColumn:
        return self._by_position(self.entries.quantity, -self.trades.quantity)

    def equity(self) -> FloatColumn:
        """Return cash and value of what is held at every close."""
        # A linear purchase costs its value in quote; an inverse one is a sale of dollars and brings its value in coin.
        way = -1.0 if self.inverse else 1.0
        bought = way * self.entries.side * self.entry_value + self.entries.fee
        sold = way * self.trades.side * self.exit_value - self.exit_fee
        change = self._at_bars(self.trades.exit_bar, sold) - self._at_bars(self.entries.bar, bought) - self.funding
        value = notional_value(self._held(), self.close, inverse=self.inverse)
        return self.settings.capital + np.cumsum(change) + way * value

    def _held(self) -> FloatColumn:
        entered = self._at_bars(self.entries.bar, self.entries.side * self.entries.quantity)
        left = self._at_bars(self.trades.exit_bar, self.trades.side * self.trades.quantity)
        return np.cumsum(entered - left)

    def _funding(self, detail: MarketDetail) -> FloatColumn:
        if detail.funding_at_open is None or detail.funding_inside is None:
            return np.zeros(len(self.close))
        before = np.concatenate(([0.0], self._held()[:-1]))
        trades, entries = self.trades, self.entries
        entered = np.where(entries.is_inside, 0.0, entries.side * entries.quantity)
        left = np.where(self.left_at_open, trades.side * trades.quantity, 0.0)
        after_open = before + self._at_bars(entries.bar, entered) - self._at_bars(trades.exit_bar, left)
        return before * detail.funding_at_open + after_open * detail.funding_inside

    def _at_bars(self, bars: BarColumn, values: FloatColumn) -> FloatColumn:
        return np.bincount(bars, values, len(self.close)).astype(np.float64)

    def _by_position(self, of_entries: FloatColumn | None, of_trades: FloatColumn) -> FloatColumn:
        count = 1 + max(self.trades.position_id.max(initial=-1), self.entries.position_id.max(initial=-1))
        total = np.bincount(self.trades.position_id, of_trades, count).astype(np.float64)
        return total if of_entries is None else total + np.bincount(self.entries.position_id, of_entries, count)
