"""Stored candles on demand: what is missing is fetched when that is quick, otherwise the answer names the job to start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.backfill import Backfill, BackfillProgress
from engine.candle_files import FileFormat, read_candle_file, write_candle_file
from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.timeframes import count_opens, next_open
from engine.core.times import iso_utc
from engine.errors import BadRequest, DataMissing, Unavailable
from engine.instruments import Instruments
from engine.ports import Clock
from engine.store import CoverageSpan, Store

# 300 pages at 20 requests/s are 15 s; with a slow line they still fit the 45 s a direct answer may take.
INLINE_PAGES = 300
PAGE_BARS = 1_000
INLINE_SECONDS = 38.0
# One transaction of an import: enough to be quick, little enough that other writers get their turn.
IMPORT_BARS = 50_000
# Quality is looked at in parts, so that a long series does not have to fit into memory.
QUALITY_BARS = 500_000

Report = Callable[[float, float | None, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedCandles:
    """Candles of a range with their origin.

    Attributes
    ----------
    source : str
        `bybit`, `simulated`, `replay`, `imported`, or several joined by `+`.
    gaps : tuple of (int, int)
        Stretches inside the range, [start, end) ms, for which the source has no bars.
    fetched_bars : int
        How many of them this call fetched.
    """

    candles: Candles
    source: str
    gaps: tuple[tuple[int, int], ...]
    fetched_bars: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What is stored of one series; gaps are (start, end, bars), oldest first."""

    bars: int
    covered: tuple[CoverageSpan, ...]
    gaps: tuple[tuple[int, int, int], ...]
    revised_bars: int
    flat_bars: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import stored of the range [start_ms, end_ms) of its file."""

    bars: int
    start_ms: int
    end_ms: int
    inserted: int
    revised: int
    gaps: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exported:
    """Where an export lies and what is in it."""

    path: Path
    bars: int
    columns: tuple[str, ...]
    sha256: str
    source: str


class History:
    """Reads candles, fetches what is missing, imports and exports files."""

    def __init__(self, store: Store, backfill: Backfill, instruments: Instruments, clock: Clock) -> None:
        self._store = store
        self._backfill = backfill
        self._instruments = instruments
        self._clock = clock

    async def load(self, series: Series, start_ms: int, end_ms: int, report: Report | None = None) -> LoadedCandles:
        """Return the closed candles that open in [start_ms, end_ms); raises DataMissing when fetching would take long."""
        stored = await self._store.stored_range(series, start_ms, end_ms, only_whole=True)
        fetched = 0
        if stored.missing:
            fetched = await self._fetch(series, start_ms, end_ms, stored.missing, report)
            stored = await self._store.stored_range(series, start_ms, end_ms, only_whole=False)
        spans = tuple((max(gap.start_ms, start_ms), min(gap.end_ms, end_ms)) for gap in stored.gaps)
        return LoadedCandles(stored.candles, "+".join(sorted(stored.sources)), spans, fetched)

    async def _fetch(
        self, series: Series, start_ms: int, end_ms: int, missing: list[tuple[int, int]], report: Report | None
    ) -> int:
        if series.kind == "trade":
            instrument = await self._instruments.find(series.category, series.symbol)
            launch_ms = instrument.launch_ms or 0
            missing = [(max(start, launch_ms), end) for start, end in missing if end > launch_ms]
        bars = sum(count_opens(series.interval, start, end) for start, end in missing)
        if bars > INLINE_PAGES * PAGE_BARS:
            raise self._too_much(series, start_ms, end_ms, bars)

        async def tell(progress: BackfillProgress) -> None:
            if report is not None:
                await report(progress.pages_done, progress.pages_total, progress.message or f"fetching {series}, pages")

        try:
            async with asyncio.timeout(INLINE_SECONDS):
                return (await self._backfill.run(series, start_ms, end_ms, progress=tell)).upserts
        except TimeoutError as error:
            raise self._too_much(series, start_ms, end_ms, bars) from error
        except Unavailable as error:
            error.fix = f"{error.fix}; {await self._stored(series)}"
            raise

    async def _stored(self, series: Series) -> str:
        spans = await self._store.coverage(series)
        if not spans:
            return f"nothing of {series} is stored"
        told = ", ".join(f"{iso_utc(span.start_ms)} to {iso_utc(span.end_ms)}" for span in spans[-3:])
        return f"stored and usable without the exchange: {told}"

    def _too_much(self, series: Series, start_ms: int, end_ms: int, bars: int) -> DataMissing:
        arguments = {
            "symbol": series.symbol,
            "category": series.category,
            "interval": series.interval,
            "start": iso_utc(start_ms),
            "end": iso_utc(end_ms),
        }
        return DataMissing(
            f"{bars} candles of {series} are not stored yet; fetching them takes longer than a direct answer may",
            fix=f"call start_backfill {json.dumps(arguments)}, then wait_for_job until done, then call again",
        )

    async def quality(self, series: Series) -> Quality:
        """Return coverage, gaps and findings of one stored series."""
        covered = await self._store.coverage(series)
        if not covered:
            return Quality(0, (), (), 0, 0)
        start_ms, end_ms = covered[0].start_ms, covered[-1].end_ms
        gaps = await self._store.gaps(series, start_ms, end_ms)
        revised = {revision.ts for revision in await self._store.revisions(series, start_ms, end_ms, limit=100_000)}
        return Quality(
            bars=await self._store.count_bars(series, start_ms, end_ms),
            covered=tuple(covered),
            gaps=tuple(
                (gap.start_ms, gap.end_ms, count_opens(series.interval, gap.start_ms, gap.end_ms)) for gap in gaps
            ),
            revised_bars=len(revised),
            flat_bars=await self._flat_bars(series, start_ms, end_ms),
        )

    async def _flat_bars(self, series: Series, start_ms: int, end_ms: int) -> int:
        flat, at = 0, start_ms
        span = QUALITY_BARS * (next_open(series.interval, start_ms) - start_ms)
        while at < end_ms:
            part = await self._store.read_candles(series, at, min(at + span, end_ms))
            flat += int(np.count_nonzero((part.high == part.low) & (part.volume == 0)))
            at += span
        return flat

    async def import_file(self, series: Series, path: str, report: Report | None = None) -> Imported:
        """Store the candles of a file; all rows are checked before the first is stored."""
        candles = await asyncio.to_thread(_read, path, series)
        last_close_ms = next_open(series.interval, int(candles.ts[-1]))
        if last_close_ms > self._clock.now_ms():
            raise BadRequest(
                f"the last bar closes at {iso_utc(last_close_ms)}, which is in the future",
                fix="import closed bars only; check the unit and zone of the times",
            )
        inserted = revised = 0
        for row in range(0, len(candles), IMPORT_BARS):
            part = candles.take(slice(row, row + IMPORT_BARS))
            after = row + IMPORT_BARS
            end_ms = int(candles.ts[after]) if after < len(candles) else next_open(series.interval, int(part.ts[-1]))
            receipt = await self._store.commit_page(
                series,
                part,
                start_ms=int(part.ts[0]),
                end_ms=end_ms,
                source="imported",
                at_ms=self._clock.now_ms(),
            )
            inserted, revised = inserted + receipt.inserted, revised + receipt.revised
            if report is not None:
                await report(row + len(part), len(candles), "bars stored")
        start_ms, end_ms = int(candles.ts[0]), next_open(series.interval, int(candles.ts[-1]))
        gaps = await self._store.gaps(series, start_ms, end_ms)
        return Imported(len(candles), start_ms, end_ms, inserted, revised, len(gaps), candles.sha256())

    async def export_file(
        self, series: Series, start_ms: int, end_ms: int, file_format: FileFormat, folder: Path
    ) -> Exported | None:
        """Write stored candles to a file in the folder; None when nothing is stored in the range."""
        candles = await self._store.read_candles(series, start_ms, end_ms)
        if len(candles) == 0:
            return None
        sources = await self._store.sources(series, start_ms, end_ms)
        first, last = (iso_utc(int(at))[:16].replace(":", "") for at in (candles.ts[0], candles.ts[-1]))
        path = folder / f"{series.symbol}_{series.category}_{series.interval}_{first}_{last}.{file_format}"
        columns = await asyncio.to_thread(write_candle_file, path, candles, file_format)
        return Exported(path, len(candles), tuple(columns), candles.sha256(), "+".join(sorted(sources)))


def _read(path: str, series: Series) -> Candles:
    return read_candle_file(Path(path).expanduser(), series.interval)
