"""What a strategy decides, taken apart so that combinations of parameters share every part they have in common.

A rule is a tree of conditions over leaves. A leaf (`ema(close, fast)`) depends on few parameters, so a grid of thousands of
combinations has few distinct ones; only the cheap conditions on top exist once a combination.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from engine.core.expressions import tree_of
from engine.core.expressions.nodes import Number
from engine.core.expressions.syntax import parse
from engine.core.strategy import RULES, Rule
from engine.core.strategy_document import Level, StrategyDocument


class Relation(IntEnum):
    """How two columns are compared at a bar; every one is false where either is NaN."""

    LESS = 0
    GREATER = 1
    LESS_OR_EQUAL = 2
    GREATER_OR_EQUAL = 3
    EQUAL = 4
    DIFFERENT = 5
    CROSSES_ABOVE = 6
    CROSSES_BELOW = 7


_MIRRORED = {
    Relation.LESS: Relation.GREATER, Relation.GREATER: Relation.LESS,
    Relation.LESS_OR_EQUAL: Relation.GREATER_OR_EQUAL, Relation.GREATER_OR_EQUAL: Relation.LESS_OR_EQUAL,
    Relation.EQUAL: Relation.EQUAL, Relation.DIFFERENT: Relation.DIFFERENT,
    Relation.CROSSES_ABOVE: Relation.CROSSES_BELOW, Relation.CROSSES_BELOW: Relation.CROSSES_ABOVE,
}  # fmt: skip
_RELATIONS: dict[type[ast.cmpop], Relation] = {
    ast.Lt: Relation.LESS, ast.Gt: Relation.GREATER, ast.LtE: Relation.LESS_OR_EQUAL,
    ast.GtE: Relation.GREATER_OR_EQUAL, ast.Eq: Relation.EQUAL, ast.NotEq: Relation.DIFFERENT,
}  # fmt: skip
_CROSSINGS = {"crossover": Relation.CROSSES_ABOVE, "crossunder": Relation.CROSSES_BELOW}


@dataclass(frozen=True, slots=True)
class Leaf:
    """An expression that is evaluated whole: a number, or a condition that cannot be taken further apart.

    Attributes
    ----------
    text : str
    params : tuple of str
        The parameters it depends on, also through definitions.
    definitions : tuple of (str, str)
        The definitions it needs.
    boolean : bool
    """

    text: str
    params: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...]
    boolean: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two numeric leaves compared bar by bar; the places of leaves in the plan."""

    relation: Relation
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Logic:
    """Conditions joined, or one turned around; the places of earlier parts in the plan."""

    symbol: Literal["and", "or", "not"]
    operands: tuple[int, ...]


Part = Leaf | Comparison | Logic


@dataclass(slots=True)
class Plan:
    """The distinct parts of all rules, operands before what uses them.

    Attributes
    ----------
    parts : list
    rules : dict of Rule to int
        The part that is the rule.
    distances : tuple of int or None
        Numeric leaves: price distances of stop, target and trail.
    positive : tuple of int or None
        Conditions: the distance is above zero.
    """

    parts: list[Part] = field(default_factory=list[Part])
    rules: dict[Rule, int] = field(default_factory=dict[Rule, int])
    distances: tuple[int | None, ...] = (None, None, None)
    positive: tuple[int | None, ...] = (None, None, None)


def plan_strategy(document: StrategyDocument, params: Mapping[str, float]) -> Plan:
    """Take a document apart; `params` is any valid combination, which tells constants from series."""
    planner = _Planner(document, params)
    for rule in RULES:
        text: str | None = getattr(document, rule)
        if text is not None:
            planner.plan.rules[rule] = planner.condition(parse(text).tree)
    levels: tuple[Level | None, ...] = (document.stop_loss, document.take_profit, document.trailing_stop)
    texts = [None if level is None else level.distance for level in levels]
    planner.plan.distances = tuple(None if text is None else planner.number(parse(text).tree) for text in texts)
    planner.plan.positive = tuple(None if leaf is None else planner.above_zero(leaf) for leaf in planner.plan.distances)
    return planner.plan


def names_behind(text: str, document: StrategyDocument) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the parameters and the definitions an expression depends on, directly or through definitions."""
    waiting = list(parse(text).names)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            if name in document.define:
                waiting.extend(parse(document.define[name]).names)
    return (
        tuple(name for name in document.params if name in reached),
        tuple((name, text) for name, text in document.define.items() if name in reached),
    )


class _Planner:
    def __init__(self, document: StrategyDocument, params: Mapping[str, float]) -> None:
        self._document, self._params = document, params
        self._places: dict[Part, int] = {}
        self.plan = Plan()

    def condition(self, tree: ast.expr) -> int:
        match tree:
            case ast.BoolOp():
                symbol: Literal["and", "or"] = "and" if isinstance(tree.op, ast.And) else "or"
                return self._place(Logic(symbol, tuple(self.condition(value) for value in tree.values)))
            case ast.UnaryOp(op=ast.Not()):
                return self._place(Logic("not", (self.condition(tree.operand),)))
            case ast.Compare():
                return self._chain(tree)
            case ast.Call(func=ast.Name(id=name), args=[first, second], keywords=[]) if name in _CROSSINGS:
                return self._compare(_CROSSINGS[name], first, second)
            case ast.Name(id=name) if name in self._document.define:
                return self.condition(parse(self._document.define[name]).tree)
            case _:
                return self._leaf(tree, boolean=True)

    def number(self, tree: ast.expr) -> int:
        return self._leaf(tree, boolean=False)

    def above_zero(self, leaf: int) -> int:
        return self._related(Relation.LESS, self.number(parse("0").tree), leaf)

    def _chain(self, tree: ast.Compare) -> int:
        sides = (tree.left, *tree.comparators)
        links = [
            self._comparison(operator, left, right)
            for operator, left, right in zip(tree.ops, sides, sides[1:], strict=False)
        ]
        return links[0] if len(links) == 1 else self._place(Logic("and", tuple(links)))

    def _comparison(self, operator: ast.cmpop, left: ast.expr, right: ast.expr) -> int:
        if self._is_constant(left) and self._is_constant(right):
            # Known before the first bar: the language drops such conditions, and their neighbours' warm-up with them.
            return self._leaf(ast.Compare(left, [operator], [right]), boolean=True)
        return self._compare(_RELATIONS[type(operator)], left, right)

    def _compare(self, relation: Relation, left: ast.expr, right: ast.expr) -> int:
        return self._related(relation, self.number(left), self.number(right))

    def _related(self, relation: Relation, left: int, right: int) -> int:
        # One order for each pair, so that a < b and b < a look at their columns once.
        if right < left:
            relation, left, right = _MIRRORED[relation], right, left
        return self._place(Comparison(relation, left, right))

    def _is_constant(self, tree: ast.expr) -> bool:
        leaf = self._described(tree, boolean=False)
        values = {name: self._params[name] for name in leaf.params}
        return isinstance(tree_of(leaf.text, values, dict(leaf.definitions)), Number)

    def _leaf(self, tree: ast.expr, *, boolean: bool) -> int:
        return self._place(self._described(tree, boolean=boolean))

    def _described(self, tree: ast.expr, *, boolean: bool) -> Leaf:
        if isinstance(tree, ast.Name) and tree.id in self._document.define:
            tree = parse(self._document.define[tree.id]).tree
        text = ast.unparse(tree)
        return Leaf(text, *names_behind(text, self._document), boolean)

    def _place(self, part: Part) -> int:
        place = self._places.get(part)
        if place is None:
            place = self._places[part] = len(self.plan.parts)
            self.plan.parts.append(part)
        return place
