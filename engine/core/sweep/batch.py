"""The masks, levels and columns of one batch of combinations, ready for the event kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.core.expressions import tree_of
from engine.core.expressions.nodes import Node, Truth
from engine.core.expressions.warmup import warmup_bars
from engine.core.strategy import RULES
from engine.core.sweep.columns import ColumnBank, Evaluation, Spread
from engine.core.sweep.masks import Words, compare_columns, pack_condition, words_needed
from engine.core.sweep.plan import Comparison, Leaf, Logic, Plan, Relation
from engine.core.timeframes import Interval

Points = Mapping[str, NDArray[np.float64]]
Keys = NDArray[np.int64]

# Answers known before the first bar.
_OPEN, _NEVER, _ALWAYS = -1, 0, 1
# Few pairs are still several tasks, so that every thread has some.
_MOST_PAIRS_A_TASK, _FEWEST_TASKS = 128, 8


@dataclass(slots=True)
class _Known:
    """What is known of a part: which distinct version each combination uses, and each combination's warm-up and answer."""

    keys: Keys
    versions: int
    warmup: Keys
    answer: Keys
    trees: list[Node] = field(default_factory=list[Node])
    pairs: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of the event kernel (see `run_combinations`)."""

    masks: tuple[Words, ...]
    mask_rows: NDArray[np.int64]
    distance_rows: NDArray[np.int64]
    warmups: Keys


class Shapes:
    """The parts of a plan at many points: which of them differ, and how many columns and masks they need."""

    def __init__(self, plan: Plan, points: Points, count: int, interval: Interval, trees: dict[object, Node]) -> None:
        self._plan, self._points, self._count = plan, points, count
        self._interval: Interval = interval
        self._trees = trees
        self.known: list[_Known] = []
        for part in plan.parts:
            self.known.append(self._leaf(part) if isinstance(part, Leaf) else self._joined(part))

    @property
    def columns(self) -> list[Node]:
        """Return every numeric tree, each once."""
        found: dict[str, Node] = {}
        for part, known in zip(self._plan.parts, self.known, strict=True):
            if isinstance(part, Leaf) and not part.boolean:
                found.update((tree.text, tree) for tree in known.trees)
        return list(found.values())

    @property
    def masks(self) -> int:
        """Return how many masks are computed."""
        return sum(
            known.versions
            for part, known in zip(self._plan.parts, self.known, strict=True)
            if not isinstance(part, Leaf) or part.boolean
        )

    @property
    def warmups(self) -> Keys:
        """Return the first bar of each combination that may carry a decision."""
        whole = [*self._plan.rules.values(), *(leaf for leaf in self._plan.distances if leaf is not None)]
        return np.maximum.reduce([self.known[place].warmup for place in whole])

    def _leaf(self, leaf: Leaf) -> _Known:
        values = [self._points[name] for name in leaf.params]
        distinct, keys = _distinct(values, self._count)
        trees = [self._tree(leaf, row) for row in distinct]
        warmup = np.array([warmup_bars(tree, self._interval) for tree in trees], np.int64)
        answer = np.array([int(tree.value) if isinstance(tree, Truth) else _OPEN for tree in trees], np.int64)
        return _Known(keys, len(trees), warmup[keys], answer[keys], trees=trees)

    def _tree(self, leaf: Leaf, values: tuple[float, ...]) -> Node:
        tree = self._trees.get((leaf, values))
        if tree is None:
            tree = tree_of(leaf.text, dict(zip(leaf.params, values, strict=True)), dict(leaf.definitions))
            self._trees[leaf, values] = tree
        return tree

    def _joined(self, part: Comparison | Logic) -> _Known:
        if isinstance(part, Comparison):
            return self._comparison(part)
        operands = [self.known[place] for place in part.operands]
        pairs, keys = _distinct([operand.keys for operand in operands], self._count)
        warmup, answer = _combined(part, operands)
        return _Known(keys, len(pairs), warmup, answer, pairs=np.array(pairs, np.int64))

    def _comparison(self, part: Comparison) -> _Known:
        left, right = self.known[part.left], self.known[part.right]
        codes, keys = np.unique(left.keys * right.versions + right.keys, return_inverse=True)
        crosses = part.relation in (Relation.CROSSES_ABOVE, Relation.CROSSES_BELOW)
        warmup = np.maximum(left.warmup, right.warmup) + int(crosses)
        pairs = np.stack((codes // right.versions, codes % right.versions), axis=1)
        return _Known(keys, len(codes), warmup, np.full(self._count, _OPEN), pairs=pairs)


def _distinct(values: Sequence[NDArray[np.float64] | Keys], count: int) -> tuple[list[tuple[float, ...]], Keys]:
    """Return the distinct rows of some columns and which of them each row is."""
    if not values:
        return [()], np.zeros(count, np.int64)
    keys = np.zeros(count, np.int64)
    for column in values:
        distinct, places = np.unique(column, return_inverse=True)
        keys = np.unique(keys * len(distinct) + places, return_inverse=True)[1]
    _, firsts = np.unique(keys, return_index=True)
    return list(zip(*(column[firsts].tolist() for column in values), strict=True)), keys


def _combined(part: Logic, operands: Sequence[_Known]) -> tuple[Keys, Keys]:
    """Return warm-up and answer of a logical part; constants drop out of it as they do when a rule is compiled."""
    if part.symbol == "not":
        only = operands[0]
        return only.warmup, np.where(only.answer == _OPEN, _OPEN, 1 - only.answer)
    decisive = _ALWAYS if part.symbol == "or" else _NEVER
    answers = np.stack([operand.answer for operand in operands])
    is_decided = (answers == decisive).any(axis=0)
    is_constant = (answers != _OPEN).all(axis=0)
    warmups = np.where(answers == _OPEN, np.stack([operand.warmup for operand in operands]), 0).max(axis=0)
    answer = np.where(is_decided, decisive, np.where(is_constant, 1 - decisive, _OPEN))
    return np.where(is_decided, 0, warmups), answer


def make_batch(
    plan: Plan, shapes: Shapes, bank: ColumnBank, evaluation: Evaluation, bars: int, spread: Spread
) -> Batch:
    """Compute what the event kernel needs."""
    rows = bank.rows(shapes.columns, evaluation, spread)
    words = _Masks(plan, shapes, bank, rows, bars).computed(evaluation, spread)
    count = len(shapes.warmups)
    nothing = np.zeros((1, words_needed(bars)), np.uint64)
    tables: list[Words] = []
    mask_rows = np.zeros((count, len(RULES) + 3), np.int64)
    for place, part in enumerate([*(plan.rules.get(rule) for rule in RULES), *plan.positive]):
        if part is not None:
            tables.append(words[part])
            mask_rows[:, place] = shapes.known[part].keys
        else:
            # A rule that does not exist never holds; a distance that does not exist forbids nothing.
            tables.append(nothing if place < len(RULES) else ~nothing)
    distance_rows = np.full((count, 3), -1, np.int64)
    for place, leaf in enumerate(plan.distances):
        if leaf is not None:
            known = shapes.known[leaf]
            distance_rows[:, place] = np.array([rows[tree.text] for tree in known.trees])[known.keys]
    return Batch(tuple(tables), mask_rows, distance_rows, shapes.warmups)


class _Masks:
    """Computes the masks of every part, operands first."""

    def __init__(self, plan: Plan, shapes: Shapes, bank: ColumnBank, rows: Mapping[str, int], bars: int) -> None:
        self._plan, self._shapes, self._bank, self._rows, self._bars = plan, shapes, bank, rows, bars
        self._words: dict[int, Words] = {}

    def computed(self, evaluation: Evaluation, spread: Spread) -> dict[int, Words]:
        self._compare(spread)
        for place, part in enumerate(self._plan.parts):
            if isinstance(part, Leaf) and part.boolean:
                trees = self._shapes.known[place].trees
                self._words[place] = np.stack(
                    list(spread(lambda tree: pack_condition(evaluation.conditions(tree)), trees))
                )
            elif isinstance(part, Logic):
                self._words[place] = self._logic(part, self._shapes.known[place])
        return self._words

    def _compare(self, spread: Spread) -> None:
        pairs: dict[tuple[int, int], list[tuple[int, Relation]]] = {}
        for place, part in enumerate(self._plan.parts):
            if isinstance(part, Comparison):
                pairs.setdefault((part.left, part.right), []).append((place, part.relation))
        for (left, right), wanted in pairs.items():
            self._compare_pair(left, right, wanted, spread)

    def _compare_pair(self, left: int, right: int, wanted: list[tuple[int, Relation]], spread: Spread) -> None:
        known = self._shapes.known
        versions = known[wanted[0][0]].pairs
        assert versions is not None  # noqa: S101 - comparisons always have them
        sides = [
            np.array([self._rows[tree.text] for tree in known[side].trees], np.int64)[versions[:, column]]
            for column, side in enumerate((left, right))
        ]
        one, other = sides
        relations = np.array([relation for _, relation in wanted], np.int64)
        result = np.empty((len(wanted), len(versions), words_needed(self._bars)), np.uint64)
        step = min(_MOST_PAIRS_A_TASK, -(-len(versions) // _FEWEST_TASKS))

        def compare(first: int) -> None:
            last = min(first + step, len(versions))
            compare_columns(self._bank.table, self._bank.valid, one, other, relations, result, first, last)

        for _ in spread(compare, range(0, len(versions), step)):
            pass
        for row, (place, _) in enumerate(wanted):
            self._words[place] = result[row]

    def _logic(self, part: Logic, known: _Known) -> Words:
        assert known.pairs is not None  # noqa: S101 - logic always has them
        first, *others = (self._words[operand][known.pairs[:, column]] for column, operand in enumerate(part.operands))
        if part.symbol == "not":
            return np.invert(first, out=first)
        join = np.bitwise_and if part.symbol == "and" else np.bitwise_or
        for other in others:
            join(first, other, out=first)
        return first
