"""`bst demo`: the main job from end to end through a real MCP client over stdio, offline, on simulated data."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.options import json_option
from server.commands.output import EXIT_ERROR, console_for_people, fail, figure, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from mcp.client import Client
    from rich.console import Console

# A fixed range: the simulated exchange gives everybody the same candles, so everybody sees the same figures.
REQUEST: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "category": "linear",
    "interval": "15",
    "start": "2024-01-01T00:00:00Z",
    "end": "2024-04-01T00:00:00Z",
}
STRATEGY: dict[str, Any] = {"strategy": "ema_cross", "params": {"fast": 20, "slow": 50}}
# `-P`: the server must not take packages from the folder it is started in.
SERVE = ("-P", "-m", "server", "serve")
TRADES_A_PAGE = 100
# Three hundred strategies that toss a coin at every bar: whatever the best of them shows is luck.
COINS: dict[str, Any] = {
    **REQUEST,
    "strategy": "random_entry",
    "grid": {"seed": {"from": 1, "to": 300, "step": 1}},
    "interval": "60",
}
# Sums of a few hundred float64 amounts around 1e4 in another order: far below this, and far below a cent.
MONEY_TOLERANCE = 1e-6

Say = Callable[[str, str], None]


class StepFailed(Exception):
    """A tool answered with an error where the demo needs a result."""

    def __init__(self, tool: str, document: dict[str, Any]) -> None:
        super().__init__(tool)
        self.document = {**document, "message": f"{tool}: {document.get('message', '')}"}


@click.command(short_help="See the whole thing work, offline, in a minute.")
@click.option("--keep", is_flag=True, help="Keep the folder with the demo's database.")
@json_option
@telling_errors()
def demo(keep: bool, as_json: bool) -> None:
    """Run exchange, backfill, backtest, search and verdict through an MCP client that talks to `bst serve` over stdio.

    Needs no network and no key. The candles are simulated, so the figures say nothing about any market.
    """
    home = Path(tempfile.mkdtemp(prefix="bst-demo-"))
    console = console_for_people()

    def say(step: str, outcome: str) -> None:
        if not as_json:
            console.print(f"[green]✓[/green] [bold]{step:<18}[/bold] {outcome}")

    if not as_json:
        console.print("[bold]Bybit Strategy Tester[/bold]: a demo on [yellow]SIMULATED[/yellow] candles, offline")
    try:
        document = run_until_stopped(run_demo(home, say))
    except StepFailed as failure:
        show_server_log(home)
        fail(failure.document, as_json=as_json)
    finally:
        if not keep:
            remove_folder(home)
    if keep:
        document["home"] = str(home)
    if as_json:
        print_json(document)
    else:
        show_outcome(console, document)
    if not document["agrees"]:
        click.echo("error: the trades do not add up to the reported figures", err=True)
        raise click.exceptions.Exit(EXIT_ERROR)


def remove_folder(home: Path) -> None:
    """Remove the demo's folder; Windows may hold a file of the server that just ended a moment longer."""
    import shutil

    shutil.rmtree(home, ignore_errors=True)


def show_server_log(home: Path) -> None:
    """Repeat what the server had to say when a step failed."""
    log = home / "server.log"
    if log.exists():
        click.echo(log.read_text(encoding="utf-8", errors="replace")[-4000:], err=True)


async def run_demo(home: Path, say: Say) -> dict[str, Any]:
    """Start the server as a client would, go through the steps, and check the figures."""
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.shared.exceptions import MCPError

    began = time.monotonic()
    server = StdioServerParameters(
        command=sys.executable,
        args=[*SERVE, "--feed", "simulated", "--home", str(home)],
        cwd=home,
    )
    try:
        with (home / "server.log").open("w", encoding="utf-8") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                outcome = await outcome_of(client, say)
    except* MCPError:
        gone = {
            "code": "unavailable",
            "message": "the server ended before it answered",
            "fix": "`bst doctor` says more",
        }
        outcome = StepFailed("bst serve", gone)
    if isinstance(outcome, StepFailed):
        raise outcome
    return {**outcome, "elapsed_sec": round(time.monotonic() - began, 2)}


async def outcome_of(client: Client, say: Say) -> dict[str, Any] | StepFailed:
    """Return the document, or the failure: raised inside the connection it would arrive wrapped in groups."""
    tools = await client.list_tools()
    say("server", f"bst serve over stdio, MCP {client.protocol_version}, {len(tools.tools)} tools")
    connection = {"transport": "stdio", "protocol_version": client.protocol_version, "tools": len(tools.tools)}
    try:
        return {"mcp": connection, **await run_steps(client, say)}
    except StepFailed as failure:
        return failure


