"""Indicators made of volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid
from engine.core.indicators.registry import Indicator, native
from engine.core.timeframes import DAY_MS


@kernel
def _obv(close: FloatColumn, volume: FloatColumn) -> FloatColumn:
    result = np.zeros(len(close))
    for row in range(1, len(close)):
        change = close[row] - close[row - 1]
        step = 0.0
        if change > 0.0:
            step = volume[row]
        elif change < 0.0:
            step = -volume[row]
        result[row] = result[row - 1] + step
    return result


@kernel
def _vwap(day: FloatColumn, starts: FloatColumn, price: FloatColumn, volume: FloatColumn) -> FloatColumn:
    result = np.full(len(price), np.nan)
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
    return result


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
