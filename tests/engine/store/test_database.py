import asyncio
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event

from engine.core.candles import Candles
from engine.core.series import Series
from engine.errors import BadRequest, StorageFailed, Unavailable
from engine.store.database import SCHEMA_VERSION
from engine.store.migrations.upgrade import configuration, upgrade
from engine.store.store import Store
from engine.store.tables import Row

MINUTE = 60_000
BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")


def page(first, last):
    opens = MINUTE * np.arange(first, last, dtype=np.int64)
    return Candles(opens, *(np.ones(last - first) for _ in range(6)))


async def keep(store, first, last):
    return await store.commit_page(
        BTC, page(first, last), start_ms=first * MINUTE, end_ms=last * MINUTE, source="bybit", at_ms=1
    )


def file_of(url):
    return Path(url.removeprefix("sqlite:///"))


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
async def test_a_database_is_readable_by_its_owner_alone(tmp_path):
    file = tmp_path / "lab.sqlite"
    store = await Store.open(f"sqlite:///{file}")
    try:
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        await store.close()


def test_the_known_schema_version_is_the_newest_migration():
    assert ScriptDirectory.from_config(configuration()).get_heads() == [SCHEMA_VERSION]


def test_the_migrations_make_exactly_the_declared_tables():
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade(connection)
        differences = compare_metadata(MigrationContext.configure(connection), Row.metadata)
    engine.dispose()
    assert differences == []


async def test_a_store_in_memory_keeps_what_it_was_given():
    store = await Store.open("sqlite://")
    await asyncio.gather(*(keep(store, turn * 10, turn * 10 + 10) for turn in range(10)))
    counts = await asyncio.gather(*(store.count_bars(BTC, 0, 10**9) for _ in range(5)))
    assert counts == [100] * 5
    await store.close()


async def test_relative_and_explicit_driver_urls_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///deep/folder/a.db", "sqlite+aiosqlite:///b.db"):
        store = await Store.open(url)
        await store.close()
    assert (tmp_path / "deep" / "folder" / "a.db").is_file()
    assert (tmp_path / "b.db").is_file()


@pytest.mark.parametrize("url", ["postgresql://localhost/lab", "mysql://x", "not a url"])
async def test_another_kind_of_database_is_refused_with_what_works(url):
    with pytest.raises(BadRequest) as caught:
        await Store.open(url)
    assert "sqlite:///" in caught.value.fix


async def test_closing_removes_every_trace_of_the_process(database_url):
    store = await Store.open(database_url)
    folder = file_of(database_url).parent
    assert list(folder.glob("*.process-*"))
    await store.close()
    assert sorted(path.name for path in folder.iterdir()) == ["lab.db", "lab.db.lock"]


async def test_an_up_to_date_database_is_opened_without_migrating(database_url):
    await (await Store.open(database_url)).close()
    before = file_of(database_url).read_bytes()
    await (await Store.open(database_url)).close()
    assert file_of(database_url).read_bytes() == before


async def test_a_database_of_a_newer_program_is_refused(database_url):
    await (await Store.open(database_url)).close()
    with sqlite3.connect(file_of(database_url)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StorageFailed, match="newer version"):
        await Store.open(database_url)


async def test_a_file_that_is_no_database_is_a_storage_failure(database_url):
    file_of(database_url).write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StorageFailed, match="not a database"):
        await Store.open(database_url)


async def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageFailed, match="folder"):
        await Store.open(f"sqlite:///{(tmp_path / 'taken' / 'lab.db').as_posix()}")


async def test_a_writer_waits_for_another_one_and_then_goes_on(database_url, store):
    other = sqlite3.connect(file_of(database_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    commit = asyncio.create_task(keep(store, 0, 10))
    assert await store.coverage(BTC) == []
    assert not commit.done()
    other.execute("COMMIT")
    other.close()
    assert (await commit).inserted == 10


async def test_a_lock_that_stays_is_reported_as_unavailable(database_url):
    store = await Store.open(database_url, busy_timeout_ms=50)
    other = sqlite3.connect(file_of(database_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        await keep(store, 0, 10)
    assert caught.value.retryable
    assert caught.value.retry_after_s
    other.close()
    assert (await keep(store, 0, 10)).inserted == 10
    await store.close()


async def test_a_full_disk_keeps_nothing_of_the_page_and_works_again_with_space(database_url):
    store = await Store.open(database_url)
    limits = {"pages": 120}

    def limit(connection):
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {limits['pages']}")
        cursor.close()

    engine = store._connections.engine.sync_engine
    event.listen(engine, "engine_connect", limit)
    stored = 0

    async def fill_up():
        nonlocal stored
        while True:
            await keep(store, stored, stored + 1000)
            stored += 1000

    with pytest.raises(StorageFailed, match="no space"):
        await fill_up()
    assert stored > 0
    assert await store.count_bars(BTC, 0, 10**12) == stored
    assert [span.end_ms for span in await store.coverage(BTC)] == [stored * MINUTE]
    limits["pages"] = 1_000_000
    assert (await keep(store, stored, stored + 1000)).inserted == 1000
    assert await store.check() == "ok"
    await store.close()
