"""The generated market: candles, and every other figure derived from the same minutes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from engine.core.series import CandleKind, Category
from engine.core.timeframes import DAY_MS, MINUTE_MS, Interval, advance, floor_open, next_open
from engine.market.exchange.bars import BarBlock, plain_text, row_texts
from engine.market.exchange.generator import PREMIUM_DECIMALS, CandleGenerator, RecentlyUsed
from engine.market.exchange.listings import CATEGORIES, Listing, fixed_listings, listing_on_demand, units_text
from engine.market.exchange.randomness import IntArray, lattice, smooth_lattice, stream_key
from engine.market.exchange.sources import Levels, Trade, Window

_HOUR_MS = 3_600_000
# Bybit's account ratio begins on 2020-07-20 (v5 docs, market/long-short-ratio).
_RATIO_START_MS = 1_595_203_200_000
# Interest of 0.03 % a day, clamped difference and cap: Bybit help centre, "Funding Fee Calculation".
_DAILY_INTEREST, _CLAMP, FUNDING_CAP = 0.0003, 0.0005, 0.00375
_OPENS = tuple[list[int], list[str]]


class SimulatedMarket:
    """A market computed from a seed."""

    label: Literal["simulated", "replay"] = "simulated"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generator = CandleGenerator(seed)
        self._fixed: dict[Category, list[Listing]] = {category: fixed_listings(category) for category in CATEGORIES}
        self._listings: dict[tuple[Category, str], Listing] = {
            (listing.category, listing.symbol): listing for group in self._fixed.values() for listing in group
        }
        self._texts: RecentlyUsed[tuple[Category, str, CandleKind, Interval, int], _OPENS] = RecentlyUsed(96)
        self._days: dict[tuple[Category, str, CandleKind, int], BarBlock] = {}

    def listings(self, category: Category) -> list[Listing]:
        """Return the fixed list of a category, by name."""
        return self._fixed[category]

    def listing(self, category: Category, symbol: str) -> Listing | None:
        """Return a listing of the fixed list, or one made for a symbol that looks like one."""
        known = self._listings.get((category, symbol)) or listing_on_demand(category, symbol)
        if known is not None:
            self._listings[category, symbol] = known
        return known

    def candle_rows(
        self, listing: Listing, kind: CandleKind, interval: Interval, window: Window, now_ms: int
    ) -> list[str]:
        """Return rows of a window, ascending, walking day by day from the wanted end."""
        first_ms = max(window.first_ms, floor_open(interval, listing.launch_ms))
        last_ms = min(window.last_ms, floor_open(interval, min(now_ms, listing.last_ms - 1)))
        parts: list[list[str]] = []
        found = 0
        while first_ms <= last_ms and found < window.limit:
            if window.newest:
                low, high = max(first_ms, advance(interval, last_ms, found - window.limit + 1)), last_ms
                last_ms = advance(interval, low, -1)
            else:
                low, high = first_ms, min(last_ms, advance(interval, first_ms, window.limit - found - 1))
                first_ms = next_open(interval, high)
            rows = self._span(listing, kind, interval, low, high, now_ms)
            parts.append(rows)
            found += len(rows)
        if window.newest:
            parts.reverse()
        return [row for part in parts for row in part]

    def _span(
        self, listing: Listing, kind: CandleKind, interval: Interval, low_ms: int, high_ms: int, now_ms: int
    ) -> list[str]:
        if interval in ("W", "M"):
            return self._long_bars(listing, kind, interval, low_ms, high_ms, now_ms)
        rows: list[str] = []
        if interval == "D":
            days = [self._day(listing, kind, day, now_ms) for day in range(low_ms // DAY_MS, high_ms // DAY_MS + 1)]
            return row_texts(BarBlock.concatenate(days), self._generator.scale(listing, kind))
        for day in range(low_ms // DAY_MS, high_ms // DAY_MS + 1):
            opens, texts = self._day_texts(listing, kind, interval, day, now_ms)
            start, stop = np.searchsorted(opens, (low_ms, high_ms + 1))
            rows.extend(texts[int(start) : int(stop)])
        return rows

    def _day_texts(self, listing: Listing, kind: CandleKind, interval: Interval, day: int, now_ms: int) -> _OPENS:
        key = (listing.category, listing.symbol, kind, interval, day)
        over = (day + 1) * DAY_MS <= now_ms
        cached = self._texts.recall(key) if over else None
        if cached is not None:
            return cached
        block = self._minutes(listing, kind, day, now_ms).aggregate(int(interval))
        made = block.opens_ms[block.exists].tolist(), row_texts(block, self._generator.scale(listing, kind))
        return self._texts.keep(key, made) if over else made

    def _minutes(self, listing: Listing, kind: CandleKind, day: int, now_ms: int) -> BarBlock:
        return self._generator.minutes(listing, kind, day).until(now_ms, listing.tick_units if kind == "trade" else 1)

    def _day(self, listing: Listing, kind: CandleKind, day: int, now_ms: int) -> BarBlock:
        if (day + 1) * DAY_MS > now_ms:
            return self._minutes(listing, kind, day, now_ms).aggregate(DAY_MS // MINUTE_MS)
        key = (listing.category, listing.symbol, kind, day)
        known = self._days.get(key)
        if known is None:
            known = self._minutes(listing, kind, day, now_ms).aggregate(DAY_MS // MINUTE_MS)
            self._days[key] = known
        return known

    def _long_bars(
        self, listing: Listing, kind: CandleKind, interval: Interval, low_ms: int, high_ms: int, now_ms: int
    ) -> list[str]:
        begin = max(low_ms, listing.launch_ms // DAY_MS * DAY_MS)
        end = min(next_open(interval, high_ms), now_ms // DAY_MS * DAY_MS + DAY_MS)
        first = begin // DAY_MS
        days = [self._day(listing, kind, day, now_ms) for day in range(first, end // DAY_MS)]
        bounds: list[tuple[int, int, int]] = []
        open_ms = low_ms
        while open_ms <= high_ms:
            after = next_open(interval, open_ms)
            bounds.append((open_ms, max(open_ms // DAY_MS - first, 0), min(after // DAY_MS - first, len(days))))
            open_ms = after
        merged = BarBlock.concatenate(days).merged(bounds)
        return row_texts(merged, self._generator.scale(listing, kind))

    def ticker(self, listing: Listing, now_ms: int) -> dict[str, str]:
        """Return the figures of the last 24 hours and of this moment."""
        if listing.status(now_ms) != "Trading":
            return {}
        day = self._last_day(listing, "trade", now_ms)
        digits = listing.price_decimals
        before, last = int(day.open[0]), int(day.close[-1])
        scale = self._generator.scale(listing, "trade")
        book = self.order_book(listing, 1, now_ms)
        figures = {
            "lastPrice": plain_text(last, digits),
            "prevPrice24h": plain_text(before, digits),
            "price24hPcnt": f"{(last - before) / before:.6f}",
            "highPrice24h": plain_text(int(day.high[day.exists].max(initial=last)), digits),
            "lowPrice24h": plain_text(int(day.low[day.exists].min(initial=last)), digits),
            "prevPrice1h": plain_text(int(day.open[-60]), digits),
            "volume24h": plain_text(int(day.volume.sum()), scale.volume),
            "turnover24h": plain_text(int(day.turnover.sum()), scale.turnover),
            "bid1Price": book.bids[0][0], "bid1Size": book.bids[0][1],
            "ask1Price": book.asks[0][0], "ask1Size": book.asks[0][1],
        }  # fmt: skip
        index = self._fair_price(listing, "index", now_ms)
        if listing.category == "spot":
            return figures | {"usdIndexPrice": index}
        return figures | self._derivative_figures(listing, index, now_ms)

    def _derivative_figures(self, listing: Listing, index: str, now_ms: int) -> dict[str, str]:
        interval_ms = listing.funding_interval_minutes * MINUTE_MS
        settlement = (now_ms // interval_ms + 1) * interval_ms
        mark = self._fair_price(listing, "mark", now_ms)
        both, one = self._interest_texts(listing, np.array([now_ms // 300_000 * 300_000]))[0]
        value = float(one) / float(mark) if listing.category == "inverse" else float(one) * float(mark)
        return {
            "indexPrice": index, "markPrice": mark, "openInterest": both, "openInterestValue": f"{value:.2f}",
            "fundingRate": self._funding_rate(listing, settlement, now_ms), "nextFundingTime": str(settlement),
            "fundingIntervalHour": str(listing.funding_interval_minutes // 60), "fundingCap": str(FUNDING_CAP),
        }  # fmt: skip

    def _last_day(self, listing: Listing, kind: CandleKind, now_ms: int) -> BarBlock:
        """Return the 1,440 minutes up to the current one."""
        minute = now_ms // MINUTE_MS
        day, used = divmod(minute + 1, 1440)
        if not used:
            return self._minutes(listing, kind, day - 1, now_ms)
        both = BarBlock.concatenate(
            [self._generator.minutes(listing, kind, day - 1), self._minutes(listing, kind, day, now_ms)]
        )
        return both.rows(slice(used, used + 1440))

    def _fair_price(self, listing: Listing, kind: CandleKind, now_ms: int) -> str:
        block = self._minutes(listing, kind, now_ms // DAY_MS, now_ms)
        return units_text(int(block.close[-1]), self._generator.scale(listing, kind).price)

    def order_book(self, listing: Listing, depth: int, now_ms: int) -> Levels:
        """Return levels around the last price, a tick apart."""
        if listing.status(now_ms) != "Trading":
            return Levels((), ())
        last = int(self._minutes(listing, "trade", now_ms // DAY_MS, now_ms).close[-1])
        key = stream_key(self._seed, "book", listing.category, listing.symbol)
        draws = lattice(key, now_ms // 100 * 4096 + np.arange(2 * depth)).tolist()
        scale = listing.minute_volume * 10.0**listing.lot_decimals / 20
        sizes = [plain_text(int(draw * draw * scale) + 1, listing.lot_decimals) for draw in draws]
        step = listing.tick_units
        bids = [
            plain_text(last - step * level, listing.price_decimals) for level in range(depth) if last > step * level
        ]
        asks = [plain_text(last + step * (level + 1), listing.price_decimals) for level in range(depth)]
        return Levels(tuple(zip(bids, sizes, strict=False)), tuple(zip(asks, sizes[depth:], strict=True)))

    def recent_trades(self, listing: Listing, limit: int, now_ms: int) -> list[Trade]:
        """Return a trade a second, priced on the way from the open to the close of its minute."""
        if listing.status(now_ms) != "Trading":
            return []
        times = now_ms - np.arange(limit) * 1000
        times = times[times >= listing.launch_ms]
        key = stream_key(self._seed, "trades", listing.category, listing.symbol)
        draws = lattice(key, times // 1000).tolist()
        scale = listing.minute_volume * 10.0**listing.lot_decimals / 60
        trades: list[Trade] = []
        for at_ms, draw in zip(times.tolist(), draws, strict=True):
            block = self._generator.minutes(listing, "trade", at_ms // DAY_MS)
            minute = at_ms % DAY_MS // MINUTE_MS
            if not block.volume[minute]:
                continue
            first, close = int(block.open[minute]), int(block.close[minute])
            price = first + (close - first) * (at_ms % MINUTE_MS) // MINUTE_MS
            price = price // listing.tick_units * listing.tick_units
            size = plain_text(int(draw * scale) + 1, listing.lot_decimals)
            trades.append(
                Trade(at_ms, plain_text(price, listing.price_decimals), size, "Buy" if draw < 0.5 else "Sell")
            )
        return trades

    def funding(self, listing: Listing, window: Window, now_ms: int) -> list[tuple[int, str]]:
        """Return the settlements of a window, newest first."""
        times = _samples(listing, listing.funding_interval_minutes * MINUTE_MS, window, now_ms, listing.launch_ms + 1)
        return [(at_ms, self._funding_rate(listing, at_ms, now_ms)) for at_ms in times.tolist()]

    def _funding_rate(self, listing: Listing, settlement_ms: int, now_ms: int) -> str:
        """Return P + clamp(I - P, -0.05 %, +0.05 %), P the premium of the interval weighted by time."""
        minutes = listing.funding_interval_minutes
        begin = settlement_ms // MINUTE_MS - minutes
        now_minute = now_ms // MINUTE_MS
        premiums = self._generator.minutes(listing, "premium", begin // 1440)
        closes = premiums.close[begin % 1440 : begin % 1440 + max(1, min(minutes, now_minute - begin))]
        weights = np.arange(1, len(closes) + 1)
        # Whole numbers until the division, so that no summation order can change the last digit.
        premium = int((weights * closes).sum()) / int(weights.sum()) / 10**PREMIUM_DECIMALS
        interest = _DAILY_INTEREST * minutes / 1440
        rate = premium + max(-_CLAMP, min(_CLAMP, interest - premium))
        text = f"{max(-FUNDING_CAP, min(FUNDING_CAP, rate)):.8f}"
        return text.rstrip("0").rstrip(".")

    def open_interest(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:
        """Return samples of a slow random curve, newest first; equal times agree at every interval."""
        times = _samples(listing, step_ms, window, now_ms, listing.launch_ms)
        texts = self._interest_texts(listing, times)
        return [(at_ms, both, one) for at_ms, (both, one) in zip(times.tolist(), texts, strict=True)]

    def _interest_texts(self, listing: Listing, times: IntArray) -> list[tuple[str, str]]:
        key = stream_key(self._seed, "interest", listing.category, listing.symbol)
        curve = 0.5 + smooth_lattice(key, times, 9 * DAY_MS) + 0.1 * smooth_lattice(key, times, 5 * _HOUR_MS)
        lots = (curve * listing.minute_volume * 600 * 10.0**listing.lot_decimals).astype(np.int64).tolist()
        return [(units_text(2 * lot, listing.lot_decimals), units_text(lot, listing.lot_decimals)) for lot in lots]

    def account_ratio(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:
        """Return shares that add up to 1, newest first."""
        times = _samples(listing, step_ms, window, now_ms, max(listing.launch_ms, _RATIO_START_MS))
        key = stream_key(self._seed, "ratio", listing.category, listing.symbol)
        curve = 0.35 + 0.25 * smooth_lattice(key, times, 2 * DAY_MS) + 0.05 * smooth_lattice(key, times, _HOUR_MS)
        shares = np.rint(curve * 10_000).astype(np.int64).tolist()
        return [
            (at_ms, plain_text(share, 4), plain_text(10_000 - share, 4))
            for at_ms, share in zip(times.tolist(), shares, strict=True)
        ]

    def downtimes(self, now_ms: int) -> list[tuple[Category, int, int]]:
        """Return the latest downtimes of every category within two years, newest first."""
        today = now_ms // DAY_MS
        found: list[tuple[Category, int, int]] = []
        for day in range(today - 730, today + 1):
            for category in CATEGORIES:
                down = self._generator.downtime(category, day)
                if down is not None:
                    begin, end = (day * DAY_MS + minute * MINUTE_MS for minute in down)
                    found.append((category, begin, end))
        return sorted((item for item in found if item[1] <= now_ms), key=lambda item: item[1], reverse=True)[:10]


def _samples(listing: Listing, step_ms_: int, window: Window, now_ms: int, least_ms: int) -> IntArray:
    """Return the multiples of a step in a window, newest first, at most its limit."""
    last = min(window.last_ms, now_ms, listing.last_ms) // step_ms_
    first = -(-max(window.first_ms, least_ms) // step_ms_)
    return np.arange(last, max(first, last - window.limit + 1) - 1, -1, dtype=np.int64) * step_ms_
