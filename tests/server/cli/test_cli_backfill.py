"""`bst backfill`: candles in the foreground, machine output on request, safe to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RANGE = ("--start", "2024-01-01", "--end", "2024-01-03")
FIELDS = {"mode", "symbol", "interval", "upserts", "pages", "elapsed_sec", "rows_per_sec"}


def test_json_output_is_the_report_and_nothing_else(run) -> None:
    result = run("backfill", "BTCUSDT", "--interval", "1", *RANGE, "--page", "1000", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.keys() >= FIELDS
    assert (report["mode"], report["symbol"], report["interval"]) == ("sync", "BTCUSDT", "1")
    assert (report["start"], report["end"]) == ("2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z")
    assert report["upserts"] == report["bars"] == 2880
    assert report["pages"] == 3
    assert report["source"] == "simulated"
    assert result.stderr == ""


def test_what_is_stored_is_not_fetched_again(run) -> None:
    run("backfill", "BTCUSDT", "--interval", "15", *RANGE)
    again = json.loads(run("backfill", "btcusdt", "--interval", "15m", *RANGE, "--json").stdout)
    assert (again["upserts"], again["pages"], again["complete"]) == (0, 0, True)


def test_days_count_back_from_the_running_bar(run) -> None:
    report = json.loads(run("backfill", "BTCUSDT", "--interval", "60", "--days", "2", "--json").stdout)
    assert report["bars"] == 48


def test_a_page_limit_leaves_a_resumable_rest_and_says_so(run) -> None:
    first = run("backfill", "BTCUSDT", "--interval", "1", *RANGE, "--max-pages", "1")
    assert first.exit_code == 0
    assert "run the same command again" in first.stderr
    second = json.loads(run("backfill", "BTCUSDT", "--interval", "1", *RANGE, "--json").stdout)
    assert second["complete"]
    assert second["bars"] == 2880


def test_people_read_the_same_figures(run) -> None:
    result = run("backfill", "BTCUSDT", "--interval", "60", *RANGE)
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["upserts"].strip() == "48"
    assert rows["source"].strip() == "simulated"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["XXXNOTREAL"], 1, "not_found"),
        (["BTC/USDT"], 1, "bad_request"),
        (["BTCUSDT", "--interval", "7"], 1, "interval is one of"),
        (["BTCUSDT", "--start", "2024-02-01", "--end", "2024-01-01"], 1, "--end is not after --start"),
        (["BTCUSDT", "--start", "yesterday"], 1, "--start"),
        (["BTCUSDT", "--page", "1001"], 2, "1001"),
        (["BTCUSDT", "--days", "-1"], 2, "-1"),
        ([], 2, "SYMBOL"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(run, arguments: list[str], code: int, told: str) -> None:
    result = run("backfill", *arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert result.stdout == ""


def test_errors_are_json_when_json_was_asked_for(run) -> None:
    result = run("backfill", "XXXNOTREAL", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["code"] == "not_found"


def test_a_home_inside_a_file_is_told_without_a_traceback(run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    result = run("backfill", "BTCUSDT", "--home", str(tmp_path / "taken" / "home"))
    assert result.exit_code == 1
    assert "--home" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process alone on Windows")
def test_ctrl_c_keeps_the_pages_that_were_stored(run, tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "slow.json"
    rules = [{"match": {"path": "/v5/market/kline", "from_call": 5}, "action": {"kind": "delay", "seconds": 600}}]
    script.write_text(json.dumps({"rules": rules}), encoding="utf-8")
    program = [sys.executable, "-P", "-m", "server"]
    order = ["backfill", "BTCUSDT", "--interval", "1", *RANGE, "--page", "100", "--feed", "bybit"]
    with subprocess.Popen(
        [*program, "exchange", "--port", "0", "--faults", str(script)], stdout=subprocess.PIPE, text=True
    ) as exchange:
        assert exchange.stdout is not None
        address = exchange.stdout.readline().strip()
        monkeypatch.setenv("BYBIT_REST_URL", address)
        monkeypatch.setenv("BST_REQUESTS_PER_SECOND", "0")
        with subprocess.Popen([*program, *order], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stopped:
            try:
                wait_for_stored_pages(tmp_path / "home" / "bst.sqlite", 4)
                stopped.send_signal(signal.SIGINT)
                out, told = stopped.communicate(timeout=120)
            finally:
                stopped.kill()
                exchange.kill()
    assert stopped.returncode == 130
    assert out == ""
    assert "goes on from there" in told
    assert "Traceback" not in told
    coverage = json.loads(run("call", "get_coverage", '{"symbol": "BTCUSDT"}', "--feed", "bybit").stdout)
    assert "2024-01-01T00:00:00Z" in json.dumps(coverage)


def wait_for_stored_pages(database: Path, pages: int) -> None:
    """Look into the database until so many pages of 100 candles are covered."""
    import sqlite3
    import time

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with sqlite3.connect(f"file:{database.as_posix()}?mode=ro", uri=True) as connection:
                reached = connection.execute("SELECT max(end_ms) - min(start_ms) FROM coverage").fetchone()[0]
        except sqlite3.Error:
            reached = None
        if reached is not None and reached >= pages * 100 * 60_000:
            return
        time.sleep(0.05)
    raise AssertionError("the pages never arrived")
