"""Trend strength and trend-following stops."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import Indicator, Parameter, composite, native, period
from engine.core.indicators.volatility import atr


@kernel
def _directional(
    result: FloatColumn,
    high: FloatColumn,
    low: FloatColumn,
    close: FloatColumn,
    length: int,
    smoothing: int,
    wanted: int,
) -> None:
    # Movement and range start at the second bar, where a previous one exists (TradingView, ta.dmi).
    # `wanted`: 1 the rising side, -1 the falling side, 0 the average of their distance.
    result[:] = np.nan
    upward = 0.0
    downward = 0.0
    span = 0.0
    value = 0.0
    average = 0.0
    weight = 1.0 / length
    decay = 1.0 - weight
    smooth_weight = 1.0 / smoothing
    settled = length + smoothing - 1
    for row in range(1, len(high)):
        up = high[row] - high[row - 1]
        down = low[row - 1] - low[row]
        rose = up if up > down and up > 0.0 else 0.0
        fell = down if down > up and down > 0.0 else 0.0
        top = high[row] if high[row] > close[row - 1] else close[row - 1]
        bottom = low[row] if low[row] < close[row - 1] else close[row - 1]
        if row <= length:
            upward += rose / length
            downward += fell / length
            span += (top - bottom) / length
            if row < length:
                continue
        else:
            upward = decay * upward + weight * rose
            downward = decay * downward + weight * fell
            span = decay * span + weight * (top - bottom)
        if wanted == 0:
            both = upward + downward
            distance = 100.0 * abs(upward - downward) / both if both > 0.0 else 0.0
            if row <= settled:
                average += distance / smoothing
            else:
                average += smooth_weight * (distance - average)
            if row >= settled:
                result[row] = average
        else:
            if span > 0.0:
                value = 100.0 * (upward if wanted == 1 else downward) / span
            result[row] = value


@kernel
def _supertrend(
    result: FloatColumn, middle: FloatColumn, close: FloatColumn, width: FloatColumn, direction_only: int
) -> None:
    result[:] = np.nan
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
    return over_valid(_directional, (high, low, close), length, 1, 1)


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
    return over_valid(_directional, (high, low, close), length, 1, -1)


@native(
    Indicator(
        "adx",
        "trend",
        (period(14), period(14, "smoothing")),
        "Average directional index, 0 to 100: strength of the trend, not its direction.",
        _DMI,
        "100 * rma(abs(plus_di(period) - minus_di(period)) / (plus_di(period) + minus_di(period)), smoothing)",
        warmup="period + smoothing - 1",
        inputs=("high", "low", "close"),
    )
)
def adx(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int, smoothing: int) -> FloatColumn:
    """Return the average directional index (shape (n,), 0..100; NaN before; 0 where nothing moved; Wilder 1978)."""
    return over_valid(_directional, (high, low, close), length, smoothing, 0)


@kernel
def _bars_since_extreme(result: FloatColumn, values: FloatColumn, length: int, sign: float) -> None:
    # Of equal extremes the latest counts. The one kept falls out of the window rarely, so the search is short.
    result[: min(len(values), length)] = np.nan
    rows = np.empty(max(len(values), 1), np.int64)
    head = 0
    tail = 0
    for row in range(len(values)):
        value = sign * values[row]
        while tail > head and sign * values[rows[tail - 1]] <= value:
            tail -= 1
        rows[tail] = row
        tail += 1
        if rows[head] < row - length:
            head += 1
        if row >= length:
            result[row] = row - rows[head]


@kernel
def _parabolic(
    result: FloatColumn,
    high: FloatColumn,
    low: FloatColumn,
    close: FloatColumn,
    start: float,
    increment: float,
    maximum: float,
) -> None:
    result[:] = np.nan
    if len(high) < 2:
        return
    rising = close[1] > close[0]
    extreme = high[1] if rising else low[1]
    stop = low[0] if rising else high[0]
    speed = start
    for row in range(1, len(high)):
        turned = row == 1
        stop += speed * (extreme - stop)
        if rising and stop > low[row]:
            turned, rising = True, False
            stop, extreme, speed = max(high[row], extreme), low[row], start
        elif not rising and stop < high[row]:
            turned, rising = True, True
            stop, extreme, speed = min(low[row], extreme), high[row], start
        if not turned:
            if rising and high[row] > extreme:
                extreme = high[row]
                speed = min(speed + increment, maximum)
            elif not rising and low[row] < extreme:
                extreme = low[row]
                speed = min(speed + increment, maximum)
        if rising:
            stop = min(stop, low[row - 1], low[max(row - 2, 0)])
        else:
            stop = max(stop, high[row - 1], high[max(row - 2, 0)])
        result[row] = stop


_AROON = "Chande 1995; TradingView built-in indicator Aroon"


@native(
    Indicator(
        "aroon_up",
        "trend",
        (period(14),),
        "Aroon up, 0 to 100: 100 on the bar of the highest high of `period + 1` bars.",
        _AROON,
        "100 * (period - bars since the highest high of period + 1 bars) / period",
        warmup="period",
        inputs=("high",),
    )
)
def aroon_up(high: FloatColumn, length: int) -> FloatColumn:
    """Return Aroon up (shape (n,), 0..100; NaN for the first `length` bars; Chande 1995)."""
    return 100.0 * (length - over_valid(_bars_since_extreme, (high,), length, 1.0)) / length


@native(
    Indicator(
        "aroon_down",
        "trend",
        (period(14),),
        "Aroon down, 0 to 100: 100 on the bar of the lowest low of `period + 1` bars.",
        _AROON,
        "100 * (period - bars since the lowest low of period + 1 bars) / period",
        warmup="period",
        inputs=("low",),
    )
)
def aroon_down(low: FloatColumn, length: int) -> FloatColumn:
    """Return Aroon down (shape (n,), 0..100; NaN for the first `length` bars; Chande 1995)."""
    return 100.0 * (length - over_valid(_bars_since_extreme, (low,), length, -1.0)) / length


composite(
    Indicator(
        "aroon_oscillator",
        "trend",
        (period(14),),
        "Aroon up minus Aroon down, -100 to 100.",
        _AROON,
        expansion="aroon_up(period) - aroon_down(period)",
    )
)


@native(
    Indicator(
        "psar",
        "trend",
        (
            Parameter("start", "constant", 0.02, 0.0001, 1.0),
            Parameter("increment", "constant", 0.02, 0.0, 1.0),
            Parameter("maximum", "constant", 0.2, 0.0001, 1.0),
        ),
        "Parabolic stop and reverse: below the price in a rise, above it in a fall.",
        "Wilder 1978; TradingView Pine reference, ta.sar",
        "previous + acceleration * (extreme - previous), kept beyond the last two bars",
        warmup="1",
        inputs=("high", "low", "close"),
    )
)
def psar(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, start: float, increment: float, maximum: float
) -> FloatColumn:
    """Return the parabolic stop in price units (shape (n,); NaN on the first bar; TradingView, ta.sar)."""
    return over_valid(_parabolic, (high, low, close), start, increment, maximum)


_VORTEX = "Botes and Siepman 2010; TradingView built-in indicator Vortex"
composite(
    Indicator(
        "vortex_plus",
        "trend",
        (period(14),),
        "Upward vortex movement as a share of the true range.",
        _VORTEX,
        expansion="sum(abs(high - low[1]), period) / sum(tr(), period)",
    )
)
composite(
    Indicator(
        "vortex_minus",
        "trend",
        (period(14),),
        "Downward vortex movement as a share of the true range.",
        _VORTEX,
        expansion="sum(abs(low - high[1]), period) / sum(tr(), period)",
    )
)

_SUPERTREND = "TradingView Pine reference, ta.supertrend"
_SUPERTREND_PARAMETERS = (Parameter("multiplier", "constant", 3.0, 0.01, 100.0), period(10))


def _supertrend_of(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, multiplier: float, length: int, direction_only: int
) -> FloatColumn:
    width = multiplier * atr(high, low, close, length)
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
