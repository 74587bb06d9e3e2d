"""Each kind of fault, seen by a client on a real port; limits, bans, journal and control."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadRequest
from engine.market.exchange import FaultScript, RateLimit, SimulatedExchange, load_fault_script, parse_fault_script
from engine.market.exchange.faults import FaultDirector

NOW_MS = 1_732_292_345_678
MINUTE = 60_000
T0 = 1_700_000_040_000
PAGE = {"symbol": "BTCUSDT", "interval": "1", "start": str(T0), "end": str(T0 + 9 * MINUTE)}
ALL = [T0 + step * MINUTE for step in range(9, -1, -1)]


@pytest.fixture
def fetch(port: Any):
    """Run a script and return what one page request brings."""

    async def fetched(*rules: dict[str, Any], patience_s: float = 120.0, **changed: str) -> httpx2.Response:
        port.script(*rules)
        async with httpx2.AsyncClient(base_url=port.url, timeout=httpx2.Timeout(120, read=patience_s)) as client:
            return await client.get("/v5/market/kline", params=PAGE | changed)

    return fetched


def rule(kind: str, match: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"match": match or {}, "action": {"kind": kind, **fields}}


def rows(answer: httpx2.Response) -> list[list[str]]:
    return answer.json()["result"]["list"]


def opens(answer: httpx2.Response) -> list[int]:
    return [int(row[0]) for row in rows(answer)]


async def test_without_faults_the_page_is_whole(fetch: Any) -> None:
    assert opens(await fetch()) == ALL


@pytest.mark.parametrize("code", [429, 500, 502, 503])
async def test_status_answers_with_an_http_error_as_json_or_as_a_page(fetch: Any, code: int) -> None:
    answer = await fetch(rule("status", code=code, retry_after_s=3))
    assert (answer.status_code, answer.headers["Retry-After"]) == (code, "3")
    assert answer.json()["retCode"] == code
    page = await fetch(rule("status", code=code, html=True))
    assert page.text.startswith("<html>")
    assert page.headers["Content-Type"] == "text/html"


async def test_retcode_10006_comes_over_http_200_with_or_without_the_reset_header(fetch: Any) -> None:
    bare = await fetch(rule("retcode"))
    assert (bare.status_code, bare.json()["retCode"]) == (200, 10006)
    assert "X-Bapi-Limit" not in bare.headers
    told = await fetch(rule("retcode", reset_after_ms=1500))
    assert told.headers["X-Bapi-Limit-Status"] == "0"
    assert int(told.headers["X-Bapi-Limit-Reset-Timestamp"]) == NOW_MS + 1500
    other = await fetch(rule("retcode", code=10016, message="Server error"))
    assert (other.json()["retCode"], other.json()["retMsg"]) == (10016, "Server error")


async def test_a_delay_only_takes_longer(fetch: Any) -> None:
    assert opens(await fetch(rule("delay", seconds=0.02))) == ALL


async def test_silence_never_answers(fetch: Any) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await fetch(rule("silence", seconds=600.0), patience_s=0.2)


async def test_silence_that_ends_is_a_broken_answer(fetch: Any) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await fetch(rule("silence", seconds=0.05))


async def test_drop_closes_the_connection_inside_the_body(fetch: Any) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await fetch(rule("drop", share=0.4))


async def test_drip_sends_everything_in_small_pieces(fetch: Any) -> None:
    assert opens(await fetch(rule("drip", pieces=7, pause_s=0.001))) == ALL


async def test_cut_json_is_a_complete_answer_that_does_not_parse(fetch: Any) -> None:
    answer = await fetch(rule("cut_json", share=0.7))
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


async def test_rows_may_be_null_missing_or_few(fetch: Any) -> None:
    assert rows(await fetch(rule("null_list"))) is None
    assert rows(await fetch(rule("empty_list"))) == []
    assert opens(await fetch(rule("short_page", keep=3))) == ALL[:3]
    assert opens(await fetch(rule("short_page", keep=3, side="oldest"))) == ALL[-3:]


async def test_rows_may_be_repeated_shuffled_or_foreign(fetch: Any) -> None:
    assert opens(await fetch(rule("duplicates", rows=2))) == ALL[:2] + ALL
    shuffled = opens(await fetch(rule("out_of_order")))
    assert sorted(shuffled, reverse=True) == ALL
    assert shuffled != ALL
    foreign = opens(await fetch(rule("foreign_rows", rows=2, shift_ms=-86_400_000)))
    assert foreign == ALL + [at - 86_400_000 for at in ALL[-2:]]


async def test_a_page_may_be_for_another_window(fetch: Any) -> None:
    assert opens(await fetch(rule("other_window", shift_ms=-60 * MINUTE))) == [at - 60 * MINUTE for at in ALL]
    newest = opens(await fetch(rule("ignore_start"), limit="10"))
    assert newest[0] == NOW_MS // MINUTE * MINUTE
    assert len(newest) == 10


async def test_values_may_conflict_within_a_page_or_between_pages(fetch: Any) -> None:
    right = rows(await fetch())
    conflict = rows(await fetch(rule("conflict", rows=1, factor=1.02)))
    assert conflict[:-1] == right
    assert conflict[-1][0] == right[-1][0]
    assert conflict[-1][4] != right[-1][4]
    revised = rows(await fetch(rule("revise", from_ms=ALL[3], to_ms=ALL[1])))
    changed = [new[0] for new, old in zip(revised, right, strict=True) if new != old]
    assert changed == [str(ALL[2]), str(ALL[3])]
    for row in (*revised, conflict[-1]):
        first, high, low, close = map(float, row[1:5])
        assert low <= min(first, close) <= max(first, close) <= high


async def test_a_gap_stays_or_is_filled_late(fetch: Any, port: Any) -> None:
    hole = {"from_ms": ALL[5], "to_ms": ALL[2]}
    assert opens(await fetch(rule("gap", **hole))) == ALL[:3] + ALL[6:]
    port.script(rule("gap", {"count": 2}, **hole))
    async with httpx2.AsyncClient(base_url=port.url, timeout=120) as client:
        lengths = [len(rows(await client.get("/v5/market/kline", params=PAGE))) for _ in range(4)]
    assert lengths == [7, 7, 10, 10]


async def test_skew_moves_the_clock_of_one_answer_and_what_is_open_by_it(fetch: Any) -> None:
    answer = await fetch(rule("skew", offset_ms=-600_000), start="", end="", limit="1")
    assert answer.json()["time"] == NOW_MS - 600_000
    assert opens(answer) == [(NOW_MS - 600_000) // MINUTE * MINUTE]


async def test_the_close_of_an_open_candle_may_change_but_not_of_a_closed_one(fetch: Any) -> None:
    newest = {"start": "", "end": "", "limit": "2"}
    right = rows(await fetch(**newest))
    changed = rows(await fetch(rule("open_close", factor=1.01), **newest))
    assert changed[0][4] != right[0][4]
    assert changed[0][1] == right[0][1]
    assert float(changed[0][2]) >= float(changed[0][4])
    assert changed[1] == right[1]
    assert rows(await fetch(rule("open_close", factor=1.01))) == rows(await fetch())


async def test_faults_of_several_rules_come_together(fetch: Any) -> None:
    answer = await fetch(rule("short_page", keep=5), rule("duplicates", rows=1), rule("drip", pieces=3, pause_s=0.0))
    assert opens(answer) == [ALL[0], *ALL[:5]]


async def test_a_ban_refuses_the_address_until_it_is_over() -> None:
    now = [1000.0]
    script = FaultScript.model_validate({"rules": [rule("ban", {"nth": 2}, seconds=600)]})
    exchange = SimulatedExchange(clock_ms=lambda: NOW_MS, faults=script, monotonic=lambda: now[0])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange") as client:
        codes = []
        for at in (1000.0, 1000.0, 1000.0, 1599.0, 1600.0):
            now[0] = at
            answer = await client.get("/v5/market/time")
            codes.append(answer.status_code)
    assert codes == [200, 403, 403, 403, 200]


async def test_more_requests_than_the_sliding_window_allows_is_a_ban() -> None:
    now = [0.0]
    limit = RateLimit(requests=5, window_s=5.0, ban_s=600.0, time_scale=10.0)
    exchange = SimulatedExchange(clock_ms=lambda: NOW_MS, rate_limit=limit, monotonic=lambda: now[0])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange") as client:

        async def ask_at(at: float) -> httpx2.Response:
            now[0] = at
            return await client.get("/v5/market/time")

        assert [(await ask_at(step / 8)).status_code for step in range(20)] == [200] * 20
        assert [(await ask_at(3.0)).status_code for _ in range(6)] == [200] * 5 + [403]
        banned = await ask_at(62.9)
        assert (banned.status_code, banned.text) == (403, "403, access too frequent")
        assert (await ask_at(63.1)).status_code == 200
    statuses = [entry.status for entry in exchange.journal.entries]
    assert statuses.count(403) == 2


@given(
    nth=st.none() | st.integers(1, 9), every=st.none() | st.integers(1, 4), first=st.integers(1, 9),
    count=st.none() | st.integers(1, 3),
)  # fmt: skip
def test_a_rule_chooses_by_number_of_the_fitting_call(
    nth: int | None, every: int | None, first: int, count: int | None
) -> None:
    match = {"path": "kline", "nth": nth, "every": every, "from_call": first, "count": count}
    director = FaultDirector(FaultScript.model_validate({"rules": [rule("empty_list", match)]}))
    fired = []
    for call in range(1, 13):
        assert not list(director.actions("/v5/market/mark-price-kline", "BTCUSDT", None, None))
        if list(director.actions("/v5/market/kline", "BTCUSDT", None, None)):
            fired.append(call)
    expected = [
        call for call in range(first, 13) if (nth is None or call == nth) and (every is None or call % every == 0)
    ]
    assert fired == expected[:count]


def test_rules_match_symbol_window_and_seeded_chance() -> None:
    document = {
        "seed": 3,
        "rules": [
            rule("empty_list", {"symbol": "ETHUSDT"}),
            rule("null_list", {"window": [100, 200]}),
            rule("out_of_order", {"probability": 0.5}),
        ],
    }

    def kinds(symbol: str, first: int | None, last: int | None, calls: int = 1) -> list[list[str]]:
        director = FaultDirector(FaultScript.model_validate(document))
        return [
            [action.kind for action in director.actions("/v5/market/kline", symbol, first, last)] for _ in range(calls)
        ]

    assert "empty_list" in kinds("ETHUSDT", 0, 50)[0]
    assert "empty_list" not in kinds("BTCUSDT", 0, 50)[0]
    meets = [
        ("null_list" in kinds("X", *span)[0]) for span in ((0, 99), (0, 100), (199, 300), (200, 300), (None, None))
    ]
    assert meets == [False, True, True, False, True]
    lucky = [("out_of_order" in fired) for fired in kinds("X", 0, 1, calls=400)]
    assert lucky == [("out_of_order" in fired) for fired in kinds("X", 0, 1, calls=400)]
    assert 150 < sum(lucky) < 250


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "JSON"), ('{"rules": [{"action": {"kind": "explode"}}]}', "explode"), ('{"rulez": []}', "rulez")],
)
def test_a_script_that_is_not_valid_says_where(text: str, word: str) -> None:
    with pytest.raises(BadRequest, match=word) as refused:
        parse_fault_script(text)
    assert "rules" in refused.value.fix


def test_a_script_is_read_from_a_file_and_a_missing_one_is_said(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"rules": [rule("status", {"path": "kline", "nth": 2}, code=503)]}), encoding="utf-8")
    assert load_fault_script(file).rules[0].match.nth == 2
    with pytest.raises(BadRequest, match=r"none\.json"):
        load_fault_script(tmp_path / "none.json")


async def test_the_journal_tells_every_request_and_what_befell_it(port: Any) -> None:
    port.script(rule("retcode", {"path": "kline", "nth": 2}), rule("drop", {"path": "tickers"}))
    async with httpx2.AsyncClient(base_url=port.url, timeout=120) as client:
        await client.delete("/_control/journal")
        for _ in range(2):
            await client.get("/v5/market/kline", params=PAGE)
        await client.get("/v5/market/nothing")
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/v5/market/tickers", params={"category": "linear", "symbol": "BTCUSDT"})
        entries = (await client.get("/_control/journal")).json()["entries"]
        told = [(entry["path"], entry["status"], entry["ret_code"], entry["faults"]) for entry in entries]
        assert told == [
            ("/v5/market/kline", 200, 0, []),
            ("/v5/market/kline", 200, 10006, ["retcode"]),
            ("/v5/market/nothing", 404, None, []),
            ("/v5/market/tickers", 0, 0, ["drop"]),
        ]
        assert entries[0]["at_ms"] == entries[0]["arrived_ms"] == NOW_MS
        assert entries[0]["query"].startswith("symbol=BTCUSDT&interval=1")
        await client.delete("/_control/journal")
        assert (await client.get("/_control/journal")).json()["entries"] == []


async def test_control_replaces_faults_and_sets_the_clock_at_run_time(port: Any) -> None:
    async with httpx2.AsyncClient(base_url=port.url, timeout=120) as client:
        script = {"rules": [rule("status", code=503)]}
        assert (await client.post("/_control/faults", json=script)).json() == {"rules": 1}
        assert (await client.get("/v5/market/time")).status_code == 503
        refused = await client.post("/_control/faults", json={"rules": [{"action": {"kind": "explode"}}]})
        assert refused.status_code == 400
        assert "explode" in refused.json()["error"]
        await client.post("/_control/faults", json={})
        for change, expected in (
            ({"offset_ms": -600_000}, NOW_MS - 600_000),
            ({"now_ms": T0, "stopped": True}, T0),
            ({"now_ms": T0 + 5}, T0 + 5),
            ({}, NOW_MS),
        ):
            assert (await client.post("/_control/clock", json=change)).json() == {"now_ms": expected}
            assert (await client.get("/v5/market/time")).json()["time"] == expected
        assert (await client.post("/_control/clock", json={"hour": 3})).status_code == 400


async def test_control_is_closed_unless_asked_for(client: httpx2.AsyncClient, exchange: SimulatedExchange) -> None:
    for method, path in (
        ("POST", "/_control/faults"), ("POST", "/_control/clock"), ("GET", "/_control/journal"), ("DELETE", "/_control/journal"),
    ):  # fmt: skip
        assert (await client.request(method, path)).status_code == 404
    assert len(exchange.journal.entries) == 4


@pytest.mark.parametrize("is_cleared", [False, True])
async def test_a_request_that_arrived_before_the_journal_was_cleared_stays_forgotten_once_it_is_answered(
    is_cleared: bool,
) -> None:
    script = FaultScript.model_validate({"rules": [rule("silence", seconds=600.0)]})
    exchange = SimulatedExchange(clock_ms=lambda: NOW_MS, faults=script)
    waits, hung_up = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        waits.set()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/v5/market/time", "query_string": b"", "headers": []}
    serving = asyncio.create_task(exchange(scope, receive, send))
    await waits.wait()
    if is_cleared:
        exchange.journal.clear()
    hung_up.set()
    await serving
    assert len(exchange.journal.entries) == (0 if is_cleared else 1)
