"""`bst exchange`: one line with its address, recorded candles byte for byte, and a quick end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from engine.core.series import Series
from engine.store import Store


@contextmanager
def exchange(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "server", "exchange", "--port", "0", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_it_prints_its_address_and_answers_there() -> None:
    with exchange() as (address, _):
        answer = httpx2.get(f"{address}/v5/market/time", timeout=120)
    assert answer.json()["retCode"] == 0
    assert answer.headers["X-Bst-Exchange"] == "simulated"


def test_control_is_closed_unless_asked_for() -> None:
    with exchange() as (address, _):
        closed = httpx2.get(f"{address}/_control/journal", timeout=120).status_code
    with exchange("--control") as (address, _):
        opened = httpx2.get(f"{address}/_control/journal", timeout=120).status_code
    assert (closed, opened) == (404, 200)


@pytest.mark.skipif(sys.platform == "win32", reason="terminate is immediate on Windows")
def test_it_ends_though_a_client_still_waits_for_an_answer(tmp_path: Path) -> None:
    script = tmp_path / "slow.json"
    rule = {"match": {"path": "/v5/market/kline"}, "action": {"kind": "delay", "seconds": 600}}
    script.write_text(json.dumps({"rules": [rule]}), encoding="utf-8")
    with exchange("--faults", str(script)) as (address, process):
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as waiting:
            request = f"GET /v5/market/kline?category=linear&symbol=BTCUSDT&interval=1 HTTP/1.1\r\nHost: {host}\r\n\r\n"
            waiting.sendall(request.encode())
            httpx2.get(f"{address}/v5/market/time", timeout=120)
            process.terminate()
            process.wait(120)


def test_wrong_usage_is_told(run, tmp_path: Path) -> None:
    broken = tmp_path / "faults.json"
    broken.write_text('{"rules": [{}]}', encoding="utf-8")
    assert run("exchange").exit_code == 2
    assert run("exchange", "--port", "0", "--data", str(tmp_path / "nowhere")).exit_code == 2
    refused = run("exchange", "--port", "0", "--faults", str(broken))
    assert refused.exit_code == 1
    assert "fault script" in refused.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = run("exchange", "--port", str(taken.getsockname()[1]))
    assert busy.exit_code == 2
    assert "--port 0" in busy.stderr


async def test_recorded_candles_arrive_in_the_store_byte_for_byte(run_process, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    count = 2_500
    ts = 1_704_067_200_000 + 60_000 * np.arange(count)
    opens = 40_000 + np.cumsum(generator.normal(size=count))
    closes = opens + generator.normal(size=count)
    highs = np.maximum(opens, closes) + generator.random(count)
    lows = np.minimum(opens, closes) - generator.random(count)
    volumes = generator.random(count) * 100
    columns = [opens, highs, lows, closes, volumes]
    lines = ["time,open,high,low,close,volume"]
    lines += [",".join([str(at), *(repr(float(column[row])) for column in columns)]) for row, at in enumerate(ts)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "BTCUSDT_linear_1.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with exchange("--data", str(data)) as (address, _):
        done = run_process(
            "backfill", "BTCUSDT", "--interval", "1", "--start", "2024-01-01", "--end", "2024-01-03", "--json",
            BYBIT_REST_URL=address, BST_REQUESTS_PER_SECOND="0", BST_FEED="bybit",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["upserts"], report["source"]) == (count, "replay")
    store = await Store.open(f"sqlite:///{(tmp_path / 'home' / 'bst.sqlite').as_posix()}")
    try:
        series = Series("bybit", "linear", "BTCUSDT", "trade", "1")
        candles = await store.read_candles(series, int(ts[0]), int(ts[-1]) + 60_000)
    finally:
        await store.close()
    assert candles.ts.tolist() == ts.tolist()
    stored = [candles.open, candles.high, candles.low, candles.close, candles.volume]
    assert [column.tobytes() for column in stored] == [column.astype("<f8").tobytes() for column in columns]
