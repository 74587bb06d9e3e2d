"""TradingView's exported "List of trades": read, aligned with our trades, and the first difference explained."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.timeframes import MINUTE_MS
from engine.core.trades import ExitReason, Trades
from engine.errors import BadRequest

Reason = Literal[
    "session_or_time_zone",
    "missing_bar",
    "fill_rule",
    "tick_rounding",
    "slippage",
    "size",
    "fee",
    "seed_of_the_average",
    "unknown",
]
BoolColumn = NDArray[np.bool_]
MOST_CHARACTERS = 20_000_000
_LONGEST_SHIFT_MINUTES = 14 * 60
_SHIFT_STEP_MINUTES = 15
# A reason is named from this share of the differing trades on.
_LEAST_CONFIDENCE = 0.5

# Headers have changed over the years: "Price USD", "Contracts", "Profit USD" became "Position size (qty)", "Net P&L USD".
_HEADERS: dict[str, str] = {
    "number": r"trade\s*(#|no\.?|number)?",
    "type": r"type",
    "time": r"date(/| and | & )?\s*time|date",
    "signal": r"signal",
    "price": r"price(?!.*%).*",
    "quantity": r"contracts|quantity|qty|(position )?size( \(qty\))?",
    "pnl": r"(net )?(profit|p&l|pnl)(?!.*%).*",
}
_NEEDED = ("number", "type", "time", "price")


@dataclass(frozen=True, slots=True, eq=False)
class TradeColumns:
    """Round trips as columns, one row a trade in the order of entries.

    Attributes
    ----------
    side : ndarray of int8
        +1 long, -1 short.
    entry_ms, exit_ms : ndarray of int64
        Opens of the bars of the fills, milliseconds UTC.
    entry_price, exit_price, quantity, pnl : ndarray of float64
        NaN where the list has none. `pnl` is net of costs.
    pnl_step : float
        Half of the last digit `pnl` was printed with; 0 where it is exact.
    open : ndarray of bool
        The trade had not ended: its exit says where the data stopped.
    """

    side: NDArray[np.int8]
    entry_ms: TimeColumn
    exit_ms: TimeColumn
    entry_price: FloatColumn
    exit_price: FloatColumn
    quantity: FloatColumn
    pnl: FloatColumn
    pnl_step: FloatColumn
    open: BoolColumn

    def __len__(self) -> int:
        return len(self.side)

    def take(self, rows: NDArray[np.intp]) -> TradeColumns:
        """Return the chosen trades."""
        return TradeColumns(*(getattr(self, name)[rows] for name in TradeColumns.__slots__))


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the lists differ, as far as testing the hypothesis on the differing trades tells.

    Attributes
    ----------
    confidence : float
        Share of the trades that could be tested which the reason explains, 0 to 1.
    detail : str
        What was measured.
    """

    reason: Reason
    confidence: float
    detail: str


@dataclass(frozen=True, slots=True)
class Difference:
    """The first trade that differs: its rows in both lists (None: the list has no such trade) and what differs."""

    their_row: int | None
    our_row: int | None
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two trade lists side by side.

    Attributes
    ----------
    matched_entries : int
        Trades with the same side and entry time.
    matched : int
        Those whose prices, exit, quantity and profit agree too, as far as both lists have them.
    first_difference : Difference or None
    explanations : tuple of Explanation
        Most likely first; empty when nothing differs.
    """

    their_trades: int
    our_trades: int
    matched_entries: int
    matched: int
    first_difference: Difference | None
    explanations: tuple[Explanation, ...]

    @property
    def likely_reason(self) -> Reason | None:
        """Return the most likely reason, None when nothing differs."""
        return self.explanations[0].reason if self.explanations else None


def parse_trade_list(text: str, *, utc_offset_minutes: int = 0) -> TradeColumns:
    """Read TradingView's CSV.

    Parameters
    ----------
    text : str
        Comma, semicolon or tab separated; a row for the entry and one for the exit, in either order.
    utc_offset_minutes : int
        Of the chart, for times written without a zone.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadRequest("the list of trades is too long", fix=f"give at most {MOST_CHARACTERS:,} characters")
    lines = text.lstrip("\ufeff").strip()
    head = lines.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    rows = [row for row in csv.reader(io.StringIO(lines), delimiter=delimiter) if any(cell.strip() for cell in row)]
    columns = _find_columns(rows[0] if rows else [])
    legs: dict[str, dict[str, list[str]]] = {}
    for row in rows[1:]:
        kind = _cell(row, columns["type"]).lower()
        leg = "entry" if kind.startswith("entry") else "exit" if kind.startswith("exit") else None
        if leg is None or not kind.endswith(("long", "short")):
            raise BadRequest(f"{kind[:40]!r} is not a type of trade row", fix="types are Entry long, Exit long, ...")
        legs.setdefault(_cell(row, columns["number"]), {})[leg] = row
    trades = [_trade(number, pair, columns, utc_offset_minutes) for number, pair in legs.items()]
    trades.sort(key=lambda trade: trade[1])
    kinds = (np.int8, np.int64, np.int64, float, float, float, float, float, np.bool_)
    return TradeColumns(*(np.array([trade[place] for trade in trades], kind) for place, kind in enumerate(kinds)))


