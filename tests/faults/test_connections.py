"""F6 and F7: connections that break, and bodies that are not what was asked for."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import pytest

from engine.core.series import Series
from engine.errors import LabError
from engine.market.clock import SystemClock

pytestmark = pytest.mark.faults

BTC = Series("bybit", "linear", "BTCUSDT", "trade", "1")
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE = 60_000
HIGH = START + 8000 * MINUTE
KLINE = {"path": "kline"}
ATTEMPTS = 8


@asynccontextmanager
async def answering(raw: bytes):
    """Listen on a port and answer every request with these bytes, then close; yield the address and the count."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if raw:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(raw)
                await writer.drain()
            else:
                asked.append(b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await server.wait_closed()


async def test_an_exchange_that_vanishes_and_comes_back_at_its_address_is_waited_for(
    new_exchange, new_bench, truth, sound, fast_clock, patience_s
):
    exchange = new_exchange()
    bench = new_bench(exchange)
    store = await bench.store()
    away, refused, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class HeldClock(fast_clock):
        """While the exchange is away the first wait lasts until it is back, however long a machine needs to start it."""

        async def sleep(self, seconds: float) -> None:
            if away.is_set() and not back.is_set():
                refused.set()
                await back.wait()
            await super().sleep(seconds)

    async def vanish(progress) -> None:
        if progress.pages_done == 2 and not away.is_set():
            await asyncio.to_thread(exchange.vanish)
            away.set()

    backfill = bench.backfill(store, clock=HeldClock(20), in_flight=1)
    run = asyncio.create_task(backfill.run(BTC, START, HIGH, progress=vanish))
    await asyncio.wait_for(refused.wait(), patience_s)
    await asyncio.to_thread(exchange.start)
    back.set()
    report = await asyncio.wait_for(run, patience_s)
    assert report.complete
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "silence", "seconds": 600.0},
        {"kind": "drop", "share": 0.0},
        {"kind": "drop", "share": 0.6},
        {"kind": "cut_json", "share": 0.0},
        {"kind": "cut_json", "share": 0.7},
        {"kind": "null_list"},
    ],
    ids=["read-timeout", "reset-before-the-body", "reset-mid-body", "empty-body", "cut-json", "null-list"],
)
async def test_answers_that_break_off_are_asked_again_and_never_stored(bench, truth, sound, fast_clock, fault):
    bench.exchange.faults({**fault, "match": {**KLINE, "probability": 0.4}}, seed=3)
    store = await bench.store()
    # Only where a timeout is the point: every answer that a slow machine gives too late is one more request.
    is_silent = fault["kind"] == "silence"
    hasty = {"read_timeout_s": 1.5} if is_silent else {}
    report = await bench.backfill(store, clock=fast_clock(20), **hasty).run(BTC, START, HIGH)
    assert report.complete
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    asked = bench.exchange.pages(interval="1")
    broken = [entry for entry in asked if entry["faults"]]
    assert broken
    assert is_silent or len(asked) <= 8 + len(broken) + 1


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_wrongly_empty_page_is_asked_again_and_is_no_gap(bench, truth, sound, times):
    bench.exchange.faults({"kind": "empty_list", "match": {**KLINE, "from_call": 3, "count": times}})
    store = await bench.store()
    report = await bench.backfill(store, in_flight=1).run(BTC, START, HIGH)
    assert report.gaps == 0
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) <= 8 + 4 * times


async def test_wrongly_empty_pages_among_many_in_flight_are_no_gaps(bench, truth, sound):
    bench.exchange.faults({"kind": "empty_list", "match": {**KLINE, "every": 4}})
    store = await bench.store()
    high = START + 30_000 * MINUTE
    report = await bench.backfill(store).run(BTC, START, high)
    assert any(entry["faults"] for entry in bench.exchange.pages(interval="1"))
    assert report.gaps == 0
    await sound(store, BTC, START, high, truth(BTC, START, high))


async def test_a_slow_drip_that_is_in_time_is_taken(bench, truth, sound):
    bench.exchange.faults({"kind": "drip", "pieces": 6, "pause_s": 0.05, "match": {**KLINE, "every": 2}})
    store = await bench.store()
    await bench.backfill(store, clock=SystemClock()).run(BTC, START, HIGH)
    await sound(store, BTC, START, HIGH, truth(BTC, START, HIGH))
    assert len(bench.exchange.pages(interval="1")) == 8


