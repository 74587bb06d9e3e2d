"""The coin behind a symbol: one name for everything that follows the same price, whatever market or contract it is."""

from __future__ import annotations

import re
from typing import Final

# Longest first, so that USDT is not read as a symbol ending in T of a USD pair. TUSD and BUSD are left out: Bybit has none,
# and DOTUSD and BNBUSD would be read wrongly.
_QUOTES: Final = (
    "FDUSD", "USDT", "USDC", "USDE", "USD", "EUR", "GBP", "BRL", "TRY", "PLN", "DAI", "BTC", "ETH", "MNT",
)  # fmt: skip
# Coins that are another one by construction: their price series is the same holdout.
_SAME_COIN: Final = {
    "XBT": "BTC",
    "WBTC": "BTC",
    "TBTC": "BTC",
    "CBBTC": "BTC",
    "WETH": "ETH",
    "STETH": "ETH",
    "BETH": "ETH",
}
_MONTH_CODE: Final = re.compile(r"(?<=USD|SDT|SDC)[FGHJKMNQUVXZ]\d{2}$")
_MULTIPLIER: Final = re.compile(r"^10{2,}(?=[A-Z])|(?<=[A-Z])10{2,}$|^1M(?=[A-Z]{4})")
_LEVERAGED: Final = re.compile(r"(?<=[A-Z]{2})[2-5][LS]$")


def underlying_of(symbol: str, base_coin: str | None = None) -> str:
    """Return the coin whose price a symbol follows.

    Parameters
    ----------
    symbol : str
        In any spelling: `BTCUSDT`, `btc/usdt`, `BTC-27DEC24`, `BTCUSDH25`, `1000PEPEUSDT`.
    base_coin : str, optional
        As the exchange names it; without it the symbol is read.

    Examples
    --------
    >>> [underlying_of(name) for name in ("BTCUSDT", "btc/usdt", "BTCPERP", "BTCUSDH25", "BTC-27DEC24")]
    ['BTC', 'BTC', 'BTC', 'BTC', 'BTC']
    >>> underlying_of("1000PEPEUSDT"), underlying_of("SHIB1000USDT"), underlying_of("1INCHUSDT")
    ('PEPE', 'SHIB', '1INCH')
    >>> underlying_of("ETHUSDT", "ETH"), underlying_of("ETHBTC")
    ('ETH', 'ETH')
    """
    coin = _letters(base_coin) if base_coin and _letters(base_coin) else _base_of(symbol)
    for surplus in (_MULTIPLIER, _LEVERAGED):
        coin = surplus.sub("", coin) or coin
    return _SAME_COIN.get(coin, coin)


def _base_of(symbol: str) -> str:
    # What follows a dash is a delivery date or a quote coin, what follows a colon a settlement coin.
    name = _letters(re.split(r"[-/_:]", symbol.strip(), maxsplit=1)[0])
    name = _MONTH_CODE.sub("", name)
    if name.endswith("PERP") and name != "PERP":
        name = name.removesuffix("PERP")
    for quote in _QUOTES:
        if name.endswith(quote) and name != quote:
            return name.removesuffix(quote)
    return name


def _letters(text: str) -> str:
    return "".join(letter for letter in text.upper() if letter.isalnum())
