import json

import numpy as np
import pytest

from engine.analysis.indicator_behaviour import indicator_brief, read_question
from engine.analysis.market_data import MarketData
from engine.core.candles import Candles
from engine.core.expressions import Evaluator, tree_of
from engine.core.indicators import REGISTRY
from engine.core.series import Series
from engine.errors import BadRequest, NotFound

SERIES = Series("bybit", "linear", "TESTUSDT", "trade", "60")


@pytest.fixture(scope="module")
def data(make_candles):
    return MarketData(SERIES, make_candles(2_000), "bybit")


def test_the_declaration_is_that_of_the_registry(data):
    brief = indicator_brief(read_question("atr"), data, "")
    declared = REGISTRY["atr"]
    told = brief["indicator"]
    assert (told["formula"], told["source"], told["warmup_rule"]) == (
        declared.formula,
        declared.source,
        declared.warmup,
    )


def test_the_distribution_is_that_of_the_evaluated_column(data):
    brief = indicator_brief(read_question("rsi(close, 21)"), data, "")
    tree = tree_of("rsi(close, 21)", {})
    values = Evaluator(data.candles, "60").numbers(tree)
    known = values[~np.isnan(values)]
    shown = dict(
        zip(
            *(brief["behaviour"]["distribution"][part] for part in ("columns",)),
            brief["behaviour"]["distribution"]["rows"][0],
            strict=True,
        )
    )
    assert shown["median"] == pytest.approx(float(np.median(known)), rel=1e-5)
    assert shown["last"] == pytest.approx(float(values[-1]), rel=1e-5)
    assert brief["indicator"]["warmup_bars"] == int(np.flatnonzero(~np.isnan(values))[0])
    assert brief["behaviour"]["autocorrelation"]["lag_5"] == pytest.approx(
        np.corrcoef(known[:-5], known[5:])[0, 1], rel=1e-3
    )
    assert brief["behaviour"]["time"]["what"] == "above 50"
    assert brief["behaviour"]["time"]["share"] == pytest.approx(float((known > 50).mean()), rel=1e-3)


def test_forward_returns_are_means_over_the_bars_of_a_bucket(data):
    brief = indicator_brief(read_question("roc(close, 10)"), data, "")
    values = Evaluator(data.candles, "60").numbers(tree_of("roc(close, 10)", {}))
    close = data.candles.close
    edges = np.quantile(values[~np.isnan(values)], np.linspace(0, 1, 6))
    lowest = [close[row + 10] / close[row] - 1 for row in range(len(close) - 10) if edges[0] <= values[row] < edges[1]]
    first = brief["behaviour"]["forward_returns"]["rows"][0]
    assert first[3] == pytest.approx(float(np.mean(lowest)), rel=1e-3)
    assert sum(row[1] for row in brief["behaviour"]["forward_returns"]["rows"]) == np.count_nonzero(~np.isnan(values))
    assert "in-sample" in brief["behaviour"]["forward_returns"]["caveat"]


def test_an_indicator_that_tells_the_next_bars_is_seen_to_and_noise_is_not(data):
    planted = data.candles
    # Twenty bars up, twenty bars down: the last move goes on more often than not.
    moves = np.where(np.arange(2_000) // 60 % 2 == 0, 0.002, -0.002) + np.random.default_rng(3).normal(0, 0.001, 2_000)
    close = 100 * np.exp(np.cumsum(moves))
    trending = Candles(planted.ts, close, close * 1.001, close * 0.999, close, planted.volume, planted.turnover)
    told = indicator_brief(read_question("roc(close, 5)"), MarketData(SERIES, trending, "bybit"), "")
    difference = told["behaviour"]["forward_returns"]["extreme_difference"]
    assert difference["last_minus_first"] > 0
    assert not difference["contains_0"]
    noise = indicator_brief(read_question("roc(close, 5)"), data, "")
    assert noise["behaviour"]["forward_returns"]["extreme_difference"]["contains_0"]


def test_a_price_like_indicator_is_compared_with_the_close(data):
    brief = indicator_brief(read_question("ema(close, 50)"), data, "")
    assert brief["behaviour"]["bucketed_by"] == "close / indicator - 1"
    values = Evaluator(data.candles, "60").numbers(tree_of("ema(close, 50)", {}))
    known = ~np.isnan(values)
    share = float((data.candles.close[known] > values[known]).mean())
    assert brief["behaviour"]["time"]["share"] == pytest.approx(share, rel=1e-3)


def test_a_condition_is_counted(data):
    brief = indicator_brief(read_question("crossover(close, sma(close, 20))"), data, "")
    held = Evaluator(data.candles, "60").conditions(tree_of("crossover(close, sma(close, 20))", {}))
    assert brief["behaviour"]["true_bars"] == int(held.sum())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_indicator_has_a_brief_without_nan(data, name):
    short = MarketData(SERIES, data.candles.take(slice(0, 600)), "bybit")
    brief = indicator_brief(read_question(name), short, "")
    json.dumps(brief, allow_nan=False)
    assert brief["behaviour"] is not None


def test_without_candles_only_the_declaration_is_told():
    brief = indicator_brief(read_question("rsi"), None, "nothing is stored")
    assert brief["behaviour"] is None
    assert brief["why_no_behaviour"] == "nothing is stored"


def test_an_unknown_indicator_suggests_the_nearest():
    with pytest.raises(NotFound) as caught:
        read_question("rsii")
    assert "rsi" in caught.value.fix


def test_a_series_is_no_indicator():
    with pytest.raises(BadRequest, match="no indicator"):
        read_question("close")
