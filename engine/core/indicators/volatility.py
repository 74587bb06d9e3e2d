"""Ranges, deviations and the bands made of them."""

# Kernels choose between two floats by a comparison: min() and max() look for NaN first and are not vectorised.
# ruff: noqa: FURB136

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, over_valid, over_valid_together, telling_kernel
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


@telling_kernel
def _atr(result: FloatColumn, high: FloatColumn, low: FloatColumn, close: FloatColumn, length: int) -> bool:
    # Smoothed four bars from one state; the ranges of the next four are computed while the state is waited for.
    result[: min(len(high), length - 1)] = np.nan
    if len(high) < length:
        return True
    state = high[0] - low[0]
    for row in range(1, length):
        top = high[row] if high[row] > close[row - 1] else close[row - 1]
        bottom = low[row] if low[row] < close[row - 1] else close[row - 1]
        # A missing high is lost in the comparison: its distance to itself is zero, or missing.
        state += top - bottom + (high[row] - high[row])
    state = state / length
    result[length - 1] = state
    weight = 1.0 / length
    decay = 1.0 - weight
    powers = np.array([decay, decay * decay, decay * decay * decay, decay * decay * decay * decay])
    tail = result[length:]
    tops = high[length:]
    bottoms = low[length:]
    before = close[length - 1 :]
    ranges = np.zeros(4)
    for base in range(0, len(tail), 4):
        size = min(4, len(tail) - base)
        if size == 4:
            for inside in range(4):
                row = base + inside
                top = tops[row] if tops[row] > before[row] else before[row]
                bottom = bottoms[row] if bottoms[row] < before[row] else before[row]
                ranges[inside] = weight * (top - bottom + (tops[row] - tops[row]))
            second = decay * ranges[0] + ranges[1]
            third = decay * second + ranges[2]
            fourth = decay * third + ranges[3]
            tail[base] = powers[0] * state + ranges[0]
            tail[base + 1] = powers[1] * state + second
            tail[base + 2] = powers[2] * state + third
            state = powers[3] * state + fourth
            tail[base + 3] = state
        else:
            # The last bars exactly as they would be inside four: what comes later must not change them.
            fresh = 0.0
            for inside in range(size):
                row = base + inside
                top = tops[row] if tops[row] > before[row] else before[row]
                bottom = bottoms[row] if bottoms[row] < before[row] else before[row]
                fresh = decay * fresh + weight * (top - bottom + (tops[row] - tops[row]))
                tail[row] = powers[inside] * state + fresh
    # What is not finite once stays so in the state; the last close is in no range.
    return np.isfinite(result[-1]) and np.isfinite(close[-1])


@telling_kernel
def _bands(  # noqa: C901, PLR0912, PLR0915 - one loop over blocks
    upper: FloatColumn,
    lower: FloatColumn,
    values: FloatColumn,
    length: int,
    mean_weight: float,
    upper_weight: float,
    lower_weight: float,
) -> bool:
    # Writes upper_weight and lower_weight deviations from mean_weight means. Sums are of differences to the value
    # before the block: no cancellation, and, being the tail of one block and the head of the next, no drift. Two blocks
    # at once, because a sum waits for its last addition and eight of them do not wait for each other.
    share = 1.0 / length
    span = 2 * length
    tails = np.zeros(span)
    square_tails = np.zeros(span)
    heads = np.empty(span)
    square_heads = np.empty(span)
    origins = np.empty(span)
    moving = np.ones(span)
    finite = True
    for base in range(0, len(values), span):
        size = min(span, len(values) - base)
        if base > 0 and size == span:
            part = values[base - length : base + span]
            origin0, origin1 = part[length - 1], part[span - 1]
            head0, head1, tail0, tail1 = 0.0, 0.0, 0.0, 0.0
            square0, square1, square_tail0, square_tail1 = 0.0, 0.0, 0.0, 0.0
            for inside in range(length):
                difference = part[length + inside] - origin0
                head0 += difference
                square0 += difference * difference
                difference = part[span + inside] - origin1
                head1 += difference
                square1 += difference * difference
                heads[inside] = head0
                heads[length + inside] = head1
                square_heads[inside] = square0
                square_heads[length + inside] = square1
                origins[inside] = origin0
                origins[length + inside] = origin1
                back = length - 1 - inside
                tails[back] = tail0
                tails[length + back] = tail1
                square_tails[back] = square_tail0
                square_tails[length + back] = square_tail1
                difference = part[back] - origin0
                tail0 += difference
                square_tail0 += difference * difference
                difference = part[length + back] - origin1
                tail1 += difference
                square_tail1 += difference * difference
        else:
            for block in range(base, base + size, length):
                origin = values[0] if block == 0 else values[block - 1]
                total = 0.0
                squares = 0.0
                for inside in range(min(length, base + size - block)):
                    difference = values[block + inside] - origin
                    total += difference
                    squares += difference * difference
                    heads[block - base + inside] = total
                    square_heads[block - base + inside] = squares
                    origins[block - base + inside] = origin
                total = 0.0
                squares = 0.0
                for back in range(length - 1, -1, -1):
                    tails[block - base + back] = total
                    square_tails[block - base + back] = squares
                    if block > 0:
                        difference = values[block - length + back] - origin
                        total += difference
                        squares += difference * difference
        # A window without a change deviates by nothing, exactly; there is none where too few neighbours are equal.
        first = max(0, base - length + 1)
        seen = values[first : base + size]
        later = seen[1:]
        repeats = 0
        for inside in range(len(later)):
            repeats += later[inside] == seen[inside]
        has_flat = repeats >= length - 1
        if has_flat:
            equal = 0
            for row in range(first, base + size):
                equal = equal + 1 if row > first and values[row] == values[row - 1] else 1
                if row >= base:
                    moving[row - base] = 0.0 if equal >= length else 1.0
        # No bar of this loop waits for another: the compiler makes vectors of it.
        over = upper[base : base + size]
        for inside in range(size):
            mean = (tails[inside] + heads[inside]) * share
            variance = (square_tails[inside] + square_heads[inside]) * share - mean * mean
            variance = variance if variance > 0.0 else 0.0
            deviation = np.sqrt(variance) * moving[inside]
            middle = mean_weight * (origins[inside] + mean)
            over[inside] = middle + upper_weight * deviation
            heads[inside] = middle + lower_weight * deviation
            finite &= (np.abs(over[inside]) < np.inf) & (np.abs(heads[inside]) < np.inf)
        if len(lower):
            under = lower[base : base + size]
            for inside in range(size):
                under[inside] = heads[inside]
        if has_flat:
            moving[:] = 1.0
    upper[: min(len(values), length - 1)] = np.nan
    lower[: min(len(lower), length - 1)] = np.nan
    return finite


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
        finite=True,
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
        finite=True,
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
        finite=True,
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
        finite=True,
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
