"""The exchange as an ASGI application: routing, envelope, headers, limits, faults and the control endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.core.timeframes import INTERVALS, step_ms
from engine.errors import BadRequest
from engine.market.exchange.clock import ExchangeClock, wall_clock_ms
from engine.market.exchange.delivery import (
    HTML,
    Answer,
    Receive,
    Send,
    business_error,
    control_answer,
    deliver,
    envelope,
    http_error,
    send_answer,
    too_frequent,
)
from engine.market.exchange.endpoints import ENDPOINTS, Endpoint, Request
from engine.market.exchange.faults import (
    Action,
    Ban,
    DeliveryAction,
    FaultDirector,
    FaultScript,
    IgnoreStart,
    OtherWindow,
    RequestAction,
    ReturnCode,
    RowAction,
    Skew,
    Status,
    parse_fault_script,
)
from engine.market.exchange.journal import AddressGate, Journal, JournalEntry, RateLimit
from engine.market.exchange.parameters import ParameterRefused, Query, whole_number
from engine.market.exchange.simulated import SimulatedMarket
from engine.market.exchange.sources import MarketSource
from engine.market.exchange.tampering import tamper

Scope = MutableMapping[str, Any]

_RANGE_NAMES = ("start", "end", "startTime", "endTime")
_MOST_CONTROL_BYTES = 1 << 20


class _ClockChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    now_ms: int | None = None
    offset_ms: int = 0
    stopped: bool = False


class SimulatedExchange:
    """A Bybit v5 market-data server, computed from a seed or replayed from files.

    Parameters
    ----------
    seed : int
        Of the generated market.
    data : Path, optional
        Folder of candle files to serve instead (see `engine.market.exchange.files`).
    faults : FaultScript, optional
        What goes wrong.
    clock_ms : callable, optional
        The time of the exchange; this computer's when left out.
    unaligned_start : {"containing", "next"}
        Which candle a start inside a candle begins with; recordings of the real exchange show both.
    rate_limit : RateLimit, optional
        Ban addresses that ask too often; off when left out.
    control : bool
        Answer `/_control/...`: replace faults, set the clock, read and clear the journal.
    monotonic : callable, optional
        Seconds by which bans and limits run.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        data: Path | None = None,
        faults: FaultScript | None = None,
        clock_ms: Callable[[], int] | None = None,
        unaligned_start: Literal["containing", "next"] = "containing",
        rate_limit: RateLimit | None = None,
        control: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = ExchangeClock(clock_ms or wall_clock_ms)
        self.journal = Journal()
        self.source: MarketSource = _open_source(seed, data)
        self._director = FaultDirector(faults or FaultScript())
        self._gate = AddressGate(rate_limit, monotonic)
        self._monotonic = monotonic
        self._unaligned_start: Literal["containing", "next"] = unaligned_start
        self._control = control

    def replace_faults(self, faults: FaultScript) -> None:
        """Run another script from its beginning."""
        self._director = FaultDirector(faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if self._control and path.startswith("/_control/"):
            await send_answer(send, self._labelled(await self._controlled(str(scope["method"]), path, receive)))
            return
        raw_query = bytes(scope.get("query_string", b"")).decode("latin-1")
        query = Query.parse(raw_query)
        arrived_ms, chapter = self.clock.now_ms(), self.journal.chapter
        address = (scope.get("client") or ("",))[0]
        fired: list[Action] = []
        if not self._gate.admits(address):
            answer = too_frequent()
        else:
            fired = list(self._director.actions(path, query.text("symbol"), *_range(query)))
            if any(isinstance(action, Ban) for action in fired):
                answer = self._banned(address, fired)
            else:
                answer = self._answer(scope, path, query, fired)
        delivery = [action for action in fired if isinstance(action, DeliveryAction)]
        complete = await deliver(send, receive, self._labelled(answer), delivery)
        self.journal.write(
            JournalEntry(
                arrived_ms, self.clock.now_ms(), self._monotonic(), path, raw_query, answer.status if complete else 0,
                answer.ret_code, tuple(action.kind for action in fired),
            ),
            chapter,
        )  # fmt: skip

    def _labelled(self, answer: Answer) -> Answer:
        """Say on every answer that this is not the real exchange."""
        return replace(answer, headers=(*answer.headers, ("X-Bst-Exchange", self.source.label)))

    def _banned(self, address: str, fired: list[Action]) -> Answer:
        self._gate.ban(address, max(action.seconds for action in fired if isinstance(action, Ban)))
        return too_frequent()

    def _answer(self, scope: Scope, path: str, query: Query, fired: list[Action]) -> Answer:
        endpoint = ENDPOINTS.get(path)
        if endpoint is None or scope["method"] != "GET":
            return Answer(404, b"404 page not found", "text/plain; charset=utf-8")
        if _has_body(scope):
            # The content network refuses a GET with a body (pybit issue 135).
            return Answer(403, b"<html><head><title>403 Forbidden</title></head></html>", HTML)
        for action in fired:
            if isinstance(action, Status):
                return http_error(action)
        now_ms, query = _reshaped(self.clock.now_ms(), query, [a for a in fired if isinstance(a, RequestAction)])
        for action in fired:
            if isinstance(action, ReturnCode):
                return business_error(action, now_ms)
        rows = [action for action in fired if isinstance(action, RowAction)]
        return self._right_answer(endpoint, query, now_ms, rows)

    def _right_answer(self, endpoint: Endpoint, query: Query, now_ms: int, rows: list[RowAction]) -> Answer:
        request = Request(query, now_ms, self.source, self._unaligned_start)
        try:
            result = endpoint.answer(request)
        except ParameterRefused as refusal:
            return envelope(10001, refusal.text, endpoint.refused, now_ms)
        if rows:
            bar_ms = next((step_ms(known) for known in INTERVALS if known == query.text("interval")), 0)
            result = tamper(result, rows, bar_ms, now_ms, self._director.random)
        return envelope(0, endpoint.message, result, now_ms)

    async def _controlled(self, method: str, path: str, receive: Receive) -> Answer:
        match method, path:
            case "GET", "/_control/journal":
                return control_answer({"entries": self.journal.rows()})
            case "DELETE", "/_control/journal":
                self.journal.clear()
                return control_answer({"entries": []})
            case "POST", "/_control/faults":
                try:
                    script = parse_fault_script(await _read_body(receive))
                except BadRequest as exc:
                    return control_answer({"error": exc.message, "fix": exc.fix}, status=400)
                self.replace_faults(script)
                return control_answer({"rules": len(script.rules)})
            case "POST", "/_control/clock":
                try:
                    change = _ClockChange.model_validate_json(await _read_body(receive))
                except ValidationError:
                    return control_answer({"error": "send now_ms, offset_ms or stopped"}, status=400)
                self.clock.set(now_ms=change.now_ms, offset_ms=change.offset_ms, stopped=change.stopped)
                return control_answer({"now_ms": self.clock.now_ms()})
            case _:
                return Answer(404, b"404 page not found", "text/plain; charset=utf-8")


def _open_source(seed: int, data: Path | None) -> MarketSource:
    if data is None:
        return SimulatedMarket(seed)
    # The replay market brings pyarrow with it.
    from engine.market.exchange.files import ReplayMarket

    return ReplayMarket(data)


def _range(query: Query) -> tuple[int | None, int | None]:
    """Return the range a request names, for matching only; what is not a number is left to the endpoint."""
    first, last = (query.text("start") or query.text("startTime"), query.text("end") or query.text("endTime"))
    return whole_number(first), whole_number(last)


def _reshaped(now_ms: int, query: Query, actions: list[RequestAction]) -> tuple[int, Query]:
    values = dict(query.values)
    for action in actions:
        match action:
            case Skew(offset_ms=offset_ms):
                now_ms += offset_ms
            case IgnoreStart():
                values = {name: value for name, value in values.items() if name not in _RANGE_NAMES}
            case OtherWindow(shift_ms=shift_ms):
                for name in _RANGE_NAMES:
                    asked = whole_number(values.get(name, ""))
                    if asked is not None:
                        values[name] = str(max(0, asked + shift_ms))
    return now_ms, Query(values)


def _has_body(scope: Scope) -> bool:
    lengths = [value for name, value in scope.get("headers", ()) if name == b"content-length"]
    return any(value != b"0" for value in lengths)


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= _MOST_CONTROL_BYTES:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
