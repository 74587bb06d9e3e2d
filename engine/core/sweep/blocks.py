"""Highest and lowest prices of blocks of bars, so that a search can pass over bars where nothing can happen."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    close_bits : ndarray of int64, shape (n,)
        The closes' bit patterns: positive floats and their patterns have one order, and integers compare many at once.
    run_high, run_low : ndarray of int64, shape (levels, n // 64)
        Extreme closes, as bit patterns, of the 2 ** level large blocks from each one on; only whole runs are filled.
    """

    small_high: FloatColumn
    small_low: FloatColumn
    large_high: FloatColumn
    large_low: FloatColumn
    close_bits: NDArray[np.int64]
    run_high: NDArray[np.int64]
    run_low: NDArray[np.int64]


def price_blocks(candles: Candles) -> PriceBlocks:
    """Return the blocks of some candles."""
    close_bits = np.ascontiguousarray(candles.close).view(np.int64)
    return PriceBlocks(
        whole_blocks(candles.high, SMALL).max(axis=1),
        whole_blocks(candles.low, SMALL).min(axis=1),
        whole_blocks(candles.high, LARGE).max(axis=1),
        whole_blocks(candles.low, LARGE).min(axis=1),
        close_bits.copy(),
        _runs(whole_blocks(close_bits, LARGE).max(axis=1), np.maximum),
        _runs(whole_blocks(close_bits, LARGE).min(axis=1), np.minimum),
    )


def whole_blocks(column: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the whole blocks of a column, a row each."""
    count = len(column) // size
    return column[: count * size].reshape(count, size)


def _runs(extremes: NDArray[np.int64], join: np.ufunc) -> NDArray[np.int64]:
    levels = max(len(extremes).bit_length(), 1)
    table = np.zeros((levels, len(extremes)), np.int64)
    table[0] = extremes
    for level in range(1, levels):
        half = 1 << (level - 1)
        filled = len(extremes) - 2 * half + 1
        table[level, :filled] = join(table[level - 1, :filled], table[level - 1, half : half + filled])
    return table
