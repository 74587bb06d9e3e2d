"""What a strategy decides at the close of each bar, as arrays a simulator can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.expressions.evaluation import Evaluator, Memo
from engine.core.expressions.nodes import Node
from engine.core.strategy import MOST_ENTRIES, RULES, CompiledLevel, CompiledOrder, CompiledStrategy, OrderKind
from engine.core.strategy_document import Session
from engine.core.timeframes import DAY_MS, Interval

BoolColumn = NDArray[np.bool_]
HOUR_MS = 3_600_000


__all__ = ["MOST_ENTRIES", "EntryOrder", "PartialTarget", "Signals", "compute_signals"]

MOST_PARTIAL_TARGETS = 4


@dataclass(frozen=True, slots=True, eq=False)
class EntryOrder:
    """A resting entry: a limit order better than the deciding close, or a stop order beyond it.

    Attributes
    ----------
    kind : {"limit", "stop"}
    fraction : float
        Of the close of the signal bar; NaN where `distance` holds.
    distance : ndarray of float64, shape (n,), or None
        Price units, read at the signal bar.
    bars : int
        Bars the order lives, the one after the signal first.
    """

    kind: OrderKind
    fraction: float
    distance: FloatColumn | None
    bars: int


@dataclass(frozen=True, slots=True, eq=False)
class PartialTarget:
    """A limit order that closes `share` (a fraction) of all that was entered; `fraction` or `distance` as of a target."""

    share: float
    fraction: float
    distance: FloatColumn | None


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Decisions known at the close of their bar; every array has one row a bar.

    Attributes
    ----------
    long_entry, long_exit, short_entry, short_exit : ndarray of bool, shape (n,)
        False before `warmup_bars`.
    stop_fraction, target_fraction, trail_fraction : float
        Of the entry fill price (0.02 is 2 %); NaN where there is none.
    stop_distance, target_distance, trail_distance : ndarray of float64, shape (n,), or None
        Price units, read at the signal bar; finite and positive wherever an entry is True. None where there is none.
    trail_activation_fraction : float
        Gain on the entry fill price that arms the trailing stop; NaN: armed from the entry.
    breakeven_fraction : float
        Gain on the entry fill price that moves the stop to the entry; NaN where there is none.
    max_bars : int
        Longest stay in bars; 0 where there is none.
    warmup_bars : int
        Rows before this one carry no signal.
    order : EntryOrder or None
        How entries are ordered; None: at the market.
    max_entries : int
        Entries a position may have; 1: an entry of the side held is ignored.
    partial_targets : tuple of PartialTarget
        Parts closed before `target` closes the rest, nearest first.
    session : ndarray of bool, shape (n,), or None
        Bars in which an entry may fill; None: all.
    is_flat_outside_session : bool
        Whether a position is closed at the open of the first bar outside.
    void_entries : int
        Entry conditions that held at a bar whose stop, target, trail or order distance was not a positive number.
    """

    long_entry: BoolColumn
    long_exit: BoolColumn
    short_entry: BoolColumn
    short_exit: BoolColumn
    stop_fraction: float
    stop_distance: FloatColumn | None
    target_fraction: float
    target_distance: FloatColumn | None
    trail_fraction: float
    trail_distance: FloatColumn | None
    trail_activation_fraction: float
    breakeven_fraction: float
    max_bars: int
    warmup_bars: int
    order: EntryOrder | None = None
    max_entries: int = 1
    partial_targets: tuple[PartialTarget, ...] = ()
    session: BoolColumn | None = None
    is_flat_outside_session: bool = False
    void_entries: int = 0