def columns_of(trades: Trades, candles: Candles) -> TradeColumns:
    """Return our trades in the columns of a list; what the end of the data closed counts as open."""
    return TradeColumns(
        side=trades.side,
        entry_ms=candles.ts[trades.entry_bar],
        exit_ms=candles.ts[trades.exit_bar],
        entry_price=trades.entry_price,
        exit_price=trades.exit_price,
        quantity=trades.quantity,
        pnl=trades.pnl,
        pnl_step=np.zeros(len(trades)),
        open=trades.exit_reason == ExitReason.END_OF_DATA,
    )


def compare_trades(theirs: TradeColumns, ours: TradeColumns, candles: Candles, *, tick: float = 0.0) -> Comparison:
    """Align two lists by side and entry time, and look for the reason of the first difference.

    Parameters
    ----------
    candles : Candles
        The bars our trades were made on.
    tick : float
        Price step of the market; prices that differ by less than a hundredth of it are equal. 0: not known.
    """
    pairs, only_theirs, only_ours = _align(theirs, ours)
    equal = _equal_fields(theirs.take(pairs[:, 0]), ours.take(pairs[:, 1]), _price_tolerance(theirs, tick))
    agree = np.logical_and.reduce(list(equal.values())) if len(pairs) else np.zeros(0, np.bool_)
    difference = _first_difference(theirs, ours, pairs, equal, agree, (only_theirs, only_ours))
    case = _Case(theirs, ours, candles, tick, pairs, equal, agree, only_theirs, only_ours)
    explanations = () if difference is None else _explain(case)
    return Comparison(len(theirs), len(ours), len(pairs), int(agree.sum()), difference, explanations)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    theirs: TradeColumns
    ours: TradeColumns
    candles: Candles
    tick: float
    pairs: NDArray[np.intp]
    equal: dict[str, BoolColumn]
    agree: BoolColumn
    only_theirs: NDArray[np.intp]
    only_ours: NDArray[np.intp]

    def paired(self, rows: BoolColumn) -> tuple[TradeColumns, TradeColumns]:
        chosen = self.pairs[rows]
        return self.theirs.take(chosen[:, 0]), self.ours.take(chosen[:, 1])


def _explain(case: _Case) -> tuple[Explanation, ...]:
    tests: tuple[Callable[[_Case], Explanation | None], ...] = (
        _time_shift, _missing_bar, _fill_rule, _tick_rounding, _slippage, _size, _fee, _seed,
    )  # fmt: skip
    found = [explanation for test in tests if (explanation := test(case)) is not None]
    likely = sorted((one for one in found if one.confidence >= _LEAST_CONFIDENCE), key=lambda one: -one.confidence)
    return tuple(likely) or (Explanation("unknown", 0.0, "none of the known reasons explains the differing trades"),)


def _time_shift(case: _Case) -> Explanation | None:
    if not len(case.only_theirs):
        return None
    ours = set(zip(case.ours.entry_ms.tolist(), case.ours.side.tolist(), strict=True))
    best, best_share = 0, len(case.pairs) / len(case.theirs)
    for minutes in range(-_LONGEST_SHIFT_MINUTES, _LONGEST_SHIFT_MINUTES + 1, _SHIFT_STEP_MINUTES):
        moved = (case.theirs.entry_ms + minutes * MINUTE_MS).tolist()
        # One bar is what another fill rule does as well: the prices decide.
        hits = [pair in ours for pair in zip(moved, case.theirs.side.tolist(), strict=True)]
        if np.mean(hits) > best_share and _prices_follow(case, minutes * MINUTE_MS):
            best, best_share = minutes, float(np.mean(hits))
    if best == 0:
        return None
    detail = f"their times fit ours once moved by {best:+d} minutes ({best_share:.0%} of entries)"
    return Explanation("session_or_time_zone", best_share, detail)


