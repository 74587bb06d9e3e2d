"""Functions that are no indicators: crossings, memory, elementary mathematics, chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.indicators.kernels import kernel, readable
from engine.core.indicators.registry import CONDITION, SOURCE, Indicator, Parameter, composite, native, period

BoolColumn = NDArray[np.bool_]

_FIRST = Parameter("first", "value")
_SECOND = Parameter("second", "value")
_VALUE = Parameter("value", "value")
_MATHS = "elementary"


@kernel
def _rises_above(result: BoolColumn, first: FloatColumn, second: FloatColumn) -> None:
    result[:1] = False
    target = result[1:]
    first_now = first[1:]
    second_now = second[1:]
    for row in range(len(target)):
        target[row] = (first_now[row] > second_now[row]) & (first[row] <= second[row])


@native(
    Indicator(
        "crossover",
        "functions",
        (_FIRST, _SECOND),
        "True on the bar where `first` rises above `second`; needs both bars valid.",
        "TradingView Pine reference, ta.crossover",
        "first > second and first[1] <= second[1]",
        boolean=True,
        warmup="1",
    )
)
def crossover(first: FloatColumn, second: FloatColumn) -> BoolColumn:
    """Return where `first` rises above `second`: strict on the new bar, weak on the old (shape (n,); NaN is False)."""
    result = np.empty(len(first), np.bool_)
    _rises_above(result, readable(first), readable(second))
    return result


composite(
    Indicator(
        "crossunder",
        "functions",
        (_FIRST, _SECOND),
        "True on the bar where `first` falls below `second`; needs both bars valid.",
        "TradingView Pine reference, ta.crossunder",
        "first < second and first[1] >= second[1]",
        boolean=True,
        expansion="crossover(second, first)",
    )
)
composite(
    Indicator(
        "rising",
        "functions",
        (SOURCE, period(1, "bars")),
        "True where the value is above each of the `bars` before it.",
        "TradingView Pine reference, ta.rising",
        boolean=True,
        expansion="source > highest(source[1], bars)",
    )
)
composite(
    Indicator(
        "falling",
        "functions",
        (SOURCE, period(1, "bars")),
        "True where the value is below each of the `bars` before it.",
        "TradingView Pine reference, ta.falling",
        boolean=True,
        expansion="source < lowest(source[1], bars)",
    )
)
composite(
    Indicator(
        "change",
        "functions",
        (SOURCE, period(1, "bars")),
        "Difference to the value `bars` bars ago.",
        "TradingView Pine reference, ta.change",
        expansion="source - source[bars]",
    )
)


@native(
    Indicator(
        "bars_since",
        "functions",
        (CONDITION,),
        "Bars since the condition was last true: 0 on the bar itself, NaN before the first time.",
        "TradingView Pine reference, ta.barssince",
        "this row - row of the last true",
    )
)
def bars_since(condition: BoolColumn) -> FloatColumn:
    """Return the rows passed since `condition` was last true (shape (n,); NaN before the first time)."""
    rows = np.arange(len(condition))
    last = np.maximum.accumulate(np.where(condition, rows, -1)) if len(condition) else rows
    return np.where(last >= 0, rows - last, np.nan)


@native(
    Indicator(
        "value_when",
        "functions",
        (CONDITION, SOURCE, Parameter("occurrence", "period", 0, 0, 1_000)),
        "`source` on the last bar where the condition was true; `occurrence` 1 is the time before, and so on.",
        "TradingView Pine reference, ta.valuewhen",
        "source at the row of the chosen true",
    )
)
def value_when(condition: BoolColumn, source: FloatColumn, occurrence: int) -> FloatColumn:
    """Return `source` where `condition` was true `occurrence` times before the last time (shape (n,); NaN before)."""
    result = np.full(len(source), np.nan)
    true_rows = np.flatnonzero(condition)
    which = np.cumsum(condition) - 1 - occurrence
    known = which >= 0
    result[known] = source[true_rows[which[known]]]
    return result


@native(
    Indicator(
        "where",
        "functions",
        (CONDITION, _FIRST, _SECOND),
        "`first` where the condition is true, else `second`.",
        _MATHS,
        "first if condition else second",
    )
)
def where(condition: BoolColumn, first: FloatColumn, second: FloatColumn) -> FloatColumn:
    """Choose between two columns bar by bar (shape (n,))."""
    return np.where(condition, first, second)


@native(
    Indicator(
        "min",
        "functions",
        (_FIRST, _SECOND),
        "Smallest of its arguments; NaN if one is.",
        _MATHS,
        "min(a, b, ...)",
        elementwise=True,
        variadic=True,
    )
)
def minimum(first: FloatColumn, *others: FloatColumn) -> FloatColumn:
    """Return the smallest argument of each bar (shape (n,); NaN if one is)."""
    for other in others:
        first = np.minimum(first, other)
    return first


@native(
    Indicator(
        "max",
        "functions",
        (_FIRST, _SECOND),
        "Largest of its arguments; NaN if one is.",
        _MATHS,
        "max(a, b, ...)",
        elementwise=True,
        variadic=True,
    )
)
def maximum(first: FloatColumn, *others: FloatColumn) -> FloatColumn:
    """Return the largest argument of each bar (shape (n,); NaN if one is)."""
    for other in others:
        first = np.maximum(first, other)
    return first


native(Indicator("abs", "functions", (_VALUE,), "Magnitude.", _MATHS, "|value|", elementwise=True))(np.abs)
native(
    Indicator(
        "log", "functions", (_VALUE,), "Natural logarithm; NaN at 0 and below.", _MATHS, "ln(value)", elementwise=True
    )
)(np.log)
native(
    Indicator("exp", "functions", (_VALUE,), "e to the power of the value.", _MATHS, "e ** value", elementwise=True)
)(np.exp)
native(
    Indicator("sqrt", "functions", (_VALUE,), "Square root; NaN below 0.", _MATHS, "value ** 0.5", elementwise=True)
)(np.sqrt)
native(
    Indicator("floor", "functions", (_VALUE,), "Largest whole number not above it.", _MATHS, "floor", elementwise=True)
)(np.floor)
native(
    Indicator("ceil", "functions", (_VALUE,), "Smallest whole number not below it.", _MATHS, "ceil", elementwise=True)
)(np.ceil)
native(
    Indicator(
        "round", "functions", (_VALUE,), "Nearest whole number, halves to even.", _MATHS, "round", elementwise=True
    )
)(np.rint)
native(Indicator("sign", "functions", (_VALUE,), "-1, 0 or 1.", _MATHS, "sign", elementwise=True))(np.sign)


@native(
    Indicator(
        "random_uniform",
        "functions",
        (Parameter("seed", "period", 1, 0, 1_000_000),),
        "A number in [0, 1) that depends on the bar's open time and the seed only: chance that can be repeated.",
        "SplitMix64 finaliser (Steele, Lea and Flood 2014) of the open time and the seed",
        "hash(bar open, seed) / 2 ** 53",
        inputs=("ts",),
    )
)
def random_uniform(ts: NDArray[np.int64], seed: int) -> FloatColumn:
    """Hash bar opens to numbers in [0, 1) (shape (n,); never NaN; Steele, Lea and Flood 2014, SplitMix64)."""
    state = ts.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(2):
        # Twice, because opens of one interval differ in few bits.
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)
