"""Ranges, deviations and the bands made of them."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import SOURCE, Indicator, Parameter, composite, native, period


@kernel
def _true_range(high: FloatColumn, low: FloatColumn, close: FloatColumn) -> FloatColumn:
    result = np.empty(len(high))
    for row in range(len(high)):
        span = high[row] - low[row]
        if row > 0:
            span = max(span, abs(high[row] - close[row - 1]), abs(low[row] - close[row - 1]))
        result[row] = span
    return result


@kernel
def _stdev(values: FloatColumn, length: int) -> FloatColumn:
    # Sums of differences to a value of the window: no cancellation, started afresh once a window against drift.
    result = np.full(len(values), np.nan)
    origin = 0.0
    total = 0.0
    squares = 0.0
    equal = 0
    for row in range(len(values)):
        equal = equal + 1 if row > 0 and values[row] == values[row - 1] else 1
        if row < length - 1:
            continue
        if row % length == length - 1:
            origin = values[row]
            total = 0.0
            squares = 0.0
            for inside in range(row - length + 1, row + 1):
                difference = values[inside] - origin
                total += difference
                squares += difference * difference
        else:
            added = values[row] - origin
            removed = values[row - length] - origin
            total += added - removed
            squares += added * added - removed * removed
        if equal >= length:
            result[row] = 0.0
        else:
            result[row] = np.sqrt(max(squares - total * total / length, 0.0) / length)
    return result


@native(
    Indicator(
        "tr",
        "volatility",
        (),
        "True range; the first bar's is high - low.",
        "TradingView Pine reference, ta.tr(true); Wilder 1978",
        "max(high - low, abs(high - close[1]), abs(low - close[1]))",
        inputs=("high", "low", "close"),
    )
)
def true_range(high: FloatColumn, low: FloatColumn, close: FloatColumn) -> FloatColumn:
    """Return the true range in price units (shape (n,); first bar high - low; Wilder 1978)."""
    return over_valid(_true_range, (high, low, close))


@native(
    Indicator(
        "stdev",
        "volatility",
        (SOURCE, period()),
        "Standard deviation of the population (divided by `period`).",
        "TradingView Pine reference, ta.stdev",
        "sqrt(mean((value - mean) ** 2)) over `period` values",
        warmup="period - 1",
    )
)
def stdev(source: FloatColumn, length: int) -> FloatColumn:
    """Return the population standard deviation of the window (shape (n,); NaN before; TradingView, ta.stdev)."""
    return over_valid(_stdev, (source,), length)


composite(
    Indicator(
        "atr",
        "volatility",
        (period(14),),
        "Average true range in price units.",
        "TradingView Pine reference, ta.atr; Wilder 1978",
        expansion="rma(tr(), period)",
    )
)
composite(
    Indicator(
        "zscore",
        "volatility",
        (SOURCE, period(20)),
        "Distance from the mean in standard deviations; NaN where the window is flat.",
        "standard score over a rolling window, population deviation",
        expansion="(source - sma(source, period)) / stdev(source, period)",
    )
)

_BANDS = (SOURCE, period(20), Parameter("multiplier", "constant", 2.0, 0.0, 100.0))
_BOLLINGER = "Bollinger; TradingView Pine reference, ta.bb"
composite(
    Indicator(
        "bb_upper",
        "volatility",
        _BANDS,
        "Upper Bollinger band.",
        _BOLLINGER,
        expansion="sma(source, period) + multiplier * stdev(source, period)",
    )
)
composite(
    Indicator(
        "bb_middle",
        "volatility",
        _BANDS,
        "Middle Bollinger band (`multiplier` is accepted and not needed).",
        _BOLLINGER,
        expansion="sma(source, period)",
    )
)
composite(
    Indicator(
        "bb_lower",
        "volatility",
        _BANDS,
        "Lower Bollinger band.",
        _BOLLINGER,
        expansion="sma(source, period) - multiplier * stdev(source, period)",
    )
)
composite(
    Indicator(
        "bb_width",
        "volatility",
        _BANDS,
        "Distance between the bands as a fraction of the middle.",
        "TradingView Pine reference, ta.bbw (there in percent)",
        expansion="2 * multiplier * stdev(source, period) / sma(source, period)",
    )
)
composite(
    Indicator(
        "bb_percent",
        "volatility",
        _BANDS,
        "Place between the bands: 0 at the lower, 1 at the upper; NaN where the window is flat.",
        "Bollinger; TradingView built-in indicator Bollinger Bands %b",
        expansion="(source - (sma(source, period) - multiplier * stdev(source, period)))"
        " / (2 * multiplier * stdev(source, period))",
    )
)

_KELTNER = "TradingView Pine reference, ta.kc"
composite(
    Indicator(
        "keltner_upper",
        "volatility",
        _BANDS,
        "Upper Keltner line: EMA plus a multiple of the EMA of the true range.",
        _KELTNER,
        expansion="ema(source, period) + multiplier * ema(tr(), period)",
    )
)
composite(
    Indicator(
        "keltner_middle",
        "volatility",
        _BANDS,
        "Middle Keltner line (`multiplier` is accepted and not needed).",
        _KELTNER,
        expansion="ema(source, period)",
    )
)
composite(
    Indicator(
        "keltner_lower",
        "volatility",
        _BANDS,
        "Lower Keltner line: EMA minus a multiple of the EMA of the true range.",
        _KELTNER,
        expansion="ema(source, period) - multiplier * ema(tr(), period)",
    )
)
