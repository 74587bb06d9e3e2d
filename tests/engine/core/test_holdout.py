import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.holdout import Withheld, holdout_start_ms
from engine.core.resemblance import resemblance
from engine.core.timeframes import DAY_MS
from engine.core.times import iso_utc, parse_time_ms
from engine.errors import BadRequest, Sealed

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("start", "end", "begins"),
    [
        ("2023-01-01", "2024-01-01", "2023-10-20"),  # 365 days: a fifth is 73
        ("2024-01-01", "2024-03-31", "2024-03-01"),  # 90 days: a fifth would be 18, the least is 30
        ("2023-01-01", "2024-01-01T13:00", "2023-10-20"),  # from a midnight on
    ],
)
def test_the_holdout_is_the_last_fifth_and_at_least_thirty_days(start, end, begins):
    assert iso_utc(holdout_start_ms(parse_time_ms(start), parse_time_ms(end)))[:10] == begins


def test_a_range_below_ninety_days_cannot_be_sealed():
    with pytest.raises(BadRequest) as caught:
        holdout_start_ms(0, 90 * DAY_MS - 1)
    assert '"sealed": false' in caught.value.fix


@pytest.mark.parametrize(
    ("interval", "last"), [("1", "2024-05-01"), ("D", "2024-05-01"), ("W", "2024-04-29"), ("M", "2024-05-01")]
)
def test_a_visible_bar_has_closed_by_the_start_of_the_seal(interval, last):
    seal = Withheld(parse_time_ms("2024-05-01"), "s")
    assert iso_utc(seal.last_open_ms(interval))[:10] == last
    assert not seal.covers_run(parse_time_ms("2024-05-01"))
    assert seal.covers_run(parse_time_ms("2024-05-01") + 1)
    refusal = seal.refusal("the range")
    assert isinstance(refusal, Sealed)
    assert refusal.code == "sealed"
    assert "open_holdout" in refusal.fix


def walk(seed, count, step_ms=HOUR):
    closes = 100 * np.cumprod(1 + np.random.default_rng(seed).normal(0, 0.01, count))
    return Candles(step_ms * np.arange(count, dtype=np.int64), *(closes.copy() for _ in range(6)))


def scaled(candles, change):
    return Candles(candles.ts, *(change(column) for column in candles.columns()[1:]))


def test_a_copy_is_recognised_by_its_moves_whatever_was_done_to_its_prices():
    one = walk(1, 400)
    for change in (lambda price: price, lambda price: 0.001 * price, lambda price: 1 / price):
        assert resemblance(("60", one), ("60", scaled(one, change))) == pytest.approx(1)
    assert resemblance(("60", one), ("60", walk(2, 400))) < 0.3


def test_closes_of_different_intervals_are_compared_at_the_same_moments():
    hours = walk(1, 400)
    fours = hours.take(np.arange(3, 400, 4))
    fours = Candles(fours.ts - 3 * HOUR, *fours.columns()[1:])
    assert resemblance(("240", fours), ("60", hours)) == pytest.approx(1)


def test_too_little_in_common_proves_nothing():
    one = walk(1, 400)
    assert resemblance(("60", one.take(slice(0, 19))), ("60", one)) is None
    assert resemblance(("60", one), ("60", Candles.empty())) is None
    assert resemblance(("60", one), ("60", scaled(one, np.ones_like))) is None
