"""A stored run as analyses read it: its result, its trades and its daily marks, without simulating it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.core.candles import FloatColumn, TimeColumn
from engine.core.series import Series
from engine.core.timeframes import DAY_MS
from engine.core.times import parse_time_ms
from engine.core.trades import Trades
from engine.errors import NotFound
from engine.store import RunRecord, Store


@dataclass(frozen=True, slots=True, eq=False)
class StoredRun:
    """One stored run.

    Attributes
    ----------
    record : RunRecord
    result, manifest : dict
    trades : Trades
    entry_ms, exit_ms : ndarray of int64, shape (trades,)
        Opens of the bars a trade was filled in.
    marks_ms, marks, drawdowns : ndarray, shape (days + 1,)
        As in `engine.core.metrics.Facts`.
    returns : ndarray of float64, shape (days,), or None
        Simple returns between the marks; None when a mark is zero or less.
    """

    record: RunRecord
    result: dict[str, Any]
    manifest: dict[str, Any]
    trades: Trades
    entry_ms: TimeColumn
    exit_ms: TimeColumn
    marks_ms: TimeColumn
    marks: FloatColumn
    drawdowns: FloatColumn
    returns: FloatColumn | None

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self.record.id

    @property
    def metrics(self) -> dict[str, Any]:
        """Return the stored metrics; undefined ones are None."""
        return self.result["metrics"]

    @property
    def data(self) -> dict[str, Any]:
        """Return what the run was tested on."""
        return self.result["data"]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings as they were given."""
        return self.manifest["settings"]

    @property
    def capital(self) -> float:
        """Return the starting capital in settlement currency."""
        return float(self.metrics["initial_capital"])

    @property
    def is_portfolio(self) -> bool:
        """Say whether several symbols shared the capital."""
        return "," in self.record.symbol

    @property
    def is_inverse(self) -> bool:
        """Say whether contracts are counted in USD and money in coin."""
        return self.record.category == "inverse"

    @property
    def series(self) -> Series:
        """Return the candles it ran on."""
        data = self.manifest["data"]
        return Series(data["feed"], data["category"], data["symbol"], "trade", data["interval"])

    @property
    def notional(self) -> FloatColumn:
        """Return the value of each trade at its entry, settlement currency."""
        trades = self.trades
        return trades.quantity / trades.entry_price if self.is_inverse else trades.quantity * trades.entry_price

    @property
    def equity_before(self) -> FloatColumn:
        """Return the realised equity before each trade: the capital and the profits of the trades before it."""
        return self.capital + np.cumsum(self.trades.pnl) - self.trades.pnl

    def whole_days(self) -> tuple[TimeColumn, FloatColumn]:
        """Return the ends and the returns of the days that the run covers from midnight to midnight (UTC)."""
        if self.returns is None:
            return np.empty(0, np.int64), np.empty(0)
        whole = (np.diff(self.marks_ms) == DAY_MS) & (self.marks_ms[1:] % DAY_MS == 0)
        return self.marks_ms[1:][whole], self.returns[whole]


async def read_run(store: Store, run_id: str) -> StoredRun:
    """Return a stored run; an unknown one is NotFound with the latest ids."""
    try:
        record = await store.run(run_id)
    except NotFound as error:
        latest = await store.list_runs(limit=3)
        known = ", ".join(row.id for row in latest.items) or "none yet: run_backtest makes one"
        raise NotFound(error.message, fix=f"the latest runs: {known}") from error
    return stored_run(record, await store.run_trades(run_id), await store.run_equity(run_id))


def stored_run(record: RunRecord, trades: Mapping[str, Any], equity: Mapping[str, Any]) -> StoredRun:
    """Put the stored columns of a run together."""
    result = json.loads(record.result)
    capital = float(result["metrics"]["initial_capital"])
    marks = np.concatenate(([capital], equity["equity"]))
    first_ms = parse_time_ms(result["data"]["first_bar"])
    columns: dict[str, Any] = {name: trades[name] for name in Trades.__slots__}
    return StoredRun(
        record=record,
        result=result,
        manifest=json.loads(record.manifest),
        trades=Trades(**columns),
        entry_ms=trades["entry_ts"],
        exit_ms=trades["exit_ts"],
        marks_ms=np.concatenate(([first_ms], equity["ts"])).astype(np.int64),
        marks=marks,
        drawdowns=1.0 - marks / np.maximum.accumulate(marks),
        returns=marks[1:] / marks[:-1] - 1.0 if bool(np.all(marks > 0)) else None,
    )


def run_facts(run: StoredRun) -> dict[str, Any]:
    """Say what was tested, on what, at which costs."""
    data, strategy, settings = run.data, run.result["strategy"], run.settings
    return {
        "run_id": run.id,
        "strategy": strategy["name"],
        "params": strategy["params"],
        "symbol": data["symbol"],
        "category": data["category"],
        "interval": data["interval"],
        "start": data["start"],
        "end": data["end"],
        "bars": data["bars"],
        "currency": data["currency"],
        "source": data["source"],
        "leverage": settings["leverage"],
    }
