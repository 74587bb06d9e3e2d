"""What a start costs: tools/list over stdio against a three-line server of the bare SDK, and `bst call run_backtest`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

ROOT = Path(__file__).parent.parent.parent
RANGE = {"symbol": "BTCUSDT", "interval": "1", "start": "2024-01-01", "end": "2024-03-10T10:40:00Z"}
CALL = ["call", "run_backtest", json.dumps({"strategy": "ema_cross", **RANGE})]
FETCH = ["call", "start_backfill", json.dumps(RANGE)]
BARE = "from mcp.server import MCPServer\nMCPServer('bare').run('stdio')\n"


async def seconds_to_tool_list(arguments: list[str], home: Path, mode: str) -> float:
    """Return the time from spawning the server to its answered tool list."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"BST_HOME": str(home), "BST_FEED": "simulated"}
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=environment, cwd=ROOT)
    started = time.perf_counter()
    with (home / "stderr.txt").open("w", encoding="utf-8") as stderr:
        async with Client(stdio_client(parameters, errlog=stderr), mode=mode) as client:
            await client.list_tools()
            return time.perf_counter() - started


async def compare(rounds: int, mode: str) -> None:
    """Print medians and their ratio; the first round only writes bytecode."""
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        script = home / "bare.py"
        script.write_text(BARE, encoding="utf-8")
        for turn in range(rounds + 1):
            bare_seconds = await seconds_to_tool_list([str(script)], home, mode)
            our_seconds = await seconds_to_tool_list(["-m", "server", "serve"], home, mode)
            if turn:
                bare.append(bare_seconds)
                ours.append(our_seconds)
    print(
        f"{mode}: bare SDK {statistics.median(bare):.3f} s, ours {statistics.median(ours):.3f} s (medians of {rounds})"
    )
    print(f"{mode}: ratio {statistics.median(ours) / statistics.median(bare):.2f}")


def command(arguments: list[str], home: Path) -> tuple[float, float]:
    """Run `bst` in a process of its own; return its wall and processor seconds."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"BST_HOME": str(home), "BST_FEED": "simulated"}
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "server", *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def call_backtest(rounds: int) -> None:
    """Print what a backtest of 100,000 stored bars takes in a fresh process; the first round compiles."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command(FETCH, home)
        taken = [command(CALL, home) for _ in range(rounds + 1)][1:]
    walls, used = zip(*taken, strict=True)
    print(f"bst call run_backtest: wall {min(walls):.2f} s, processor {min(used):.2f} s (minima of {rounds})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for mode in ("auto", "legacy"):
        asyncio.run(compare(rounds, mode))
    call_backtest(rounds)
