"""Instruments, points, runs, strategies, jobs, leases and limits."""

import asyncio
import dataclasses
import json
import sqlite3
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from engine.core.markets import FundingRate, Instrument, LongShortRatio, OpenInterest
from engine.errors import BadRequest, NotFound, StorageFailed
from engine.ports import LimitMemory
from engine.store.columns import PackedColumns, pack, unpack
from engine.store.point_store import PointSeries
from engine.store.run_store import RunRecord, new_run_id

BTC = Instrument(
    category="linear", symbol="BTCUSDT", base_coin="BTC", quote_coin="USDT", settle_coin="USDT", status="Trading",
    contract_type="LinearPerpetual", launch_ms=1, delivery_ms=None, tick_size=Decimal("0.10"), lot_step=Decimal("0.001"),
    min_quantity=Decimal("0.001"), max_market_quantity=None, min_notional=Decimal(5), max_leverage=Decimal("100.00"),
    funding_interval_minutes=480,
)  # fmt: skip
ETH = dataclasses.replace(BTC, symbol="ETHUSDT", base_coin="ETH")
ETHBTC = dataclasses.replace(BTC, symbol="ETHBTC", base_coin="ETH", category="spot", launch_ms=None)


async def test_an_instrument_gets_a_new_dated_row_only_when_a_rule_changes(store):
    assert await store.save_instruments("bybit", [BTC, ETH], 100) == 2
    assert await store.save_instruments("bybit", [BTC, ETH], 200) == 0
    finer = dataclasses.replace(BTC, tick_size=Decimal("0.01"))
    assert await store.save_instruments("bybit", [finer, ETH], 300) == 1
    assert await store.instrument("bybit", "linear", "BTCUSDT") == finer
    assert await store.instrument("bybit", "linear", "BTCUSDT", at_ms=299) == BTC
    assert str((await store.instrument("bybit", "linear", "BTCUSDT", at_ms=100)).tick_size) == "0.10"
    assert await store.instrument("bybit", "linear", "BTCUSDT", at_ms=99) is None
    assert await store.instrument("simulated", "linear", "BTCUSDT") is None


async def test_search_finds_what_the_last_listing_had(store):
    await store.save_instruments("bybit", [BTC, ETH], 100, listing_of="linear")
    await store.save_instruments("bybit", [ETHBTC], 100, listing_of="spot")
    found = await store.search_instruments("bybit", text="eth")
    assert [each.symbol for each in found.items] == ["ETHBTC", "ETHUSDT"]
    assert (await store.search_instruments("bybit", "linear", "", limit=1, offset=1)).total == 2
    assert (await store.search_instruments("bybit", text="%")).total == 0
    await store.save_instruments("bybit", [BTC], 200, listing_of="linear")
    assert [each.symbol for each in (await store.search_instruments("bybit", "linear")).items] == ["BTCUSDT"]
    assert await store.instrument("bybit", "linear", "ETHUSDT") == ETH
    assert await store.instruments_age_ms("bybit", "linear", 250) == 50
    assert await store.instruments_age_ms("bybit", "inverse", 250) is None


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("funding", [FundingRate(10, 0.0001), FundingRate(20, -0.000881521)]),
        ("open_interest", [OpenInterest(10, 5.5)]),
        ("long_short_ratio", [LongShortRatio(10, 0.6, 0.4)]),
    ],
)
async def test_points_come_back_as_they_were_with_their_coverage(store, kind, points):
    series = PointSeries("bybit", "linear", "BTCUSDT", kind)
    for _ in range(2):
        assert await store.save_points(series, points, start_ms=5, end_ms=25, source="bybit") == len(points)
    assert await store.read_points(series, 0, 100) == points
    assert await store.read_points(series, 11, 20) == []
    assert await store.missing_points(series, 0, 30) == [(0, 5), (25, 30)]
    assert await store.list_series() == []
    with pytest.raises(BadRequest, match="outside"):
        await store.save_points(series, points, start_ms=11, end_ms=25, source="bybit")


def record(run_id, created_ms, *, strategy="ema_cross", sharpe: float | None = 1.0):
    return RunRecord(
        id=run_id, created_ms=created_ms, name=f"run {run_id}", strategy=strategy, category="linear", symbol="BTCUSDT",
        interval="15", source="simulated", manifest='{"a":1}', result='{"b":2}', metrics={"sharpe": sharpe},
    )  # fmt: skip


async def test_a_run_comes_back_with_its_trades_and_equity(store):
    run = record(new_run_id(), 5, sharpe=float("inf"))
    trades = {"entry_ms": np.arange(7), "pnl": np.linspace(-1, 1, 7), "reason": np.array(["stop_loss"] * 7)}
    await store.save_run(run, trades=trades, equity={"equity": np.ones(3)})
    found = await store.run(run.id)
    assert found == dataclasses.replace(run, metrics={"sharpe": None})
    some = await store.run_trades(run.id, offset=2, limit=3)
    assert {name: column.tolist() for name, column in some.items()} == {
        "entry_ms": [2, 3, 4], "pnl": trades["pnl"][2:5].tolist(), "reason": ["stop_loss"] * 3,
    }  # fmt: skip
    assert await store.count_trades(run.id) == 7
    assert (await store.run_equity(run.id))["equity"].tolist() == [1, 1, 1]
    with pytest.raises(NotFound):
        await store.run_trades("run_unknown")


async def test_damaged_trades_are_refused(store, database_url):
    run = record(new_run_id(), 5)
    await store.save_run(run, trades={"pnl": np.ones(3)})
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as raw:
        raw.execute("UPDATE run_columns SET data = zeroblob(length(data))")
    raw.close()
    with pytest.raises(StorageFailed, match=run.id):
        await store.run_trades(run.id)


