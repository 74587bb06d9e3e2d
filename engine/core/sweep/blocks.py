"""Highest and lowest prices of blocks of bars, so that a search can pass over bars where nothing can happen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn

SMALL, LARGE = 8, 64


class PriceBlocks(NamedTuple):
    """Extremes of whole blocks, and of runs of large blocks.

    Attributes
    ----------
    small_high, small_low : ndarray of float64, shape (n // 8,)
    large_high, large_low : ndarray of float64, shape (n // 64,)
    run_high, run_low : ndarray of float64, shape (levels, n // 64)
        Extreme closes of the 2 ** level large blocks from each one on; only whole runs are filled.
    """

    small_high: FloatColumn
    small_low: FloatColumn
    large_high: FloatColumn
    large_low: FloatColumn
    run_high: NDArray[np.float64]
    run_low: NDArray[np.float64]


def price_blocks(candles: Candles) -> PriceBlocks:
    """Return the blocks of some candles."""
    return PriceBlocks(
        _whole(candles.high, SMALL).max(axis=1),
        _whole(candles.low, SMALL).min(axis=1),
        _whole(candles.high, LARGE).max(axis=1),
        _whole(candles.low, LARGE).min(axis=1),
        _runs(_whole(candles.close, LARGE).max(axis=1), np.maximum),
        _runs(_whole(candles.close, LARGE).min(axis=1), np.minimum),
    )


def _whole(column: FloatColumn, size: int) -> NDArray[np.float64]:
    count = len(column) // size
    return column[: count * size].reshape(count, size)


def _runs(extremes: FloatColumn, join: np.ufunc) -> NDArray[np.float64]:
    levels = max(len(extremes).bit_length(), 1)
    table = np.zeros((levels, len(extremes)))
    table[0] = extremes
    for level in range(1, levels):
        half = 1 << (level - 1)
        filled = len(extremes) - 2 * half + 1
        table[level, :filled] = join(table[level - 1, :filled], table[level - 1, half : half + filled])
    return table
