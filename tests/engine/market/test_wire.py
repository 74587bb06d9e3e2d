"""Every recorded or documented payload parses, and what is not the documented shape does not."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import TypeAdapter

from engine.errors import BadPayload
from engine.market import frames, translation, wire
from engine.market.answers import read_answer
from engine.market.fields import validate
from engine.market.rows import RowRules, read_rows

HEADERS_ONLY = "rest/LIVE_private_rate_limit_headers.json"
REFUSED = "rest/LIVE_error_10001_illegal_category_with_headers.json"


def load_samples(folder: Path) -> dict[str, tuple[dict[str, str], Any]]:
    samples = folder / "bybit-samples"
    if not samples.is_dir():
        pytest.skip("the shared folder has no payload samples")
    manifest = json.loads((samples / "manifest.json").read_text(encoding="utf-8"))
    return {
        entry["file"]: (entry, json.loads((samples / entry["file"]).read_text(encoding="utf-8"))) for entry in manifest
    }


def read_sample(payload: Any, path: str) -> Any:
    body = payload.get("body", payload)
    envelope = wire.parse_envelope(body)
    return envelope, validate(wire.RESULTS[path], envelope.result, path)


def test_every_rest_sample_of_the_manifest_parses(shared_folder: Path) -> None:
    parsed = 0
    for name, (entry, payload) in load_samples(shared_folder).items():
        if not name.startswith("rest/") or name in (HEADERS_ONLY, REFUSED):
            continue
        path = urlsplit(entry["request"].split()[1].rstrip(",")).path
        envelope, _ = read_sample(payload, path)
        assert envelope.ret_code == 0
        parsed += 1
    assert parsed >= 28


def test_every_websocket_sample_of_the_manifest_parses(shared_folder: Path) -> None:
    kinds: set[type] = set()
    for name, (_, payload) in load_samples(shared_folder).items():
        if name.startswith("ws/"):
            for frame in payload if isinstance(payload, list) else [payload]:
                kinds.add(type(frames.parse_frame(frame)))
    assert kinds == set(frames.Frame.__args__)


def test_the_recorded_error_answer_means_a_bad_argument(shared_folder: Path) -> None:
    _, payload = load_samples(shared_folder)[REFUSED]
    headers = {name.lower(): value for name, value in payload["headers"].items() if name != "Content-Length"}
    with pytest.raises(Exception, match="Illegal category") as caught:
        read_answer(payload["status"], headers, json.dumps(payload["body"]).encode())
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    ("name", "category", "kind", "interval", "bars"),
    [
        ("rest/kline_inverse_BTCUSD_60.json", "inverse", "trade", "60", 3),
        ("rest/LIVE_kline_spot_1_unaligned_start.json", "spot", "trade", "1", 2),
        ("rest/mark_price_kline_linear_BTCUSDT_15_limit1.json", "linear", "mark", "15", 1),
        ("rest/index_price_kline_inverse_BTCUSDZ22_1_limit2.json", "inverse", "index", "1", 2),
        ("rest/premium_index_price_kline_linear_BTCUSDT_D.json", "linear", "premium", "D", 2),
    ],
)
def test_the_rows_of_every_candle_sample_are_accepted(
    shared_folder: Path, name: str, category: Any, kind: Any, interval: Any, bars: int
) -> None:
    _, payload = load_samples(shared_folder)[name]
    rows = payload["result"]["list"]
    candles, _ = read_rows(rows, RowRules(category, kind, interval), 0, 2**53)
    assert len(candles) == bars
    assert candles.ts.tolist() == sorted(int(row[0]) for row in rows)
    assert [repr(float(row[4])) for row in reversed(rows)] == [repr(value) for value in candles.close.tolist()]


def test_instruments_become_exact_rules(shared_folder: Path) -> None:
    samples = load_samples(shared_folder)
    _, page = read_sample(samples["rest/instruments_info_linear_BTCUSDT.json"][1], "/v5/market/instruments-info")
    linear = translation.instrument("linear", page.rows[0])
    assert (linear.tick_size, linear.lot_step, linear.min_notional) == (Decimal("0.10"), Decimal("0.001"), Decimal(5))
    assert (linear.launch_ms, linear.delivery_ms, linear.funding_interval_minutes) == (1585526400000, None, 480)
    _, page = read_sample(
        samples["rest/instruments_info_linear_prelaunch_BIOUSDT.json"][1], "/v5/market/instruments-info"
    )
    assert page.rows[0].pre_listing_info.phases[-1].end_time is None
    assert translation.instrument("linear", page.rows[0]).status == "PreLaunch"
    _, page = read_sample(samples["rest/instruments_info_spot_BTCUSDT.json"][1], "/v5/market/instruments-info")
    spot = translation.instrument("spot", page.rows[0])
    assert (spot.lot_step, spot.settle_coin, spot.launch_ms) == (Decimal("0.000001"), "USDT", None)


def test_tickers_and_books_become_our_types(shared_folder: Path) -> None:
    samples = load_samples(shared_folder)
    _, result = read_sample(samples["rest/tickers_inverse_BTCUSD.json"][1], "/v5/market/tickers")
    ticker = translation.ticker("inverse", result.rows[0])
    assert (ticker.change_24h, ticker.funding_rate, ticker.next_funding_ms) == (0.142425, 0.0001, 1760371200000)
    _, result = read_sample(samples["rest/tickers_spot_BTCUSDT.json"][1], "/v5/market/tickers")
    assert translation.ticker("spot", result.rows[0]).mark_price is None
    with pytest.raises(BadPayload, match="lacks its last, mark or index"):
        translation.ticker("linear", result.rows[0])
    _, book = read_sample(samples["rest/LIVE_orderbook_linear_BTCUSDT_limit2.json"][1], "/v5/market/orderbook")
    assert translation.order_book(book, 1).bids == ((42544.7, 172.404),)
    crossed = book.model_copy(update={"bids": book.asks})
    with pytest.raises(BadPayload, match="crossed"):
        translation.order_book(crossed, 1)


def tiers(*rows: tuple[str, str, str, str], deduction: str = "") -> list[wire.WireRiskTier]:
    names = ("riskLimitValue", "maintenanceMargin", "initialMargin", "maxLeverage")
    documents = [
        {"id": number, "symbol": "BTCUSDT", "mmDeduction": deduction, **dict(zip(names, row, strict=True))}
        for number, row in enumerate(rows, 1)
    ]
    return TypeAdapter(list[wire.WireRiskTier]).validate_python(documents)


def test_a_recorded_tier_table_gets_its_deductions_by_the_published_formula(shared_folder: Path) -> None:
    _, rows = load_samples(shared_folder)["accounting/risk_tiers_linear_BTCUSDT_2023.json"]
    read = translation.risk_tiers(TypeAdapter(list[wire.WireRiskTier]).validate_python(rows))
    assert [tier.deduction for tier in read] == [0, 10000, 30000]
    assert [tier.maintenance_margin for tier in read] == [Decimal("0.005"), Decimal("0.01"), Decimal("0.015")]


def test_percent_margins_become_fractions_and_printed_deductions_are_kept() -> None:
    (tier,) = translation.risk_tiers(tiers(("150", "0.5", "1", "100.00"), deduction="3"))
    assert (tier.maintenance_margin, tier.initial_margin, tier.deduction) == (Decimal("0.005"), Decimal("0.01"), 3)


@pytest.mark.parametrize(
    "rows", [[("150", "0.5", "1", "50")], [("150", "0.5", "1", "100"), ("300", "0.01", "0.02", "50")]]
)
def test_margins_of_an_unclear_unit_are_refused(rows: list[tuple[str, str, str, str]]) -> None:
    with pytest.raises(BadPayload, match=r"neither a fraction nor percent|mix fractions"):
        translation.risk_tiers(tiers(*rows))


@pytest.mark.parametrize("value", ["nan", "Infinity", "1_000", " 1", "0x10", "１", "", 1.5, None, "1e9999"])
def test_what_is_no_printed_number_is_refused(value: object) -> None:
    document = {"category": "linear", "list": [{"symbol": "X", "fundingRate": value, "fundingRateTimestamp": "1"}]}
    with pytest.raises(BadPayload, match=r"list\.0\.fundingRate"):
        validate(wire.FUNDING, document, "funding")


@pytest.mark.parametrize(
    "result", [None, [], {}, {"symbol": "X", "list": None}, {"symbol": "X"}, {"symbol": 7, "list": []}]
)
def test_a_candle_result_without_its_list_is_refused(result: object) -> None:
    with pytest.raises(BadPayload):
        validate(wire.CANDLES, result, "candles")


@pytest.mark.parametrize("frame", [7, [], {"topic": "moon.BTCUSDT"}, {"topic": "kline.1.X", "data": 3}, {"op": "x"}])
def test_an_unknown_frame_is_refused(frame: object) -> None:
    with pytest.raises(BadPayload):
        frames.parse_frame(frame)
