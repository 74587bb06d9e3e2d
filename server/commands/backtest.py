"""`bst backtest`: a backtest for the eye, with the figures that an MCP client gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.options import feed_option, home_option, json_option, settings_from
from server.commands.output import fail, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from mcp.client import Client

    from server.commands.connection import Answer, OnProgress
    from server.settings import Settings

CURVE_POINTS = 60
TOOLS = ("run_backtest", "get_run", "get_strategy", "start_backfill")


@dataclass(frozen=True, slots=True)
class BacktestOrder:
    """What was asked for on the command line; None leaves a tool's or strategy's own default."""

    symbol: str
    category: str
    interval: str
    strategy: str
    fast_ema: int | None
    slow_ema: int | None
    param: tuple[tuple[str, float], ...]
    start: str | None
    end: str | None
    days: float
    stop_loss: float | None
    take_profit: float | None
    capital: float | None
    leverage: float | None
    fee: float | None
    slippage: float | None

    @property
    def params(self) -> dict[str, float]:
        """Return the strategy's parameters."""
        emas = {"fast": self.fast_ema, "slow": self.slow_ema}
        return {name: value for name, value in emas.items() if value is not None} | dict(self.param)

    @property
    def settings(self) -> dict[str, float]:
        """Return the costs and sizes that were given."""
        given = {
            "capital": self.capital,
            "leverage": self.leverage,
            "taker_fee_percent": self.fee,
            "maker_fee_percent": self.fee,
            "slippage_percent": self.slippage,
        }
        return {name: value for name, value in given.items() if value is not None}


def parse_param(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    """Return `name=number` options as pairs."""
    pairs: list[tuple[str, float]] = []
    for text in values:
        name, equals, number = text.partition("=")
        try:
            pairs.append((name.strip(), float(number)))
        except ValueError:
            equals = ""
        if not equals:
            raise click.BadParameter(f"{text!r} is not NAME=NUMBER")
    return tuple(pairs)


@click.command(
    short_help="Backtest a strategy and print the figures.",
    epilog="\b\nbst backtest BTCUSDT --interval 15 --fast-ema 20 --slow-ema 50 --stop-loss 2 --take-profit 4\n"
    "bst backtest ETHUSDT --strategy rsi_reversal --param period=10 --start 2024-01-01 --end 2024-06-01",
)
@click.argument("symbol")
@click.option("--interval", default="15", show_default=True)
@click.option("--strategy", default="ema_cross", show_default=True, help="Name of a shipped or saved strategy.")
@click.option("--fast-ema", type=click.IntRange(1), help="ema_cross: length of the fast average.")
@click.option("--slow-ema", type=click.IntRange(1), help="ema_cross: length of the slow average.")
@click.option(
    "--param", multiple=True, callback=parse_param, metavar="NAME=NUMBER", help="Strategy parameter; repeatable."
)
@click.option("--start", help="ISO 8601 UTC, inclusive; instead of --days.")
@click.option("--end", help="ISO 8601 UTC, exclusive; default: now.")
@click.option(
    "--days", default=90.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Back from the end."
)
@click.option("--stop-loss", type=click.FloatRange(0, 100), help="Percent from entry; 0 removes the strategy's own.")
@click.option("--take-profit", type=click.FloatRange(0, 1000), help="Percent from entry; 0 removes the strategy's own.")
@click.option("--capital", type=float, help="Starting equity; default 10,000.")
@click.option("--leverage", type=float, help="Default 1.")
@click.option("--fee", type=float, help="Taker and maker fee in percent; default: Bybit's of the category.")
@click.option("--slippage", type=float, help="Percent on market fills; default 0.01.")
@click.option("--category", default="linear", show_default=True, type=click.Choice(["linear", "inverse", "spot"]))
@feed_option
@home_option
@json_option
@telling_errors()
def backtest(feed: str | None, home: Path | None, as_json: bool, **given: Any) -> None:
    """Backtest a strategy on SYMBOL; candles that are missing are fetched first."""
    order = BacktestOrder(**given)
    if order.strategy != "ema_cross" and (order.fast_ema or order.slow_ema):
        raise click.UsageError(
            f"--fast-ema and --slow-ema belong to ema_cross; {order.strategy} takes --param NAME=NUMBER"
        )
    answer, curve = run_until_stopped(run_order(settings_from(feed=feed, home=home), order))
    if answer.is_error:
        fail(answer.document, as_json=as_json)
    if as_json:
        print_json(answer.document)
        return
    from server.commands.report import show_backtest

    show_backtest(answer.document, curve)


async def run_order(settings: Settings, order: BacktestOrder) -> tuple[Answer, list[float]]:
    """Run the backtest through the tools and return its answer and a thinned equity curve."""
    from server.commands.connection import JOB_TOOLS, ask, in_process_client
    from server.commands.progress import progress_bar

    request = request_of(order)
    async with in_process_client(settings, (*TOOLS, *JOB_TOOLS)) as client:
        with progress_bar(f"{order.symbol} {order.interval}") as on_progress:
            if order.stop_loss is not None or order.take_profit is not None:
                found = await ask(client, "get_strategy", {"name": order.strategy})
                if found.is_error:
                    return found, []
                request["strategy"] = with_exits(found.document["document"], order)
            answer = await run_or_fetch(client, request, on_progress)
        if answer.is_error:
            return answer, []
        card = await ask(client, "get_run", {"run_id": answer.document["run_id"], "equity_points": CURVE_POINTS})
        rows = (card.document.get("equity") or {}).get("rows", [])
        return answer, [row[1] for row in rows]


def request_of(order: BacktestOrder) -> dict[str, Any]:
    """Return the arguments of run_backtest."""
    from engine.core.timeframes import parse_interval
    from engine.core.times import iso_utc
    from engine.market.clock import SystemClock
    from server.commands.ranges import range_ms

    interval = parse_interval(order.interval)
    start_ms, end_ms = range_ms(order.start, order.end, order.days, SystemClock().now_ms(), interval)
    return {
        "strategy": order.strategy,
        "params": order.params,
        "symbol": order.symbol,
        "category": order.category,
        "interval": interval,
        "start": iso_utc(start_ms),
        "end": iso_utc(end_ms),
        "settings": order.settings,
    }


def with_exits(document: dict[str, Any], order: BacktestOrder) -> dict[str, Any]:
    """Return the strategy document with other stops; zero takes one away."""
    changed = dict(document)
    for key, percent in (("stop_loss", order.stop_loss), ("take_profit", order.take_profit)):
        if percent is None:
            continue
        changed.pop(key, None)
        if percent > 0:
            changed[key] = {"percent": percent}
    return changed


async def run_or_fetch(client: Client, request: dict[str, Any], on_progress: OnProgress) -> Answer:
    """Run the backtest; when its candles take longer to fetch than a direct answer may, fetch them and run again."""
    from server.commands.connection import ask, await_job

    answer = await ask(client, "run_backtest", request, on_progress)
    missing = answer.is_error and answer.document.get("code") == "data_missing"
    if not missing or "start_backfill" not in answer.document.get("fix", ""):
        return answer
    wanted = {name: request[name] for name in ("symbol", "category", "interval", "start", "end")}
    job = await ask(client, "start_backfill", wanted)
    if job.is_error:
        return job
    fetched = await await_job(client, job.document["job_id"], on_progress)
    return fetched if fetched.is_error else await ask(client, "run_backtest", request, on_progress)
