"""What Bybit's public REST endpoints answer, as the v5 documentation describes them (docs/v5/market)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from engine.market import notices
from engine.market.fields import (
    Level,
    Milliseconds,
    Number,
    OptionalMilliseconds,
    OptionalNumber,
    PositiveNumber,
    WireModel,
    validate,
)


class Envelope(WireModel):
    """The frame around every answer. Success is `ret_code` 0; the text differs from endpoint to endpoint."""

    ret_code: int
    ret_msg: str
    result: Any
    # Absent in docs/v5/market/iv only; candles insist on it.
    time: Milliseconds | None = None


class TimeResult(WireModel):
    """`/v5/market/time`."""

    time_second: Milliseconds
    time_nano: Milliseconds


class CandleResult(WireModel):
    """Rows of any of the four kline endpoints, newest first; `engine.market.rows` reads them."""

    symbol: str
    rows: list[Any] = Field(alias="list")


class LeverageFilter(WireModel):
    """Leverage bounds of a contract."""

    max_leverage: PositiveNumber


class PriceFilter(WireModel):
    """Price grid."""

    tick_size: PositiveNumber


class ContractLotFilter(WireModel):
    """Quantity grid of a contract."""

    qty_step: PositiveNumber
    min_order_qty: Number
    max_mkt_order_qty: OptionalNumber = None
    min_notional_value: OptionalNumber = None


class SpotLotFilter(WireModel):
    """Quantity grid of a spot pair; `minOrderQty` is deprecated and may vanish."""

    base_precision: PositiveNumber
    min_order_qty: OptionalNumber = None
    max_market_order_qty: OptionalNumber = None
    min_order_amt: OptionalNumber = None


class PreListingPhase(WireModel):
    """One phase of a pre-market contract."""

    phase: str
    start_time: OptionalMilliseconds = None
    end_time: OptionalMilliseconds = None


class PreListing(WireModel):
    """Where a pre-market contract stands."""

    cur_auction_phase: str
    phases: list[PreListingPhase]


class ContractInstrument(WireModel):
    """Rules of a linear or inverse contract."""

    symbol: str
    contract_type: str
    status: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    launch_time: OptionalMilliseconds
    delivery_time: OptionalMilliseconds
    leverage_filter: LeverageFilter
    price_filter: PriceFilter
    lot_size_filter: ContractLotFilter
    # Minutes (docs/v5/market/instrument); 0 for contracts without funding.
    funding_interval: int
    is_pre_listing: bool = False
    pre_listing_info: PreListing | None = None


class SpotInstrument(WireModel):
    """Rules of a spot pair."""

    symbol: str
    status: str
    base_coin: str
    quote_coin: str
    price_filter: PriceFilter
    lot_size_filter: SpotLotFilter


class ContractInstruments(WireModel):
    """A page of contracts."""

    category: Literal["linear", "inverse"]
    rows: list[ContractInstrument] = Field(alias="list")
    next_page_cursor: str = ""


class SpotInstruments(WireModel):
    """All spot pairs: there are no pages."""

    category: Literal["spot"]
    rows: list[SpotInstrument] = Field(alias="list")
    next_page_cursor: str = ""


InstrumentsResult = Annotated[ContractInstruments | SpotInstruments, Field(discriminator="category")]


class WireTicker(WireModel):
    """Latest figures; what a category lacks is None. A contract without trades prints empty prices."""

    symbol: str
    last_price: OptionalNumber
    high_price24h: OptionalNumber = Field(alias="highPrice24h")
    low_price24h: OptionalNumber = Field(alias="lowPrice24h")
    turnover24h: OptionalNumber = Field(alias="turnover24h")
    volume24h: OptionalNumber = Field(alias="volume24h")
    price24h_change: OptionalNumber = Field(default=None, alias="price24hPcnt")
    mark_price: OptionalNumber = None
    index_price: OptionalNumber = None
    open_interest: OptionalNumber = None
    funding_rate: OptionalNumber = None
    next_funding_time: OptionalMilliseconds = None
    bid1_price: OptionalNumber = Field(default=None, alias="bid1Price")
    ask1_price: OptionalNumber = Field(default=None, alias="ask1Price")


class TickersResult(WireModel):
    """`/v5/market/tickers`."""

    category: Literal["linear", "inverse", "spot", "option"]
    rows: list[WireTicker] = Field(alias="list")


class BookResult(WireModel):
    """`/v5/market/orderbook`: bids descending, asks ascending."""

    symbol: str = Field(alias="s")
    bids: list[Level] = Field(alias="b")
    asks: list[Level] = Field(alias="a")
    ts: Milliseconds
    update_id: int = Field(alias="u")
    seq: int


class WireTrade(WireModel):
    """One public trade."""

    exec_id: str
    symbol: str
    price: PositiveNumber
    size: PositiveNumber
    side: Literal["Buy", "Sell"]
    time: Milliseconds
    is_block_trade: bool


class TradesResult(WireModel):
    """`/v5/market/recent-trade`, newest first."""

    category: str
    rows: list[WireTrade] = Field(alias="list")


class FundingSample(WireModel):
    """One settlement."""

    symbol: str
    funding_rate: Number
    at_ms: Milliseconds = Field(alias="fundingRateTimestamp")


class FundingResult(WireModel):
    """`/v5/market/funding/history`, newest first, no cursor."""

    category: str
    rows: list[FundingSample] = Field(alias="list")


class InterestSample(WireModel):
    """Open interest at a time; `single_open_interest` exists in answers since 2026-06-11."""

    open_interest: Number
    single_open_interest: OptionalNumber = None
    at_ms: Milliseconds = Field(alias="timestamp")


class InterestResult(WireModel):
    """`/v5/market/open-interest`, newest first."""

    symbol: str
    category: str
    rows: list[InterestSample] = Field(alias="list")
    next_page_cursor: str


class RatioSample(WireModel):
    """Account shares at a time."""

    symbol: str
    buy_ratio: Number
    sell_ratio: Number
    at_ms: Milliseconds = Field(alias="timestamp")


class RatioResult(WireModel):
    """`/v5/market/account-ratio`, newest first."""

    rows: list[RatioSample] = Field(alias="list")
    next_page_cursor: str


class WireRiskTier(WireModel):
    """One maintenance tier; margins are fractions or percent, see `engine.market.translation.risk_tiers`."""

    id: int
    symbol: str
    risk_limit_value: PositiveNumber
    maintenance_margin: PositiveNumber
    initial_margin: PositiveNumber
    max_leverage: PositiveNumber
    mm_deduction: OptionalNumber = None


class RiskResult(WireModel):
    """`/v5/market/risk-limit`."""

    category: str
    rows: list[WireRiskTier] = Field(alias="list")
    next_page_cursor: str = ""


CANDLE_PATHS: Mapping[str, str] = {
    "trade": "/v5/market/kline",
    "mark": "/v5/market/mark-price-kline",
    "index": "/v5/market/index-price-kline",
    "premium": "/v5/market/premium-index-price-kline",
}

_ENVELOPE = TypeAdapter(Envelope)
TIME = TypeAdapter(TimeResult)
CANDLES = TypeAdapter(CandleResult)
INSTRUMENTS: TypeAdapter[ContractInstruments | SpotInstruments] = TypeAdapter(InstrumentsResult)
TICKERS = TypeAdapter(TickersResult)
BOOK = TypeAdapter(BookResult)
TRADES = TypeAdapter(TradesResult)
FUNDING = TypeAdapter(FundingResult)
INTEREST = TypeAdapter(InterestResult)
RATIO = TypeAdapter(RatioResult)
RISK = TypeAdapter(RiskResult)

RESULTS: Mapping[str, TypeAdapter[Any]] = {
    **dict.fromkeys(CANDLE_PATHS.values(), CANDLES),
    "/v5/market/time": TIME,
    "/v5/market/instruments-info": INSTRUMENTS,
    "/v5/market/tickers": TICKERS,
    "/v5/market/orderbook": BOOK,
    "/v5/market/recent-trade": TRADES,
    "/v5/market/funding/history": FUNDING,
    "/v5/market/open-interest": INTEREST,
    "/v5/market/account-ratio": RATIO,
    "/v5/market/risk-limit": RISK,
    **notices.RESULTS,
}


def parse_envelope(payload: Any) -> Envelope:
    """Return the frame of an answer."""
    return validate(_ENVELOPE, payload, "the answer")
