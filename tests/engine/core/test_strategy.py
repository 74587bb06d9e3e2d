"""Strategy documents: what is accepted, how a failure reads, what compiling and explaining tell."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import catalogue
from engine.core.strategy import compile_strategy, explain, parse_strategy
from engine.errors import BadExpression, BadRequest

DOCUMENT: dict[str, Any] = {
    "name": "example",
    "params": {
        "fast": {"default": 20, "min": 5, "max": 60, "step": 1, "integer": True},
        "slow": {"default": 50, "min": 20, "max": 240, "step": 5, "integer": True},
        "stop": {"default": 2.0, "min": 0.5, "max": 5.0},
    },
    "define": {"f": "ema(close, fast)", "s": "ema(close, slow)"},
    "long_entry": "crossover(f, s)",
    "long_exit": "crossunder(f, s)",
    "short_entry": "crossunder(f, s)",
    "short_exit": "crossover(f, s)",
    "stop_loss": {"percent": "stop"},
    "take_profit": {"percent": "2 * stop"},
    "trailing_stop": {"distance": "3 * atr(14)", "activation_percent": 1.0},
    "breakeven_after_percent": 1.5,
    "max_bars": "slow * 2",
    "size": {"risk_percent": 1},
}


def changed(**fields: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    for path, value in fields.items():
        *parents, last = path.split("__")
        target = document
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return document


def compiled(document: dict[str, Any] | None = None, **params: float):
    return compile_strategy(parse_strategy(document or DOCUMENT), params)


def test_parameters_reach_periods_stops_and_times() -> None:
    strategy = compiled(fast=10, slow=60, stop=3)
    assert strategy.rules["long_entry"].text == "crossover(ema(close, 10), ema(close, 60))"
    assert strategy.stop.fraction == pytest.approx(0.03)
    assert strategy.target.fraction == pytest.approx(0.06)
    assert strategy.trail.distance.text == "(3 * atr(14))"
    assert math.isnan(strategy.trail.fraction)
    assert strategy.trail_activation_fraction == pytest.approx(0.01)
    assert strategy.breakeven_fraction == pytest.approx(0.015)
    assert strategy.max_bars == 120
    assert (strategy.size.mode, strategy.size.value) == ("risk", pytest.approx(0.01))
    assert strategy.warmup_bars() == 60
    assert strategy.warnings == ()


def test_a_document_may_come_as_json_text() -> None:
    assert parse_strategy(json.dumps(DOCUMENT)) == parse_strategy(DOCUMENT)


FAILURES: list[tuple[Any, str]] = [
    (changed(long_entry="crossover(emaa(close, 20), s)"), "long_entry, character 10: unknown function 'emaa' | did you mean 'ema'?"),
    (changed(define__f="ema(clsoe, fast)"), "define.f, character 4: unknown name 'clsoe' | did you mean 'close'?"),
    (changed(define__f="s", define__s="f"), "circle"),
    (changed(long_entry="f - s"), "long_entry: this is a number"),
    (changed(long_enrty="f > s"), "long_enrty: unknown field 'long_enrty' | did you mean 'long_entry'?"),
    (changed(stop_loss={"percnt": 2}), "stop_loss.percnt: unknown field 'percnt' | did you mean 'percent'?"),
    (changed(params__fast__defualt=3), "did you mean 'default'?"),
    (changed(stop_loss={}), "stop_loss: give either percent or distance"),
    (changed(stop_loss={"percent": 2, "distance": "atr(3)"}), "give either percent or distance"),
    (changed(stop_loss={"percent": 100}), "stop_loss.percent: 100 is out of bounds"),
    (changed(stop_loss={"percent": -1}), "stop_loss.percent: -1 is out of bounds"),
    (changed(stop_loss={"percent": "atr(14)"}), "stop_loss.percent: this varies from bar to bar"),
    (changed(stop_loss={"percent": "close"}), "stop_loss.percent: this varies from bar to bar"),
    (changed(stop_loss={"distance": "close > 1"}), "stop_loss.distance: a positive price distance"),
    (changed(stop_loss={"distance": "0 - 1"}), "stop_loss.distance: a positive price distance"),
    (changed(stop_loss=None), "size.risk_percent"),
    (changed(size={"quote": 1, "quantity": 1}), "exactly one"),
    (changed(size={"equity_fraction": 1.5}), "size.equity_fraction: 1.5 is out of bounds"),
    (changed(max_bars=2.5), "max_bars: 2.5 is not a whole number"),
    (changed(params__fast__default=4), "params.fast: default 4 must lie between"),
    (changed(params__fast__default=20.5), "whole numbers"),
    (changed(params__fast__min=None), "params.fast.min: missing"),
    (changed(params__fast__step=0), "params.fast.step"),
    (changed(params__fast__default="many"), "params.fast.default"),
    (changed(params__fast__default=math.nan), "params.fast.default"),
    (changed(define__close="open"), "'close' is a word of the language"),
    (changed(define__fast="open"), "'fast' names a parameter and a definition"),
    (changed(name=None), "name: missing"),
    (changed(name="../../etc"), "name:"),
    (changed(name=7), "name:"),
    (changed(long_entry=None, short_entry=None), "give long_entry, short_entry or both"),
    (changed(schema_version=2), "schema_version"),
    (changed(params={"a b": {"default": 1, "min": 1, "max": 1}}), "params.a b"),
    ("{not json", "not valid JSON"),
    ("[" * 5_000, "not valid JSON"),
    ([1], "a strategy is an object, found list"),
    (None, "a strategy is an object, found NoneType"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "said"), FAILURES, ids=range(len(FAILURES)))
def test_a_bad_document_is_refused_naming_the_place(document: Any, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_strategy(document)
    assert said in f"{caught.value.message} | {caught.value.fix}"
    assert caught.value.fix
    assert "pydantic" not in f"{caught.value.message} {caught.value.fix}"


@pytest.mark.parametrize(
    ("params", "said"),
    [({"fst": 3}, "did you mean 'fast'?"), ({"fast": 2e9}, "5 to 60"), ({"fast": 5.5}, "whole"),
     ({"stop": math.nan}, "0.5 to 5"), ({"fast": "many"}, "5 to 60"), ({"fast": 10**400}, "5 to 60"), ({"fast": None}, "5 to 60"), ({"stop": math.inf}, "0.5 to 5")],
)  # fmt: skip
def test_parameters_are_checked_against_the_document(params: dict[str, float], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        compiled(**params)
    assert said in f"{caught.value.message} {caught.value.fix}"


def test_an_expression_that_only_some_parameters_break_is_refused_when_they_come() -> None:
    document = changed(define__f="ema(close, slow - fast)")
    assert compiled(document).warmup_bars() == 50
    with pytest.raises(BadExpression, match=r"^define"):
        compiled(document, fast=60, slow=20)


def test_the_fingerprint_ignores_names_order_and_prose() -> None:
    other = {
        "name": "other",
        "description": "prose",
        "params": {"n": {"default": 50, "min": 1, "max": 100}},
        "define": {"late": "ema(close, n)"},
        "long_entry": "crossunder(late, ema(close, 10 + 10))",
        "long_exit": "crossover(late, ema(close, 20))",
        "short_exit": "crossunder(late, ema(close, 20))",
        "short_entry": "crossover(late, ema(close, 20))",
        "stop_loss": {"percent": 2},
        "take_profit": {"percent": 4},
        "trailing_stop": {"distance": "atr(14) * 3", "activation_percent": 1},
        "breakeven_after_percent": "3 / 2",
        "max_bars": 100,
        "size": {"risk_percent": 1},
    }
    assert compiled(other).fingerprint() == compiled().fingerprint()


@pytest.mark.parametrize(
    "change",
    [{"long_exit": "f < s"}, {"stop_loss": {"percent": 2.1}}, {"take_profit": None}, {"max_bars": 99}, {"size": {"quote": 100}},
     {"breakeven_after_percent": None}, {"trailing_stop": None}, {"short_entry": None}],
    ids=str,
)  # fmt: skip
def test_the_fingerprint_changes_with_anything_that_decides_trades(change: dict[str, Any]) -> None:
    assert compiled(changed(**change)).fingerprint() != compiled().fingerprint()


BARE = {"name": "bare", "long_entry": "close > open"}


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        (BARE, "never left"),
        (BARE | {"long_entry": "1 > 2", "max_bars": 3}, "never true"),
        (BARE | {"long_entry": "close > 1 or 2 > 1", "max_bars": 3}, "always true"),
        (BARE | {"long_exit": "open < close"}, "the same condition"),
        (BARE | {"short_entry": "open < close"}, "the same condition"),
        (BARE | {"max_bars": 3, "params": {"n": {"default": 1, "min": 1, "max": 2}}}, "parameter 'n' is not used"),
        (BARE | {"max_bars": 3, "define": {"a": "close", "b": "a"}}, "definition 'a' is not used"),
    ],
)
def test_a_strategy_that_cannot_be_meant_is_warned_about(document: dict[str, Any], warning: str) -> None:
    assert any(warning in told for told in compile_strategy(parse_strategy(document)).warnings)


def test_parameters_used_only_inside_definitions_and_stops_count_as_used() -> None:
    assert compiled().warnings == ()


def test_explaining_names_what_is_needed() -> None:
    document = BARE | {"long_entry": 'tf("240", rsi(volume, 14)) > 50 and crossover(close, hl2)', "max_bars": 3}
    told = explain(compile_strategy(parse_strategy(document)), "15")
    assert told.series == ["close", "high", "low", "volume"]
    assert told.higher_timeframes == ["240"]
    assert told.functions == ["crossover", "rsi"]
    assert told.sides == ["long"]
    assert told.warmup_bars == (14 + 2) * 16 - 2
    assert explain(compile_strategy(parse_strategy(document))).warmup_bars is None
    with pytest.raises(BadExpression, match="cannot be built"):
        explain(compile_strategy(parse_strategy(document)), "D")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["close > open", "fast", "ema(close, fast)"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*DOCUMENT, "percent", "default", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(list(DOCUMENT)), JSON, max_size=4))
@settings(max_examples=500, deadline=None)
def test_any_document_is_accepted_or_refused_in_our_own_words(fields: dict[str, Any]) -> None:
    told: BadRequest | None = None
    try:
        parse_strategy(DOCUMENT | fields)
    except BadRequest as refused:
        told = refused
    assert told is None or (told.message and told.fix and "validation error" not in told.message)


def test_every_shipped_strategy_stands_up_to_its_own_limits() -> None:
    for document in catalogue.load_all():
        for pick in ("min", "max"):
            params = {name: getattr(param, pick) for name, param in document.params.items()}
            assert compile_strategy(document, params).fingerprint()


def test_a_parameter_outside_its_usual_range_runs_with_a_warning() -> None:
    compiled = compile_strategy(catalogue.load("ema_cross"), {"fast": 100, "slow": 200})
    assert dict(compiled.params) == {"fast": 100.0, "slow": 200.0}
    assert any("outside its usual range 5 to 60" in warning for warning in compiled.warnings)
