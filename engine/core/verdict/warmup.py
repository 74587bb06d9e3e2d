"""Whether decisions depend on where the history begins: the same last bars, seen with less and with more before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.core.candles import Candles, FloatColumn
from engine.core.signals import Signals, compute_signals
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import Interval

TAIL_BARS = 200
_MULTIPLES = (1, 2, 4, 8)
# Recursive averages forget as a power; what is left of their beginning is below what any decision can see.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """How the last bars look with a shorter history.

    Attributes
    ----------
    history_bars : int
        Before the last bars.
    changed_decisions : int
        Entries and exits of the last bars that differ from those with all of the history.
    largest_change : float
        Of a distance (stop, target, trail), relative; 0 where there are none.
    """

    history_bars: int
    changed_decisions: int
    largest_change: float


def history_sensitivity(
    strategy: CompiledStrategy,
    candles: Candles,
    interval: Interval,
    extras: Mapping[str, FloatColumn] | None = None,
    tail_bars: int = TAIL_BARS,
) -> list[HistoryRow]:
    """Recompute the last bars with 1, 2, 4 and 8 times the warm-up before them.

    Parameters
    ----------
    strategy : CompiledStrategy
    candles : Candles
    interval : Interval
    extras : mapping of str to ndarray of float64, shape (n,)
    tail_bars : int
        Bars compared.

    Returns
    -------
    list of HistoryRow
        Only histories shorter than what there is; empty where the candles hold no more than the warm-up and the tail.
    """
    given = dict(extras or {})
    whole = compute_signals(strategy, candles, interval, extras=given)
    warmup = max(whole.warmup_bars, 1)
    rows: list[HistoryRow] = []
    for multiple in _MULTIPLES:
        start = len(candles) - tail_bars - multiple * warmup
        if start <= 0:
            break
        part = compute_signals(
            strategy,
            candles.take(slice(start, None)),
            interval,
            extras={name: column[start:] for name, column in given.items()},
        )
        rows.append(HistoryRow(multiple * warmup, *_differences(whole, part, tail_bars)))
    return rows


def _differences(whole: Signals, part: Signals, tail_bars: int) -> tuple[int, float]:
    decisions = ("long_entry", "long_exit", "short_entry", "short_exit")
    changed = sum(
        int(np.count_nonzero(getattr(whole, name)[-tail_bars:] != getattr(part, name)[-tail_bars:]))
        for name in decisions
    )
    largest = 0.0
    for name in ("stop_distance", "target_distance", "trail_distance"):
        before, after = getattr(whole, name), getattr(part, name)
        if before is None or after is None:
            continue
        one, other = before[-tail_bars:], after[-tail_bars:]
        known = np.isfinite(one) & np.isfinite(other) & (one != 0)
        if known.any():
            largest = max(largest, float(np.abs(other[known] / one[known] - 1.0).max()))
    return changed, largest if largest > _TOLERANCE else 0.0
