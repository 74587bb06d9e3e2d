"""Candle columns in whole ticks and lots, their aggregation, and the text of a row as the exchange prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.core.timeframes import MINUTE_MS
from engine.market.exchange.listings import units_text
from engine.market.exchange.randomness import IntArray

_LOWEST, _HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
# Doubles print every decimal of 15 digits exactly; larger integers take the slower road.
_EXACT_UNITS = 10**15


class Scale(NamedTuple):
    """Decimals of the integer columns; `signed` series (premium) are printed with all their decimals."""

    price: int
    volume: int
    turnover: int
    has_volume: bool = True
    signed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class BarBlock:
    """Bars of one interval in a row, evenly spaced, some of which may not exist.

    Attributes
    ----------
    opens_ms : ndarray of int64, shape (n,)
    open, high, low, close, volume, turnover : ndarray of int64, shape (n,)
        In units of the last decimal. Where a bar does not exist the prices hold the last close and the volume is 0.
    exists : ndarray of bool, shape (n,)
    """

    opens_ms: IntArray
    open: IntArray
    high: IntArray
    low: IntArray
    close: IntArray
    volume: IntArray
    turnover: IntArray
    exists: NDArray[np.bool_]

    def aggregate(self, bars: int) -> BarBlock:
        """Return bars that are `bars` times as long: first open, highest high, lowest low, last close, sums."""
        if bars == 1:
            return self
        high = np.where(self.exists, self.high, _LOWEST).reshape(-1, bars).max(axis=1)
        low = np.where(self.exists, self.low, _HIGHEST).reshape(-1, bars).min(axis=1)
        return BarBlock(
            opens_ms=self.opens_ms.reshape(-1, bars)[:, 0],
            # A missing bar holds the last close, which is the open of the next one that exists.
            open=self.open.reshape(-1, bars)[:, 0], high=high, low=low, close=self.close.reshape(-1, bars)[:, -1],
            volume=self.volume.reshape(-1, bars).sum(axis=1), turnover=self.turnover.reshape(-1, bars).sum(axis=1),
            exists=np.logical_or.reduce(self.exists.reshape(-1, bars), axis=1),
        )  # fmt: skip

    def until(self, now_ms: int, tick_units: int = 1) -> BarBlock:
        """Return these minutes as seen at a time, not before the first opens: later ones unborn, the current half grown."""
        if now_ms >= self.opens_ms[-1] + MINUTE_MS:
            return self
        current = int(np.searchsorted(self.opens_ms, now_ms, side="right")) - 1
        return self._replaced(current, self._partial(current, now_ms - int(self.opens_ms[current]), tick_units))

    def _partial(self, row: int, elapsed_ms: int, tick_units: int) -> tuple[int, ...]:
        first, high, low, close = (int(column[row]) for column in (self.open, self.high, self.low, self.close))
        now = (first + (close - first) * elapsed_ms // MINUTE_MS) // tick_units * tick_units
        top = max(first, now) + (high - max(first, close)) * elapsed_ms // MINUTE_MS
        bottom = min(first, now) - (min(first, close) - low) * elapsed_ms // MINUTE_MS
        prices = (first, *(price // tick_units * tick_units for price in (top, bottom)), now)
        traded = int(self.volume[row]) * elapsed_ms // MINUTE_MS
        return (*prices, traded, int(self.turnover[row]) * traded // max(int(self.volume[row]), 1))

    def _replaced(self, row: int, values: tuple[int, ...]) -> BarBlock:
        first, high, low, close = (
            _with_tail(column, row, value, values[3])
            for column, value in zip((self.open, self.high, self.low, self.close), values, strict=False)
        )
        volume, turnover = _with_tail(self.volume, row, values[4], 0), _with_tail(self.turnover, row, values[5], 0)
        exists = self.exists.copy()
        exists[row + 1 :] = False
        return BarBlock(self.opens_ms, first, high, low, close, volume, turnover, exists)

    @classmethod
    def concatenate(cls, blocks: list[BarBlock]) -> BarBlock:
        """Join blocks that follow each other."""
        return cls(
            opens_ms=np.concatenate([block.opens_ms for block in blocks]),
            open=np.concatenate([block.open for block in blocks]),
            high=np.concatenate([block.high for block in blocks]),
            low=np.concatenate([block.low for block in blocks]),
            close=np.concatenate([block.close for block in blocks]),
            volume=np.concatenate([block.volume for block in blocks]),
            turnover=np.concatenate([block.turnover for block in blocks]),
            exists=np.concatenate([block.exists for block in blocks]),
        )

    def rows(self, rows: slice) -> BarBlock:
        """Return some of the bars."""
        return BarBlock(
            self.opens_ms[rows], self.open[rows], self.high[rows], self.low[rows], self.close[rows], self.volume[rows],
            self.turnover[rows], self.exists[rows],
        )  # fmt: skip

    def merged(self, bounds: list[tuple[int, int, int]]) -> BarBlock:
        """Return one bar for each (open_ms, first row, row after the last): weeks and months of days."""
        rows = [self._merge(open_ms, slice(first, after)) for open_ms, first, after in bounds]
        table = np.array(rows, dtype=np.int64).reshape(-1, 8)
        return BarBlock(
            table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4], table[:, 5], table[:, 6],
            table[:, 7].astype(np.bool_),
        )  # fmt: skip

    def _merge(self, open_ms: int, rows: slice) -> tuple[int, ...]:
        exists = self.exists[rows]
        if not exists.any():
            return (open_ms, *(int(self.open[rows][0]),) * 4, 0, 0, 0)
        return (
            open_ms, int(self.open[rows][0]), int(self.high[rows][exists].max()), int(self.low[rows][exists].min()),
            int(self.close[rows][-1]), int(self.volume[rows].sum()), int(self.turnover[rows].sum()), 1,
        )  # fmt: skip


def _with_tail(column: IntArray, row: int, value: int, after: int) -> IntArray:
    changed = column.copy()
    changed[row] = value
    changed[row + 1 :] = after
    return changed


def row_texts(block: BarBlock, scale: Scale) -> list[str]:
    """Return the JSON text of every bar that exists, ascending."""
    rows = block.exists
    columns = [block.opens_ms[rows].tolist()]
    formats = ["%d"]
    for column in (block.open, block.high, block.low, block.close):
        form, values = _column(column[rows], scale.price, signed=scale.signed)
        formats.append(form)
        columns.append(values)
    if scale.has_volume:
        for column, decimals in ((block.volume, scale.volume), (block.turnover, scale.turnover)):
            form, values = _column(column[rows], decimals, signed=False)
            formats.append(form)
            columns.append(values)
    template = "[" + ",".join(f'"{form}"' for form in formats) + "]"
    return [template % row for row in zip(*columns, strict=True)]


def _column(units: IntArray, decimals: int, *, signed: bool) -> tuple[str, list[float] | list[str]]:
    if not len(units):
        return "%s", []
    if signed:
        return f"%.{decimals}f", (units / 10**decimals).tolist()
    smallest, largest = int(units.min()), int(units.max())
    if largest >= _EXACT_UNITS:
        return "%s", [plain_text(value, decimals) for value in units.tolist()]
    # Below 1e-4 the general format would turn to exponents.
    if (0 < smallest * 10_000 < 10**decimals) or (smallest == 0 and decimals > 4):
        return "%s", [plain_text(value, decimals) for value in units.tolist()]
    return "%.15g", (units / 10**decimals).tolist()


def plain_text(units: int, decimals: int) -> str:
    """Print an integer number of the last decimal place without trailing zeros."""
    text = units_text(units, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text
