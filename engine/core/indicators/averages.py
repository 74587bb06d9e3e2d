"""Moving averages."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid, telling_kernel
from engine.core.indicators.registry import MAX_SLOW_PERIOD, SOURCE, Indicator, Parameter, composite, native, period

_PINE = "TradingView Pine reference, ta.{}"


@telling_kernel
def _window_sums(result: FloatColumn, values: FloatColumn, length: int, divisor: float) -> bool:
    # A window is the tail of one block and the head of the next: two short sums, never a difference, so no drift. Four
    # blocks at once, because a sum waits for its last addition and eight of them do not wait for each other.
    span = 4 * length
    tails = np.zeros(span)
    heads = np.empty(span)
    finite = True
    for base in range(0, len(values), span):
        size = min(span, len(values) - base)
        if base > 0 and size == span:
            before = values[base - length : base + span]
            head0, head1, head2, head3 = 0.0, 0.0, 0.0, 0.0
            tail0, tail1, tail2, tail3 = 0.0, 0.0, 0.0, 0.0
            for inside in range(length):
                head0 += before[length + inside]
                head1 += before[2 * length + inside]
                head2 += before[3 * length + inside]
                head3 += before[4 * length + inside]
                heads[inside] = head0
                heads[length + inside] = head1
                heads[2 * length + inside] = head2
                heads[3 * length + inside] = head3
                back = length - 1 - inside
                tails[back] = tail0
                tails[length + back] = tail1
                tails[2 * length + back] = tail2
                tails[3 * length + back] = tail3
                tail0 += before[back]
                tail1 += before[length + back]
                tail2 += before[2 * length + back]
                tail3 += before[3 * length + back]
        else:
            for block in range(base, base + size, length):
                total = 0.0
                for inside in range(min(length, base + size - block)):
                    total += values[block + inside]
                    heads[block - base + inside] = total
                total = 0.0
                for back in range(length - 1, -1, -1):
                    tails[block - base + back] = total
                    if block > 0:
                        total += values[block - length + back]
        target = result[base : base + size]
        for inside in range(size):
            target[inside] = (tails[inside] + heads[inside]) / divisor
            finite &= np.abs(target[inside]) < np.inf
    result[: min(len(values), length - 1)] = np.nan
    return finite


@telling_kernel
def _smooth(result: FloatColumn, values: FloatColumn, length: int, weight: float) -> bool:
    # Four bars from one state: the sum of the new bars does not wait for the state, which shortens the chain.
    result[: min(len(values), length - 1)] = np.nan
    if len(values) < length:
        return True
    total = 0.0
    for row in range(length):
        total += values[row]
    state = total / length
    result[length - 1] = state
    decay = 1.0 - weight
    powers = np.array([decay, decay * decay, decay * decay * decay, decay * decay * decay * decay])
    tail = result[length:]
    source = values[length:]
    for base in range(0, len(tail) // 4 * 4, 4):
        given = source[base : base + 4]
        target = tail[base : base + 4]
        first = weight * given[0]
        second = decay * first + weight * given[1]
        third = decay * second + weight * given[2]
        fourth = decay * third + weight * given[3]
        target[0] = powers[0] * state + first
        target[1] = powers[1] * state + second
        target[2] = powers[2] * state + third
        state = powers[3] * state + fourth
        target[3] = state
    # The last bars exactly as they would be inside four: what comes later must not change them.
    fresh = 0.0
    for inside in range(len(tail) % 4):
        row = len(tail) // 4 * 4 + inside
        fresh = decay * fresh + weight * source[row]
        tail[row] = powers[inside] * state + fresh
    # What is not finite once stays so in the state.
    return np.isfinite(result[-1])


@kernel
def _wma(result: FloatColumn, values: FloatColumn, length: int) -> None:
    # Weighted tails of the block before, built backwards, and the weighted head of this block: sums only, no drift.
    result[: min(len(values), length - 1)] = np.nan
    divisor = length * (length + 1) / 2
    tails = np.zeros(length + 1)
    for base in range(0, len(values), length):
        size = min(length, len(values) - base)
        total = 0.0
        ordered = 0.0
        for inside in range(size):
            total += values[base + inside]
            ordered += (inside + 1) * values[base + inside]
            if base > 0 or inside == length - 1:
                result[base + inside] = (tails[inside] + ordered + (length - inside - 1) * total) / divisor
        if size == length:
            total = 0.0
            for inside in range(length - 1, 0, -1):
                total += values[base + inside]
                tails[inside - 1] = tails[inside] + total


@kernel
def _ema_chain(result: FloatColumn, values: FloatColumn, length: int, depth: int) -> None:
    # DEMA (depth 2) and TEMA (depth 3): the averages of averages in one pass, each seeded once it has `length` values.
    result[: min(len(values), depth * (length - 1))] = np.nan
    weight = 2.0 / (length + 1)
    first = 0.0
    second = 0.0
    third = 0.0
    for row in range(len(values)):
        if row < length:
            first += values[row] / length
        else:
            first += weight * (values[row] - first)
        if row < length - 1:
            continue
        if row < 2 * length - 1:
            second += first / length
        else:
            second += weight * (first - second)
        if row < 2 * length - 2:
            continue
        if depth == 2:
            result[row] = 2.0 * first - second
            continue
        if row < 3 * length - 2:
            third += second / length
        else:
            third += weight * (second - third)
        if row >= 3 * length - 3:
            result[row] = 3.0 * first - 3.0 * second + third


@kernel
def _kama(result: FloatColumn, values: FloatColumn, length: int, fast: int, slow: int) -> None:
    result[:] = np.nan
    if len(values) <= length:
        return
    quickest = 2.0 / (fast + 1)
    slowest = 2.0 / (slow + 1)
    path = 0.0
    average = values[length - 1]
    until_fresh = 0
    for row in range(length, len(values)):
        if until_fresh == 0:
            # A fresh sum once a window keeps rounding errors from piling up.
            path = 0.0
            for inside in range(row - length + 1, row + 1):
                path += abs(values[inside] - values[inside - 1])
            until_fresh = length
        else:
            path += abs(values[row] - values[row - 1]) - abs(values[row - length] - values[row - length - 1])
        until_fresh -= 1
        moved = abs(values[row] - values[row - length])
        efficiency = 1.0 if path <= moved else moved / path
        rate = efficiency * (quickest - slowest) + slowest
        average += rate * rate * (values[row] - average)
        result[row] = average


@kernel
def _weighted(result: FloatColumn, values: FloatColumn, weights: FloatColumn) -> None:
    result[:] = np.nan
    for row in range(len(weights) - 1, len(values)):
        total = 0.0
        for inside in range(len(weights)):
            total += weights[inside] * values[row - len(weights) + 1 + inside]
        result[row] = total


@native(
    Indicator(
        "sma",
        "averages",
        (SOURCE, period()),
        "Simple moving average.",
        _PINE.format("sma"),
        "mean of the last `period` values",
        warmup="period - 1",
        finite=True,
    )
)
def sma(source: FloatColumn, length: int) -> FloatColumn:
    """Average the last `length` values (shape (n,); NaN before; TradingView Pine reference, ta.sma)."""
    return over_valid(_window_sums, (source,), length, float(length))


@native(
    Indicator(
        "ema",
        "averages",
        (SOURCE, period()),
        "Exponential moving average, seeded with the simple average of its first `period` values.",
        _PINE.format("ema"),
        "previous + 2 / (period + 1) * (source - previous)",
        warmup="period - 1",
        finite=True,
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
        finite=True,
    )
)
def rma(source: FloatColumn, length: int) -> FloatColumn:
    """Average as Wilder does, SMA seed (shape (n,); NaN before; TradingView, ta.rma)."""
    return over_valid(_smooth, (source,), length, 1.0 / length)


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
        finite=True,
    )
)
def rolling_sum(source: FloatColumn, length: int) -> FloatColumn:
    """Sum the last `length` values (shape (n,); NaN before; TradingView, math.sum)."""
    return over_valid(_window_sums, (source,), length, 1.0)


@native(
    Indicator(
        "dema",
        "averages",
        (SOURCE, period()),
        "Double exponential moving average.",
        "Mulloy 1994, Technical Analysis of Stocks and Commodities 12:1",
        "2 * ema(source, period) - ema(ema(source, period), period)",
        warmup="2 * (period - 1)",
    )
)
def dema(source: FloatColumn, length: int) -> FloatColumn:
    """Return the double exponential average (shape (n,); NaN before; Mulloy 1994)."""
    return over_valid(_ema_chain, (source,), length, 2)


@native(
    Indicator(
        "tema",
        "averages",
        (SOURCE, period()),
        "Triple exponential moving average.",
        "Mulloy 1994, Technical Analysis of Stocks and Commodities 12:1",
        "3 * ema(source, period) - 3 * ema(ema(source, period), period) + ema(ema(ema(source, period), period), period)",
        warmup="3 * (period - 1)",
    )
)
def tema(source: FloatColumn, length: int) -> FloatColumn:
    """Return the triple exponential average (shape (n,); NaN before; Mulloy 1994)."""
    return over_valid(_ema_chain, (source,), length, 3)


@native(
    Indicator(
        "kama",
        "averages",
        (SOURCE, period(10), period(2, "fast"), period(30, "slow")),
        "Kaufman's adaptive moving average: quick in a straight market, slow in a choppy one.",
        "Kaufman 1995, Smarter Trading; seeded as TA-Lib does, with the value before the first",
        "previous + (efficiency * (2/(fast+1) - 2/(slow+1)) + 2/(slow+1)) ** 2 * (source - previous),"
        " efficiency = abs(source - source[period]) / sum(abs(change(source)), period)",
        warmup="period",
    )
)
def kama(source: FloatColumn, length: int, fast: int, slow: int) -> FloatColumn:
    """Return Kaufman's adaptive average (shape (n,); NaN for the first `length` bars; Kaufman 1995)."""
    return over_valid(_kama, (source,), length, fast, slow)


