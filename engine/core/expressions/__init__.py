"""The expression language: parsed with a whitelist, typed, bounded, causal, evaluated to columns.

Every value of a bar depends on that bar and earlier ones only. Rows are consecutive bars as stored: where candles are
missing, `close[1]` is the stored bar before.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.candles import Candles, FloatColumn
from engine.core.expressions import nodes
from engine.core.expressions.definitions import resolve_definitions
from engine.core.expressions.evaluation import Evaluator, Memo
from engine.core.expressions.nodes import SERIES, Node
from engine.core.expressions.resolution import resolve
from engine.core.expressions.syntax import parse
from engine.core.expressions.warmup import warmup_bars
from engine.core.indicators.registry import AnyColumn
from engine.core.timeframes import Interval

__all__ = ["SERIES", "Evaluator", "Memo", "Node", "canonical", "evaluate", "parse", "resolve", "tree_of", "warmup"]


def tree_of(
    expression: str, params: Mapping[str, float] | None = None, definitions: Mapping[str, str] | None = None
) -> Node:
    """Return the typed tree of an expression with its parameters and definitions put in."""
    bound: dict[str, Node] = {name: nodes.number(value) for name, value in (params or {}).items()}
    return resolve(parse(expression), resolve_definitions(definitions or {}, bound))


def warmup(
    expression: str,
    params: Mapping[str, float] | None = None,
    interval: Interval | None = None,
    definitions: Mapping[str, str] | None = None,
) -> int:
    """Return the row of the first value of an expression when data starts at row 0.

    >>> warmup("crossover(ema(close, fast), ema(close, 50))", {"fast": 20})
    50
    """
    return warmup_bars(tree_of(expression, params, definitions), interval)


def canonical(
    expression: str, params: Mapping[str, float] | None = None, definitions: Mapping[str, str] | None = None
) -> str:
    """Return the normal form: the same text for expressions that differ in names, order or spelling only.

    >>> canonical("fast > ema(close, n) and close > 2", {"n": 9}, {"fast": "low + open"})
    '((2 < close) and (ema(close, 9) < (low + open)))'
    """
    return tree_of(expression, params, definitions).text


def evaluate(
    expression: str,
    candles: Candles,
    interval: Interval,
    params: Mapping[str, float] | None = None,
    *,
    definitions: Mapping[str, str] | None = None,
    extras: Mapping[str, FloatColumn] | None = None,
    memo: Memo | None = None,
) -> AnyColumn:
    """Return the column of an expression.

    Parameters
    ----------
    extras : mapping of str to ndarray of float64, optional
        `funding_rate` and `open_interest`, aligned with the candles.
    memo : mutable mapping, optional
        Shared by evaluations over the same candles; indicator columns are computed once.

    Returns
    -------
    ndarray of float64 or bool, shape (n,)
        NaN where a number is not known; a comparison with NaN is False.
    """
    tree = tree_of(expression, params, definitions)
    evaluator = Evaluator(candles, interval, extras=extras, memo=memo)
    evaluator.expect([tree])
    return evaluator.conditions(tree) if tree.boolean else evaluator.numbers(tree)
