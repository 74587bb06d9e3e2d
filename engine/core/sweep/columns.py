"""Indicator columns side by side in one block of memory, each computed once and dropped when room is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.expressions.evaluation import Evaluator
from engine.core.expressions.nodes import Node
from engine.core.indicators.registry import AnyColumn
from engine.core.sweep.masks import WORD_BARS, Words, pack_valid, words_needed
from engine.core.timeframes import Interval

# Runs a function over items, perhaps on several threads, and returns the results in order.
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class BoundedMemo(MutableMapping[str, AnyColumn]):
    """Columns by text, the oldest forgotten beyond a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._columns: OrderedDict[str, AnyColumn] = OrderedDict()

    def __getitem__(self, key: str) -> AnyColumn:
        return self._columns[key]

    def __setitem__(self, key: str, value: AnyColumn) -> None:
        if key in self._columns or value.nbytes > self._most_bytes:
            return
        self._columns[key] = value
        self._bytes += value.nbytes
        while self._bytes > self._most_bytes:
            self._bytes -= self._columns.popitem(last=False)[1].nbytes

    def __delitem__(self, key: str) -> None:
        self._bytes -= self._columns.pop(key).nbytes

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Evaluation:
    """Evaluates trees over one set of candles; every call has an evaluator of its own, so calls may run on threads."""

    def __init__(
        self, candles: Candles, interval: Interval, extras: Mapping[str, FloatColumn] | None, memo_bytes: int
    ) -> None:
        self._candles, self._extras = candles, extras
        self._interval: Interval = interval
        self._memo = BoundedMemo(memo_bytes)

    def numbers(self, tree: Node) -> FloatColumn:
        """Return the column of a number."""
        return self._evaluator(tree).numbers(tree)

    def conditions(self, tree: Node) -> NDArray[np.bool_]:
        """Return the column of a condition."""
        return self._evaluator(tree).conditions(tree)

    def _evaluator(self, tree: Node) -> Evaluator:
        # The memo is shared by threads: a column may be computed twice, and the second is dropped.
        evaluator = Evaluator(self._candles, self._interval, extras=self._extras, memo=self._memo)
        evaluator.expect([tree])
        return evaluator


class ColumnBank:
    """Columns by normal form, one row each.

    Attributes
    ----------
    table : ndarray of float64, shape (capacity, 64 * words)
        NaN after the last bar.
    valid : ndarray of uint64, shape (capacity, words)
        Where a row is a number.
    """

    def __init__(self, bars: int, capacity: int) -> None:
        words = words_needed(bars)
        self._bars = bars
        self._rows: OrderedDict[str, int] = OrderedDict()
        # Untouched memory costs nothing, so the table may be larger than what is used of it.
        self.table = np.empty((capacity, words * WORD_BARS))
        self.valid: Words = np.empty((capacity, words), np.uint64)

    @property
    def capacity(self) -> int:
        """Return how many columns fit."""
        return len(self.table)

    def rows(self, trees: Iterable[Node], evaluation: Evaluation, spread: Spread) -> dict[str, int]:
        """Return the row of every tree, computing what is missing; all of them must fit together."""
        wanted = {tree.text: tree for tree in trees}
        if len(wanted) > self.capacity:
            raise ValueError(f"{len(wanted)} columns do not fit into {self.capacity} rows")
        missing = [tree for text, tree in wanted.items() if text not in self._rows]
        free = self._free_rows(len(missing), wanted)
        placed = list(zip(missing, free, strict=True))

        def fill(place: tuple[Node, int]) -> None:
            tree, row = place
            self.table[row, : self._bars] = evaluation.numbers(tree)
            self.table[row, self._bars :] = np.nan
            pack_valid(self.table[row], self.valid[row])

        for _ in spread(fill, placed):
            pass
        self._rows.update((tree.text, row) for tree, row in placed)
        return {text: self._rows[text] for text in wanted}

    def _free_rows(self, count: int, wanted: Mapping[str, Node]) -> list[int]:
        unused = range(len(self._rows), self.capacity)
        if len(unused) >= count:
            return list(unused[:count])
        freed = [text for text in self._rows if text not in wanted][: count - len(unused)]
        return [*unused, *(self._rows.pop(text) for text in freed)]
