"""Answers have the keys and types of the documented and recorded ones."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

Ask = Callable[..., Awaitable[dict[str, Any]]]

# Recorded at an older time or by a recorder that changes types: what may differ, and why.
_OLDER = {
    "LIVE_recent_trade_linear_BTCUSDT.json",  # integers recorded as text; isRPITrade and seq came later
    "LIVE_orderbook_linear_BTCUSDT_limit2.json",  # integers recorded as text; cts came later
    "LIVE_tickers_linear_BTCUSDT_with_headers.json",  # fields added since 2023
}

CASES: list[tuple[str, str, dict[str, object]]] = [
    ("LIVE_kline_spot_1_unaligned_start.json", "kline", {"category": "spot", "symbol": "BTCUSDT", "interval": 1}),
    ("LIVE_orderbook_linear_BTCUSDT_limit2.json", "orderbook", {"category": "linear", "symbol": "BTCUSDT", "limit": 2}),
    ("LIVE_recent_trade_linear_BTCUSDT.json", "recent-trade", {"category": "linear", "symbol": "BTCUSDT", "limit": 1}),
    ("LIVE_tickers_linear_BTCUSDT_with_headers.json", "tickers", {"category": "linear", "symbol": "BTCUSDT"}),
    ("account_ratio_linear_BTCUSDT_1h.json", "account-ratio", {"category": "linear", "symbol": "BTCUSDT", "period": "1h"}),
    ("funding_history_linear_ETHPERP.json", "funding/history", {"category": "linear", "symbol": "ETHPERP"}),
    ("index_price_kline_inverse_BTCUSDZ22_1_limit2.json", "index-price-kline", {"category": "inverse", "symbol": "BTCUSD", "interval": 1}),
    ("instruments_info_linear_BTCUSDT.json", "instruments-info", {"category": "linear", "symbol": "BTCUSDT"}),
    ("instruments_info_linear_prelaunch_BIOUSDT.json", "instruments-info", {"category": "linear", "status": "PreLaunch"}),
    ("instruments_info_spot_BTCUSDT.json", "instruments-info", {"category": "spot", "symbol": "BTCUSDT"}),
    ("kline_inverse_BTCUSD_60.json", "kline", {"category": "inverse", "symbol": "BTCUSD", "interval": 60}),
    ("mark_price_kline_linear_BTCUSDT_15_limit1.json", "mark-price-kline", {"symbol": "BTCUSDT", "interval": 15}),
    ("open_interest_inverse_BTCUSD_1d.json", "open-interest", {"category": "inverse", "symbol": "BTCUSD", "intervalTime": "1d"}),
    ("orderbook_spot_BTCUSDT.json", "orderbook", {"category": "spot", "symbol": "BTCUSDT"}),
    ("premium_index_price_kline_linear_BTCUSDT_D.json", "premium-index-price-kline", {"symbol": "BTCUSDT", "interval": "D"}),
    ("recent_trade_spot_BTCUSDT.json", "recent-trade", {"category": "spot", "symbol": "BTCUSDT", "limit": 1}),
    ("risk_limit_inverse_BTCUSD.json", "risk-limit", {"category": "inverse", "symbol": "BTCUSD"}),
    ("tickers_inverse_BTCUSD.json", "tickers", {"category": "inverse", "symbol": "BTCUSD"}),
    ("tickers_spot_BTCUSDT.json", "tickers", {"category": "spot", "symbol": "BTCUSDT"}),
    ("time.json", "time", {}),
]  # fmt: skip


def missing_or_mistyped(sample: Any, answer: Any, where: str, *, texts_may_be_numbers: bool) -> list[str]:
    """List what the sample has and the answer has not, or has in another type."""
    if isinstance(sample, dict):
        if not isinstance(answer, dict):
            return [where]
        return [
            problem
            for name, value in sample.items()
            for problem in (
                missing_or_mistyped(value, answer[name], f"{where}.{name}", texts_may_be_numbers=texts_may_be_numbers)
                if name in answer
                else [f"{where}.{name} is missing"]
            )
        ]
    if isinstance(sample, list):
        if not isinstance(answer, list) or (sample and not answer):
            return [where]
        if not sample:
            return []
        if isinstance(sample[0], str) and len(sample) != len(answer):
            return [f"{where} has {len(answer)} columns"]
        return missing_or_mistyped(sample[0], answer[0], f"{where}[0]", texts_may_be_numbers=texts_may_be_numbers)
    if type(sample) is type(answer) or sample is None:
        return []
    return [] if texts_may_be_numbers and isinstance(answer, int) and isinstance(sample, str) else [where]


@pytest.mark.parametrize(("file", "path", "parameters"), CASES, ids=[case[0] for case in CASES])
async def test_an_answer_has_the_shape_of_the_sample(
    shared_folder: Path, ask: Ask, file: str, path: str, parameters: dict[str, object]
) -> None:
    sample = json.loads((shared_folder / "bybit-samples" / "rest" / file).read_text(encoding="utf-8"))
    envelope = sample.get("body", sample)
    answer = await ask(path, **parameters)
    assert missing_or_mistyped(envelope, answer, "answer", texts_may_be_numbers=file in _OLDER) == []
    if file not in _OLDER:
        assert set(answer) == set(envelope)
        assert set(answer["result"]) - set(envelope["result"]) <= {"nextPageCursor"}
    assert answer["time"] == 1_732_292_345_678


async def test_a_refusal_has_the_shape_of_the_recorded_one(shared_folder: Path, client: httpx2.AsyncClient) -> None:
    file = shared_folder / "bybit-samples" / "rest" / "LIVE_error_10001_illegal_category_with_headers.json"
    recorded = json.loads(file.read_text(encoding="utf-8"))
    answer = await client.get("/v5/market/instruments-info", params={"category": "nothing"})
    assert answer.status_code == recorded["status"]
    assert answer.json() | {"time": 0} == recorded["body"] | {"time": 0}
    for name in ("Content-Type", "Ret_code", "Cache-Control"):
        assert answer.headers[name] == recorded["headers"][name]


async def test_system_status_has_the_shape_of_the_sample(shared_folder: Path, client: httpx2.AsyncClient) -> None:
    sample = json.loads((shared_folder / "bybit-samples" / "rest" / "system_status.json").read_text(encoding="utf-8"))
    answer = (await client.get("/v5/system/status")).json()
    assert missing_or_mistyped(sample, answer, "answer", texts_may_be_numbers=False) == []


async def test_every_answer_says_that_it_is_simulated_and_carries_no_rate_headers(client: httpx2.AsyncClient) -> None:
    for path in ("/v5/market/time", "/v5/market/kline?symbol=BTCUSDT&interval=1", "/v5/market/nothing"):
        answer = await client.get(path)
        assert answer.headers["X-Bst-Exchange"] == "simulated"
        assert not [name for name in answer.headers if name.lower().startswith("x-bapi")]


async def test_numbers_are_plain_decimals_for_cheap_and_for_dear_coins(ask: Ask) -> None:
    for category, symbol in (
        ("linear", "1000PEPEUSDT"),
        ("spot", "1000PEPEUSDC"),
        ("linear", "BTCUSDT"),
        ("inverse", "BTCUSD"),
    ):
        for interval in ("1", "60", "D", "W", "M"):
            rows = (await ask("kline", category=category, symbol=symbol, interval=interval, limit=300))["result"][
                "list"
            ]
            assert rows
            for row in rows:
                assert len(row) == 7
                assert all(text.replace(".", "", 1).isdigit() for text in row)
