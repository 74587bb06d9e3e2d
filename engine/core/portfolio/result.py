"""What one account over several symbols leaves behind, as one run, and the check that it adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.metrics import daily_marks
from engine.core.portfolio.legs import Leg
from engine.core.simulation import Entries, Simulation, SkipReason, check_accounting
from engine.core.timeframes import Interval
from engine.core.trades import EXITS_AT_THE_OPEN, Trades


@dataclass(frozen=True, slots=True, eq=False)
class SymbolResult:
    """What one symbol brought.

    Attributes
    ----------
    trades : Trades
        Bars are rows of the symbol's own candles.
    contribution : ndarray of float64, shape (n,)
        Profit so far, open position included, at every step.
    skipped_entries : dict of str to int
        Entry signals that opened nothing, by reason: those of a run alone, and `no_free_slot`.
    capped_entries : int
        Entries made smaller to fit.
    ambiguous_bars : int
    """

    trades: Trades
    contribution: FloatColumn
    skipped_entries: dict[str, int]
    capped_entries: int
    ambiguous_bars: int


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioResult:
    """One account over several symbols.

    Attributes
    ----------
    ts : ndarray of int64, shape (n,)
        Opens of every bar that any symbol has, milliseconds UTC: the steps.
    equity : ndarray of float64, shape (n,)
        Marked when those bars have closed, fees and funding included.
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


def correlation_table(changes: FloatColumn) -> FloatColumn:
    """Return the correlation of rows (shape (s, s)); NaN in the row and column of what never moved."""
    centred = changes - changes.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T
    spread = np.sqrt(np.diag(covariance))
    with np.errstate(all="ignore"):
        table = covariance / np.outer(spread, spread)
    table[:, spread == 0] = table[spread == 0, :] = np.nan
    return np.clip(table, -1.0, 1.0)


def daily_changes(
    result: PortfolioResult, legs: Mapping[str, Leg], interval: Interval
) -> tuple[FloatColumn, FloatColumn]:
    """Return daily price returns and daily profits of each symbol.

    Returns
    -------
    returns : ndarray of float64, shape (s, d)
        Between the closes at 00:00 UTC of the days on which all symbols had begun, as fractions.
    profits : ndarray of float64, shape (s, m)
        Of every day of the run, settlement currency.
    """
    begun = max(int(leg.candles.ts[0]) for leg in legs.values())
    prices: list[FloatColumn] = []
    for leg in legs.values():
        rows = np.searchsorted(leg.candles.ts, result.ts, side="right") - 1
        times, marks = daily_marks(result.ts, leg.candles.close[np.maximum(rows, 0)], interval)
        prices.append(marks[times > begun])
    returns = np.array([marks[1:] / marks[:-1] - 1.0 for marks in prices]).reshape(len(legs), -1)
    profits = [
        np.diff(daily_marks(result.ts, one.contribution, interval)[1], prepend=0.0) for one in result.symbols.values()
    ]
    return returns, np.array(profits)


def basket_candles(result: PortfolioResult, legs: Mapping[str, Leg]) -> Candles:
    """Return what equal parts of one unit of money in every symbol would be worth, as candles of the steps.

    Notes
    -----
    Each part is cash until the first bar at whose open the symbol's strategy could have bought; no costs. Candles open
    where the one before closed.
    """
    worth = np.array([_worth(leg, result.ts) for leg in legs.values()]).mean(axis=0)
    opened = np.concatenate(([1.0], worth[:-1]))
    none = np.zeros(len(worth))
    return Candles(result.ts, opened, np.maximum(opened, worth), np.minimum(opened, worth), worth, none, none)


def _worth(leg: Leg, ts: TimeColumn) -> FloatColumn:
    first_fill, count = leg.signals.warmup_bars + 1, len(leg.candles)
    if first_fill >= count:
        return np.ones(len(ts))
    worth = leg.candles.close / leg.candles.open[first_fill]
    worth[:first_fill] = 1.0
    rows = np.searchsorted(leg.candles.ts, ts, side="right") - 1
    return np.where(rows < 0, 1.0, worth[np.maximum(rows, 0)])