def _prices_follow(case: _Case, shift_ms: int) -> bool:
    where = {
        pair: row for row, pair in enumerate(zip(case.ours.entry_ms.tolist(), case.ours.side.tolist(), strict=True))
    }
    moved = zip((case.theirs.entry_ms + shift_ms).tolist(), case.theirs.side.tolist(), strict=True)
    found = [(row, where[pair]) for row, pair in enumerate(moved) if pair in where]
    if not found:
        return False
    theirs, ours = np.array(found).T
    gap = np.abs(case.theirs.entry_price[theirs] - case.ours.entry_price[ours])
    return bool(np.mean(gap <= _price_tolerance(case.theirs, case.tick)) >= _LEAST_CONFIDENCE)


def _missing_bar(case: _Case) -> Explanation | None:
    rows = case.only_theirs
    if not len(rows):
        return None
    absent = ~np.isin(case.theirs.entry_ms[rows], case.candles.ts)
    inside = (case.theirs.entry_ms[rows] >= case.candles.ts[0]) & (case.theirs.entry_ms[rows] <= case.candles.ts[-1])
    first = int(np.argmax(absent & inside))
    share = float(np.mean(absent))
    if not (absent & inside).any() or not inside[0] or not (absent[0] or share >= _LEAST_CONFIDENCE):
        return None
    when = datetime.fromtimestamp(int(case.theirs.entry_ms[rows[first]]) / 1000, tz=UTC)
    # Later trades may differ only because the first one did, so one certain case is enough.
    return Explanation(
        "missing_bar", max(share, 0.9), f"we have no bar at {when:%Y-%m-%d %H:%M} UTC, they traded on it"
    )


def _fill_rule(case: _Case) -> Explanation | None:
    # "On bar close" fills at the close of the deciding bar, one bar before our open.
    bars = np.searchsorted(case.candles.ts, case.ours.entry_ms)
    before = np.maximum(bars - 1, 0)
    where = {
        (int(case.candles.ts[row]), int(side)): row for row, side in zip(before, case.ours.side, strict=True) if row > 0
    }
    tolerance = _price_tolerance(case.theirs, case.tick)
    rows = case.only_theirs if len(case.only_theirs) else case.pairs[~case.equal["entry_price"], 0]
    if not len(rows):
        return None
    hits = 0
    for row in rows:
        time, side, price = int(case.theirs.entry_ms[row]), int(case.theirs.side[row]), case.theirs.entry_price[row]
        bar = where.get((time, side))
        if bar is None:
            same = int(np.searchsorted(case.candles.ts, time)) - 1
            bar = same if time in set(case.ours.entry_ms[case.ours.side == side].tolist()) and same >= 0 else None
        if bar is not None and abs(case.candles.close[bar] - price) <= tolerance:
            opened = case.candles.open[min(bar + 1, len(case.candles) - 1)]
            hits += int(time == case.candles.ts[bar] or abs(opened - price) > tolerance)
    detail = "their entries are at the close of the deciding bar, ours at the next open"
    return Explanation("fill_rule", hits / len(rows), detail)


def _tick_rounding(case: _Case) -> Explanation | None:
    theirs, ours, gap = _entry_gaps(case)
    if not len(gap):
        return None
    step = case.tick or _printed_step(theirs.entry_price)
    rounded = np.abs(theirs.entry_price / step - np.round(theirs.entry_price / step)) < 1e-6
    finer = np.abs(ours.entry_price / step - np.round(ours.entry_price / step)) > 1e-6
    explained = rounded & finer & (np.abs(gap) <= step * 0.5001)
    return Explanation("tick_rounding", float(explained.mean()), f"their prices are ours rounded to {step:g}")


