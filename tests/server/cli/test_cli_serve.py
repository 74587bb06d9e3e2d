"""`bst serve`: flags decide what is offered, and stdout stays the protocol's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tools.catalog import all_tools


def server(tmp_path: Path, *flags: str) -> StdioServerParameters:
    home = ["--home", str(tmp_path / "home"), "--feed", "simulated"]
    return StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "server", "serve", *home, *flags], cwd=tmp_path
    )


@pytest.mark.parametrize(
    ("flags", "offered"),
    [
        ((), {tool.name for tool in all_tools()}),
        (("--toolsets", "core"), {tool.name for tool in all_tools() if tool.core}),
        (("--toolsets", "jobs", "--read-only"), {"wait_for_job", "get_job_result", "list_jobs"}),
        (("--toolsets", "jobs", "--exclude-tools", "cancel_job,list_jobs"), {"wait_for_job", "get_job_result"}),
        (("--tools", "get_run,health_check"), {"get_run", "health_check"}),
    ],
)
async def test_flags_decide_what_is_offered(tmp_path: Path, flags: tuple[str, ...], offered: set[str]) -> None:
    async with Client(server(tmp_path, *flags)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == offered


async def test_feed_and_home_reach_the_server(tmp_path: Path) -> None:
    async with Client(server(tmp_path)) as client:
        answer = await client.call_tool("health_check", {})
    assert answer.structured_content is not None
    assert answer.structured_content["feed"] == "simulated"
    assert (tmp_path / "home" / "bst.sqlite").is_file()


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (("--toolsets", "jbos"), 1, "jobs"),
        (("--read-only", "--tools", "save_strategy"), 1, "nothing would be offered"),
        (("--toolsets", "jobs", "--exclude-tools", "wait_for_job,get_job_result,cancel_job,list_jobs"), 1, "excluded"),
        (("--feed", "binance"), 2, "bybit"),
        (("--http", "--host", "0.0.0.0"), 1, "BST_HTTP_TOKEN"),
        (("--http", "--port", "70000"), 2, "70000"),
    ],
)
def test_what_cannot_be_served_is_told_on_stderr(run_process, flags: tuple[str, ...], code: int, told: str) -> None:
    done = run_process("serve", *flags)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
