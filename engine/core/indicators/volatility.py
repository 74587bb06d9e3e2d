"""Ranges, deviations and the bands made of them."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid, over_valid_together
from engine.core.indicators.registry import SOURCE, Indicator, Parameter, composite, native, period


@kernel
def _true_range(result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn) -> None:
    if len(high):
        result[0] = high[0] - low[0]
    ranges = result[1:]
    tops = high[1:]
    bottoms = low[1:]
    for row in range(len(ranges)):
        # The same as the largest of the three distances, in a form that needs no branch.
        before = close[row]
        top = tops[row] if tops[row] > before else before
        bottom = bottoms[row] if bottoms[row] < before else before
        ranges[row] = top - bottom


@kernel
def _atr(result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> None:
    # The true ranges first, in a loop the compiler makes vectors of; then smoothed in place, four bars from one state.
    if len(high) < length:
        result[:] = np.nan
        return
    result[0] = high[0] - low[0]
    ranges = result[1:]
    tops = high[1:]
    bottoms = low[1:]
    for row in range(len(ranges)):
        before = close[row]
        top = tops[row] if tops[row] > before else before
        bottom = bottoms[row] if bottoms[row] < before else before
        ranges[row] = top - bottom
    total = 0.0
    for row in range(length):
        total += result[row]
    state = total / length
    result[: length - 1] = np.nan
    result[length - 1] = state
    weight = 1.0 / length
    decay = 1.0 - weight
    powers = np.array([decay, decay * decay, decay * decay * decay, decay * decay * decay * decay])
    tail = result[length:]
    source = result[length:]
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


@kernel
def _bands(
    upper: FloatColumn,
    lower: FloatColumn,
    values: FloatColumn,
    length: int,
    mean_weight: float,
    upper_weight: float,
    lower_weight: float,
) -> None:
    # Writes upper_weight and lower_weight deviations from mean_weight means. Sums are of differences to the value
    # before the block: no cancellation, and, being the tail of one block and the head of the next, no drift.
    share = 1.0 / length
    tails = np.zeros(length + 1)
    square_tails = np.zeros(length + 1)
    heads = np.empty(length)
    square_heads = np.empty(length)
    moving = np.empty(length)
    equal = 0
    previous = np.nan
    for base in range(0, len(values), length):
        part = values[base : base + length]
        origin = values[0] if base == 0 else values[base - 1]
        if base > 0:
            before = values[base - length : base]
            total = 0.0
            squares = 0.0
            for back in range(1, length):
                difference = before[length - back] - origin
                total += difference
                squares += difference * difference
                tails[length - back] = total
                square_tails[length - back] = squares
        total = 0.0
        squares = 0.0
        for inside in range(len(part)):
            value = part[inside]
            equal = equal + 1 if value == previous else 1
            previous = value
            difference = value - origin
            total += difference
            squares += difference * difference
            heads[inside] = total
            square_heads[inside] = squares
            moving[inside] = 0.0 if equal >= length else 1.0
        # No bar of this loop waits for another: the compiler makes vectors of it.
        over = upper[base : base + length]
        rest = tails[1:]
        square_rest = square_tails[1:]
        for inside in range(len(part)):
            mean = (rest[inside] + heads[inside]) * share
            variance = (square_rest[inside] + square_heads[inside]) * share - mean * mean
            variance = variance if variance > 0.0 else 0.0
            deviation = np.sqrt(variance) * moving[inside]
            middle = mean_weight * (origin + mean)
            over[inside] = middle + upper_weight * deviation
            heads[inside] = middle + lower_weight * deviation
        if len(lower):
            lower[base : base + len(part)] = heads[: len(part)]
    upper[: min(len(values), length - 1)] = np.nan
    lower[: min(len(lower), length - 1)] = np.nan


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
    return over_valid_together(_bands, (source,), (0,), length, 0.0, 1.0, 0.0)[0]


@native(
    Indicator(
        "atr",
        "volatility",
        (period(14),),
        "Average true range in price units.",
        "TradingView Pine reference, ta.atr; Wilder 1978",
        "rma(tr(), period)",
        warmup="period - 1",
        inputs=("high", "low", "close"),
    )
)
def atr(high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> FloatColumn:
    """Return the average true range in price units (shape (n,); NaN before; TradingView, ta.atr)."""
    return over_valid(_atr, (high, low, close), length)


composite(
    Indicator(
        "natr",
        "volatility",
        (period(14),),
        "Average true range in percent of the close.",
        "normalised ATR, as in TA-Lib (NATR)",
        expansion="100 * atr(period) / close",
    )
)
composite(
    Indicator(
        "variance",
        "volatility",
        (SOURCE, period()),
        "Variance of the population.",
        "TradingView Pine reference, ta.variance",
        expansion="stdev(source, period) ** 2",
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
_BAND_NAMES = ("bb_upper", "bb_lower")


def _both_bands(source: FloatColumn, length: int, multiplier: float) -> tuple[FloatColumn, ...]:
    return over_valid_together(_bands, (source,), (0, 1), length, 1.0, multiplier, -multiplier)


@native(
    Indicator(
        "bb_upper",
        "volatility",
        _BANDS,
        "Upper Bollinger band.",
        _BOLLINGER,
        "sma(source, period) + multiplier * stdev(source, period)",
        warmup="period - 1",
        siblings=_BAND_NAMES,
        together=_both_bands,
    )
)
def bb_upper(source: FloatColumn, length: int, multiplier: float) -> FloatColumn:
    """Return the upper Bollinger band (shape (n,); NaN before; TradingView, ta.bb)."""
    return over_valid_together(_bands, (source,), (0,), length, 1.0, multiplier, 0.0)[0]


@native(
    Indicator(
        "bb_lower",
        "volatility",
        _BANDS,
        "Lower Bollinger band.",
        _BOLLINGER,
        "sma(source, period) - multiplier * stdev(source, period)",
        warmup="period - 1",
        siblings=_BAND_NAMES,
        together=_both_bands,
    )
)
def bb_lower(source: FloatColumn, length: int, multiplier: float) -> FloatColumn:
    """Return the lower Bollinger band (shape (n,); NaN before; TradingView, ta.bb)."""
    return over_valid_together(_bands, (source,), (0,), length, 1.0, -multiplier, 0.0)[0]


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

_YEAR = Parameter("bars_per_year", "constant", 365.0, 1.0, 1_000_000.0)
_LOG_RANGE = "log(high / low)"
composite(
    Indicator(
        "historical_volatility",
        "volatility",
        (period(20), _YEAR),
        "Annualised deviation of the close's logarithmic returns, in percent; `bars_per_year` of the interval in use.",
        "TradingView built-in indicator Historical Volatility (population deviation)",
        expansion="100 * stdev(log(close / close[1]), period) * sqrt(bars_per_year)",
    )
)
composite(
    Indicator(
        "parkinson_volatility",
        "volatility",
        (period(20), _YEAR),
        "Annualised volatility in percent from highs and lows.",
        "Parkinson 1980, Journal of Business 53:1",
        expansion=f"100 * sqrt(bars_per_year * sma({_LOG_RANGE} ** 2, period) / (4 * log(2)))",
    )
)
composite(
    Indicator(
        "garman_klass_volatility",
        "volatility",
        (period(20), _YEAR),
        "Annualised volatility in percent from all four prices of a bar.",
        "Garman and Klass 1980, Journal of Business 53:1",
        expansion="100 * sqrt(bars_per_year * max(0, sma("
        f"0.5 * {_LOG_RANGE} ** 2 - (2 * log(2) - 1) * log(close / open) ** 2, period)))",
    )
)
composite(
    Indicator(
        "rogers_satchell_volatility",
        "volatility",
        (period(20), _YEAR),
        "Annualised volatility in percent from all four prices; not disturbed by a trend.",
        "Rogers and Satchell 1991, Annals of Applied Probability 1:4",
        expansion="100 * sqrt(bars_per_year * max(0, sma(log(high / close) * log(high / open)"
        " + log(low / close) * log(low / open), period)))",
    )
)
composite(
    Indicator(
        "choppiness",
        "volatility",
        (period(14, minimum=2),),
        "Choppiness index, 0 to 100: high in a sideways market, low in a trend.",
        "Dreiss; TradingView built-in indicator Choppiness Index",
        expansion="100 * log(sum(tr(), period) / (highest(high, period) - lowest(low, period))) / log(period)",
    )
)
composite(
    Indicator(
        "ulcer_index",
        "volatility",
        (SOURCE, period(14)),
        "Root mean square of the percentage drawdown from the highest value of the window.",
        "Martin and McCann 1989",
        expansion="sqrt(sma((100 * (source / highest(source, period) - 1)) ** 2, period))",
    )
)
composite(
    Indicator(
        "mass_index",
        "volatility",
        (period(9), period(25, "bars")),
        "Mass index: a bulge of the range that warns of a reversal.",
        "Dorsey 1992; TradingView built-in indicator Mass Index",
        expansion="sum(ema(high - low, period) / ema(ema(high - low, period), period), bars)",
    )
)