async def run_steps(client: Client, say: Say) -> dict[str, Any]:
    """Go from instrument to trades; each step is one or two tool calls."""
    found = await step(client, "search_instruments", {"query": "BTC"})
    symbols = [row["symbol"] for row in found["items"]]
    say("search_instruments", f"{found['total']} of BTC, among them {', '.join(symbols[:4])}")

    fetched = (await finished(client, "start_backfill", REQUEST))["items"][0]
    say(
        "start_backfill",
        f"{fetched['upserts']:,} candles in {fetched['pages']} pages, {fetched['elapsed_sec']:.1f} s, {fetched['gaps']} gaps",
    )
    strategies = await step(client, "list_strategies", {"limit": 100})
    say("list_strategies", f"{strategies['total']} strategies; taking ema_cross 20/50, stop 2 %, target 4 %")

    result = await step(client, "run_backtest", {**REQUEST, **STRATEGY})
    metrics = result["metrics"]
    say("run_backtest", f"{result['run_id']}: {result['data']['bars']:,} bars, {metrics['trades']} trades")

    trades = await all_trades(client, result["run_id"])
    checks = checked(trades, metrics)
    recomputed = math.fsum(trade["pnl"] for trade in trades)
    say("get_trades", f"{len(trades)} trades add up to {figure(recomputed)}; reported {figure(metrics['net_profit'])}")
    card = await step(client, "get_run", {"run_id": result["run_id"], "equity_points": 60})
    judged = await judge_luck(client, say)
    return {
        "source": result["data"]["source"],
        "backfill": fetched,
        "run": result,
        "equity": [row[1] for row in card["equity"]["rows"]],
        "net_profit_from_trades": recomputed,
        "checks": checks,
        "agrees": all(checks.values()),
        "luck": judged,
    }


async def step(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool and return its result."""
    from server.commands.connection import ask

    answer = await ask(client, tool, arguments)
    if answer.is_error:
        raise StepFailed(tool, answer.document)
    return answer.document


async def finished(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Start a job, wait for it and return its result."""
    from server.commands.connection import await_job

    job = await step(client, tool, arguments)
    answer = await await_job(client, job["job_id"])
    if answer.is_error:
        raise StepFailed("wait_for_job", answer.document)
    return answer.document


async def judge_luck(client: Client, say: Say) -> dict[str, Any]:
    """Let a search find the luckiest coin, and ask for the verdict on it."""
    search = await finished(client, "start_grid_search", COINS)
    best = search["items"][0]
    metrics = best["metrics"]
    say(
        "start_grid_search",
        f"the luckiest of {search['total']} coins: Sharpe {metrics['sharpe']:.2f}, return "
        f"{100 * metrics['total_return']:+.1f} %, {100 * metrics['win_rate']:.0f} % won",
    )
    verdict = await step(client, "get_verdict", {"run_id": best["run_id"]})
    say(
        "get_verdict",
        f"{verdict['verdict']}: luck alone takes the best of {verdict['trials']} trials to {verdict['expected_max_sharpe']:.2f}",
    )
    return {
        "best": best,
        "verdict": verdict["verdict"],
        "trials": verdict["trials"],
        "expected_max_sharpe": verdict["expected_max_sharpe"],
        "failed": [check["name"] for check in verdict["checks"] if check["passed"] is False],
    }


async def all_trades(client: Client, run_id: str) -> list[dict[str, Any]]:
    """Return every trade of a run, page by page."""
    trades: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await step(client, "get_trades", {"run_id": run_id, "limit": TRADES_A_PAGE, "cursor": cursor})
        trades += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return trades


def checked(trades: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> dict[str, bool]:
    """Compare what the trades say with what the result says."""

    def agree(left: float, right: float) -> bool:
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=MONEY_TOLERANCE)

    profits = [profit_of(trade) for trade in trades]
    total = math.fsum(profits)
    return {
        "trades counted": len(trades) == metrics["trades"],
        "each trade's profit follows from its prices, fees and funding": all(
            agree(profit, trade["pnl"]) for profit, trade in zip(profits, trades, strict=True)
        ),
        "net profit": agree(total, metrics["net_profit"]),
        "final equity": agree(metrics["initial_capital"] + total, metrics["final_equity"]),
        "fees": agree(math.fsum(trade["fees"] for trade in trades), metrics["fees_paid"]),
    }


def profit_of(trade: Mapping[str, Any]) -> float:
    """Return a linear contract's profit from its prices: side x quantity x price change, less fees and funding."""
    direction = 1.0 if trade["side"] == "long" else -1.0
    gross = direction * trade["quantity"] * (trade["exit_price"] - trade["entry_price"])
    return gross - trade["fees"] - trade["funding"]


def show_outcome(console: Console, document: dict[str, Any]) -> None:
    """Print the figures and what to do next."""
    import json

    from server.clients import server_command, server_entry
    from server.commands.report import show_backtest

    console.print()
    show_backtest(document["run"], document["equity"], run_is_kept="home" in document)
    mark = "[green]✓[/green]" if document["agrees"] else "[red]✗[/red]"
    names = [name if held else f"{name.upper()} DISAGREES" for name, held in document["checks"].items()]
    console.print(f"{mark} Recomputed from the {document['run']['metrics']['trades']} trades: {'; '.join(names)}")
    luck = document["luck"]
    console.print(f"[green]✓[/green] The luckiest coin is {luck['verdict']}: it fails {', '.join(luck['failed'])}")
    console.print(f"[dim]{document['elapsed_sec']:.1f} s in all[/dim]\n")
    entry = server_entry("claude-desktop", server_command())
    console.print(
        "[bold]Next[/bold]: give it to your agent (bst install-client vscode --write, or claude-desktop, cursor, codex):"
    )
    console.print(json.dumps({"mcpServers": {"bst": entry}}), markup=False, soft_wrap=True)
    console.print("or stay at the keyboard, with Bybit's public data and no key:")
    console.print("  bst backtest BTCUSDT --interval 15 --fast-ema 20 --slow-ema 50", markup=False)
    console.print('  bst call search_instruments \'{"query": "BTC"}\'', markup=False)
    if "home" in document:
        console.print(f"The demo's folder: {document['home']} (--home)", markup=False)
