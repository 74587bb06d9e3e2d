"""What row faults do to an answer that was right."""

from __future__ import annotations

import json
import random
from typing import Any

from engine.market.exchange.faults import (
    Conflict,
    Duplicates,
    EmptyList,
    ForeignRows,
    Gap,
    NullList,
    OpenClose,
    OutOfOrder,
    Revise,
    RowAction,
    ShortPage,
)

# A candle is a list of texts; a settlement or a sample is an object. Newest first, as sent.
Row = Any
_TIME_FIELDS = ("timestamp", "fundingRateTimestamp", "time")


def tamper(result_json: str, actions: list[RowAction], interval_ms: int, now_ms: int, rng: random.Random) -> str:
    """Return the result text after all row faults; answers without rows stay as they are."""
    result = json.loads(result_json)
    if not isinstance(result.get("list"), list):
        return result_json
    for action in actions:
        if result["list"] is not None:
            result["list"] = _tampered(result["list"], action, interval_ms, now_ms, rng)
    return json.dumps(result, separators=(",", ":"))


def _tampered(  # noqa: C901 - one branch per kind of fault
    rows: list[Row], action: RowAction, interval_ms: int, now_ms: int, rng: random.Random
) -> list[Row] | None:
    match action:
        case NullList():
            return None
        case EmptyList():
            return []
        case ShortPage(keep=keep, side=side):
            return rows[:keep] if side == "newest" else rows[len(rows) - min(keep, len(rows)) :]
        case Duplicates(rows=count):
            return rows[:count] + rows
        case OutOfOrder():
            return rng.sample(rows, len(rows))
        case ForeignRows(rows=count, shift_ms=shift_ms):
            return rows + [_moved(row, shift_ms) for row in rows[-count:]]
        case Conflict(rows=count, factor=factor):
            return rows + [_changed(row, factor) for row in rows[-count:]]
        case Revise(from_ms=from_ms, to_ms=to_ms, factor=factor):
            return [_changed(row, factor) if from_ms <= _time(row) < to_ms else row for row in rows]
        case Gap(from_ms=from_ms, to_ms=to_ms):
            return [row for row in rows if not from_ms <= _time(row) < to_ms]
        case OpenClose(factor=factor):
            still_open = bool(rows) and isinstance(rows[0], list) and _time(rows[0]) + interval_ms > now_ms
            return [_closed_at(rows[0], factor), *rows[1:]] if still_open else rows


def _time(row: Row) -> int:
    if isinstance(row, list):
        return int(row[0])
    return next((int(row[name]) for name in _TIME_FIELDS if name in row), -1)


def _moved(row: Row, shift_ms: int) -> Row:
    if isinstance(row, list):
        return [str(int(row[0]) + shift_ms), *row[1:]]
    return {name: str(int(value) + shift_ms) if name in _TIME_FIELDS else value for name, value in row.items()}


def _changed(row: Row, factor: float) -> Row:
    """Return a row whose prices, or rate, are multiplied: still a candle that makes sense."""
    if isinstance(row, list):
        return [row[0], *(_scaled(text, factor) for text in row[1:5]), *row[5:]]
    return {name: _scaled(value, factor) if name == "fundingRate" else value for name, value in row.items()}


def _closed_at(row: list[str], factor: float) -> list[str]:
    close = _scaled(row[4], factor)
    high, low = max((row[2], close), key=float), min((row[3], close), key=float)
    return [row[0], row[1], high, low, close, *row[5:]]


def _scaled(text: str, factor: float) -> str:
    decimals = len(text.partition(".")[2])
    changed = f"{float(text) * factor:.{decimals}f}"
    # A coarse tick must not hide the change.
    return changed if changed != text else f"{float(text) * factor:.{decimals + 4}f}"
