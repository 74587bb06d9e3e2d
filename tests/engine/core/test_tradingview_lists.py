"""TradingView's own lists of trades, reproduced by documents in the strategy language, entry for entry."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import compute_signals
from engine.core.simulation import check_accounting
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy

SCRIPTS = {
    "rsi": {
        "name": "tradingview_rsi",
        "define": {"strength": "rsi(close, 14)"},
        "long_entry": "crossover(strength, 30)",
        "short_entry": "crossunder(strength, 70)",
    },
    "macd": {
        "name": "tradingview_macd",
        "define": {"histogram": "macd_hist(close, 12, 26, 9)"},
        "long_entry": "crossover(histogram, 0)",
        "short_entry": "crossunder(histogram, 0)",
    },
}
# One unit, no commission, no slippage: the properties of the lists.
SETTINGS = ExecutionSettings(
    capital=1_000_000.0, taker_fee_fraction=0.0, maker_fee_fraction=0.0, size_mode="quantity", size_value=1.0
)


def read_candles(path: Path) -> Candles:
    table = parquet.read_table(path)
    columns = [table[name].to_numpy() for name in ("ts", "open", "high", "low", "close", "volume")]
    return Candles(*columns, np.full(len(columns[0]), math.nan))


def listed_entries(path: Path) -> list[tuple[int, int, float]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["Type"].startswith("Entry")]
    return [
        (
            int(datetime.strptime(row["Date/Time"], "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC).timestamp() * 1000),
            1 if row["Type"] == "Entry long" else -1,
            float(row["Price USD"]),
        )
        for row in rows
    ]


@pytest.mark.parametrize(("script", "count"), [("rsi", 194), ("macd", 1_808)])
def test_every_entry_of_the_list_is_found_at_its_time_side_and_price(
    script: str, count: int, shared_folder: Path
) -> None:
    data = shared_folder / "data"
    candles = read_candles(data / "eurusd_1h_2022-01_2025-09.parquet")
    signals = compute_signals(compile_strategy(parse_strategy(SCRIPTS[script])), candles, "60")
    simulation = simulate(candles, signals, SETTINGS)
    trades = simulation.trades
    listed = listed_entries(data / "tradingview" / f"{script}_trades.csv")
    found = list(
        zip(candles.ts[trades.entry_bar].tolist(), trades.side.tolist(), trades.entry_price.tolist(), strict=True)
    )
    assert len(listed) == count
    assert found == listed
    assert simulate_plainly(candles, signals, SETTINGS).equity.tobytes() == simulation.equity.tobytes()
    assert check_accounting(simulation, candles, SETTINGS) == ()