async def test_a_drip_that_never_ends_is_given_up_at_the_total_deadline(bench, patience_s):
    bench.exchange.faults({"kind": "drip", "pieces": 5000, "pause_s": 0.2, "match": KLINE})
    store = await bench.store()
    feed = bench.feed(store, clock=SystemClock(), deadline_s=1.5)
    async with asyncio.timeout(patience_s):  # the body would take 1000 s, and every piece is in time
        with pytest.raises(LabError) as failed:
            await feed.candle_page(BTC, START, START + 1000 * MINUTE)
    assert failed.value.retryable


async def test_a_port_nobody_listens_on_is_an_error_that_says_unavailable(bench, fast_clock, port_of_nobody):
    store = await bench.store()
    feed = bench.feed(store, clock=fast_clock(100), url=f"http://127.0.0.1:{port_of_nobody}")
    with pytest.raises(LabError) as failed:
        await feed.candle_page(BTC, START, START + 1000 * MINUTE)
    assert failed.value.code == "unavailable"


def _answer(body: bytes, *headers: str, length: int | None = None) -> bytes:
    head = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*head, *headers, "Connection: close", "", ""]).encode() + body


PAGE = json.dumps(
    {
        "retCode": 0, "retMsg": "OK", "retExtInfo": {}, "time": START + 10_000 * MINUTE,
        "result": {
            "category": "linear", "symbol": "BTCUSDT",
            "list": [[str(START + place * MINUTE), "1", "2", "0.5", "1", "3", "3"] for place in reversed(range(1000))],
        },
    }
).encode()  # fmt: skip
ZIPPED = gzip.compress(PAGE)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        _answer(ZIPPED[: len(ZIPPED) // 2], "Content-Encoding: gzip"),
        _answer(b"not gzip at all", "Content-Encoding: gzip"),
        _answer(PAGE, length=len(PAGE) + 50),
        _answer(PAGE, length=len(PAGE) - 50),
        _answer(b"<html><body>maintenance</body></html>"),
        _answer(b"\xff\xfe\x00not text"),
        _answer(b"[]"),
        _answer(b'{"retCode":0,"retMsg":"OK","result":{},"retExtInfo":{},"time":1704067200000}'),
        _answer(b'{"retCode":0,"retMsg":"OK","result":{"list":[["1","2"]]},"retExtInfo":{},"time":1704067200000}'),
        _answer(PAGE.replace(b'"1", "2", "0.5"', b'"NaN", "2", "0.5"')),
        _answer(PAGE.replace(b'"1", "2", "0.5"', b'"5", "2", "0.5"', 1)),
        _answer(PAGE.replace(str(START + 7 * MINUTE).encode(), str(START + 7 * MINUTE + 1).encode())),
    ],
    ids=[
        "closed-at-once", "cut-head", "tls-bytes", "cut-gzip", "false-gzip", "length-too-long", "length-too-short", "html",
        "not-text", "a-list", "no-rows-key", "short-rows", "nan-price", "open-above-high", "off-the-grid",
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_trusted_is_an_error_after_bounded_tries_and_leaves_nothing(
    bench, fast_clock, raw, patience_s
):
    store = await bench.store()
    async with answering(raw) as (address, asked):
        feed = bench.feed(store, clock=fast_clock(1000), url=address)
        async with asyncio.timeout(patience_s):
            with pytest.raises(LabError) as failed:
                await feed.candle_page(BTC, START, START + 1000 * MINUTE)
    assert failed.value.code in {"unavailable", "bad_payload"}
    assert failed.value.fix
    assert 1 < len(asked) <= ATTEMPTS
    assert await store.coverage(BTC) == []


async def test_a_backfill_against_answers_that_are_never_right_gives_up_and_stores_nothing(
    bench, fast_clock, patience_s
):
    bench.exchange.faults({"kind": "cut_json", "match": KLINE})
    store = await bench.store()
    async with asyncio.timeout(patience_s):
        with pytest.raises(LabError) as failed:
            await bench.backfill(store, clock=fast_clock(200), patience_s=60).run(BTC, START, HIGH)
    assert failed.value.code in {"unavailable", "bad_payload"}
    assert await store.coverage(BTC) == []
    assert len(bench.exchange.pages(interval="1")) <= 8 * ATTEMPTS * 4
