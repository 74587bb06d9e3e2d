"""Stored columns as rows, cards and CSV text for people and models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.core.candles import Candles
from engine.core.holdout import Withheld
from engine.core.metrics import METRICS
from engine.core.times import iso_utc
from engine.core.trades import EXIT_REASONS, Trades
from engine.store import RunRecord
from engine.store.study_store import StudyRecord

WHY_WITHHELD = "sealed holdout; open_holdout evaluates one chosen run on it"


def trade_columns(trades: Trades, candles: Candles) -> dict[str, Any]:
    """Return the columns of the trades with the opens of their entry and exit bars (int64 ms UTC)."""
    columns = {name: getattr(trades, name) for name in type(trades).__slots__}
    return columns | {"entry_ts": candles.ts[trades.entry_bar], "exit_ts": candles.ts[trades.exit_bar]}


# Between the symbols of a portfolio; no symbol contains it.
JOINT = ","
_TRADE_NUMBERS = ("entry_price", "exit_price", "quantity", "pnl", "fees", "funding", "mae", "mfe")


def trade_rows(columns: Mapping[str, Any], rows: Any, symbols: Sequence[str]) -> list[dict[str, Any]]:
    """Return the chosen trades as tools show them; a portfolio's columns number the symbols."""
    found: list[dict[str, Any]] = []
    for row in rows:
        numbers = {name: float(columns[name][row]) for name in _TRADE_NUMBERS}
        found.append(
            {
                "symbol": symbols[int(columns["symbol"][row]) if "symbol" in columns else 0],
                "side": "long" if columns["side"][row] > 0 else "short",
                "entry_time": iso_utc(int(columns["entry_ts"][row])),
                "entry_price": numbers["entry_price"],
                "exit_time": iso_utc(int(columns["exit_ts"][row])),
                "exit_price": numbers["exit_price"],
                "quantity": numbers["quantity"],
                "pnl": numbers["pnl"],
                "fees": numbers["fees"],
                "funding": numbers["funding"],
                "exit_reason": EXIT_REASONS[int(columns["exit_reason"][row])],
                "bars": int(columns["bars"][row]),
                "mae": numbers["mae"],
                "mfe": numbers["mfe"],
            }
        )
    return found


def symbols_of(record: RunRecord) -> list[str]:
    """Return the symbols of a run, in the order in which they take capital."""
    return record.symbol.split(JOINT)


def run_card(record: RunRecord) -> dict[str, Any]:
    """Return a stored run as tools show it."""
    result = json.loads(record.result)
    # The stored text is sorted for its hash; people read figures in the order of the registry.
    result["metrics"] = {name: result["metrics"][name] for name in METRICS if name in result["metrics"]}
    return {"run_id": record.id, "created": iso_utc(record.created_ms), **result}


def run_line(record: RunRecord) -> dict[str, Any]:
    """Return a stored run as a line of a list."""
    result = json.loads(record.result)
    return {
        "run_id": record.id,
        "created": iso_utc(record.created_ms),
        "strategy": record.strategy,
        "params": result["strategy"]["params"],
        "symbol": record.symbol,
        "interval": record.interval,
        "start": result["data"]["start"],
        "end": result["data"]["end"],
        **{name: result["metrics"][name] for name in ("trades", "total_return", "sharpe", "max_drawdown")},
        "source": record.source,
    }


def thinned_equity(columns: Mapping[str, Any], points: int) -> dict[str, Any]:
    """Return some daily marks, the first and the last among them."""
    days = len(columns["ts"])
    rows = np.unique(np.linspace(0, days - 1, min(points, days)).astype(int))
    return {
        "columns": ["time", "equity"],
        "rows": [[iso_utc(int(columns["ts"][row])), float(columns["equity"][row])] for row in rows],
        "days": days,
    }


def study_card(study: StudyRecord) -> dict[str, Any]:
    """Return a study as the answer of an evaluation tells it."""
    from_ms = study.sealed_from_ms
    return {
        "id": study.id,
        "name": study.name,
        "trials": study.trials,
        "sealed_from": None if from_ms is None else iso_utc(from_ms),
    }


def holdout_warnings(study: StudyRecord) -> list[str]:
    """Return why the holdout of a study confirms nothing: its bars were opened, or evaluated before they were sealed."""
    told: list[str] = []
    if study.slice_openings:
        first = study.slice_openings[0]
        told.append(
            f"holdout_spent: bars of the holdout of study {study.name!r} were opened {len(study.slice_openings)} times, "
            f"first at {iso_utc(first.at_ms)} for {first.run_id} in study {first.study!r}; at most candidate"
        )
    if study.already_seen:
        names = ", ".join(repr(each["study"]) for each in study.already_seen)
        told.append(
            f"already_seen: the holdout of study {study.name!r} had been evaluated by {names} before it was sealed; "
            "at most candidate"
        )
    return told


def withheld_card(withheld: Withheld | None) -> dict[str, Any] | None:
    """Return what was kept back of a range; None when nothing was."""
    if withheld is None:
        return None
    return {"from": iso_utc(withheld.from_ms), "study": withheld.study, "why": WHY_WITHHELD}


def csv_text(header: list[str], rows: list[list[Any]]) -> str:
    """Return a table as CSV; its cells hold numbers, times and plain words only."""
    return "\n".join([",".join(header), *(",".join(str(value) for value in row) for row in rows)]) + "\n"


def plain_value(value: Any) -> Any:
    """Return None for NaN, which JSON does not know."""
    return None if isinstance(value, float) and value != value else value


def condition_summary(values: Any) -> dict[str, float | int | None]:
    """Say how often a condition is true."""
    count = int(values.sum())
    return {"true_bars": count, "true_share": count / len(values)}


def number_summary(values: Any) -> dict[str, float | int | None]:
    """Say how the known values spread."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return {"known_bars": 0, "min": None, "p5": None, "median": None, "p95": None, "max": None, "last": None}
    p5, median, p95 = (float(value) for value in np.percentile(known, (5, 50, 95)))
    return {
        "known_bars": len(known),
        "min": float(known.min()),
        "p5": p5,
        "median": median,
        "p95": p95,
        "max": float(known.max()),
        "last": plain_value(float(values[-1])),
    }
