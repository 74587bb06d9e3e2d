"""Aligned candle columns: one frozen object that every floor passes around."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatColumn = NDArray[np.float64]
TimeColumn = NDArray[np.int64]

PRICE_COLUMNS = ("open", "high", "low", "close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume", "turnover")


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Closed candles in ascending, unique time order.

    Attributes
    ----------
    ts : ndarray of int64, shape (n,)
        Bar opens, milliseconds UTC.
    open, high, low, close : ndarray of float64, shape (n,)
        Prices in quote currency; never NaN.
    volume, turnover : ndarray of float64, shape (n,)
        Linear and spot: base and quote units; inverse: USD and coin. NaN where the source has none
        (mark, index and premium candles; imported files without turnover).
    """

    ts: TimeColumn
    open: FloatColumn
    high: FloatColumn
    low: FloatColumn
    close: FloatColumn
    volume: FloatColumn
    turnover: FloatColumn

    def __len__(self) -> int:
        return len(self.ts)

    def columns(self) -> tuple[TimeColumn | FloatColumn, ...]:
        """Return all seven columns in their fixed order."""
        return (self.ts, self.open, self.high, self.low, self.close, self.volume, self.turnover)

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """Return the bars that open in [start_ms, end_ms), as views."""
        low, high = np.searchsorted(self.ts, (start_ms, end_ms))
        return self.take(slice(int(low), int(high)))

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Candles:
        """Return the chosen rows."""
        return Candles(*(column[rows] for column in self.columns()))  # type: ignore[arg-type]

    def sha256(self) -> str:
        """Return the hash of the content, the same on every platform: little-endian columns in order, NaN as stored."""
        digest = hashlib.sha256(len(self).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(self.ts, dtype="<i8").tobytes())
        for column in self.columns()[1:]:
            digest.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
        return digest.hexdigest()

    @classmethod
    def empty(cls) -> Candles:
        """Return no candles."""
        return cls(np.empty(0, np.int64), *(np.empty(0, np.float64) for _ in VALUE_COLUMNS))

    @classmethod
    def concatenate(cls, parts: Iterable[Candles]) -> Candles:
        """Join parts that are in order and do not overlap."""
        kept = [part for part in parts if len(part)]
        if not kept:
            return cls.empty()
        if len(kept) == 1:
            return kept[0]
        return cls(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in kept), strict=True)))  # type: ignore[arg-type]
