"""The name of one candle series, and of the symbol in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from engine.core.timeframes import Interval
from engine.errors import BadRequest

Category = Literal["linear", "inverse", "spot"]
CandleKind = Literal["trade", "mark", "index", "premium"]
FeedName = Literal["bybit", "simulated"]
# What candles came from: the exchange, the generator, a local replay of files, or a file somebody imported.
Source = Literal["bybit", "simulated", "replay", "imported"]


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """One candle series. The feed is part of its identity, so real and simulated candles never meet."""

    feed: FeedName
    category: Category
    symbol: str
    kind: CandleKind
    interval: Interval

    def __str__(self) -> str:
        """Say it as people do: `BTCUSDT linear 15`."""
        return f"{self.symbol} {self.category} {self.interval}" + ("" if self.kind == "trade" else f" {self.kind}")


_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9-]{0,38}[A-Z0-9]")


def clean_symbol(text: str) -> str:
    """Return the symbol in Bybit's spelling; anything but letters, digits and dashes is refused before it travels.

    >>> clean_symbol(" btcusdt ")
    'BTCUSDT'
    """
    symbol = text.strip().upper()
    if not _SYMBOL.fullmatch(symbol):
        raise BadRequest(
            f"{text[:40]!r} is not a symbol", fix="symbols look like BTCUSDT; search_instruments finds them"
        )
    return symbol
