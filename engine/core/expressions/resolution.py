"""From a syntax tree to a typed one: names bound, definitions and composites written out, constants computed."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, cast

import numpy as np

from engine.core.expressions import nodes
from engine.core.expressions.limits import MAX_EXPONENT, MAX_LAG
from engine.core.expressions.nodes import SERIES, Node, Number
from engine.core.expressions.syntax import Syntax, parse, position_of
from engine.core.indicators import REGISTRY, Indicator, Parameter
from engine.core.timeframes import parse_interval
from engine.errors import BadExpression, BadRequest

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_DERIVED = {"hl2": "(high + low) / 2", "hlc3": "(high + low + close) / 3", "ohlc4": "(open + high + low + close) / 4"}
_FRAME = "tf"


def resolve(syntax: Syntax, names: Mapping[str, Node]) -> Node:
    """Return the typed tree of an expression.

    Parameters
    ----------
    names : mapping of str to Node
        Parameters and definitions; series are known anyway.
    """
    return _Resolver(names).visit(syntax.tree)


def closest(name: str, candidates: Iterable[str]) -> str:
    """Return `did you mean 'x'?`, or nothing when no candidate is near."""
    found = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else ""


@lru_cache(maxsize=4_096)
def extra_warmup(function: Indicator, constants: tuple[float, ...]) -> int:
    """Return the rows a native function loses on top of those of its arguments."""
    names = [parameter.name for parameter in function.parameters if parameter.kind in ("period", "constant")]
    bound = {name: nodes.number(value) for name, value in zip(names, constants, strict=True)}
    return int(cast("Number", resolve(parse(function.warmup), bound)).value)


class _Resolver:
    def __init__(self, names: Mapping[str, Node]) -> None:
        self._names = names

    def visit(self, tree: ast.expr) -> Node:
        match tree:
            case ast.Constant():
                return self._constant(tree)
            case ast.Name():
                return self._name(tree)
            case ast.BinOp():
                return self._arithmetic(tree)
            case ast.UnaryOp():
                return self._unary(tree)
            case ast.BoolOp():
                return self._logic(tree)
            case ast.Compare():
                return self._comparison(tree)
            case ast.Subscript():
                return self._history(tree)
            case ast.Call():
                return self._call(tree)
            case _:
                raise _bad(tree, f"{type(tree).__name__.lower()} is not part of the language", "rewrite it")

    def _constant(self, tree: ast.Constant) -> Node:
        value = tree.value
        if not isinstance(value, (int, float)):
            raise _bad(tree, f"{value!r} has no place here", 'text only names an interval: tf("240", close)')
        return _finite(tree, lambda: float(value))

    def _name(self, tree: ast.Name) -> Node:
        known = self._names.get(tree.id)
        if known is not None:
            return known
        if tree.id in _DERIVED:
            return resolve(parse(_DERIVED[tree.id]), {})
        if tree.id in SERIES:
            return nodes.column(tree.id)
        if tree.id in REGISTRY:
            raise _bad(
                tree, f"{tree.id!r} is a function and needs its arguments", f"write {REGISTRY[tree.id].example()}"
            )
        hint = closest(tree.id, (*self._names, *SERIES, *REGISTRY, _FRAME))
        allowed = f"names here: {', '.join(sorted({*self._names, *SERIES}))}; functions: see list_indicators"
        raise _bad(tree, f"unknown name {tree.id!r}", f"{hint} {allowed}".strip())

    def _number(self, tree: ast.expr, needed_by: str) -> Node:
        node = self.visit(tree)
        if node.boolean:
            raise _bad(
                tree, f"{needed_by} needs a number, found the condition {_shown(tree)}", "use where(condition, 1, 0)"
            )
        return node

    def _condition(self, tree: ast.expr, needed_by: str) -> Node:
        node = self.visit(tree)
        if not node.boolean:
            raise _bad(
                tree, f"{needed_by} needs a condition, found the number {_shown(tree)}", "compare it with something"
            )
        return node

    def _arithmetic(self, tree: ast.BinOp) -> Node:
        left = self._number(tree.left, "arithmetic")
        right = self._number(tree.right, "arithmetic")
        if isinstance(tree.op, ast.Pow):
            self._check_exponent(tree.right, right)
        if isinstance(tree.op, (ast.Div, ast.Mod)) and isinstance(right, Number) and right.value == 0.0:
            raise _bad(tree.right, "this divides by the constant 0", "divide by something else")
        if isinstance(left, Number) and isinstance(right, Number):
            first, second = left.value, right.value
            return _finite(tree, lambda: _fold(tree.op, first, second))
        return _arithmetic_node(tree.op, left, right)

    def _check_exponent(self, tree: ast.expr, exponent: Node) -> None:
        if not isinstance(exponent, Number) or abs(exponent.value) > MAX_EXPONENT:
            raise _bad(tree, "an exponent is a constant", f"write one from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}")

    def _unary(self, tree: ast.UnaryOp) -> Node:
        if isinstance(tree.op, ast.Not):
            return nodes.inverted(self._condition(tree.operand, "not"))
        operand = self._number(tree.operand, "a sign")
        return nodes.negated(operand) if isinstance(tree.op, ast.USub) else operand

    def _logic(self, tree: ast.BoolOp) -> Node:
        symbol: Literal["and", "or"] = "and" if isinstance(tree.op, ast.And) else "or"
        return nodes.logical(symbol, tuple(self._condition(value, symbol) for value in tree.values))

    def _comparison(self, tree: ast.Compare) -> Node:
        values = [self._number(value, "a comparison") for value in (tree.left, *tree.comparators)]
        links: list[Node] = []
        for operator, left, right in zip(tree.ops, values, values[1:], strict=False):
            symbol = _COMPARISONS[type(operator)]
            if isinstance(left, Number) and isinstance(right, Number):
                links.append(nodes.truth(_compare(symbol, left.value, right.value)))
            else:
                links.append(nodes.comparison(symbol, left, right))
        return links[0] if len(links) == 1 else nodes.logical("and", tuple(links))

    def _history(self, tree: ast.Subscript) -> Node:
        operand = self.visit(tree.value)
        bars = self._number(tree.slice, "history")
        if not isinstance(bars, Number):
            raise _bad(tree.slice, "history needs a constant number of bars", "write close[1]")
        if bars.value < 0:
            raise _bad(
                tree.slice,
                f"history of {bars.value:g} bars would look into the future",
                "write close[1] for the bar before",
            )
        if not bars.value.is_integer() or bars.value > MAX_LAG:
            raise _bad(tree.slice, f"history of {bars.value:g} bars", f"write a whole number from 0 to {MAX_LAG}")
        return nodes.lag(operand, int(bars.value))

    def _call(self, tree: ast.Call) -> Node:
        name = cast("ast.Name", tree.func).id
        if name == _FRAME:
            return self._higher_frame(tree)
        function = REGISTRY.get(name)
        if function is None:
            hint = closest(name, (*REGISTRY, _FRAME))
            raise _bad(tree, f"unknown function {name!r}", hint or "list_indicators names every function")
        bound = self._arguments(tree, function)
        if function.expansion:
            return _expanded(tree, function, bound)
        return _native_call(tree, function, bound)

    def _higher_frame(self, tree: ast.Call) -> Node:
        first = tree.args[0] if tree.args else None
        if (
            len(tree.args) != 2
            or tree.keywords
            or not isinstance(first, ast.Constant)
            or not isinstance(first.value, str)
        ):
            raise _bad(tree, "tf needs an interval in quotes and an expression", 'write tf("240", ema(close, 50))')
        try:
            interval = parse_interval(first.value)
        except BadRequest as exc:
            raise _bad(first, exc.message, exc.fix) from exc
        return nodes.higher_frame(interval, self.visit(tree.args[1]))

    def _arguments(self, tree: ast.Call, function: Indicator) -> list[Node]:
        given = _bind(tree, function)
        bound: list[Node] = []
        for parameter in function.parameters:
            written = given.get(parameter.name)
            if written is not None:
                bound.append(self._argument(written, function, parameter))
            elif parameter.default is not None:
                bound.append(nodes.number(parameter.default))
            else:
                raise _bad(tree, f"{function.name} lacks {parameter.name!r}", f"write {function.signature()}")
        surplus = tree.args[len(function.parameters) :]
        bound.extend(self._argument(extra, function, function.parameters[-1]) for extra in surplus)
        return bound

    def _argument(self, tree: ast.expr, function: Indicator, parameter: Parameter) -> Node:
        place = f"{parameter.name!r} of {function.name}"
        if parameter.kind == "condition":
            return self._condition(tree, place)
        node = self._number(tree, place)
        if parameter.kind == "series" and isinstance(node, Number):
            raise _bad(tree, f"{place} is a series, found the constant {node.text}", f"write {function.example()}")
        if parameter.kind in ("period", "constant"):
            _check_constant(tree, node, place, parameter)
        return node


def _bind(tree: ast.Call, function: Indicator) -> dict[str, ast.expr]:
    names = [parameter.name for parameter in function.parameters]
    if len(tree.args) > len(names) and not function.variadic:
        raise _bad(
            tree.args[len(names)],
            f"{function.name} takes {len(names)} arguments, found {len(tree.args)}",
            f"write {function.signature()}",
        )
    given = dict(zip(names, tree.args, strict=False))
    for word in tree.keywords:
        name = word.arg or ""
        if name not in names:
            raise _bad(
                word,
                f"{function.name} has no argument {name!r}",
                closest(name, names) or f"write {function.signature()}",
            )
        if name in given:
            raise _bad(word, f"{function.name} gets {name!r} twice", f"write {function.signature()}")
        given[name] = word.value
    return given


def _check_constant(tree: ast.expr, node: Node, place: str, parameter: Parameter) -> None:
    low, high = parameter.minimum, parameter.maximum
    bounds = f"{low:g} to {high:g}" if low is not None and high is not None else "any size"
    kind = "a whole number" if parameter.kind == "period" else "a number"
    fix = f"write {kind} from {bounds}, or a parameter"
    if not isinstance(node, Number):
        raise _bad(tree, f"{place} is a constant, found the series {_shown(tree)}", fix)
    if parameter.kind == "period" and not node.value.is_integer():
        raise _bad(tree, f"{place} is {node.value:g}", fix)
    if (low is not None and node.value < low) or (high is not None and node.value > high):
        raise _bad(tree, f"{place} is {node.value:g}", fix)


def _expanded(tree: ast.Call, function: Indicator, bound: list[Node]) -> Node:
    names = {parameter.name: node for parameter, node in zip(function.parameters, bound, strict=True)}
    try:
        return resolve(parse(function.expansion), names)
    except BadExpression as exc:
        raise _bad(tree, f"{function.name}: {exc.message}", exc.fix) from exc


def _native_call(tree: ast.Call, function: Indicator, bound: list[Node]) -> Node:
    if function.elementwise and all(isinstance(node, Number) for node in bound):
        values = [np.float64(cast("Number", node).value) for node in bound]
        return _finite(tree, lambda: float(function.compute(*values)) if function.compute else np.nan)
    inputs = [nodes.column(name) for name in function.inputs]
    series: list[Node] = []
    constants: list[float] = []
    for index, node in enumerate(bound):
        parameter = function.parameters[min(index, len(function.parameters) - 1)]
        if parameter.kind in ("period", "constant"):
            constants.append(cast("Number", node).value)
        else:
            series.append(node)
    return nodes.call(function, (*inputs, *series), tuple(constants))


def _arithmetic_node(operator: ast.operator, left: Node, right: Node) -> Node:
    if isinstance(operator, ast.Add):
        return nodes.combined("+", (left, right))
    if isinstance(operator, ast.Sub):
        return nodes.combined("+", (left, nodes.negated(right)))
    if isinstance(operator, ast.Mult):
        return nodes.combined("*", (left, right))
    if isinstance(operator, ast.Div):
        return nodes.binary("/", left, right)
    return nodes.binary("%" if isinstance(operator, ast.Mod) else "**", left, right)


def _fold(operator: ast.operator, left: float, right: float) -> float:
    # numpy, so that a constant is computed exactly as a column would be.
    first, second = np.float64(left), np.float64(right)
    if isinstance(operator, ast.Add):
        return float(first + second)
    if isinstance(operator, ast.Sub):
        return float(first - second)
    if isinstance(operator, ast.Mult):
        return float(first * second)
    if isinstance(operator, ast.Div):
        return float(first / second)
    return float(np.mod(first, second) if isinstance(operator, ast.Mod) else np.power(first, second))


def _compare(symbol: str, left: float, right: float) -> bool:
    answers = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "==": left == right}
    return answers.get(symbol, left != right)


def _finite(tree: ast.expr, compute: object) -> Node:
    with np.errstate(all="ignore"):
        try:
            value = cast("float", compute())  # type: ignore[operator]
        except OverflowError:
            value = np.inf
    if not np.isfinite(value):
        raise _bad(tree, "this constant is not a finite number", "write one between -1e308 and 1e308")
    return nodes.number(float(value))


def _shown(tree: ast.expr) -> str:
    text = ast.unparse(tree)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _bad(tree: ast.AST, message: str, fix: str) -> BadExpression:
    return BadExpression(message, fix=fix, position=position_of(tree))
