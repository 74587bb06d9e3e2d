"""A strategy with its parameters put in: typed, checked, ready to run, and what can be said about it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from engine.core.expressions import nodes
from engine.core.expressions.definitions import naming, resolve_definitions
from engine.core.expressions.nodes import Node, Number, Truth
from engine.core.expressions.resolution import closest, resolve
from engine.core.expressions.syntax import parse
from engine.core.expressions.warmup import check_nesting, frames_used, functions_used, series_used, warmup_bars
from engine.core.strategy_document import Amount, Level, Session, StrategyDocument, read_document
from engine.core.timeframes import Interval
from engine.errors import BadExpression, BadRequest

OrderKind = Literal["limit", "stop"]
MOST_ENTRIES = 10
Rule = Literal["long_entry", "long_exit", "short_entry", "short_exit"]
SizeMode = Literal["equity_fraction", "quote", "quantity", "risk"]
# Beyond this a number is a mistake; min and max of a parameter only bound searches.
LARGEST_PARAMETER = 1e9
RULES: tuple[Rule, ...] = ("long_entry", "long_exit", "short_entry", "short_exit")


@dataclass(frozen=True, slots=True)
class CompiledLevel:
    """A stop, target or trail: a fraction of the entry price (NaN: none) or a price distance."""

    fraction: float = math.nan
    distance: Node | None = None

    @property
    def present(self) -> bool:
        """Tell whether there is one."""
        return self.distance is not None or not math.isnan(self.fraction)


@dataclass(frozen=True, slots=True)
class CompiledSize:
    """How much to trade, in the unit its mode names; `risk` is the fraction of equity lost at the stop."""

    mode: SizeMode
    value: float


@dataclass(frozen=True, slots=True)
class CompiledPart:
    """A partial target: the share of the position it closes, and where."""

    share: float
    level: CompiledLevel


@dataclass(frozen=True, slots=True)
class CompiledOrder:
    """A resting entry order: its offset from the close of the signal bar, and how many bars it lives."""

    kind: OrderKind
    offset: CompiledLevel
    bars: int


@dataclass(frozen=True, slots=True, eq=False)
class CompiledStrategy:
    """A strategy at one point of its parameter space."""

    document: StrategyDocument
    params: Mapping[str, float]
    rules: Mapping[Rule, Node]
    stop: CompiledLevel
    target: CompiledLevel
    trail: CompiledLevel
    trail_activation_fraction: float
    breakeven_fraction: float
    max_bars: int
    size: CompiledSize | None
    partials: tuple[CompiledPart, ...]
    order: CompiledOrder | None
    max_entries: int
    session: Session | None
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the document's name."""
        return self.document.name

    def trees(self) -> list[Node]:
        """Return every expression that is evaluated bar by bar."""
        levels = [self.stop, self.target, self.trail, *(part.level for part in self.partials)]
        if self.order is not None:
            levels.append(self.order.offset)
        return [*self.rules.values(), *(level.distance for level in levels if level.distance is not None)]

    def warmup_bars(self, interval: Interval | None = None) -> int:
        """Return the first row that may carry a signal; `interval` is needed where `tf` is used."""
        return max(warmup_bars(tree, interval) for tree in self.trees())

    @property
    def series(self) -> frozenset[str]:
        """Return the market series that are read."""
        return frozenset[str]().union(*(series_used(tree) for tree in self.trees()))

    @property
    def higher_timeframes(self) -> frozenset[Interval]:
        """Return the intervals named by `tf`."""
        return frozenset[Interval]().union(*(frames_used(tree) for tree in self.trees()))

    def canonical(self) -> dict[str, object]:
        """Return what decides its trades, in normal form: no names, no order, parameters put in."""
        # A later field appears only where it is used, so that older strategies keep their fingerprint.
        later: dict[str, object] = {}
        if self.partials:
            later["partials"] = [[repr(part.share), _level_text(part.level)] for part in self.partials]
        if self.order is not None:
            later["order"] = [self.order.kind, _level_text(self.order.offset), self.order.bars]
        if self.max_entries > 1:
            later["max_entries"] = self.max_entries
        if self.session is not None:
            later["session"] = self.session.model_dump(mode="json") | {"weekdays": sorted(set(self.session.weekdays))}
        return later | {
            "rules": {rule: tree.text for rule, tree in self.rules.items()},
            "stop": _level_text(self.stop),
            "target": _level_text(self.target),
            "trail": _level_text(self.trail),
            "trail_activation": repr(self.trail_activation_fraction),
            "breakeven": repr(self.breakeven_fraction),
            "max_bars": self.max_bars,
            "size": None if self.size is None else [self.size.mode, repr(self.size.value)],
        }

    def fingerprint(self) -> str:
        """Return the sha256 of the normal form: the same for the same strategy, however it is written."""
        text = json.dumps({"language": 1, **self.canonical()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What validation tells about a strategy. `warmup_bars` is None where `tf` is used and the interval is not known."""

    name: str
    params: dict[str, float]
    sides: list[str]
    warmup_bars: int | None
    series: list[str]
    higher_timeframes: list[str]
    functions: list[str]
    rules: dict[str, str]
    fingerprint: str
    warnings: list[str]


def parse_strategy(raw: object) -> StrategyDocument:
    """Return a document whose every expression is valid at its defaults, or raise naming the place."""
    document = read_document(raw)
    compile_strategy(document)
    return document


def compile_strategy(document: StrategyDocument, params: Mapping[str, float] | None = None) -> CompiledStrategy:
    """Return the strategy at `params`; what is not given keeps its default."""
    values = _checked_params(document, params or {})
    bound: dict[str, Node] = {name: nodes.number(value) for name, value in values.items()}
    names = resolve_definitions(document.define, bound)
    reader = _Reader(names, bound)
    trailing = document.trailing_stop
    rules: dict[Rule, Node] = {
        rule: tree for rule in RULES if (tree := reader.rule(rule, getattr(document, rule))) is not None
    }
    compiled = CompiledStrategy(
        document=document,
        params=values,
        rules=rules,
        stop=reader.level("stop_loss", document.stop_loss, most=99.99),
        target=reader.level("take_profit", document.take_profit, most=10_000.0),
        trail=reader.level("trailing_stop", trailing, most=99.99),
        trail_activation_fraction=reader.percent(
            "trailing_stop.activation_percent", trailing.activation_percent if trailing else None, 10_000.0
        ),
        breakeven_fraction=reader.percent("breakeven_after_percent", document.breakeven_after_percent, 10_000.0),
        max_bars=reader.whole("max_bars", document.max_bars, 1_000_000, 0),
        size=reader.size(document),
        partials=reader.partials(document),
        order=reader.order(document),
        max_entries=reader.whole("max_entries", document.max_entries, MOST_ENTRIES, 1),
        session=document.session,
        warnings=(),
    )
    for tree in compiled.trees():
        warmup_bars(tree, None)
    return _with_warnings(compiled, reader.read)


def explain(strategy: CompiledStrategy, interval: Interval | None = None) -> Explanation:
    """Say what a strategy needs and does."""
    frames = strategy.higher_timeframes
    warnings = list(strategy.warnings)
    if interval is not None:
        for frame in frames:
            check_nesting(frame, interval)
    trees = strategy.trees()
    return Explanation(
        name=strategy.name,
        params=dict(strategy.params),
        sides=[side for side in ("long", "short") if f"{side}_entry" in strategy.rules],
        warmup_bars=None if frames and interval is None else strategy.warmup_bars(interval),
        series=sorted(strategy.series),
        higher_timeframes=sorted(frames),
        functions=sorted(frozenset[str]().union(*(functions_used(tree) for tree in trees))),
        rules={rule: tree.text for rule, tree in strategy.rules.items()},
        fingerprint=strategy.fingerprint(),
        warnings=warnings,
    )


class _Reader:
    """Resolves the parts of one document and remembers which names they read."""

    def __init__(self, names: Mapping[str, Node], params: Mapping[str, Node]) -> None:
        self._names, self._params = names, params
        self.read: set[str] = set()

    def rule(self, place: str, text: str | None) -> Node | None:
        if text is None:
            return None
        tree = self._tree(place, text, self._names)
        if not tree.boolean:
            raise BadExpression(
                f"{place}: this is a number, a condition is needed", fix="compare it with something", position=0
            )
        return tree

    def level(self, place: str, level: Level | None, *, most: float) -> CompiledLevel:
        if level is None:
            return CompiledLevel()
        if level.distance is None:
            return CompiledLevel(fraction=self.percent(f"{place}.percent", level.percent, most))
        tree = self._tree(f"{place}.distance", level.distance, self._names)
        if tree.boolean or (isinstance(tree, Number) and tree.value <= 0):
            raise BadExpression(
                f"{place}.distance: a positive price distance is needed", fix="write 2 * atr(14)", position=0
            )
        return CompiledLevel(distance=tree)

    def percent(self, place: str, amount: Amount | None, most: float) -> float:
        if amount is None:
            return math.nan
        return self.amount(place, amount, most) / 100.0

    def amount(self, place: str, amount: Amount, most: float) -> float:
        value = amount
        if isinstance(value, str):
            tree = self._tree(place, value, self._params)
            if not isinstance(tree, Number):
                raise BadExpression(
                    f"{place}: this varies from bar to bar", fix="use numbers and parameters only", position=0
                )
            value = tree.value
        if not 0.0 < value <= most:
            raise BadRequest(f"{place}: {value:g} is out of bounds", fix=f"write more than 0 and at most {most:g}")
        return float(value)

    def whole(self, place: str, amount: Amount | None, most: int, default: int) -> int:
        if amount is None:
            return default
        value = self.amount(place, amount, float(most))
        if not value.is_integer():
            raise BadRequest(f"{place}: {value:g} is not a whole number", fix=f"write a whole number up to {most}")
        return int(value)

    def partials(self, document: StrategyDocument) -> tuple[CompiledPart, ...]:
        parts = tuple(
            CompiledPart(
                self.amount(f"partial_take_profits.{row}.fraction", part.fraction, 1.0),
                self.level(f"partial_take_profits.{row}", part, most=10_000.0),
            )
            for row, part in enumerate(document.partial_take_profits or ())
        )
        total = sum(part.share for part in parts)
        if total > 1.0 + 1e-9:
            raise BadRequest(
                f"partial_take_profits close {total:g} of the position", fix="let the fractions sum to 1 at most"
            )
        # Nearest first, the rest last; distances vary from bar to bar and are taken in the order written.
        last = document.take_profit and self.percent("take_profit.percent", document.take_profit.percent, 10_000.0)
        fractions = [part.level.fraction for part in parts] + [math.nan if last is None else last]
        if any(later <= earlier for earlier, later in itertools.pairwise(fractions)):
            raise BadRequest(
                "partial_take_profits and take_profit are not in ascending order", fix="write the nearest target first"
            )
        return parts

    def order(self, document: StrategyDocument) -> CompiledOrder | None:
        order = document.entry_order
        if order is None:
            return None
        return CompiledOrder(
            order.type,
            self.level("entry_order", order, most=99.99),
            self.whole("entry_order.bars", order.bars, 10_000, 1),
        )

    def size(self, document: StrategyDocument) -> CompiledSize | None:
        if document.size is None:
            return None
        if document.size.risk_percent is not None:
            return CompiledSize("risk", self.percent("size.risk_percent", document.size.risk_percent, 100.0))
        bounds: dict[SizeMode, float] = {"equity_fraction": 1.0, "quote": 1e15, "quantity": 1e15}
        for mode, most in bounds.items():
            amount = cast("Amount | None", getattr(document.size, mode))
            if amount is not None:
                return CompiledSize(mode, self.amount(f"size.{mode}", amount, most))
        return None

    def _tree(self, place: str, text: str, names: Mapping[str, Node]) -> Node:
        with naming(place):
            syntax = parse(text)
            self.read |= syntax.names
            return resolve(syntax, names)


def _checked_params(document: StrategyDocument, params: Mapping[str, Any]) -> dict[str, float]:
    for name in params:
        if name not in document.params:
            known = ", ".join(document.params) or "none"
            raise BadRequest(
                f"{document.name} has no parameter {name!r}",
                fix=f"{closest(name, document.params)} parameters: {known}".strip(),
            )
    values: dict[str, float] = {}
    for name, param in document.params.items():
        given: Any = params.get(name, param.default)
        whole = " whole" if param.integer else ""
        # Compared before it is converted: a caller may hand in a text, or an integer beyond any float.
        fits = isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) <= LARGEST_PARAMETER
        if not fits or (param.integer and not float(given).is_integer()):
            raise BadRequest(
                f"params.{name} is {str(given)[:40]}",
                fix=f"write a{whole} number; its usual range is {param.min:g} to {param.max:g}",
            )
        values[name] = float(given)
    return values


def _with_warnings(strategy: CompiledStrategy, read: set[str]) -> CompiledStrategy:
    warnings = (
        *_outside_search_range(strategy),
        *_unused(strategy.document, read),
        *_constant_rules(strategy),
        *_one_way(strategy),
        *_conflicts(strategy),
    )
    return CompiledStrategy(
        **{name: getattr(strategy, name) for name in CompiledStrategy.__slots__ if name != "warnings"},
        warnings=warnings,
    )


def _outside_search_range(strategy: CompiledStrategy) -> Iterable[str]:
    for name, value in strategy.params.items():
        param = strategy.document.params[name]
        if not param.min <= value <= param.max:
            yield f"parameter {name!r} is {value:g}, outside its usual range {param.min:g} to {param.max:g}"


def _unused(document: StrategyDocument, read: set[str]) -> Iterable[str]:
    reached: set[str] = set()
    waiting = list(read)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            if name in document.define:
                waiting.extend(parse(document.define[name]).names)
    for kind, names in (("parameter", document.params), ("definition", document.define)):
        for name in names:
            if name not in reached:
                yield f"{kind} {name!r} is not used"


def _constant_rules(strategy: CompiledStrategy) -> Iterable[str]:
    for rule, tree in strategy.rules.items():
        if isinstance(tree, Truth):
            yield f"{rule} is {'always' if tree.value else 'never'} true, whatever the market does"


def _one_way(strategy: CompiledStrategy) -> Iterable[str]:
    if strategy.stop.present or strategy.target.present or strategy.trail.present or strategy.max_bars:
        return
    if strategy.session is not None and strategy.session.flat_outside:
        return
    for side, other in (("long", "short"), ("short", "long")):
        if f"{side}_entry" in strategy.rules and not strategy.rules.keys() & {f"{side}_exit", f"{other}_entry"}:
            yield f"a {side} position is never left: there is no exit, stop, target, max_bars or opposite entry"


def _conflicts(strategy: CompiledStrategy) -> Iterable[str]:
    texts = {rule: tree.text for rule, tree in strategy.rules.items()}
    pairs = (("long_entry", "long_exit"), ("short_entry", "short_exit"), ("long_entry", "short_entry"))
    for first, second in pairs:
        if texts.get(first) is not None and texts.get(first) == texts.get(second):
            yield f"{first} and {second} are the same condition, so neither can act"


def _level_text(level: CompiledLevel) -> str:
    return repr(level.fraction) if level.distance is None else level.distance.text
