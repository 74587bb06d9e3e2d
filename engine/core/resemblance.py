"""Whether two candle series are the same market under two names: equal, scaled or upside-down prices."""

from __future__ import annotations

import numpy as np

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.resample import close_times
from engine.core.timeframes import Interval

# Fewer common closes prove nothing.
FEWEST_COMMON = 20
# Returns of one coin on two venues correlate above this, those of two large coins far below.
SAME_CORRELATION = 0.98
_FLAT = 1e-12


def resemblance(one: tuple[Interval, Candles], other: tuple[Interval, Candles]) -> float | None:
    """Return how much the closes of two series move as one, at the times both have one.

    Parameters
    ----------
    one, other : (Interval, Candles)
        Of any two intervals: closes are matched by the time of the close.

    Returns
    -------
    float or None
        Absolute correlation, 0 to 1, of the logarithmic returns between common closes: a factor on the prices or their
        inverse does not change it. None where there are fewer than 20 common closes, a price is not positive, or one
        series does not move.
    """
    (interval, mine), (other_interval, theirs) = one, other
    return closes_resemblance(
        close_times(interval, mine.ts), mine.close, close_times(other_interval, theirs.ts), theirs.close
    )


def closes_resemblance(
    times_ms: TimeColumn, closes: FloatColumn, other_times_ms: TimeColumn, other_closes: FloatColumn
) -> float | None:
    """Return how much two series of closes move as one, as `resemblance` does.

    Parameters
    ----------
    times_ms, other_times_ms : ndarray of int64, shapes (n,) and (m,)
        When the bars close, ascending, without repeats.
    closes, other_closes : ndarray of float64, shapes (n,) and (m,)
    """
    if min(len(times_ms), len(other_times_ms)) < FEWEST_COMMON:
        return None
    _, rows, other_rows = np.intersect1d(times_ms, other_times_ms, assume_unique=True, return_indices=True)
    mine, theirs = closes[rows], other_closes[other_rows]
    if len(rows) < FEWEST_COMMON or np.any(mine <= 0) or np.any(theirs <= 0):
        return None
    moves, other_moves = np.diff(np.log(mine)), np.diff(np.log(theirs))
    if moves.std() < _FLAT or other_moves.std() < _FLAT:
        return None
    return float(abs(np.corrcoef(moves, other_moves)[0, 1]))