def compute_signals(
    strategy: CompiledStrategy,
    candles: Candles,
    interval: Interval,
    *,
    extras: Mapping[str, FloatColumn] | None = None,
    memo: Memo | None = None,
) -> Signals:
    """Return what a strategy decides on these candles.

    Parameters
    ----------
    extras : mapping of str to ndarray of float64, optional
        `funding_rate` and `open_interest`, aligned with the candles.
    memo : mutable mapping, optional
        Shared by computations over the same candles and extras; indicator columns are computed once.

    Notes
    -----
    An entry whose stop, target or trail distance is not a positive number at its bar is not taken: a strategy that
    asks for a stop never enters without one.
    """
    evaluator = Evaluator(candles, interval, extras=extras, memo=memo)
    trees = strategy.trees()
    evaluator.expect(trees)
    evaluator.prepare(trees)
    warmup = strategy.warmup_bars(interval)
    levels = [strategy.stop, strategy.target, strategy.trail, *(part.level for part in strategy.partials)]
    if strategy.order is not None:
        levels.append(strategy.order.offset)
    distances = [_distance(evaluator, level) for level in levels]
    columns: dict[str, BoolColumn] = {}
    for tree in (strategy.rules.get(rule) for rule in RULES):
        if (text := "" if tree is None else tree.text) not in columns:
            columns[text] = _after(warmup, evaluator, tree, len(candles))
    conditions = {rule: columns["" if (tree := strategy.rules.get(rule)) is None else tree.text] for rule in RULES}
    void_entries = 0
    given = [distance > 0.0 for distance in distances if distance is not None]
    if given:
        enterable = np.logical_and.reduce(given)
        wanted = conditions["long_entry"] | conditions["short_entry"]
        void_entries = int(np.count_nonzero(wanted & ~enterable))
        # Not in place: rules of one text share their column.
        conditions["long_entry"] = conditions["long_entry"] & enterable
        conditions["short_entry"] = conditions["short_entry"] & enterable
    return Signals(
        long_entry=conditions["long_entry"],
        long_exit=conditions["long_exit"],
        short_entry=conditions["short_entry"],
        short_exit=conditions["short_exit"],
        void_entries=void_entries,
        stop_fraction=strategy.stop.fraction,
        stop_distance=distances[0],
        target_fraction=strategy.target.fraction,
        target_distance=distances[1],
        trail_fraction=strategy.trail.fraction,
        trail_distance=distances[2],
        trail_activation_fraction=strategy.trail_activation_fraction,
        breakeven_fraction=strategy.breakeven_fraction,
        max_bars=strategy.max_bars,
        warmup_bars=warmup,
        order=_order(strategy.order, distances[-1]),
        max_entries=strategy.max_entries,
        partial_targets=tuple(
            PartialTarget(part.share, part.level.fraction, distance)
            for part, distance in zip(strategy.partials, distances[3:], strict=False)
        ),
        session=None if strategy.session is None else session_mask(candles, strategy.session),
        is_flat_outside_session=strategy.session is not None and strategy.session.flat_outside,
    )


def _after(warmup: int, evaluator: Evaluator, tree: Node | None, bars: int) -> BoolColumn:
    """Return a condition from the end of the warm-up on; a column of its own, because the evaluator keeps its."""
    column = np.zeros(bars, np.bool_)
    if tree is not None:
        column[warmup:] = evaluator.conditions(tree)[warmup:]
    return column


def session_mask(candles: Candles, session: Session) -> BoolColumn:
    """Return which bars open in the session (UTC)."""
    hours = candles.ts // HOUR_MS % 24
    # The epoch began on a Thursday.
    weekdays = (candles.ts // DAY_MS + 3) % 7
    after, before = hours >= session.start_hour, hours < session.end_hour
    in_hours = after & before if session.start_hour < session.end_hour else after | before
    return in_hours & np.isin(weekdays, session.weekdays)


def _order(order: CompiledOrder | None, distance: FloatColumn | None) -> EntryOrder | None:
    return None if order is None else EntryOrder(order.kind, order.offset.fraction, distance, order.bars)


def _distance(evaluator: Evaluator, level: CompiledLevel) -> FloatColumn | None:
    return None if level.distance is None else np.ascontiguousarray(evaluator.numbers(level.distance))
