"""What Bybit's REST says beside the market itself: maintenance, announcements, deliveries, insurance, fees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, TypeAdapter

from engine.market.fields import Milliseconds, Number, OptionalMilliseconds, WireModel


class Maintenance(WireModel):
    """One maintenance window (docs/v5/system-status); product 1 futures, 2 spot, 3 option, 4 spread."""

    id: str
    title: str
    state: str
    begin: OptionalMilliseconds = None
    end: OptionalMilliseconds = None
    service_types: list[int]
    product: list[int]


class SystemStatus(WireModel):
    """`/v5/system/status`."""

    rows: list[Maintenance] = Field(alias="list")


class NoticeKind(WireModel):
    """What an announcement is about."""

    title: str
    key: str


class Announcement(WireModel):
    """One announcement, for instance of a delisting."""

    title: str
    description: str
    kind: NoticeKind = Field(alias="type")
    tags: list[str]
    url: str
    date_timestamp: Milliseconds


class Announcements(WireModel):
    """`/v5/announcements/index`."""

    total: int
    rows: list[Announcement] = Field(alias="list")


class DeliveryPrice(WireModel):
    """The settlement of an expired contract."""

    symbol: str
    delivery_price: Number
    delivery_time: Milliseconds


class DeliveryPrices(WireModel):
    """`/v5/market/delivery-price`."""

    category: str
    next_page_cursor: str
    rows: list[DeliveryPrice] = Field(alias="list")


class InsurancePool(WireModel):
    """One insurance pool."""

    coin: str
    balance: Number
    value: Number


class Insurance(WireModel):
    """`/v5/market/insurance`."""

    updated_time: Milliseconds
    rows: list[InsurancePool] = Field(alias="list")


class PriceLimit(WireModel):
    """`/v5/market/price-limit`."""

    symbol: str
    buy_lmt: Number
    sell_lmt: Number
    ts: Milliseconds


class Volatility(WireModel):
    """One hour of `/v5/market/historical-volatility`, whose result is a bare list."""

    period: int
    value: Number
    time: Milliseconds


class FeeRate(WireModel):
    """Fees of an account for one symbol, fractions."""

    symbol: str
    taker_fee_rate: Number
    maker_fee_rate: Number


class FeeRates(WireModel):
    """`/v5/account/fee-rate`."""

    rows: list[FeeRate] = Field(alias="list")


RESULTS: Mapping[str, TypeAdapter[Any]] = {
    "/v5/system/status": TypeAdapter(SystemStatus),
    "/v5/announcements/index": TypeAdapter(Announcements),
    "/v5/market/delivery-price": TypeAdapter(DeliveryPrices),
    "/v5/market/insurance": TypeAdapter(Insurance),
    "/v5/market/price-limit": TypeAdapter(PriceLimit),
    "/v5/market/historical-volatility": TypeAdapter(list[Volatility]),
    "/v5/account/fee-rate": TypeAdapter(FeeRates),
}
