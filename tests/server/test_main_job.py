"""The main job from outside, on real candles: exchange on a port, backfill, backtest, against the plain reference."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from engine.core import catalogue
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.reference_simulator import simulate_plainly
from engine.core.series import Series
from engine.core.signals import compute_signals
from engine.core.strategy import compile_strategy
from engine.core.trades import EXIT_REASONS
from engine.store import Store

# file, symbol, category, interval, from, to (exclusive)
REAL_FILES = [
    ("btc_perp_1m_2022-01.parquet", "BTCUSDT", "linear", "1", "2022-01-03", "2022-01-20"),
    ("btcusd_bitstamp_1h_2019-11_2022-03.parquet", "BTCUSD", "spot", "60", "2019-11-01", "2022-03-01"),
    ("eth_btc_5m_2018-01.parquet", "ETHBTC", "spot", "5", "2018-01-10", "2018-01-31"),
    ("xmr_btc_5m_2018-01.parquet", "XMRBTC", "spot", "5", "2018-01-10", "2018-01-31"),
    ("xrpusdt_perp_5m_2021-11.parquet", "XRPUSDT", "linear", "5", "2021-11-15", "2021-11-22"),
    ("eurusd_1h_2022-01_2025-09.parquet", "EURUSD", "spot", "60", "2022-01-02", "2025-09-13"),
]


@dataclass(frozen=True)
class Bench:
    """A running exchange over real files, and the environment that points at it."""

    environment: dict[str, str]
    home: Path
    folder: Path

    def bst(self, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "server", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bench(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, home = tmp_path_factory.mktemp("candles"), tmp_path_factory.mktemp("home")
    entries = []
    for file, symbol, category, interval, *_ in REAL_FILES:
        shutil.copy(shared_folder / "data" / file, folder / file)
        entries.append({"file": file, "symbol": symbol, "category": category, "interval": interval})
    (folder / "manifest.json").write_text(json.dumps({"files": entries}), encoding="utf-8")
    served = subprocess.Popen(
        [sys.executable, "-m", "server", "exchange", "--port", "0", "--data", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    with served:
        assert served.stdout is not None
        try:
            address = next(word for word in served.stdout.readline().split() if word.startswith("http"))
            environment = os.environ | {
                "BST_HOME": str(home),
                "BYBIT_REST_URL": address,
                "BST_REQUESTS_PER_SECOND": "0",
            }
            yield Bench(environment, home, folder)
        finally:
            served.kill()


def file_candles(path: Path) -> Candles:
    table = parquet.read_table(path).to_pydict()
    columns = (np.asarray(table[name], np.float64) for name in ("open", "high", "low", "close", "volume"))
    return Candles(np.asarray(table["ts"], np.int64), *columns, np.zeros(len(table["ts"])))


@pytest.mark.parametrize(("file", "symbol", "category", "interval", "start", "end"), REAL_FILES)
async def test_backfilled_candles_are_the_files_and_trades_are_the_plain_references(
    bench: Bench, file: str, symbol: str, category: Any, interval: Any, start: str, end: str
) -> None:
    bench.bst(
        "backfill", symbol, "--category", category, "--interval", interval, "--start", start, "--end", end, "--json"
    )
    request = {
        "strategy": "ema_cross",
        "params": {"fast": 20, "slow": 50},
        "symbol": symbol,
        "category": category,
        "interval": interval,
        "start": start,
        "end": end,
        "settings": {"round_to_lot": False, "slippage_percent": 0.01, "allow_short": category != "spot"},
    }
    run = bench.bst("call", "run_backtest", json.dumps(request))
    assert run["data"]["source"] == "replay"

    whole = file_candles(bench.folder / file)
    store = await Store.open(f"sqlite:///{(bench.home / 'bst.sqlite').as_posix()}")
    try:
        series = Series("bybit", category, symbol, "trade", interval)
        stored = await store.read_candles(series, 0, 2**60)
        columns = await store.run_trades(run["run_id"])
    finally:
        await store.close()
    expected = whole.between(int(stored.ts[0]), int(stored.ts[-1]) + 1)
    assert stored.sha256() == expected.sha256() == run["data"]["sha256"]

    compiled = compile_strategy(catalogue.load("ema_cross"), {"fast": 20, "slow": 50})
    fee = 0.001 if category == "spot" else 0.00055
    settings = ExecutionSettings(
        capital=10_000,
        category=category,
        taker_fee_fraction=fee,
        maker_fee_fraction=0.001 if category == "spot" else 0.0002,
        slippage_fraction=0.0001,
        allow_short=category != "spot",
    )
    plain = simulate_plainly(stored, compute_signals(compiled, stored, interval), settings)
    assert len(plain.trades) == run["metrics"]["trades"] > 0
    for name in (
        "side",
        "entry_bar",
        "exit_bar",
        "entry_price",
        "exit_price",
        "quantity",
        "pnl",
        "fees",
        "exit_reason",
    ):
        assert columns[name].tolist() == getattr(plain.trades, name).tolist(), name
    page = bench.bst("call", "get_trades", json.dumps({"run_id": run["run_id"], "limit": 500}))
    assert page["total"] == len(plain.trades)
    for row, trade in enumerate(page["items"]):
        assert trade["side"] == ("long" if plain.trades.side[row] > 0 else "short")
        assert trade["exit_reason"] == EXIT_REASONS[plain.trades.exit_reason[row]]
        for name in ("entry_price", "exit_price", "quantity", "pnl", "fees", "mae", "mfe"):
            assert trade[name] == getattr(plain.trades, name)[row], (row, name)
    assert run["metrics"]["final_equity"] == plain.equity[-1]
