"""Lines fitted to a window, and the rank of a value in it."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import MAX_SLOW_PERIOD, SOURCE, Indicator, native, period


@kernel
def _fit(result: FloatColumn, values: FloatColumn, length: int, wanted: int) -> None:
    # Sums of a window as tails of the block before and head of this one, of differences to the value before the block:
    # no cancellation, no drift. `wanted`: 0 the end of the line, 1 its slope, 2 its share of the variance.
    result[: min(len(values), length - 1)] = np.nan
    tails = np.zeros(length + 1)
    ordered_tails = np.zeros(length + 1)
    square_tails = np.zeros(length + 1)
    middle = (length - 1) / 2.0
    spread = length * (length * length - 1.0) / 12.0
    equal = 0
    previous = np.nan
    for base in range(0, len(values), length):
        size = min(length, len(values) - base)
        origin = values[0] if base == 0 else values[base - 1]
        if base > 0:
            total = 0.0
            squares = 0.0
            for inside in range(length - 1, 0, -1):
                difference = values[base - length + inside] - origin
                total += difference
                squares += difference * difference
                tails[inside] = total
                square_tails[inside] = squares
                # Position 0 is the oldest bar of the window that ends at `inside - 1` of the next block.
                ordered_tails[inside] = ordered_tails[inside + 1] + tails[inside + 1] if inside < length - 1 else 0.0
        total = 0.0
        ordered = 0.0
        squares = 0.0
        for inside in range(size):
            value = values[base + inside]
            equal = equal + 1 if value == previous else 1
            previous = value
            difference = value - origin
            total += difference
            ordered += inside * difference
            squares += difference * difference
            if base == 0 and inside < length - 1:
                continue
            whole = total + tails[inside + 1]
            placed = ordered + (length - 1 - inside) * total + ordered_tails[inside + 1]
            shared = placed - middle * whole
            slope = 0.0 if equal >= length else shared / spread
            mean = whole / length
            if wanted == 0:
                result[base + inside] = origin + mean + slope * middle
            elif wanted == 1:
                result[base + inside] = slope
            else:
                variance = squares + square_tails[inside + 1] - whole * mean
                flat = equal >= length or variance <= 0.0
                result[base + inside] = np.nan if flat else min(shared * shared / (spread * variance), 1.0)


@kernel
def _rank(result: FloatColumn, values: FloatColumn, length: int) -> None:
    result[: min(len(values), length)] = np.nan
    for row in range(length, len(values)):
        below = 0
        for inside in range(row - length, row):
            if values[inside] <= values[row]:
                below += 1
        result[row] = 100.0 * below / length


_LINE = "least squares of `period` values on the bar number"


@native(
    Indicator(
        "linreg",
        "statistics",
        (SOURCE, period(14, minimum=2)),
        "End of the straight line fitted to the last `period` values.",
        "TradingView Pine reference, ta.linreg (offset 0)",
        f"intercept + slope * (period - 1), {_LINE}",
        warmup="period - 1",
    )
)
def linreg(source: FloatColumn, length: int) -> FloatColumn:
    """Return the end of the fitted line (shape (n,), unit of the source; NaN before; TradingView, ta.linreg)."""
    return over_valid(_fit, (source,), length, 0)


@native(
    Indicator(
        "linreg_slope",
        "statistics",
        (SOURCE, period(14, minimum=2)),
        "Slope of the straight line fitted to the last `period` values, per bar.",
        "least squares; TA-Lib LINEARREG_SLOPE",
        f"slope, {_LINE}",
        warmup="period - 1",
    )
)
def linreg_slope(source: FloatColumn, length: int) -> FloatColumn:
    """Return the slope per bar of the fitted line (shape (n,); NaN before; least squares)."""
    return over_valid(_fit, (source,), length, 1)


@native(
    Indicator(
        "linreg_r2",
        "statistics",
        (SOURCE, period(14, minimum=2)),
        "Share of the variance a straight line explains, 0 to 1; NaN where the window is flat.",
        "least squares, coefficient of determination",
        f"1 - residual variance / variance, {_LINE}",
        warmup="period - 1",
    )
)
def linreg_r2(source: FloatColumn, length: int) -> FloatColumn:
    """Return the coefficient of determination (shape (n,), 0..1; NaN before and in flat windows; least squares)."""
    return over_valid(_fit, (source,), length, 2)


@native(
    Indicator(
        "percent_rank",
        "statistics",
        (SOURCE, period(100, maximum=MAX_SLOW_PERIOD)),
        "Percent of the `period` values before this one that are not above it.",
        "TradingView Pine reference, ta.percentrank",
        "100 * count(source[1..period] <= source) / period",
        warmup="period",
    )
)
def percent_rank(source: FloatColumn, length: int) -> FloatColumn:
    """Return the rank among the last values in percent (shape (n,), 0..100; NaN before; TradingView)."""
    return over_valid(_rank, (source,), length)