def combined_simulation(result: PortfolioResult, legs: Mapping[str, Leg]) -> tuple[Simulation, NDArray[np.int64]]:
    """Return the account as one simulation whose bars are the steps, and the number of each trade's symbol.

    Notes
    -----
    Trades come in the order of their entries, those of one open in the order of the symbols. `bars` counts the symbol's
    own bars. `position` is 1 where anything is held.
    """
    parts = list(result.symbols.values())
    steps = [np.searchsorted(result.ts, leg.candles.ts) for leg in legs.values()]
    symbol = np.concatenate([np.full(len(part.trades), index) for index, part in enumerate(parts)]).astype(np.int64)
    columns = {one.name: np.concatenate([getattr(part.trades, one.name) for part in parts]) for one in fields(Trades)}
    for name in ("signal_bar", "entry_bar", "exit_bar"):
        columns[name] = np.concatenate(
            [at[getattr(part.trades, name)] for at, part in zip(steps, parts, strict=True)]
        ).astype(np.int64)
    order = np.lexsort((symbol, columns["entry_bar"]))
    columns = {name: column[order] for name, column in columns.items()}
    columns["position_id"] = np.arange(len(order), dtype=np.int64)
    trades = Trades(**columns)
    execution = next(iter(legs.values())).execution
    simulation = Simulation(
        trades=trades,
        equity=result.equity,
        position=(result.open_positions > 0).astype(np.int8),
        exposed_bars=_exposed_bars(trades, len(result.ts)),
        ambiguous_bars=sum(part.ambiguous_bars for part in parts),
        skipped_entries=_summed([part.skipped_entries for part in parts]),
        capped_entries=sum(part.capped_entries for part in parts),
        ruined_bar=None if result.ruined_ms is None else int(np.searchsorted(result.ts, result.ruined_ms)),
        warmup_bars=_warmup_steps(legs, steps, len(result.ts)),
        entries=Entries.of_single(trades, execution),
    )
    return simulation, symbol[order]


def skipped_entries(leg: Leg, trades: Trades, refusals: Mapping[str, int]) -> dict[str, int]:
    """Return the entry signals that opened nothing, by reason: those void for any account, and those this one refused."""
    counts = _count_void_decisions(leg, trades)
    for reason, count in refusals.items():
        if count:
            counts[reason] = counts.get(reason, 0) + count
    return counts


def _count_void_decisions(leg: Leg, trades: Trades) -> dict[str, int]:
    """Return the entry decisions that no account could have followed, by reason, as a run alone counts them."""
    signals, execution, count = leg.signals, leg.execution, len(leg.candles)
    counts = {skip.name.lower(): 0 for skip in SkipReason}
    both = signals.long_entry & signals.short_entry
    counts["conflicting_signals"] = int(np.count_nonzero(both[:-1]))
    # Held when the bar has closed: an exit at an open or inside a bar leaves nothing at its close.
    side = np.zeros(count + 1, np.int64)
    np.add.at(side, trades.entry_bar, trades.side)
    np.add.at(side, trades.exit_bar, -trades.side)
    held = np.cumsum(side)[:count]
    for way, entry, leaves, allowed in (
        (1, signals.long_entry, signals.long_exit, execution.allow_long),
        (-1, signals.short_entry, signals.short_exit, execution.allow_short),
    ):
        wanted = (entry & ~both & ~leaves & (held != way))[:-1]
        if not allowed:
            counts["direction_not_allowed"] += int(np.count_nonzero(wanted))
        elif signals.session is not None:
            counts["outside_session"] += int(np.count_nonzero(wanted & ~signals.session[1:]))
    return counts


def check_portfolio_accounting(result: PortfolioResult, legs: Mapping[str, Leg], capital: float) -> tuple[str, ...]:
    """Rebuild every symbol from its fills alone, and the account from its symbols; return what does not add up."""
    found: list[str] = []
    for symbol, leg in legs.items():
        part = result.symbols[symbol]
        execution = replace(leg.execution, capital=capital)
        rows = np.searchsorted(result.ts, leg.candles.ts)
        # What happened while the symbol had no bar belongs to the bar before.
        until = np.append(rows[1:] - 1, len(result.ts) - 1)
        alone = Simulation(
            part.trades, capital + part.contribution[until], np.zeros(len(rows), np.int8), 0, 0, {}, 0, None, 0,
            Entries.of_single(part.trades, execution),
        )  # fmt: skip
        found += [f"{symbol}: {text}" for text in check_accounting(alone, leg.candles, execution, leg.detail)]
    parts = [part.contribution for part in result.symbols.values()]
    moved = capital + sum(float(np.abs(part).max(initial=0.0)) for part in parts)
    if np.any(np.abs(capital + np.sum(parts, axis=0) - result.equity) > 1e-9 * moved):
        found.append("the symbols' profits do not sum to the equity")
    return tuple(found)


def _exposed_bars(trades: Trades, count: int) -> int:
    inside = ~np.isin(trades.exit_reason, EXITS_AT_THE_OPEN)
    change = np.zeros(count + 1, np.int64)
    np.add.at(change, trades.entry_bar, 1)
    np.add.at(change, trades.exit_bar + inside, -1)
    return int(np.count_nonzero(np.cumsum(change)[:count]))


def _warmup_steps(legs: Mapping[str, Leg], steps: list[NDArray[np.int64]], count: int) -> int:
    ready = [
        int(at[leg.signals.warmup_bars])
        for at, leg in zip(steps, legs.values(), strict=True)
        if leg.signals.warmup_bars < len(at)
    ]
    return min(ready, default=count)


def _summed(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total
