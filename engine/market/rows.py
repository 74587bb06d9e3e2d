"""Candle rows of one answer: strings to columns, and every check that needs nothing but the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from engine.core.candles import Candles, FloatColumn
from engine.core.series import CandleKind, Category
from engine.core.timeframes import Interval, floor_open, next_open, step_ms
from engine.errors import BadPayload

# float() would also take "nan", "1_000", blanks and foreign digits; Bybit prints none of them.
_NUMBER_CHARACTERS = re.compile(r"[0-9.+\-eE]*")
# Printed volumes are rounded, so the mean price they imply may leave the bar by a little.
_IMPLIED_PRICE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class RowRules:
    """What the rows of one series must look like."""

    category: Category
    kind: CandleKind
    interval: Interval

    @property
    def columns(self) -> int:
        """Trade candles have volume and turnover, the others do not."""
        return 7 if self.kind == "trade" else 5


def read_rows(rows: Sequence[Any], rules: RowRules, start_ms: int, end_ms: int) -> tuple[Candles, tuple[str, ...]]:
    """Return the candles of an answer that open in [start_ms, end_ms), ascending and unique, and remarks on it.

    Raises
    ------
    BadPayload
        Rows of a wrong shape, times off the grid, impossible prices, one bar with two values, or an answer of which
        not one row belongs to the window (the server ignored the bounds).
    """
    if not rows:
        return Candles.empty(), ()
    columns = _columns(rows, rules.columns)
    inside = (columns.ts >= start_ms) & (columns.ts < end_ms)
    foreign = len(columns) - int(inside.sum())
    if foreign == len(columns):
        raise _untrusted(f"all {foreign} rows lie outside the window asked for")
    candles, repeats = _unique(columns.take(inside) if foreign else columns)
    _check_times(candles, rules.interval)
    _check_prices(candles, rules.kind)
    notes = [
        _note(foreign, "row outside the window dropped", "rows outside the window dropped"),
        _note(repeats, "repeated row dropped", "repeated rows dropped"),
        *_remarks(candles, rules),
    ]
    return candles, tuple(note for note in notes if note)


def merge(older: Candles, newer: Candles) -> tuple[Candles, int]:
    """Return both, `newer` winning where they overlap, and how many bars the two disagree on."""
    if not len(older) or not len(newer):
        return (newer if len(newer) else older), 0
    joined = Candles(*(np.concatenate(pair) for pair in zip(older.columns(), newer.columns(), strict=True)))  # type: ignore[arg-type]
    ordered = joined.take(np.argsort(joined.ts, kind="stable"))
    twice = ordered.ts[1:] == ordered.ts[:-1]
    changed = int((twice & ~_same_as_previous(ordered)).sum())
    return ordered.take(np.append(~twice, np.True_)), changed


def _columns(rows: Sequence[Any], width: int) -> Candles:
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {width}:
        raise _untrusted(f"a candle row is not a list of {width} values")
    cells = list(chain.from_iterable(rows))
    if set(map(type, cells)) != {str}:
        raise _untrusted("a candle row holds something else than strings")
    if _NUMBER_CHARACTERS.fullmatch("".join(cells)) is None:
        raise _untrusted("a candle row holds a string that is not a number")
    try:
        ts = np.fromiter(map(int, cells[::width]), np.int64, len(rows))
        values = np.array(_floats(cells), np.float64).reshape(-1, width)
    except (ValueError, OverflowError) as exc:
        raise _untrusted("a candle row holds a string that is not a number") from exc
    if not np.isfinite(values).all():
        raise _untrusted("a candle row holds a number too large for a float")
    columns = [np.ascontiguousarray(values[:, index]) for index in range(1, width)]
    columns += [np.full(len(rows), np.nan)] * (7 - width)
    return Candles(ts, *columns)


def _floats(cells: Sequence[str]) -> Sequence[float]:
    # One JSON array is read three times faster than string by string, to the same last bit; what JSON does not take
    # as a number ("1.", "+1", "") is left to Python.
    try:
        return from_json(f"[{','.join(cells)}]", allow_inf_nan=False)
    except ValueError:
        return list(map(float, cells))


def _unique(candles: Candles) -> tuple[Candles, int]:
    # Bybit answers newest first, so the usual case is one reversal.
    backwards = candles.take(slice(None, None, -1))
    steps = np.diff(backwards.ts)
    if (steps > 0).all():
        return Candles(*(np.ascontiguousarray(column) for column in backwards.columns())), 0  # type: ignore[arg-type]
    ordered = candles.take(np.argsort(candles.ts, kind="stable"))
    twice = ordered.ts[1:] == ordered.ts[:-1]
    if (twice & ~_same_as_previous(ordered)).any():
        raise _untrusted("one bar came twice with different values")
    return ordered.take(np.append(np.True_, ~twice)), int(twice.sum())


def _same_as_previous(candles: Candles) -> NDArray[np.bool_]:
    same = np.ones(len(candles) - 1, np.bool_)
    for column in candles.columns()[1:]:
        same &= (column[1:] == column[:-1]) | (np.isnan(column[1:]) & np.isnan(column[:-1]))
    return same


def _check_times(candles: Candles, interval: Interval) -> None:
    if interval == "M":
        aligned = all(floor_open(interval, ts) == ts for ts in candles.ts.tolist())
    else:
        anchor = floor_open(interval, 0)
        aligned = not ((candles.ts - anchor) % step_ms(interval)).any()
    if not aligned:
        raise _untrusted(f"a bar does not open on the grid of interval {interval!r}")


def _check_prices(candles: Candles, kind: CandleKind) -> None:
    if (candles.high < candles.low).any():
        raise _untrusted("a bar's high is below its low")
    # A premium may be negative, and its open (the previous close) may lie outside the bar's range, as in the
    # example of Bybit v5 docs, market/premium-index-kline.
    if kind != "premium":
        if min(column.min() for column in (candles.open, candles.high, candles.low, candles.close)) <= 0:
            raise _untrusted("a price is not positive")
        if (candles.high < np.maximum(candles.open, candles.close)).any() or (
            candles.low > np.minimum(candles.open, candles.close)
        ).any():
            raise _untrusted("a bar's open or close lies outside its low and high")
    if kind == "trade" and ((candles.volume < 0).any() or (candles.turnover < 0).any()):
        raise _untrusted("a volume is negative")


def _remarks(candles: Candles, rules: RowRules) -> list[str]:
    if rules.kind != "trade":
        return []
    jumps = 0
    if len(candles) > 1:
        adjacent = np.diff(candles.ts) == _usual_step(candles, rules.interval)
        jumps = int((adjacent & (candles.open[1:] != candles.close[:-1])).sum())
    odd = _odd_turnovers(candles, rules.category)
    return [
        _note(jumps, "bar opens away from the previous close", "bars open away from the previous close"),
        _note(odd, "bar's turnover does not fit its volume", "bars' turnover does not fit their volume"),
    ]


def _usual_step(candles: Candles, interval: Interval) -> NDArray[np.int64] | int:
    if interval != "M":
        return step_ms(interval)
    return np.array([next_open(interval, ts) - ts for ts in candles.ts[:-1].tolist()], np.int64)


def _odd_turnovers(candles: Candles, category: Category) -> int:
    traded = (candles.volume > 0) & (candles.turnover > 0)
    # Inverse: volume in USD, turnover in coin; linear and spot: volume in base, turnover in quote.
    pair: tuple[FloatColumn, FloatColumn] = (candles.turnover[traded], candles.volume[traded])
    with np.errstate(over="ignore"):
        mean = pair[1] / pair[0] if category == "inverse" else pair[0] / pair[1]
    low, high = candles.low[traded], candles.high[traded]
    outside = (mean < low * (1 - _IMPLIED_PRICE_TOLERANCE)) | (mean > high * (1 + _IMPLIED_PRICE_TOLERANCE))
    return int(outside.sum())


def _note(count: int, one: str, many: str) -> str:
    return "" if not count else f"{count} {one if count == 1 else many}"


def _untrusted(what: str) -> BadPayload:
    return BadPayload(f"the exchange sent candles that cannot be trusted: {what}", fix="try again; nothing was kept")
