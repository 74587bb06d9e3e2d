"""An opened slice belongs to the coin: from the start of its seal to the moment it was opened, and no further."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from engine.core.timeframes import DAY_MS
from engine.store import Store
from engine.store.study_store import StudyRecord

SEALED_MS, OPENED_MS, LATER_MS = 100 * DAY_MS, 200 * DAY_MS, 400 * DAY_MS


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    opened = await Store.open(f"sqlite:///{(tmp_path / 'lab.sqlite').as_posix()}")
    yield opened
    await opened.close()


async def sealed_study(store: Store, name: str, symbol: str, from_ms: int, at_ms: int) -> StudyRecord:
    return await store.create_study(
        name,
        feed="simulated",
        category="linear",
        symbols=(symbol,),
        range_ms=(0, at_ms),
        seal_from_ms=from_ms,
        at_ms=at_ms,
    )


async def open_first(store: Store) -> None:
    await sealed_study(store, "first", "BTCUSDT", SEALED_MS, 150 * DAY_MS)
    await store.open_seal("simulated", "linear", "BTCUSDT", run_id="run_1", reason="to know", at_ms=OPENED_MS)


@pytest.mark.parametrize("from_ms", [SEALED_MS - DAY_MS, SEALED_MS, OPENED_MS - DAY_MS])
@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCPERP"])
async def test_a_holdout_that_overlaps_an_opened_slice_says_by_whom_it_was_opened(
    store: Store, symbol: str, from_ms: int
) -> None:
    await open_first(store)
    second = await sealed_study(store, "second", symbol, from_ms, LATER_MS)
    assert [(each.study, each.run_id, each.at_ms) for each in second.slice_openings] == [("first", "run_1", OPENED_MS)]
    assert second.openings == ()


async def test_bars_that_came_after_the_opening_and_other_coins_are_fresh(store: Store) -> None:
    await open_first(store)
    assert (await sealed_study(store, "later", "BTCUSDT", OPENED_MS, LATER_MS)).slice_openings == ()
    assert (await sealed_study(store, "other", "ETHUSDT", SEALED_MS, LATER_MS)).slice_openings == ()


async def test_a_slice_opened_twice_counts_two_openings_for_every_study_that_reaches_into_it(store: Store) -> None:
    await open_first(store)
    await sealed_study(store, "second", "BTCUSDT", SEALED_MS, LATER_MS)
    await store.open_seal("simulated", "linear", "BTCUSDT", run_id="run_2", reason="again", at_ms=LATER_MS + 1)
    third = await sealed_study(store, "third", "BTCUSDT", SEALED_MS, LATER_MS + 2)
    for name in ("first", "second", "third"):
        acts = (await store.study(name)).slice_openings
        assert [each.run_id for each in acts] == ["run_1", "run_2"], name
    assert third.sealed_from_ms == SEALED_MS


async def test_a_job_of_an_older_version_is_withheld_by_what_its_request_asked_for(
    store: Store, tmp_path: Path
) -> None:
    asked = {"feed": "simulated", "category": "linear", "symbol": "BTCUSDT", "end_ms": 150 * DAY_MS}
    wide = await store.add_job("walk_forward", asked, at_ms=1)
    early = await store.add_job("grid", asked | {"end_ms": SEALED_MS}, at_ms=1)
    loop = await store.add_job("pipeline", {"name": "research-loop", "input": {"symbol": "BTCUSDT"}}, at_ms=1)
    gone = await store.add_job("verdict", {"run_id": "run_gone"}, at_ms=1)
    fetched = await store.add_job("backfill", asked, at_ms=1)
    forget_scopes(tmp_path)
    await sealed_study(store, "first", "BTCUSDT", SEALED_MS, 150 * DAY_MS)
    for job, expected in ((wide, True), (early, False), (loop, True), (gone, True), (fetched, False)):
        assert ((await store.withheld_of_job(job.id)) is not None) is expected, job.kind


async def test_a_job_started_under_a_seal_saw_no_more_than_the_seal_left_until_it_is_opened(store: Store) -> None:
    await sealed_study(store, "first", "BTCUSDT", SEALED_MS, 150 * DAY_MS)
    asked = {"feed": "simulated", "category": "linear", "symbol": "BTCUSDT", "end_ms": 150 * DAY_MS}
    under = await store.add_job("grid", asked, at_ms=1)
    across = await store.add_job("walk_forward", asked, at_ms=1)
    await store.claim_job(under.id, "me", now_ms=2, lease_ms=10)
    await store.finish_job(under.id, "me", "done", now_ms=3, result={})
    assert await store.withheld_of_job(under.id) is None
    await store.claim_job(across.id, "me", now_ms=2, lease_ms=10)
    await store.open_seal("simulated", "linear", "BTCUSDT", run_id="run_1", reason="to know", at_ms=OPENED_MS)
    await store.finish_job(across.id, "me", "done", now_ms=3, result={})
    await sealed_study(store, "second", "BTCUSDT", SEALED_MS, LATER_MS)
    assert await store.withheld_of_job(across.id) is not None
    assert await store.withheld_of_job(under.id) is None


def forget_scopes(folder: Path) -> None:
    """Make every job look as older versions stored it."""
    database = sqlite3.connect(folder / "lab.sqlite")
    with database:
        database.execute("UPDATE jobs SET scopes = NULL")
    database.close()
