import json

import numpy as np
import pytest

from engine.analysis.code_review import code_review, guess_language
from engine.analysis.market_data import MarketData
from engine.analysis.strategy_review import strategy_review
from engine.core import catalogue
from engine.core.series import Series
from engine.core.signals import compute_signals
from engine.core.strategy import compile_strategy, parse_strategy
from engine.errors import BadRequest

SERIES = Series("bybit", "linear", "TESTUSDT", "trade", "60")


@pytest.fixture(scope="module")
def data(make_candles):
    return MarketData(SERIES, make_candles(2_000), "bybit")


def review(document, data=None):
    return strategy_review(compile_strategy(parse_strategy(document)), "inline", data)


def kinds(brief):
    return {(one["kind"], one["where"].partition(":")[0]) for one in brief["findings"]}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_shipped_strategy_is_reviewed_and_cannot_look_ahead(data, name):
    brief = strategy_review(compile_strategy(catalogue.load(name)), "catalogue", data)
    assert brief["look_ahead"]["possible"] is False
    json.dumps(brief, allow_nan=False)


def test_conditions_are_counted_as_the_engine_sees_them(data):
    compiled = compile_strategy(catalogue.load("ema_cross"))
    brief = strategy_review(compiled, "catalogue", data)
    signals = compute_signals(compiled, data.candles, "60")
    rows = {row[0]: row[2] for row in brief["conditions"]["rows"] if row[1] == "whole rule"}
    assert rows["long_entry"] == int(signals.long_entry.sum())
    assert brief["conditions"]["bars"] == 2_000 - compiled.warmup_bars("60")


def test_a_condition_that_never_holds_is_found(data):
    brief = review({"name": "never", "long_entry": "rsi(close, 14) > 50 and close > 100000000", "max_bars": 5}, data)
    found = [one for one in brief["findings"] if one["kind"] == "unreachable"]
    assert found[0]["severity"] == "high"
    assert any("100000000" in one["where"] for one in found)


def test_bounds_that_exclude_each_other_are_a_contradiction_without_any_data():
    found = review({"name": "no", "long_entry": "close > 1e9 and close < 5", "max_bars": 5}, None)["findings"]
    assert [(one["severity"], one["where"]) for one in found if one["kind"] == "contradiction"] == [
        ("high", "long_entry")
    ]
    fine = review({"name": "yes", "long_entry": "close > 5 and close < 1e9", "max_bars": 5}, None)["findings"]
    assert [one for one in fine if one["kind"] == "contradiction"] == []


def test_rules_that_contradict_each_other_are_found(data):
    document = {
        "name": "clash",
        "long_entry": "close > open",
        "short_entry": "close > sma(close, 5)",
        "long_exit": "close > open[1]",
    }
    brief = review(document, data)
    held = [one["problem"] for one in brief["findings"] if one["kind"] == "contradiction"]
    assert len(held) == 2
    both = int(np.count_nonzero(data.candles.close[5:] > data.candles.open[5:]))
    assert brief["conditions"]["both_entries_at_once"] <= both


def test_signs_of_overfitting_are_found():
    params = {f"p{row}": {"default": 10 + row, "min": 2, "max": 100, "integer": True} for row in range(6)}
    used = " + ".join(f"sma(close, {name})" for name in params)
    brief = review({"name": "bent", "params": params, "long_entry": f"close * 17.35 > {used}", "max_bars": 3})
    problems = " ".join(one["problem"] for one in brief["findings"])
    assert "6 parameters" in problems
    assert "17.35" in problems
    assert brief["complexity"]["points_of_the_parameter_grid"] == 99**6


def test_a_narrow_range_and_a_value_at_its_edge_are_found():
    params = {"period": {"default": 100, "min": 95, "max": 100, "integer": True}}
    found = [
        one
        for one in review(
            {"name": "narrow", "params": params, "long_entry": "close > sma(close, period)", "max_bars": 3}
        )["findings"]
        if one["where"] == "params.period"
    ]
    assert ["narrow range" in one["problem"] or "edge" in one["problem"] for one in found] == [True, True]


def test_a_target_inside_the_costs_and_a_stop_inside_the_usual_bar_are_found(data):
    brief = review(
        {
            "name": "tight",
            "long_entry": "close > open",
            "take_profit": {"percent": 0.1},
            "stop_loss": {"percent": 0.05},
        },
        data,
    )
    assert {("costs", "take_profit"), ("risk", "stop_loss")} <= kinds(brief)


def test_a_higher_timeframe_that_the_stored_bars_cannot_build_is_told(data):
    brief = review({"name": "finer", "long_entry": 'close > tf("30", sma(close, 5))', "max_bars": 3}, data)
    assert "cannot be built" in brief["conditions"]["why"]


def test_a_clean_strategy_has_no_high_finding(data):
    brief = strategy_review(compile_strategy(catalogue.load("ema_cross")), "catalogue", data)
    assert not [one for one in brief["findings"] if one["severity"] == "high"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("df['target'] = df['close'].shift(-1)", "look-ahead"),
        ("df['x'] = df.close.rolling(5, center=True).mean()", "look-ahead"),
        ("df = df.bfill()", "look-ahead"),
        ("df = df.fillna(method='bfill')", "look-ahead"),
        ("z = (close - close.mean()) / close.std()", "look-ahead"),
        ("future = prices[i + 1]", "look-ahead"),
        ("x_train, x_test = train_test_split(x)", "look-ahead"),
        ("merged = pd.merge_asof(a, b, direction='nearest')", "look-ahead"),
        ("pnl = signal * returns", "execution"),
        ("last = df.close.iloc[-1]", "look-ahead"),
        ("peaks, _ = find_peaks(close)", "look-ahead"),
    ],
)
def test_a_smell_of_python_is_found_at_its_line(line, kind):
    brief = code_review(f"import pandas as pd\nfee = 0.001\n{line}\n")
    assert (3, kind) in [(one["line"], one["kind"]) for one in brief["findings"]]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('x = request.security(syminfo.tickerid, "D", close, lookahead=barmerge.lookahead_on)', "look-ahead"),
        ("y = close[-1]", "look-ahead"),
        ('z = request.security(syminfo.tickerid, "D", close)', "repainting"),
        ('strategy("s", calc_on_every_tick=true, commission_value=0.1)', "repainting"),
        ("p = ta.pivothigh(high, 5, 5)", "repainting"),
        ('strategy("s")', "costs"),
    ],
)
def test_a_smell_of_pine_is_found_at_its_line(line, kind):
    brief = code_review(f"//@version=5\n{line}\n")
    assert brief["kind"] == "pine code"
    assert (2, kind) in [(one["line"], one["kind"]) for one in brief["findings"]]


def test_causal_code_has_no_high_finding():
    code = """
fee = 0.0006
signal = (close > close.rolling(20).mean()).astype(int).shift(1)
z = (close - close.rolling(50).mean()) / close.rolling(50).std()
# df.close.shift(-1) would look ahead
returns = close.pct_change()
net = signal * returns - fee * signal.diff().abs()
"""
    assert code_review(code)["findings"] == []


def test_code_that_does_not_parse_is_told_and_still_read():
    brief = code_review("def f(:\n    x = y.shift(-1)\n")
    assert {one["kind"] for one in brief["findings"]} == {"language", "look-ahead"}


def test_languages_are_told_apart():
    assert guess_language("//@version=6\nindicator('x')") == "pine"
    assert guess_language("import numpy as np") == "python"


@pytest.mark.parametrize("code", ["", "   \n"])
def test_empty_code_is_refused(code):
    with pytest.raises(BadRequest, match="empty"):
        code_review(code)
