"""The expression language: what parses, what it means, how it fails, and that it cannot see the future."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.expressions import canonical, evaluate, tree_of, warmup
from engine.core.expressions.limits import MAX_CHARACTERS
from engine.core.expressions.warmup import warmup_bars
from engine.core.indicators import REGISTRY
from engine.errors import BadExpression, BadRequest, DataMissing

STEP_MS = 900_000
START_MS = 1_704_067_200_000


def make_candles(rows: int = 300, seed: int = 3) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.002, np.minimum(opened, close) * 0.998
    ts = np.arange(rows, dtype=np.int64) * STEP_MS + START_MS
    return Candles(ts, opened, high, low, close, random.uniform(1, 9, rows), random.uniform(1, 9, rows))


CANDLES = make_candles()
CLOSE = CANDLES.close


def of_prices(*prices: float) -> Candles:
    column = np.array(prices)
    return Candles(np.arange(len(column)) * STEP_MS, column, column, column, column, column, column)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("close + open * 2 - 1", lambda c: c.close + c.open * 2 - 1),
        ("-close ** 2", lambda c: -(c.close**2)),
        ("close % 7", lambda c: c.close % 7),
        ("(high - low) / (2 ** 3)", lambda c: (c.high - c.low) / 8),
        ("hl2", lambda c: (c.high + c.low) / 2),
        ("max(open, close, 100) - min(open, close)", lambda c: np.maximum(np.maximum(c.open, c.close), 100) - np.minimum(c.open, c.close)),
        ("where(close > open, 1, -1)", lambda c: np.where(c.close > c.open, 1.0, -1.0)),
        ("log(close) + sqrt(abs(-close)) + sign(-3) + floor(2.7) + ceil(2.1) + round(2.5)",
         lambda c: np.log(c.close) + np.sqrt(c.close) - 1 + 2 + 3 + 2),
        ("hour", lambda c: (c.ts // 3_600_000 % 24).astype(float)),
        ("close[3]", lambda c: np.concatenate((np.full(3, np.nan), c.close[:-3]))),
        ("close[1][2]", lambda c: np.concatenate((np.full(3, np.nan), c.close[:-3]))),
    ],
)  # fmt: skip
def test_arithmetic_means_what_numpy_means(expression: str, expected) -> None:
    np.testing.assert_allclose(evaluate(expression, CANDLES, "15"), expected(CANDLES), rtol=1e-12)


def test_conditions_join_chain_and_invert() -> None:
    found = evaluate("99 < close < 101 and not (open >= close) or hour == 3", CANDLES, "15")
    hour = CANDLES.ts // 3_600_000 % 24
    expected = ((CLOSE > 99) & (CLOSE < 101) & ~(CANDLES.open >= CLOSE)) | (hour == 3)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


def test_weekday_counts_from_monday() -> None:
    # 2024-01-01 was a Monday.
    daily = Candles(START_MS + np.arange(8) * 86_400_000, *(np.ones(8) for _ in range(6)))
    assert evaluate("weekday", daily, "D").tolist() == [0, 1, 2, 3, 4, 5, 6, 0]


def test_a_crossing_is_strict_on_the_new_bar_and_weak_on_the_old_one() -> None:
    candles = of_prices(1, 2, 2, 3, 2, 1, 3)
    assert evaluate("crossover(close, 2)", candles, "15").tolist() == [False, False, False, True, False, False, True]
    assert evaluate("crossunder(close, 2)", candles, "15").tolist() == [False, False, False, False, False, True, False]


def test_a_crossing_needs_both_bars_valid() -> None:
    assert evaluate("crossover(close, sma(close, 2))", of_prices(3, 1, 5, 9), "15").tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert not evaluate("crossover(close, sma(close, 2))", of_prices(1, 5, 5, 5), "15").any()


def test_rising_means_above_each_of_the_bars_before() -> None:
    assert evaluate("rising(close, 2)", of_prices(5, 1, 3, 5, 5, 6), "15").tolist() == [
        False,
        False,
        False,
        True,
        False,
        True,
    ]
    assert evaluate("falling(close, 2)", of_prices(1, 5, 3, 0), "15").tolist() == [False, False, False, True]


def test_bars_since_and_value_when_remember() -> None:
    candles = of_prices(1, 9, 2, 3, 8, 1)
    np.testing.assert_array_equal(evaluate("bars_since(close > 5)", candles, "15"), [math.nan, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(evaluate("value_when(close > 5, close)", candles, "15"), [math.nan, 9, 9, 9, 8, 8])
    np.testing.assert_array_equal(
        evaluate("value_when(close > 5, close, 1)", candles, "15"), [math.nan, math.nan, math.nan, math.nan, 9, 9]
    )


def test_what_has_no_value_makes_no_condition_true() -> None:
    candles = of_prices(-1, 0, 4)
    np.testing.assert_array_equal(evaluate("1 / close", candles, "15"), [-1, math.nan, 0.25])
    np.testing.assert_array_equal(evaluate("log(close)", candles, "15"), [math.nan, math.nan, math.log(4)])
    np.testing.assert_array_equal(evaluate("close ** 0.5", candles, "15"), [math.nan, 0, 2])
    for symbol in ("<", "<=", ">", ">=", "==", "!="):
        assert not evaluate(f"1 / close {symbol} 1 / close", candles, "15")[1]
    assert evaluate("(close > 0)[1]", candles, "15").tolist() == [False, False, False]


def test_overflow_has_no_value() -> None:
    assert np.isnan(evaluate("(close * 1e300) ** 3", of_prices(1, 2), "15")).all()


def test_a_constant_condition_fills_every_bar() -> None:
    assert evaluate("2 > 1", CANDLES, "15").all()
    assert len(evaluate("7", CANDLES, "15")) == len(CANDLES)


def test_periods_may_be_arithmetic_of_parameters() -> None:
    found = evaluate("ema(close, fast * 2 + 1)", CANDLES, "15", {"fast": 5})
    np.testing.assert_array_equal(found, evaluate("ema(close, period=11)", CANDLES, "15"))


def test_definitions_resolve_in_any_order() -> None:
    definitions = {"a": "b + c", "c": "ema(close, n)", "b": "c * 2"}
    found = evaluate("a", CANDLES, "15", {"n": 9}, definitions=definitions)
    np.testing.assert_allclose(found, 3 * evaluate("ema(close, 9)", CANDLES, "15"))


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("close", 0),
        ("close[7]", 7),
        ("ema(close, 20)", 19),
        ("crossover(ema(close, 20), ema(close, 50))", 50),
        ("sma(rsi(close, 14), 3)[2]", 18),
        ("macd_hist(close, 12, 26, 9)", 33),
        ("atr(14) > 2 * tr()", 13),
        ('tf("60", close)', 6),
        ('tf("15", ema(close, 20))', 19),
        ('tf("240", ema(close, 3))', 62),
    ],
)
def test_warm_up_follows_from_the_tree(expression: str, rows: int) -> None:
    assert warmup(expression, interval="15") == rows


FAILURES = [
    ("", 0, "empty"),
    ("ema(close 20)", 4, "unexpected"),
    ("emaa(close, 20)", 0, "did you mean 'ema'?"),
    ("closee > 1", 0, "did you mean 'close'?"),
    ("close > nope", 8, "unknown name 'nope'"),
    ("ema(close, 0)", 11, "1 to 5000"),
    ("ema(close, 5001)", 11, "1 to 5000"),
    ("ema(close, 2.5)", 11, "whole number"),
    ("ema(close, open)", 11, "constant"),
    ("ema(close)", 0, "lacks 'period'"),
    ("ema(close, 3, 4)", 14, "takes 2 arguments"),
    ("ema(close, perod=3)", 11, "did you mean 'period'?"),
    ("ema(close, 3, period=4)", 14, "twice"),
    ("rsi(14)", 4, "write rsi(close, 14)"),
    ("ema", 0, "is a function"),
    ("close[-1]", 6, "future"),
    ("close[open]", 6, "constant"),
    ("close[1.5]", 6, "whole number"),
    ("close[5001]", 6, "5000"),
    ("close[1:2]", 7, "slices"),
    ("close and open > 1", 0, "needs a condition"),
    ("(close > 1) + 1", 1, "needs a number"),
    ("ema(close > 1, 3)", 4, "needs a number"),
    ("bars_since(close)", 11, "needs a condition"),
    ("close if open else low", 6, "where(condition, a, b)"),
    ("close = 3", 6, "=="),
    ("close.real", 5, "attributes"),
    ("__import__('os')", 0, "unknown function"),
    ("'text'", 0, "no place here"),
    ("rb'f'", 2, "not allowed"),
    ("u'240'", 1, "not allowed"),
    ("'a' 'b'", 0, "no place here"),
    ("[1, 2]", 0, "a list"),
    ("1, 2", 0, "a comma outside a call"),
    ("close // 2", 0, "floor(a / b)"),
    ("close ** open", 9, "exponent"),
    ("9 ** 9 ** 9", 5, "exponent"),
    ("close / 0", 8, "constant 0"),
    ("1e400", 0, "finite"),
    ("1e308 * 10", 0, "finite"),
    ("2 * * 3", 4, "unexpected"),
    ("(close", 6, "not closed"),
    ("close)", 5, "closes nothing"),
    ("ema(*close)", 4, "*"),
    ("ema(**close)", 4, "unpack"),
    ("lambda: 1", 0, "cannot be defined"),
    ("close\x00", 5, "not allowed"),
    ("close ≥ 3", 6, "write >="),
    ("клоуз > 1", 0, "not allowed"),
    ("1or 2", 1, "not allowed"),
    ("close > 1 # why", 10, "comments"),
    ('tf("7", close)', 3, "unknown interval"),
    ("tf(240, close)", 0, 'tf("240"'),
    ('tf("240")', 0, 'tf("240"'),
    ("ema(close, 3)(4)", 0, "function's name"),
    ("-" * 50 + "1", 8, "nests too deeply"),
    ("(" * 60 + "1" + ")" * 60, 40, "nests too deeply"),
    ("+".join(["1"] * 290), 452, "nests too deeply"),
    ("+".join(["1"] * 500), 600, "words and signs"),
    ("1" * 3000, MAX_CHARACTERS, "characters"),
    ("x" * 1999, 0, "unknown name"),
    ("sma(hma(close, 1), 2)", 15, "2 to 5000"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "position", "said"), FAILURES, ids=range(len(FAILURES)))
def test_a_failure_names_the_character_and_what_to_write(expression: str, position: int, said: str) -> None:
    with pytest.raises(BadExpression) as caught:
        tree_of(expression)
    assert said in f"{caught.value.message} {caught.value.fix}"
    assert caught.value.fix
    assert caught.value.position == position


def test_definitions_in_a_circle_are_refused() -> None:
    with pytest.raises(BadExpression, match="circle"):
        tree_of("a", definitions={"a": "b", "b": "a + close"})


def test_definitions_that_double_again_and_again_are_refused_at_once() -> None:
    definitions = {"a0": "close * volume"} | {f"a{i}": f"a{i - 1} / a{i - 1}" for i in range(1, 60)}
    with pytest.raises(BadExpression, match="parts or"):
        tree_of("a59", definitions=definitions)


def test_nested_composites_are_bounded() -> None:
    with pytest.raises(BadExpression, match="parts or"):
        tree_of("tsi(" * 8 + "close" + ")" * 8)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("close + open + high", "high + (open + close)"),
        ("close > open", "open < close"),
        ("close >= open and hour == 3", "3 == hour and open <= close"),
        ("crossunder(close, open)", "crossover(open, close)"),
        ("max(close, open, 3)", "max(3, open, close)"),
        ("hl2", "(low + high) / 2"),
        ("not not (close > 1)", "close > 1"),
        ("close[1][2]", "close[3]"),
        ("- - close", "close"),
        ("bb_middle(close, 20)", "sma(close, 4 * 5)"),
        ("close > 1 or close > 1", "close > 1"),
        ("donchian_upper()", "highest(high, 20)"),
        ("close * 2 - open", "-open + 2.0 * close"),
    ],
)
def test_one_meaning_has_one_normal_form_and_the_same_bits(first: str, second: str) -> None:
    assert canonical(first) == canonical(second)
    np.testing.assert_array_equal(evaluate(first, CANDLES, "15"), evaluate(second, CANDLES, "15"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("close - open", "open - close"),
        ("close / open", "open / close"),
        ("close > open", "close >= open"),
        ("close[1]", "close[2]"),
        ("ema(close, 20)", "ema(close, 21)"),
        ("not (close > open)", "close <= open"),
        ("crossover(close, open)", "crossover(open, close)"),
    ],
)
def test_different_meanings_keep_different_normal_forms(first: str, second: str) -> None:
    assert canonical(first) != canonical(second)


def test_names_of_parameters_and_definitions_leave_no_trace() -> None:
    first = canonical("a > b", {"n": 9}, {"a": "ema(close, n)", "b": "close * 2"})
    assert first == canonical("y > x", {"length": 9}, {"x": "2 * close", "y": "ema(close, length)"})


# --- higher timeframes


def test_a_higher_timeframe_shows_only_its_last_closed_bar() -> None:
    found = evaluate('tf("60", close)', CANDLES, "15")
    expected = [math.nan] * 3
    for row in range(3, len(CANDLES)):
        last_closed = (row + 1) // 4 * 4 - 1
        expected.append(CLOSE[last_closed])
    np.testing.assert_array_equal(found, expected)


def test_an_incomplete_first_higher_bar_is_not_used() -> None:
    late = CANDLES.take(slice(1, None))
    found = evaluate('tf("60", open)', late, "15")
    assert np.isnan(found[:6]).all()
    assert found[6] == CANDLES.open[4]


def test_indicators_inside_a_timeframe_run_on_its_bars() -> None:
    bars = [CLOSE[row] for row in range(3, len(CANDLES), 4)]
    hourly = Candles(np.arange(len(bars)) * 3_600_000, *(np.array(bars) for _ in range(6)))
    expected = evaluate("ema(close, 5)", hourly, "60")
    found = evaluate('tf("60", ema(close, 5))', CANDLES, "15")
    np.testing.assert_array_equal(found[3::4], expected)
    assert evaluate('tf("60", close > open)', CANDLES, "15")[3] == (CLOSE[3] > CANDLES.open[0])


def test_missing_bars_close_a_higher_bar_with_the_next_one_that_is_there() -> None:
    kept = CANDLES.take(np.delete(np.arange(len(CANDLES)), [7]))
    found = evaluate('tf("60", close)', kept, "15")
    # Row 6 opens 30 minutes into the second hour; row 7 is the first bar of the third.
    assert found[6] == CLOSE[3]
    assert found[7] == CLOSE[6]


@pytest.mark.parametrize("interval", ["5", "M"])
def test_a_timeframe_must_be_made_of_whole_bars(interval: str) -> None:
    with pytest.raises(BadExpression, match="cannot be built"):
        evaluate(f'tf("{interval}", close)', CANDLES, "15" if interval == "5" else "W")


def test_a_day_inside_a_week_inside_quarter_hours() -> None:
    candles = make_candles(96 * 21)
    found = evaluate('tf("W", close)', candles, "15")
    assert np.isnan(found[: 96 * 7 - 1]).all()
    assert found[96 * 7 - 1] == candles.close[96 * 7 - 1]
    np.testing.assert_array_equal(found, evaluate('tf("D", tf("W", close))', candles, "15"))


@given(st.integers(0, 200), st.sampled_from(["60", "240", "D"]), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_declared_warm_up_of_a_timeframe_is_never_too_short(first: int, interval: str, period: int) -> None:
    candles = make_candles(1_000).take(slice(first, None))
    expression = f'tf("{interval}", sma(close, {period}))'
    needed = warmup(expression, interval="15")
    assert not np.isnan(evaluate(expression, candles, "15")[needed:]).any()


# --- data beyond candles


def test_extra_series_must_be_handed_in() -> None:
    with pytest.raises(DataMissing, match="funding_rate"):
        evaluate("funding_rate > 0", CANDLES, "15")
    rates = np.linspace(-1, 1, len(CANDLES))
    found = evaluate("funding_rate > 0", CANDLES, "15", extras={"funding_rate": rates})
    np.testing.assert_array_equal(found, rates > 0)
    hourly = evaluate('tf("60", funding_rate)', CANDLES, "15", extras={"funding_rate": rates})
    assert hourly[7] == rates[7]


def test_extra_series_must_be_aligned() -> None:
    with pytest.raises(BadRequest, match="rows"):
        evaluate("funding_rate", CANDLES, "15", extras={"funding_rate": np.zeros(3)})


def test_candles_without_turnover_say_so() -> None:
    bare = Candles(*CANDLES.columns()[:6], np.full(len(CANDLES), math.nan))  # type: ignore[arg-type]
    with pytest.raises(DataMissing, match="turnover"):
        evaluate("turnover > 1", bare, "15")


def test_a_memo_shares_columns_between_expressions() -> None:
    memo: dict = {}
    evaluate("ema(close, 10) > ema(close, 20)", CANDLES, "15", memo=memo)
    assert sorted(memo) == ["15|ema(close, 10)", "15|ema(close, 20)"]
    memo["15|ema(close, 10)"] = np.zeros(len(CANDLES))
    assert (evaluate("ema(close, 10) + 1", CANDLES, "15", memo=memo) == 1).all()


def test_a_memo_keeps_timeframes_apart() -> None:
    memo: dict = {}
    for expression in ("ema(close, 10)", 'tf("60", ema(close, 10))', 'tf("240", ema(close, 10))'):
        shared = evaluate(expression, CANDLES, "15", memo=memo)
        np.testing.assert_array_equal(shared, evaluate(expression, CANDLES, "15"))


def test_chance_repeats_and_is_uniform() -> None:
    candles = make_candles(20_000)
    first = evaluate("random_uniform(1)", candles, "15")
    np.testing.assert_array_equal(first, evaluate("random_uniform(1)", candles, "15"))
    np.testing.assert_array_equal(first[500:], evaluate("random_uniform(1)", candles.take(slice(500, None)), "15"))
    second = evaluate("random_uniform(2)", candles, "15")
    assert 0 <= first.min() <= first.max() < 1
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03
    assert np.histogram(first, bins=10)[0].min() > 1_800


# --- any expression at all

PERIODS = st.integers(1, 12).map(str)
LEAVES = st.sampled_from(
    ["open", "high", "low", "close", "volume", "hl2", "ohlc4", "hour", "weekday", "0.5", "3", "100"]
)
AVERAGES = st.sampled_from(
    ["sma", "ema", "rma", "wma", "highest", "lowest", "stdev", "sum", "rsi", "change", "zscore", "roc"]
)
OTHERS = [
    "atr(3)",
    "tr()",
    "stoch_k(5, 2)",
    "supertrend(2, 4)",
    "adx(3, 4)",
    "macd_hist(close, 2, 5, 3)",
    "vwap()",
    "random_uniform(4)",
    "obv()",
]


def grow(number: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    condition = st.tuples(number, st.sampled_from(["<", ">=", "==", "!="]), number).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    )
    joined = st.tuples(condition, st.sampled_from(["and", "or", "and not"]), condition).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    )
    crossed = st.tuples(number, number).map(lambda t: f"crossover({t[0]}, {t[1]})")
    either = st.one_of(condition, joined, crossed)
    varying = number.map(lambda text: f"(close + {text})")
    return st.one_of(
        st.tuples(number, st.sampled_from("+-*/%"), number).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(AVERAGES, varying, PERIODS).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(number, st.integers(0, 9)).map(lambda t: f"({t[0]})[{t[1]}]"),
        st.tuples(either, number, number).map(lambda t: f"where({t[0]}, {t[1]}, {t[2]})"),
        either.map(lambda text: f"bars_since({text})"),
        st.tuples(either, varying).map(lambda t: f"value_when({t[0]}, {t[1]}, 1)"),
        st.tuples(st.sampled_from(["30", "60", "120"]), number).map(lambda t: f'tf("{t[0]}", {t[1]})'),
    )


NUMBERS = st.recursive(st.one_of(LEAVES, st.sampled_from(OTHERS)), grow, max_leaves=8)


def tree_or_none(expression: str):
    try:
        # Frames inside longer frames and constant zero divisors are refused, as they should be.
        evaluate(expression, CANDLES.take(slice(0, 8)), "15")
        return tree_of(expression)
    except BadExpression:
        return None


@given(NUMBERS, st.integers(1, 299))
@settings(max_examples=300, deadline=None)
def test_no_expression_can_look_forward(expression: str, cut: int) -> None:
    if tree_or_none(expression) is None:
        return
    whole = evaluate(expression, CANDLES, "15")
    np.testing.assert_array_equal(evaluate(expression, CANDLES.take(slice(0, cut)), "15"), whole[:cut])


@given(NUMBERS)
@settings(max_examples=300, deadline=None)
def test_the_normal_form_parses_to_itself_and_to_the_same_bits(expression: str) -> None:
    tree = tree_or_none(expression)
    if tree is None:
        return
    assert canonical(tree.text) == tree.text
    np.testing.assert_array_equal(evaluate(tree.text, CANDLES, "15"), evaluate(expression, CANDLES, "15"))


WORDS = st.sampled_from(
    [*REGISTRY, "close", "open", "tf", "and", "or", "not", "if", "lambda", "(", ")", "[", "]", ",", "+", "-", "*", "/", "%",
     "**", "<", ">=", "==", "=", "!", "1", "0", "20", "1e9", "9" * 400, "0x1", "1j", '"240"', "'", '"', "\x00", "\n", "#",
     ":", ":=", ".", "é", "√", "😀", "\\", "f'", "{", "}", "@", "~", "^", "&", "await", "yield", "None", "True", "_"]
)  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=80), st.lists(WORDS, max_size=40).map(" ".join), st.lists(WORDS, max_size=40).map("".join)
    )
)
@settings(max_examples=3_000, deadline=None)
def test_any_text_either_parses_or_is_refused_with_a_place(text: str) -> None:
    refused: BadExpression | None = None
    tree = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            tree = tree_of(text)
        except BadExpression as exc:
            refused = exc
    if refused is None:
        assert canonical(tree.text) == tree.text
    else:
        assert refused.position is not None
        assert 0 <= refused.position <= len(text)
        assert refused.message
        assert refused.fix


@pytest.mark.parametrize(
    ("expression", "start_hour", "rows"),
    [("pivot()", 0, 23), ("pivot()", 1, 46), ("pivot()", 18, 29), ('tf("D", sma(close, 3))[2]', 0, 73)],
)
def test_the_warm_up_is_exact_where_the_start_of_the_data_is_known(expression: str, start_hour: int, rows: int) -> None:
    candles = make_candles(200)
    hours = np.arange(200, dtype=np.int64) + start_hour
    candles = replace(candles, ts=hours * 3_600_000 + 1_704_067_200_000)
    values = evaluate(expression, candles, "60")
    assert warmup_bars(tree_of(expression), "60", int(candles.ts[0])) == rows
    assert int(np.argmax(~np.isnan(values))) == rows
