"""Runs stored before there were seals: their manifests tell what a seal must know of them."""

import json

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from engine.core.times import parse_time_ms
from engine.store.migrations.upgrade import configuration, upgrade
from engine.store.store import Store

OLD_VERSION = "0001"
COLUMNS = ("id", "created_ms", "name", "strategy", "category", "symbol", "interval", "source", "manifest", "result")


def manifest_of(interval, last_bar, feed="bybit"):
    return json.dumps({"data": {"feed": feed, "interval": interval, "last_bar": last_bar}})


MANIFESTS = {
    "run_hour": manifest_of("60", "2024-01-01T23:00:00Z"),
    "run_month": manifest_of("M", "2024-02-01T00:00:00Z", feed="simulated"),
    "run_torn": '{"data": ',
    "run_other": json.dumps({"data": {"feed": "bybit"}}),
    "run_list": "[1]",
    "run_date": manifest_of("60", "the day before yesterday"),
    "run_bar": manifest_of("hourly", "2024-01-01T23:00:00Z"),
}


@pytest.fixture
def old_database(database_url):
    engine = create_engine(database_url)
    with engine.begin() as connection:
        command.upgrade(configuration(connection), OLD_VERSION)
        wanted = text(f"INSERT INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join(':' + name for name in COLUMNS)})")
        for run_id, manifest in MANIFESTS.items():
            told = dict.fromkeys(COLUMNS, "x") | {"id": run_id, "created_ms": 1, "manifest": manifest}
            connection.execute(wanted, told)
    engine.dispose()
    return database_url


def test_old_runs_learn_their_feed_and_end_and_unreadable_ones_stay_unknown(old_database):
    engine = create_engine(old_database)
    with engine.begin() as connection:
        upgrade(connection)
        rows = connection.execute(text("SELECT id, feed, end_ms FROM runs")).all()
    engine.dispose()
    assert {run_id: (feed, end_ms) for run_id, feed, end_ms in rows} == {
        "run_hour": ("bybit", parse_time_ms("2024-01-02")),
        "run_month": ("simulated", parse_time_ms("2024-03-01")),
        **dict.fromkeys(("run_torn", "run_other", "run_list", "run_date", "run_bar"), (None, None)),
    }


async def test_an_old_database_is_brought_up_to_date_when_it_is_opened_and_keeps_its_runs(old_database):
    store = await Store.open(old_database)
    try:
        assert (await store.list_runs(limit=1)).total == len(MANIFESTS)
    finally:
        await store.close()
