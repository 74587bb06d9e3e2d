"""`bst backfill`: fetch candles in the foreground."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.options import feed_option, home_option, json_option, settings_from
from server.commands.output import EXIT_INTERRUPTED, console_for_people, figure, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from engine.backfill import BackfillProgress, BackfillReport
    from engine.core.series import Category
    from server.commands.connection import OnProgress
    from server.lab_server import LabServer
    from server.settings import Settings
    from tools.lab import Lab


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """What was asked for on the command line."""

    symbol: str
    category: Category
    interval: str
    start: str | None
    end: str | None
    days: float
    page: int
    max_pages: int | None
    recheck_gaps: bool


@click.command(short_help="Fetch candles into the store.")
@click.argument("symbol")
@click.option(
    "--interval", default="1", show_default=True, help="1 3 5 15 30 60 120 240 360 720 D W M, or 15m, 4h, ..."
)
@click.option(
    "--days", default=7.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Back from the end."
)
@click.option("--start", help="ISO 8601 UTC, inclusive; instead of --days.")
@click.option("--end", help="ISO 8601 UTC, exclusive; default: now.")
@click.option("--category", default="linear", show_default=True, type=click.Choice(["linear", "inverse", "spot"]))
@click.option("--page", default=1000, show_default=True, type=click.IntRange(1, 1000), help="Candles a request.")
@click.option("--max-pages", type=click.IntRange(1), help="Stop after so many requests.")
@click.option("--recheck-gaps", is_flag=True, help="Ask again for known gaps.")
@feed_option
@home_option
@json_option
@telling_errors()
def backfill(feed: str | None, home: Path | None, as_json: bool, **given: Any) -> None:
    """Fetch what is missing of SYMBOL's candles; what is stored already is not asked for again.

    Ctrl-C at any moment is safe: the same command later goes on from the last stored page.
    """
    order = BackfillOrder(**given)
    try:
        report = run_until_stopped(run_backfill(settings_from(feed=feed, home=home), order))
    except KeyboardInterrupt:
        click.echo("stopped; fetched pages are stored, and the same command goes on from there", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    document = report_document(report)
    if as_json:
        print_json(document)
    else:
        show_report(document)


async def run_backfill(settings: Settings, order: BackfillOrder) -> BackfillReport:
    """Open the lab, fetch with a progress bar on stderr, and close it again."""
    from engine.core.series import Series, clean_symbol
    from engine.core.timeframes import parse_interval
    from server.assembly import close_lab, open_lab
    from server.commands.progress import progress_bar
    from server.commands.ranges import range_ms
    from server.logs import configure_logging

    configure_logging(settings.log_level)
    interval = parse_interval(order.interval)
    symbol = clean_symbol(order.symbol)

    def serve(lab: Lab) -> LabServer:
        from server.mcp_app import serve_lab  # the SDK is only for a pipeline that goes on here

        return serve_lab(settings)(lab)

    lab = await open_lab(settings, serve)
    try:
        now_ms = await lab.feed.server_time_ms()
        start_ms, end_ms = range_ms(order.start, order.end, order.days, now_ms, interval)
        await lab.instruments.find(order.category, symbol)
        series = Series(lab.feed.name, order.category, symbol, "trade", interval)
        with progress_bar(f"{symbol} {interval}") as on_progress:
            return await lab.backfill.run(
                series,
                start_ms,
                end_ms,
                page=order.page,
                max_pages=order.max_pages,
                recheck_gaps=order.recheck_gaps,
                progress=moving(on_progress),
            )
    finally:
        await close_lab(lab)


def moving(on_progress: OnProgress) -> Any:
    """Return the backfill's callback: pages move the bar, rate and waiting stand beside it."""

    async def tell(progress: BackfillProgress) -> None:
        note = progress.message or f"{progress.rows:,} candles, {progress.rows_per_second:,.0f}/s"
        await on_progress(progress.pages_done, progress.pages_total, note)

    return tell


def report_document(report: BackfillReport) -> dict[str, Any]:
    """Return the report as JSON values, times as ISO 8601 UTC."""
    from dataclasses import asdict

    from engine.core.times import iso_utc

    fields = asdict(report)
    start_ms, end_ms = fields.pop("start_ms"), fields.pop("end_ms")
    fields["elapsed_sec"] = round(report.elapsed_sec, 3)
    fields["rows_per_sec"] = round(report.rows_per_sec, 1)
    return {**fields, "start": iso_utc(start_ms), "end": iso_utc(end_ms)}


def show_report(document: dict[str, Any]) -> None:
    """Print the report for a person."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in document.items():
        table.add_row(name, figure(value, digits=1) if not isinstance(value, str) else value)
    console_for_people().print(table)
    if not document["complete"]:
        click.echo("not complete: run the same command again, it goes on from here", err=True)
