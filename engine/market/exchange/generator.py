"""Deterministic candles: the same seed, category and symbol give the same series, whatever is asked and in any order.

A coin has one index path, so its spot, linear and inverse markets move together. Daily levels come from a mean-reverting walk
with volatility clusters and drifting regimes; the minutes of a day are a bridge between its two levels. A market adds a
premium over the index (also a bridge), ticks, wicks, volumes, quiet minutes and the downtimes of its category.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.core.series import CandleKind, Category
from engine.core.timeframes import DAY_MS, MINUTE_MS
from engine.market.exchange.bars import BarBlock, Scale
from engine.market.exchange.listings import Listing
from engine.market.exchange.randomness import FloatArray, IntArray, KeyArray, exponential, normals, stream_key, words

MINUTES = 1440
# Levels begin on 2018-01-01, before the first listing.
FIRST_DAY = 17_532
_CHUNK_DAYS = 512
_RAMP = (np.arange(MINUTES, dtype=np.float64) + 1.0) / MINUTES
_MINUTE = np.arange(MINUTES)
_TREND_DAYS = 2_400
PREMIUM_DECIMALS = 6

Key = TypeVar("Key")
Value = TypeVar("Value")


class RecentlyUsed(OrderedDict[Key, Value], Generic[Key, Value]):
    """A bounded memory of what was computed last."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def recall(self, key: Key) -> Value | None:
        """Return what is remembered, and remember it longer."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: Key, value: Value) -> Value:
        """Remember, and forget the oldest."""
        self[key] = value
        if len(self) > self.capacity:
            self.popitem(last=False)
        return value


class DailyLevels:
    """Log levels of a coin's index at 00:00 UTC of each day, relative to its first price, grown as far as asked."""

    def __init__(self, key: KeyArray, growth: float, daily_deviation: float) -> None:
        self._key, self._growth, self._deviation = key, growth, daily_deviation
        self._level, self._volatility, self._drift = 0.0, 0.0, 0.0
        self.levels: list[float] = [0.0]
        self.deviations: list[float] = []

    def at(self, day: int) -> tuple[float, float, float]:
        """Return the level at the start and the end of a day, and the day's standard deviation."""
        index = max(day - FIRST_DAY, 0)
        while len(self.deviations) <= index:
            self._grow()
        return self.levels[index], self.levels[index + 1], self.deviations[index]

    def _grow(self) -> None:
        done = len(self.deviations)
        chunk = done // _CHUNK_DAYS
        moves, volatility_moves, regimes = (
            normals(words(self._key, chunk, lane, _CHUNK_DAYS)).tolist() for lane in range(3)
        )
        volatilities: list[float] = []
        for move in volatility_moves:
            self._volatility = 0.96 * self._volatility + 0.12 * move
            volatilities.append(self._volatility)
        deviations: list[float] = (self._deviation * exponential(np.array(volatilities))).tolist()
        for offset, deviation in enumerate(deviations):
            day = done + offset
            if day % 23 == 0:
                self._drift = 0.003 * regimes[offset]
            target = self._growth * min(day, _TREND_DAYS) / _TREND_DAYS
            self._level += deviation * moves[offset] + self._drift + 0.012 * (target - self._level)
            self.levels.append(self._level)
        self.deviations.extend(deviations)


@dataclass(frozen=True, slots=True, eq=False)
class _IndexDay:
    """The index of a coin through a day: level before the first minute, closes, and each minute's typical move."""

    before: float
    closes: FloatArray
    moves: FloatArray


