"""What Bybit's public WebSocket sends: candles, tickers, books, trades, notices, acknowledgements, pongs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, TypeAdapter

from engine.core.timeframes import Interval
from engine.errors import BadPayload
from engine.market.fields import Level, Milliseconds, Number, PositiveNumber, WireModel, validate
from engine.market.notices import Maintenance


class FrameCandle(WireModel):
    """A candle on its way; final only when `confirm` is true."""

    start: Milliseconds
    end: Milliseconds
    interval: Interval
    open: PositiveNumber
    high: PositiveNumber
    low: PositiveNumber
    close: PositiveNumber
    volume: Number
    turnover: Number
    confirm: bool
    timestamp: Milliseconds


class CandleFrame(WireModel):
    """Topic `kline.{interval}.{symbol}`; always a snapshot (docs/v5/websocket/public/kline)."""

    topic: str
    kind: Literal["snapshot"] = Field(alias="type")
    ts: Milliseconds
    data: list[FrameCandle]


class TickerFrame(WireModel):
    """Topic `tickers.{symbol}`; a delta of linear and inverse holds the changed fields only, as printed."""

    topic: str
    kind: Literal["snapshot", "delta"] = Field(alias="type")
    ts: Milliseconds
    data: dict[str, str]


class FrameBook(WireModel):
    """Levels of a book; size 0 deletes a level, update id 1 means that the service restarted."""

    symbol: str = Field(alias="s")
    bids: list[Level] = Field(alias="b")
    asks: list[Level] = Field(alias="a")
    update_id: int = Field(alias="u")
    seq: int


class BookFrame(WireModel):
    """Topic `orderbook.{depth}.{symbol}`."""

    topic: str
    kind: Literal["snapshot", "delta"] = Field(alias="type")
    ts: Milliseconds
    data: FrameBook


class FrameTrade(WireModel):
    """One trade."""

    at_ms: Milliseconds = Field(alias="T")
    symbol: str = Field(alias="s")
    side: Literal["Buy", "Sell"] = Field(alias="S")
    size: PositiveNumber = Field(alias="v")
    price: PositiveNumber = Field(alias="p")
    id: str = Field(alias="i")
    is_block_trade: bool = Field(alias="BT")


class TradeFrame(WireModel):
    """Topic `publicTrade.{symbol}`."""

    topic: str
    kind: Literal["snapshot"] = Field(alias="type")
    ts: Milliseconds
    data: list[FrameTrade]


class StatusFrame(WireModel):
    """Topic `system.status`."""

    topic: str
    ts: Milliseconds
    data: list[Maintenance]


class Topics(WireModel):
    """Which topics of a request were taken."""

    success_topics: list[str]
    fail_topics: list[str]


class Acknowledgement(WireModel):
    """The answer to a subscription; `topics` only where the option stream answers with COMMAND_RESP."""

    success: bool
    message: str = Field(default="", alias="ret_msg")
    request_id: str = Field(default="", alias="req_id")
    topics: Topics | None = Field(default=None, alias="data")


class Pong(WireModel):
    """The answer to a ping."""


Frame = CandleFrame | TickerFrame | BookFrame | TradeFrame | StatusFrame | Acknowledgement | Pong

_TOPICS: dict[str, TypeAdapter[Any]] = {
    "kline": TypeAdapter(CandleFrame),
    "tickers": TypeAdapter(TickerFrame),
    "orderbook": TypeAdapter(BookFrame),
    "publicTrade": TypeAdapter(TradeFrame),
    "system": TypeAdapter(StatusFrame),
}
_ACKNOWLEDGEMENT = TypeAdapter(Acknowledgement)


def parse_frame(payload: Any) -> Frame:
    """Return a frame as its model."""
    if not isinstance(payload, dict):
        raise BadPayload(f"a frame is a JSON object, found {type(payload).__name__}", fix="reconnect")
    frame: dict[str, Any] = payload
    if "topic" in frame:
        topic = str(frame["topic"])
        adapter = _TOPICS.get(topic.partition(".")[0])
        if adapter is None:
            raise BadPayload(f"a frame of the unknown topic {topic!r:.60}", fix="subscribe to known topics only")
        return validate(adapter, frame, f"the frame of {topic!r:.60}")
    if frame.get("op") == "pong" or frame.get("ret_msg") == "pong":
        return Pong()
    return validate(_ACKNOWLEDGEMENT, frame, "the acknowledgement")
