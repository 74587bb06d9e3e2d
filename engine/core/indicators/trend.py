"""Trend strength and trend-following stops."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.averages import rma
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import Indicator, Parameter, composite, native, period
from engine.core.indicators.volatility import true_range


@kernel
def _directional(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int, rising: int) -> FloatColumn:
    # Movement and range start at the second bar, where a previous one exists (TradingView, ta.dmi).
    result = np.full(len(high), np.nan)
    movement = 0.0
    span = 0.0
    value = 0.0
    for row in range(1, len(high)):
        up = high[row] - high[row - 1]
        down = low[row - 1] - low[row]
        mine, other = (up, down) if rising == 1 else (down, up)
        moved = mine if mine > other and mine > 0.0 else 0.0
        ranged = max(high[row] - low[row], abs(high[row] - close[row - 1]), abs(low[row] - close[row - 1]))
        if row <= length:
            movement += moved
            span += ranged
            if row < length:
                continue
            movement /= length
            span /= length
        else:
            movement = (movement * (length - 1) + moved) / length
            span = (span * (length - 1) + ranged) / length
        if span > 0.0:
            value = 100.0 * movement / span
        result[row] = value
    return result


@kernel
def _supertrend(middle: FloatColumn, close: FloatColumn, width: FloatColumn, direction_only: int) -> FloatColumn:
    result = np.full(len(middle), np.nan)
    upper = 0.0
    lower = 0.0
    falling = True
    for row in range(len(middle)):
        new_upper = middle[row] + width[row]
        new_lower = middle[row] - width[row]
        if row > 0:
            if not (new_lower > lower or close[row - 1] < lower):
                new_lower = lower
            if not (new_upper < upper or close[row - 1] > upper):
                new_upper = upper
            falling = close[row] <= new_upper if falling else close[row] < new_lower
        upper = new_upper
        lower = new_lower
        if direction_only == 1:
            result[row] = -1.0 if falling else 1.0
        else:
            result[row] = upper if falling else lower
    return result


_DMI = "Wilder 1978; TradingView Pine reference, ta.dmi"


@native(
    Indicator(
        "plus_di",
        "trend",
        (period(14),),
        "Positive directional indicator, 0 to 100.",
        _DMI,
        "100 * rma(upward movement, period) / rma(true range, period)",
        warmup="period",
        inputs=("high", "low", "close"),
    )
)
def plus_di(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> FloatColumn:
    """Return +DI (shape (n,), 0..100; NaN for the first `length` bars; the last value where there is no range)."""
    return over_valid(_directional, (high, low, close), length, 1)


@native(
    Indicator(
        "minus_di",
        "trend",
        (period(14),),
        "Negative directional indicator, 0 to 100.",
        _DMI,
        "100 * rma(downward movement, period) / rma(true range, period)",
        warmup="period",
        inputs=("high", "low", "close"),
    )
)
def minus_di(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> FloatColumn:
    """Return -DI (shape (n,), 0..100; NaN for the first `length` bars; the last value where there is no range)."""
    return over_valid(_directional, (high, low, close), length, 0)


composite(
    Indicator(
        "adx",
        "trend",
        (period(14), period(14, "smoothing")),
        "Average directional index, 0 to 100: strength of the trend, not its direction.",
        _DMI,
        expansion="100 * rma(abs(plus_di(period) - minus_di(period))"
        " / where(plus_di(period) + minus_di(period) == 0, 1, plus_di(period) + minus_di(period)), smoothing)",
    )
)

_SUPERTREND = "TradingView Pine reference, ta.supertrend"
_SUPERTREND_PARAMETERS = (Parameter("multiplier", "constant", 3.0, 0.01, 100.0), period(10))


def _supertrend_of(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, multiplier: float, length: int, direction_only: int
) -> FloatColumn:
    width = multiplier * rma(true_range(high, low, close), length)
    return over_valid(_supertrend, ((high + low) / 2, close, width), direction_only)


@native(
    Indicator(
        "supertrend",
        "trend",
        _SUPERTREND_PARAMETERS,
        "Supertrend line: below the price while it rises, above while it falls.",
        _SUPERTREND,
        "hl2 -/+ multiplier * atr(period), ratcheted towards the price",
        warmup="period - 1",
        inputs=("high", "low", "close"),
    )
)
def supertrend(high: FloatColumn, low: FloatColumn, close: FloatColumn, multiplier: float, length: int) -> FloatColumn:
    """Return the Supertrend line in price units (shape (n,); NaN before; TradingView, ta.supertrend)."""
    return _supertrend_of(high, low, close, multiplier, length, 0)


@native(
    Indicator(
        "supertrend_direction",
        "trend",
        _SUPERTREND_PARAMETERS,
        "1 while Supertrend rises, -1 while it falls (TradingView's direction has the opposite sign).",
        _SUPERTREND,
        "1 if the line is below the price else -1",
        warmup="period - 1",
        inputs=("high", "low", "close"),
    )
)
def supertrend_direction(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, multiplier: float, length: int
) -> FloatColumn:
    """Return 1 in a rising and -1 in a falling Supertrend (shape (n,); NaN before)."""
    return _supertrend_of(high, low, close, multiplier, length, 1)
