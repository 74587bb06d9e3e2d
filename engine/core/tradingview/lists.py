"""TradingView's exported "List of trades", read into columns, and our trades in the same columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.trades import ExitReason, Trades
from engine.errors import BadRequest

BoolColumn = NDArray[np.bool_]
MOST_CHARACTERS = 20_000_000

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
    funding : ndarray of float64
        Funding paid within `pnl`; 0 in their lists, as TradingView charges none.
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
    funding: FloatColumn

    def __len__(self) -> int:
        return len(self.side)

    def take(self, rows: NDArray[np.intp]) -> TradeColumns:
        """Return the chosen trades."""
        return TradeColumns(*(getattr(self, name)[rows] for name in TradeColumns.__slots__))


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
    found = (np.array([trade[place] for trade in trades], kind) for place, kind in enumerate(kinds))
    return TradeColumns(*found, funding=np.zeros(len(trades)))


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
        funding=trades.funding,
    )


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
