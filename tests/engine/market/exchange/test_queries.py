"""Whatever is asked, the exchange answers in its own form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.timeframes import INTERVALS
from engine.market.exchange import SimulatedExchange
from engine.market.exchange.endpoints import ENDPOINTS

NOW_MS = 1_732_292_345_678
EXCHANGE = SimulatedExchange(clock_ms=lambda: NOW_MS)

odd_texts = st.sampled_from(["", "-1", "0", "1e3", "9" * 19, "9" * 5000, "%FF", "\u0661", "null"]) | st.text(max_size=5)
times = st.integers(0, 2 * NOW_MS).map(str) | st.integers(NOW_MS - 10**8, NOW_MS + 10**8).map(str)
values: dict[str, st.SearchStrategy[str]] = {
    "category": st.sampled_from(["linear", "inverse", "spot"]),
    "symbol": st.sampled_from(["BTCUSDT", "BTCUSD", "LUNAUSDT", "ORBITUSDT", "NEWUSDT"]),
    "interval": st.sampled_from(INTERVALS),
    "intervalTime": st.sampled_from(["5min", "1d"]),
    "period": st.sampled_from(["5min", "1d"]),
    "start": times,
    "end": times,
    "startTime": times,
    "endTime": times,
    "limit": st.integers(1, 60).map(str),
    "cursor": st.sampled_from(["first%3DA%26last%3DB", "lastid=0&lasttime=1700000000", "lasttime%3D" + "9" * 5000]),
}


async def answer_to(path: str, query: str) -> tuple[int, dict[str, Any]]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
        "client": None,
    }
    await EXCHANGE(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


@settings(max_examples=300, deadline=None)
@given(
    path=st.sampled_from(sorted(ENDPOINTS)),
    query=st.fixed_dictionaries({}, optional={name: known | odd_texts for name, known in values.items()}),
)
def test_any_query_is_answered_or_refused_over_http_200(path: str, query: dict[str, str]) -> None:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    status, envelope = asyncio.run(answer_to(path, text))
    assert status == 200
    assert envelope["retCode"] in (0, 10001)
    assert envelope["time"] == NOW_MS
    rows = envelope["result"].get("list")
    if envelope["retCode"] == 0 and path.endswith("kline"):
        opens = [int(row[0]) for row in rows]
        assert opens == sorted(set(opens), reverse=True)
        assert len(opens) <= 200