class CandleGenerator:
    """Minutes of any listing and day, computed when asked and kept for a while."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._levels: dict[str, DailyLevels] = {}
        self._premiums: dict[tuple[Category, str], list[float]] = {}
        self._index_days: RecentlyUsed[tuple[str, int], _IndexDay] = RecentlyUsed(128)
        self._blocks: RecentlyUsed[tuple[Category, str, CandleKind, int], BarBlock] = RecentlyUsed(256)

    def scale(self, listing: Listing, kind: CandleKind) -> Scale:
        """Return the decimals in which the minutes of a series count."""
        if kind == "premium":
            return Scale(PREMIUM_DECIMALS, 0, 0, has_volume=False, signed=True)
        if kind != "trade":
            return Scale(listing.price_decimals + 1, 0, 0, has_volume=False)
        turnover = 8 if listing.category == "inverse" else listing.price_decimals + listing.lot_decimals
        return Scale(listing.price_decimals, listing.lot_decimals, turnover)

    def minutes(self, listing: Listing, kind: CandleKind, day: int) -> BarBlock:
        """Return the 1,440 minutes of a day (days since the epoch) as they are once the day is over."""
        key = (listing.category, listing.symbol, kind, day)
        return self._blocks.recall(key) or self._blocks.keep(key, self._make(listing, kind, day))

    def downtime(self, category: Category, day: int) -> tuple[int, int] | None:
        """Return the minutes [first, last) of a day in which the exchange was down for a category."""
        draw = words(stream_key(self._seed, "downtime", category), day, 0, 1)[0].tolist()
        if draw[0] >= 65536 // 150:
            return None
        first = draw[1] % (MINUTES - 160)
        return first, first + 12 + draw[2] % 140

    def _make(self, listing: Listing, kind: CandleKind, day: int) -> BarBlock:
        index = self._index_day(listing, day)
        exists = self._existing(listing, day)
        key = stream_key(self._seed, listing.category, listing.symbol)
        premium_before, premium = self._premium(listing, key, day)
        opens_ms = day * DAY_MS + _MINUTE * MINUTE_MS
        if kind == "trade":
            return self._trades(listing, key, index, premium_before, premium, opens_ms, exists)
        wicks = words(key, day, 5, MINUTES)
        if kind == "premium":
            before, closes = np.array([premium_before]), premium
            spread: FloatArray | float = 0.00002 * 10**PREMIUM_DECIMALS
            unit = 10.0**PREMIUM_DECIMALS
        else:
            share = 0.6 if kind == "mark" else 0.0
            before = np.array([index.before * (1.0 + share * premium_before)])
            closes = index.closes * (1.0 + share * premium)
            unit = 10.0 ** (listing.price_decimals + 1)
            spread = 0.4 * index.moves * closes * unit
        first, units = np.rint(before * unit).astype(np.int64), np.rint(closes * unit).astype(np.int64)
        return _fair_bars(opens_ms, int(first[0]), units, wicks, spread, exists, signed=kind == "premium")

    def _trades(
        self,
        listing: Listing,
        key: KeyArray,
        index: _IndexDay,
        premium_before: float,
        premium: FloatArray,
        opens_ms: IntArray,
        exists: NDArray[np.bool_],
    ) -> BarBlock:
        day = int(opens_ms[0]) // DAY_MS
        draws = words(key, day, 3, MINUTES)
        step = listing.tick_units / 10.0**listing.price_decimals
        prices = index.closes * (1.0 + premium)
        before = np.rint(np.array([index.before * (1.0 + premium_before)]) / step).astype(np.int64)
        ticks = np.maximum(np.rint(prices / step).astype(np.int64), 1)
        trading = exists & ~self._quiet(listing, key, day)
        close = _held(ticks, trading, max(int(before[0]), 1))
        first = np.concatenate((np.maximum(before, 1), close[:-1]))
        high, low = np.maximum(first, close), np.minimum(first, close)
        reach = index.moves * prices / step
        uniform = draws / 65536.0
        high = high + np.where(trading, np.rint(uniform[:, 0] * uniform[:, 0] * reach).astype(np.int64), 0)
        low = low - np.where(trading, np.rint(uniform[:, 1] * uniform[:, 1] * reach).astype(np.int64), 0)
        low = np.maximum(low, 1)
        activity = 1.0 + np.minimum((high - low) / (reach + 1.0), 8.0)
        lots = listing.minute_volume * 10.0**listing.lot_decimals * activity * (0.1 + uniform[:, 2] * uniform[:, 2])
        volume = np.where(trading, lots.astype(np.int64) + 1, 0)
        units = listing.tick_units
        total = (first + high + low + close) * units
        if listing.category == "inverse":
            turnover = np.rint(volume * 4.0 / (total / 10.0**listing.price_decimals) * 1e8).astype(np.int64)
        else:
            turnover = volume * total // 4
        return BarBlock(opens_ms, first * units, high * units, low * units, close * units, volume, turnover, exists)

    def _index_day(self, listing: Listing, day: int) -> _IndexDay:
        cached = self._index_days.recall((listing.base_coin, day))
        if cached is not None:
            return cached
        key = stream_key(self._seed, "index", listing.base_coin)
        levels = self._levels.get(listing.base_coin)
        if levels is None:
            levels = DailyLevels(key, listing.growth, listing.daily_deviation)
            self._levels[listing.base_coin] = levels
        start, end, deviation = levels.at(day)
        moves, path = _bridge(key, day, deviation, start, end)
        ends = listing.first_price * exponential(np.array([start]))
        found = _IndexDay(float(ends[0]), listing.first_price * exponential(path), moves)
        return self._index_days.keep((listing.base_coin, day), found)

    def _premium(self, listing: Listing, key: KeyArray, day: int) -> tuple[float, FloatArray]:
        anchors = self._premiums.setdefault((listing.category, listing.symbol), [0.0])
        index = max(day - FIRST_DAY, 0)
        while len(anchors) <= index + 1:
            # Chunks lie on a lane of their own, so days and chunks never share words.
            level = anchors[-1]
            for draw in normals(words(key, len(anchors) // _CHUNK_DAYS, 6, _CHUNK_DAYS)).tolist():
                level = 0.85 * level + 0.00025 * draw + 0.00001
                anchors.append(level)
        before, after = anchors[index], anchors[index + 1]
        walk = np.cumsum(normals(words(key, day, 4, MINUTES))) * 0.000008
        walk += before + (after - before - walk[-1]) * _RAMP
        walk[-1] = after
        return before, walk

    def _existing(self, listing: Listing, day: int) -> NDArray[np.bool_]:
        opens = day * DAY_MS + _MINUTE * MINUTE_MS
        exists = (opens >= listing.launch_ms) & (opens < listing.last_ms)
        down = self.downtime(listing.category, day)
        if down is not None:
            exists[down[0] : down[1]] = False
        return exists

    def _quiet(self, listing: Listing, key: KeyArray, day: int) -> NDArray[np.bool_]:
        quiet = np.zeros(MINUTES, dtype=np.bool_)
        for hour, (chance, minute, length, _) in enumerate(words(key, day, 7, 24).tolist()):
            if chance < listing.quiet_hours * 65536:
                first = hour * 60 + minute % 60
                quiet[first : first + 1 + length % 14] = True
        # The last minute closes at the level on which the next day builds.
        quiet[-1] = False
        return quiet


def _bridge(key: KeyArray, day: int, deviation: float, start: float, end: float) -> tuple[FloatArray, FloatArray]:
    """Return each minute's typical move and the log path from one level to the next, with clusters and jumps."""
    hourly = words(key, day, 8, 24)
    cluster = exponential(0.45 * normals(hourly))
    moves = np.repeat(cluster * (deviation / 38.0), 60)
    steps = moves * normals(words(key, day, 9, MINUTES))
    for hour, (chance, minute, size, side) in enumerate(words(key, day, 10, 24).tolist()):
        if chance < 65536 // 100:
            steps[hour * 60 + minute % 60] += (1 if side & 1 else -1) * deviation * (0.2 + size / 131072.0)
    path = np.cumsum(steps)
    path += start + (end - start - path[-1]) * _RAMP
    path[-1] = end
    return moves, path


def _held(units: IntArray, moving: NDArray[np.bool_], before: int) -> IntArray:
    """Return the series with its last moving value held through the minutes that do not move."""
    last = np.maximum.accumulate(np.where(moving, _MINUTE, -1))
    return np.where(last < 0, before, units[last])


def _fair_bars(
    opens_ms: IntArray,
    before: int,
    units: IntArray,
    wicks: IntArray,
    spread: FloatArray | float,
    exists: NDArray[np.bool_],
    *,
    signed: bool,
) -> BarBlock:
    """Return mark, index or premium bars; a premium's open may lie outside its range, as on the exchange."""
    close = _held(units, exists, before)
    first = np.concatenate((np.array([before], dtype=np.int64), close[:-1]))
    top, bottom = (close, close) if signed else (np.maximum(first, close), np.minimum(first, close))
    uniform = wicks / 65536.0
    high = top + np.rint(uniform[:, 0] * uniform[:, 0] * spread).astype(np.int64)
    low = bottom - np.rint(uniform[:, 1] * uniform[:, 1] * spread).astype(np.int64)
    nothing = np.zeros(len(close), dtype=np.int64)
    return BarBlock(opens_ms, first, high, low if signed else np.maximum(low, 1), close, nothing, nothing, exists)
