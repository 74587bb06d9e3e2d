"""Highest and lowest values, and the channels made of them."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import SOURCE, Indicator, composite, native, period


@kernel
def _highest(values: FloatColumn, length: int) -> FloatColumn:
    # A queue of rows whose values fall: its head is the maximum of the window, each row enters and leaves once.
    result = np.full(len(values), np.nan)
    rows = np.empty(max(len(values), 1), np.int64)
    head = 0
    tail = 0
    for row in range(len(values)):
        while tail > head and values[rows[tail - 1]] <= values[row]:
            tail -= 1
        rows[tail] = row
        tail += 1
        if rows[head] <= row - length:
            head += 1
        if row >= length - 1:
            result[row] = values[rows[head]]
    return result


@native(
    Indicator(
        "highest",
        "channels",
        (SOURCE, period()),
        "Highest of the last `period` values, this bar included.",
        "TradingView Pine reference, ta.highest",
        "max(source, source[1], ..., source[period - 1])",
        warmup="period - 1",
    )
)
def highest(source: FloatColumn, length: int) -> FloatColumn:
    """Return the highest of the last `length` values (shape (n,); NaN before; TradingView, ta.highest)."""
    return over_valid(_highest, (source,), length)


@native(
    Indicator(
        "lowest",
        "channels",
        (SOURCE, period()),
        "Lowest of the last `period` values, this bar included.",
        "TradingView Pine reference, ta.lowest",
        "min(source, source[1], ..., source[period - 1])",
        warmup="period - 1",
    )
)
def lowest(source: FloatColumn, length: int) -> FloatColumn:
    """Return the lowest of the last `length` values (shape (n,); NaN before; TradingView, ta.lowest)."""
    return -over_valid(_highest, (-source,), length)


_DONCHIAN = "Donchian channel; TradingView built-in indicator Donchian Channels"
composite(
    Indicator(
        "donchian_upper",
        "channels",
        (period(20),),
        "Highest high of `period` bars, this bar included; write donchian_upper(20)[1] for the channel to break.",
        _DONCHIAN,
        expansion="highest(high, period)",
    )
)
composite(
    Indicator(
        "donchian_lower",
        "channels",
        (period(20),),
        "Lowest low of `period` bars, this bar included; write donchian_lower(20)[1] for the channel to break.",
        _DONCHIAN,
        expansion="lowest(low, period)",
    )
)
composite(
    Indicator(
        "donchian_middle",
        "channels",
        (period(20),),
        "Middle of the Donchian channel.",
        _DONCHIAN,
        expansion="(highest(high, period) + lowest(low, period)) / 2",
    )
)
