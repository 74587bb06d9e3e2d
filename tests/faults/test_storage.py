"""F20 to F22: another writer holds the database, the disk is full, the same work is started twice."""

import asyncio
import json
import sqlite3

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from engine.core.series import Series
from engine.errors import LabError, StorageFailed
from engine.jobs import BackfillBody, Jobs, backfill_request
from engine.market.clock import SystemClock

pytestmark = pytest.mark.faults

BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, DAY = 60_000, 86_400_000
HIGH = START + 12_000 * MINUTE
HELD_S = 6.0


async def test_a_writer_that_holds_the_database_for_seconds_is_waited_for(bench, truth, sound, patience_s):
    store = await bench.store()
    seen = asyncio.Event()

    async def progress(told) -> None:
        if told.pages_done >= 2:
            seen.set()

    run = asyncio.create_task(
        bench.backfill(store, clock=SystemClock(), in_flight=2).run(BTC, START, HIGH, page=500, progress=progress)
    )
    await asyncio.wait_for(seen.wait(), patience_s)
    other = sqlite3.connect(bench.database, isolation_level=None, timeout=patience_s)
    try:
        other.execute("BEGIN IMMEDIATE")
        at_rest = await store.count_bars(BTC, START, HIGH)  # reading goes on
        await asyncio.sleep(HELD_S)  # the fault itself, not a wait for something
        assert await store.count_bars(BTC, START, HIGH) == at_rest
        other.execute("ROLLBACK")
    finally:
        other.close()
    report = await asyncio.wait_for(run, patience_s)
    assert report.complete
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 24 * 1.2


async def test_a_database_held_longer_than_patience_is_a_storage_error_that_leaves_whole_pages(bench, truth, sound):
    store = await bench.store(busy_timeout_ms=300)
    await bench.backfill(store).run(BTC, START, START + 2000 * MINUTE)
    other = sqlite3.connect(bench.database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LabError) as failed:
            await bench.backfill(store).run(BTC, START, HIGH)
        assert failed.value.fix
        other.execute("ROLLBACK")
    finally:
        other.close()
    await sound(store, BTC, START, START + 2000 * MINUTE, truth(BTC, START, START + 2000 * MINUTE))
    await bench.backfill(store).run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))


@pytest.fixture
def small_disk():
    """Give every connection opened from now on a database that may grow by a few pages only; return the way to lift it."""
    room = {"pages": 0}

    def limit(connection, _record) -> None:
        cursor = connection.cursor()
        if room["pages"]:
            cursor.execute("PRAGMA page_count")
            (used,) = cursor.fetchone()
            cursor.execute(f"PRAGMA max_page_count = {max(used, 1) + room['pages']}")
        cursor.close()

    event.listen(Engine, "connect", limit)
    yield room
    event.remove(Engine, "connect", limit)


async def test_a_full_disk_fails_the_job_as_storage_keeps_whole_pages_and_goes_on_after_space_is_freed(
    bench, truth, sound, small_disk, patience_s
):
    store = await bench.store()
    await bench.backfill(store).run(BTC, START, START + 1000 * MINUTE)
    await bench.close()
    small_disk["pages"] = 12
    store = await bench.store()
    clock = SystemClock()
    jobs = Jobs(store, clock, {"backfill": BackfillBody(bench.backfill(store, clock=clock), store)})
    job = await jobs.submit("backfill", backfill_request(BTC, START, HIGH))
    job = await jobs.wait(job.id, patience_s)
    assert job.state == "failed", job
    assert job.error is not None
    assert job.error["code"] == "storage"
    assert job.error["fix"]
    with pytest.raises(StorageFailed):
        await bench.backfill(store).run(BTC, START, HIGH)
    reached = await store.count_bars(BTC, START, HIGH)
    assert 1000 < reached < 12_000, "some pages fitted, not all"
    await sound(store, BTC, START, START + reached * MINUTE, truth(BTC, START, START + reached * MINUTE))
    await jobs.close()
    await bench.close()
    small_disk["pages"] = 0
    bench.exchange.forget()
    store = await bench.store()
    jobs = Jobs(store, clock, {"backfill": BackfillBody(bench.backfill(store, clock=clock), store)})
    again = await jobs.wait((await jobs.submit("backfill", backfill_request(BTC, START, HIGH))).id, patience_s)
    assert again.state == "done"
    await jobs.close()
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= (12_000 - reached) // 1000 + 2


async def test_the_same_backfill_started_twice_in_one_process_asks_once(bench, truth, sound):
    store = await bench.store()
    backfill = bench.backfill(store, clock=SystemClock())
    await asyncio.gather(*(backfill.run(BTC, START, HIGH) for _ in range(2)))
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 12 * 1.2


async def test_the_same_backfill_through_two_stores_of_one_process_asks_once(bench, truth, sound):
    backfills = [bench.backfill(await bench.store(), clock=SystemClock()) for _ in range(2)]
    await asyncio.gather(*(backfill.run(BTC, START, HIGH) for backfill in backfills))
    store = await bench.store()
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 12 * 1.2


async def test_the_same_job_submitted_many_times_at_once_is_one_job(bench, truth, sound, patience_s):
    store = await bench.store()
    clock = SystemClock()
    jobs = Jobs(store, clock, {"backfill": BackfillBody(bench.backfill(store, clock=clock), store)})
    request = backfill_request(BTC, START, HIGH)
    submitted = await asyncio.gather(*(jobs.submit("backfill", request) for _ in range(8)))
    assert len({job.id for job in submitted}) == 1
    assert (await jobs.wait(submitted[0].id, patience_s)).state == "done"
    await jobs.close()
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 12 * 1.2


@pytest.mark.parametrize("through", ["backfill", "call"])
async def test_the_same_backfill_in_two_processes_asks_once(bench, truth, sound, patience_s, through):
    # Slow enough that the second process begins while the first is at work.
    bench.exchange.faults({"kind": "delay", "seconds": 0.25, "match": {"path": "kline"}})
    high = START + 30 * DAY
    if through == "backfill":
        command = ("backfill", "BTCUSDT", "--start", "2024-01-01", "--end", "2024-01-31", "--json")
    else:
        order = {"symbol": "BTCUSDT", "interval": "1", "start": "2024-01-01", "end": "2024-01-31"}
        command = ("call", "start_backfill", json.dumps(order))
    processes = [bench.start_cli(*command) for _ in range(2)]
    for process in processes:
        out, err = await asyncio.to_thread(process.communicate, timeout=patience_s)
        assert process.returncode == 0, (out, err)
    store = await bench.store()
    await sound(store, BTC, START, high, truth(BTC, START, high))
    assert len(bench.exchange.pages(interval="1")) <= 44 * 1.2
    assert {job.state for job in (await store.list_jobs()).items} <= {"done"}


async def test_overlapping_ranges_in_two_processes_leave_every_candle_once(bench, truth, sound, patience_s):
    first = bench.start_cli("backfill", "BTCUSDT", "--start", "2024-01-01", "--end", "2024-01-15")
    second = bench.start_cli("backfill", "BTCUSDT", "--start", "2024-01-08", "--end", "2024-01-22")
    for process in (first, second):
        out, err = await asyncio.to_thread(process.communicate, timeout=patience_s)
        assert process.returncode == 0, (out, err)
    store = await bench.store()
    high = START + 21 * DAY
    await sound(store, BTC, START, high, truth(BTC, START, high))
    assert len(bench.exchange.pages(interval="1")) <= 31 * 1.2
