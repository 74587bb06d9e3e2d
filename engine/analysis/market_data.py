"""The stored candles an analysis looks at: newest bars of a named market, or of the best stored one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.candles import Candles
from engine.core.series import Category, Series
from engine.core.timeframes import Interval, floor_open, next_open, step_ms
from engine.core.times import iso_utc
from engine.errors import DataMissing, LabError
from engine.history import History, Report
from engine.ports import Clock, Feed
from engine.store import CoverageSpan, Store

# Scenario candles made for tests are stored under names that begin with this.
SCENARIO_PREFIX = "SCENARIO-"
MOST_BARS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class MarketData:
    """Candles of one market and where they come from; `notes` says what a reader should know of them."""

    series: Series
    candles: Candles
    source: str
    notes: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """Say which bars these are."""
        return {
            "symbol": self.series.symbol,
            "category": self.series.category,
            "interval": self.series.interval,
            "bars": len(self.candles),
            "first_bar": iso_utc(int(self.candles.ts[0])),
            "last_closed_bar": iso_utc(int(self.candles.ts[-1])),
            "source": self.source,
            "notes": [*self.notes, *source_notes(self.source)],
        }


def source_notes(source: str) -> list[str]:
    """Say what the origin of candles means for what is read from them."""
    return ["simulated data: nothing here says anything about a real market"] if "simulated" in source else []


class MarketReader:
    """Finds and reads candles."""

    def __init__(self, feed: Feed, store: Store, history: History, clock: Clock) -> None:
        self._feed, self._store, self._history, self._clock = feed, store, history, clock

    async def newest(self, series: Series, bars: int, report: Report | None = None) -> MarketData:
        """Return the last closed bars up to now, fetched when that is quick, otherwise the newest stored ones."""
        interval = series.interval
        end_ms = floor_open(interval, self._clock.now_ms())
        start_ms = floor_open(interval, end_ms - bars * step_ms(interval))
        try:
            loaded = await self._history.load(series, start_ms, end_ms, report)
        except LabError as error:
            stored = await self.stored(series, bars, newest=True)
            if stored is None:
                raise
            return MarketData(
                stored.series, stored.candles, stored.source, (f"newest stored bars; up to now: {error.message}",)
            )
        if len(loaded.candles) == 0:
            raise DataMissing(f"there are no candles of {series}", fix="get_coverage shows what is stored")
        notes = [f"{len(loaded.gaps)} gaps"] if loaded.gaps else []
        last_ms = next_open(interval, int(loaded.candles.ts[-1]))
        if last_ms < end_ms:
            notes.append(
                f"bars after {iso_utc(last_ms)} are not to be had: the market was silent, or they are withheld"
            )
        return MarketData(series, loaded.candles, loaded.source, tuple(notes))

    async def stored(self, series: Series, bars: int = MOST_BARS, *, newest: bool = False) -> MarketData | None:
        """Return the end of the longest stored stretch, or of the newest one; None where nothing may be seen."""
        stretches = _joined(await self._store.coverage(series))
        stretches.sort(key=lambda stretch: stretch[1] if newest else stretch[1] - stretch[0], reverse=True)
        for start_ms, end_ms in stretches:
            candles = await self._store.read_candles(series, start_ms, end_ms)
            if len(candles):
                candles = candles.take(slice(max(0, len(candles) - bars), None))
                sources = await self._store.sources(series, int(candles.ts[0]), int(candles.ts[-1]) + 1)
                return MarketData(series, candles, "+".join(sorted(sources)))
        return None

    async def best(
        self,
        *,
        symbol: str | None = None,
        category: Category | None = None,
        interval: Interval | None = None,
        bars: int = MOST_BARS,
    ) -> MarketData | None:
        """Return the stored market with the most bars among those wanted; None when nothing fits."""
        rows = [
            row
            for row in await self._store.list_series(feed=self._feed.name, symbol=symbol)
            if row.series.kind == "trade"
            and row.bars
            and not row.series.symbol.startswith(SCENARIO_PREFIX)
            and category in (None, row.series.category)
            and interval in (None, row.series.interval)
        ]
        for row in sorted(rows, key=lambda one: (-one.bars, str(one.series))):
            found = await self.stored(row.series, bars)
            if found is not None:
                return found
        return None


def _joined(spans: Sequence[CoverageSpan]) -> list[tuple[int, int]]:
    """Return the covered stretches, those that touch joined whoever answered."""
    joined: list[tuple[int, int]] = []
    for span in sorted(spans):
        if joined and span.start_ms <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], span.end_ms))
        else:
            joined.append((span.start_ms, span.end_ms))
    return joined
