"""F1 and F2: the process dies at any moment; what it acknowledged stays, and the next one goes on."""

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from engine.core.series import Series
from engine.jobs import backfill_request

pytestmark = pytest.mark.faults

CHILD = Path(__file__).parent / "backfill_child.py"
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE, DAY = 60_000, 86_400_000
KILLS = int(os.environ.get("BST_KILLS", "50"))
SLOW = (
    {"kind": "delay", "seconds": 0.02, "match": {"path": "kline", "probability": 0.4}},
    {"kind": "drip", "pieces": 8, "pause_s": 0.004, "match": {"path": "kline", "probability": 0.4}},
)


# Longer than any wait of these tests: a process that waits for such an answer does not end.
HUSH = {"kind": "silence", "seconds": 600, "match": {"path": "kline", "from_call": 4}}
IN_FLIGHT = 4


class Child:
    """One life of the backfill, started but waiting for its word to begin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.acknowledged: list[tuple[int, int, int]] = []
        self.outcome = ""

    @classmethod
    async def spawn(cls, bench, series: Series, start_ms: int, end_ms: int, page: int) -> "Child":
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, str(CHILD), bench.url, bench.exchange.url, series.symbol, str(start_ms), str(end_ms),
                str(page), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=bench.environment(),
            )
        )  # fmt: skip

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")

    async def hear(self) -> bool:
        """Take note of one line; False at the end of the process."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        # A line cut off by the kill was not told.
        if not line.endswith(b"\n"):
            return bool(line)
        words = line.decode().split()
        if words[0] == "acknowledged":
            self.acknowledged.append((int(words[1]), int(words[2]), int(words[3])))
        else:
            self.outcome = words[2]
        return True

    async def die(self, after_pages: int, after_s: float, patience_s: float) -> bool:
        """Kill it after so many pages and a moment more; False when it had finished before."""
        async with asyncio.timeout(patience_s):
            while len(self.acknowledged) < after_pages and await self.hear():
                pass
            try:
                await asyncio.wait_for(self.process.wait(), after_s)
            except TimeoutError:
                self.process.kill()
            while await self.hear():
                pass
            await self.process.wait()
        return not self.outcome

    async def end(self) -> None:
        """Leave nothing of it behind, however far it came."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(ConnectionError):
            await self.process.stdin.wait_closed()
        while await self.hear():
            pass
        await self.process.wait()


@pytest.fixture
async def spawn(bench) -> AsyncIterator[Callable[..., Any]]:
    started: list[Child] = []

    async def start(*order: Any) -> Child:
        started.append(await Child.spawn(bench, *order))
        return started[-1]

    yield start
    for child in started:
        await child.end()


async def address_of(server: subprocess.Popen[str]) -> str:
    """Return where a server listens, told when it does."""
    assert server.stderr is not None
    line = await asyncio.to_thread(server.stderr.readline)
    found = re.search(r"http://\S+", line)
    assert found, line
    return found.group()


def asked_in_silence(bench) -> int:
    """Return how many requests the exchange left without an answer; a process that waits one out asks again."""
    return sum("silence" in entry["faults"] for entry in bench.exchange.pages(interval="1"))


async def test_killed_at_any_moment_loses_no_acknowledged_page_and_ends_with_every_candle(
    bench, spawn, truth, sound, patience_s
):
    bench.exchange.faults(*SLOW)
    chance = random.Random(20240101)
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    page, days = 200, 8
    low, high = START, START + days * DAY
    kills = rounds = 0
    acknowledged: list[tuple[int, int, int]] = []
    ahead = [await spawn(series, low, high, page)]
    while kills < KILLS:
        child = ahead.pop(0)
        ahead.append(await spawn(series, low, high, page))
        child.begin()
        # A quarter dies while it opens the store, claims the job or asks for the first page.
        early = chance.random() < 0.25
        killed = await child.die(
            0 if early else chance.randint(1, 4), chance.uniform(0, 0.4 if early else 0.05), patience_s
        )
        acknowledged += child.acknowledged
        kills += killed
        if not bench.database.exists():
            continue
        with closing(sqlite3.connect(bench.database)) as raw:
            assert raw.execute("PRAGMA quick_check").fetchone() == ("ok",)
        store = await bench.store()
        spans = [(span.start_ms, span.end_ms) for span in await store.coverage(series)]
        for first, last_open, _ in acknowledged:
            assert any(begin <= first and last_open < end for begin, end in spans), "an acknowledged page is gone"
        kept = await store.read_candles(series, low, high)
        stored = [truth(series, max(begin, low), min(end, high)) for begin, end in spans if begin < high and end > low]
        assert len(kept.ts) == sum(len(part.ts) for part in stored)
        await bench.close()
        if child.outcome:
            assert child.outcome == "done"
            rounds += 1
            for spare in ahead:
                await spare.end()
            low, high = high, high + days * DAY
            ahead = [await spawn(series, low, high, page)]
    last = ahead.pop()
    last.begin()
    assert not await last.die(10_000, patience_s, patience_s)
    assert last.outcome == "done"
    store = await bench.store()
    await sound(store, series, START, high, truth(series, START, high))
    jobs = await store.list_jobs()
    assert jobs.total == rounds + 1
    assert {job.state for job in jobs.items} == {"done"}
    # Ideal: each page once. Every kill may throw away the pages in flight (4) and the bars that are read again (1 page).
    ideal = (rounds + 1) * days * 1440 // page
    asked = len(bench.exchange.pages(interval="1"))
    assert asked <= ideal + KILLS * 6, (asked, ideal)


async def test_the_command_killed_mid_page_goes_on_from_the_last_stored_page(bench, truth, sound):
    series = Series("bybit", "linear", "ETHUSDT", "trade", "1")
    high = START + 10 * DAY
    command = ("backfill", "ETHUSDT", "--start", "2024-01-01", "--end", "2024-01-11", "--json")
    for answered in (3, 7):
        held = {"kind": "drip", "pieces": 4, "pause_s": 20, "match": {"path": "kline", "from_call": 4}}
        bench.exchange.faults(held)
        process = bench.start_cli(*command)
        bench.exchange.until(lambda least=answered: len(bench.exchange.pages(interval="1")) >= least - 1)
        process.kill()
        process.communicate()
    bench.exchange.faults()
    done = bench.cli(*command)
    assert done.returncode == 0, done.stderr
    store = await bench.store()
    await sound(store, series, START, high, truth(series, START, high))
    assert len(bench.exchange.pages(interval="1")) <= 15 + 2 * 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
async def test_a_terminated_job_ends_in_the_middle_of_a_silence_is_marked_interrupted_and_is_resumable(
    bench, truth, sound, patience_s
):
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    high = START + 10 * DAY
    order = {"symbol": "BTCUSDT", "interval": "1", "start": "2024-01-01", "end": "2024-01-11"}
    bench.exchange.faults(HUSH)
    process = bench.start_cli("call", "start_backfill", json.dumps(order))
    bench.exchange.until(lambda: len(bench.exchange.pages(interval="1")) >= 2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=patience_s)
    assert asked_in_silence(bench) <= IN_FLIGHT
    assert "Traceback" not in err, err
    store = await bench.store()
    (job,) = (await store.list_jobs()).items
    assert job.state == "interrupted", (job.state, out, err)
    assert await store.count_bars(series, START, high) % 1000 == 0
    await bench.close()
    bench.exchange.faults()
    before = len(bench.exchange.pages(interval="1"))
    report = bench.call("start_backfill", **order)
    store = await bench.store()
    await sound(store, series, START, high, truth(series, START, high))
    assert {job.state for job in (await store.list_jobs()).items} == {"done"}, report
    assert len(bench.exchange.pages(interval="1")) - before <= 15


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
async def test_the_terminated_command_ends_in_the_middle_of_a_silence_and_goes_on_later(
    bench, truth, sound, patience_s
):
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    high = START + 10 * DAY
    command = ("backfill", "BTCUSDT", "--start", "2024-01-01", "--end", "2024-01-11", "--json")
    bench.exchange.faults(HUSH)
    process = bench.start_cli(*command)
    bench.exchange.until(lambda: len(bench.exchange.pages(interval="1")) >= 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=patience_s)
    assert process.returncode != 0
    assert asked_in_silence(bench) <= IN_FLIGHT
    assert "Traceback" not in err, err
    bench.exchange.faults()
    assert bench.cli(*command).returncode == 0
    store = await bench.store()
    await sound(store, series, START, high, truth(series, START, high))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
async def test_a_terminated_server_sets_its_job_aside_and_the_next_start_finishes_it(bench, truth, sound, patience_s):
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    high = START + 10 * DAY
    order = {"symbol": "BTCUSDT", "interval": "1", "start": "2024-01-01", "end": "2024-01-11"}
    bench.exchange.faults(HUSH)
    process = bench.start_cli("serve", "--http", "--port", "0")
    try:
        async with Client(await address_of(process)) as client:
            started = await client.call_tool("start_backfill", order)
            job_id = started.structured_content["job_id"]
            await asyncio.to_thread(bench.exchange.until, lambda: len(bench.exchange.pages(interval="1")) >= 2)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(process.communicate, timeout=patience_s)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in err, err
    assert "Aborted" not in err, err
    assert process.returncode == 0
    assert asked_in_silence(bench) <= IN_FLIGHT
    store = await bench.store()
    assert (await store.job(job_id)).state == "interrupted"
    await bench.close()
    bench.exchange.faults()
    server = bench.start_cli("serve", "--http", "--port", "0")
    try:
        # The lab opens with the first call; the client then leaves, and the job goes on without it.
        async with Client(await address_of(server)) as client:
            await client.call_tool("list_jobs", {})
        store = await bench.store()
        async with asyncio.timeout(patience_s):
            while (await store.job(job_id)).state != "done":  # noqa: ASYNC110 - the server does it
                await asyncio.sleep(0.1)
    finally:
        server.kill()
        server.communicate()
    await sound(store, series, START, high, truth(series, START, high))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
async def test_waiting_for_an_interrupted_job_after_a_restart_waits_until_it_is_done(bench):
    series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
    store = await bench.store()
    request = backfill_request(series, START, START + 2 * DAY)
    record = await store.add_job("backfill", request, at_ms=START)
    await store.claim_job(record.id, store.owner, now_ms=START, lease_ms=1000)
    await store.finish_job(record.id, store.owner, "interrupted", now_ms=START)
    await bench.close()
    # Asking is what makes it go on; how often a slow machine has to ask is its own affair.
    while (job := bench.call("wait_for_job", job_id=record.id, wait_seconds=30))["state"] == "running":
        pass
    assert job["state"] == "done", job
