import numpy as np
import pytest

from engine.analysis.scenario_candles import BARS, CHARACTERS, scenario_candles
from engine.errors import BadRequest

BY_NAME = {one.name: one for one in CHARACTERS}


@pytest.mark.parametrize("interval", ["1", "60", "D"])
@pytest.mark.parametrize("name", BY_NAME)
def test_made_up_candles_are_whole_and_come_out_the_same(name, interval):
    candles = scenario_candles(BY_NAME[name], interval)
    assert len(candles) == BARS
    assert np.all(np.diff(candles.ts) > 0)
    assert np.all(candles.high >= np.maximum(candles.open, candles.close))
    assert np.all(candles.low <= np.minimum(candles.open, candles.close))
    assert np.all(candles.low > 0)
    assert candles.sha256() == scenario_candles(BY_NAME[name], interval).sha256()


def test_markets_have_the_character_they_are_named_after():
    up, down, crash, gaps = (
        scenario_candles(BY_NAME[name], "60") for name in ("trend_up", "trend_down", "crash", "gaps")
    )
    assert up.close[-1] > 2 * up.close[0]
    assert down.close[-1] < down.close[0] / 2
    first, last = int(0.7 * BARS), int(0.73 * BARS)
    assert crash.close[last - 1] / crash.close[first - 1] == pytest.approx(0.5)
    jumps = np.abs(np.log(gaps.open[1:] / gaps.close[:-1]))
    assert np.count_nonzero(jumps > 0.07) == 9
    assert np.count_nonzero(jumps > 1e-9) == 9


def test_a_quiet_market_has_the_prices_of_the_sideways_one():
    quiet, sideways = scenario_candles(BY_NAME["low_volume"], "60"), scenario_candles(BY_NAME["sideways"], "60")
    assert np.array_equal(quiet.close, sideways.close)
    assert np.allclose(quiet.volume * 50, sideways.volume)


def test_weeks_and_months_are_refused():
    with pytest.raises(BadRequest, match="too few bars"):
        scenario_candles(CHARACTERS[0], "M")
