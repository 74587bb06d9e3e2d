"""Oscillators and rates of change."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.averages import sma
from engine.core.indicators.kernels import kernel, over_valid, over_valid_together, telling_kernel
from engine.core.indicators.registry import MAX_SLOW_PERIOD, SOURCE, Indicator, composite, native, period


@telling_kernel
def _rsi(  # noqa: PLR0915 - one loop
    result: FloatColumn, values: FloatColumn, length: int
) -> bool:
    # Four bars from one state, as in the averages: the chain of a bar waiting for the last one is the whole cost. The
    # divisions follow in a loop the compiler makes vectors of.
    result[: min(len(values), length)] = np.nan
    if len(values) <= length:
        return True
    gain = 0.0
    loss = 0.0
    for row in range(1, length + 1):
        change = values[row] - values[row - 1]
        rise = change if change > 0.0 else 0.0
        gain += rise
        loss += rise - change
    gain /= length
    loss /= length
    result[length] = 100.0 if loss == 0.0 else 100.0 * gain / (gain + loss)
    weight = 1.0 / length
    decay = 1.0 - weight
    powers = np.array([decay, decay * decay, decay * decay * decay, decay * decay * decay * decay])
    tail = result[length + 1 :]
    source = values[length:]
    gains = np.empty(512)
    losses = np.empty(512)
    rises = np.empty(512)
    falls = np.empty(512)
    for start in range(0, len(tail), 512):
        target = tail[start : start + 512]
        before = source[start : start + len(target)]
        after = source[start + 1 : start + 1 + len(target)]
        for inside in range(len(target)):
            change = after[inside] - before[inside]
            rise = change if change > 0.0 else 0.0
            rises[inside] = weight * rise
            falls[inside] = weight * (rise - change)
        for base in range(0, len(target) // 4 * 4, 4):
            up, down = rises[base : base + 4], falls[base : base + 4]
            gained, lost = gains[base : base + 4], losses[base : base + 4]
            up1 = decay * up[0] + up[1]
            up2 = decay * up1 + up[2]
            up3 = decay * up2 + up[3]
            down1 = decay * down[0] + down[1]
            down2 = decay * down1 + down[2]
            down3 = decay * down2 + down[3]
            gained[0] = powers[0] * gain + up[0]
            gained[1] = powers[1] * gain + up1
            gained[2] = powers[2] * gain + up2
            gain = powers[3] * gain + up3
            gained[3] = gain
            lost[0] = powers[0] * loss + down[0]
            lost[1] = powers[1] * loss + down1
            lost[2] = powers[2] * loss + down2
            loss = powers[3] * loss + down3
            lost[3] = loss
        # The last bars exactly as they would be inside four: what comes later must not change them.
        new_gain = 0.0
        new_loss = 0.0
        for inside in range(len(target) % 4):
            row = len(target) // 4 * 4 + inside
            new_gain = decay * new_gain + rises[row]
            new_loss = decay * new_loss + falls[row]
            gains[row] = powers[inside] * gain + new_gain
            losses[row] = powers[inside] * loss + new_loss
        for inside in range(len(target)):
            share = 100.0 * gains[inside] / (gains[inside] + losses[inside])
            target[inside] = share if losses[inside] != 0.0 else 100.0
    # What is missing once stays so in the average of the falls.
    return np.isfinite(result[-1])


@telling_kernel
def _macd(  # noqa: C901, PLR0912, PLR0915 - three averages in one loop
    line: FloatColumn,
    trigger: FloatColumn,
    histogram: FloatColumn,
    values: FloatColumn,
    fast: int,
    slow: int,
    signal: int,
) -> bool:
    # A column that is not wanted has no rows. Four bars from one state, as in the averages.
    quick_weight = 2.0 / (fast + 1)
    lazy_weight = 2.0 / (slow + 1)
    smooth_weight = 2.0 / (signal + 1)
    first = max(fast, slow) - 1
    settled = first + signal - 1
    quick = 0.0
    lazy = 0.0
    smooth = 0.0
    spread = 0.0
    for row in range(min(settled + 1, len(values))):
        quick += values[row] / fast if row < fast else quick_weight * (values[row] - quick)
        lazy += values[row] / slow if row < slow else lazy_weight * (values[row] - lazy)
        spread = quick - lazy
        smooth += spread / signal if row >= first else 0.0
        if len(line):
            line[row] = spread if row >= first else np.nan
        if len(trigger):
            trigger[row] = smooth if row == settled else np.nan
        if len(histogram):
            histogram[row] = spread - smooth if row == settled else np.nan
    source = values[min(settled + 1, len(values)) :]
    rows = len(source)
    spreads = np.empty(512)
    smooths = np.empty(512)
    quick_decay = 1.0 - quick_weight
    lazy_decay = 1.0 - lazy_weight
    smooth_decay = 1.0 - smooth_weight
    quick_powers = np.array([quick_decay, quick_decay**2, quick_decay**3, quick_decay**4])
    lazy_powers = np.array([lazy_decay, lazy_decay**2, lazy_decay**3, lazy_decay**4])
    smooth_powers = np.array([smooth_decay, smooth_decay**2, smooth_decay**3, smooth_decay**4])
    for start in range(0, rows, 512):
        size = min(512, rows - start)
        part = source[start : start + size]
        for base in range(0, size // 4 * 4, 4):
            given = part[base : base + 4]
            quick0 = quick_weight * given[0]
            quick1 = quick_decay * quick0 + quick_weight * given[1]
            quick2 = quick_decay * quick1 + quick_weight * given[2]
            quick3 = quick_decay * quick2 + quick_weight * given[3]
            lazy0 = lazy_weight * given[0]
            lazy1 = lazy_decay * lazy0 + lazy_weight * given[1]
            lazy2 = lazy_decay * lazy1 + lazy_weight * given[2]
            lazy3 = lazy_decay * lazy2 + lazy_weight * given[3]
            target = spreads[base : base + 4]
            target[0] = (quick_powers[0] * quick + quick0) - (lazy_powers[0] * lazy + lazy0)
            target[1] = (quick_powers[1] * quick + quick1) - (lazy_powers[1] * lazy + lazy1)
            target[2] = (quick_powers[2] * quick + quick2) - (lazy_powers[2] * lazy + lazy2)
            quick = quick_powers[3] * quick + quick3
            lazy = lazy_powers[3] * lazy + lazy3
            target[3] = quick - lazy
        # The last bars exactly as they would be inside four: what comes later must not change them.
        new_quick = 0.0
        new_lazy = 0.0
        for inside in range(size % 4):
            row = size // 4 * 4 + inside
            new_quick = quick_decay * new_quick + quick_weight * part[row]
            new_lazy = lazy_decay * new_lazy + lazy_weight * part[row]
            spreads[row] = (quick_powers[inside] * quick + new_quick) - (lazy_powers[inside] * lazy + new_lazy)
        if len(line):
            over = line[settled + 1 + start : settled + 1 + start + size]
            for inside in range(size):
                over[inside] = spreads[inside]
        if len(trigger) or len(histogram):
            for base in range(0, size // 4 * 4, 4):
                given = spreads[base : base + 4]
                target = smooths[base : base + 4]
                smooth0 = smooth_weight * given[0]
                smooth1 = smooth_decay * smooth0 + smooth_weight * given[1]
                smooth2 = smooth_decay * smooth1 + smooth_weight * given[2]
                smooth3 = smooth_decay * smooth2 + smooth_weight * given[3]
                target[0] = smooth_powers[0] * smooth + smooth0
                target[1] = smooth_powers[1] * smooth + smooth1
                target[2] = smooth_powers[2] * smooth + smooth2
                smooth = smooth_powers[3] * smooth + smooth3
                target[3] = smooth
            new_smooth = 0.0
            for inside in range(size % 4):
                row = size // 4 * 4 + inside
                new_smooth = smooth_decay * new_smooth + smooth_weight * spreads[row]
                smooths[row] = smooth_powers[inside] * smooth + new_smooth
            if len(trigger):
                over = trigger[settled + 1 + start : settled + 1 + start + size]
                for inside in range(size):
                    over[inside] = smooths[inside]
            if len(histogram):
                over = histogram[settled + 1 + start : settled + 1 + start + size]
                for inside in range(size):
                    over[inside] = spreads[inside] - smooths[inside]
        spread = spreads[size - 1]
    # What is not finite once stays so in the averages.
    return np.isfinite(spread) and np.isfinite(smooth)


@kernel
def _place_in_range(
    result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int, shift: float
) -> None:
    # Stochastic and Williams: highest and lowest by blocks (van Herk 1992) and the place between them in one pass.
    result[: min(len(high), length - 1)] = np.nan
    top_tails = np.full(length + 1, -np.inf)
    bottom_tails = np.full(length + 1, np.inf)
    for base in range(0, len(high), length):
        size = min(length, len(high) - base)
        if base > 0:
            best = -np.inf
            worst = np.inf
            for inside in range(length - 1, 0, -1):
                row = base - length + inside
                best = high[row] if high[row] > best else best
                worst = low[row] if low[row] < worst else worst
                top_tails[inside] = best
                bottom_tails[inside] = worst
        best = -np.inf
        worst = np.inf
        for inside in range(size):
            row = base + inside
            best = high[row] if high[row] > best else best
            worst = low[row] if low[row] < worst else worst
            if row < length - 1:
                continue
            top = top_tails[inside + 1] if top_tails[inside + 1] > best else best
            bottom = bottom_tails[inside + 1] if bottom_tails[inside + 1] < worst else worst
            edge = bottom if shift == 0.0 else top
            result[row] = 100.0 * (close[row] - edge) / (top - bottom) if top > bottom else np.nan


@kernel
def _cci(result: FloatColumn, values: FloatColumn, length: int) -> None:
    result[: min(len(values), length - 1)] = np.nan
    for row in range(length - 1, len(values)):
        total = 0.0
        for inside in range(row - length + 1, row + 1):
            total += values[inside]
        mean = total / length
        deviation = 0.0
        for inside in range(row - length + 1, row + 1):
            deviation += abs(values[inside] - mean)
        # Rounding leaves a deviation of some 1e-16 of the price in a flat window: that is none.
        flat = deviation <= 1e-14 * length * abs(mean)
        result[row] = np.nan if flat else (values[row] - mean) / (0.015 * deviation / length)


@kernel
def _rate_of_change(result: FloatColumn, values: FloatColumn, length: int, relative: int) -> None:
    result[: min(len(values), length)] = np.nan
    target = result[length:]
    source = values[length:]
    if relative == 1:
        for row in range(len(target)):
            target[row] = 100.0 * (source[row] - values[row]) / values[row] if values[row] != 0.0 else np.nan
    else:
        for row in range(len(target)):
            target[row] = source[row] - values[row]


@kernel
def _chande(result: FloatColumn, values: FloatColumn, length: int) -> None:
    # Both sums by blocks: tails of the block before, head of this one.
    result[: min(len(values), length)] = np.nan
    path_tails = np.zeros(length + 1)
    for base in range(1, len(values), length):
        size = min(length, len(values) - base)
        if base > 1:
            path = 0.0
            for inside in range(length - 1, 0, -1):
                row = base - length + inside
                path += abs(values[row] - values[row - 1])
                path_tails[inside] = path
        path = 0.0
        for inside in range(size):
            row = base + inside
            path += abs(values[row] - values[row - 1])
            if row >= length:
                whole = path + path_tails[inside + 1]
                result[row] = 100.0 * (values[row] - values[row - length]) / whole if whole > 0.0 else np.nan


@kernel
def _trix(result: FloatColumn, values: FloatColumn, length: int) -> None:
    result[:] = np.nan
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
        if row < 3 * length - 2:
            third += second / length
            continue
        previous = third
        third += weight * (second - third)
        result[row] = 100.0 * (third - previous) / previous if previous != 0.0 else np.nan


@kernel
def _ultimate(
    result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn, short: int, middle: int, long: int
) -> None:
    rows = len(high)
    longest = max(short, middle, long)
    result[: min(rows, longest)] = np.nan
    pressure = np.zeros(3)
    span = np.zeros(3)
    lengths = np.array([short, middle, long])
    pressures = np.zeros(rows)
    spans = np.zeros(rows)
    for row in range(1, rows):
        bottom = min(low[row], close[row - 1])
        pressures[row] = close[row] - bottom
        spans[row] = max(high[row], close[row - 1]) - bottom
        fresh = row % longest == 0
        for which in range(3):
            length = lengths[which]
            if fresh:
                # A fresh sum once a window keeps rounding errors from piling up.
                pressure[which] = 0.0
                span[which] = 0.0
                for inside in range(max(1, row - length + 1), row + 1):
                    pressure[which] += pressures[inside]
                    span[which] += spans[inside]
            else:
                pressure[which] += pressures[row]
                span[which] += spans[row]
                if row > length:
                    pressure[which] -= pressures[row - length]
                    span[which] -= spans[row - length]
        if row >= longest:
            if span[0] > 0.0 and span[1] > 0.0 and span[2] > 0.0:
                result[row] = (
                    100.0 * (4.0 * pressure[0] / span[0] + 2.0 * pressure[1] / span[1] + pressure[2] / span[2]) / 7.0
                )
            else:
                result[row] = np.nan


@kernel
def _fisher(result: FloatColumn, values: FloatColumn) -> None:
    # Takes the place in the range, 0 to 100.
    value = 0.0
    transformed = 0.0
    for row in range(len(values)):
        value = 0.66 * (values[row] / 100.0 - 0.5) + 0.67 * value
        if value > 0.99:
            value = 0.999
        elif value < -0.99:
            value = -0.999
        transformed = 0.5 * np.log((1.0 + value) / (1.0 - value)) + 0.5 * transformed
        result[row] = transformed


@kernel
def _mean_deviation(result: FloatColumn, values: FloatColumn, length: int) -> None:
    result[:] = np.nan
    for row in range(length - 1, len(values)):
        total = 0.0
        for inside in range(row - length + 1, row + 1):
            total += values[inside]
        mean = total / length
        deviation = 0.0
        for inside in range(row - length + 1, row + 1):
            deviation += abs(values[inside] - mean)
        result[row] = deviation / length


@native(
    Indicator(
        "rsi",
        "momentum",
        (SOURCE, period(14)),
        "Relative strength index, 0 to 100; 100 where nothing fell, a flat market included.",
        "TradingView built-in indicator RSI; Wilder 1978",
        "100 - 100 / (1 + rma(rises, period) / rma(falls, period))",
        warmup="period",
        finite=True,
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
_MACD_NAMES = ("macd", "macd_signal", "macd_hist")


def _macd_lines(source: FloatColumn, fast: int, slow: int, signal: int) -> tuple[FloatColumn, ...]:
    return over_valid_together(_macd, (source,), (0, 1, 2), fast, slow, signal)


@native(
    Indicator(
        "macd",
        "momentum",
        _LINES,
        "MACD line: fast EMA minus slow EMA (`signal` is accepted and not needed).",
        _MACD,
        _LINE,
        warmup="max(fast, slow) - 1",
        finite=True,
        siblings=_MACD_NAMES,
        together=_macd_lines,
    )
)
def macd(source: FloatColumn, fast: int, slow: int, signal: int) -> FloatColumn:
    """Return the MACD line in price units (shape (n,); NaN before; TradingView, ta.macd)."""
    return over_valid_together(_macd, (source,), (0,), fast, slow, signal)[0]


@native(
    Indicator(
        "macd_signal",
        "momentum",
        _LINES,
        "MACD signal line: EMA of the MACD line.",
        _MACD,
        f"ema({_LINE}, signal)",
        warmup="max(fast, slow) + signal - 2",
        finite=True,
        siblings=_MACD_NAMES,
        together=_macd_lines,
    )
)
def macd_signal(source: FloatColumn, fast: int, slow: int, signal: int) -> FloatColumn:
    """Return the signal line in price units (shape (n,); NaN before; TradingView, ta.macd)."""
    return over_valid_together(_macd, (source,), (1,), fast, slow, signal)[0]


@native(
    Indicator(
        "macd_hist",
        "momentum",
        _LINES,
        "MACD histogram: line minus signal line.",
        _MACD,
        f"({_LINE}) - ema({_LINE}, signal)",
        warmup="max(fast, slow) + signal - 2",
        finite=True,
        siblings=_MACD_NAMES,
        together=_macd_lines,
    )
)
def macd_hist(source: FloatColumn, fast: int, slow: int, signal: int) -> FloatColumn:
    """Return the MACD histogram in price units (shape (n,); NaN before; TradingView, ta.macd)."""
    return over_valid_together(_macd, (source,), (2,), fast, slow, signal)[0]


_STOCHASTIC = "Lane; TradingView Pine reference, ta.stoch"
_RAW = "100 * (close - lowest(low, period)) / (highest(high, period) - lowest(low, period))"


@native(
    Indicator(
        "stoch_k",
        "momentum",
        (period(14), period(1, "smoothing")),
        "Stochastic %K, 0 to 100, smoothed by a simple average; NaN where the window has no range.",
        _STOCHASTIC,
        f"sma({_RAW}, smoothing)",
        warmup="period + smoothing - 2",
        inputs=("high", "low", "close"),
    )
)
def stoch_k(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int, smoothing: int) -> FloatColumn:
    """Return %K (shape (n,), 0..100; NaN before and where the range is zero; TradingView, ta.stoch)."""
    place = over_valid(_place_in_range, (high, low, close), length, 0.0)
    return place if smoothing == 1 else sma(place, smoothing)


composite(
    Indicator(
        "stoch_d",
        "momentum",
        (period(14), period(1, "smoothing"), period(3, "signal")),
        "Stochastic %D: simple average of %K.",
        _STOCHASTIC,
        expansion="sma(stoch_k(period, smoothing), signal)",
    )
)


_STOCHASTIC_RSI = "Chande and Kroll 1994; TradingView built-in indicator Stochastic RSI"
_STOCHASTIC_RSI_FORMULA = (
    "100 * (rsi(source, rsi_period) - lowest(rsi(source, rsi_period), period))"
    " / (highest(rsi(source, rsi_period), period) - lowest(rsi(source, rsi_period), period))"
)


@native(
    Indicator(
        "stoch_rsi_raw",
        "momentum",
        (SOURCE, period(14), period(14, "rsi_period")),
        "Place of the RSI between its lowest and highest of `period` bars, 0 to 100; NaN where it did not move.",
        _STOCHASTIC_RSI,
        _STOCHASTIC_RSI_FORMULA,
        warmup="rsi_period + period - 1",
    )
)
def stoch_rsi_raw(source: FloatColumn, length: int, rsi_length: int) -> FloatColumn:
    """Return the unsmoothed stochastic RSI (shape (n,), 0..100; NaN before; Chande and Kroll 1994)."""
    strength = rsi(source, rsi_length)
    return over_valid(_place_in_range, (strength, strength, strength), length, 0.0)


_STOCHASTIC_RSI_LINES = (SOURCE, period(14), period(14, "rsi_period"), period(3, "smoothing"))
composite(
    Indicator(
        "stoch_rsi_k",
        "momentum",
        _STOCHASTIC_RSI_LINES,
        "Stochastic RSI %K, 0 to 100.",
        _STOCHASTIC_RSI,
        expansion="sma(stoch_rsi_raw(source, period, rsi_period), smoothing)",
    )
)
composite(
    Indicator(
        "stoch_rsi_d",
        "momentum",
        (*_STOCHASTIC_RSI_LINES, period(3, "signal")),
        "Stochastic RSI %D: simple average of %K.",
        _STOCHASTIC_RSI,
        expansion="sma(sma(stoch_rsi_raw(source, period, rsi_period), smoothing), signal)",
    )
)


@native(
    Indicator(
        "cci",
        "momentum",
        (SOURCE, period(20, maximum=MAX_SLOW_PERIOD)),
        "Commodity channel index; NaN where the window is flat.",
        "Lambert 1980; TradingView Pine reference, ta.cci",
        "(source - sma(source, period)) / (0.015 * mean_deviation(source, period))",
        warmup="period - 1",
    )
)
def cci(source: FloatColumn, length: int) -> FloatColumn:
    """Return the commodity channel index (shape (n,); NaN before and in flat windows; Lambert 1980)."""
    return over_valid(_cci, (source,), length)


@native(
    Indicator(
        "williams_r",
        "momentum",
        (period(14),),
        "Williams %R, -100 to 0; NaN where the window has no range.",
        "TradingView Pine reference, ta.wpr",
        "100 * (close - highest(high, period)) / (highest(high, period) - lowest(low, period))",
        warmup="period - 1",
        inputs=("high", "low", "close"),
    )
)
def williams_r(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> FloatColumn:
    """Return Williams %R (shape (n,), -100..0; NaN before and where the range is zero; TradingView, ta.wpr)."""
    return over_valid(_place_in_range, (high, low, close), length, 1.0)


@native(
    Indicator(
        "roc",
        "momentum",
        (SOURCE, period(9)),
        "Rate of change in percent.",
        "TradingView Pine reference, ta.roc",
        "100 * (source - source[period]) / source[period]",
        warmup="period",
    )
)
def roc(source: FloatColumn, length: int) -> FloatColumn:
    """Return the rate of change in percent (shape (n,); NaN for the first `length` bars; TradingView, ta.roc)."""
    return over_valid(_rate_of_change, (source,), length, 1)


@native(
    Indicator(
        "momentum",
        "momentum",
        (SOURCE, period(10)),
        "Difference to the value `period` bars ago.",
        "TradingView Pine reference, ta.mom",
        "source - source[period]",
        warmup="period",
    )
)
def momentum(source: FloatColumn, length: int) -> FloatColumn:
    """Return the difference to the value `length` bars ago (shape (n,); NaN before; TradingView, ta.mom)."""
    return over_valid(_rate_of_change, (source,), length, 0)


@native(
    Indicator(
        "cmo",
        "momentum",
        (SOURCE, period(9)),
        "Chande momentum oscillator, -100 to 100; NaN where nothing moved.",
        "Chande 1994; TradingView Pine reference, ta.cmo",
        "100 * (source - source[period]) / sum(abs(change(source)), period)",
        warmup="period",
    )
)
def cmo(source: FloatColumn, length: int) -> FloatColumn:
    """Return the Chande momentum oscillator (shape (n,), -100..100; NaN before; TradingView, ta.cmo)."""
    return over_valid(_chande, (source,), length)


@native(
    Indicator(
        "trix",
        "momentum",
        (SOURCE, period(18)),
        "Rate of change of a triple exponential average, in percent.",
        "Hutson 1983, Technical Analysis of Stocks and Commodities",
        "roc(ema(ema(ema(source, period), period), period), 1)",
        warmup="3 * (period - 1) + 1",
    )
)
def trix(source: FloatColumn, length: int) -> FloatColumn:
    """Return the change of the triple average in percent (shape (n,); NaN before; Hutson 1983)."""
    return over_valid(_trix, (source,), length)


@native(
    Indicator(
        "ultimate_oscillator",
        "momentum",
        (period(7, "short"), period(14, "middle"), period(28, "long")),
        "Ultimate oscillator, 0 to 100: buying pressure over three windows.",
        "Williams 1985; TradingView built-in indicator Ultimate Oscillator",
        "100 * (4 * A(short) + 2 * A(middle) + A(long)) / 7, A = sum(close - min(low, close[1])) / sum(tr)",
        warmup="max(short, middle, long)",
        inputs=("high", "low", "close"),
    )
)
def ultimate_oscillator(
    high: FloatColumn, low: FloatColumn, close: FloatColumn, short: int, middle: int, long: int
) -> FloatColumn:
    """Return the ultimate oscillator (shape (n,), 0..100; NaN before; Williams 1985)."""
    return over_valid(_ultimate, (high, low, close), short, middle, long)


@native(
    Indicator(
        "fisher",
        "momentum",
        (period(9),),
        "Fisher transform of the place of hl2 in its range; sharp turns at extremes.",
        "Ehlers 2002; TradingView built-in indicator Fisher Transform",
        "0.5 * log((1 + v) / (1 - v)) + 0.5 * previous, v = 0.66 * (place - 0.5) + 0.67 * v[1], kept within 0.999",
        warmup="period - 1",
        inputs=("high", "low"),
    )
)
def fisher(high: FloatColumn, low: FloatColumn, length: int) -> FloatColumn:
    """Return the Fisher transform (shape (n,); NaN before and where the range is zero; Ehlers 2002)."""
    middle = (high + low) / 2
    return over_valid(_fisher, (over_valid(_place_in_range, (middle, middle, middle), length, 0.0),))


composite(
    Indicator(
        "ppo",
        "momentum",
        (SOURCE, period(12, "fast"), period(26, "slow")),
        "Percentage price oscillator: MACD line in percent of the slow EMA.",
        "Appel; StockCharts ChartSchool, Percentage Price Oscillator",
        expansion="100 * (ema(source, fast) - ema(source, slow)) / ema(source, slow)",
    )
)
composite(
    Indicator(
        "tsi",
        "momentum",
        (SOURCE, period(13, "short"), period(25, "long")),
        "True strength index, -1 to 1.",
        "Blau 1991; TradingView Pine reference, ta.tsi",
        expansion="ema(ema(change(source), long), short) / ema(ema(abs(change(source)), long), short)",
    )
)
composite(
    Indicator(
        "awesome_oscillator",
        "momentum",
        (),
        "Awesome oscillator: fast minus slow average of hl2.",
        "Williams 1998; TradingView built-in indicator Awesome Oscillator",
        expansion="sma(hl2, 5) - sma(hl2, 34)",
    )
)
composite(
    Indicator(
        "coppock",
        "momentum",
        (SOURCE, period(10), period(14, "long"), period(11, "short")),
        "Coppock curve: weighted average of two rates of change.",
        "Coppock 1962; TradingView built-in indicator Coppock Curve",
        expansion="wma(roc(source, long) + roc(source, short), period)",
    )
)
composite(
    Indicator(
        "dpo",
        "momentum",
        (SOURCE, period(21)),
        "Detrended price oscillator, not centred: the value minus the average of `period / 2 + 1` bars ago.",
        "TradingView built-in indicator Detrended Price Oscillator",
        expansion="source - sma(source, period)[floor(period / 2) + 1]",
    )
)
composite(
    Indicator(
        "balance_of_power",
        "momentum",
        (),
        "Where the bar closed against where it opened, as a share of its range; NaN where it has none.",
        "Livshin 2001; TradingView built-in indicator Balance of Power",
        expansion="(close - open) / (high - low)",
    )
)
composite(
    Indicator(
        "bull_power",
        "momentum",
        (period(13),),
        "High minus the EMA of the close: strength of the buyers.",
        "Elder 1993; TradingView built-in indicator Bull Bear Power",
        expansion="high - ema(close, period)",
    )
)
composite(
    Indicator(
        "bear_power",
        "momentum",
        (period(13),),
        "Low minus the EMA of the close: strength of the sellers.",
        "Elder 1993; TradingView built-in indicator Bull Bear Power",
        expansion="low - ema(close, period)",
    )
)
