"""Moving averages."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import SOURCE, Indicator, composite, native, period

_PINE = "TradingView Pine reference, ta.{}"


@kernel
def _sma(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    total = 0.0
    for row in range(len(values)):
        if row < length:
            total += values[row]
        elif row % length == length - 1:
            # A fresh sum once a window keeps rounding errors from piling up over a million bars.
            total = 0.0
            for inside in range(row - length + 1, row + 1):
                total += values[inside]
        else:
            total += values[row] - values[row - length]
        if row >= length - 1:
            result[row] = total / length
    return result


@kernel
def _smooth(values: FloatColumn, length: int, weight: float) -> FloatColumn:
    result = np.full(len(values), np.nan)
    if len(values) < length:
        return result
    total = 0.0
    for row in range(length):
        total += values[row]
    average = total / length
    result[length - 1] = average
    for row in range(length, len(values)):
        average += weight * (values[row] - average)
        result[row] = average
    return result


@kernel
def _rma(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    if len(values) < length:
        return result
    total = 0.0
    for row in range(length):
        total += values[row]
    average = total / length
    result[length - 1] = average
    for row in range(length, len(values)):
        average = (average * (length - 1) + values[row]) / length
        result[row] = average
    return result


@kernel
def _wma(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    divisor = length * (length + 1) / 2
    total = 0.0
    weighted = 0.0
    for row in range(length - 1, len(values)):
        if row % length == length - 1:
            total = 0.0
            weighted = 0.0
            for age in range(length):
                total += values[row - age]
                weighted += (length - age) * values[row - age]
        else:
            weighted += length * values[row] - total
            total += values[row] - values[row - length]
        result[row] = weighted / divisor
    return result


@kernel
def _rolling_sum(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    total = 0.0
    for row in range(length - 1, len(values)):
        if row % length == length - 1:
            total = 0.0
            for inside in range(row - length + 1, row + 1):
                total += values[inside]
        else:
            total += values[row] - values[row - length]
        result[row] = total
    return result


@native(
    Indicator(
        "sma",
        "averages",
        (SOURCE, period()),
        "Simple moving average.",
        _PINE.format("sma"),
        "mean of the last `period` values",
        warmup="period - 1",
    )
)
def sma(source: FloatColumn, length: int) -> FloatColumn:
    """Average the last `length` values (shape (n,); NaN before; TradingView Pine reference, ta.sma)."""
    return over_valid(_sma, (source,), length)


@native(
    Indicator(
        "ema",
        "averages",
        (SOURCE, period()),
        "Exponential moving average, seeded with the simple average of its first `period` values.",
        _PINE.format("ema"),
        "previous + 2 / (period + 1) * (source - previous)",
        warmup="period - 1",
    )
)
def ema(source: FloatColumn, length: int) -> FloatColumn:
    """Average exponentially, alpha 2 / (length + 1), SMA seed (shape (n,); NaN before; TradingView, ta.ema)."""
    return over_valid(_smooth, (source,), length, 2.0 / (length + 1))


@native(
    Indicator(
        "rma",
        "averages",
        (SOURCE, period()),
        "Wilder's smoothing, seeded with a simple average; what RSI and ATR use.",
        _PINE.format("rma"),
        "(previous * (period - 1) + source) / period",
        warmup="period - 1",
    )
)
def rma(source: FloatColumn, length: int) -> FloatColumn:
    """Average as Wilder does, SMA seed (shape (n,); NaN before; TradingView, ta.rma)."""
    return over_valid(_rma, (source,), length)


@native(
    Indicator(
        "wma",
        "averages",
        (SOURCE, period()),
        "Linearly weighted moving average; the latest bar weighs most.",
        _PINE.format("wma"),
        "sum(weight * value) / sum(weight), weights period .. 1",
        warmup="period - 1",
    )
)
def wma(source: FloatColumn, length: int) -> FloatColumn:
    """Average with weights length .. 1 (shape (n,); NaN before; TradingView, ta.wma)."""
    return over_valid(_wma, (source,), length)


@native(
    Indicator(
        "sum",
        "averages",
        (SOURCE, period()),
        "Sum of the last `period` values.",
        "TradingView Pine reference, math.sum",
        "source + source[1] + ... + source[period - 1]",
        warmup="period - 1",
    )
)
def rolling_sum(source: FloatColumn, length: int) -> FloatColumn:
    """Sum the last `length` values (shape (n,); NaN before; TradingView, math.sum)."""
    return over_valid(_rolling_sum, (source,), length)


composite(
    Indicator(
        "dema",
        "averages",
        (SOURCE, period()),
        "Double exponential moving average.",
        "Mulloy 1994, Technical Analysis of Stocks and Commodities 12:1",
        expansion="2 * ema(source, period) - ema(ema(source, period), period)",
    )
)
composite(
    Indicator(
        "tema",
        "averages",
        (SOURCE, period()),
        "Triple exponential moving average.",
        "Mulloy 1994, Technical Analysis of Stocks and Commodities 12:1",
        expansion="3 * ema(source, period) - 3 * ema(ema(source, period), period)"
        " + ema(ema(ema(source, period), period), period)",
    )
)
composite(
    Indicator(
        "hma",
        "averages",
        (SOURCE, period(minimum=2)),
        "Hull moving average.",
        _PINE.format("hma"),
        expansion="wma(2 * wma(source, floor(period / 2)) - wma(source, period), floor(sqrt(period)))",
    )
)
composite(
    Indicator(
        "vwma",
        "averages",
        (SOURCE, period()),
        "Volume-weighted moving average.",
        _PINE.format("vwma"),
        expansion="sma(source * volume, period) / sma(volume, period)",
    )
)
