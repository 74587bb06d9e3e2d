"""One strategy over several symbols that share one account: orders in time order, sizes from the shared equity.

The rules of `engine.core.simulator` decide when and at which price each symbol trades; here it is decided how much, and
whether at all.

1. At one time: first all positions that leave at the open, then entries in the order the symbols were given, then what
   stops and targets end inside the bar, then the marks at the close.
2. An entry is sized on the equity at its open: cash and every open position at its open of that time, or at its last
   close where it has no bar then. `equity_fraction` and `risk` are multiplied by the symbol's weight; `quote` and
   `quantity` stand as they are.
3. All positions together never exceed leverage * equity at a fill: a fraction is cut to what is left, a fixed size that
   does not fit is refused.
4. An entry that is refused leaves its symbol flat until its next entry signal.
5. When the equity is zero or less at a mark, everything is closed at the last closes, and nothing is opened any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.indicators.volatility import stdev
from engine.core.signals import Signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.trades import ExitReason, Trades
from engine.errors import BadRequest, DataMissing

Weighting = Literal["equal", "inverse_volatility"]
Execution = Callable[[Candles, Signals, ExecutionSettings], Simulation]
MOST_SYMBOLS = 100
_AT_OPEN = (ExitReason.SIGNAL, ExitReason.MAX_BARS)
# So much capital that one unit always fits, whatever its price.
_AMPLE = 1e18


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One symbol: its candles, what the strategy decides on them, and the trading rules of its market.

    `execution.capital` is not used: the account is shared. Leverage and size are those of each leg.
    """

    candles: Candles
    signals: Signals
    execution: ExecutionSettings


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


@dataclass(frozen=True, slots=True, eq=False)
class SymbolResult:
    """What one symbol brought.

    Attributes
    ----------
    trades : Trades
        Bars are rows of the symbol's own candles.
    contribution : ndarray of float64, shape (n,)
        Profit so far, open position included, at every bar of the union.
    refused_entries : int
        Entries that found no slot, no margin or no valid quantity.
    capped_entries : int
        Entries made smaller to fit.
    """

    trades: Trades
    contribution: FloatColumn
    refused_entries: int
    capped_entries: int


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioResult:
    """One account over several symbols.

    Attributes
    ----------
    ts : ndarray of int64, shape (n,)
        Opens of every bar that any symbol has, milliseconds UTC.
    equity : ndarray of float64, shape (n,)
        Marked when those bars have closed, fees included.
    open_positions : ndarray of int64, shape (n,)
    symbols : dict of str to SymbolResult
    peak_leverage : float
        Largest sum of notionals over equity right after a fill.
    ruined_ms : int or None
        Open of the first bar whose mark was zero or less.
    """

    ts: TimeColumn
    equity: FloatColumn
    open_positions: NDArray[np.int64]
    symbols: dict[str, SymbolResult]
    peak_leverage: float
    ruined_ms: int | None

    def correlations(self) -> FloatColumn:
        """Return the correlation of the symbols' profits bar by bar (shape (s, s); NaN where one never moved)."""
        changes = np.array([np.diff(result.contribution, prepend=0.0) for result in self.symbols.values()])
        return correlation_table(changes)


@dataclass(slots=True)
class _Open:
    trade: int
    side: float
    entry: float
    quantity: float
    entry_fee: float


