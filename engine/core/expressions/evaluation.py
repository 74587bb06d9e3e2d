"""From a typed tree and candles to a column; every shared part is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.expressions.nodes import (
    EXTRA_SERIES,
    Call,
    Column,
    HigherFrame,
    Lag,
    Node,
    Number,
    Operation,
    Truth,
)
from engine.core.expressions.warmup import check_nesting
from engine.core.indicators.kernels import without_infinities
from engine.core.indicators.registry import AnyColumn
from engine.core.resample import closed_rows, resample, spread
from engine.core.side_thread import WORTH_SHARING_BARS, side_by_side
from engine.core.timeframes import DAY_MS, Interval
from engine.errors import BadRequest, DataMissing

# Columns by interval and normal form. One memo belongs to one set of candles and extras.
Memo = MutableMapping[str, AnyColumn]
_Value = AnyColumn | float | bool
_HOUR_MS = 3_600_000


class Evaluator:
    """Evaluates typed trees over one set of candles.

    Parameters
    ----------
    extras : mapping of str to ndarray of float64, optional
        `funding_rate` and `open_interest`, aligned with the candles; NaN where unknown.
    memo : mutable mapping, optional
        Keeps every column computed by a function, so that evaluators over the same candles share them.
    """

    def __init__(
        self,
        candles: Candles,
        interval: Interval,
        *,
        extras: Mapping[str, FloatColumn] | None = None,
        memo: Memo | None = None,
    ) -> None:
        self._candles = candles
        self._interval: Interval = interval
        self._extras = _checked_extras(extras or {}, len(candles))
        self._memo: Memo = {} if memo is None else memo
        self._uses: Counter[str] = Counter()
        self._shared: dict[str, _Value] = {}
        self._frames: dict[Interval, tuple[Evaluator, NDArray[np.intp]]] = {}

    def expect(self, trees: Iterable[Node]) -> None:
        """Note what will be asked for, so that parts used twice are kept."""
        for tree in trees:
            self._uses[tree.text] += 1
            for part in tree.walk():
                self._uses.update(operand.text for operand in part.operands)

    def prepare(self, trees: Iterable[Node]) -> None:
        """Compute the calls in some trees, two at a time where they do not need each other and there are many bars."""
        if len(self._candles) < WORTH_SHARING_BARS:
            return
        levels: dict[int, dict[tuple[str, ...], Call]] = {}
        for tree in trees:
            _collect_calls(tree, levels)
        for _, calls in sorted(levels.items()):
            halves = list(calls.values())[::2], list(calls.values())[1::2]
            if halves[1]:
                side_by_side(
                    lambda half=halves[0]: self._compute_all(half), lambda half=halves[1]: self._compute_all(half)
                )

    def _compute_all(self, calls: Iterable[Call]) -> None:
        with np.errstate(all="ignore"):
            for call in calls:
                self._value(call)

    def numbers(self, tree: Node) -> FloatColumn:
        """Return the column of a number (shape (n,), float64; NaN where there is none)."""
        return self._full(tree, np.float64)

    def conditions(self, tree: Node) -> NDArray[np.bool_]:
        """Return the column of a condition (shape (n,), bool)."""
        return self._full(tree, np.bool_)

    def _full(self, tree: Node, dtype: type[np.float64 | np.bool_]) -> Any:
        with np.errstate(all="ignore"):
            value = self._value(tree)
        if isinstance(value, np.ndarray):
            return value
        return np.full(len(self._candles), value, dtype)

    def _value(self, tree: Node) -> _Value:
        if isinstance(tree, (Number, Truth)):
            return tree.value
        if tree.text in self._shared:
            return self._shared[tree.text]
        key = f"{self._interval}|{tree.text}"
        stored = self._memo.get(key)
        if stored is not None:
            return stored
        value = self._compute(tree)
        if isinstance(tree, (Call, HigherFrame)) and isinstance(value, np.ndarray):
            self._memo[key] = value
        elif self._uses[tree.text] > 1:
            self._shared[tree.text] = value
        return value

    def _compute(self, tree: Node) -> _Value:
        match tree:
            case Column():
                return self._column(tree.name)
            case Lag():
                return _shifted(cast("AnyColumn", self._value(tree.operands[0])), tree.bars)
            case HigherFrame():
                return self._frame(tree)
            case Call():
                return self._call(tree)
            case _:
                return self._operation(cast("Operation", tree))

    def _column(self, name: str) -> AnyColumn:
        if name in EXTRA_SERIES:
            return self._extra(name)
        if name == "hour":
            return (self._candles.ts % DAY_MS // _HOUR_MS).astype(np.float64)
        if name == "weekday":
            # The epoch was a Thursday.
            return ((self._candles.ts // DAY_MS + 3) % 7).astype(np.float64)
        values: AnyColumn = getattr(self._candles, name)
        if name in ("volume", "turnover") and len(values) and np.isnan(values).all():
            raise DataMissing(
                f"these candles have no {name}", fix=f"use trade candles, or an expression without {name}"
            )
        return values

    def _extra(self, name: str) -> FloatColumn:
        values = self._extras.get(name)
        if values is None:
            raise DataMissing(
                f"the expression uses {name!r} and none was given",
                fix=f"fetch the {name.replace('_', ' ')} history of this market first, or use an expression without it",
            )
        return values

    def _frame(self, tree: HigherFrame) -> AnyColumn:
        inner = tree.operands[0]
        if tree.interval == self._interval:
            return cast("AnyColumn", self._value(inner))
        evaluator, rows = self._higher(tree.interval)
        if inner.boolean:
            seen = spread(evaluator.conditions(inner).astype(np.float64), rows)
            return seen == 1.0
        return spread(evaluator.numbers(inner), rows)

    def _higher(self, interval: Interval) -> tuple[Evaluator, NDArray[np.intp]]:
        if interval not in self._frames:
            check_nesting(interval, self._interval)
            bars, last_rows = resample(self._candles, self._interval, interval)
            extras = {name: values[last_rows] for name, values in self._extras.items()}
            memo = _Prefixed(self._memo, f"{self._interval}>")
            self._frames[interval] = (
                Evaluator(bars, interval, extras=extras, memo=memo),
                closed_rows(self._candles, self._interval, bars, interval),
            )
        return self._frames[interval]

    def _call(self, tree: Call) -> AnyColumn:
        function = tree.function
        if function.compute is None:
            raise TypeError(f"{function.name} has nothing to compute it")
        kinds = [parameter.kind for parameter in function.parameters if parameter.kind in ("period", "constant")]
        constants = [
            int(value) if kind == "period" else value for kind, value in zip(kinds, tree.constants, strict=True)
        ]
        operands = [self._value(operand) for operand in tree.operands]
        if not function.elementwise:
            operands = [_broadcast(operand, len(self._candles)) for operand in operands]
        if sum(self._uses[text] > 0 for text in _sibling_texts(tree)) > 1 and function.together is not None:
            columns = function.together(*operands, *constants)
            return self._together(tree, columns if function.finite else tuple(map(without_infinities, columns)))
        column = function.compute(*operands, *constants)
        return column if function.finite else without_infinities(column)

    def _together(self, tree: Call, columns: tuple[AnyColumn, ...]) -> AnyColumn:
        wanted: AnyColumn | None = None
        for text, column in zip(_sibling_texts(tree), columns, strict=True):
            if text == tree.text:
                wanted = column
            elif self._uses[text]:
                self._memo[f"{self._interval}|{text}"] = column
        if wanted is None:
            raise TypeError(f"{tree.function.name} is not among its own siblings")
        return wanted

    def _operation(self, tree: Operation) -> _Value:
        if tree.symbol == "+":
            return self._sum(tree)
        values = [self._value(operand) for operand in tree.operands]
        first = values[0]
        if tree.symbol in ("and", "or"):
            join = np.logical_and if tree.symbol == "and" else np.logical_or
            for value in values[1:]:
                first = join(first, value)
            return first
        if tree.symbol == "*":
            for value in values[1:]:
                first = np.multiply(first, value)
            return without_infinities(first)
        if len(values) == 1:
            return np.logical_not(first) if tree.symbol == "not" else np.negative(first)
        return _binary(tree.symbol, first, values[1])

    def _sum(self, tree: Operation) -> _Value:
        total: Any = self._value(tree.operands[0])
        for term in tree.operands[1:]:
            if isinstance(term, Operation) and term.symbol == "-":
                total = np.subtract(total, self._value(term.operands[0]))
            else:
                total = np.add(total, self._value(term))
        return without_infinities(total)


def _collect_calls(tree: Node, levels: dict[int, dict[tuple[str, ...], Call]]) -> int:
    """Put the calls of a tree on levels, those on the first need no other call, and return how many levels it has."""
    if isinstance(tree, HigherFrame):
        return 0
    height = max((_collect_calls(operand, levels) for operand in tree.operands), default=0)
    if not isinstance(tree, Call):
        return height
    # Siblings are computed in one pass, so one of them stands for all.
    levels.setdefault(height, {}).setdefault(tuple(_sibling_texts(tree)) or (tree.text,), tree)
    return height + 1


class _Prefixed(dict[str, AnyColumn]):
    """A memo inside a memo: columns of a higher interval made of these candles."""

    def __init__(self, memo: Memo, prefix: str) -> None:
        super().__init__()
        self._memo, self._prefix = memo, prefix

    def get(self, key: str, default: Any = None) -> Any:
        return self._memo.get(self._prefix + key, default)

    def __setitem__(self, key: str, value: AnyColumn) -> None:
        self._memo[self._prefix + key] = value


def _sibling_texts(tree: Call) -> list[str]:
    """Return the normal forms of the calls that one pass would compute together with this one."""
    arguments = tree.text.removeprefix(tree.function.name)
    return [f"{name}{arguments}" for name in tree.function.siblings]


def _binary(symbol: str, left: _Value, right: _Value) -> _Value:
    if symbol == "/":
        return without_infinities(np.divide(left, right))
    if symbol == "%":
        return without_infinities(np.mod(left, right))
    if symbol == "**":
        return without_infinities(np.power(left, right))
    if symbol == "<":
        return np.less(left, right)
    if symbol == "<=":
        return np.less_equal(left, right)
    if symbol == "==":
        return np.equal(left, right)
    # Unlike Python's, a comparison with NaN is never true.
    return np.not_equal(left, right) & ~np.isnan(left) & ~np.isnan(right)


def _shifted(values: AnyColumn, bars: int) -> AnyColumn:
    result: Any = np.zeros_like(values) if values.dtype == np.bool_ else np.full(len(values), np.nan)
    if bars < len(values):
        result[bars:] = values[: len(values) - bars]
    return result


def _broadcast(value: _Value, length: int) -> AnyColumn:
    if isinstance(value, np.ndarray):
        return value
    return np.full(length, value, np.bool_) if isinstance(value, bool) else np.full(length, value, np.float64)


def _checked_extras(extras: Mapping[str, FloatColumn], length: int) -> Mapping[str, FloatColumn]:
    for name, values in extras.items():
        if name not in EXTRA_SERIES or len(values) != length:
            raise BadRequest(
                f"extra series {name!r} has {len(values)} rows, the candles have {length}",
                fix=f"extra series are {', '.join(EXTRA_SERIES)}, one row a bar",
            )
    return extras
