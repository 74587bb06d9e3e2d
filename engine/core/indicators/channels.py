"""Highest and lowest values, and the channels made of them."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import SOURCE, Indicator, composite, native, period


@kernel
def _highest(result: FloatColumn, values: FloatColumn, length: int) -> None:
    # A window is the tail of one block and the head of the next (van Herk 1992): three comparisons a bar, any length.
    result[: min(len(values), length - 1)] = np.nan
    tails = np.full(length + 1, -np.inf)
    for base in range(0, len(values), length):
        size = min(length, len(values) - base)
        best = -np.inf
        for inside in range(size):
            value = values[base + inside]
            best = value if value > best else best
            tail = tails[inside + 1]
            if base > 0:
                result[base + inside] = tail if tail > best else best
        if size == length:
            if base == 0:
                result[length - 1] = best
            best = -np.inf
            for inside in range(length - 1, 0, -1):
                value = values[base + inside]
                best = value if value > best else best
                tails[inside] = best


@kernel
def _lowest(result: FloatColumn, values: FloatColumn, length: int) -> None:
    result[: min(len(values), length - 1)] = np.nan
    tails = np.full(length + 1, np.inf)
    for base in range(0, len(values), length):
        size = min(length, len(values) - base)
        best = np.inf
        for inside in range(size):
            value = values[base + inside]
            best = value if value < best else best
            tail = tails[inside + 1]
            if base > 0:
                result[base + inside] = tail if tail < best else best
        if size == length:
            if base == 0:
                result[length - 1] = best
            best = np.inf
            for inside in range(length - 1, 0, -1):
                value = values[base + inside]
                best = value if value < best else best
                tails[inside] = best


@native(
    Indicator(
        "highest",
        "channels",
        (SOURCE, period()),
        "Highest of the last `period` values, this bar included.",
        "TradingView Pine reference, ta.highest",
        "max(source, source[1], ..., source[period - 1])",
        warmup="period - 1",
        finite=True,
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
        finite=True,
    )
)
def lowest(source: FloatColumn, length: int) -> FloatColumn:
    """Return the lowest of the last `length` values (shape (n,); NaN before; TradingView, ta.lowest)."""
    return over_valid(_lowest, (source,), length)


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

_ICHIMOKU = "Hosoda; TradingView built-in indicator Ichimoku Cloud"
_CONVERSION = "(highest(high, conversion) + lowest(low, conversion)) / 2"
_BASE = "(highest(high, base) + lowest(low, base)) / 2"
composite(
    Indicator(
        "ichimoku_conversion",
        "channels",
        (period(9, "conversion"),),
        "Ichimoku conversion line (tenkan-sen).",
        _ICHIMOKU,
        expansion=_CONVERSION,
    )
)
composite(
    Indicator(
        "ichimoku_base",
        "channels",
        (period(26, "base"),),
        "Ichimoku base line (kijun-sen).",
        _ICHIMOKU,
        expansion=_BASE,
    )
)
composite(
    Indicator(
        "ichimoku_span_a",
        "channels",
        (period(9, "conversion"), period(26, "base"), period(26, "displacement")),
        "Leading span A as the chart shows it at this bar, known `displacement - 1` bars before; there is no lagging span:"
        " it would read the future.",
        _ICHIMOKU,
        expansion=f"(({_CONVERSION} + {_BASE}) / 2)[displacement - 1]",
    )
)
composite(
    Indicator(
        "ichimoku_span_b",
        "channels",
        (period(52), period(26, "displacement")),
        "Leading span B as the chart shows it at this bar, known `displacement - 1` bars before.",
        _ICHIMOKU,
        expansion="((highest(high, period) + lowest(low, period)) / 2)[displacement - 1]",
    )
)
_PIVOT = "floor trader pivots; TradingView built-in indicator Pivot Points Standard (Traditional), daily"
composite(
    Indicator(
        "pivot",
        "channels",
        (),
        "Pivot of the last closed UTC day.",
        _PIVOT,
        expansion='tf("D", (high + low + close) / 3)',
    )
)
composite(
    Indicator(
        "pivot_resistance",
        "channels",
        (),
        "First resistance of the last closed UTC day.",
        _PIVOT,
        expansion='tf("D", 2 * (high + low + close) / 3 - low)',
    )
)
composite(
    Indicator(
        "pivot_support",
        "channels",
        (),
        "First support of the last closed UTC day.",
        _PIVOT,
        expansion='tf("D", 2 * (high + low + close) / 3 - high)',
    )
)
