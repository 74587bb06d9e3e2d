"""What tells a look at a market from a strategy tried on it: which expressions a verdict has to count."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from engine.core.expressions.nodes import Node, Operation
from engine.core.expressions.syntax import parse

_HIGHER_FRAME = "tf"


def is_plain(expression: str) -> bool:
    """Say whether an expression only looks: a series, or one function of series and numbers, lagged or of a higher interval.

    Whatever joins two of them, by arithmetic, a comparison or a function of a function, can be the profit of a rule.

    >>> [is_plain(text) for text in ("close", "ema(close, 20)[1]", 'tf("240", rsi(close, 14))', "macd_signal(close)")]
    [True, True, True, True]
    >>> [is_plain(text) for text in ("close - open", "rsi(close, 14) < 30", "ema(rsi(close, 14), 9)", "-close")]
    [False, False, False, False]
    """
    tree = _bare(parse(expression).tree)
    if isinstance(tree, ast.Call):
        return all(_is_word(_bare(given)) for given in (*tree.args, *(word.value for word in tree.keywords)))
    return _is_word(tree)


def conjuncts(tree: Node) -> Iterator[Node]:
    """Yield the parts of the outermost conjunction of a condition, the condition itself where it has none."""
    if isinstance(tree, Operation) and tree.symbol == "and":
        yield from tree.operands
    else:
        yield tree


def review_text(fingerprint: str) -> str:
    """Return what a strategy is called among expressions, when its conditions were counted on a market without a run."""
    return f"strategy {fingerprint}"


def _bare(tree: ast.expr) -> ast.expr:
    """Return what is left of an expression without its lags and higher intervals."""
    while True:
        if isinstance(tree, ast.Subscript):
            tree = tree.value
        elif isinstance(tree, ast.Call) and _is_higher_frame(tree):
            tree = tree.args[1]
        else:
            return tree


def _is_higher_frame(tree: ast.Call) -> bool:
    return isinstance(tree.func, ast.Name) and tree.func.id == _HIGHER_FRAME and len(tree.args) > 1


def _is_word(tree: ast.expr) -> bool:
    if isinstance(tree, ast.UnaryOp):
        return isinstance(tree.operand, ast.Constant)
    return isinstance(tree, (ast.Name, ast.Constant))
