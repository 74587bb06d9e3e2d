"""A backtest as a person reads it: figures, curve, and what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from server.commands.output import console_for_people, figure
from server.commands.sparkline import sparkline

if TYPE_CHECKING:
    from rich.table import Table

# Label, metric, and whether it is a fraction shown in percent.
ROWS = (
    ("Initial capital", "initial_capital", False),
    ("Final capital", "final_equity", False),
    ("Net profit", "net_profit", False),
    ("Return", "total_return", True),
    ("Buy and hold", "buy_and_hold_return", True),
    ("Trades", "trades", False),
    ("Win rate", "win_rate", True),
    ("Profit factor", "profit_factor", False),
    ("Expectancy a trade", "expectancy", False),
    ("Sharpe", "sharpe", False),
    ("Sortino", "sortino", False),
    ("Max drawdown", "max_drawdown", True),
    ("Time in market", "exposure", True),
    ("Fees paid", "fees_paid", False),
    ("Funding paid", "funding_paid", False),
)


def show_backtest(result: dict[str, Any], curve: Sequence[float], *, run_is_kept: bool = True) -> None:
    """Print a result of run_backtest; the run's id only where it can be found again."""
    from rich.markup import escape

    console = console_for_people()
    strategy, data = result["strategy"], result["data"]
    params = ", ".join(f"{name} {value:g}" for name, value in strategy["params"].items())
    console.print(
        f"[bold]{strategy['name']}[/bold] ({params}) on {data['symbol']} {data['category']} {data['interval']}"
    )
    for line in result.get("warnings", []):
        console.print(f"[yellow]! {escape(line)}[/yellow]")
    console.print(metrics_table(result["metrics"], result.get("undefined", {})))
    if curve:
        console.print(f"Equity  {sparkline(curve, console.encoding)}  {figure(curve[0])} → {figure(curve[-1])}")
    console.print(
        f"[dim]Data: {data['source']}, {data['start']} to {data['end']} (exclusive), {data['bars']:,} bars, "
        f"sha256 {data['sha256'][:12]}[/dim]"
    )
    for line in result.get("assumptions", []):
        console.print(f"[dim]· {escape(line)}[/dim]")
    if run_is_kept:
        console.print(f"Run: [bold]{result['run_id']}[/bold] (get_trades lists its trades)")


def metrics_table(metrics: dict[str, Any], undefined: dict[str, str]) -> Table:
    """Return the figures in the order a trader asks for them; one that is undefined says why."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for label, name, percent in ROWS:
        if name in metrics:
            table.add_row(label, figure(metrics[name], percent=percent), undefined.get(name, ""))
    return table
