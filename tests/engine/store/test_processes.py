import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from engine.core.candles import Candles
from engine.core.series import Series
from engine.store.store import Store

SCRIPT = Path(__file__).with_name("page_writer.py")
SPECIFICATION = importlib.util.spec_from_file_location("page_writer", SCRIPT)
page_writer = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(page_writer)

pytestmark = pytest.mark.faults


@pytest.fixture
def start_writer():
    """Return a way to start writers; those that still live at the end of a test are killed."""
    writers = []

    def start(url, symbol, first, last):
        command = [sys.executable, str(SCRIPT), url, symbol, str(first), str(last)]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return writers[-1]

    yield start
    for writer in writers:
        writer.kill()
        writer.communicate()


def let_go(writer):
    assert writer.stdout.readline().strip() == "ready"
    writer.stdin.write("\n")
    writer.stdin.flush()


async def read(url, symbol):
    store = await Store.open(url)
    series = Series("simulated", "linear", symbol, "trade", "1")
    stored, coverage = await store.read_candles(series, 0, 2**52), await store.coverage(series)
    health = await store.check()
    await store.close()
    return stored, coverage, health


async def test_killing_the_writer_at_any_moment_loses_no_acknowledged_page(database_url, start_writer):
    chance = random.Random(5)
    done = 0
    for _ in range(6):
        writer = start_writer(database_url, "BTCUSDT", done, 10_000)
        let_go(writer)
        acknowledged = done - 1
        for _ in range(chance.randrange(1, 25)):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        rest = writer.stdout.read().split()
        writer.wait()
        acknowledged = max([acknowledged, *(int(word) for word in rest if word.isdigit())])
        stored, coverage, health = await read(database_url, "BTCUSDT")
        assert health == "ok"
        assert len(stored) % page_writer.PAGE == 0
        done = len(stored) // page_writer.PAGE
        assert done >= acknowledged + 1
        assert stored.sha256() == Candles.concatenate(page_writer.page_of(each) for each in range(done)).sha256()
        assert [(span.start_ms, span.end_ms) for span in coverage] == [
            (page_writer.START, int(stored.ts[-1]) + page_writer.MINUTE)
        ]


async def test_two_processes_open_a_fresh_file_and_write_at_once_and_lose_nothing(database_url, start_writer):
    writers = [start_writer(database_url, "BTCUSDT", 0, 40), start_writer(database_url, "BTCUSDT", 40, 80)]
    for writer in writers:
        let_go(writer)
    for writer in writers:
        assert writer.wait() == 0
    stored, coverage, health = await read(database_url, "BTCUSDT")
    assert health == "ok"
    assert stored.sha256() == Candles.concatenate(page_writer.page_of(each) for each in range(80)).sha256()
    assert len(coverage) == 1


async def test_the_lease_of_a_killed_process_is_free_at_once(database_url, store, start_writer):
    other = start_writer(database_url, "BTCUSDT", 0, 1)
    assert other.stdout.readline().strip() == "ready"
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    (owner,) = {path.name.split(".")[2] for path in folder.glob("lab.db.process-*.lock")} - {store.owner}
    assert await store.take_lease("a thing", owner, now_ms=0, lease_ms=10**9)
    assert not await store.take_lease("a thing", store.owner, now_ms=1, lease_ms=1000)
    other.kill()
    other.wait()
    assert await store.take_lease("a thing", store.owner, now_ms=2, lease_ms=1000)