@native(
    Indicator(
        "alma",
        "averages",
        (
            SOURCE,
            period(9, maximum=MAX_SLOW_PERIOD),
            Parameter("offset", "constant", 0.85, 0.0, 1.0),
            Parameter("sigma", "constant", 6.0, 0.1, 100.0),
        ),
        "Arnaud Legoux moving average: Gaussian weights centred near the newest bar.",
        _PINE.format("alma"),
        "sum(weight * value) / sum(weight), weight = exp(-(i - offset * (period - 1)) ** 2 / (2 * (period / sigma) ** 2))",
        warmup="period - 1",
    )
)
def alma(source: FloatColumn, length: int, offset: float, sigma: float) -> FloatColumn:
    """Return the Gaussian-weighted average (shape (n,); NaN before; TradingView, ta.alma)."""
    weights = np.exp(-((np.arange(length) - offset * (length - 1)) ** 2) / (2 * (length / sigma) ** 2))
    return over_valid(_weighted, (source,), weights / weights.sum())


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
composite(
    Indicator(
        "trima",
        "averages",
        (SOURCE, period()),
        "Triangular moving average: the middle of the window weighs most.",
        "simple average of a simple average",
        expansion="sma(sma(source, ceil((period + 1) / 2)), floor((period + 1) / 2))",
    )
)
composite(
    Indicator(
        "zlema",
        "averages",
        (SOURCE, period()),
        "Zero-lag exponential average: the EMA of the value plus what it gained over half the period.",
        "Ehlers and Way 2010, Technical Analysis of Stocks and Commodities",
        expansion="ema(2 * source - source[floor((period - 1) / 2)], period)",
    )
)
