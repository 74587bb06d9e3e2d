"""The scripted model server as an ASGI application: request log, scripted answers, faults, both wire formats."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

from agents.scripted import wire
from agents.scripted.faults import Fault, FaultDirector, FaultPlan
from agents.scripted.honest import honest_text

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]

_LONGEST_SILENCE_S = 600.0
_STATUS_TEXTS = {
    "400": "Invalid request",
    "401": "Authentication Fails, your api key is invalid",
    "402": "Insufficient Balance",
    "403": "Permission denied",
    "404": "Model not found",
    "429": "Rate limit reached",
    "500": "Internal server error",
    "502": "Bad gateway",
    "503": "Server overloaded",
}


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """An answer to requests whose prompt matches; `text` is a text or is made from the request.

    Attributes
    ----------
    match : str
        Regular expression searched in the whole prompt; empty matches every request.
    text : str or callable
        The content of the answer.
    agent : str, optional
        Only for requests under this path prefix.
    times : int, optional
        How often; for ever when left out.
    """

    match: str
    text: str | Callable[[wire.ModelRequest], str]
    agent: str | None = None
    times: int | None = None
    search_results: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True)
class RequestEntry:
    """One request as it arrived, what was done to it, and whether its answer was delivered whole."""

    number: int
    agent: str
    path: str
    model: str
    prompt: str
    fault: str | None
    is_stream: bool
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    status: int = 0
    text: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    is_delivered: bool = False


class ScriptedModel:
    """A model server that says what a script says; without one, it answers every schema from the brief it is given.

    Parameters
    ----------
    answers : list of ScriptedAnswer
        The first that matches wins; with none, an honest answer is composed (`agents.scripted.honest`).
    faults : FaultPlan, optional
        What goes wrong.
    served_model : str, optional
        The model name in the answers; the one asked for when left out.
    search_results : tuple
        Sent with answers in the responses format.
    cost_usd : float, optional
        The cost named in answers in the responses format.
    """

    def __init__(
        self,
        answers: list[ScriptedAnswer] | None = None,
        *,
        faults: FaultPlan | None = None,
        served_model: str | None = None,
        search_results: tuple[Mapping[str, Any], ...] = (),
        cost_usd: float | None = 0.005,
    ) -> None:
        self.answers = list(answers or ())
        self.log: list[RequestEntry] = []
        self.search_results = search_results
        self._director = FaultDirector(faults or FaultPlan())
        self._served_model = served_model
        self._cost_usd = cost_usd
        self._used: dict[int, int] = {}
        self._arrived = threading.Condition()

    def replace_faults(self, plan: FaultPlan) -> None:
        """Run another plan from its beginning."""
        self._director = FaultDirector(plan)

    def wait_for_requests(self, count: int, patience_s: float) -> bool:
        """Block until this many requests have arrived, and return whether they have; for another thread than the server's."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.log) >= count, timeout=patience_s)

    def restart(self) -> None:
        """Forget answers, faults and requests."""
        self.answers.clear()
        self.log.clear()
        self._used.clear()
        self.replace_faults(FaultPlan())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        body = await _read_body(receive)
        if scope["method"] == "GET" and path.rstrip("/").endswith("/models"):
            await _send(send, 200, b'{"object":"list","data":[{"id":"scripted","object":"model"}]}')
            return
        request = _parse(path, body)
        if request is None:
            await _send(send, 400, _error_body("Invalid request", "400"))
            return
        fault = self._director.next_fault(request.agent)
        reply = self._reply(request)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        entry = RequestEntry(
            number=len(self.log) + 1,
            agent=request.agent,
            path=path,
            model=request.model,
            prompt=request.prompt,
            fault=fault.kind if fault else None,
            is_stream=request.is_stream,
            headers=headers,
            body=request.body,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
        )
        with self._arrived:
            self.log.append(entry)
            self._arrived.notify_all()
        await _Delivery(request, _spoil(reply, fault), entry, receive, send).run(fault)

    def _reply(self, request: wire.ModelRequest) -> wire.ModelReply:
        text, results = self._scripted(request) or (honest_text(request, self.search_results), self.search_results)
        return wire.ModelReply(
            text=text,
            served_model=self._served_model or request.model or "scripted",
            tokens_in=max(1, len(request.prompt) // 4),
            tokens_out=max(1, len(text) // 4),
            cost_usd=self._cost_usd,
            search_results=results,
        )

    def _scripted(self, request: wire.ModelRequest) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
        for position, answer in enumerate(self.answers):
            is_spent = answer.times is not None and self._used.get(position, 0) >= answer.times
            if is_spent or answer.agent not in {None, request.agent} or not re.search(answer.match, request.prompt):
                continue
            self._used[position] = self._used.get(position, 0) + 1
            text = answer.text if isinstance(answer.text, str) else answer.text(request)
            return text, answer.search_results or self.search_results
        return None


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One answer on its way to a client, whole or broken."""

    request: wire.ModelRequest
    reply: wire.ModelReply
    entry: RequestEntry
    receive: Receive
    send: Send

    async def run(self, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        if fault and kind in _STATUS_TEXTS:
            await self._status(fault)
        elif kind == "context_window":
            message = "This model's maximum context length is 1000 tokens. Please reduce the length of the messages."
            await self._refuse(400, _error_body(message, "context_length_exceeded"))
        elif kind == "timeout":
            await _wait_for_hang_up(self.receive)
        elif kind == "drop":
            await self._begin(200, "application/json", length=1_000)
        elif kind == "html":
            self.entry.status = 200
            await _send(self.send, 200, b"<html><body>Just a moment...</body></html>", "text/html")
        elif kind == "failed_run":
            await self._failed_run()
        elif self.request.is_stream:
            await self._stream(fault)
        else:
            await self._whole(fault)

    async def _status(self, fault: Fault) -> None:
        extra = () if fault.retry_after_s is None else (("retry-after", f"{fault.retry_after_s:g}"),)
        await self._refuse(int(fault.kind), _error_body(_STATUS_TEXTS[fault.kind], fault.kind), extra)

    async def _refuse(self, status: int, body: bytes, extra: tuple[tuple[str, str], ...] = ()) -> None:
        self.entry.status = status
        await _send(self.send, status, body, extra=extra)

    async def _failed_run(self) -> None:
        if self.request.format == "chat":
            await self._refuse(500, _error_body("Internal server error", "500"))
            return
        self.entry.status = 200
        body = wire.failed_run_body(self.reply, self.entry.number)
        if self.request.is_stream:
            event = json.dumps({"type": "response.failed", "sequence_number": 1, "response": json.loads(body)})
            await _send(self.send, 200, f"event: response.failed\ndata: {event}\n\n".encode(), "text/event-stream")
            return
        await _send(self.send, 200, body)

    async def _whole(self, fault: Fault | None) -> None:
        body = wire.whole_body(self.request, self.reply, self.entry.number)
        kind = fault.kind if fault else ""
        if kind == "bad_json":
            self.entry.status = 200
            await _send(self.send, 200, body[: len(body) // 2])
            return
        await self._begin(200, "application/json", length=None if kind == "keep_alive" else len(body))
        if kind == "cut_stream":
            # Returning before the announced length makes the server cut the connection.
            await self._piece(body[: len(body) // 2])
            return
        if fault and kind == "keep_alive":
            await self._blank_lines(fault.seconds, b"\n")
        if fault and kind == "slow_stream":
            for begin in range(0, len(body), 200):
                await self._piece(body[begin : begin + 200])
                await asyncio.sleep(fault.seconds)
        else:
            await self._piece(body)
        await self._end()

    async def _stream(self, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        await self._begin(200, "text/event-stream", length=None)
        if fault and kind == "keep_alive":
            await self._blank_lines(fault.seconds, b": keep-alive\n\n")
        events = list(wire.stream_events(self.request, self.reply, self.entry.number))
        for position, event in enumerate(events):
            if kind == "cut_stream" and position == len(events) // 2:
                return
            await self._piece(b"data: {broken\n\n" if kind == "bad_json" and position == 2 else event)
            if fault and kind == "slow_stream":
                await asyncio.sleep(fault.seconds)
        await self._end()

    async def _blank_lines(self, seconds: float, line: bytes) -> None:
        for _ in range(10):
            await self._piece(line)
            await asyncio.sleep(seconds / 10)

    async def _begin(self, status: int, content_type: str, *, length: int | None) -> None:
        self.entry.status = status
        headers = [(b"content-type", content_type.encode())]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _piece(self, body: bytes) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    async def _end(self) -> None:
        self.entry.text = self.reply.text
        self.entry.is_delivered = True
        await self.send({"type": "http.response.body", "body": b""})


def _spoil(reply: wire.ModelReply, fault: Fault | None) -> wire.ModelReply:
    match fault.kind if fault else "":
        case "blank":
            return replace(reply, text="   \n   ")
        case "not_json":
            return replace(reply, text="I am sorry, the figures are 73.1337 % and I shall not use JSON. {")
        case "wrong_schema":
            return replace(reply, text='{"unexpected": true}')
        case "invented_number":
            return replace(reply, text=_invent(reply.text))
        case _:
            return reply


def _invent(text: str) -> str:
    """Put a figure that no brief holds into the first sentence-like value."""
    return (
        re.sub(r'(": ")(?=[A-Z])', r"\1The result was 8,675,309.17 USD. ", text, count=1)
        if "{" in text
        else ("The result was 8,675,309.17 USD. " + text)
    )


def _parse(path: str, body: bytes) -> wire.ModelRequest | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return wire.read_request(path, cast("dict[str, Any]", document)) if isinstance(document, dict) else None


def _error_body(message: str, code: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "scripted", "code": code}}).encode()


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "application/json",
    extra: tuple[tuple[str, str], ...] = (),
) -> None:
    headers = [("content-type", content_type), ("content-length", str(len(body))), *extra]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _wait_for_hang_up(receive: Receive) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_SILENCE_S):
            while (await receive())["type"] != "http.disconnect":
                pass
