"""A million one-minute candles from a local exchange: seconds, memory, and the longest stall a caller saw.

A real server is spoken to over stdio. While it backfills, `health_check` is called every 100 ms; the slowest answer shows
how long the event loop was busy at most. Prints figures, asserts nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time

import psutil
from mcp import Client, StdioServerParameters

START, END, BARS = "2021-01-01", "2022-11-26T10:40", 1_000_000


async def main() -> None:
    exchange = subprocess.Popen(  # noqa: ASYNC220 - a child for the whole run, started before anything is timed
        [sys.executable, "-m", "server", "exchange", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    assert exchange.stdout is not None
    address = next(word for word in exchange.stdout.readline().split() if word.startswith("http"))
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"BST_HOME": home, "BYBIT_REST_URL": address, "BST_REQUESTS_PER_SECOND": "0"}
        target = StdioServerParameters(command=sys.executable, args=["-m", "server", "serve"], env=environment)
        try:
            async with Client(target) as client:
                await measure(client)
        finally:
            exchange.terminate()
            exchange.communicate()


async def measure(client: Client) -> None:
    await client.call_tool("health_check", {})
    request = {"symbol": "BTCUSDT", "interval": "1", "start": START, "end": END}
    began = time.perf_counter()
    job = (await client.call_tool("start_backfill", request)).structured_content or {}
    server = next(
        child
        for child in psutil.Process().children(recursive=True)
        if "serve" in child.cmdline() and "exchange" not in child.cmdline()
    )
    answers: list[float] = []
    peak = 0
    state: dict[str, object] = {}
    while True:
        asked = time.perf_counter()
        await client.call_tool("health_check", {})
        answers.append(time.perf_counter() - asked)
        peak = max(peak, server.memory_info().rss)
        state = (
            await client.call_tool("wait_for_job", {"job_id": job["job_id"], "wait_seconds": 0})
        ).structured_content or {}
        if state["state"] not in ("queued", "running"):
            break
        await asyncio.sleep(max(0.0, 0.1 - (time.perf_counter() - asked)))
    seconds = time.perf_counter() - began
    result = (await client.call_tool("get_job_result", {"job_id": job["job_id"]})).structured_content or {}
    answers.sort()
    print(f"state {state['state']}, result {result.get('items')}")
    print(f"{seconds:.1f} s for {BARS:,} bars asked; peak {peak / 1e6:.0f} MB")
    print(
        f"health_check beside it: {len(answers)} calls, median {answers[len(answers) // 2] * 1000:.1f} ms, "
        f"p99 {answers[int(len(answers) * 0.99)] * 1000:.1f} ms, slowest {answers[-1] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