def _slippage(case: _Case) -> Explanation | None:
    _, ours, gap = _entry_gaps(case)
    if not len(gap):
        return None
    fractions = gap / ours.entry_price
    best, detail = 0.0, ""
    for values, unit in ((gap, ""), (100 * fractions, " %")):
        middle = float(np.median(values))
        allowed = max(0.05 * abs(middle), (case.tick or 0.0) * 0.51 if not unit else 0.0)
        share = float(np.mean(np.abs(values - middle) <= allowed))
        if middle != 0.0 and share > best:
            worse = "worse" if middle > 0 else "better"
            best, detail = share, f"their entries are {abs(middle):.6g}{unit} {worse} than ours"
    # A different reference bar also moves prices, but to both sides alike.
    one_way = float(max(np.mean(gap > 0), np.mean(gap < 0)))
    return Explanation("slippage", best * one_way, detail)


def _size(case: _Case) -> Explanation | None:
    wrong = ~case.equal["quantity"]
    if not wrong.any():
        return None
    theirs, ours = case.paired(wrong)
    ratio = float(np.median(theirs.quantity / ours.quantity))
    share = float(np.mean((case.equal["entry_price"] & case.equal["exit_price"])[wrong]))
    return Explanation("size", share, f"their quantity is {ratio:.6g} times ours, at the same prices")


def _fee(case: _Case) -> Explanation | None:
    same = case.equal["entry_price"] & case.equal["exit_price"] & case.equal["quantity"] & case.equal["exit_time"]
    theirs, ours = case.paired(same & ~case.equal["pnl"])
    if not len(theirs):
        return None
    turnover = ours.quantity * (ours.entry_price + ours.exit_price)
    rates = (ours.pnl - theirs.pnl) / turnover
    middle = float(np.median(rates))
    allowed = np.maximum(0.05 * abs(middle), 1.02 * theirs.pnl_step / turnover)
    differing = int((~case.agree).sum())
    share = float(np.sum(np.abs(rates - middle) <= allowed)) / differing
    more = "more" if middle > 0 else "less"
    return Explanation("fee", share, f"they charge {abs(100 * middle):.4g} % of each fill {more} than we do")


def _seed(case: _Case) -> Explanation | None:
    # An average forgets its seed: differences lie at the beginning, and nothing differs after them.
    wrong = np.concatenate(
        (
            case.theirs.entry_ms[case.pairs[~case.agree, 0]],
            case.theirs.entry_ms[case.only_theirs],
            case.ours.entry_ms[case.only_ours],
        )
    )
    if not len(wrong) or not len(case.pairs):
        return None
    start = min(int(case.theirs.entry_ms[0]), int(case.ours.entry_ms[0]), int(case.candles.ts[0]))
    end = max(int(case.theirs.entry_ms[-1]), int(case.ours.entry_ms[-1]))
    part = (int(wrong.max()) - start) / max(end - start, 1)
    if part > 0.25 or not (len(case.only_theirs) or len(case.only_ours)):
        return None
    return Explanation(
        "seed_of_the_average",
        0.85 - part,
        f"all differences lie in the first {part:.0%} of the time; later trades agree",
    )


def _entry_gaps(case: _Case) -> tuple[TradeColumns, TradeColumns, FloatColumn]:
    """Return the pairs whose entry prices differ, and by how much theirs is worse."""
    theirs, ours = case.paired(~case.equal["entry_price"])
    return theirs, ours, (theirs.entry_price - ours.entry_price) * ours.side


def _align(theirs: TradeColumns, ours: TradeColumns) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    where = {pair: row for row, pair in enumerate(zip(ours.entry_ms.tolist(), ours.side.tolist(), strict=True))}
    keys = zip(theirs.entry_ms.tolist(), theirs.side.tolist(), strict=True)
    found = [(row, where[pair]) for row, pair in enumerate(keys) if pair in where]
    pairs = np.array(found, np.intp).reshape(-1, 2)
    only_theirs = np.setdiff1d(np.arange(len(theirs)), pairs[:, 0])
    return pairs, only_theirs, np.setdiff1d(np.arange(len(ours)), pairs[:, 1])


def _equal_fields(theirs: TradeColumns, ours: TradeColumns, tolerance: float) -> dict[str, BoolColumn]:
    # A trade open in one list has no exit to compare.
    ended = ~(theirs.open | ours.open)
    gap = np.abs(theirs.pnl - ours.pnl)
    scale = 1e-9 * (1 + np.abs(ours.pnl))
    return {
        "entry_price": _near(theirs.entry_price, ours.entry_price, tolerance),
        "exit_time": ~ended | (theirs.exit_ms == ours.exit_ms),
        "exit_price": ~ended | _near(theirs.exit_price, ours.exit_price, tolerance),
        "quantity": _near(theirs.quantity, ours.quantity, 1e-9),
        "pnl": ~ended | np.isnan(gap) | (gap <= 1.02 * theirs.pnl_step + scale),
    }


