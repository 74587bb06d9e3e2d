"""Which symbols the exchange lists, and the trading rules of each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from engine.core.series import Category

Status = Literal["PreLaunch", "Trading", "Closed"]

CATEGORIES: tuple[Category, ...] = ("linear", "inverse", "spot")


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol of one category.

    Attributes
    ----------
    price_decimals, tick_units : int
        The tick is `tick_units` of the last of `price_decimals` decimals.
    lot_decimals : int
        Decimals of a quantity (of base coin; of USD for inverse).
    first_price, growth : float
        Price around which the series starts, and the natural logarithm of what the slow trend multiplies it by.
    daily_deviation : float
        Typical standard deviation of a daily log return.
    minute_volume : float
        Typical quantity traded in a minute.
    quiet_hours : float
        Share of hours with a run of minutes in which nothing trades.
    """

    category: Category
    symbol: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    launch_ms: int
    delivery_ms: int | None = None
    price_decimals: int = 2
    tick_units: int = 1
    lot_decimals: int = 3
    min_notional: str = "5"
    max_leverage: str = "100.00"
    funding_interval_minutes: int = 480
    first_price: float = 1.0
    growth: float = 0.0
    daily_deviation: float = 0.04
    minute_volume: float = 100.0
    quiet_hours: float = 0.02

    def status(self, now_ms: int) -> Status:
        """Return the state of the listing at this time."""
        if now_ms < self.launch_ms:
            return "PreLaunch"
        return "Closed" if self.delivery_ms is not None and now_ms >= self.delivery_ms else "Trading"

    @property
    def tick_size(self) -> str:
        """The smallest price step as printed."""
        return units_text(self.tick_units, self.price_decimals)

    @property
    def lot_step(self) -> str:
        """The smallest quantity step as printed."""
        return units_text(1, self.lot_decimals)

    @property
    def last_ms(self) -> int:
        """The first time at which nothing trades any more."""
        return self.delivery_ms if self.delivery_ms is not None else 1 << 62


def units_text(units: int, decimals: int) -> str:
    """Print an integer number of the last decimal place.

    >>> units_text(105, 2)
    '1.05'
    """
    if decimals <= 0:
        return str(units)
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


# base coin: price in early 2020 (or at listing), growth, daily deviation, quiet hours, linear launch
_COINS: dict[str, tuple[float, float, float, float, str]] = {
    "BTC": (7_200.0, 2.5, 0.030, 0.004, "2020-03-25T10:36"),
    "ETH": (150.0, 3.0, 0.038, 0.004, "2020-10-21T00:00"),
    "SOL": (12.0, 2.5, 0.050, 0.01, "2021-06-29T00:00"),
    "XRP": (0.22, 2.2, 0.042, 0.01, "2021-05-13T00:00"),
    "DOGE": (0.05, 1.2, 0.050, 0.01, "2021-06-02T00:00"),
    "BNB": (20.0, 3.2, 0.036, 0.01, "2021-06-29T00:00"),
    "ADA": (0.1, 1.6, 0.042, 0.02, "2021-01-28T00:00"),
    "LTC": (60.0, 0.4, 0.038, 0.02, "2020-10-21T00:00"),
    "LINK": (3.0, 1.5, 0.045, 0.02, "2020-10-21T00:00"),
    "AVAX": (10.0, 0.7, 0.050, 0.02, "2021-09-01T00:00"),
    "DOT": (5.0, 0.0, 0.045, 0.02, "2020-12-21T00:00"),
    "TRX": (0.02, 2.0, 0.030, 0.02, "2021-09-30T00:00"),
    "MATIC": (0.2, 0.8, 0.050, 0.03, "2021-06-29T00:00"),
    "ATOM": (5.0, 0.3, 0.045, 0.03, "2021-09-30T00:00"),
    "UNI": (6.0, 0.2, 0.048, 0.03, "2020-12-21T00:00"),
    "APT": (8.0, 0.0, 0.050, 0.04, "2022-10-19T00:00"),
    "ARB": (1.2, -0.6, 0.050, 0.04, "2023-03-23T17:00"),
    "OP": (1.0, 0.3, 0.052, 0.04, "2022-06-01T00:00"),
    "SUI": (1.3, 0.6, 0.052, 0.04, "2023-05-03T12:00"),
    "TON": (2.3, 0.4, 0.045, 0.04, "2023-09-05T00:00"),
    "NEAR": (3.0, 0.1, 0.050, 0.04, "2021-10-20T00:00"),
    "FIL": (40.0, -2.0, 0.050, 0.04, "2021-03-03T00:00"),
    "1000PEPE": (0.0015, 2.0, 0.065, 0.05, "2023-05-05T00:00"),
    "1000SHIB": (0.01, 0.4, 0.055, 0.05, "2021-05-10T00:00"),
}
_INVERSE_LAUNCH = {"BTC": "2018-11-14T16:00", "ETH": "2019-01-25T00:00", "XRP": "2019-01-25T00:00"}
_FOUR_HOURLY = {"1000PEPE", "TON", "SUI"}
# A symbol that lived and died, and one that is announced but not open yet.
_DELISTED = {"LUNA": ("2021-09-13T00:00", "2022-05-13T00:40")}
_ANNOUNCED = {"ORBIT": "2030-01-01T10:00"}
_USDC_PERPETUALS = ("BTC", "ETH", "SOL")

