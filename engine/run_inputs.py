"""What a run needs beside its candles: funding, mark prices, maintenance tiers, minutes; fetched, or named as missing."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.expressions.nodes import EXTRA_SERIES
from engine.core.market_detail import NO_DETAIL, MarketDetail, lay_beside
from engine.core.markets import FundingRate, OpenInterest, RiskTier
from engine.core.perpetual import MarginTier, Settlements, margin_tiers
from engine.core.resample import close_times, spread
from engine.core.run_settings import RunSettings
from engine.core.series import Series, Source
from engine.core.timeframes import Interval, ceil_open, next_open
from engine.core.times import iso_utc
from engine.errors import BadRequest, DataMissing, LabError
from engine.history import History, Report
from engine.ports import Clock, Feed, SampleInterval
from engine.store import Store
from engine.store.point_store import Point, PointSeries

# A run on stored candles must not hang on an exchange that cannot be reached.
PATIENCE_S = 20.0
# The longest time between settlements Bybit uses; a longer one means that history is missing.
LONGEST_FUNDING_MS = 8 * 3_600_000
TIERS_FRESH_MS = 24 * 3_600_000
# Settlements happen on full hours, so hourly mark candles open at each of them.
SETTLEMENT_MARKS: Interval = "60"
MOST_POINTS = 200_000
# Finer samples would be a hundred pages a month; an older value than this is not known to hold.
INTEREST_SAMPLES: SampleInterval = "1h"
OLDEST_INTEREST_MS = 4 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """Everything beside the candles, and what is to be said about it.

    Attributes
    ----------
    detail : MarketDetail
    extras : dict of str to ndarray of float64, shape (n,)
        Series of the strategy language besides the candles, as known at each bar's close.
    tiers : tuple of MarginTier
        Empty: no liquidation price.
    described : dict
        What goes into the manifest: hashes and tiers, so that a later run can tell whether it has the same.
    assumptions, warnings : list of str
    unmodelled : dict of str to str
        Metrics that cannot be known, with the reason.
    """

    detail: MarketDetail = NO_DETAIL
    extras: dict[str, FloatColumn] = field(default_factory=dict[str, FloatColumn])
    tiers: tuple[MarginTier, ...] = ()
    described: dict[str, object] = field(default_factory=dict[str, object])
    assumptions: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    unmodelled: dict[str, str] = field(default_factory=dict[str, str])


class RunInputSource:
    """Gathers the inputs of runs; what is stored is not asked for again."""

    def __init__(self, feed: Feed, store: Store, history: History, clock: Clock) -> None:
        self._feed = feed
        self._store = store
        self._history = history
        self._clock = clock

    async def gather(
        self,
        series: Series,
        candles: Candles,
        settings: RunSettings,
        *,
        minutes: bool = False,
        stored_tiers: tuple[MarginTier, ...] | None = None,
        closing_settlement: bool = True,
        report: Report | None = None,
    ) -> RunInputs:
        """Return funding, marks, tiers and, when asked for, minutes of the candles' range.

        With the tiers of a stored run nothing is fetched, so that it is judged against what it rested on. A settlement at
        the close of the last bar is left out when a seal begins there, or when the stored run went without it.
        """
        stored_only = stored_tiers is not None
        if series.category == "spot":
            loaded = await self._minutes(series, candles, report) if minutes else None
            detail = lay_beside(candles, series.interval, minutes=loaded)
            return RunInputs(
                detail, {}, (), _minutes_described(loaded), [], [], {"funding_paid": "spot has no funding"}
            )
        close_ms = next_open(series.interval, int(candles.ts[-1]))
        withheld = await self._store.withheld(series.feed, series.category, series.symbol)
        closing = closing_settlement and (withheld is None or close_ms < withheld.from_ms)
        found = _Found(end_ms=close_ms + 1 if closing else close_ms)
        try:
            async with asyncio.timeout(None if stored_only else PATIENCE_S):
                if settings.funding:
                    found.settlements = await self._settlements(series, candles, found, stored_only)
                if settings.leverage > 1:
                    found.mark = await self._mark(series, series.interval, candles, found.end_ms, stored_only)
                found.tiers = await self._tiers(series) if stored_tiers is None else stored_tiers
        except (LabError, TimeoutError) as error:
            found.failure = error.message if isinstance(error, LabError) else "the exchange did not answer in time"
        if minutes:
            found.minutes = await self._minutes(series, candles, report)
        return _inputs_of(found, series, candles, settings)

    async def extras(self, series: Series, candles: Candles, names: Collection[str]) -> dict[str, FloatColumn]:
        """Return the columns of the named series that are not candles; raises when one cannot be had."""
        wanted = [name for name in EXTRA_SERIES if name in names]
        if wanted and series.category == "spot":
            raise BadRequest(f"spot has no {wanted[0]}", fix="use category linear or inverse, or leave it out")
        return {name: await self._extra(series, candles, name) for name in wanted}

    async def _extra(self, series: Series, candles: Candles, name: str) -> FloatColumn:
        closes = close_times(series.interval, candles.ts)
        if name == "funding_rate":
            points = await self._points(series, "funding", int(candles.ts[0]) - LONGEST_FUNDING_MS, int(closes[-1]) + 1)
            return _known_at(closes, [(point.at_ms, point.rate) for point in cast("list[FundingRate]", points)])
        points = await self._points(series, "open_interest", int(candles.ts[0]) - OLDEST_INTEREST_MS, int(closes[-1]))
        samples = [(point.at_ms, point.value) for point in cast("list[OpenInterest]", points)]
        # A sample is published a moment after its time: at a close only those before it are known.
        return _known_at(closes - 1, samples, oldest_ms=OLDEST_INTEREST_MS)

    async def _points(
        self, series: Series, kind: Literal["funding", "open_interest"], start_ms: int, end_ms: int
    ) -> list[Point]:
        sample = INTEREST_SAMPLES if kind == "open_interest" else ""
        key = PointSeries(series.feed, series.category, series.symbol, kind, sample)
        for low, high in await self._store.missing_points(key, start_ms, end_ms):
            await self._fetch_points(key, low, min(high, await self._now_ms()))
        points = await self._store.read_points(key, start_ms, end_ms)
        if not points:
            name = kind.replace("_", " ")
            raise DataMissing(
                f"there is no {name} history of {series.symbol} in that range",
                fix=f"choose a range in which the exchange has {name} history, or leave it out",
            )
        return points

    async def _settlements(
        self, series: Series, candles: Candles, found: _Found, stored_only: bool
    ) -> Settlements | None:
        start_ms, end_ms = int(candles.ts[0]), found.end_ms
        key = PointSeries(series.feed, series.category, series.symbol, "funding")
        if not stored_only:
            for low, high in await self._store.missing_points(key, start_ms, end_ms):
                await self._fetch_points(key, low, min(high, await self._now_ms()))
        points = cast("list[FundingRate]", await self._store.read_points(key, start_ms, end_ms))
        found.funding_holes = _holes([point.at_ms for point in points], start_ms, end_ms)
        if not points:
            return None
        marks = await self._mark(series, SETTLEMENT_MARKS, candles, end_ms, stored_only)
        ts = np.array([point.at_ms for point in points], np.int64)
        rates = np.array([point.rate for point in points])
        prices, exact = _prices_at(ts, marks, candles)
        found.settlements_on_trades = int(np.count_nonzero(~exact))
        return Settlements(ts, rates, prices)

    async def _now_ms(self) -> int:
        return await self._feed.server_time_ms()

    async def _fetch_points(self, key: PointSeries, start_ms: int, end_ms: int) -> None:
        if start_ms >= end_ms:
            return
        window = (key.category, key.symbol)
        points: Sequence[Point]
        if key.kind == "funding":
            points = await self._feed.funding_history(*window, start_ms, end_ms, MOST_POINTS)
        else:
            points = await self._feed.open_interest(*window, INTEREST_SAMPLES, start_ms, end_ms, MOST_POINTS)
        # An answer without a single point is no knowledge of a market that has them; it is asked for again.
        if points:
            source = cast("Source", getattr(self._feed, "source", key.feed))
            await self._store.save_points(key, points, start_ms=start_ms, end_ms=end_ms, source=source)

    async def _mark(
        self, series: Series, interval: Interval, candles: Candles, end_ms: int, stored_only: bool
    ) -> Candles:
        marks = Series(series.feed, series.category, series.symbol, "mark", interval)
        start_ms = ceil_open(interval, int(candles.ts[0]))
        end_ms = ceil_open(interval, end_ms)
        if stored_only:
            return await self._store.read_candles(marks, start_ms, end_ms)
        return (await self._history.load(marks, start_ms, end_ms)).candles

    async def _tiers(self, series: Series) -> tuple[MarginTier, ...]:
        name = (series.feed, series.category, series.symbol)
        known = await self._store.risk_tiers(*name)
        if known is not None and self._clock.now_ms() - known.at_ms < TIERS_FRESH_MS:
            return _as_margin(known.tiers)
        tiers = tuple(await self._feed.risk_tiers(series.category, series.symbol))
        await self._store.save_risk_tiers(*name, tiers, self._clock.now_ms())
        return _as_margin(tiers)

    async def _minutes(self, series: Series, candles: Candles, report: Report | None) -> Candles:
        if series.interval == "1":
            return candles
        end_ms = next_open(series.interval, int(candles.ts[-1]))
        minutes = Series(series.feed, series.category, series.symbol, "trade", "1")
        loaded = await self._history.load(minutes, int(candles.ts[0]), end_ms, report)
        if len(loaded.candles) == 0:
            raise DataMissing(
                f"there are no 1-minute candles of {series.symbol} to look inside the bars with",
                fix='import or fetch interval 1 for the same range, or use intrabar "pessimistic"',
            )
        return loaded.candles


@dataclass(slots=True)
class _Found:
    """What was found so far; `end_ms` is where settlements and marks end."""

    end_ms: int
    settlements: Settlements | None = None
    settlements_on_trades: int = 0
    funding_holes: list[tuple[int, int]] = field(default_factory=list["tuple[int, int]"])
    mark: Candles | None = None
    tiers: tuple[MarginTier, ...] = ()
    minutes: Candles | None = None
    failure: str | None = None


def tiers_from_manifest(described: object) -> tuple[MarginTier, ...]:
    """Return the tiers a stored run used."""
    rows = cast("list[list[float | None]]", described or [])
    return tuple(
        MarginTier(float(limit or 0), float(share or 0), float(less or 0), math.inf if most is None else most)
        for limit, share, less, most in rows
    )


def _as_margin(tiers: tuple[RiskTier, ...]) -> tuple[MarginTier, ...]:
    return margin_tiers(tiers) if tiers else ()


def _tier_row(tier: MarginTier) -> list[float | None]:
    most = None if math.isinf(tier.max_leverage) else tier.max_leverage
    return [tier.limit_value, tier.maintenance_fraction, tier.deduction, most]


def _inputs_of(found: _Found, series: Series, candles: Candles, settings: RunSettings) -> RunInputs:
    inverse = series.category == "inverse"
    detail = lay_beside(
        candles,
        series.interval,
        settlements=found.settlements,
        mark=found.mark if found.mark is not None and len(found.mark) else None,
        minutes=found.minutes,
        inverse=inverse,
    )
    described: dict[str, object] = {
        "funding_sha256": None if found.settlements is None else _settlements_sha256(found.settlements),
        "mark_sha256": None if detail.mark is None or found.mark is None else found.mark.sha256(),
        "tiers": [_tier_row(tier) for tier in found.tiers],
        **_minutes_described(found.minutes),
    }
    assumptions: list[str] = []
    warnings: list[str] = []
    unmodelled: dict[str, str] = {}
    _tell_funding(found, settings, assumptions, warnings, unmodelled)
    _tell_margin(found, settings, detail, assumptions, warnings)
    if found.end_ms <= next_open(series.interval, int(candles.ts[-1])):
        described["closing_settlement"] = False
        assumptions.append("a settlement at the end of the range is not charged: the sealed holdout begins there")
    if found.failure is not None:
        warnings.append(f"the exchange could not be asked for all a run needs: {found.failure}")
    return RunInputs(detail, {}, found.tiers, described, assumptions, warnings, unmodelled)


def _tell_funding(
    found: _Found, settings: RunSettings, assumptions: list[str], warnings: list[str], unmodelled: dict[str, str]
) -> None:
    if not settings.funding:
        unmodelled["funding_paid"] = "funding was switched off in the settings"
        assumptions.append("funding is not charged, as the settings ask")
        return
    if found.settlements is None:
        unmodelled["funding_paid"] = "no funding history is to be had for this range"
        warnings.append("funding is not charged: no funding history is to be had for this range")
        return
    assumptions.append(f"{len(found.settlements)} recorded funding settlements charged on the mark price")
    if found.settlements_on_trades:
        warnings.append(f"{found.settlements_on_trades} settlements have no mark candle and use the trade price")
    if found.funding_holes:
        first, last = found.funding_holes[0], found.funding_holes[-1]
        warnings.append(
            f"funding history is missing in {len(found.funding_holes)} stretches between {iso_utc(first[0])} and "
            f"{iso_utc(last[1])}; nothing is charged there"
        )


def _tell_margin(
    found: _Found, settings: RunSettings, detail: MarketDetail, assumptions: list[str], warnings: list[str]
) -> None:
    if not found.tiers:
        warnings.append("liquidation is not simulated: no maintenance tiers are known for this symbol")
        return
    trigger = "mark price" if detail.mark is not None else "trade price (mark candles are used above leverage 1)"
    assumptions.append(
        f"isolated margin at leverage {settings.leverage:g}, liquidation on the {trigger} with today's maintenance tiers"
    )
    if detail.missing_mark_bars:
        warnings.append(f"{detail.missing_mark_bars} bars have no mark candle and use the trade price")


def _holes(times: list[int], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """Return stretches longer than any funding interval without a settlement."""
    edges = [start_ms, *times, end_ms]
    return [(low, high) for low, high in pairwise(edges) if high - low > LONGEST_FUNDING_MS + 60_000]


def _prices_at(ts: TimeColumn, marks: Candles, candles: Candles) -> tuple[FloatColumn, NDArray[np.bool_]]:
    """Return the mark price at each settlement, and where it is one; elsewhere the trade price of that time stands in."""
    rows = np.clip(np.searchsorted(candles.ts, ts, side="right") - 1, 0, len(candles) - 1)
    at_open = candles.ts[rows] == ts
    prices = np.where(at_open, candles.open[rows], candles.close[rows])
    if len(marks) == 0:
        return prices, np.zeros(len(ts), np.bool_)
    marked = np.minimum(np.searchsorted(marks.ts, ts), len(marks) - 1)
    exact = marks.ts[marked] == ts
    return np.where(exact, marks.open[marked], prices), exact


def _known_at(times: TimeColumn, points: Sequence[tuple[int, float]], oldest_ms: int | None = None) -> FloatColumn:
    """Return the last value at or before each time (shape of `times`); NaN where there is none, or none young enough."""
    at_ms = np.array([time for time, _ in points], np.int64)
    rows = np.searchsorted(at_ms, times, side="right") - 1
    values = spread(np.array([value for _, value in points]), rows)
    if oldest_ms is not None:
        values[times - at_ms[np.maximum(rows, 0)] > oldest_ms] = np.nan
    return values


def _settlements_sha256(settlements: Settlements) -> str:
    digest = hashlib.sha256(settlements.ts.astype("<i8").tobytes())
    digest.update(settlements.rate.astype("<f8").tobytes())
    digest.update(settlements.mark_price.astype("<f8").tobytes())
    return digest.hexdigest()


def _minutes_described(minutes: Candles | None) -> dict[str, object]:
    return {"minutes_sha256": None if minutes is None else minutes.sha256()}