def _first_difference(
    theirs: TradeColumns,
    ours: TradeColumns,
    pairs: NDArray[np.intp],
    equal: dict[str, BoolColumn],
    agree: BoolColumn,
    alone: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Difference | None:
    found: list[tuple[int, int, Difference]] = []
    wrong = np.flatnonzero(~agree)
    if len(wrong):
        their_row, our_row = (int(row) for row in pairs[wrong[0]])
        names = tuple(name for name, same in equal.items() if not same[wrong[0]])
        found.append((int(theirs.entry_ms[their_row]), 2, Difference(their_row, our_row, names)))
    if len(alone[0]):
        row = int(alone[0][0])
        found.append((int(theirs.entry_ms[row]), 0, Difference(row, None, ("entry",))))
    if len(alone[1]):
        row = int(alone[1][0])
        found.append((int(ours.entry_ms[row]), 1, Difference(None, row, ("entry",))))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _near(first: FloatColumn, second: FloatColumn, tolerance: float) -> BoolColumn:
    return np.isnan(first) | np.isnan(second) | (np.abs(first - second) <= tolerance + 1e-12 * np.abs(second))


def _price_tolerance(theirs: TradeColumns, tick: float) -> float:
    if tick > 0:
        return tick / 100
    return 1e-7 * float(np.median(theirs.entry_price)) if len(theirs) else 0.0


def _printed_step(prices: FloatColumn) -> float:
    """Return the finest decimal step that all prices are multiples of."""
    for digits in range(13):
        scaled = prices * 10.0**digits
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-6 * np.maximum(1.0, np.abs(scaled) * 1e-6)):
            return 10.0**-digits
    return 1e-12


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for name, pattern in _HEADERS.items():
        for index, cell in enumerate(header):
            text = cell.strip().lower()
            if name not in columns and re.fullmatch(pattern, text):
                columns[name] = index
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise BadRequest(
            f"the list of trades has no column for {', '.join(missing)}",
            fix="export it in TradingView: Strategy Tester, List of Trades, Export data",
        )
    return columns


def _trade(
    number: str, pair: dict[str, list[str]], columns: dict[str, int], utc_offset_minutes: int
) -> tuple[int, int, int, float, float, float, float, float, bool]:
    entry, leave = pair.get("entry"), pair.get("exit")
    if entry is None:
        raise BadRequest(f"trade {number!r} has no entry row", fix="export the whole list")
    side = 1 if _cell(entry, columns["type"]).lower().endswith("long") else -1
    ended = leave is not None and _cell(leave, columns["time"]) != "" and _cell(leave, columns["price"]) != ""
    still_open = not ended or _cell(leave or [], columns.get("signal", -1)).lower() == "open"
    entry_ms = _time(_cell(entry, columns["time"]), utc_offset_minutes)
    exit_ms = _time(_cell(leave, columns["time"]), utc_offset_minutes) if leave is not None and ended else entry_ms
    profit = _cell(leave or entry, columns.get("pnl", -1))
    return (
        side,
        entry_ms,
        exit_ms,
        _number(_cell(entry, columns["price"])),
        _number(_cell(leave, columns["price"])) if leave is not None and ended else math.nan,
        _number(_cell(entry, columns.get("quantity", -1))),
        _number(profit),
        0.5 * 10.0 ** -len(profit.partition(".")[2]) if profit else 0.0,
        still_open,
    )


def _cell(row: Sequence[str], index: int) -> str:
    return row[index].strip() if 0 <= index < len(row) else ""


def _number(text: str) -> float:
    # TradingView writes a true minus sign, and commas or narrow spaces between thousands.
    cleaned = re.sub(r"[,\s\u202f\u00a0]", "", text.replace("\u2212", "-"))
    if cleaned in ("", "NaN", "\u2014"):
        return math.nan
    try:
        return float(cleaned)
    except ValueError as exc:
        raise BadRequest(f"{text[:40]!r} is not a number", fix="export with a point as the decimal sign") from exc


def _time(text: str, utc_offset_minutes: int) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadRequest(f"{text[:40]!r} is not a time", fix="times look like 2024-01-31 09:00") from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone(timedelta(minutes=utc_offset_minutes)))
    return round(moment.timestamp() * 1000)