@dataclass(slots=True)
class _Book:
    """One symbol on its way through time: the trades it would make, the open one, and what it has done."""

    leg: Leg
    run: Execution
    plan: Trades = field(init=False)
    shift: int = 0
    next: int = 0
    held: _Open | None = None
    price: float = math.nan
    realised: float = 0.0
    refused: int = 0
    capped: int = 0
    rows: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    records: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])

    def __post_init__(self) -> None:
        self.plan_from(0)

    def plan_from(self, row: int) -> None:
        """Trade one unit from a row on, flat: prices and bars of the trades do not depend on their size."""
        leg, count = self.leg, len(self.leg.candles)
        unit = replace(
            leg.execution, capital=_AMPLE, size_mode="quantity", size_value=1.0,
            round_to_lot=False, min_quantity=0.0, min_notional=0.0, max_quantity=0.0,
        )  # fmt: skip
        rows = slice(row, count)
        self.plan = self.run(leg.candles.take(rows), _rows_of(leg.signals, rows, count), unit).trades
        self.shift, self.next = row, 0

    @property
    def inverse(self) -> bool:
        return self.leg.execution.category == "inverse"

    def bar_of_entry(self) -> int:
        return int(self.plan.entry_bar[self.next]) + self.shift if self.next < len(self.plan) else -1

    def notional(self) -> float:
        return 0.0 if self.held is None else notional_value(self.held.quantity, self.price, inverse=self.inverse)

    def unrealised(self) -> float:
        held = self.held
        if held is None:
            return 0.0
        return gross_profit(held.side, held.quantity, held.entry, self.price, inverse=self.inverse)

    def leaves(self, row: int, *, at_open: bool) -> bool:
        """Tell whether the open trade ends at this bar's open, or inside the bar."""
        if self.held is None or int(self.plan.exit_bar[self.held.trade]) + self.shift != row:
            return False
        reason = int(self.plan.exit_reason[self.held.trade])
        return reason != ExitReason.END_OF_DATA and (reason in _AT_OPEN) == at_open


class _Account:
    def __init__(self, legs: Mapping[str, Leg], settings: PortfolioSettings, run: Execution) -> None:
        self.settings = settings
        self.books = [_Book(leg, run) for leg in legs.values()]
        self.wallet = float(settings.capital)
        self.peak = 0.0
        self.now = 0
        self.steadiness = [_inverse_volatility(leg.candles, settings.volatility_bars) for leg in legs.values()]

    def equity(self) -> float:
        total = self.wallet
        for book in self.books:
            if book.held is not None:
                total += book.unrealised()
        return total

    def trade(self, rows: list[int]) -> None:
        """Go through the opens and the insides of the bars of one time; -1 where a symbol has no bar."""
        for book, row in zip(self.books, rows, strict=True):
            if row >= 0:
                book.price = float(book.leg.candles.open[row])
        for book, row in zip(self.books, rows, strict=True):
            if row >= 0 and book.leaves(row, at_open=True):
                self.leave(book, row)
        for index, (book, row) in enumerate(zip(self.books, rows, strict=True)):
            if row >= 0 and book.held is None and book.bar_of_entry() == row:
                self.enter(index, book, row)
        for book, row in zip(self.books, rows, strict=True):
            if row >= 0 and book.leaves(row, at_open=False):
                self.leave(book, row)

    def enter(self, index: int, book: _Book, row: int) -> None:
        plan, trade = book.plan, book.next
        price = float(plan.entry_price[trade])
        equity, used = self.equity(), sum(other.notional() for other in self.books)
        full = sum(other.held is not None for other in self.books) >= (self.settings.max_positions or MOST_SYMBOLS)
        quantity = 0.0
        if equity > 0 and not full:
            weight = self.weight(index, row)
            unit_risk = float(plan.initial_risk[trade])
            quantity, was_capped = find_quantity(price, equity, used, weight, unit_risk, book.leg.execution)
            book.capped += was_capped
        if quantity <= 0:
            book.refused += 1
            book.plan_from(int(plan.signal_bar[trade]) + book.shift + 1)
            return
        notional = notional_value(quantity, price, inverse=book.inverse)
        fee = notional * book.leg.execution.taker_fee_fraction
        self.wallet -= fee
        book.held = _Open(trade, float(plan.side[trade]), price, quantity, fee)
        book.realised -= fee
        book.next += 1
        self.peak = max(self.peak, (used + notional) / equity)

    def weight(self, index: int, row: int) -> float:
        """Return the symbol's multiple of an equal share; the close before the entry is the last one known."""
        slots = self.settings.max_positions or len(self.books)
        slots = min(slots, len(self.books))
        if self.settings.weighting == "equal":
            return 1.0 / slots
        now = self.books[index].leg.candles.ts[row]
        known = np.array([_last_before(book.leg.candles.ts, column, now) for book, column in zip(self.books, self.steadiness, strict=True)])  # fmt: skip
        if np.isnan(known).all():
            return 1.0 / slots
        filled = np.where(np.isnan(known), np.nanmean(known), known)
        return float(filled[index] / filled.mean()) / slots

    def leave(self, book: _Book, row: int, price: float | None = None, reason: ExitReason | None = None) -> None:
        """Close the open trade as planned, or at another price for another reason."""
        held, plan, inverse = book.held, book.plan, book.inverse
        if held is None:
            return
        settings, trade = book.leg.execution, held.trade
        paid = float(plan.exit_price[trade]) if price is None else price
        why = ExitReason(int(plan.exit_reason[trade])) if reason is None else reason
        rate = settings.target_fee_fraction if why == ExitReason.TAKE_PROFIT else settings.taker_fee_fraction
        fee = notional_value(held.quantity, paid, inverse=inverse) * rate
        fees = held.entry_fee + fee
        gross = gross_profit(held.side, held.quantity, held.entry, paid, inverse=inverse)
        self.wallet += gross - fee
        book.realised += gross - fee
        best, worst, risk = (float(column[trade]) * held.quantity for column in (plan.mfe, plan.mae, plan.initial_risk))
        signal, entry = (int(column[trade]) + book.shift for column in (plan.signal_bar, plan.entry_bar))
        book.rows.append((int(held.side), signal, entry, row, why))
        book.records.append((held.entry, paid, held.quantity, gross - fees, gross, fees, worst, best, risk))
        book.held = None

    def mark(self, rows: list[int]) -> bool:
        """Mark at the closes; close what ends here, or everything when the capital is lost. Tell whether it is."""
        for book, row in zip(self.books, rows, strict=True):
            if row >= 0:
                book.price = float(book.leg.candles.close[row])
        lost = self.equity() <= 0
        for book, row in zip(self.books, rows, strict=True):
            last = len(book.leg.candles) - 1
            if book.held is not None and (lost or row == last):
                at = row if row >= 0 else int(np.searchsorted(book.leg.candles.ts, self.now) - 1)
                self.leave(book, at, book.price, ExitReason.LIQUIDATION if lost else ExitReason.END_OF_DATA)
        return self.equity() <= 0


