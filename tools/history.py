"""What is stored: fetching, coverage, import and export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from engine.core.series import CandleKind, Series, clean_symbol
from engine.core.times import iso_utc, parse_range_ms
from engine.errors import NotFound
from tools.arguments import Bar, Cursor, End, Market, Start, Symbol, next_cursor, offset_of
from tools.declare import LabHandle, ProgressHandle, tool
from tools.withholding import WithheldPart, withheld_part


class JobHandle(BaseModel):
    """Background work that was started, or that was under way already."""

    job_id: str
    state: str
    next: str


@tool("writes", core=True, asks_exchange=True, task=True)
async def start_backfill(
    symbol: Symbol,
    interval: Bar,
    start: Start,
    end: End,
    category: Market = "linear",
    kind: Annotated[CandleKind, Field(description="Prices")] = "trade",
    page: Annotated[int, Field(ge=10, le=1000, description="Bars a request")] = 1000,
    max_pages: Annotated[int | None, Field(ge=1, le=100_000, description="Requests at most")] = None,
    recheck_gaps: Annotated[bool, Field(description="Ask again for known gaps")] = False,
    *,
    lab: LabHandle,
) -> JobHandle:
    """Fetch a range of candles from Bybit into the store, as a job that survives a restart.

    Only what is missing is fetched. Follow it with wait_for_job.
    """
    from engine.jobs import backfill_request  # pulls the database library, which tools/list must not wait for

    name = clean_symbol(symbol)
    start_ms, end_ms = parse_range_ms(start, end)
    await lab.instruments.find(category, name)
    series = Series(lab.feed.name, category, name, kind, interval)
    request = backfill_request(series, start_ms, end_ms, page=page, max_pages=max_pages, recheck_gaps=recheck_gaps)
    job = await lab.jobs.submit("backfill", request)
    return JobHandle(job_id=job.id, state=job.state, next=f'wait_for_job {{"job_id":"{job.id}"}}')


class SpanRow(BaseModel):
    """One stored stretch."""

    start: str
    end: str
    source: str


class GapRow(BaseModel):
    """One stretch the source has no bars for."""

    start: str
    end: str
    bars: int


class SeriesCoverage(BaseModel):
    """What is stored of one series."""

    symbol: str
    category: str
    interval: str
    kind: str
    bars: int
    covered: list[SpanRow]
    gaps: list[GapRow] = Field(description="Newest first, at most 20")
    gap_count: int
    revised_bars: int = Field(description="Closed bars the exchange changed later; the latest values hold")
    flat_bars: int = Field(description="Bars without volume and movement")


class CoveragePage(BaseModel):
    """Stored series."""

    items: list[SeriesCoverage]
    total: int
    next_cursor: str | None


@tool("reads", core=True)
async def get_coverage(
    symbol: Annotated[str | None, Field(max_length=40, description="Only this symbol")] = None,
    category: Annotated[Literal["linear", "inverse", "spot"] | None, Field(description="Only this market type")] = None,
    interval: Annotated[str | None, Field(max_length=3, description="Only this interval")] = None,
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> CoveragePage:
    """Show which candles are stored, their gaps and quality findings."""
    name = clean_symbol(symbol) if symbol else None
    stored = await lab.store.list_series(feed=lab.feed.name)
    wanted = [
        series
        for series in (summary.series for summary in stored)
        if name in (None, series.symbol) and category in (None, series.category) and interval in (None, series.interval)
    ]
    offset = offset_of(cursor)
    shown = wanted[offset : offset + limit]
    items = [await _coverage_of(lab, series) for series in shown]
    return CoveragePage(items=items, total=len(wanted), next_cursor=next_cursor(offset, len(shown), len(wanted)))


async def _coverage_of(lab: LabHandle, series: Series) -> SeriesCoverage:
    report = await lab.history.quality(series)
    return SeriesCoverage(
        symbol=series.symbol,
        category=series.category,
        interval=series.interval,
        kind=series.kind,
        bars=report.bars,
        covered=[
            SpanRow(start=iso_utc(span.start_ms), end=iso_utc(span.end_ms), source=span.source)
            for span in report.covered
        ],
        gaps=[GapRow(start=iso_utc(start), end=iso_utc(end), bars=bars) for start, end, bars in report.gaps[::-1][:20]],
        gap_count=len(report.gaps),
        revised_bars=report.revised_bars,
        flat_bars=report.flat_bars,
    )


class ImportReport(BaseModel):
    """What an import stored."""

    symbol: str
    category: str
    interval: str
    bars: int
    start: str
    end: str
    inserted: int
    revised: int | None = Field(description="null: sealed bars are not told apart")
    gaps: int
    sha256: str
    source: str = "imported"
    withheld: WithheldPart | None = None


@tool("writes")
async def import_candles(
    path: Annotated[
        str, Field(min_length=1, max_length=1000, description="CSV, CSV.GZ or Parquet file on this machine")
    ],
    symbol: Symbol,
    interval: Bar,
    category: Market = "linear",
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> ImportReport:
    """Store candles from a file: columns time (ms UTC or ISO 8601), open, high, low, close, volume, optional turnover.

    `ts`, `timestamp` and `open_time` are accepted names of time. All rows are checked before any is stored.
    """
    series = Series(lab.feed.name, category, clean_symbol(symbol), "trade", interval)
    outcome = await lab.history.import_file(series, path, progress)
    return ImportReport(
        symbol=series.symbol,
        category=category,
        interval=interval,
        bars=outcome.bars,
        start=iso_utc(outcome.start_ms),
        end=iso_utc(outcome.end_ms),
        inserted=outcome.inserted,
        revised=outcome.revised,
        gaps=outcome.gaps,
        sha256=outcome.sha256,
        withheld=withheld_part(outcome.withheld),
    )


class ExportReport(BaseModel):
    """Where an export was written."""

    path: str
    bytes: int
    bars: int
    columns: list[str]
    sha256: str = Field(description="Of the candles, as run_backtest states it")
    source: str
    withheld: WithheldPart | None = None


@tool("writes")
async def export_candles(
    symbol: Symbol,
    interval: Bar,
    start: Start,
    end: End,
    category: Market = "linear",
    format: Annotated[Literal["csv", "parquet"], Field(description="File format")] = "csv",  # noqa: A002 - the word a caller expects
    *,
    lab: LabHandle,
) -> ExportReport:
    """Write stored candles to a file in the exports folder of BST_HOME. Fetches nothing."""
    series = Series(lab.feed.name, category, clean_symbol(symbol), "trade", interval)
    start_ms, end_ms = parse_range_ms(start, end)
    outcome = await lab.history.export_file(series, start_ms, end_ms, format, lab.home / "exports")
    if outcome is None:
        raise NotFound(
            f"nothing of {series} is stored between {start} and {end}", fix="get_coverage shows what is stored"
        )
    return ExportReport(
        path=str(outcome.path),
        bytes=outcome.path.stat().st_size,
        bars=outcome.bars,
        columns=list(outcome.columns),
        sha256=outcome.sha256,
        source=outcome.source,
        withheld=withheld_part(outcome.withheld),
    )
