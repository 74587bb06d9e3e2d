"""Tables of a stored run beyond its single figures, small enough for a model to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from engine.backtests.computation import Outcome
from engine.backtests.portfolios import correlations_of
from engine.core.execution import ExecutionSettings
from engine.core.metrics import (
    Facts,
    deepest_drawdowns,
    gather_facts,
    period_returns,
    rolling_sharpe,
    side_summary,
    tradingview_report,
)
from engine.core.times import iso_utc
from engine.errors import BadRequest

Block = Literal["months", "years", "drawdowns", "rolling_sharpe", "sides", "tradingview", "correlations"]
# Ten years of months; every table of one answer fits under its size cap beside the others.
MOST_PERIODS = 120
MOST_POINTS = 60
DIGITS = 6


def tables_of(outcome: Outcome, names: Sequence[Block]) -> dict[str, dict[str, Any]]:
    """Return the tables asked for: columns, rows (numbers to 6 digits), and how many rows there are in all."""
    manifest = outcome.manifest
    account = ExecutionSettings(capital=outcome.result["metrics"]["initial_capital"])
    facts = gather_facts(outcome.simulation, outcome.candles, manifest["data"]["interval"], account)
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        found |= _MAKERS[name](outcome, facts)
    return found


def _periods(period: Literal["month", "year"]) -> Callable[[Outcome, Facts], dict[str, dict[str, Any]]]:
    def make(_: Outcome, facts: Facts) -> dict[str, dict[str, Any]]:
        returns = period_returns(facts, period)
        rows = [[one.label, one.fraction] for one in returns[-MOST_PERIODS:]]
        return {f"{period}s": _table([period, "return"], rows, len(returns))}

    return make


def _drawdowns(_: Outcome, facts: Facts) -> dict[str, dict[str, Any]]:
    every = deepest_drawdowns(facts, len(facts.marks))
    rows = [
        [one.depth, _day(one.peak_ms), _day(one.trough_ms), _day(one.recovered_ms), one.days]
        for one in deepest_drawdowns(facts)
    ]
    return {"drawdowns": _table(["depth", "peak", "trough", "recovered", "days"], rows, len(every))}


def _rolling(_: Outcome, facts: Facts) -> dict[str, dict[str, Any]]:
    rolling = rolling_sharpe(facts)
    count = len(rolling.ts)
    chosen = np.unique(np.linspace(0, count - 1, min(MOST_POINTS, count)).astype(int)) if count else []
    rows = [[_day(int(rolling.ts[row])), float(rolling.values[row])] for row in chosen]
    return {"rolling_sharpe": _table(["day", "sharpe_90d"], rows, count)}


def _sides(_: Outcome, facts: Facts) -> dict[str, dict[str, Any]]:
    long, short = asdict(side_summary(facts, "long")), asdict(side_summary(facts, "short"))
    rows = [[name, value, short[name]] for name, value in long.items()]
    return {"sides": _table(["figure", "long", "short"], rows, len(rows))}


def _tradingview(outcome: Outcome, facts: Facts) -> dict[str, dict[str, Any]]:
    if outcome.shared is not None:
        raise BadRequest(
            "TradingView's report is of one symbol, and this run trades several",
            fix="leave tradingview out of blocks, or run the symbols one by one with symbol",
        )
    report = asdict(tradingview_report(facts))
    every, long, short = (report.pop(side) for side in ("all", "long", "short"))
    rows = [[name, value, long[name], short[name]] for name, value in every.items()]
    rows += [[name, value, None, None] for name, value in report.items()]
    return {"tradingview": _table(["figure", "all", "long", "short"], rows, len(rows))}


def _correlations(outcome: Outcome, _: Facts) -> dict[str, dict[str, Any]]:
    tables = correlations_of(outcome)
    symbols = [leg["symbol"] for leg in outcome.manifest["portfolio"]["legs"]]
    return {
        f"correlations_of_{name}": _table(
            ["symbol", *symbols], [[symbol, *row] for symbol, row in zip(symbols, table, strict=True)], len(symbols)
        )
        for name, table in tables.items()
    }


_MAKERS: dict[Block, Callable[[Outcome, Facts], dict[str, dict[str, Any]]]] = {
    "months": _periods("month"),
    "years": _periods("year"),
    "drawdowns": _drawdowns,
    "rolling_sharpe": _rolling,
    "sides": _sides,
    "tradingview": _tradingview,
    "correlations": _correlations,
}


def _table(columns: list[str], rows: Sequence[Sequence[Any]], total: int) -> dict[str, Any]:
    return {"columns": columns, "rows": [[_cell(value) for value in row] for row in rows], "total": total}


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _day(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_utc(at_ms)[:10]
