"""Pictures of a stored run: candles with fills, equity and drawdown; months."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from engine.backtests.computation import Outcome
from engine.core.candles import Candles
from engine.core.metrics import daily_marks
from engine.core.timeframes import Interval
from engine.core.trades import Trades
from engine.errors import BadRequest

ChartKind = Literal["run", "monthly_returns"]


def draw(run_id: str, outcome: Outcome, candles: Candles, kind: ChartKind, range_ms: tuple[int, int] | None) -> bytes:
    """Return a PNG of the run, or of a part of it."""
    from engine import charts  # matplotlib takes a second to import; only a picture pays for it

    result = outcome.result
    data, strategy = result["data"], result["strategy"]
    params = ", ".join(f"{name} {value:g}" for name, value in strategy["params"].items())
    caption = charts.Caption(
        title=f"{strategy['name']} ({params}) on {data['symbol']} {data['category']} {data['interval']}",
        subtitle=f"{run_id}, source {data['source']}, {data['first_bar']} to {data['last_bar']} UTC, {data['bars']} bars",
        simulated="simulated" in data["source"],
    )
    equity = outcome.simulation.equity
    if kind == "monthly_returns":
        months, returns = _monthly(candles, equity, data["interval"], result["metrics"]["initial_capital"])
        return charts.draw_monthly_returns(months, returns, caption)
    trades = outcome.simulation.trades
    if outcome.shared is not None:
        # Fills at the prices of several symbols have no place among the candles of their basket.
        trades = Trades(**{name: getattr(trades, name)[:0] for name in Trades.__slots__})
        caption = replace(caption, subtitle=f"basket of equal parts, no fills; {caption.subtitle}")
    if range_ms is not None:
        candles, trades, equity = _part(candles, trades, equity, range_ms)
    return charts.draw_run(candles, trades, equity, caption)


def _part(candles: Candles, trades: Trades, equity: Any, range_ms: tuple[int, int]) -> tuple[Candles, Trades, Any]:
    low, high = (int(row) for row in np.searchsorted(candles.ts, range_ms))
    if low >= high:
        raise BadRequest("the run has no bars in that range", fix="get_run shows first_bar and last_bar")
    inside = (trades.entry_bar >= low) & (trades.exit_bar < high)
    columns = {name: getattr(trades, name)[inside] for name in type(trades).__slots__}
    for name in ("signal_bar", "entry_bar", "exit_bar"):
        columns[name] = columns[name] - low
    return candles.take(slice(low, high)), Trades(**columns), equity[low:high]


def _monthly(
    candles: Candles, equity: Any, interval: Interval, capital: float
) -> tuple[list[tuple[int, int]], list[float]]:
    times, marks = daily_marks(candles.ts, equity, interval)
    months: list[tuple[int, int]] = []
    returns: list[float] = []
    before = last = capital
    # A mark at 00:00 of the first closes the month before it.
    for at_ms, value in zip((times - 1).tolist(), marks.tolist(), strict=True):
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
        month = (moment.year, moment.month)
        if not months or months[-1] != month:
            before = last
            months.append(month)
            returns.append(0.0)
        returns[-1] = 100 * (value / before - 1) if before > 0 else 0.0
        last = value
    return months, returns
