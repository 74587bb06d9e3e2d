"""The typed tree an expression becomes once every name, parameter and period is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.core.expressions.limits import MAX_RESOLVED_DEPTH, MAX_RESOLVED_NODES
from engine.core.indicators.registry import Indicator
from engine.core.timeframes import Interval
from engine.errors import BadExpression

Symbol = Literal["+", "*", "-", "/", "%", "**", "<", "<=", "==", "!=", "and", "or", "not"]

SERIES: dict[str, str] = {
    "open": "first price of the bar",
    "high": "highest price of the bar",
    "low": "lowest price of the bar",
    "close": "last price of the bar",
    "volume": "volume in base units (linear, spot) or USD (inverse)",
    "turnover": "volume in quote units (linear, spot) or coin (inverse)",
    "hl2": "(high + low) / 2",
    "hlc3": "(high + low + close) / 3",
    "ohlc4": "(open + high + low + close) / 4",
    "hour": "hour of the bar's open, 0 to 23, UTC",
    "weekday": "day of the bar's open, 0 Monday to 6 Sunday, UTC",
    "funding_rate": "funding rate known at the bar, as a fraction",
    "open_interest": "open interest known at the bar (hourly samples before its close), base units (linear) or USD (inverse)",
}
EXTRA_SERIES = ("funding_rate", "open_interest")


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One value a bar.

    Attributes
    ----------
    text : str
        Normal form: equal texts mean equal values, bit for bit. It parses to the same node.
    boolean : bool
        A condition, else a number.
    size, depth : int
        Of the tree below, itself included.
    """

    text: str
    boolean: bool
    operands: tuple[Node, ...]
    size: int
    depth: int

    def walk(self) -> Iterator[Node]:
        """Yield every distinct node once, operands before what uses them."""
        seen: set[str] = set()
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, expanded = stack.pop()
            if node.text in seen:
                continue
            if expanded:
                seen.add(node.text)
                yield node
            else:
                stack.append((node, True))
                stack.extend((operand, False) for operand in reversed(node.operands))


@dataclass(frozen=True, slots=True, eq=False)
class Number(Node):
    """The same number at every bar."""

    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Truth(Node):
    """The same answer at every bar."""

    value: bool


