"""F26: whatever goes wrong for a while, what is stored in the end is the exchange's own series."""

import asyncio
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.series import Series
from engine.core.timeframes import step_ms
from engine.errors import LabError

pytestmark = pytest.mark.faults

START = 1_704_067_200_000  # 2024-01-01 00:00 UTC

PASSING = [
    {"kind": "status", "code": 429},
    {"kind": "status", "code": 502, "html": True},
    {"kind": "status", "code": 503},
    {"kind": "retcode"},
    {"kind": "retcode", "code": 10016, "message": "server error"},
    {"kind": "delay", "seconds": 0.05},
    {"kind": "silence", "seconds": 0.6},
    {"kind": "drop", "share": 0.5},
    {"kind": "drip", "pieces": 5, "pause_s": 0.02},
    {"kind": "cut_json", "share": 0.8},
    {"kind": "null_list"},
    {"kind": "empty_list"},
    {"kind": "short_page", "keep": 3, "side": "newest"},
    {"kind": "short_page", "keep": 77, "side": "oldest"},
    {"kind": "duplicates", "rows": 9},
    {"kind": "out_of_order"},
    {"kind": "foreign_rows", "rows": 4},
    {"kind": "foreign_rows", "rows": 4, "shift_ms": 3_600_000},
    {"kind": "other_window", "shift_ms": 86_400_000},
    {"kind": "other_window", "shift_ms": -3_600_000},
    {"kind": "ignore_start"},
    {"kind": "conflict", "rows": 2, "factor": 1.1},
]

# Few enough that no page meets the same wrong answer three times: three that agree are believed.
rules = st.builds(
    lambda action, every, first: {**action, "match": {"path": "kline", "every": every, "from_call": first, "count": 4}},
    st.sampled_from(PASSING),
    st.integers(2, 5),
    st.integers(1, 6),
)
scripts = st.lists(rules, max_size=3)
ranges = st.tuples(
    st.sampled_from(["1", "5", "60", "D"]),
    st.integers(0, 3000),
    st.integers(0, 6000),
    st.integers(0, 59_999),
    st.sampled_from([100, 333, 1000]),
    st.integers(1, 4),
)


async def fetch(bench, truth, sound, outcome, fast_clock, script, wanted) -> None:
    interval, first, bars, rest_ms, page, in_flight = wanted
    series = Series("bybit", "linear", "BTCUSDT", "trade", interval)
    step = step_ms(interval)
    bars = bars if interval != "D" else bars % 300
    bars = min(bars, 20 * page)
    first = first if interval != "D" else -(first % 300)
    low = START + first * step + rest_ms
    high = low + bars * step + rest_ms
    store = await bench.store()
    right = truth(series, low, high)
    bench.exchange.reset()
    bench.exchange.faults(*script)
    backfill = bench.backfill(store, clock=fast_clock(100), in_flight=in_flight)
    came = await outcome(backfill.run(series, low, high, page=page))
    if isinstance(came, LabError):
        # A range without bars may be refused; patience may also end, and then what is stored is a part of the truth.
        assert came.code in {"bad_request", "unavailable", "bad_payload", "rate_limited"}
        kept = await store.read_candles(series, 0, 2**52)
        assert kept.sha256() == truth(series, low, int(kept.ts[-1]) + 1 if len(kept.ts) else low).sha256()
        bench.exchange.faults()
        if len(right.ts):
            await backfill.run(series, low, high, page=page)
    if len(right.ts):
        await sound(store, series, low, high, right)
    asked = len(bench.exchange.pages(interval=interval))
    assert asked <= (len(right.ts) // page + 2) + 4 * len(script) * 4, asked
    await bench.close()


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=scripts, wanted=ranges)
def test_any_small_fault_script_over_any_range_ends_with_the_series_of_the_exchange(
    tmp_path, exchange, make_bench, truth, sound, outcome, fast_clock, script, wanted
):
    home = tmp_path / "home"
    shutil.rmtree(home, ignore_errors=True)
    asyncio.run(fetch(make_bench(home, exchange), truth, sound, outcome, fast_clock, script, wanted))
