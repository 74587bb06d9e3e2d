"""What can be said against a strategy document: complexity, odd numbers, contradictions, conditions that never hold."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, flag, table
from engine.analysis.market_data import MarketData
from engine.core.expressions import Evaluator
from engine.core.expressions.looking import conjuncts
from engine.core.expressions.nodes import Node, Number, Operation
from engine.core.expressions.warmup import check_nesting
from engine.core.run_settings import DEFAULT_FEES_PERCENT, RunSettings
from engine.core.signals import compute_signals
from engine.core.strategy import CompiledStrategy, explain
from engine.errors import BadExpression, DataMissing

MANY_PARAMETERS, MANY_CONDITIONS, MANY_CONSTANTS = 5, 6, 6
LARGE_GRID = 10_000
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
_EXTRA = ("funding_rate", "open_interest")


def strategy_review(compiled: CompiledStrategy, origin: str, data: MarketData | None) -> Brief:
    """Return the review of a document; rules are counted on `data` where there are candles."""
    explained = explain(compiled)
    complexity = _complexity(compiled)
    fired = _fired(compiled, data)
    findings = [
        *(_finding("language", "medium", "document", warning) for warning in compiled.warnings),
        *_overfitting(compiled, complexity),
        *_costs_and_stops(compiled, data),
        *_contradictions(compiled),
        *_unreachable(fired),
    ]
    order = ("high", "medium", "low")
    return {
        "kind": "strategy document",
        "strategy": {
            "name": compiled.name,
            "origin": origin,
            "params": dict(compiled.params),
            "sides": explained.sides,
            "rules": explained.rules,
        },
        "language_check": "valid",
        "look_ahead": {
            "possible": False,
            "why": "by construction: an expression reads closed bars and earlier ones, tf() the last closed higher bar, and a "
            "signal fills at the next open; reproduce_run with prove_causality replays a run on made-up futures",
        },
        "warm_up": {
            "bars": explained.warmup_bars,
            "of_stored_bars": None if data is None else len(data.candles),
            "why_none": "tf() is used; the interval decides" if explained.warmup_bars is None else None,
        },
        "complexity": complexity,
        "conditions": fired,
        "findings": sorted(findings, key=lambda one: order.index(one["severity"])),
        "data": None if data is None else data.described(),
        "flags": _flags(data),
    }


def _finding(kind: str, severity: str, where: str, problem: str, suggestion: str = "") -> dict[str, str]:
    found = {"severity": severity, "kind": kind, "where": where, "problem": problem}
    return found | ({"suggestion": suggestion} if suggestion else {})


def _flags(data: MarketData | None) -> list[dict[str, str]]:
    if data is None:
        return [flag("not_counted", "medium", "no candles are stored, so nobody counted how often conditions hold")]
    if "simulated" in data.source:
        return [flag("simulated", "medium", "conditions were counted on simulated candles")]
    return []


def _complexity(compiled: CompiledStrategy) -> Brief:
    document = compiled.document
    points = 1
    for param in document.params.values():
        step = param.step or (1.0 if param.integer else (param.max - param.min) / 20.0 or 1.0)
        points *= max(1, math.floor((param.max - param.min) / step + 1e-9) + 1)
    return {
        "parameters": len(document.params),
        "conditions": sum(len(parts) for parts in conditions_of(compiled).values()),
        "constants_written_in": len(_written_constants(compiled)),
        "points_of_the_parameter_grid": points,
    }


def conditions_of(compiled: CompiledStrategy) -> dict[str, list[Node]]:
    """Return each rule with the parts of its outermost conjunction."""
    return {rule: list(conjuncts(tree)) for rule, tree in compiled.rules.items()}


def _written_constants(compiled: CompiledStrategy) -> list[str]:
    document = compiled.document
    texts = [
        text for rule in ("long_entry", "long_exit", "short_entry", "short_exit") if (text := getattr(document, rule))
    ]
    texts += list(document.define.values())
    found = [number for text in texts for number in _NUMBER.findall(text)]
    return [number for number in found if float(number) not in (0.0, 1.0, 2.0, 100.0)]


def _overfitting(compiled: CompiledStrategy, complexity: Brief) -> Iterator[dict[str, str]]:
    document = compiled.document
    if complexity["parameters"] > MANY_PARAMETERS:
        yield _finding(
            "overfitting", "medium", "params", f"{complexity['parameters']} parameters can be bent to any history",
            "fix those that do not matter; start_grid_search shows the plateau",
        )  # fmt: skip
    if complexity["conditions"] > MANY_CONDITIONS:
        yield _finding(
            "overfitting", "medium", "rules", f"{complexity['conditions']} conditions: each one cuts the sample further",
            "drop one at a time and see whether the result survives",
        )  # fmt: skip
    if complexity["points_of_the_parameter_grid"] > LARGE_GRID:
        yield _finding(
            "overfitting", "medium", "params",
            f"the parameter grid has {complexity['points_of_the_parameter_grid']} points; the best of so many is luck first",
            "widen the steps",
        )  # fmt: skip
    constants = Counter(_written_constants(compiled))
    odd = [number for number in constants if _is_odd(number)]
    if odd:
        yield _finding(
            "overfitting", "medium", "rules", f"odd constants {', '.join(odd[:5])}: they look fitted",
            "round them and see whether the result survives",
        )  # fmt: skip
    if constants.total() > MANY_CONSTANTS:
        yield _finding(
            "overfitting", "low", "rules", f"{constants.total()} constants are written in, where no search counts them",
            "make those that matter parameters",
        )  # fmt: skip
    for name, param in document.params.items():
        if param.max > param.min and param.max - param.min < 0.2 * abs(param.default):
            yield _finding(
                "overfitting", "low", f"params.{name}", f"a narrow range {param.min:g} to {param.max:g} around {param.default:g}",
                "search a range that also holds values that should fail",
            )  # fmt: skip
        if param.max > param.min and compiled.params[name] in (param.min, param.max):
            yield _finding(
                "overfitting", "low", f"params.{name}", f"{compiled.params[name]:g} lies at the edge of its range",
                "widen the range: the best value may lie outside",
            )  # fmt: skip


def _is_odd(number: str) -> bool:
    """Say whether a constant has more significant digits than somebody would choose by hand.

    >>> [_is_odd(text) for text in ("14", "200", "17.35", "0.618", "1.5", "137")]
    [False, False, True, False, False, True]
    """
    digits = number.replace(".", "").strip("0")
    known = ("0.382", "0.618", "0.786", "1.618", "2.618", "365", "252", "144")
    return len(digits) >= 3 and number not in known


def _costs_and_stops(compiled: CompiledStrategy, data: MarketData | None) -> Iterator[dict[str, str]]:
    settings = RunSettings.model_validate({})
    category = "linear" if data is None else data.series.category
    taker, maker = DEFAULT_FEES_PERCENT[category]
    round_trip = (taker + maker + settings.slippage_percent) / 100.0
    target = compiled.target.fraction
    if not math.isnan(target) and target <= 2 * round_trip:
        yield _finding(
            "costs", "high", "take_profit",
            f"a target of {target * 100:g} % against {round_trip * 100:.3g} % of costs a round trip at default fees",
            "trade less often for larger moves",
        )  # fmt: skip
    if not compiled.stop.present and not compiled.trail.present:
        yield _finding(
            "risk", "medium", "stop_loss", "no stop bounds the loss of a trade", "add stop_loss or trailing_stop"
        )
    if data is None or len(data.candles) < 2:
        return
    usual = float(np.median(data.candles.high / data.candles.low - 1.0))
    if not math.isnan(compiled.stop.fraction) and compiled.stop.fraction < usual:
        yield _finding(
            "risk", "medium", "stop_loss",
            f"a stop of {compiled.stop.fraction * 100:g} % lies inside the usual bar of {usual * 100:.3g} %",
            "widen the stop, or use a shorter interval",
        )  # fmt: skip


def _fired(compiled: CompiledStrategy, data: MarketData | None) -> Brief:
    """Return how often each rule and each part of it holds on the stored bars."""
    if data is None:
        return {"rows": [], "why": "no candles are stored"}
    if compiled.series & set(_EXTRA):
        return {
            "rows": [],
            "why": f"it reads {', '.join(sorted(compiled.series & set(_EXTRA)))}; run_backtest fetches it",
        }
    try:
        warmup = compiled.warmup_bars(data.series.interval)
        for frame in compiled.higher_timeframes:
            check_nesting(frame, data.series.interval)
    except BadExpression as error:
        return {"rows": [], "why": f"{error.message}, which is what is stored"}
    if warmup >= len(data.candles):
        return {"rows": [], "why": f"{len(data.candles)} stored bars, {warmup} are needed to warm up"}
    try:
        signals = compute_signals(compiled, data.candles, data.series.interval)
    except DataMissing as error:
        return {"rows": [], "why": error.message}
    evaluator = Evaluator(data.candles, data.series.interval)
    rows: list[list[Any]] = []
    for rule, parts in conditions_of(compiled).items():
        mask = getattr(signals, rule)[warmup:]
        rows.append([rule, "whole rule", int(mask.sum()), float(mask.mean())])
        if len(parts) > 1:
            for part in parts:
                held = evaluator.conditions(part)[warmup:]
                rows.append([rule, part.text[:80], int(held.sum()), float(held.mean())])
    found = table(["rule", "condition", "true_bars", "true_share"], rows, 4)
    entries = [getattr(signals, name)[warmup:] for name in ("long_entry", "short_entry")]
    exits = [getattr(signals, name)[warmup:] for name in ("long_exit", "short_exit")]
    return found | {
        "bars": len(data.candles) - warmup,
        "both_entries_at_once": int(np.count_nonzero(entries[0] & entries[1])),
        "long_entry_and_long_exit_at_once": int(np.count_nonzero(entries[0] & exits[0])),
        "short_entry_and_short_exit_at_once": int(np.count_nonzero(entries[1] & exits[1])),
    }


def _contradictions(compiled: CompiledStrategy) -> Iterator[dict[str, str]]:
    """Find conjunctions that want one and the same value above a number and below a smaller one."""
    for rule, parts in conditions_of(compiled).items():
        # In normal form every order is told with < or <=, the smaller side first.
        ordered = [part for part in parts if isinstance(part, Operation) and part.symbol in {"<", "<="}]
        lows = [part for part in ordered if isinstance(part.operands[0], Number)]
        highs = [part for part in ordered if isinstance(part.operands[1], Number)]
        for low, high in product(lows, highs):
            (least, name), (same, most) = low.operands, high.operands
            if not (isinstance(least, Number) and isinstance(most, Number)):
                continue
            if name.text == same.text and least.value > most.value:
                yield _finding(
                    "contradiction", "high", rule, f"{low.text} and {high.text} never hold together", "drop one of them"
                )


def _unreachable(fired: Brief) -> Iterator[dict[str, str]]:
    for rule, condition, true_bars, share in fired["rows"]:
        where = rule if condition == "whole rule" else f"{rule}: {condition}"
        if true_bars == 0:
            severity = "high" if rule.endswith("entry") else "medium"
            yield _finding(
                "unreachable", severity, where, f"held on none of {fired['bars']} stored bars", "loosen it or drop it"
            )
        elif share > 0.99 and condition != "whole rule":
            yield _finding("unreachable", "low", where, "held on nearly every bar: it decides nothing", "drop it")
        elif condition == "whole rule" and rule.endswith("entry") and true_bars < 30:
            yield _finding(
                "evidence", "medium", where, f"held on {true_bars} of {fired['bars']} bars: too few trades to judge"
            )
    clashes = (
        ("both_entries_at_once", "long_entry and short_entry held together (both are void then)"),
        ("long_entry_and_long_exit_at_once", "long_entry and long_exit held together"),
        ("short_entry_and_short_exit_at_once", "short_entry and short_exit held together"),
    )
    for name, text in clashes:
        if fired.get(name):
            yield _finding(
                "contradiction", "medium", "rules", f"{text} on {fired[name]} bars", "make them exclude each other"
            )