@dataclass(frozen=True, slots=True, eq=False)
class Column(Node):
    """A series of the market."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Lag(Node):
    """What its operand was some bars ago."""

    bars: int


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Node):
    """Arithmetic, comparison or logic; `-` has one operand, subtraction is `+` of a negated one."""

    symbol: Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    """A native function; operands are its input columns, then its series arguments."""

    function: Indicator
    constants: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HigherFrame(Node):
    """The value of its operand at the last closed bar of a higher interval."""

    interval: Interval


def number(value: float) -> Number:
    """Return a constant number."""
    value = value + 0.0  # -0.0 and 0.0 are one constant
    whole = value.is_integer() and abs(value) < 1e15
    text = str(int(value)) if whole else repr(value)
    return Number(f"({text})" if value < 0 else text, False, (), 1, 1, value)


def truth(value: bool) -> Truth:
    """Return a constant answer."""
    return Truth("(0 < 1)" if value else "(1 < 0)", True, (), 1, 1, value)


def column(name: str) -> Column:
    """Return a series of the market."""
    return Column(name, False, (), 1, 1, name)


def lag(operand: Node, bars: int) -> Node:
    """Return `operand` as it was `bars` bars ago; lags of lags add up."""
    if isinstance(operand, (Number, Truth)) or bars == 0:
        return operand
    if isinstance(operand, Lag):
        operand, bars = operand.operands[0], bars + operand.bars
    return Lag(f"{operand.text}[{bars}]", operand.boolean, (operand,), *_measure((operand,)), bars)


def higher_frame(interval: Interval, operand: Node) -> Node:
    """Return `operand` as seen on a higher interval."""
    if isinstance(operand, (Number, Truth)):
        return operand
    text = f'tf("{interval}", {operand.text})'
    return HigherFrame(text, operand.boolean, (operand,), *_measure((operand,)), interval)


def call(function: Indicator, operands: tuple[Node, ...], constants: tuple[float, ...]) -> Call:
    """Return a call of a native function; the arguments of a variadic one have no order."""
    if function.variadic:
        operands = tuple(sorted(operands, key=_sort_key))
    size, depth = _measure(operands)
    given = list(operands[len(function.inputs) :])
    words: list[str] = []
    values = iter(constants)
    for parameter in function.parameters:
        constant = parameter.kind in ("period", "constant")
        words.append(number(next(values)).text if constant else given.pop(0).text)
    words.extend(operand.text for operand in given)
    return Call(f"{function.name}({', '.join(words)})", function.boolean, operands, size, depth, function, constants)


def negated(operand: Node) -> Node:
    """Return minus `operand`."""
    if isinstance(operand, Number):
        return number(-operand.value)
    if isinstance(operand, Operation) and operand.symbol == "-":
        return operand.operands[0]
    return Operation(f"(-{operand.text})", False, (operand,), *_measure((operand,)), "-")


def inverted(operand: Node) -> Node:
    """Return the opposite condition."""
    if isinstance(operand, Truth):
        return truth(not operand.value)
    if isinstance(operand, Operation) and operand.symbol == "not":
        return operand.operands[0]
    return Operation(f"(not {operand.text})", True, (operand,), *_measure((operand,)), "not")


def combined(symbol: Literal["+", "*"], operands: tuple[Node, ...]) -> Node:
    """Return a sum or product; chains are flattened and ordered, and evaluated in that order."""
    ordered = tuple(sorted(_flattened(symbol, operands), key=_sort_key))
    return _joined(symbol, ordered, boolean=False)


def logical(symbol: Literal["and", "or"], operands: tuple[Node, ...]) -> Node:
    """Return a conjunction or disjunction without constants, repeats or order."""
    decisive = symbol == "or"
    kept: dict[str, Node] = {}
    for operand in _flattened(symbol, operands):
        if not isinstance(operand, Truth):
            kept[operand.text] = operand
        elif operand.value == decisive:
            return truth(decisive)
    if not kept:
        return truth(not decisive)
    if len(kept) == 1:
        return next(iter(kept.values()))
    return _joined(symbol, tuple(sorted(kept.values(), key=_sort_key)), boolean=True)


def binary(symbol: Literal["/", "%", "**"], left: Node, right: Node) -> Node:
    """Return an operation whose operands keep their places."""
    return _joined(symbol, (left, right), boolean=False)


def comparison(symbol: str, left: Node, right: Node) -> Node:
    """Return a comparison; `>` becomes `<` with its sides swapped."""
    if symbol in (">", ">="):
        left, right = right, left
    if symbol in ("==", "!="):
        left, right = sorted((left, right), key=_sort_key)
    normal: dict[str, Literal["<", "<=", "==", "!="]] = {
        "<": "<", ">": "<", "<=": "<=", ">=": "<=", "==": "==", "!=": "!=",
    }  # fmt: skip
    return _joined(normal[symbol], (left, right), boolean=True)


def _joined(symbol: Symbol, operands: tuple[Node, ...], *, boolean: bool) -> Operation:
    size, depth = _measure(operands)
    text = "(" + f" {symbol} ".join(operand.text for operand in operands) + ")"
    return Operation(text, boolean, operands, size, depth, symbol)


def _flattened(symbol: str, operands: tuple[Node, ...]) -> Iterator[Node]:
    for operand in operands:
        if isinstance(operand, Operation) and operand.symbol == symbol:
            yield from operand.operands
        else:
            yield operand


def _sort_key(node: Node) -> tuple[bool, str]:
    # Negated terms last, so that a sum starts with a value to subtract from.
    return isinstance(node, Operation) and node.symbol == "-", node.text


def _measure(operands: tuple[Node, ...]) -> tuple[int, int]:
    size = 1 + sum(operand.size for operand in operands)
    depth = 1 + max((operand.depth for operand in operands), default=0)
    if size > MAX_RESOLVED_NODES or depth > MAX_RESOLVED_DEPTH:
        raise BadExpression(
            f"the expression has more than {MAX_RESOLVED_NODES} parts or {MAX_RESOLVED_DEPTH} levels once its "
            "definitions and composite indicators are written out",
            fix="use fewer or simpler definitions inside one another",
        )
    return size, depth
