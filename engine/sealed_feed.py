"""The feed as everybody but the backfill sees it: nothing of a sealed market's holdout comes through."""

from __future__ import annotations

from typing import TypeVar

from engine.core.holdout import Withheld
from engine.core.markets import FundingRate, Instrument, LongShortRatio, OpenInterest, OrderBook, RiskTier, Ticker
from engine.core.series import Category, FeedName, Source
from engine.ports import Feed, SampleInterval
from engine.store import Store

Dated = TypeVar("Dated", FundingRate, OpenInterest, LongShortRatio)


class SealedFeed:
    """Passes questions on to a feed; history ends at the seal, and a sealed market has no live prices.

    It gives no pages of candles: those are read from the store, which knows what is withheld.
    """

    def __init__(self, feed: Feed, store: Store) -> None:
        self._feed = feed
        self._store = store
        self.name: FeedName = feed.name

    @property
    def source(self) -> Source:
        """Return who answered last."""
        return self._feed.source

    async def server_time_ms(self) -> int:
        """Return the exchange's clock."""
        return await self._feed.server_time_ms()

    async def instruments(self, category: Category, symbol: str | None = None) -> list[Instrument]:
        """Return instruments; their rules hold no price."""
        return await self._feed.instruments(category, symbol)

    async def ticker(self, category: Category, symbol: str) -> Ticker:
        """Return the latest figures of a market that is not sealed."""
        await self._refuse(category, symbol, "the ticker")
        return await self._feed.ticker(category, symbol)

    async def order_book(self, category: Category, symbol: str, depth: int) -> OrderBook:
        """Return the book of a market that is not sealed."""
        await self._refuse(category, symbol, "the order book")
        return await self._feed.order_book(category, symbol, depth)

    async def funding_history(
        self, category: Category, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> list[FundingRate]:
        """Return the newest visible settlements of the range."""
        end_ms = await self._visible_end_ms(category, symbol, start_ms, end_ms)
        return _before(end_ms, await self._feed.funding_history(category, symbol, start_ms, end_ms, limit))

    async def open_interest(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[OpenInterest]:
        """Return the newest visible samples of the range."""
        end_ms = await self._visible_end_ms(category, symbol, start_ms, end_ms)
        return _before(end_ms, await self._feed.open_interest(category, symbol, interval, start_ms, end_ms, limit))

    async def long_short_ratio(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[LongShortRatio]:
        """Return the newest visible samples of the range."""
        end_ms = await self._visible_end_ms(category, symbol, start_ms, end_ms)
        return _before(end_ms, await self._feed.long_short_ratio(category, symbol, interval, start_ms, end_ms, limit))

    async def risk_tiers(self, category: Category, symbol: str) -> list[RiskTier]:
        """Return the maintenance tiers; they hold no price."""
        return await self._feed.risk_tiers(category, symbol)

    async def close(self) -> None:
        """Release connections."""
        await self._feed.close()

    async def _withheld(self, category: Category, symbol: str) -> Withheld | None:
        return await self._store.withheld(self.name, category, symbol)

    async def _refuse(self, category: Category, symbol: str, what: str) -> None:
        withheld = await self._withheld(category, symbol)
        if withheld is not None:
            raise withheld.refusal(f"{what} of {symbol}")

    async def _visible_end_ms(self, category: Category, symbol: str, start_ms: int, end_ms: int) -> int:
        withheld = await self._withheld(category, symbol)
        if withheld is None or end_ms <= withheld.from_ms:
            return end_ms
        if start_ms >= withheld.from_ms:
            raise withheld.refusal(f"the history of {symbol}")
        return withheld.from_ms


def _before(end_ms: int, points: list[Dated]) -> list[Dated]:
    """Return the points before the end, also where the exchange answers more than it was asked for."""
    return [point for point in points if point.at_ms < end_ms]
