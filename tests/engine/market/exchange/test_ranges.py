"""Which rows a candle request gets: start, end, limit, alignment, launch, delisting, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import httpx2
import pytest

from engine.market.exchange import SimulatedExchange

Ask = Callable[..., Awaitable[dict[str, Any]]]
NOW_MS = 1_732_292_345_678
HOUR = 3_600_000
T0 = 1_700_002_800_000
THIS_HOUR = NOW_MS // HOUR * HOUR
BTC_LAUNCH = 1_585_132_560_000
FIRST_HOUR = BTC_LAUNCH // HOUR * HOUR


def opens(envelope: dict[str, Any]) -> list[int]:
    assert envelope["retCode"] == 0
    return [int(row[0]) for row in envelope["result"]["list"]]


def hours(first: int, *steps: int) -> list[int]:
    return [first + step * HOUR for step in steps]


RANGES: list[tuple[str, dict[str, int], list[int]]] = [
    ("both ends are included", {"start": T0, "end": T0 + 2 * HOUR}, hours(T0, 2, 1, 0)),
    ("a range wider than the limit gives the newest rows", {"start": T0, "end": T0 + 9 * HOUR, "limit": 2}, hours(T0, 9, 8)),
    ("a lone start gives the oldest rows", {"start": T0, "limit": 3}, hours(T0, 2, 1, 0)),
    ("a start before launch gives the first candle there is", {"start": 9999, "limit": 1}, [FIRST_HOUR]),
    ("a lone end gives the newest rows up to it", {"end": T0, "limit": 2}, hours(T0, 0, -1)),
    ("neither gives the newest rows up to now", {"limit": 2}, hours(THIS_HOUR, 0, -1)),
    ("an end inside a candle includes it", {"start": T0, "end": T0 + HOUR + 1}, hours(T0, 1, 0)),
    ("one candle", {"start": T0, "end": T0}, [T0]),
    ("a range in the future is empty", {"start": NOW_MS + HOUR, "end": NOW_MS + 9 * HOUR}, []),
    ("an end in the future stops at the open candle", {"start": THIS_HOUR - HOUR, "end": NOW_MS * 2}, hours(THIS_HOUR, 0, -1)),
    ("a start after the end is empty", {"start": T0 + HOUR, "end": T0}, []),
    ("a range before launch is empty", {"start": 1000, "end": FIRST_HOUR - 1}, []),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "expected"), [case[1:] for case in RANGES], ids=[case[0] for case in RANGES])
async def test_the_range_of_a_request(ask: Ask, parameters: dict[str, int], expected: list[int]) -> None:
    assert opens(await ask("kline", symbol="BTCUSDT", interval=60, **parameters)) == expected


@pytest.mark.parametrize(("mode", "first"), [("containing", T0), ("next", T0 + HOUR)])
async def test_an_unaligned_start_follows_the_switch(mode: Literal["containing", "next"], first: int) -> None:
    exchange = SimulatedExchange(clock_ms=lambda: NOW_MS, unaligned_start=mode)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange") as client:
        parameters = {"symbol": "BTCUSDT", "interval": "60", "start": T0 + 1000, "end": T0 + 2 * HOUR}
        answer = (await client.get("/v5/market/kline", params=parameters)).json()
    assert opens(answer)[-1] == first


@pytest.mark.parametrize(
    ("path", "parameters", "rows"),
    [
        ("kline", {"interval": "1"}, 200),
        ("mark-price-kline", {"interval": "5"}, 200),
        ("funding/history", {}, 200),
        ("open-interest", {"intervalTime": "5min"}, 50),
        ("account-ratio", {"period": "5min"}, 50),
        ("recent-trade", {}, 500),
    ],
)
async def test_the_default_number_of_rows(ask: Ask, path: str, parameters: dict[str, str], rows: int) -> None:
    envelope = await ask(path, category="linear", symbol="BTCUSDT", **parameters)
    assert len(envelope["result"]["list"]) == rows


async def test_the_default_depth_of_a_book_depends_on_the_category(ask: Ask) -> None:
    linear = await ask("orderbook", category="linear", symbol="BTCUSDT")
    spot = await ask("orderbook", category="spot", symbol="BTCUSDT")
    assert (len(linear["result"]["b"]), len(spot["result"]["b"])) == (25, 1)
    bids, asks = ([float(price) for price, _ in linear["result"][side]] for side in "ba")
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]


@pytest.mark.parametrize(
    ("path", "parameters", "text"),
    [
        ("kline", {"symbol": "XXXNOTREAL", "interval": "1"}, "Not supported symbols"),
        ("kline", {"symbol": "NOTREALUSDT", "interval": "1"}, "Not supported symbols"),
        ("kline", {"interval": "1"}, "Not supported symbols"),
        ("kline", {"symbol": "BTCUSD", "category": "linear", "interval": "1"}, "Not supported symbols"),
        ("kline", {"symbol": "BTCUSDT", "category": "margin", "interval": "1"}, "Illegal category"),
        ("kline", {"symbol": "BTCUSDT", "interval": "7"}, "params error: interval is invalid"),
        ("kline", {"symbol": "BTCUSDT", "interval": "1", "start": "soon"}, "params error: start is invalid"),
        ("kline", {"symbol": "BTCUSDT", "interval": "1", "limit": "1001"}, "params error: limit is invalid"),
        ("premium-index-price-kline", {"symbol": "BTCUSD", "category": "inverse", "interval": "1"}, "Illegal category"),
        ("instruments-info", {"category": "nothing"}, "Illegal category"),
        ("tickers", {}, "Illegal category"),
        ("funding/history", {"category": "spot", "symbol": "BTCUSDT"}, "Illegal category"),
        ("funding/history", {"category": "linear", "symbol": "BTCUSDT", "startTime": "1"}, "params error: endTime is invalid"),
        ("open-interest", {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1m"}, "params error: intervalTime is invalid"),
        ("account-ratio", {"category": "linear", "symbol": "BTCUSDT"}, "params error: period is invalid"),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_code_10001_over_http_200(
    ask: Ask, path: str, parameters: dict[str, str], text: str
) -> None:
    envelope = await ask(path, **parameters)
    assert (envelope["retCode"], envelope["retMsg"]) == (10001, text)


async def test_an_unknown_path_and_a_post_are_404_and_a_get_with_a_body_is_403(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v5/market/nothing")).status_code == 404
    assert (await client.post("/v5/market/time")).status_code == 404
    assert (await client.request("GET", "/v5/market/time", content=b"{}")).status_code == 403


async def test_a_delisted_symbol_has_candles_until_its_delivery(ask: Ask) -> None:
    delivery = 1_652_402_400_000
    row = (await ask("instruments-info", category="linear", symbol="LUNAUSDT"))["result"]["list"][0]
    assert (row["status"], row["deliveryTime"]) == ("Closed", str(delivery))
    assert opens(await ask("kline", symbol="LUNAUSDT", interval=1, limit=2)) == [delivery - 60_000, delivery - 120_000]
    assert (await ask("tickers", category="linear", symbol="LUNAUSDT"))["result"]["list"] == []


async def test_an_announced_symbol_has_phases_and_no_candles_until_it_launches() -> None:
    now = [NOW_MS]
    exchange = SimulatedExchange(clock_ms=lambda: now[0])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange") as client:

        async def asked(path: str, **parameters: object) -> dict[str, Any]:
            return (await client.get(f"/v5/market/{path}", params={"symbol": "ORBITUSDT", **parameters})).json()[
                "result"
            ]

        row = (await asked("instruments-info", category="linear"))["list"][0]
        assert (row["status"], row["isPreListing"]) == ("PreLaunch", True)
        assert row["preListingInfo"]["phases"][-1]["startTime"] == row["launchTime"]
        assert (await asked("kline", interval=1))["list"] == []
        now[0] = int(row["launchTime"]) + 90_000
        assert (await asked("instruments-info", category="linear"))["list"][0]["status"] == "Trading"
        assert [int(found[0]) for found in (await asked("kline", interval=1))["list"]] == [
            int(row["launchTime"]) + 60_000,
            int(row["launchTime"]),
        ]


async def test_instruments_of_linear_come_in_pages_by_cursor_whether_encoded_again_or_not(
    client: httpx2.AsyncClient, ask: Ask
) -> None:
    whole = [row["symbol"] for row in (await ask("instruments-info", category="linear"))["result"]["list"]]
    assert "ORBITUSDT" not in whole
    assert "LUNAUSDT" not in whole
    for encode_again in (True, False):
        found, cursor = [], ""
        while True:
            query = httpx2.QueryParams({"category": "linear", "limit": 10, "cursor": cursor})
            raw = str(query) if encode_again else f"category=linear&limit=10&cursor={cursor}"
            result = (await client.get(f"/v5/market/instruments-info?{raw}")).json()["result"]
            found += [row["symbol"] for row in result["list"]]
            cursor = result["nextPageCursor"]
            assert "=" not in cursor
            if not cursor:
                break
        assert found == whole
    spot = (await ask("instruments-info", category="spot", limit=1))["result"]
    assert len(spot["list"]) > 1
    assert "nextPageCursor" not in spot


@pytest.mark.parametrize(("path", "name"), [("open-interest", "intervalTime"), ("account-ratio", "period")])
async def test_samples_are_anchored_at_the_end_and_the_cursor_walks_down(ask: Ask, path: str, name: str) -> None:
    key = {"category": "linear", "symbol": "BTCUSDT", name: "1h"}

    async def times(**parameters: object) -> tuple[list[int], str]:
        result = (await ask(path, **key, **parameters))["result"]
        return [int(row["timestamp"]) for row in result["list"]], result["nextPageCursor"]

    lone_start, _ = await times(startTime=T0, limit=2)
    assert lone_start == hours(THIS_HOUR, 0, -1)
    both, cursor = await times(startTime=T0, endTime=T0 + 4 * HOUR, limit=3)
    assert both == hours(T0, 4, 3, 2)
    rest, cursor = await times(startTime=T0, endTime=T0 + 4 * HOUR, limit=3, cursor=cursor)
    assert (rest, cursor) == (hours(T0, 1, 0), "")


async def test_funding_settles_every_eight_or_four_hours_and_follows_the_premium(ask: Ask) -> None:
    for symbol, step in (("BTCUSDT", 8 * HOUR), ("1000PEPEUSDT", 4 * HOUR)):
        rows = (await ask("funding/history", category="linear", symbol=symbol))["result"]["list"]
        times = [int(row["fundingRateTimestamp"]) for row in rows]
        assert {later - earlier for later, earlier in itertools.pairwise(times)} == {step}
        assert all(at % step == 0 and at <= NOW_MS for at in times)
        assert len({row["fundingRate"] for row in rows}) > 10
    at_ms = int(rows[0]["fundingRateTimestamp"])
    premiums = await ask("premium-index-price-kline", symbol=symbol, interval=1, start=at_ms - step, end=at_ms - 1)
    closes = [float(row[4]) for row in reversed((await ask(
        "premium-index-price-kline", symbol=symbol, interval=1, start=at_ms - step, end=at_ms - 1, limit=1000
    ))["result"]["list"])]  # fmt: skip
    assert len(premiums["result"]["list"]) == 200
    weights = range(1, len(closes) + 1)
    premium = sum(weight * close for weight, close in zip(weights, closes, strict=True)) / sum(weights)
    expected = premium + max(-0.0005, min(0.0005, 0.00005 - premium))
    assert float(rows[0]["fundingRate"]) == pytest.approx(max(-0.00375, min(0.00375, expected)), abs=1e-8)
    only_old = await ask("funding/history", category="linear", symbol=symbol, endTime=T0, limit=1)
    assert int(only_old["result"]["list"][0]["fundingRateTimestamp"]) == T0 // step * step


async def test_mark_and_index_stay_close_to_the_last_price(ask: Ask) -> None:
    parameters = {"symbol": "ETHUSDT", "interval": 15, "start": T0, "end": T0 + 100 * HOUR}
    trades, marks, indexes = [
        [float(row[4]) for row in (await ask(path, **parameters))["result"]["list"]]
        for path in ("kline", "mark-price-kline", "index-price-kline")
    ]
    for last, mark, index in zip(trades, marks, indexes, strict=True):
        assert abs(mark / last - 1) < 0.005
        assert abs(index / last - 1) < 0.005


async def test_the_ticker_agrees_with_the_candles(ask: Ask) -> None:
    row = (await ask("tickers", category="linear", symbol="BTCUSDT"))["result"]["list"][0]
    minutes = (await ask("kline", symbol="BTCUSDT", interval=1, limit=1000))["result"]["list"]
    first = NOW_MS // 60_000 * 60_000 - 1439 * 60_000
    minutes += (await ask("kline", symbol="BTCUSDT", interval=1, start=first, limit=440))["result"]["list"]
    assert len({found[0] for found in minutes}) == 1440
    assert row["lastPrice"] == minutes[0][4]
    assert float(row["highPrice24h"]) == max(float(found[2]) for found in minutes)
    assert float(row["lowPrice24h"]) == min(float(found[3]) for found in minutes)
    assert float(row["volume24h"]) == pytest.approx(sum(float(found[5]) for found in minutes))
    assert (
        row["prevPrice24h"] == minutes[-1][1] or row["prevPrice24h"] == min(minutes, key=lambda found: int(found[0]))[1]
    )


async def test_trades_are_newest_first_and_lie_inside_their_candles(ask: Ask) -> None:
    trades = (await ask("recent-trade", category="linear", symbol="BTCUSDT", limit=200))["result"]["list"]
    candles = {row[0]: row for row in (await ask("kline", symbol="BTCUSDT", interval=1, limit=10))["result"]["list"]}
    times = [int(trade["time"]) for trade in trades]
    assert times == sorted(times, reverse=True)
    for trade in trades:
        row = candles[str(int(trade["time"]) // 60_000 * 60_000)]
        assert float(row[3]) <= float(trade["price"]) <= float(row[2])
    assert trades[0]["price"] == candles[str(NOW_MS // 60_000 * 60_000)][4]


async def test_risk_tiers_are_fractions_and_come_fifteen_symbols_a_page(ask: Ask) -> None:
    tiers = (await ask("risk-limit", category="linear", symbol="BTCUSDT"))["result"]["list"]
    for tier in tiers:
        assert float(tier["initialMargin"]) * float(tier["maxLeverage"]) == pytest.approx(1, abs=1e-3)
    for lower, upper in itertools.pairwise(tiers):
        step = float(lower["riskLimitValue"]) * (float(upper["maintenanceMargin"]) - float(lower["maintenanceMargin"]))
        assert float(upper["mmDeduction"]) - float(lower["mmDeduction"] or 0) == pytest.approx(step)
    page = (await ask("risk-limit", category="linear"))["result"]
    assert len({tier["symbol"] for tier in page["list"]}) == 15
    assert page["nextPageCursor"].startswith("first%3D")


async def test_maintenance_windows_tell_where_the_gaps_are(ask: Ask, client: httpx2.AsyncClient) -> None:
    status = (await client.get("/v5/system/status")).json()
    assert status["retMsg"] == ""
    window = next(row for row in status["result"]["list"] if row["id"].startswith("linear"))
    begin, end = int(window["begin"]), int(window["end"])
    assert opens(await ask("kline", symbol="BTCUSDT", interval=1, start=begin, end=end - 1)) == []
    assert opens(await ask("kline", symbol="BTCUSDT", interval=1, start=begin - 60_000, end=end)) == [
        end,
        begin - 60_000,
    ]


async def test_the_newest_thousand_rows_are_a_thousand_even_across_a_gap(ask: Ask, client: httpx2.AsyncClient) -> None:
    status = (await client.get("/v5/system/status")).json()
    end = int(next(row for row in status["result"]["list"] if row["id"].startswith("linear"))["end"])
    found = opens(await ask("kline", symbol="BTCUSDT", interval=1, end=end, limit=1000))
    assert len(found) == len(set(found)) == 1000
    assert found == sorted(found, reverse=True)
