"""Oscillators and rates of change."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import MAX_SLOW_PERIOD, SOURCE, Indicator, composite, native, period


@kernel
def _rsi(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    gain = 0.0
    loss = 0.0
    for row in range(1, len(values)):
        change = values[row] - values[row - 1]
        rise = max(change, 0.0)
        fall = max(-change, 0.0)
        if row <= length:
            gain += rise
            loss += fall
            if row < length:
                continue
            gain /= length
            loss /= length
        else:
            gain = (gain * (length - 1) + rise) / length
            loss = (loss * (length - 1) + fall) / length
        if loss == 0.0:
            result[row] = 100.0
        else:
            result[row] = 100.0 - 100.0 / (1.0 + gain / loss)
    return result


@kernel
def _mean_deviation(values: FloatColumn, length: int) -> FloatColumn:
    result = np.full(len(values), np.nan)
    for row in range(length - 1, len(values)):
        total = 0.0
        for inside in range(row - length + 1, row + 1):
            total += values[inside]
        mean = total / length
        deviation = 0.0
        for inside in range(row - length + 1, row + 1):
            deviation += abs(values[inside] - mean)
        result[row] = deviation / length
    return result


@native(
    Indicator(
        "rsi",
        "momentum",
        (SOURCE, period(14)),
        "Relative strength index, 0 to 100; 100 where nothing fell, a flat market included.",
        "TradingView built-in indicator RSI; Wilder 1978",
        "100 - 100 / (1 + rma(rises, period) / rma(falls, period))",
        warmup="period",
    )
)
def rsi(source: FloatColumn, length: int) -> FloatColumn:
    """Return Wilder's relative strength index (shape (n,), 0..100; NaN for the first `length` bars; Wilder 1978)."""
    return over_valid(_rsi, (source,), length)


@native(
    Indicator(
        "mean_deviation",
        "momentum",
        (SOURCE, period(maximum=MAX_SLOW_PERIOD)),
        "Mean absolute deviation from the mean of the same window.",
        "TradingView Pine reference, ta.dev",
        "mean(abs(value - mean)) over `period` values",
        warmup="period - 1",
    )
)
def mean_deviation(source: FloatColumn, length: int) -> FloatColumn:
    """Return the mean absolute deviation of the window (shape (n,); NaN before; TradingView, ta.dev)."""
    return over_valid(_mean_deviation, (source,), length)


_MACD = "Appel; TradingView Pine reference, ta.macd"
_LINES = (SOURCE, period(12, "fast"), period(26, "slow"), period(9, "signal"))
_LINE = "ema(source, fast) - ema(source, slow)"
composite(
    Indicator(
        "macd",
        "momentum",
        _LINES,
        "MACD line: fast EMA minus slow EMA (`signal` is accepted and not needed).",
        _MACD,
        expansion=_LINE,
    )
)
composite(
    Indicator(
        "macd_signal",
        "momentum",
        _LINES,
        "MACD signal line: EMA of the MACD line.",
        _MACD,
        expansion=f"ema({_LINE}, signal)",
    )
)
composite(
    Indicator(
        "macd_hist",
        "momentum",
        _LINES,
        "MACD histogram: line minus signal line.",
        _MACD,
        expansion=f"({_LINE}) - ema({_LINE}, signal)",
    )
)

_STOCHASTIC = "Lane; TradingView Pine reference, ta.stoch"
_RAW = "100 * (close - lowest(low, period)) / (highest(high, period) - lowest(low, period))"
composite(
    Indicator(
        "stoch_k",
        "momentum",
        (period(14), period(1, "smoothing")),
        "Stochastic %K, 0 to 100, smoothed by a simple average; NaN where the window has no range.",
        _STOCHASTIC,
        expansion=f"sma({_RAW}, smoothing)",
    )
)
composite(
    Indicator(
        "stoch_d",
        "momentum",
        (period(14), period(1, "smoothing"), period(3, "signal")),
        "Stochastic %D: simple average of %K.",
        _STOCHASTIC,
        expansion=f"sma(sma({_RAW}, smoothing), signal)",
    )
)
composite(
    Indicator(
        "cci",
        "momentum",
        (SOURCE, period(20, maximum=MAX_SLOW_PERIOD)),
        "Commodity channel index; NaN where the window is flat.",
        "Lambert 1980; TradingView Pine reference, ta.cci",
        expansion="(source - sma(source, period)) / (0.015 * mean_deviation(source, period))",
    )
)
composite(
    Indicator(
        "williams_r",
        "momentum",
        (period(14),),
        "Williams %R, -100 to 0; NaN where the window has no range.",
        "TradingView Pine reference, ta.wpr",
        expansion="100 * (close - highest(high, period)) / (highest(high, period) - lowest(low, period))",
    )
)
composite(
    Indicator(
        "roc",
        "momentum",
        (SOURCE, period(9)),
        "Rate of change in percent.",
        "TradingView Pine reference, ta.roc",
        expansion="100 * (source - source[period]) / source[period]",
    )
)
composite(
    Indicator(
        "momentum",
        "momentum",
        (SOURCE, period(10)),
        "Difference to the value `period` bars ago.",
        "TradingView Pine reference, ta.mom",
        expansion="source - source[period]",
    )
)
