"""The instruments we know: from the store while they are fresh, from the exchange otherwise, with near names for a typo."""

from __future__ import annotations

import asyncio
import difflib

from engine.core.markets import Instrument
from engine.core.series import Category, Source
from engine.errors import LabError, NotFound
from engine.ports import Clock, Feed
from engine.store import Store

FRESH_MS = 24 * 3_600_000
# A run on stored candles must not hang on an exchange that cannot be reached.
OFFLINE_PATIENCE_S = 5.0


class Instruments:
    """Looks instruments up."""

    def __init__(self, feed: Feed, store: Store, clock: Clock) -> None:
        self._feed = feed
        self._store = store
        self._clock = clock
        self._answered_by: dict[tuple[Category, str | None], Source] = {}

    async def find(self, category: Category, symbol: str) -> Instrument:
        """Return the instrument; an unknown one is NotFound with the nearest names."""
        stored = await self._store.instrument(self._feed.name, category, symbol)
        age_ms = await self._store.instruments_age_ms(self._feed.name, category, self._clock.now_ms())
        if stored is not None and age_ms is not None and age_ms < FRESH_MS:
            return stored
        found = await self._feed.instruments(category, symbol)
        if found:
            self._answered_by[category, symbol] = self._feed.source
            await self._store.save_instruments(self._feed.name, found, self._clock.now_ms())
            return found[0]
        raise NotFound(f"Bybit {category} has no instrument {symbol!r}", fix=await self._near(category, symbol))

    async def find_if_reachable(self, category: Category, symbol: str) -> Instrument | None:
        """Return the stored or fetched instrument, None when neither is to be had quickly."""
        stored = await self._store.instrument(self._feed.name, category, symbol)
        if stored is not None:
            return stored
        try:
            async with asyncio.timeout(OFFLINE_PATIENCE_S):
                return await self.find(category, symbol)
        except (LabError, TimeoutError):
            return None

    async def search(self, category: Category, text: str, limit: int, offset: int) -> tuple[list[Instrument], int]:
        """Return matching instruments and how many match; the list is fetched when it is older than a day."""
        age_ms = await self._store.instruments_age_ms(self._feed.name, category, self._clock.now_ms())
        if age_ms is None or age_ms >= FRESH_MS:
            await self.refresh(category)
        page = await self._store.search_instruments(self._feed.name, category, text, limit=limit, offset=offset)
        return page.items, page.total

    def origin(self, category: Category, symbol: str | None = None) -> str:
        """Say who gave the list of a category, or the rules of one symbol; "stored" when an earlier process fetched them.

        The store does not keep who answered, and another exchange may have stood at the address then.
        """
        if self._feed.name == "simulated":
            return self._feed.name
        by_list = self._answered_by.get((category, None), "stored")
        return by_list if symbol is None else self._answered_by.get((category, symbol), by_list)

    async def refresh(self, category: Category) -> None:
        """Fetch the whole list of one category."""
        found = await self._feed.instruments(category)
        self._answered_by = {known: who for known, who in self._answered_by.items() if known[0] != category}
        self._answered_by[category, None] = self._feed.source
        await self._store.save_instruments(self._feed.name, found, self._clock.now_ms(), listing_of=category)

    async def _near(self, category: Category, symbol: str) -> str:
        try:
            _, total = await self.search(category, "", 1, 0)
            known, _ = await self.search(category, "", total, 0)
        except LabError:
            known = []
        near = difflib.get_close_matches(symbol, [instrument.symbol for instrument in known], n=3, cutoff=0.5)
        return f"did you mean {', '.join(near)}?" if near else "search_instruments lists what trades"