@pytest.mark.parametrize("sort", ["created", "sharpe"])
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_of_runs_join_to_the_whole_order(store, sort, descending):
    sharpes = [0.1, None, 0.3, 0.3, -2.0, None, 0.7]
    for number, sharpe in enumerate(sharpes):
        await store.save_run(record(f"run_{number}", number // 2, sharpe=sharpe))
    await store.save_run(record("run_other", 1, strategy="rsi"))
    seen, cursor = [], None
    while True:
        page = await store.list_runs(strategy="ema_cross", sort=sort, descending=descending, limit=2, cursor=cursor)
        assert page.total == len(sharpes)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(each.id for each in seen) == sorted(f"run_{number}" for number in range(len(sharpes)))
    if sort == "created":
        values = [each.created_ms for each in seen]
    else:
        values = [each.metrics["sharpe"] for each in seen]
        assert values[-2:] == [None, None]
        values = values[:-2]
    assert values == sorted(values, reverse=descending)


async def test_a_foreign_cursor_is_refused(store):
    with pytest.raises(BadRequest, match="cursor"):
        await store.list_runs(cursor="page 2")


async def test_a_strategy_gets_a_new_version_only_when_its_content_differs(store):
    first = await store.save_strategy("mine", '{"b": 1, "a": 2}', at_ms=1)
    again = await store.save_strategy("mine", '{"a":2,"b":1}', at_ms=2)
    second = await store.save_strategy("mine", '{"a":3}', at_ms=3)
    assert (first, second.version) == (again, 2)
    assert await store.strategy("mine") == second
    assert json.loads((await store.strategy("mine", 1)).document) == {"a": 2, "b": 1}
    assert await store.list_strategies() == [second]
    with pytest.raises(NotFound, match="version 9"):
        await store.strategy("mine", 9)


async def test_equal_requests_are_one_job_until_it_fails(store):
    first, same = await asyncio.gather(*(store.add_job("backfill", {"a": 1, "b": 2}, at_ms=1) for _ in range(2)))
    assert first.id == same.id
    assert first.id.startswith("job_")
    assert (await store.add_job("backfill", {"b": 3}, at_ms=1)).id != first.id
    claimed = await store.claim_job(first.id, store.owner, now_ms=2, lease_ms=10)
    assert (claimed.state, claimed.attempts) == ("running", 1)
    assert await store.claim_job(first.id, store.owner, now_ms=3, lease_ms=10) is None
    await store.finish_job(first.id, "somebody else", "done", now_ms=4)
    await store.finish_job(first.id, store.owner, "failed", now_ms=5, error={"code": "storage"})
    assert (await store.job(first.id)).error == {"code": "storage"}
    assert (await store.add_job("backfill", {"a": 1, "b": 2}, at_ms=6)).id != first.id
    assert (await store.list_jobs(states=("failed",))).total == 1


async def test_an_expired_lease_can_be_claimed_by_another(store):
    job = await store.add_job("backfill", {}, at_ms=1)
    await store.claim_job(job.id, store.owner, now_ms=1, lease_ms=10)
    assert (await store.claim_job(job.id, "another", now_ms=12, lease_ms=10)).attempts == 2
    assert (await store.renew_job(job.id, store.owner, now_ms=13, lease_ms=10)).owner == "another"


async def test_a_lease_has_one_owner_until_it_ends(store):
    mine, yours = f"{store.owner}:a", f"{store.owner}:b"
    assert await store.take_lease("x", mine, now_ms=0, lease_ms=10)
    assert await store.take_lease("x", mine, now_ms=5, lease_ms=10)
    assert not await store.take_lease("x", yours, now_ms=14, lease_ms=10)
    assert await store.take_lease("x", yours, now_ms=15, lease_ms=10)
    await store.release_lease("x", mine)
    assert not await store.take_lease("x", mine, now_ms=16, lease_ms=10)
    await store.release_lease("x", yours)
    assert await store.take_lease("x", mine, now_ms=16, lease_ms=10)


async def test_bans_are_kept_at_their_latest_end_and_callers_are_counted_while_alive(store):
    memory: LimitMemory = store
    assert await memory.ban_until_ms("api.bybit.com") == 0
    await memory.remember_ban("api.bybit.com", 100)
    await memory.remember_ban("api.bybit.com", 50)
    assert await memory.ban_until_ms("api.bybit.com") == 100
    assert await memory.active_callers("api.bybit.com", "a", 0, 10) == 1
    assert await memory.active_callers("api.bybit.com", "b", 5, 10) == 2
    assert await memory.active_callers("api.bybit.com", "b", 11, 10) == 1


@given(
    st.integers(0, 5).flatmap(
        lambda rows: st.dictionaries(
            st.text(max_size=5),
            st.sampled_from(["?", "<i8", ">i4", "<f8", "<f4", "u1", "<U3"]).flatmap(
                lambda dtype: npst.arrays(np.dtype(dtype), rows)
            ),
            max_size=4,
        )
    )
)
def test_packed_columns_come_back_bit_for_bit(columns):
    packed = pack(columns)
    back = unpack(packed, what="columns")
    assert list(back) == list(columns)
    for name, column in columns.items():
        assert back[name].astype(column.dtype).tobytes() == column.tobytes()


def test_columns_of_unequal_length_or_of_objects_are_refused():
    with pytest.raises(BadRequest, match="length"):
        pack({"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(BadRequest, match="dtype object"):
        pack({"a": np.array([object()])})
    packed = pack({"a": np.ones(2)})
    with pytest.raises(StorageFailed):
        unpack(PackedColumns(packed.rows, packed.crc32, packed.codec, packed.data[:-1] + b"x"), what="columns")
