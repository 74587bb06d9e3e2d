"""What a market is and says, in our own words: instruments, tickers, books, funding, interest, ratios, risk tiers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from engine.core.series import Category


@dataclass(frozen=True, slots=True)
class Instrument:
    """The trading rules of one symbol at one time. Decimals are exact as printed by the exchange."""

    category: Category
    symbol: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    status: str
    contract_type: str
    launch_ms: int | None
    delivery_ms: int | None
    tick_size: Decimal
    lot_step: Decimal
    min_quantity: Decimal
    max_market_quantity: Decimal | None
    min_notional: Decimal | None
    max_leverage: Decimal | None
    funding_interval_minutes: int | None


@dataclass(frozen=True, slots=True)
class Ticker:
    """The latest figures of one symbol. Rates are fractions; None where the category has no such figure."""

    symbol: str
    last_price: float
    mark_price: float | None
    index_price: float | None
    change_24h: float | None
    high_24h: float | None
    low_24h: float | None
    volume_24h: float | None
    turnover_24h: float | None
    open_interest: float | None
    funding_rate: float | None
    next_funding_ms: int | None
    bid: float | None
    ask: float | None


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The top of a book: (price, size) pairs, best first."""

    symbol: str
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class FundingRate:
    """One settlement; a positive rate means that longs pay shorts."""

    at_ms: int
    rate: float


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Open interest at a time, in base units (linear) or USD (inverse)."""

    at_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class LongShortRatio:
    """Shares of accounts net long and net short at a time, fractions of 1."""

    at_ms: int
    long_share: float
    short_share: float


@dataclass(frozen=True, slots=True)
class RiskTier:
    """One maintenance tier. Margins are fractions of position value; deduction in settlement currency."""

    tier: int
    limit_value: Decimal
    maintenance_margin: Decimal
    initial_margin: Decimal
    max_leverage: Decimal
    deduction: Decimal
