"""Whether two candle series are the same market under two names: equal, scaled or upside-down prices."""

from __future__ import annotations

import numpy as np

from engine.core.candles import Candles
from engine.core.resample import close_times
from engine.core.timeframes import Interval

# Fewer common closes prove nothing.
FEWEST_COMMON = 20
# Returns of one coin on two venues correlate above this, those of two large coins far below.
SAME_CORRELATION = 0.98
_FLAT = 1e-12


def is_same_market(one: tuple[Interval, Candles], other: tuple[Interval, Candles]) -> bool:
    """Say whether the closes of two series, at the times both have one, move as one.

    Parameters
    ----------
    one, other : (Interval, Candles)
        Of any two intervals: closes are matched by the time of the close.

    Returns
    -------
    bool
        True when the logarithmic returns between common closes correlate by at least 0.98 in absolute value, which a
        factor on the prices or their inverse does not change. False below 20 common closes.
    """
    (interval, mine), (other_interval, theirs) = one, other
    if min(len(mine), len(theirs)) < FEWEST_COMMON:
        return False
    _, rows, other_rows = np.intersect1d(
        close_times(interval, mine.ts), close_times(other_interval, theirs.ts), assume_unique=True, return_indices=True
    )
    if len(rows) < FEWEST_COMMON:
        return False
    closes, other_closes = mine.close[rows], theirs.close[other_rows]
    if np.any(closes <= 0) or np.any(other_closes <= 0):
        return bool(np.array_equal(closes, other_closes))
    moves, other_moves = np.diff(np.log(closes)), np.diff(np.log(other_closes))
    if moves.std() < _FLAT or other_moves.std() < _FLAT:
        return False
    return bool(abs(np.corrcoef(moves, other_moves)[0, 1]) >= SAME_CORRELATION)
