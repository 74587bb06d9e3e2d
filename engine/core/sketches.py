"""A market's closes every few hours: enough to know it again under another name, long after its candles are gone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.resample import close_times
from engine.core.resemblance import SAME_CORRELATION, closes_resemblance
from engine.core.timeframes import Interval, step_ms

# Closes at these times are those of bars of any length up to it, so that an hourly copy resembles a daily original.
SKETCH_STEP_MS = 4 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class MarketSketch:
    """Some closes of a market.

    Attributes
    ----------
    symbol : str
    times_ms : ndarray of int64, shape (n,)
        When the bars close, milliseconds UTC, ascending.
    closes : ndarray of float64, shape (n,)
    """

    symbol: str
    times_ms: TimeColumn
    closes: FloatColumn

    def packed(self) -> bytes:
        """Return times and closes as little-endian bytes."""
        return np.ascontiguousarray(self.times_ms, "<i8").tobytes() + np.ascontiguousarray(self.closes, "<f8").tobytes()

    def sha256(self) -> str:
        """Return the hash of the content."""
        return hashlib.sha256(self.packed()).hexdigest()

    def holds(self, other: MarketSketch) -> bool:
        """Say whether every close of another sketch is in this one."""
        rows = np.searchsorted(self.times_ms, other.times_ms)
        if len(self.times_ms) == 0 or bool(np.any(rows >= len(self.times_ms))):
            return len(other.times_ms) == 0
        same_times = np.array_equal(self.times_ms[rows], other.times_ms)
        return same_times and np.array_equal(self.closes[rows], other.closes)

    def is_like(self, other: MarketSketch) -> bool:
        """Say whether two markets move as one: equal, scaled or upside-down prices."""
        alike = closes_resemblance(self.times_ms, self.closes, other.times_ms, other.closes)
        return alike is not None and alike >= SAME_CORRELATION


def sketch_of(symbol: str, interval: Interval, candles: Candles) -> MarketSketch:
    """Return the sketch of some candles: closes every four hours, all of them where bars are longer."""
    times = close_times(interval, candles.ts)
    if step_ms(interval) > SKETCH_STEP_MS:
        return MarketSketch(symbol, times, candles.close)
    kept = times % SKETCH_STEP_MS == 0
    return MarketSketch(symbol, times[kept], candles.close[kept])


def unpacked(symbol: str, data: bytes) -> MarketSketch:
    """Return what `MarketSketch.packed` made bytes of."""
    half = len(data) // 2
    return MarketSketch(symbol, np.frombuffer(data[:half], "<i8"), np.frombuffer(data[half:], "<f8"))
