"""Conditions of many combinations as bits: 64 bars a word, bar 0 in the lowest bit of the first word."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.sweep.plan import Relation

WORD_BARS = 64
# Columns of a whole grid stay in the second-level cache for as many bars as this.
_TILE_WORDS = 16

Words = NDArray[np.uint64]

# Compiled code wants plain integers, not enumerations.
_LESS, _GREATER = int(Relation.LESS), int(Relation.GREATER)
_LESS_OR_EQUAL, _GREATER_OR_EQUAL = int(Relation.LESS_OR_EQUAL), int(Relation.GREATER_OR_EQUAL)
_EQUAL, _DIFFERENT, _ABOVE = int(Relation.EQUAL), int(Relation.DIFFERENT), int(Relation.CROSSES_ABOVE)


def words_needed(bars: int) -> int:
    """Return how many words hold one bit a bar."""
    return -(-bars // WORD_BARS)


def pack_condition(condition: NDArray[np.bool_]) -> Words:
    """Return a condition as bits, zeros after its end.

    >>> pack_condition(np.array([True, False, True])).tolist()
    [5]
    """
    packed = np.zeros(words_needed(len(condition)) * 8, np.uint8)
    bits = np.packbits(condition, bitorder="little")
    packed[: len(bits)] = bits
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack_condition(words: Words, bars: int) -> NDArray[np.bool_]:
    """Return bits as one bool a bar."""
    return np.unpackbits(words.astype("<u8").view(np.uint8), count=bars, bitorder="little").astype(np.bool_)


@njit(cache=True, nogil=True, error_model="numpy")
def pack_valid(column: FloatColumn, words: Words) -> None:
    """Set the bits of the bars at which a column (a whole number of words long) is a number."""
    for word in range(len(words)):
        bits = np.uint64(0)
        for bit in range(64):
            value = column[word * 64 + bit]
            bits |= np.uint64(value == value) << np.uint64(bit)
        words[word] = bits


@njit(cache=True, nogil=True, error_model="numpy")
def _compare_words(one: FloatColumn, other: FloatColumn, less: Words, greater: Words) -> None:
    """Fill one word a 64 bars; a loop of its own, and this plain, so that the compiler compares many bars at once."""
    for word in range(len(less)):
        is_less = np.uint64(0)
        is_greater = np.uint64(0)
        for bit in range(64):
            a = one[word * 64 + bit]
            b = other[word * 64 + bit]
            is_less |= np.uint64(a < b) << np.uint64(bit)
            is_greater |= np.uint64(b < a) << np.uint64(bit)
        less[word] = is_less
        greater[word] = is_greater


@njit(cache=True, nogil=True, error_model="numpy")
def compare_columns(  # noqa: C901 - a compiled function takes its state as arguments
    columns: NDArray[np.float64],
    valid: Words,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    relations: NDArray[np.int64],
    result: Words,
    first: int,
    last: int,
) -> None:
    """Compare pairs of columns, all relations of a pair in one pass over memory.

    Parameters
    ----------
    columns : ndarray of float64, shape (c, 64 * w)
        NaN after the last bar.
    valid : ndarray of uint64, shape (c, w)
        Where a column is a number.
    left, right : ndarray of int64, shape (p,)
        Rows of the columns of each pair.
    relations : ndarray of int64, shape (k,)
        Values of `Relation`.
    result : output, ndarray of uint64, shape (k, p, w)
    first, last : int
        Pairs [first, last) are computed; a crossing needs the bar before, and is false at bar 0.
    """
    word_count = valid.shape[1]
    pairs = last - first
    before_less = np.zeros(pairs, np.uint64)
    before_greater = np.zeros(pairs, np.uint64)
    before_known = np.zeros(pairs, np.uint64)
    less_words = np.empty(_TILE_WORDS, np.uint64)
    greater_words = np.empty(_TILE_WORDS, np.uint64)
    one, top = np.uint64(1), np.uint64(63)
    for tile in range(0, word_count, _TILE_WORDS):
        tile_end = min(tile + _TILE_WORDS, word_count)
        for pair in range(pairs):
            one_column, other_column = left[first + pair], right[first + pair]
            size = tile_end - tile
            _compare_words(
                columns[one_column, tile * 64 : tile_end * 64],
                columns[other_column, tile * 64 : tile_end * 64],
                less_words[:size],
                greater_words[:size],
            )
            for word in range(tile, tile_end):
                less, greater = less_words[word - tile], greater_words[word - tile]
                known = valid[one_column, word] & valid[other_column, word]
                for row in range(len(relations)):
                    relation = relations[row]
                    if relation == _LESS:
                        bits = less
                    elif relation == _GREATER:
                        bits = greater
                    elif relation == _LESS_OR_EQUAL:
                        bits = known & ~greater
                    elif relation == _GREATER_OR_EQUAL:
                        bits = known & ~less
                    elif relation == _EQUAL:
                        bits = known & ~less & ~greater
                    elif relation == _DIFFERENT:
                        bits = less | greater
                    elif relation == _ABOVE:
                        # Strict on the new bar, weak on the old one.
                        weak = known & ~greater
                        before = before_known[pair] & ~before_greater[pair]
                        bits = greater & ((weak << one) | (before >> top))
                    else:
                        weak = known & ~less
                        before = before_known[pair] & ~before_less[pair]
                        bits = less & ((weak << one) | (before >> top))
                    result[row, first + pair, word] = bits
                before_less[pair], before_greater[pair], before_known[pair] = less, greater, known
