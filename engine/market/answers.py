"""One HTTP answer of Bybit: a trusted envelope, or the error it means.

Business errors come with HTTP 200, so the code of the envelope decides, never its text (Bybit v5 docs, error and
guide); the text only tells which argument was wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from engine.core.series import Source
from engine.errors import BadPayload, BadRequest, Banned, NotFound, RateLimited, Refused, Unavailable
from engine.market.wire import Envelope, parse_envelope

_TRY_AGAIN = "try again later"
_TRANSIENT_CODES = {
    10000: "its server timed out",
    10016: "its server failed",
    429: "it is overloaded",
    -1: "the request expired",
}
_FINAL_CODES = {
    10002: ("the request's time lies outside its window", "set this machine's clock"),
    10009: ("this address is banned", "use another network, or the simulated feed"),
    10017: ("it knows no such route", "set BYBIT_REST_URL to a Bybit v5 address"),
    10024: ("its rules do not serve this region", "use another regional address, or the simulated feed"),
    10027: ("transactions are banned for this address", "use the simulated feed"),
}
_SOURCES: Mapping[str, Source] = {"simulated": "simulated", "replay": "replay"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, when by the exchange's clock (None where it does not say), and by whom."""

    result: Any
    server_time_ms: int | None
    source: Source | None


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return the trusted answer.

    Parameters
    ----------
    status : int
    headers : Mapping of str to str
        Names looked up in lower case.
    body : bytes
        Decoded of any content encoding.

    Raises
    ------
    Unavailable, RateLimited, Banned, BadPayload
        Worth another try, at once or later.
    Refused, NotFound, BadRequest
        Final.
    """
    _check_status(status, headers)
    announced = headers.get("content-length")
    if announced is not None and "content-encoding" not in headers and announced != str(len(body)):
        raise BadPayload(f"the answer has {len(body)} bytes where {announced!r:.20} were announced", fix=_TRY_AGAIN)
    try:
        payload = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise BadPayload(f"the answer is not JSON ({len(body)} bytes)", fix=_TRY_AGAIN) from exc
    envelope = parse_envelope(payload)
    _check_code(envelope, headers)
    return Answer(envelope.result, envelope.time, _SOURCES.get(headers.get("x-bst-exchange", "")))


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if status == 200:
        return
    if status == 403:
        raise _banned("HTTP 403")
    if status == 429:
        raise RateLimited(
            "the exchange asks for fewer requests (HTTP 429)", fix=_TRY_AGAIN, retry_after_s=_retry_after_s(headers)
        )
    if status >= 500 or status == 408:
        raise Unavailable(f"the exchange is out of order (HTTP {status})", fix=_TRY_AGAIN)
    raise Refused(f"the exchange refused the request (HTTP {status})", fix="set BYBIT_REST_URL to a Bybit v5 address")


def _check_code(envelope: Envelope, headers: Mapping[str, str]) -> None:
    code, text = envelope.ret_code, f"{envelope.ret_msg[:120]!r}"
    if code == 0:
        return
    if code == 10006:
        raise RateLimited(
            f"the exchange asks for fewer requests: {text}", fix=_TRY_AGAIN, retry_after_s=_reset_s(envelope, headers)
        )
    # 10018 was the code of an address ban before HTTP 403 took its place.
    if code == 10018:
        raise _banned(f"code {code}")
    if code in _TRANSIENT_CODES:
        raise Unavailable(f"the exchange cannot answer, {_TRANSIENT_CODES[code]}: code {code}, {text}", fix=_TRY_AGAIN)
    if code == 10029 or (code == 10001 and "symbol" in envelope.ret_msg.lower()):
        raise NotFound(f"the exchange does not know this symbol in this category: {text}", fix="search the symbols")
    if code == 10001:
        raise BadRequest(f"the exchange refuses an argument: {text}", fix="change the argument it names")
    what, fix = _FINAL_CODES.get(code, ("it answered no", "read the code in Bybit's list of errors"))
    raise Refused(f"the exchange refused the request, {what}: code {code}, {text}", fix=fix)


def _banned(signal: str) -> Banned:
    # No reset header comes with it, and the body may be a page of the delivery network.
    return Banned(
        f"the exchange refuses requests from this address ({signal}): too many requests, or a region it does not serve",
        fix="wait at least 10 minutes; if it stays, use another regional address (BYBIT_REST_URL) or the simulated feed",
    )


def _reset_s(envelope: Envelope, headers: Mapping[str, str]) -> float | None:
    # Both times are the exchange's, so the difference holds whatever our own clock says.
    reset = _number(headers.get("x-bapi-limit-reset-timestamp"))
    if reset is None or envelope.time is None:
        return _retry_after_s(headers)
    return max(0.0, (reset - envelope.time) / 1000)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    return _number(headers.get("retry-after"))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
