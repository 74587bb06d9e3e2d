"""The judge of the compiled account: the rules of `engine.core.portfolio.run` in plain Python, a book for each symbol.

It walks from entry to exit and over the bars between them at once; the symbols' own trades are those of `simulate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from engine.core.candles import FloatColumn, TimeColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.portfolio.layout import NO_FREE_SLOT
from engine.core.portfolio.legs import MOST_SYMBOLS, Leg, PortfolioSettings, check_legs, refuse_above_tier
from engine.core.portfolio.reference_book import NEVER, Book, Execution, Holding
from engine.core.portfolio.reference_sizing import find_quantity
from engine.core.portfolio.result import PortfolioResult, SymbolResult, skipped_entries
from engine.core.portfolio.weights import inverse_volatility
from engine.core.simulation import SkipReason
from engine.core.simulator import simulate
from engine.core.trades import ExitReason
from engine.errors import LabError


class _Account:
    """The wallet all books share. A step is a time at which any symbol has a bar."""

    def __init__(self, legs: Mapping[str, Leg], settings: PortfolioSettings, run: Execution) -> None:
        self.settings = settings
        self.ts: TimeColumn = np.unique(np.concatenate([leg.candles.ts for leg in legs.values()]))
        steps = [np.searchsorted(self.ts, leg.candles.ts) for leg in legs.values()]
        self.books = [Book(name, leg, at, run) for (name, leg), at in zip(legs.items(), steps, strict=True)]
        shape = (len(legs), len(self.ts))
        self.rows = np.full(shape, -1, np.int64)
        self.closes = np.empty(shape)
        for index, leg in enumerate(legs.values()):
            self.rows[index, steps[index]] = np.arange(len(leg.candles))
            last = np.maximum.accumulate(self.rows[index])
            # Before the first bar nothing can be held, so that any number stands there.
            self.closes[index] = leg.candles.close[np.maximum(last, 0)]
        self.paid_at_open = _laid_on(shape, steps, [leg.detail.funding_at_open for leg in legs.values()])
        self.paid_inside = _laid_on(shape, steps, [leg.detail.funding_inside for leg in legs.values()])
        self.steadiness = [inverse_volatility(leg.candles, settings.volatility_bars) for leg in legs.values()]
        self.wallet = float(settings.capital)
        self.peak = 0.0
        self.ruined_ms: int | None = None
        self.equity_curve = np.empty(shape[1])
        self.open_positions = np.zeros(shape[1], np.int64)
        self.contribution = np.zeros(shape)

    def run(self) -> None:
        """Go from entry to exit, and over the steps between them at once."""
        step, count = 0, len(self.ts)
        while step < count:
            step = self.pass_quietly(step, min(count, *(book.next_step() for book in self.books), NEVER))
            if step < count:
                self.act(step)
                step += 1

    def equity(self) -> float:
        """Return cash and open positions at the prices last seen."""
        total = self.wallet
        for book in self.books:
            if book.held is not None:
                total += book.unrealised()
        return total

    def pass_quietly(self, start: int, stop: int) -> int:
        """Mark the steps in which nothing is bought or sold, up to one that loses the capital; return the step reached."""
        held = [(index, book, book.held) for index, book in enumerate(self.books) if book.held is not None]
        if start >= stop:
            return start
        wallets, spans = np.full(stop - start, self.wallet), slice(start, stop)
        if held and self.paid_at_open is not None:
            wallets = self.wallets_after_funding(held, spans)
        marks, profits = wallets, []
        for index, book, position in held:
            plan, price = position.plan, cast("Any", self.closes[index, spans])
            profit = gross_profit(plan.side, position.quantity, plan.entry, price, inverse=book.inverse)
            marks = marks + profit
            profits.append(profit)
        lost = np.flatnonzero(marks <= 0) if held else np.empty(0, np.int64)
        count = int(lost[0]) if len(lost) else stop - start
        if count:
            self.settle(held, profits, slice(start, start + count), float(wallets[count - 1]), marks[:count])
        return start + count

    def wallets_after_funding(self, held: Sequence[tuple[int, Book, Holding]], spans: slice) -> FloatColumn:
        """Return the wallet after each step, charged in the order in which `act` charges it."""
        flows = [self.funding_of(index, position, spans) for index, _, position in held]
        of_steps = np.concatenate([np.stack([flow[place] for flow in flows], axis=1) for place in (0, 1)], axis=1)
        return np.cumsum(np.concatenate(([self.wallet], -of_steps.ravel())))[of_steps.shape[1] :: of_steps.shape[1]]

    def funding_of(self, index: int, position: Holding, spans: slice) -> FloatColumn:
        """Return what a position pays at the open and inside of each step (shape (2, n))."""
        if self.paid_at_open is None or self.paid_inside is None:
            return np.zeros((2, 0))
        per_unit = np.stack((self.paid_at_open[index, spans], self.paid_inside[index, spans]))
        return position.plan.side * position.quantity * per_unit

    def settle(
        self,
        held: Sequence[tuple[int, Book, Holding]],
        profits: Sequence[FloatColumn],
        spans: slice,
        wallet: float,
        marks: FloatColumn,
    ) -> None:
        """Write down what happened in quiet steps."""
        count = spans.stop - spans.start
        for index, book in enumerate(self.books):
            self.contribution[index, spans] = book.realised
        for (index, book, position), profit in zip(held, profits, strict=True):
            realised = np.full(count, book.realised)
            if self.paid_at_open is not None:
                paid = self.funding_of(index, position, spans).T.ravel()
                realised = np.cumsum(np.concatenate(([book.realised], -paid)))[2::2]
                position.funding = float(np.cumsum(np.concatenate(([position.funding], paid)))[-1])
            book.realised, book.price = float(realised[-1]), float(self.closes[index, spans.stop - 1])
            self.contribution[index, spans] = realised + profit[:count]
        self.wallet = wallet
        self.equity_curve[spans] = marks
        self.open_positions[spans] = len(held)

    def act(self, step: int) -> None:
        """Go through the opens, the insides and the closes of the bars of one step."""
        rows = self.rows[:, step].tolist()
        trading = [
            (index, book, row) for index, (book, row) in enumerate(zip(self.books, rows, strict=True)) if row >= 0
        ]
        for _, book, row in trading:
            book.price = float(book.leg.candles.open[row])
        self.pay_funding(self.paid_at_open, step)
        for _, book, row in trading:
            if book.held is not None and book.leaves(row, at_open=True):
                self.leave(book, book.held, row)
        for index, book, row in trading:
            if book.held is None and book.next_step() == step:
                self.enter(index, book, row)
        self.pay_funding(self.paid_inside, step)
        for _, book, row in trading:
            if book.held is not None and book.leaves(row, at_open=False):
                self.leave(book, book.held, row)
        self.mark(step, rows)

    def pay_funding(self, per_unit: FloatColumn | None, step: int) -> None:
        if per_unit is not None:
            for index, book in enumerate(self.books):
                if book.held is not None:
                    self.wallet -= book.pay(float(per_unit[index, step]))

    def enter(self, index: int, book: Book, row: int) -> None:
        equity, used = self.equity(), sum(other.notional() for other in self.books)
        if equity <= 0:
            book.refuse(row, SkipReason.RUINED.name.lower())
            return
        if sum(other.held is not None for other in self.books) >= (self.settings.max_positions or MOST_SYMBOLS):
            book.refuse(row, NO_FREE_SLOT)
            return
        trade = book.next_trade()
        if trade is None or trade.entry_bar != row:
            raise LabError(f"{book.symbol} has no trade planned at bar {row}", fix="please report the run's inputs")
        weight = self.weight(index, row)
        execution = book.leg.execution
        quantity, refusal, capped = find_quantity(trade.entry, equity, used, weight, trade.risk, execution)
        book.capped += capped
        if refusal is not None:
            book.refuse(row, refusal)
            return
        notional = notional_value(quantity, trade.entry, inverse=book.inverse)
        refuse_above_tier(book.symbol, book.leg, trade.entry_bar, notional)
        fee = notional * execution.taker_fee_fraction
        self.wallet -= fee
        book.enter(trade, quantity, fee)
        self.peak = max(self.peak, (used + notional) / equity)

    def weight(self, index: int, row: int) -> float:
        """Return the symbol's multiple of an equal share; the close before the entry is the last one known."""
        slots = min(self.settings.max_positions or len(self.books), len(self.books))
        if self.settings.weighting == "equal":
            return 1.0 / slots
        now = int(self.books[index].leg.candles.ts[row])
        pairs = zip(self.books, self.steadiness, strict=True)
        known = np.array([_last_before(book.leg.candles.ts, column, now) for book, column in pairs])
        if np.isnan(known).all():
            return 1.0 / slots
        filled = np.where(np.isnan(known), np.nanmean(known), known)
        return float(filled[index] / filled.mean()) / slots

    def leave(self, book: Book, held: Holding, row: int) -> None:
        self.wallet += book.leave(held, row, held.plan.exit, held.plan.reason)

    def mark(self, step: int, rows: Sequence[int]) -> None:
        """Mark at the closes; close what ends here, or everything when the capital is lost."""
        for index, book in enumerate(self.books):
            book.price = float(self.closes[index, step])
        lost = self.equity() <= 0
        for index, (book, row) in enumerate(zip(self.books, rows, strict=True)):
            if book.held is not None and (lost or row == len(book.leg.candles) - 1):
                at = row if row >= 0 else int(self.rows[index, : step + 1].max())
                reason = ExitReason.LIQUIDATION if lost else ExitReason.END_OF_DATA
                self.wallet += book.leave(book.held, at, book.price, reason)
        equity = self.equity()
        if equity <= 0 and self.ruined_ms is None:
            self.ruined_ms = int(self.ts[step])
        self.equity_curve[step] = equity
        self.open_positions[step] = sum(book.held is not None for book in self.books)
        for index, book in enumerate(self.books):
            self.contribution[index, step] = book.realised + book.unrealised()


