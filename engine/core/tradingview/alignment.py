"""Two lists of trades side by side: which trades are the same, which fields of them agree, which have no partner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.price_steps import decimal_step
from engine.core.tradingview.lists import BoolColumn, TradeColumns

Rows = NDArray[np.intp]
# A price is on the tick when it is within this share of it.
_ON_THE_TICK = 0.01
# Rounding explains no larger part of a quantity.
_MOST_ROUNDED_QUANTITY = 1e-3
# Printed profits are rounded; sums of rounded halves may miss by a little more.
_ROUNDING_SLACK = 1.02


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Two lists by side and entry time.

    Attributes
    ----------
    pairs : ndarray of intp, shape (n, 2)
        Their row and ours of the same trade.
    equal : dict of str to ndarray of bool, shape (n,)
        By field: the pair agrees, as far as both lists have it.
    agree : ndarray of bool, shape (n,)
        In every field.
    only_theirs, only_ours : ndarray of intp
        Rows without a partner.
    """

    theirs: TradeColumns
    ours: TradeColumns
    candles: Candles
    tick: float
    inverse: bool
    pairs: Rows
    equal: dict[str, BoolColumn]
    agree: BoolColumn
    only_theirs: Rows
    only_ours: Rows

    def paired(self, rows: BoolColumn) -> tuple[TradeColumns, TradeColumns]:
        """Return the chosen pairs as two lists."""
        chosen = self.pairs[rows]
        return self.theirs.take(chosen[:, 0]), self.ours.take(chosen[:, 1])

    def near(self, theirs: FloatColumn, ours: FloatColumn) -> BoolColumn:
        """Tell which prices are the same as far as their list can say."""
        return near(theirs, ours, price_tolerance(ours, self.tick, self.theirs))


def align(theirs: TradeColumns, ours: TradeColumns, candles: Candles, tick: float, *, inverse: bool) -> Alignment:
    """Pair trades of the same side and entry time, and compare them field by field."""
    where = {key: row for row, key in enumerate(trade_keys(ours))}
    found = [(row, where[key]) for row, key in enumerate(trade_keys(theirs)) if key in where]
    pairs = np.array(found, np.intp).reshape(-1, 2)
    equal = _equal_fields(theirs.take(pairs[:, 0]), ours.take(pairs[:, 1]), tick, theirs, inverse=inverse)
    agree = np.logical_and.reduce(list(equal.values())) if len(pairs) else np.zeros(0, np.bool_)
    only_theirs = np.setdiff1d(np.arange(len(theirs)), pairs[:, 0])
    only_ours = np.setdiff1d(np.arange(len(ours)), pairs[:, 1])
    return Alignment(theirs, ours, candles, tick, inverse, pairs, equal, agree, only_theirs, only_ours)


def trade_keys(trades: TradeColumns, shift_ms: int = 0) -> list[tuple[int, int, int]]:
    """Return entry time, side and, for positions closed in parts, which part it is."""
    seen: Counter[tuple[int, int]] = Counter()
    keys: list[tuple[int, int, int]] = []
    for time, side in zip((trades.entry_ms + shift_ms).tolist(), trades.side.tolist(), strict=True):
        keys.append((time, side, seen[time, side]))
        seen[time, side] += 1
    return keys


def price_tolerance(ours: FloatColumn, tick: float, theirs: TradeColumns) -> FloatColumn:
    """Return how far prices may lie apart and still be the same fill.

    Slippage as a share of the price leaves our fills between ticks, while exported prices stand on them: such a fill may be
    a tick away. Ours on a tick must be met.
    """
    if tick <= 0:
        middle = float(np.median(theirs.entry_price)) if len(theirs) else 0.0
        return np.full(len(ours), 1e-7 * middle)
    away = np.abs(ours - np.round(ours / tick) * tick)
    return np.where(away > _ON_THE_TICK * tick, tick, _ON_THE_TICK * tick)


def near(first: FloatColumn, second: FloatColumn, tolerance: FloatColumn | float) -> BoolColumn:
    """Tell which values agree; NaN says nothing and agrees."""
    return np.isnan(first) | np.isnan(second) | (np.abs(first - second) <= tolerance + 1e-12 * np.abs(second))


def quantity_tolerance(theirs: FloatColumn, ours: FloatColumn) -> FloatColumn:
    """Return what rounding to their printed digits may take from our quantities."""
    half = 0.5 * _ROUNDING_SLACK * decimal_step(theirs)
    return 1e-9 + np.minimum(half, _MOST_ROUNDED_QUANTITY * np.abs(ours))


def rounded_profit(theirs: TradeColumns, ours: TradeColumns, *, inverse: bool) -> FloatColumn:
    """Return by how much profits may differ when only rounding of prices, quantities and the printed profit differs."""
    side = ours.side.astype(float)
    moved = gross_profit(side, theirs.quantity, theirs.entry_price, theirs.exit_price, inverse=inverse) - gross_profit(
        side, ours.quantity, ours.entry_price, ours.exit_price, inverse=inverse
    )
    return _ROUNDING_SLACK * (theirs.pnl_step + np.nan_to_num(np.abs(moved)))


def turnover(trades: TradeColumns, *, inverse: bool) -> FloatColumn:
    """Return the value of both fills."""
    fills = (trades.entry_price, trades.exit_price)
    return np.sum([notional_value(trades.quantity, price, inverse=inverse) for price in fills], axis=0)


def _equal_fields(
    theirs: TradeColumns, ours: TradeColumns, tick: float, whole: TradeColumns, *, inverse: bool
) -> dict[str, BoolColumn]:
    # A trade open in one list has no exit to compare.
    ended = ~(theirs.open | ours.open)
    entries = near(theirs.entry_price, ours.entry_price, price_tolerance(ours.entry_price, tick, whole))
    exits = ~ended | near(theirs.exit_price, ours.exit_price, price_tolerance(ours.exit_price, tick, whole))
    quantities = near(theirs.quantity, ours.quantity, quantity_tolerance(theirs.quantity, ours.quantity))
    # Other prices or another size move the profit by themselves; what is told apart here is rounding.
    rounding = np.where(entries & exits & quantities, rounded_profit(theirs, ours, inverse=inverse), 0.0)
    gap = np.abs(theirs.pnl - ours.pnl)
    return {
        "entry_price": entries,
        "exit_time": ~ended | (theirs.exit_ms == ours.exit_ms),
        "exit_price": exits,
        "quantity": quantities,
        "pnl": ~ended
        | np.isnan(gap)
        | (gap <= rounding + _ROUNDING_SLACK * theirs.pnl_step + 1e-9 * (1 + np.abs(ours.pnl))),
    }
