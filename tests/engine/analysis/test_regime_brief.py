import json
from itertools import pairwise

import numpy as np
import pytest

from engine.analysis.market_data import MarketData
from engine.analysis.regimes import regime_brief
from engine.core.series import Series
from engine.core.times import iso_utc
from engine.core.validation.regimes import GRID_NAMES, label_regimes
from engine.errors import BadRequest

SERIES = Series("bybit", "linear", "TESTUSDT", "trade", "60")


def brief_of(candles):
    return regime_brief(MarketData(SERIES, candles, "bybit"))


@pytest.fixture(scope="module")
def candles(make_candles):
    return make_candles(1_200)


def test_the_regime_now_is_that_of_the_last_closed_bar(candles):
    brief = brief_of(candles)
    assert brief["now"]["regime"] == GRID_NAMES[label_regimes(candles.close)[-1]]
    assert brief["data"]["last_closed_bar"] == iso_utc(int(candles.ts[-1]))
    json.dumps(brief, allow_nan=False)


def test_what_was_said_at_a_bar_is_not_changed_by_later_ones(candles):
    whole = label_regimes(candles.close)
    for end in (400, 700, 1_000):
        earlier = brief_of(candles.take(slice(0, end)))
        assert earlier["now"]["regime"] == GRID_NAMES[whole[end - 1]]


def test_a_different_future_leaves_the_brief_of_the_past_as_it_is(candles, make_candles):
    cut = candles.take(slice(0, 800))
    other = make_candles(1_200, seed=99)
    bent = type(candles).concatenate([cut, other.take(slice(800, 1_200))])
    assert brief_of(bent.take(slice(0, 800))) == brief_of(cut)


def test_durations_and_transitions_are_those_counted_bar_by_bar(candles):
    brief = brief_of(candles)
    labels = [int(label) for label in label_regimes(candles.close) if label >= 0]
    for name, share, times, mean_bars in brief["summary"]["rows"]:
        code = GRID_NAMES.index(name)
        begun = sum(one == code and (row == 0 or labels[row - 1] != code) for row, one in enumerate(labels))
        assert share == pytest.approx(labels.count(code) / len(labels), rel=1e-3)
        assert times == begun
        assert mean_bars == pytest.approx(labels.count(code) / begun, rel=1e-3)
    columns = brief["transitions"]["columns"][1:]
    for name, *row in brief["transitions"]["rows"]:
        assert sum(row) == pytest.approx(1, abs=1e-3) or sum(row) == 0
        after = [following for one, following in pairwise(labels) if GRID_NAMES[one] == name]
        for following, probability in zip(columns, row, strict=True):
            counted = sum(GRID_NAMES[one] == following for one in after) / max(len(after), 1)
            assert probability == pytest.approx(counted, abs=1e-4)


def test_a_wild_stretch_is_told_by_both_methods(make_candles):
    calm, wild = make_candles(1_000, volatility=0.003), make_candles(1_000, volatility=0.02)
    scale = calm.close[-1] / wild.open[0]
    wild = type(calm)(
        calm.ts + 1_000 * 3_600_000, *(column * scale for column in (wild.open, wild.high, wild.low, wild.close)),
        wild.volume, wild.turnover,
    )  # fmt: skip
    brief = brief_of(type(calm).concatenate([calm, wild.take(slice(0, 60))]))
    assert brief["now"]["regime"].endswith("wild")
    assert brief["hidden_markov"]["states"]["rows"][1][5] > 0.9
    assert np.isclose(sum(row[5] for row in brief["hidden_markov"]["states"]["rows"]), 1)


def test_too_few_bars_are_refused(candles):
    with pytest.raises(BadRequest, match="199 closed bars"):
        brief_of(candles.take(slice(0, 199)))
