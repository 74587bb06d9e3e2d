"""Every signal of the exchange means one error, and only some of them deserve another try."""

from __future__ import annotations

import json

import pytest

from engine.errors import (
    BadPayload,
    BadRequest,
    Banned,
    LabError,
    NotFound,
    RateLimited,
    Refused,
    Unavailable,
)
from engine.market.answers import read_answer
from engine.market.retries import is_transient

HTML = b"<html><body>403 Forbidden, cloudfront</body></html>"


def envelope(code: int, text: str = "", time_ms: int = 1_000) -> bytes:
    return json.dumps({"retCode": code, "retMsg": text, "result": {}, "retExtInfo": {}, "time": time_ms}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "transient"),
    [
        (200, envelope(10001, "Not supported symbols"), NotFound, False),
        (200, envelope(10001, "params error: symbol invalid XYZ"), NotFound, False),
        (200, envelope(10001, "symbol params err"), NotFound, False),
        (200, envelope(10029, "not whitelisted"), NotFound, False),
        (200, envelope(10001, "Illegal category"), BadRequest, False),
        (200, envelope(10001, "params error: intervalTime is invalid"), BadRequest, False),
        (200, envelope(10002, "recv_window"), Refused, False),
        (200, envelope(10009, "ip banned"), Refused, False),
        (200, envelope(10017, "route not found"), Refused, False),
        (200, envelope(10024, "compliance"), Refused, False),
        (200, envelope(10027, "banned"), Refused, False),
        (200, envelope(170_999, "news"), Refused, False),
        (200, envelope(10006, "Too many visits!"), RateLimited, True),
        (200, envelope(10000, "Server Timeout"), Unavailable, True),
        (200, envelope(10016, "Server error"), Unavailable, True),
        (200, envelope(429, "overload"), Unavailable, True),
        (200, envelope(-1, "expired"), Unavailable, True),
        (200, envelope(10018, "ip limit"), Banned, False),
        (403, HTML, Banned, False),
        (404, b"404 page not found", Refused, False),
        (401, b"", Refused, False),
        (302, b"", Refused, False),
        (429, b"slow", RateLimited, True),
        (500, b"", Unavailable, True),
        (502, HTML, Unavailable, True),
        (503, envelope(0), Unavailable, True),
        (200, HTML, BadPayload, True),
        (200, b"", BadPayload, True),
        (200, envelope(0)[:-9], BadPayload, True),
        (200, b"[" * 100_000, BadPayload, True),
        (200, b"\xff\xfe", BadPayload, True),
        (200, b'{"retCode": NaN}', BadPayload, True),
        (200, b'{"result": {}}', BadPayload, True),
        (200, b"[]", BadPayload, True),
    ],
)
def test_a_signal_means_its_error(status: int, body: bytes, error: type[LabError], transient: bool) -> None:
    with pytest.raises(LabError) as caught:
        read_answer(status, {}, body)
    assert type(caught.value) is error
    assert is_transient(caught.value) is transient
    assert caught.value.fix


def test_success_is_the_code_whatever_the_text() -> None:
    for text in ("OK", "success", "SUCCESS", "", "Not supported symbols"):
        assert read_answer(200, {}, envelope(0, text)).server_time_ms == 1_000


def test_an_answer_of_another_length_than_announced_is_not_trusted() -> None:
    body = envelope(0)
    assert read_answer(200, {"content-length": str(len(body))}, body)
    assert read_answer(200, {"content-length": "7", "content-encoding": "gzip"}, body)
    with pytest.raises(BadPayload, match="were announced"):
        read_answer(200, {"content-length": str(len(body) + 1)}, body)


def test_the_pause_is_measured_on_the_clock_of_the_exchange() -> None:
    body = envelope(10006, time_ms=9_000_000)
    with pytest.raises(RateLimited) as caught:
        read_answer(200, {"x-bapi-limit-reset-timestamp": "9002500"}, body)
    assert caught.value.retry_after_s == 2.5
    with pytest.raises(RateLimited) as caught:
        read_answer(200, {"x-bapi-limit-reset-timestamp": "8000000"}, body)
    assert caught.value.retry_after_s == 0
    with pytest.raises(RateLimited) as caught:
        read_answer(429, {"retry-after": "4"}, b"")
    assert caught.value.retry_after_s == 4
    with pytest.raises(RateLimited) as caught:
        read_answer(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(("header", "source"), [("simulated", "simulated"), ("replay", "replay"), ("other", None)])
def test_a_local_exchange_names_itself(header: str, source: str | None) -> None:
    assert read_answer(200, {"x-bst-exchange": header}, envelope(0)).source == source
