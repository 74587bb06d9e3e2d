"""Indicators made of volume."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import SOURCE, Indicator, composite, native, period
from engine.core.timeframes import DAY_MS


@kernel
def _obv(result: FloatColumn, close: FloatColumn, volume: FloatColumn) -> None:
    result[:] = 0.0
    for row in range(1, len(close)):
        change = close[row] - close[row - 1]
        step = 0.0
        if change > 0.0:
            step = volume[row]
        elif change < 0.0:
            step = -volume[row]
        result[row] = result[row - 1] + step


@kernel
def _vwap(result: FloatColumn, day: FloatColumn, starts: FloatColumn, price: FloatColumn, volume: FloatColumn) -> None:
    result[:] = np.nan
    money = 0.0
    traded = 0.0
    whole = False
    for row in range(len(price)):
        if row == 0 or day[row] != day[row - 1]:
            # The first day of the data counts only if it is there from its start.
            whole = row > 0 or starts[row] == 1.0
            money = 0.0
            traded = 0.0
        money += price[row] * volume[row]
        traded += volume[row]
        if whole and traded > 0.0:
            result[row] = money / traded


@native(
    Indicator(
        "obv",
        "volume",
        (),
        "On-balance volume; its level depends on where the data starts, its changes do not.",
        "Granville 1963; TradingView Pine reference, ta.obv",
        "previous + sign(change(close)) * volume, 0 on the first bar",
        inputs=("close", "volume"),
    )
)
def obv(close: FloatColumn, volume: FloatColumn) -> FloatColumn:
    """Return on-balance volume in volume units (shape (n,); 0 on the first bar; Granville 1963)."""
    return over_valid(_obv, (close, volume))


@native(
    Indicator(
        "vwap",
        "volume",
        (),
        "Volume-weighted average price since 00:00 UTC; NaN until the data holds a day's start.",
        "TradingView Pine reference, ta.vwap (daily anchor)",
        "sum(hlc3 * volume) / sum(volume) since 00:00 UTC",
        inputs=("ts", "high", "low", "close", "volume"),
    )
)
def vwap(
    ts: NDArray[np.int64], high: FloatColumn, low: FloatColumn, close: FloatColumn, volume: FloatColumn
) -> FloatColumn:
    """Return the day's volume-weighted price (shape (n,), price units; NaN before the first day's start)."""
    day = (ts // DAY_MS).astype(np.float64)
    starts = (ts % DAY_MS == 0).astype(np.float64)
    return over_valid(_vwap, (day, starts, (high + low + close) / 3.0, volume))


@kernel
def _money_flow(result: FloatColumn, price: FloatColumn, volume: FloatColumn, length: int) -> None:
    # Both sums by blocks: tails of the block before, head of this one.
    result[: min(len(price), length)] = np.nan
    risen_tails = np.zeros(length + 1)
    fallen_tails = np.zeros(length + 1)
    for base in range(1, len(price), length):
        size = min(length, len(price) - base)
        if base > 1:
            risen = 0.0
            fallen = 0.0
            for inside in range(length - 1, 0, -1):
                row = base - length + inside
                flow = price[row] * volume[row]
                risen += flow if price[row] > price[row - 1] else 0.0
                fallen += flow if price[row] < price[row - 1] else 0.0
                risen_tails[inside] = risen
                fallen_tails[inside] = fallen
        risen = 0.0
        fallen = 0.0
        for inside in range(size):
            row = base + inside
            flow = price[row] * volume[row]
            risen += flow if price[row] > price[row - 1] else 0.0
            fallen += flow if price[row] < price[row - 1] else 0.0
            if row >= length:
                up = risen + risen_tails[inside + 1]
                down = fallen + fallen_tails[inside + 1]
                result[row] = 100.0 * up / (up + down) if up + down > 0.0 else np.nan


@kernel
def _accumulation(
    result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn, volume: FloatColumn
) -> None:
    total = 0.0
    for row in range(len(high)):
        span = high[row] - low[row]
        if span > 0.0:
            total += ((close[row] - low[row]) - (high[row] - close[row])) / span * volume[row]
        result[row] = total


_HLCV = ("high", "low", "close", "volume")


@native(
    Indicator(
        "mfi",
        "volume",
        (SOURCE, period(14)),
        "Money flow index, 0 to 100: RSI of volume-weighted moves; NaN where nothing flowed. Usually of hlc3.",
        "Quong and Soudack 1989; TradingView Pine reference, ta.mfi",
        "100 * risen / (risen + fallen), sums of source * volume over bars on which source rose or fell",
        warmup="period",
        inputs=("volume",),
    )
)
def mfi(volume: FloatColumn, source: FloatColumn, length: int) -> FloatColumn:
    """Return the money flow index (shape (n,), 0..100; NaN for the first `length` bars; Quong and Soudack 1989)."""
    return over_valid(_money_flow, (source, volume), length)


@native(
    Indicator(
        "accumulation_distribution",
        "volume",
        (),
        "Accumulation/distribution line; its level depends on where the data starts, its changes do not.",
        "Chaikin; TradingView Pine reference, ta.accdist",
        "previous + ((close - low) - (high - close)) / (high - low) * volume",
        inputs=_HLCV,
    )
)
def accumulation_distribution(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, volume: FloatColumn
) -> FloatColumn:
    """Return the accumulation/distribution line in volume units (shape (n,); Chaikin)."""
    return over_valid(_accumulation, (high, low, close, volume))


composite(
    Indicator(
        "chaikin_oscillator",
        "volume",
        (period(3, "fast"), period(10, "slow")),
        "Fast minus slow EMA of the accumulation/distribution line.",
        "Chaikin; TradingView built-in indicator Chaikin Oscillator",
        expansion="ema(accumulation_distribution(), fast) - ema(accumulation_distribution(), slow)",
    )
)
composite(
    Indicator(
        "cmf",
        "volume",
        (period(20),),
        "Chaikin money flow, -1 to 1.",
        "Chaikin; TradingView built-in indicator Chaikin Money Flow",
        expansion="sum(where(high == low, 0, (2 * close - low - high) / (high - low)) * volume, period)"
        " / sum(volume, period)",
    )
)
composite(
    Indicator(
        "rolling_vwap",
        "volume",
        (period(20),),
        "Volume-weighted average of hlc3 over `period` bars.",
        "volume-weighted average price over a rolling window",
        expansion="sum((high + low + close) / 3 * volume, period) / sum(volume, period)",
    )
)
composite(
    Indicator(
        "force_index",
        "volume",
        (period(13),),
        "EMA of price change times volume.",
        "Elder 1993; TradingView built-in indicator Elder Force Index",
        expansion="ema(change(close) * volume, period)",
    )
)
composite(
    Indicator(
        "ease_of_movement",
        "volume",
        (period(14),),
        "How far hl2 moved per volume and range.",
        "Arms; TradingView built-in indicator Ease of Movement (divisor 10000)",
        expansion="sma(10000 * change((high + low) / 2) * (high - low) / volume, period)",
    )
)
composite(
    Indicator(
        "volume_oscillator",
        "volume",
        (period(5, "short"), period(10, "long")),
        "Short EMA of the volume above the long one, in percent.",
        "TradingView built-in indicator Volume Oscillator",
        expansion="100 * (ema(volume, short) - ema(volume, long)) / ema(volume, long)",
    )
)
