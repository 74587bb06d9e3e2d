"""One strategy over several symbols that share one account: orders in time order, sizes from the shared equity.

The rules of `engine.core.simulator` decide when and at which price each symbol trades; here it is decided how much, and
whether at all.

1. At one time: first funding settled at that open, then all positions that leave at the open, then entries in the order
   the symbols were given, then funding settled inside the bar, then what stops, targets and liquidations end inside the
   bar, then the marks at the close. Funding is charged as in rule 11 of the simulator, symbol by symbol.
2. An entry is sized on the equity at its open: cash and every open position at its open of that time, or at its last
   close where it has no bar then. `equity_fraction` and `risk` are multiplied by the symbol's weight; `quote` and
   `quantity` stand as they are.
3. All positions together never exceed leverage * equity at a fill: a fraction is cut to what is left, a fixed size that
   does not fit is refused.
4. An entry that is refused leaves its symbol flat until its next entry signal.
5. Each position has an isolated margin and its own liquidation price, by the first maintenance tier; a position worth
   more than that tier covers is an error. When the equity is zero or less at a mark, everything is closed at the last
   closes, and nothing is opened any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.core import full_layout as unit
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.full_run import all_decisions, initial_arrays
from engine.core.kernel_inputs import check_inputs, kernel_rules
from engine.core.portfolio import layout
from engine.core.portfolio.kernel import Columns, State, run_steps
from engine.core.portfolio.legs import MOST_SYMBOLS, Leg, PortfolioSettings, check_legs, one_unit, refuse_above_tier
from engine.core.portfolio.result import PortfolioResult, SymbolResult, skipped_entries
from engine.core.portfolio.weights import weight_table
from engine.core.trades import Trades
from engine.errors import Cancelled

# Bars of all symbols between two looks at whether the run is still wanted: some milliseconds.
_CELLS_A_CHUNK = 50_000


def simulate_portfolio(
    legs: Mapping[str, Leg], settings: PortfolioSettings, *, cancelled: Callable[[], bool] | None = None
) -> PortfolioResult:
    """Trade several symbols with shared capital.

    Parameters
    ----------
    legs : mapping of str to Leg
        By symbol, in the order in which they may take capital at one time.
    settings : PortfolioSettings
    cancelled : callable, optional
        Asked every few milliseconds; True ends the run with `Cancelled`.

    Returns
    -------
    PortfolioResult

    Notes
    -----
    With one symbol trades and equity are those of `simulate`, bit for bit. Bars count by their open: at one time all
    symbols should have bars of the same interval.
    """
    check_legs(legs)
    parts = list(legs.values())
    for leg in parts:
        check_inputs(leg.candles, leg.signals)
    ts = _steps(parts)
    state, columns, weights = _state(parts, settings), _columns(parts), weight_table(legs, settings, ts)
    most = sum(int(np.count_nonzero(leg.signals.long_entry | leg.signals.short_entry)) for leg in parts)
    numbers, records = np.empty((most, layout.TRADE_NUMBERS), np.int64), np.empty((most, layout.TRADE_RECORDS))
    equity, open_positions = np.empty(len(ts)), np.empty(len(ts), np.int64)
    contribution = np.empty((len(parts), len(ts)))
    chunk = max(_CELLS_A_CHUNK // len(parts), 1)
    for start in range(0, len(ts), chunk):
        if cancelled is not None and cancelled():
            raise Cancelled("the run was cancelled", fix="start it again when it is wanted")
        run_steps(
            start, min(start + chunk, len(ts)), ts, columns, weights, state, numbers, records, equity, open_positions,
            contribution,
        )  # fmt: skip
        _check_tiers(legs, state)
    count, ruined_step = state.counts[layout.TRADES], int(state.counts[layout.RUINED_STEP])
    symbols = {
        symbol: _symbol_result(leg, index, state, numbers[:count], records[:count], contribution[index])
        for index, (symbol, leg) in enumerate(legs.items())
    }
    peak, ruined_ms = float(state.wallet[layout.PEAK]), None if ruined_step < 0 else int(ts[ruined_step])
    return PortfolioResult(ts, equity, open_positions, symbols, peak, ruined_ms)


def _steps(legs: Sequence[Leg]) -> TimeColumn:
    """Return the opens of every bar that any symbol has."""
    first = legs[0].candles.ts
    if all(np.array_equal(leg.candles.ts, first) for leg in legs):
        return first.copy()
    return np.unique(np.concatenate([leg.candles.ts for leg in legs]))


def _columns(legs: Sequence[Leg]) -> Columns:
    """Return the bars of all symbols, one behind the other."""
    candles = [leg.candles for leg in legs]
    marks = [leg.detail.mark or leg.candles for leg in legs]
    return Columns(
        ts=np.concatenate([one.ts for one in candles]),
        open=np.concatenate([one.open for one in candles]),
        high=np.concatenate([one.high for one in candles]),
        low=np.concatenate([one.low for one in candles]),
        close=np.concatenate([one.close for one in candles]),
        mark_open=np.concatenate([one.open for one in marks]),
        mark_high=np.concatenate([one.high for one in marks]),
        mark_low=np.concatenate([one.low for one in marks]),
        mark_close=np.concatenate([one.close for one in marks]),
        decisions=np.concatenate([all_decisions(leg.signals) for leg in legs]),
        distances=_distances(legs),
        funding_at_open=_joined(legs, [leg.detail.funding_at_open for leg in legs], 0.0),
        funding_inside=_joined(legs, [leg.detail.funding_inside for leg in legs], 0.0),
    )


def _distances(legs: Sequence[Leg]) -> FloatColumn:
    columns = [
        _joined(legs, [getattr(leg.signals, name) for leg in legs], math.nan)
        for name in ("stop_distance", "target_distance", "trail_distance")
    ]
    bars = sum(len(leg.candles) for leg in legs)
    if not any(len(column) for column in columns):
        return np.empty((0, bars))
    return np.stack([column if len(column) else np.full(bars, math.nan) for column in columns])


def _joined(legs: Sequence[Leg], columns: Sequence[FloatColumn | None], nothing: float) -> FloatColumn:
    """Return a column of all symbols, empty where none has it."""
    if all(column is None for column in columns):
        return np.empty(0)
    pairs = zip(legs, columns, strict=True)
    return np.concatenate([np.full(len(leg.candles), nothing) if one is None else one for leg, one in pairs])


def _state(legs: Sequence[Leg], settings: PortfolioSettings) -> State:
    """Return an account that holds nothing yet."""
    count = len(legs)
    f = np.full((count, unit.TIER + unit.TIER_WIDTH), math.nan)
    k = np.empty((count, unit.WHOLE_NUMBERS), np.int64)
    a, n = np.zeros((count, layout.SYMBOL_FLOATS)), np.zeros((count, layout.SYMBOL_NUMBERS), np.int64)
    row = 0
    for index, leg in enumerate(legs):
        bars = len(leg.candles)
        floats, k[index] = initial_arrays(leg.signals, one_unit(leg.execution), leg.detail, bars)
        f[index, : len(floats)] = floats
        a[index, layout.SIZE_VALUE : layout.TIER_LIMIT + 1] = _rules(leg)
        n[index, [layout.FIRST_ROW, layout.NEXT_ROW, layout.END_ROW]] = row, row, row + bars
        n[index, layout.SIZE_MODE] = kernel_rules(leg.signals, leg.execution).size_mode
        row += bars
    wallet, counts = np.zeros(layout.ACCOUNT_FLOATS), np.zeros(layout.ACCOUNT_NUMBERS, np.int64)
    wallet[layout.WALLET] = settings.capital
    counts[[layout.RUINED_STEP, layout.TOO_LARGE]] = -1
    counts[layout.MOST_POSITIONS] = settings.max_positions or MOST_SYMBOLS
    return State(f, k, a, n, wallet, counts, np.empty(unit.TRADE_WIDTH + unit.FILL_WIDTH))


def _rules(leg: Leg) -> tuple[float, ...]:
    """Return what a symbol is sized and charged by, in the order of the layout."""
    rules, tiers = kernel_rules(leg.signals, leg.execution), leg.execution.margin_tiers
    return (
        rules.size_value, rules.leverage, rules.fee_reserve, rules.lot_numerator, rules.lot_denominator, rules.min_quantity,
        rules.min_notional, rules.max_quantity, rules.taker_fee, rules.target_fee,
        tiers[0].limit_value if tiers else math.inf,
    )  # fmt: skip


def _check_tiers(legs: Mapping[str, Leg], state: State) -> None:
    index = int(state.counts[layout.TOO_LARGE])
    if index >= 0:
        symbol, leg = list(legs.items())[index]
        refuse_above_tier(symbol, leg, int(state.k[index, unit.BAR]), float(state.wallet[layout.OF_VALUE]))


def _symbol_result(
    leg: Leg, index: int, state: State, numbers: NDArray[np.int64], records: FloatColumn, contribution: FloatColumn
) -> SymbolResult:
    own = numbers[:, layout.SYMBOL] == index
    trades = Trades.from_tables(numbers[own, layout.SYMBOL + 1 :], records[own])
    counts = state.n[index]
    refusals = dict(zip(layout.REFUSALS, counts[layout.REFUSED :].tolist(), strict=True))
    return SymbolResult(
        trades, contribution, skipped_entries(leg, trades, refusals), int(counts[layout.CAPPED]),
        int(counts[layout.AMBIGUOUS]),
    )  # fmt: skip
