"""The simulated exchange on a real port, the exchange's own series as the truth, and stores on files."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest

from engine.backfill import Backfill, BackfillReport
from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.timeframes import advance, ceil_open, count_opens
from engine.errors import LabError
from engine.market.clock import SystemClock
from engine.market.exchange.simulated import SimulatedMarket
from engine.market.exchange.sources import Window
from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.market.retries import Patience
from engine.store.store import Store
from server.settings import Settings

ROOT = Path(__file__).parent.parent.parent
FAR_MS = 2**52
SEED = 7
# Never reached by what works, however slow the machine: a wait ends with what it waits for.
PATIENCE_S = 180.0


class Exchange:
    """`bst exchange --control` as a process; its journal is the count of what was asked."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self._arguments = ["--port", str(port), "--control", "--seed", str(SEED), *arguments]
        self._process: subprocess.Popen[str] | None = None
        self._place: socket.socket | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server", "exchange", *self._arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.url
        self._let_go()

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._let_go()

    def vanish(self) -> None:
        """Be killed, but let nobody else have the address: the next start answers there."""
        self.kill()
        self._arguments[1] = str(self.port)
        if os.name == "posix":  # elsewhere two sockets cannot share an address
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._place.bind(("127.0.0.1", self.port))  # not listening: connections are refused

    def _let_go(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None

    def _control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def faults(self, *rules: dict[str, Any], seed: int = 1) -> None:
        """Play this script from now on: each rule an action with its match under `match`."""
        script = [{"match": rule.get("match", {}), "action": _without_match(rule)} for rule in rules]
        self._control("POST", "faults", {"seed": seed, "rules": script})

    def set_clock(self, **change: Any) -> int:
        return self._control("POST", "clock", change)["now_ms"]

    def forget(self) -> None:
        self._control("DELETE", "journal")

    def reset(self) -> None:
        self.faults()
        self.set_clock()
        self.forget()

    def journal(self) -> list[dict[str, Any]]:
        return self._control("GET", "journal")["entries"]

    def pages(self, symbol: str | None = None, interval: str | None = None) -> list[dict[str, Any]]:
        """Return the kline requests of the journal, their parameters under `query`."""
        asked = [
            {**entry, "query": dict(parse_qsl(entry["query"]))} for entry in self.journal() if "kline" in entry["path"]
        ]
        return [
            entry
            for entry in asked
            if symbol in (None, entry["query"]["symbol"]) and interval in (None, entry["query"]["interval"])
        ]

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Poll a condition on what the exchange saw; fail at the deadline."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the exchange never saw it"
            time.sleep(0.01)
        return found


def _without_match(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name != "match"}


class FastClock(SystemClock):
    """The real wall clock, but waits pass `speed` times as fast, and monotonic time leaps to the end of each.

    What a slow machine needs for its work is not multiplied: no deadline comes nearer because of it.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.waits: list[float] = []
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        wake_at = self.monotonic() + seconds
        await asyncio.sleep(seconds / self.speed)
        self._ahead_s = max(self._ahead_s, wake_at - time.monotonic())


class Truth:
    """The series the exchange generates, taken from its generator without wire, client or store."""

    def __init__(self) -> None:
        self._market = SimulatedMarket(SEED)

    def __call__(self, series: Series, start_ms: int, end_ms: int, *, now_ms: int | None = None) -> Candles:
        """Return the closed bars that open in [start_ms, end_ms) as of `now_ms`."""
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        listing = self._market.listing(series.category, series.symbol)
        assert listing is not None
        low_ms = ceil_open(series.interval, start_ms)
        bars = count_opens(series.interval, low_ms, max(low_ms, min(end_ms, now_ms)))
        window = Window(low_ms, low_ms if bars == 0 else end_ms - 1, max(bars, 1), newest=False)
        texts = self._market.candle_rows(listing, series.kind, series.interval, window, now_ms)
        rows = [json.loads(text) for text in texts]
        kept = [row for row in rows if start_ms <= int(row[0]) < end_ms and _closes(series, int(row[0])) <= now_ms]
        ts = np.array([int(row[0]) for row in kept], np.int64)
        columns = [np.array([float(row[place]) for row in kept], np.float64) for place in range(1, 7)]
        return Candles(ts, *columns)


def _closes(series: Series, open_ms: int) -> int:
    return advance(series.interval, open_ms, 1)


class Bench:
    """One home folder: its store, feeds at an exchange, and the command line on it."""

    def __init__(self, home: Path, exchange: Exchange) -> None:
        self.home = home
        self.exchange = exchange
        self._open: list[Any] = []
        self._started: list[subprocess.Popen[str]] = []
        home.mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        return self.home / "bst.sqlite"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database.as_posix()}"

    async def store(self, **options: Any) -> Store:
        opened = await Store.open(self.url, **options)
        self._open.append(opened)
        return opened

    def feed(
        self, store: Store, *, clock: Any = None, rate: float | None = None, ban_s: float = 600.0, url: str = "", **patience: Any
    ) -> BybitFeed:  # fmt: skip
        clock = clock or FastClock(20)
        address = url or self.exchange.url
        self.limiter = RequestLimiter(
            address, clock=clock, memory=store, rules=RateRules(rate_per_s=rate, ban_s=ban_s), owner=store.owner
        )
        feed = BybitFeed(base_url=address, clock=clock, limiter=self.limiter, patience=Patience(**patience))
        self._open.append(feed)
        return feed

    def backfill(
        self, store: Store, *, clock: Any = None, in_flight: int = 4, patience_s: float = 120.0, **feed: Any
    ) -> Backfill:
        clock = clock or FastClock(20)
        return Backfill(
            self.feed(store, clock=clock, **feed), store, clock, pages_in_flight=in_flight, patience_s=patience_s
        )

    async def close(self) -> None:
        for part in reversed(self._open):
            await part.close()
        self._open.clear()

    async def end(self) -> None:
        """Close the stores, and end every process of this home that a test has left behind."""
        try:
            await self.close()
        finally:
            for process in self._started:
                process.kill()
                process.wait()
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()

    def environment(self, **extra: str) -> dict[str, str]:
        names = {str(field.validation_alias) for field in Settings.model_fields.values()}
        kept = {name: value for name, value in os.environ.items() if name not in names}
        return {
            **kept,
            "BST_HOME": str(self.home),
            "BYBIT_REST_URL": self.exchange.url,
            "BST_REQUESTS_PER_SECOND": "0",
            "PYTHONPATH": str(ROOT),
            **extra,
        }

    def start_cli(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment(**extra),
        )
        self._started.append(process)
        return process

    def cli(self, *arguments: str, seconds: float = PATIENCE_S, **extra: str) -> subprocess.CompletedProcess[str]:
        process = self.start_cli(*arguments, **extra)
        out, err = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def call(self, tool: str, seconds: float = PATIENCE_S, **arguments: object) -> Any:
        """Call a tool through the command line and return its document."""
        done = self.cli("call", tool, json.dumps(arguments), seconds=seconds)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)


async def assert_sound(store: Store, series: Series, start_ms: int, end_ms: int, truth: Candles) -> Candles:
    """Check the invariant of every fault: rows are the truth, and coverage and gaps say exactly what the rows are."""
    interval = series.interval
    kept = await store.read_candles(series, 0, FAR_MS)
    assert bool((np.diff(kept.ts) > 0).all()), "rows are unique and ascend"
    inside = kept.between(start_ms, end_ms)
    np.testing.assert_array_equal(inside.ts, truth.ts)
    assert inside.sha256() == truth.sha256()
    assert len(kept.ts) == len(inside.ts), "nothing outside the range is stored"
    spans = [(span.start_ms, span.end_ms) for span in await store.coverage(series)]
    gaps = [(gap.start_ms, gap.end_ms) for gap in await store.gaps(series, 0, FAR_MS)]
    facts = await store.series_facts(series)
    # Before the first bar that exists there is no gap: there is nothing.
    begins_ms = 0 if facts is None or facts.begins_ms is None else facts.begins_ms
    covered = sum(count_opens(interval, max(low, begins_ms), max(high, begins_ms)) for low, high in spans)
    absent = sum(count_opens(interval, low, high) for low, high in gaps)
    assert covered == len(kept.ts) + absent, "coverage is rows and gaps, nothing else"
    for low, high in spans:
        assert ceil_open(interval, start_ms) <= low < high <= ceil_open(interval, end_ms)
    for low, high in gaps:
        assert kept.between(low, high).ts.size == 0
        assert any(first <= low and high <= last for first, last in spans)
    for opened in kept.ts[[0, -1]] if kept.ts.size else ():
        assert any(first <= opened < last for first, last in spans)
    assert await store.check() == "ok"
    return kept


@pytest.fixture(scope="session")
def shared_exchange() -> Iterator[Exchange]:
    exchange = Exchange()
    yield exchange
    exchange.kill()


@pytest.fixture
def exchange(shared_exchange: Exchange) -> Exchange:
    """Return an exchange without faults, with an empty journal and the time of this computer."""
    shared_exchange.reset()
    return shared_exchange


@pytest.fixture
def new_exchange() -> Iterator[Callable[..., Exchange]]:
    """Start exchanges that a test may ban itself from, or kill."""
    started: list[Exchange] = []

    def start(*arguments: str, port: int = 0) -> Exchange:
        started.append(Exchange(*arguments, port=port))
        return started[-1]

    yield start
    for exchange in started:
        exchange.kill()


@pytest.fixture(scope="session")
def truth() -> Truth:
    return Truth()


@pytest.fixture
async def bench(tmp_path: Path, exchange: Exchange) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "home", exchange)
    yield made
    await made.end()


@pytest.fixture
async def new_bench(tmp_path: Path) -> AsyncIterator[Callable[[Exchange, str], Bench]]:
    made: list[Bench] = []

    def make(exchange: Exchange, name: str = "other") -> Bench:
        made.append(Bench(tmp_path / name, exchange))
        return made[-1]

    yield make
    for bench in made:
        await bench.end()


async def outcome_of(work: Awaitable[BackfillReport]) -> BackfillReport | LabError:
    """Return what a run came to, be it an anticipated failure."""
    try:
        return await work
    except LabError as error:
        return error


@pytest.fixture(scope="session")
def outcome() -> Callable[..., Any]:
    return outcome_of


@pytest.fixture(scope="session")
def sound() -> Callable[..., Any]:
    return assert_sound


@pytest.fixture(scope="session")
def fast_clock() -> type[FastClock]:
    return FastClock


@pytest.fixture(scope="session")
def patience_s() -> float:
    return PATIENCE_S


@pytest.fixture
def port_of_nobody() -> Iterator[int]:
    """Return a port where connections are refused; it stays taken, so that nobody begins to listen there."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        yield int(place.getsockname()[1])


@pytest.fixture(scope="session")
def make_bench() -> type[Bench]:
    return Bench