_SYMBOL = re.compile(r"^[A-Z0-9]{2,20}$")
_QUOTES: dict[Category, tuple[str, ...]] = {"linear": ("USDT", "PERP"), "inverse": ("USD",), "spot": ("USDT", "USDC")}
# Names people make up to see an error; everything else that looks like a coin is listed on demand.
_NOT_COINS = re.compile(r"NOTREAL|UNKNOWN|NOSUCH|INVALID|FAKE|^XXX|USDT|USDC|PERP|^USD")
_ON_DEMAND_PRICES = (0.02, 0.08, 0.3, 0.9, 2.5, 7.0, 24.0, 90.0)


def fixed_listings(category: Category) -> list[Listing]:
    """Return what instruments-info lists, by name."""
    if category == "inverse":
        return [_make("inverse", f"{coin}USD", coin, "USD") for coin in ("BTC", "ETH", "LTC", "SOL", "XRP")]
    listed = [_make(category, f"{coin}USDT", coin, "USDT") for coin in _COINS]
    if category == "spot":
        listed += [_make("spot", f"{coin}USDC", coin, "USDC") for coin in _USDC_PERPETUALS]
    else:
        listed += [_make("linear", f"{coin}USDT", coin, "USDT") for coin in (*_DELISTED, *_ANNOUNCED)]
        listed += [_make("linear", f"{coin}PERP", coin, "USDC") for coin in _USDC_PERPETUALS]
    return sorted(listed, key=lambda listing: listing.symbol)


def listing_on_demand(category: Category, symbol: str) -> Listing | None:
    """Return the listing a plausible symbol would have, or None when it does not look like one."""
    if not _SYMBOL.match(symbol):
        return None
    for quote in _QUOTES[category]:
        base = symbol.removesuffix(quote)
        if base != symbol and len(base) >= 2 and not _NOT_COINS.search(base):
            return _make(category, symbol, base, "USDC" if quote == "PERP" else quote)
    return None


def _make(category: Category, symbol: str, base: str, quote: str) -> Listing:
    price, growth, deviation, quiet, launch = _COINS.get(base) or _unknown_coin(base)
    launch_ms = _ms(launch)
    delivery_ms = None
    if category == "inverse":
        launch_ms = _ms(_INVERSE_LAUNCH[base]) if base in _INVERSE_LAUNCH else launch_ms + 90 * 86_400_000
    elif category == "spot":
        launch_ms += 30 * 86_400_000
    elif base in _DELISTED:
        launch_ms, delivery_ms = (_ms(text) for text in _DELISTED[base])
    elif base in _ANNOUNCED:
        launch_ms = _ms(_ANNOUNCED[base])
    decimals, tick_units = _tick(price * (1 + max(growth, 0.0) * 3), category)
    lot_decimals = 0 if category == "inverse" else _lot_decimals(price, category)
    return Listing(
        category=category, symbol=symbol, base_coin=base, quote_coin=quote,
        settle_coin=base if category == "inverse" else quote,
        launch_ms=launch_ms, delivery_ms=delivery_ms, price_decimals=decimals, tick_units=tick_units,
        lot_decimals=lot_decimals, max_leverage="100.00" if base in _COINS else "25.00",
        funding_interval_minutes=240 if base in _FOUR_HOURLY else 480,
        first_price=price, growth=growth, daily_deviation=deviation,
        minute_volume=(60_000.0 if category == "inverse" else 400_000.0 / price / (6 if category == "spot" else 1)),
        quiet_hours=quiet if category == "linear" else quiet * 3,
    )  # fmt: skip


def _unknown_coin(base: str) -> tuple[float, float, float, float, str]:
    digest = hashlib.blake2b(base.encode(), digest_size=4).digest()
    price = _ON_DEMAND_PRICES[digest[0] % len(_ON_DEMAND_PRICES)]
    launch = f"{2021 + digest[1] % 3}-{1 + digest[2] % 12:02d}-{1 + digest[3] % 28:02d}T08:00"
    return price, 0.0, 0.05, 0.15, launch


def _tick(price: float, category: Category) -> tuple[int, int]:
    decimals, scale = 1, 10_000.0
    while price < scale and decimals < 8:
        scale /= 10
        decimals += 1
    if category == "spot":
        return max(decimals, 2), 1
    return (1, 5) if category == "inverse" and decimals == 1 else (decimals, 1)


def _lot_decimals(price: float, category: Category) -> int:
    limits = ((1_000.0, 3), (30.0, 2), (2.0, 1)) if category == "linear" else ((1_000.0, 5), (30.0, 4), (2.0, 2))
    return next((decimals for least, decimals in limits if price >= least), 0 if category == "linear" else 1)
