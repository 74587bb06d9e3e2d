"""The feed against an exchange that answers oddly."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.series import Series
from engine.core.timeframes import advance
from engine.errors import (
    BadPayload,
    BadRequest,
    Banned,
    LabError,
    NotFound,
    RateLimited,
    Refused,
    Unavailable,
    Unreachable,
)
from engine.market.clock import SystemClock
from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.market.retries import Patience

MINUTE = 60_000
START = 1_700_000_040_000
SERIES = Series("bybit", "linear", "BTCUSDT", "trade", "1")
Reply = tuple[int, dict[str, str], bytes]


def bent_rows(change: Callable[[list[Any]], Any]) -> Callable[[dict[str, str], Reply], Reply]:
    def bend(_: dict[str, str], reply: Reply) -> Reply:
        document = json.loads(reply[2])
        document["result"]["list"] = change(document["result"]["list"])
        return reply[0], reply[1], json.dumps(document).encode()

    return bend


def answers_with(status: int, body: bytes = b"", **headers: str) -> Callable[[dict[str, str], Reply], Reply]:
    return lambda _query, _reply: (status, headers, body)


def refuses(code: int, text: str = "", **headers: str) -> Callable[[dict[str, str], Reply], Reply]:
    frame = {"retCode": code, "retMsg": text, "result": {}, "retExtInfo": {}, "time": 1_700_000_000_000}
    return answers_with(200, json.dumps(frame).encode(), **headers)


@pytest.fixture
def bars(odd_exchange: Any, row_of: Callable[..., list[str]]) -> Callable[..., None]:
    """Fill the exchange with `count` minutes from START on, without the bars named."""

    def fill(count: int, missing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        odd_exchange.rows = {
            ts: row_of(ts) for index in range(count) if index not in missing for ts in [START + index * MINUTE]
        }

    return fill


async def page_of(feed: BybitFeed, count: int, series: Series = SERIES) -> Any:
    return await feed.candle_page(series, START, START + count * MINUTE)


def assert_is_oracle(page: Any, exchange: Any, count: int) -> None:
    inside = [row for ts, row in sorted(exchange.rows.items()) if START <= ts < START + count * MINUTE]
    expected = np.array([[float(cell) for cell in row] for row in inside]).reshape(-1, 7)
    assert np.array_equal(np.column_stack(page.candles.columns()), expected)


async def test_a_full_window_costs_one_request_with_both_bounds(feed: BybitFeed, odd_exchange: Any, bars: Any) -> None:
    bars(1200)
    page = await page_of(feed, 1000)
    assert_is_oracle(page, odd_exchange, 1000)
    assert page.complete_until_ms == START + 1000 * MINUTE
    assert (page.source, page.server_time_ms) == ("bybit", odd_exchange.time_ms)
    ((path, query),) = odd_exchange.requests
    assert path == "/v5/market/kline"
    assert (query["start"], query["end"], query["limit"]) == (str(START), str(START + 999 * MINUTE), "1000")


@pytest.mark.parametrize(
    ("bends", "requests"),
    [
        ([answers_with(500)], 2),
        ([answers_with(502, b"<html>bad gateway</html>"), answers_with(503), answers_with(429)], 4),
        ([answers_with(200, b"<html>maintenance</html>")], 2),
        ([answers_with(200, b'{"retCode":0,"retMsg":"OK","result":{"symbol":"BT')], 2),
        ([answers_with(200, b"{}", **{"content-length": "900"})], 2),
        ([refuses(10000), refuses(10016), refuses(429), refuses(-1)], 5),
        ([refuses(10006, "Too many visits!")], 2),
        ([bent_rows(lambda _: None)], 2),
        ([bent_rows(lambda rows: [[*rows[0][:4], "nan", *rows[0][5:]], *rows[1:]])], 2),
        ([bent_rows(lambda rows: [*rows, [*rows[0][:4], "101.5", *rows[0][5:]]])], 2),
        ([bent_rows(lambda rows: [[str(int(row[0]) + 90_000_000), *row[1:]] for row in rows])], 2),
        ([bent_rows(lambda _: [])], 2),
        ([bent_rows(lambda rows: rows[:7])], 2),
        ([bent_rows(lambda rows: rows[-7:])], 2),
        ([bent_rows(lambda rows: rows[:7] + rows[13:])], 2),
        ([bent_rows(lambda rows: rows[2:5] + rows[13:15])], 2),
        ([bent_rows(lambda rows: rows[:7]), bent_rows(lambda rows: rows[:5])], 3),
        ([bent_rows(lambda rows: rows[:7]), bent_rows(lambda _: [])], 3),
        ([bent_rows(lambda rows: rows[5:9]), bent_rows(lambda _: [])], 4),
        ([bent_rows(lambda rows: rows[:2] + rows[3:17] + rows[18:]), bent_rows(lambda _: [])], 4),
        ([bent_rows(lambda rows: rows[::-1])], 1),
        ([bent_rows(lambda rows: rows + rows[3:9])], 1),
        ([bent_rows(lambda rows: [["1700100060000", *rows[0][1:]], *rows])], 1),
    ],
)
async def test_a_passing_fault_leaves_no_trace_in_the_page(
    feed: BybitFeed, odd_exchange: Any, bars: Any, bends: list[Any], requests: int
) -> None:
    bars(20)
    odd_exchange.bends = list(bends)
    page = await page_of(feed, 20)
    assert_is_oracle(page, odd_exchange, 20)
    assert page.complete_until_ms == START + 20 * MINUTE
    assert len(odd_exchange.requests) == requests


@pytest.mark.parametrize(
    ("bend", "error", "requests"),
    [
        (answers_with(500), Unavailable, 8),
        (answers_with(200, b"<html>"), BadPayload, 8),
        (bent_rows(lambda _: None), BadPayload, 8),
        (refuses(10001, "Not supported symbols"), NotFound, 1),
        (refuses(10001, "params error: interval is invalid"), BadRequest, 1),
        (refuses(10024, "region"), Refused, 1),
        (answers_with(404, b"404 page not found"), Refused, 1),
        (bent_rows(lambda rows: [*rows, [*rows[0][:4], "101.5", *rows[0][5:]]]), BadPayload, 3),
        (bent_rows(lambda rows: [[str(int(row[0]) + 90_000_000), *row[1:]] for row in rows]), BadPayload, 3),
    ],
)
async def test_a_lasting_fault_ends_in_its_error_after_bounded_tries(
    feed: BybitFeed, odd_exchange: Any, bars: Any, bend: Any, error: type[LabError], requests: int
) -> None:
    bars(20)
    odd_exchange.always = bend
    with pytest.raises(LabError) as caught:
        await page_of(feed, 20)
    assert type(caught.value) is error
    assert len(odd_exchange.requests) == requests


async def test_a_server_that_ignores_start_gives_nothing(feed: BybitFeed, odd_exchange: Any, bars: Any) -> None:
    bars(5000)
    newest = [odd_exchange.rows[ts] for ts in sorted(odd_exchange.rows, reverse=True)][:20]
    odd_exchange.always = bent_rows(lambda _: newest)
    with pytest.raises(BadPayload, match="outside the window"):
        await page_of(feed, 20)


@pytest.mark.parametrize("missing", [set(range(5)), set(range(15, 20)), {8}, {2, 3, 9, 17}, set(range(20)), {0, 19}])
async def test_a_real_gap_is_believed_after_a_second_answer(
    feed: BybitFeed, odd_exchange: Any, bars: Any, missing: set[int]
) -> None:
    bars(20, missing)
    page = await page_of(feed, 20)
    assert_is_oracle(page, odd_exchange, 20)
    assert page.complete_until_ms == START + 20 * MINUTE
    assert len(odd_exchange.requests) <= 6
    assert any("do not exist" in note for note in page.notes)


@pytest.mark.parametrize("keep", [slice(None, 100), slice(-100, None)])
async def test_a_server_that_always_answers_short_is_asked_until_the_window_is_whole(
    feed: BybitFeed, odd_exchange: Any, bars: Any, keep: slice
) -> None:
    bars(1000, {100, 101, 555})
    odd_exchange.always = bent_rows(lambda rows: rows[keep])
    page = await page_of(feed, 1000)
    assert_is_oracle(page, odd_exchange, 1000)
    assert page.complete_until_ms == START + 1000 * MINUTE
    assert len(odd_exchange.requests) <= 17


async def test_a_window_too_short_too_often_is_complete_only_as_far_as_it_is_known(
    feed: BybitFeed, odd_exchange: Any, bars: Any
) -> None:
    bars(1000)
    odd_exchange.always = bent_rows(lambda rows: rows[-10:])
    page = await page_of(feed, 1000)
    assert page.complete_until_ms == START + 170 * MINUTE
    assert_is_oracle(page, odd_exchange, 170)
    odd_exchange.always = bent_rows(lambda rows: rows[:10])
    with pytest.raises(BadPayload, match="came short"):
        await page_of(feed, 1000)


@pytest.mark.parametrize(("into_bar_ms", "closed"), [(0, 12), (1, 12), (59_999, 12), (60_000, 13)])
async def test_the_clock_of_the_exchange_decides_what_is_closed(
    feed: BybitFeed, odd_exchange: Any, bars: Any, fake_clock: Any, into_bar_ms: int, closed: int
) -> None:
    bars(13)
    odd_exchange.time_ms = START + 12 * MINUTE + into_bar_ms
    for skew_ms in (0, -600_000, 600_000):
        fake_clock.wall_offset_ms += skew_ms
        page = await page_of(feed, 20)
        assert len(page.candles) == closed
        assert page.complete_until_ms == START + closed * MINUTE


async def test_a_window_in_the_future_is_empty_and_complete_up_to_its_start(
    feed: BybitFeed, odd_exchange: Any, bars: Any
) -> None:
    bars(5)
    odd_exchange.time_ms = START - 5 * MINUTE
    odd_exchange.always = bent_rows(lambda _: [])
    page = await page_of(feed, 5)
    assert (len(page.candles), page.complete_until_ms, len(odd_exchange.requests)) == (0, START, 1)


@pytest.mark.parametrize("header", ["simulated", "replay"])
async def test_a_local_exchange_is_never_taken_for_the_real_one(
    feed: BybitFeed, odd_exchange: Any, bars: Any, header: str
) -> None:
    bars(5)
    odd_exchange.headers = {"X-Bst-Exchange": header}
    assert (await page_of(feed, 5)).source == header
    assert feed.source == header


async def test_a_ban_stops_the_feed_without_another_request(
    feed: BybitFeed, odd_exchange: Any, bars: Any, fake_clock: Any
) -> None:
    bars(5)
    odd_exchange.bends = [answers_with(403, b"<html>access too frequent</html>")]
    with pytest.raises(Banned) as caught:
        await page_of(feed, 5)
    assert caught.value.retry_after_s == 600
    for _ in range(10):
        with pytest.raises(Banned):
            await page_of(feed, 5)
    assert len(odd_exchange.requests) == 1
    await fake_clock.sleep(601)
    assert len((await page_of(feed, 5)).candles) == 5


async def test_nobody_asks_before_the_reset_the_exchange_named(
    feed: BybitFeed, odd_exchange: Any, bars: Any, fake_clock: Any
) -> None:
    bars(5)
    at = fake_clock.monotonic()
    reset = {"X-Bapi-Limit-Reset-Timestamp": str(1_700_000_000_000 + 9_000)}
    odd_exchange.bends = [refuses(10006, "Too many visits!", **reset)]
    await page_of(feed, 5)
    assert fake_clock.monotonic() - at >= 9
    odd_exchange.always = refuses(10006, "Too many visits!", **reset)
    with pytest.raises(RateLimited):
        await page_of(feed, 5)


@pytest.mark.parametrize(
    ("series", "start", "end"),
    [
        (SERIES, START + 1, START + MINUTE),
        (SERIES, START, START),
        (SERIES, START + MINUTE, START),
        (SERIES, START, START + 1001 * MINUTE),
        (Series("simulated", "linear", "BTCUSDT", "trade", "1"), START, START + MINUTE),
        (Series("bybit", "spot", "BTCUSDT", "mark", "1"), START, START + MINUTE),
        (Series("bybit", "inverse", "BTCUSD", "premium", "1"), START, START + MINUTE),
    ],
)
async def test_a_window_nobody_can_answer_is_refused_before_asking(
    feed: BybitFeed, odd_exchange: Any, series: Series, start: int, end: int
) -> None:
    with pytest.raises(BadRequest):
        await feed.candle_page(series, start, end)
    assert odd_exchange.requests == []


async def test_months_follow_the_calendar(feed: BybitFeed, odd_exchange: Any, row_of: Any) -> None:
    january = 1_704_067_200_000
    opens = [advance("M", january, month) for month in range(14)]
    odd_exchange.rows = {ts: row_of(ts) for ts in opens}
    page = await feed.candle_page(Series("bybit", "linear", "BTCUSDT", "trade", "M"), january, opens[-1])
    assert page.candles.ts.tolist() == opens[:-1]
    assert odd_exchange.requests[0][1]["end"] == str(opens[-2])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    missing=st.sets(st.integers(0, 29), max_size=29),
    kept=st.lists(st.sets(st.integers(0, 29), min_size=1), max_size=2),
    order=st.randoms(use_true_random=False),
)
async def test_whatever_two_answers_lose_the_page_is_the_oracle(
    feed: BybitFeed, odd_exchange: Any, bars: Any, missing: set[int], kept: list[set[int]], order: Any
) -> None:
    # An answer loses bars only at its edges, as a server that counts its rows wrongly does.
    bars(30, missing)

    def short(chosen: set[int]) -> Any:
        def change(rows: list[Any]) -> list[Any]:
            low, high = min(chosen), max(chosen)
            cut = [row for row in rows if low <= (int(row[0]) - START) // MINUTE <= high] or rows
            order.shuffle(cut)
            return cut + cut[:3]

        return bent_rows(change)

    odd_exchange.bends = [short(chosen) for chosen in kept]
    page = await page_of(feed, 30)
    assert_is_oracle(page, odd_exchange, 30)
    assert page.complete_until_ms == START + 30 * MINUTE


def contract(symbol: str, status: str = "Trading") -> dict[str, Any]:
    return {
        "symbol": symbol, "contractType": "LinearPerpetual", "status": status, "baseCoin": "X", "quoteCoin": "USDT",
        "settleCoin": "USDT", "launchTime": "1585526400000", "deliveryTime": "0", "fundingInterval": 480,
        "leverageFilter": {"maxLeverage": "100"}, "priceFilter": {"tickSize": "0.1"},
        "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001"},
    }  # fmt: skip


async def test_instrument_pages_follow_the_decoded_cursor(feed: BybitFeed, odd_exchange: Any) -> None:
    def instruments(query: dict[str, str]) -> dict[str, Any]:
        page = {"": (["A", "B"], "first%3DA%26last%3DB"), "first=A&last=B": (["C"], "")}
        symbols, cursor = page[query.get("cursor", "")]
        return {"category": "linear", "list": [contract(symbol) for symbol in symbols], "nextPageCursor": cursor}

    odd_exchange.routes["/v5/market/instruments-info"] = instruments
    assert [row.symbol for row in await feed.instruments("linear")] == ["A", "B", "C"]
    assert [query.get("limit") for _, query in odd_exchange.requests] == ["1000", "1000"]


async def test_a_cursor_that_never_ends_is_not_followed_for_ever(feed: BybitFeed, odd_exchange: Any) -> None:
    odd_exchange.routes["/v5/market/instruments-info"] = lambda _: {
        "category": "linear", "list": [contract("A")], "nextPageCursor": "again",
    }  # fmt: skip
    with pytest.raises(BadPayload, match="repeats a page"):
        await feed.instruments("linear")


@pytest.mark.parametrize(("state", "requests"), [("Trading", 1), ("PreLaunch", 2), ("Closed", 4), ("Unknown", 4)])
async def test_a_symbol_is_found_in_whatever_state(
    feed: BybitFeed, odd_exchange: Any, state: str, requests: int
) -> None:
    def instruments(query: dict[str, str]) -> dict[str, Any]:
        hit = query.get("status", "Trading") == state
        return {"category": "linear", "list": [contract("NEWUSDT", state)] if hit else [], "nextPageCursor": ""}

    odd_exchange.routes["/v5/market/instruments-info"] = instruments
    found = await feed.instruments("linear", "NEWUSDT")
    assert [row.status for row in found] == ([] if state == "Unknown" else [state])
    assert len(odd_exchange.requests) == requests


async def test_an_unknown_symbol_has_no_instrument_and_no_candles(feed: BybitFeed, odd_exchange: Any) -> None:
    odd_exchange.always = refuses(10001, "Not supported symbols")
    assert await feed.instruments("linear", "XXXNOTREAL") == []
    with pytest.raises(NotFound):
        await feed.candle_page(Series("bybit", "linear", "XXXNOTREAL", "trade", "1"), START, START + MINUTE)


HOUR = 3_600_000


@pytest.fixture
def sampled(odd_exchange: Any) -> list[int]:
    """Serve samples every 8 hours as the exchange does: newest first, both ends inclusive, at most `limit`."""
    times = [START // HOUR * HOUR + index * 8 * HOUR for index in range(700)]

    def window(query: dict[str, str]) -> list[int]:
        low, high = int(query["startTime"]), int(query["endTime"])
        return [ts for ts in reversed(times) if low <= ts <= high][: int(query["limit"])]

    odd_exchange.routes["/v5/market/funding/history"] = lambda query: {
        "category": "linear",
        "list": [
            {"symbol": "BTCUSDT", "fundingRate": f"{ts // HOUR % 9}e-4", "fundingRateTimestamp": str(ts)}
            for ts in window(query)
        ],
    }
    odd_exchange.routes["/v5/market/open-interest"] = lambda query: {
        "category": "linear",
        "symbol": "BTCUSDT",
        "list": [{"openInterest": "7.5", "timestamp": str(ts)} for ts in window(query)],
        "nextPageCursor": "ignored",
    }
    odd_exchange.routes["/v5/market/account-ratio"] = lambda query: {
        "list": [
            {"symbol": "BTCUSDT", "buyRatio": "0.49", "sellRatio": "0.51", "timestamp": str(ts)} for ts in window(query)
        ],
        "nextPageCursor": "",
    }
    return times


@pytest.mark.parametrize("limit", [1, 199, 200, 201, 650, 5000])
async def test_the_newest_settlements_of_a_half_open_window_come_ascending(
    feed: BybitFeed, odd_exchange: Any, sampled: list[int], limit: int
) -> None:
    rates = await feed.funding_history("linear", "BTCUSDT", sampled[5], sampled[-5], limit)
    assert [rate.at_ms for rate in rates] == sampled[5:-5][-limit:]
    assert [rate.rate for rate in rates] == [float(f"{rate.at_ms // HOUR % 9}e-4") for rate in rates]
    assert all({"startTime", "endTime"} <= query.keys() for _, query in odd_exchange.requests)


async def test_short_pages_of_samples_lose_nothing(feed: BybitFeed, odd_exchange: Any, sampled: list[int]) -> None:
    odd_exchange.always = bent_rows(lambda rows: rows[:50])
    odd_exchange.bends = [bent_rows(lambda _: [])]
    rates = await feed.funding_history("linear", "BTCUSDT", sampled[0], sampled[-1] + 1, 10_000)
    assert [rate.at_ms for rate in rates] == sampled


async def test_interest_and_ratio_samples_are_read(feed: BybitFeed, odd_exchange: Any, sampled: list[int]) -> None:
    interest = await feed.open_interest("linear", "BTCUSDT", "4h", sampled[0], sampled[3], 10)
    assert [(row.at_ms, row.value) for row in interest] == [(ts, 7.5) for ts in sampled[:3]]
    ratio = await feed.long_short_ratio("linear", "BTCUSDT", "1d", sampled[0], sampled[2], 10)
    assert [(row.at_ms, row.long_share, row.short_share) for row in ratio] == [(ts, 0.49, 0.51) for ts in sampled[:2]]
    assert await feed.open_interest("linear", "BTCUSDT", "4h", 0, sampled[0], 10) == []
    with pytest.raises(BadRequest, match="spot"):
        await feed.open_interest("spot", "BTCUSDT", "4h", 0, 1, 10)
    with pytest.raises(BadRequest, match="empty"):
        await feed.funding_history("linear", "BTCUSDT", 5, 5, 10)


async def test_foreign_and_contradicting_samples_are_not_trusted(
    feed: BybitFeed, odd_exchange: Any, sampled: list[int]
) -> None:
    odd_exchange.always = bent_rows(lambda rows: [{**row, "fundingRateTimestamp": "5"} for row in rows])
    with pytest.raises(BadPayload, match="outside"):
        await feed.funding_history("linear", "BTCUSDT", sampled[0], sampled[9], 10)
    odd_exchange.always = bent_rows(lambda rows: [*rows, {**rows[0], "fundingRate": "0.5"}])
    with pytest.raises(BadPayload, match="twice"):
        await feed.funding_history("linear", "BTCUSDT", sampled[0], sampled[9], 10)


async def test_ticker_book_tiers_and_time_are_read(feed: BybitFeed, odd_exchange: Any) -> None:
    prices = dict.fromkeys(("lastPrice", "markPrice", "indexPrice", "highPrice24h", "lowPrice24h"), "1.5")
    row = {"symbol": "BTCUSDT", **prices, "turnover24h": "3", "volume24h": "2", "fundingRate": ""}
    odd_exchange.routes["/v5/market/tickers"] = lambda _: {"category": "linear", "list": [row]}
    odd_exchange.routes["/v5/market/orderbook"] = lambda query: {
        "s": "BTCUSDT", "b": [["2", "1"], ["1", "1"]], "a": [["3", "1"]], "ts": 7, "u": 1, "seq": 1,
    }  # fmt: skip
    odd_exchange.routes["/v5/market/time"] = lambda _: {"timeSecond": "1688639403", "timeNano": "1688639403423213947"}
    tier = {"id": 1, "symbol": "BTCUSDT", "riskLimitValue": "10", "maintenanceMargin": "0.5", "initialMargin": "1",
            "maxLeverage": "100.00", "mmDeduction": ""}  # fmt: skip
    odd_exchange.routes["/v5/market/risk-limit"] = lambda _: {"category": "linear", "list": [tier]}
    ticker = await feed.ticker("linear", "BTCUSDT")
    assert (ticker.last_price, ticker.volume_24h, ticker.funding_rate) == (1.5, 2.0, None)
    book = await feed.order_book("linear", "BTCUSDT", 1)
    assert (book.bids, book.asks, book.at_ms) == (((2.0, 1.0),), ((3.0, 1.0),), 7)
    assert await feed.server_time_ms() == 1688639403423
    assert [float(tier.maintenance_margin) for tier in await feed.risk_tiers("linear", "BTCUSDT")] == [0.005]
    with pytest.raises(NotFound):
        await feed.ticker("linear", "ETHUSDT")
    with pytest.raises(BadRequest, match="depth"):
        await feed.order_book("linear", "BTCUSDT", 0)


async def test_a_closed_feed_says_so(feed: BybitFeed) -> None:
    await feed.close()
    await feed.close()
    with pytest.raises(Unavailable, match="closed"):
        await feed.server_time_ms()


@pytest.mark.parametrize("address", ["api.bybit.com", "ftp://x", "http://", ""])
def test_a_base_address_without_scheme_or_host_is_refused(address: str, fake_clock: Any) -> None:
    with pytest.raises(BadRequest, match="is not an address"):
        BybitFeed(base_url=address, clock=fake_clock, limiter=RequestLimiter("x", clock=fake_clock))


class Socket:
    """A real port whose connections get the next of `replies`: bytes, None to say nothing, or a drip of bytes."""

    def __init__(self, *replies: bytes | list[bytes] | None) -> None:
        self.replies = list(replies)
        self.connections = 0
        self.released = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        try:
            await reader.readuntil(b"\r\n\r\n")
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
            elif reply is None:
                await self.released.wait()
            else:
                for piece in reply:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


TIME = b'{"retCode":0,"retMsg":"OK","result":{"timeSecond":"1","timeNano":"1000000000"},"retExtInfo":{},"time":1000}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(TIME), TIME)
CUT = GOOD[:-20]
GARBAGE = b"\x16\x03\x01 not http at all\r\n\r\n"
ENDLESS = [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", *([b" "] * 9_000)]
BROKEN_GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\x1f\x8babc"


@pytest.mark.parametrize("first", [CUT, b"", GARBAGE, None, ENDLESS, BROKEN_GZIP])
async def test_broken_connections_are_tried_again(first: Any, fake_clock: Any) -> None:
    odd = Socket(first, GOOD)
    server = await asyncio.start_server(odd.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # Short only where it has to pass.
    is_endured = first in (None, ENDLESS)
    patience = Patience(read_timeout_s=1.5) if is_endured else Patience()
    feed = BybitFeed(
        base_url=f"http://127.0.0.1:{port}",
        clock=fake_clock,
        limiter=RequestLimiter("local", clock=fake_clock, rules=RateRules(rate_per_s=None)),
        patience=patience,
    )
    try:
        assert await feed.server_time_ms() == 1000
        # A machine too slow for the short patience tries once more than that.
        assert odd.connections == 2 or (is_endured and odd.connections > 2)
    finally:
        await feed.close()
        odd.released.set()
        server.close()
        await server.wait_closed()


async def test_a_refused_connection_is_told_without_foreign_text(fake_clock: Any) -> None:
    limiter = RequestLimiter("local", clock=fake_clock)
    # Bound but not listening, so that nobody else can answer there.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        feed = BybitFeed(base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}", clock=fake_clock, limiter=limiter)
        with pytest.raises(Unreachable, match=r"host '127.0.0.1' cannot be reached \(3 attempts\)") as caught:
            await feed.server_time_ms()
    assert all(word in caught.value.fix for word in ("BYBIT_REST_URL", "--feed simulated", "offline"))
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    await feed.close()


async def test_the_system_clock_agrees_with_itself() -> None:
    clock = SystemClock()
    wall, steady = clock.now_ms(), clock.monotonic()
    await clock.sleep(0)
    assert clock.now_ms() >= wall > 1_600_000_000_000
    assert clock.monotonic() >= steady


async def test_the_answer_says_who_answered_not_the_settings(feed: BybitFeed, odd_exchange: Any) -> None:
    odd_exchange.routes["/v5/market/time"] = lambda _: {"timeSecond": "1", "timeNano": "1000000000"}
    assert feed.source == "bybit"
    for said, source in (("simulated", "simulated"), ("replay", "replay"), ("", "bybit")):
        odd_exchange.headers["x-bst-exchange"] = said
        await feed.server_time_ms()
        assert feed.source == source
