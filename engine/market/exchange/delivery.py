"""Sending an answer over ASGI, whole or broken the way a fault says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from engine.market.exchange.faults import CutJson, Delay, DeliveryAction, Drip, Drop, ReturnCode, Silence, Status

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = "application/json; charset=utf-8"
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is ready to be sent."""

    status: int
    body: bytes
    content_type: str = _JSON
    ret_code: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


def envelope(code: int, message: str, result: str, now_ms: int, *headers: tuple[str, str]) -> Answer:
    """Return a v5 envelope over HTTP 200."""
    body = f'{{"retCode":{code},"retMsg":{json.dumps(message)},"result":{result},"retExtInfo":{{}},"time":{now_ms}}}'
    return Answer(200, body.encode(), ret_code=code, headers=(("Timenow", str(now_ms)), *headers))


def business_error(action: ReturnCode, now_ms: int) -> Answer:
    """Return an envelope without a result, with rate headers when the action names a reset."""
    if action.reset_after_ms is None:
        return envelope(action.code, action.message, "{}", now_ms)
    limits = (
        ("X-Bapi-Limit", "10"),
        ("X-Bapi-Limit-Status", "0"),
        ("X-Bapi-Limit-Reset-Timestamp", str(now_ms + action.reset_after_ms)),
    )
    return envelope(action.code, action.message, "{}", now_ms, *limits)


def http_error(action: Status) -> Answer:
    """Return an HTTP error as JSON or as a page of the content network."""
    extra = () if action.retry_after_s is None else (("Retry-After", str(action.retry_after_s)),)
    if action.html:
        page = f"<html><head><title>ERROR: {action.code}</title></head><body>Request blocked.</body></html>"
        return Answer(action.code, page.encode(), HTML, headers=extra)
    body = json.dumps({"retCode": action.code, "retMsg": "System error", "result": {}, "retExtInfo": {}})
    return Answer(action.code, body.encode(), headers=extra)


def too_frequent() -> Answer:
    """Return what a banned address gets."""
    return Answer(403, b"403, access too frequent", "text/plain; charset=utf-8")


def control_answer(document: object, *, status: int = 200) -> Answer:
    """Return a document of the control endpoints."""
    return Answer(status, json.dumps(document).encode())


async def deliver(send: Send, receive: Receive, answer: Answer, actions: list[DeliveryAction]) -> bool:
    """Send an answer as well as its faults allow, and say whether it was complete."""
    for action in actions:
        match action:
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
            case Silence(seconds=seconds):
                await _wait_for_hang_up(receive, seconds)
                await _begin(send, answer, len(answer.body) or 1)
                return False
            case Drop(share=share):
                await _begin(send, answer, len(answer.body))
                part = answer.body[: int(len(answer.body) * share)]
                # Returning before the announced length makes the server cut the connection.
                await send({"type": "http.response.body", "body": part, "more_body": True})
                return False
            case Drip(pieces=pieces, pause_s=pause_s):
                await _begin(send, answer, len(answer.body))
                await _drip(send, answer.body, pieces, pause_s)
                return True
            case CutJson(share=share):
                answer = replace(answer, body=answer.body[: int(len(answer.body) * share)])
            case _:
                pass
    await send_answer(send, answer)
    return True


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    await _begin(send, answer, len(answer.body))
    await send({"type": "http.response.body", "body": answer.body})


async def _begin(send: Send, answer: Answer, length: int) -> None:
    headers = [
        ("Content-Type", answer.content_type), ("Content-Length", str(length)), ("Cache-Control", "no-store"),
        *answer.headers,
    ]  # fmt: skip
    if answer.ret_code is not None:
        headers.append(("Ret_code", str(answer.ret_code)))
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})


async def _drip(send: Send, body: bytes, pieces: int, pause_s: float) -> None:
    size = -(-len(body) // pieces) or 1
    for begin in range(0, len(body), size):
        await send({"type": "http.response.body", "body": body[begin : begin + size], "more_body": True})
        await asyncio.sleep(pause_s)
    await send({"type": "http.response.body", "body": b""})


async def _wait_for_hang_up(receive: Receive, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
