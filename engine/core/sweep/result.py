"""What a sweep leaves: one row of figures and of daily returns a combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn, TimeColumn


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """Figures of every combination, in the order of `points`.

    Attributes
    ----------
    points : sequence of mapping of str to float
        As they were given.
    values : dict of str to ndarray of float64, shape (p,)
        By metric; NaN where the metric is undefined.
    marks_ms : ndarray of int64, shape (m,)
        Ends of the daily returns, milliseconds UTC.
    daily_returns : ndarray of float64 or float32, shape (p, m)
        Simple returns; a row of NaN where the equity fell to zero or below.
    warmup_bars : ndarray of int64, shape (p,)
        First bar that may carry a decision.
    bar_loop_reason : str or None
        What the event kernel does not cover, so that every combination went through the bar loop.
    """

    points: Sequence[Mapping[str, float]]
    values: dict[str, FloatColumn]
    marks_ms: TimeColumn
    daily_returns: NDArray[np.float64] | NDArray[np.float32]
    warmup_bars: NDArray[np.int64]
    bar_loop_reason: str | None

    def __len__(self) -> int:
        return len(self.warmup_bars)

    def best(self, metric: str, count: int = 1) -> list[int]:
        """Return the rows with the highest values of a metric, best first; undefined ones are left out."""
        column = self.values[metric]
        rows = np.argsort(-column, kind="stable")[:count]
        return [int(row) for row in rows if not np.isnan(column[row])]