def simulate_portfolio_plainly(
    legs: Mapping[str, Leg], settings: PortfolioSettings, *, run: Execution = simulate
) -> PortfolioResult:
    """Trade several symbols with shared capital as `simulate_portfolio` does.

    Parameters
    ----------
    legs : mapping of str to Leg
    settings : PortfolioSettings
    run : callable
        Trades one symbol alone; each of its trades is one entry and one exit.
    """
    check_legs(legs)
    account = _Account(legs, settings, run)
    account.run()
    results = {
        book.symbol: SymbolResult(
            book.trades(),
            account.contribution[index],
            skipped_entries(book.leg, book.trades(), book.refusals),
            book.capped,
            book.ambiguous,
        )
        for index, book in enumerate(account.books)
    }
    return PortfolioResult(
        account.ts, account.equity_curve, account.open_positions, results, account.peak, account.ruined_ms
    )


def _laid_on(
    shape: tuple[int, int], steps: Sequence[np.ndarray], columns: Sequence[FloatColumn | None]
) -> FloatColumn | None:
    """Return one row a symbol and one column a step; None where no symbol is charged anything."""
    if all(column is None for column in columns):
        return None
    laid = np.zeros(shape)
    for index, column in enumerate(columns):
        if column is not None:
            laid[index, steps[index]] = column
    return laid


def _last_before(ts: TimeColumn, column: FloatColumn, now: int) -> float:
    row = int(np.searchsorted(ts, now)) - 1
    return float(column[row]) if row >= 0 else np.nan
