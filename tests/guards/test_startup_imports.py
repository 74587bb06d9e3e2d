"""Heavy modules stay away until something needs them, or every client waits for them at its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HEAVY = [
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
    "sqlmodel",
    "sqlalchemy",
    "alembic",
    "rich",
    "matplotlib",
    "litellm",
    "optuna",
    "aiosqlite",
    "tenacity",
    "engine.store",
    "engine.backtests",
    "engine.market",
    "server.assembly",
    "server.conformance",
]

# Does what `bst serve` does, with a client in the same process so that the loaded modules can be looked at.
SCRIPT = """
import asyncio, json, os, sys
from server.cli import main
import server.commands.serve
from server.commands.options import settings_from
from server.transports import guard_stdout
out = guard_stdout()
from server.mcp_app import create_server
server = create_server(settings_from(toolsets=None, tools=None, exclude_tools=None, read_only=None, feed=None, home=None))
from mcp.client import Client

async def ask():
    async with Client(server, mode=sys.argv[1]) as client:
        return len((await client.list_tools()).tools)

count = asyncio.run(ask())
loaded = [name for name, module in sys.modules.items() if module is not None]
os.write(out, json.dumps({"tools": count, "loaded": loaded}).encode())
"""


def loaded_after_tool_list(mode: str, home: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "BST_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout)


def test_no_heavy_module_is_loaded_when_the_tool_list_has_been_answered(tmp_path: Path):
    for mode in ("auto", "legacy"):
        report = loaded_after_tool_list(mode, tmp_path)
        assert report["tools"]
        assert not set(HEAVY) & set(report["loaded"])  # pyright: ignore[reportArgumentType]


# What `bst call` does with a tool that needs the whole lab; the second process finds a database in place.
CALL = """
import json, os, sys
from server.cli import main
try:
    main(["call", "list_runs"])
except SystemExit as ended:
    assert not ended.code, ended.code
sys.stderr.write(json.dumps([name for name, module in sys.modules.items() if module is not None]))
"""
NEVER_FOR_A_CALL = {
    "jsonschema",
    "pandas",
    "pyarrow",
    "alembic",
    "rich",
    "matplotlib",
    "litellm",
    "optuna",
}


def test_a_call_from_the_command_line_loads_nothing_it_does_not_use(tmp_path: Path):
    loaded: list[str] = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CALL],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "BST_HOME": str(tmp_path), "BST_FEED": "simulated", "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            timeout=300,
            check=True,
        )
        loaded = json.loads(done.stderr)
    assert "engine.backtests" in loaded
    assert not NEVER_FOR_A_CALL & set(loaded)
