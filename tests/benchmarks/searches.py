"""A search through the tool, end to end: wall time, its share outside the kernel, and how long others wait meanwhile.

    uv run python tests/benchmarks/searches.py [--points 10000] [--bars 20000] [--category linear]

A server with the simulated feed runs as a process of its own; `health_check` is called all the while. What the kernel
takes is measured afterwards in this process: the same points and as many bars, funding and margin where the search has
them, on two threads; the CPU time of the compiled loop and that of the whole computation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from market import make_candles
from mcp import Client, StdioServerParameters

from engine.core.execution import ExecutionSettings
from engine.core.market_detail import NO_DETAIL, lay_beside
from engine.core.perpetual import MarginTier, Settlements
from engine.core.strategy import parse_strategy
from engine.core.sweep import event_kernel, sweep

HOUR_MS = 3_600_000
START = datetime(2023, 1, 1, tzinfo=UTC)
DOCUMENT = {
    "name": "cross",
    "params": {
        "fast": {"default": 10, "min": 2, "max": 200, "integer": True},
        "slow": {"default": 50, "min": 2, "max": 1000, "integer": True},
    },
    "long_entry": "crossover(ema(close, fast), ema(close, slow))",
    "short_entry": "crossunder(ema(close, fast), ema(close, slow))",
    "stop_loss": {"percent": 3},
}


def request_of(points: int, bars: int, category: str) -> dict[str, Any]:
    """Return the arguments of start_grid_search."""
    fast = max(int(points**0.5 / 2), 1)
    end = START + timedelta(minutes=60 * bars)
    return {
        "strategy": DOCUMENT, "symbol": "BTCUSDT", "category": category, "interval": "60",
        "start": START.isoformat(), "end": end.isoformat(),
        "grid": {
            "fast": {"from": 5, "to": 4 + fast, "step": 1},
            "slow": {"from": 120, "to": 119 + points // fast, "step": 1},
        },
    }  # fmt: skip


def kernel_seconds(points: int, bars: int, category: str) -> tuple[float, float, float]:
    """Return CPU seconds in the compiled loop, and CPU and wall seconds of the whole computation, of a search's points."""
    candles = replace(make_candles(bars), ts=int(START.timestamp() * 1000) + np.arange(bars) * HOUR_MS)
    settings = ExecutionSettings(capital=10_000.0, category="spot", allow_short=False)
    detail = NO_DETAIL
    if category != "spot":
        times = np.arange(candles.ts[0], candles.ts[-1], 8 * HOUR_MS)
        paid = Settlements(times, np.full(len(times), 1e-4), candles.open[(times - candles.ts[0]) // HOUR_MS])
        detail = lay_beside(candles, "60", settlements=paid, mark=candles, inverse=category == "inverse")
        tiers = (MarginTier(2e6, 0.005, 0.0, 100.0), MarginTier(1e12, 0.01, 1e4, 50.0))
        settings = ExecutionSettings(capital=10_000.0, category=category, margin_tiers=tiers)  # type: ignore[arg-type]
    grid = request_of(points, bars, category)["grid"]
    pairs = [{"fast": fast, "slow": slow} for fast in steps(grid["fast"]) for slow in steps(grid["slow"])]
    compiled, spent = event_kernel.run_combinations, [0.0]

    def timed(*arguments: Any) -> None:
        began = time.thread_time()
        compiled(*arguments)
        spent[0] += time.thread_time() - began

    def run(chosen: list[dict[str, int]]) -> None:
        sweep(candles, parse_strategy(DOCUMENT), chosen, "60", settings, detail=detail, threads=2)

    run(pairs[:20])
    event_kernel.run_combinations = timed
    try:
        wall, began = time.perf_counter(), time.process_time()
        run(pairs)
        return spent[0], time.process_time() - began, time.perf_counter() - wall
    finally:
        event_kernel.run_combinations = compiled


def steps(axis: dict[str, int]) -> range:
    """Return the values of one axis of a grid."""
    return range(axis["from"], axis["to"] + 1, axis["step"])


async def answer(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool; an error ends the benchmark."""
    result = await client.call_tool(tool, arguments)
    if result.is_error or result.structured_content is None:
        raise SystemExit(f"{tool}: {result.structured_content}")
    return result.structured_content


async def searched(client: Client, request: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a search to its end and return its wall time."""
    began = time.perf_counter()
    job = await answer(client, "start_grid_search", request)
    while True:
        state = await answer(client, "wait_for_job", {"job_id": job["job_id"], "wait_seconds": 5})
        if state["state"] not in ("queued", "running"):
            break
    took = time.perf_counter() - began
    if state["state"] != "done":
        raise SystemExit(str(state))
    return took, await answer(client, "get_job_result", {"job_id": job["job_id"], "limit": 1})


async def probe(client: Client, waits_s: list[float], ended: asyncio.Event) -> None:
    """Ask for the health all the time and note how long each answer takes."""
    while not ended.is_set():
        began = time.perf_counter()
        await answer(client, "health_check", {})
        waits_s.append(time.perf_counter() - began)
        await asyncio.sleep(0.02)


def children_seconds() -> float:
    """Return the CPU seconds of the server so far."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))


async def measure(points: int, bars: int, category: str, home: str) -> None:
    """Print the figures of one search."""
    environment = os.environ | {"BST_HOME": home, "BST_FEED": "simulated"}
    server = StdioServerParameters(command=sys.executable, args=["-m", "server", "serve"], env=environment)
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(Client(server))
        request = request_of(points, bars, category)
        # Candles are fetched and kernels compiled or loaded before the clock runs.
        await searched(client, request_of(4, bars, category))
        quiet: list[float] = []
        for _ in range(100):
            began = time.perf_counter()
            await answer(client, "health_check", {})
            quiet.append(time.perf_counter() - began)
        waits_s: list[float] = []
        ended = asyncio.Event()
        probing = asyncio.create_task(probe(client, waits_s, ended))
        before_s = children_seconds()
        took, result = await searched(client, request)
        server_s = children_seconds() - before_s
        ended.set()
        await probing
    at = {share: np.percentile(waits_s, share) * 1000 for share in (50, 99, 100)}
    print(
        f"{category}: {result['total']:,} points x {result['data']['bars']:,} bars in {took:.1f} s, "
        f"{server_s:.1f} s of CPU ({result['total'] / took:,.0f} points/s), {result['trials']:,} trials recorded"
    )
    loop_s, cpu_s, wall_s = kernel_seconds(points, bars, category)
    print(
        f"kernel: {loop_s:.2f} s of CPU, {loop_s / 2:.2f} s on two threads; computation with indicators and masks: "
        f"{cpu_s:.2f} s of CPU, {wall_s:.2f} s; share of the search outside the kernel {1 - loop_s / 2 / took:.0%}, "
        f"outside the computation {1 - wall_s / took:.0%}"
    )
    print(f"health_check meanwhile ({len(waits_s)} calls): median {at[50]:.1f} ms, p99 {at[99]:.1f} ms, "
          f"longest {at[100]:.1f} ms; before: median {np.median(quiet) * 1000:.1f} ms")  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--bars", type=int, default=20_000)
    parser.add_argument("--category", choices=("linear", "inverse", "spot"), default="linear")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(measure(given.points, given.bars, given.category, str(Path(home))))


if __name__ == "__main__":
    main()