def simulate_portfolio(
    legs: Mapping[str, Leg], settings: PortfolioSettings, *, run: Execution = simulate
) -> PortfolioResult:
    """Trade several symbols with shared capital.

    Parameters
    ----------
    legs : mapping of str to Leg
        By symbol, in the order in which they may take capital at one time.
    run : callable
        Trades one symbol alone; each of its trades is one entry and one exit.

    Returns
    -------
    PortfolioResult

    Notes
    -----
    With one symbol trades and equity are those of `simulate`, bit for bit. Bars count by their open: at one time all
    symbols should have bars of the same interval.
    """
    if not 1 <= len(legs) <= MOST_SYMBOLS:
        raise BadRequest(f"there are {len(legs)} symbols", fix=f"give 1 to {MOST_SYMBOLS}")
    if any(len(leg.candles) == 0 for leg in legs.values()):
        raise DataMissing("a symbol has no candles", fix="choose a range with candles, or fetch them first")
    if len({leg.execution.category == "inverse" for leg in legs.values()}) > 1:
        raise BadRequest(
            "inverse markets settle in their own coin", fix="share capital between markets of one currency"
        )
    account = _Account(legs, settings, run)
    ts = np.unique(np.concatenate([leg.candles.ts for leg in legs.values()]))
    where = np.full((len(ts), len(legs)), -1, np.int64)
    for index, leg in enumerate(legs.values()):
        where[np.searchsorted(ts, leg.candles.ts), index] = np.arange(len(leg.candles))
    equity = np.empty(len(ts))
    open_positions = np.zeros(len(ts), np.int64)
    contribution = np.zeros((len(legs), len(ts)))
    ruined_ms = None
    for step, (now, rows) in enumerate(zip(ts.tolist(), where.tolist(), strict=True)):
        account.now = now
        account.trade(rows)
        if account.mark(rows) and ruined_ms is None:
            ruined_ms = now
        equity[step] = account.equity()
        for index, book in enumerate(account.books):
            contribution[index, step] = book.realised + book.unrealised()
            open_positions[step] += book.held is not None
    results = {
        name: SymbolResult(_trades(book), contribution[index], book.refused, book.capped)
        for index, (name, book) in enumerate(zip(legs, account.books, strict=True))
    }
    return PortfolioResult(ts, equity, open_positions, results, account.peak, ruined_ms)


