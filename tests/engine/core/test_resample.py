"""Higher bars made of lower ones."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.resample import bucket_opens, close_times, resample
from engine.core.timeframes import INTERVALS, floor_open, next_open


@given(st.integers(0, 4_102_444_800_000), st.sampled_from(INTERVALS))
def test_buckets_open_and_close_where_timeframes_say(at_ms: int, interval: str) -> None:
    opened = bucket_opens(interval, np.array([at_ms]))
    assert int(opened[0]) == floor_open(interval, at_ms)
    assert int(close_times(interval, opened)[0]) == next_open(interval, int(opened[0]))


@pytest.mark.parametrize(("interval", "months"), [("M", 2), ("W", 0)])
def test_whole_months_and_weeks_are_made_of_days(interval: str, months: int) -> None:
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)
    rows = 31 + 29 + 10
    values = np.arange(rows, dtype=np.float64)
    days = Candles(start + np.arange(rows) * 86_400_000, values, values + 2, values - 2, values + 1, values, values)
    bars, last_rows = resample(days, "D", interval)
    lengths = [31, 29] if months else [7] * 10
    ends = np.cumsum(lengths)
    starts = ends - lengths
    assert len(bars) == len(lengths)
    np.testing.assert_array_equal(last_rows, ends - 1)
    np.testing.assert_array_equal(bars.open, values[starts])
    np.testing.assert_array_equal(bars.close, values[ends - 1] + 1)
    np.testing.assert_array_equal(bars.high, values[ends - 1] + 2)
    np.testing.assert_array_equal(bars.low, values[starts] - 2)
    np.testing.assert_array_equal(bars.volume, [values[a:b].sum() for a, b in zip(starts, ends, strict=True)])


def test_nothing_makes_nothing() -> None:
    bars, rows = resample(Candles.empty(), "15", "60")
    assert len(bars) == len(rows) == 0
