"""Conditions between parameters, such as `fast < slow`, for many points at once."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.expressions import parse
from engine.core.expressions.resolution import closest
from engine.errors import BadExpression, BadRequest

Columns = Mapping[str, NDArray[np.float64]]
Column = NDArray[np.float64]

MOST_CONSTRAINTS = 10
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": np.abs, "max": np.maximum, "min": np.minimum}
# A strict comparison of equal sides is broken by this much.
_TOUCHING = 1e-9


class Constraint:
    """One condition that every point must fulfil.

    Parameters
    ----------
    text : str
        Comparisons of numbers and parameters, joined by `and`, `or`, `not`.
    names : collection of str
        The parameters it may speak of.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        syntax = parse(text)
        unknown = sorted(syntax.names - set(names))
        if unknown:
            raise BadRequest(
                f"constraint {text!r}: there is no parameter {unknown[0]!r}",
                fix=f"{closest(unknown[0], names)} parameters: {', '.join(names)}".strip(),
            )
        self.text = text
        self._tree: ast.expr = syntax.tree
        if not isinstance(self._tree, ast.Compare | ast.BoolOp) and not _is_negation(self._tree):
            raise BadRequest(f"constraint {text!r} is no condition", fix='write a comparison such as "fast < slow"')
        # Tried out on one point, so that what cannot be read is told before anything runs.
        self.violations({name: np.ones(1) for name in names})

    def violations(self, columns: Columns) -> Column:
        """Return by how much each point breaks the condition; 0 where it holds.

        Parameters
        ----------
        columns : mapping of str to ndarray of float64, shape (n,)
            Every parameter the condition speaks of.

        Returns
        -------
        ndarray of float64, shape (n,)

        >>> Constraint("fast < slow", ["fast", "slow"]).violations({"fast": np.array([5.0, 9.0]), "slow": np.array([7.0, 7.0])})
        array([0., 2.])
        """
        with np.errstate(all="ignore"):
            broken = self._broken(self._tree, columns)
        length = len(next(iter(columns.values())))
        # What is not a number breaks every condition.
        return np.nan_to_num(np.broadcast_to(broken, length).astype(np.float64), nan=1.0, posinf=1e9)

    def _broken(self, tree: ast.expr, columns: Columns) -> Any:
        match tree:
            case ast.BoolOp(op=ast.And()):
                return sum(self._broken(value, columns) for value in tree.values)
            case ast.BoolOp():
                return np.minimum.reduce(np.broadcast_arrays(*(self._broken(value, columns) for value in tree.values)))
            case ast.UnaryOp(op=ast.Not()):
                return (np.asarray(self._broken(tree.operand, columns)) == 0).astype(np.float64)
            case ast.Compare():
                sides = [self._number(side, columns) for side in (tree.left, *tree.comparators)]
                links = zip(tree.ops, sides, sides[1:], strict=False)
                return sum(_distance(operator, left, right) for operator, left, right in links)
            case _:
                raise self._unreadable(tree)

    def _number(self, tree: ast.expr, columns: Columns) -> Any:
        match tree:
            case ast.Constant(value=float() | int() as value):
                return np.float64(value)
            case ast.Name(id=name):
                return columns[name]
            case ast.UnaryOp(op=ast.USub()):
                return -self._number(tree.operand, columns)
            case ast.BinOp() if type(tree.op) in _ARITHMETIC:
                return _ARITHMETIC[type(tree.op)](self._number(tree.left, columns), self._number(tree.right, columns))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                try:
                    return _FUNCTIONS[name](*(self._number(value, columns) for value in args))
                except (TypeError, ValueError) as error:
                    raise self._unreadable(tree) from error
            case _:
                raise self._unreadable(tree)

    def _unreadable(self, tree: ast.expr) -> BadExpression:
        return BadExpression(
            f"constraint {self.text!r}: {ast.unparse(tree)!r} cannot be compared",
            fix="use numbers, parameters, + - * /, abs, min, max and comparisons",
            position=tree.col_offset,
        )


def _is_negation(tree: ast.expr) -> bool:
    return isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)


def _distance(operator: ast.cmpop, left: Any, right: Any) -> Any:
    gap = np.asarray(left - right, np.float64)
    match operator:
        case ast.Lt():
            return np.where(gap < 0, 0.0, gap + (gap == 0) * _TOUCHING)
        case ast.LtE():
            return np.maximum(gap, 0.0)
        case ast.Gt():
            return np.where(gap > 0, 0.0, (gap == 0) * _TOUCHING - gap)
        case ast.GtE():
            return np.maximum(-gap, 0.0)
        case ast.Eq():
            return np.abs(gap)
        case _:
            return (gap == 0).astype(np.float64)


def total_violation(constraints: Collection[Constraint], columns: Columns, count: int) -> Column:
    """Return by how much each of `count` points breaks all conditions together."""
    return sum((constraint.violations(columns) for constraint in constraints), np.zeros(count))
