"""Entries of TradingView's own built-in strategies, reproduced one by one from the same bars."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from engine.core.candles import Candles
from engine.core.expressions import evaluate


def read_bars(folder: Path) -> Candles:
    table = parquet.read_table(folder / "data" / "eurusd_1h_2022-01_2025-09.parquet")
    columns = {name.lower(): table.column(name).to_numpy() for name in table.column_names}
    times = next(columns[name] for name in ("ts", "time", "timestamp", "open_time", "datetime") if name in columns)
    if times.dtype.kind == "M":
        times = times.astype("datetime64[ms]").astype(np.int64)
    prices = [columns[name].astype(np.float64) for name in ("open", "high", "low", "close")]
    return Candles(times.astype(np.int64), *prices, np.ones(len(times)), np.ones(len(times)))


def read_entries(path: Path) -> list[tuple[int, str, float]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Type"].startswith("Entry")]
    return [
        (
            int(datetime.fromisoformat(row["Date/Time"]).timestamp() * 1000),
            row["Type"].split()[1],
            float(row["Price USD"]),
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("name", "long_entry", "short_entry", "count"),
    [
        ("rsi", "crossover(rsi(close, 14), 30)", "crossunder(rsi(close, 14), 70)", 194),
        ("macd", "crossover(macd_hist(close, 12, 26, 9), 0)", "crossunder(macd_hist(close, 12, 26, 9), 0)", 1_808),
    ],
)
def test_entries_are_those_of_tradingview(
    shared_folder: Path, name: str, long_entry: str, short_entry: str, count: int
) -> None:
    candles = read_bars(shared_folder)
    entries = read_entries(shared_folder / "data" / "tradingview" / f"{name}_trades.csv")
    up, down = evaluate(long_entry, candles, "60"), evaluate(short_entry, candles, "60")
    side = ""
    found: list[tuple[int, str, float]] = []
    for row in range(len(candles) - 1):
        wanted = "long" if up[row] else "short" if down[row] else side
        if wanted != side:
            side = wanted
            found.append((int(candles.ts[row + 1]), side, float(candles.open[row + 1])))
    assert len(entries) == count
    assert found[:count] == entries