def find_quantity(
    price: float, equity: float, used: float, weight: float, unit_risk: float, settings: ExecutionSettings
) -> tuple[float, bool]:
    """Return how much to buy or sell, 0 for nothing, and whether it was cut to fit.

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
    wanted = _wanted(price, power, equity, weight, unit_risk, settings)
    is_share = settings.size_mode in ("equity_fraction", "risk")
    quantity = min(wanted, most) if is_share else wanted
    if 0 < settings.max_quantity < quantity:
        quantity = settings.max_quantity
    was_capped = quantity < wanted
    if settings.round_to_lot:
        numerator, denominator = step_ratio(settings.lot_step)
        quantity = float(math.floor(quantity * denominator / numerator * (1.0 + 1e-12))) * numerator / denominator
    notional = notional_value(quantity, price, inverse=inverse)
    refused = (
        not quantity > 0
        or quantity < settings.min_quantity
        or (quantity if inverse else notional) < settings.min_notional
        or notional > left * (1.0 + 1e-9)
    )
    return (0.0, False) if refused else (quantity, was_capped)


def correlation_table(changes: FloatColumn) -> FloatColumn:
    """Return the correlation of rows (shape (s, s)); NaN in the row and column of what never moved."""
    centred = changes - changes.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T
    spread = np.sqrt(np.diag(covariance))
    with np.errstate(all="ignore"):
        table = covariance / np.outer(spread, spread)
    table[:, spread == 0] = table[spread == 0, :] = np.nan
    return np.clip(table, -1.0, 1.0)


def _wanted(
    price: float, power: float, equity: float, weight: float, unit_risk: float, settings: ExecutionSettings
) -> float:
    value, inverse = settings.size_value, settings.category == "inverse"
    if settings.size_mode == "quantity":
        return value
    if settings.size_mode == "quote":
        return value if inverse else value / price
    if settings.size_mode == "equity_fraction":
        return power * value * weight * price if inverse else power * value * weight / price
    if math.isnan(unit_risk):
        return 0.0
    return math.inf if unit_risk <= 0 else equity * value * weight / unit_risk


def _inverse_volatility(candles: Candles, bars: int) -> FloatColumn:
    returns = np.log(candles.close) - np.log(np.concatenate((candles.close[:1] * np.nan, candles.close[:-1])))
    spread = stdev(returns, bars)
    return np.divide(1.0, spread, out=np.full(len(spread), np.nan), where=spread > 0)


def _last_before(ts: TimeColumn, column: FloatColumn, now: int) -> float:
    row = int(np.searchsorted(ts, now)) - 1
    return float(column[row]) if row >= 0 else math.nan


def _rows_of(signals: Signals, rows: slice, count: int) -> Signals:
    """Return the signals of some rows, whichever of their columns have one value a bar."""
    cut: dict[str, Any] = {}
    for one in fields(signals):
        value = getattr(signals, one.name)
        cut[one.name] = value[rows] if isinstance(value, np.ndarray) and len(value) == count else value
    return Signals(**cut)


def _trades(book: _Book) -> Trades:
    rows = np.array(book.rows, np.int64).reshape(-1, 5)
    records = np.array(book.records, np.float64).reshape(-1, 9)
    return Trades.from_tables(rows, records)
