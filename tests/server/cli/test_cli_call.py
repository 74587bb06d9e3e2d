"""`bst call`: one JSON document, and an exit code that tells result, error and wrong usage apart."""

from __future__ import annotations

import codecs
import json
import shlex
from pathlib import Path

import pytest

from engine.errors import Refused
from server.result_policy import MAX_CHARACTERS

BACKFILL = {"symbol": "ETHUSDT", "interval": "60", "start": "2024-01-01", "end": "2024-01-15"}


def test_a_result_is_one_json_document(run) -> None:
    result = run("call", "search_instruments", '{"query": "BTC", "limit": 2}')
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert "BTCUSDT" in {row["symbol"] for row in json.loads(result.stdout)["items"]}


def test_a_long_page_is_printed_whole(run, call) -> None:
    page = call("get_candles", symbol="BTCUSDT", start="2024-01-01", end="2024-01-11", limit=900)
    assert len(page["rows"]) == 900
    assert len(json.dumps(page)) > MAX_CHARACTERS
    assert "truncated" not in page


def test_the_examples_of_the_help_work(run) -> None:
    shown = run("call", "--help").stdout
    example = next(line for line in shown.splitlines() if "search_instruments" in line)
    result = run("call", *shlex.split(example)[2:])
    assert result.exit_code == 0, result.output


def test_an_error_object_exits_with_one(run) -> None:
    result = run("call", "get_run", '{"run_id": "run_000000000000"}')
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert set(error) == {"code", "message", "fix", "retryable", "retry_after_s"}
    assert error["code"] == "not_found"


def test_arguments_that_a_tool_refuses_are_an_error_object(run) -> None:
    result = run("call", "run_backtest", '{"strategy": "ema_cross", "colour": 1}')
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert error["code"] == "bad_request"
    assert "start: is missing" in error["message"]
    assert "colour" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["helth_check"], "did you mean health_check"),
        (["zzz"], "bst tools"),
        (["health_check", "{exchange: true}"], "is not JSON"),
        (["health_check", "[1]"], "needed is an object"),
        (["health_check", '{"exchange": NaN}'], "not a JSON number"),
        (["health_check", "[" * 5000], "is not JSON"),
        (["health_check", "@no-such-file.json"], "cannot be read"),
        ([], "Missing argument 'TOOL'"),
    ],
)
def test_wrong_usage_exits_with_two_and_leaves_stdout_empty(run, arguments: list[str], told: str) -> None:
    result = run("call", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "raw",
    [
        b'{"query": "ETH"}',
        codecs.BOM_UTF8 + b'{"query": "ETH"}',
        '{"query": "ETH"}'.encode("utf-16"),
    ],
    ids=["utf-8", "utf-8 with a mark", "utf-16"],
)
def test_arguments_come_from_a_file_or_stdin_in_the_encodings_of_windows(run, tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(raw)
    from_file = run("call", "search_instruments", f"@{file}")
    from_stdin = run("call", "search_instruments", "-", stdin=raw)
    assert from_file.exit_code == from_stdin.exit_code == 0
    assert from_file.stdout == from_stdin.stdout
    assert "ETHUSDT" in from_file.stdout


def test_a_started_job_is_waited_for(run) -> None:
    result = run("call", "start_backfill", json.dumps(BACKFILL))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["state"] == "done"
    assert document["items"][0]["upserts"] == 14 * 24


def test_a_detached_job_is_left_to_a_server(run, call) -> None:
    result = run("call", "start_backfill", json.dumps(BACKFILL), "--detach")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["job_id"].startswith("job_")
    assert "bst serve" in result.stderr
    assert call("list_jobs")["total"] == 1


def test_a_job_that_fails_is_an_error_object(run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_arguments: object, **_options: object) -> None:
        raise Refused("the exchange closed this market", fix="choose another symbol")

    monkeypatch.setattr("engine.backfill.Backfill.run", refuse)
    result = run("call", "start_backfill", json.dumps(BACKFILL))
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert error["code"] == "refused"
    assert error["fix"] == "choose another symbol"
    assert error["job_id"].startswith("job_")


def test_settings_that_cannot_be_used_are_an_error_object_without_their_values(run, monkeypatch) -> None:
    monkeypatch.setenv("BST_REQUESTS_PER_SECOND", "hunter2")
    result = run("call", "health_check")
    assert result.exit_code == 1
    assert "BST_REQUESTS_PER_SECOND" in json.loads(result.stdout)["message"]
    assert "hunter2" not in result.output


def test_flags_win_over_the_environment(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BST_FEED", "bybit")
    elsewhere = tmp_path / "elsewhere"
    result = run("call", "health_check", "--feed", "simulated", "--home", str(elsewhere))
    assert json.loads(result.stdout)["feed"] == "simulated"
    assert (elsewhere / "bst.sqlite").is_file()


def test_a_tool_that_the_settings_withhold_is_an_error_object(run, monkeypatch) -> None:
    monkeypatch.setenv("BST_READ_ONLY", "true")
    result = run("call", "run_backtest", "{}")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["code"] == "not_found"


def test_a_home_that_cannot_be_a_folder_is_told_without_a_traceback(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = run("call", "health_check", "--home", str(tmp_path / "file" / "home"))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["fix"]


@pytest.mark.parametrize(("tool", "code"), [("health_check", 0), ("get_run", 1), ("no_such_tool", 2)])
def test_a_real_process_keeps_the_three_exit_codes(run_process, tool: str, code: int) -> None:
    done = run_process("call", tool)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 2:
        assert done.stdout == ""
    else:
        assert isinstance(json.loads(done.stdout), dict)
