import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

ROOT = Path(__file__).parent.parent.parent
SERVE = ["-m", "server", "serve", "--feed", "simulated"]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "BST_HOME": str(home), "PYTHONPATH": str(ROOT)}


@contextmanager
def ended(process: subprocess.Popen[str]) -> Generator[subprocess.Popen[str]]:
    """Leave no process and no open pipe behind, whatever happens meanwhile."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)


def talk(arguments: list[str], home: Path, *messages: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Send messages, close stdin, and return everything the process wrote until it ended."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=lines_of(*messages),
        capture_output=True,
        encoding="utf-8",
        env=environment(home),
        cwd=home,
        timeout=300,
        check=False,
    )


HELLO = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        },
    },
    {"method": "notifications/initialized"},
)


async def noisy_call(home: Path) -> tuple[Any, str]:
    parameters = StdioServerParameters(
        command=sys.executable, args=[str(Path(__file__).parent / "noisy_server.py")], env=environment(home)
    )
    log = home / "stderr.txt"
    with log.open("w", encoding="utf-8") as stderr:
        async with Client(stdio_client(parameters, errlog=stderr)) as client:
            result = await client.call_tool("shout", {})
    return result, log.read_text(encoding="utf-8")


async def test_what_tools_children_and_exit_handlers_print_reaches_stderr(tmp_path: Path):
    result, stderr = await noisy_call(tmp_path)
    assert result.structured_content == {"said": "done"}
    for place in ("before serving", "by a tool", "by a child", "after serving", "at exit"):
        assert f"printed {place}" in stderr
    assert "written by a tool" in stderr
    assert "written at exit" in stderr


def test_stdout_holds_protocol_messages_only_until_the_process_has_ended(tmp_path: Path):
    with ended(
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "noisy_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment(tmp_path),
        )
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        call = {"id": 2, "method": "tools/call", "params": {"name": "shout", "arguments": {}}}
        process.stdin.write(lines_of(*HELLO, call))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        rest, stderr = process.communicate(timeout=300)
    assert [answer["id"] for answer in answers] == [1, 2]
    assert rest == ""
    assert "printed at exit" in stderr


def test_the_server_ends_cleanly_when_its_client_closes_stdin(tmp_path: Path):
    done = talk(SERVE, tmp_path, *HELLO)
    assert done.returncode == 0
    assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "bybit-strategy-tester"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_real_client_lists_and_calls_over_stdio(tmp_path: Path, mode: str):
    parameters = StdioServerParameters(
        command=sys.executable, args=SERVE, env=environment(tmp_path / "home"), cwd=tmp_path
    )
    async with Client(stdio_client(parameters), mode=mode) as client:
        names = {each.name for each in (await client.list_tools()).tools}
        health = await client.call_tool("health_check", {})
    assert "run_backtest" in names
    assert health.structured_content["status"] == "ok"


async def test_a_home_that_cannot_be_opened_is_told_to_the_caller(tmp_path: Path):
    (tmp_path / "home").write_text("a file where the folder should be", encoding="utf-8")
    parameters = StdioServerParameters(
        command=sys.executable, args=SERVE, env=environment(tmp_path / "home"), cwd=tmp_path
    )
    async with Client(stdio_client(parameters)) as client:
        result = await client.call_tool("health_check", {})
    assert result.is_error
    assert result.structured_content["code"] == "storage"
