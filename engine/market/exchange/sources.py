"""What the wire layer asks of a market: who is listed, and the figures of a listing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from engine.core.series import CandleKind, Category
from engine.core.timeframes import Interval
from engine.market.exchange.listings import Listing


@dataclass(frozen=True, slots=True)
class Window:
    """Which bars a request wants: opens in [first_ms, last_ms], both included, the newest or the oldest `limit` of them."""

    first_ms: int
    last_ms: int
    limit: int
    newest: bool


@dataclass(frozen=True, slots=True)
class Trade:
    """One public trade."""

    at_ms: int
    price: str
    size: str
    side: Literal["Buy", "Sell"]


@dataclass(frozen=True, slots=True)
class Levels:
    """The two sides of a book, best first, as printed (price, size)."""

    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]


class MarketSource(Protocol):
    """A market that can be served. Texts are as printed; what a market does not know is an empty text or sequence."""

    label: Literal["simulated", "replay"]

    def listings(self, category: Category) -> Sequence[Listing]:
        """Return what instruments-info lists, by name."""
        ...

    def listing(self, category: Category, symbol: str) -> Listing | None:
        """Return one listing, listed or served on demand."""
        ...

    def candle_rows(
        self, listing: Listing, kind: CandleKind, interval: Interval, window: Window, now_ms: int
    ) -> list[str]:
        """Return the JSON texts of the rows of a window, ascending; the last may be a candle still open."""
        ...

    def ticker(self, listing: Listing, now_ms: int) -> dict[str, str]:
        """Return the figures that the exchange prints for a symbol; those that are missing are printed empty."""
        ...

    def order_book(self, listing: Listing, depth: int, now_ms: int) -> Levels:
        """Return the best levels."""
        ...

    def recent_trades(self, listing: Listing, limit: int, now_ms: int) -> list[Trade]:
        """Return the latest trades, newest first."""
        ...

    def funding(self, listing: Listing, window: Window, now_ms: int) -> list[tuple[int, str]]:
        """Return settlements (time, rate), newest first."""
        ...

    def open_interest(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:
        """Return samples (time, both sides, one side), newest first."""
        ...

    def account_ratio(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:
        """Return samples (time, share long, share short), newest first."""
        ...

    def downtimes(self, now_ms: int) -> list[tuple[Category, int, int]]:
        """Return the latest maintenance windows (category, begin, end), newest first."""
        ...
