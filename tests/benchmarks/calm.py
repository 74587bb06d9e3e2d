"""How long others wait for an answer of a busy server: `health_check` every 100 ms beside each kind of heavy work.

    uv run python tests/benchmarks/calm.py [--points 10000] [--bars 20000] [--only spot verdict] [--checkout FOLDER]

A server with the simulated feed runs as a process of its own, over stdio. `--checkout` measures the code of another folder,
so that two versions can take turns on a machine that others use too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mcp import Client, StdioServerParameters
from searches import answer, request_of, searched

EVERY_S = 0.1
QUIET_S = 3.0
LOADS = ("quiet", "spot", "linear", "verdict", "monte_carlo", "portfolio")
COINS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]


class Probe:
    """Asks for the health at a steady pace, however late the last answer was."""

    def __init__(self, client: Client) -> None:
        self.waits_ms: list[float] = []
        self._client = client

    async def _ask(self) -> None:
        began = time.perf_counter()
        await answer(self._client, "health_check", {})
        self.waits_ms.append((time.perf_counter() - began) * 1000)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as asked:
            while True:
                asked.create_task(self._ask())
                await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def probed(client: Client, what: str) -> AsyncGenerator[None]:
    """Probe while the block runs, and print what was seen."""
    probe = Probe(client)
    task = asyncio.create_task(probe.run())
    began = time.perf_counter()
    try:
        yield
    finally:
        took = time.perf_counter() - began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    at = np.percentile(probe.waits_ms or [float("nan")], (50, 99, 100))
    print(
        f"{what:12} {took:6.1f} s, {len(probe.waits_ms):4} calls: "
        f"median {at[0]:6.1f} ms, p99 {at[1]:6.1f} ms, longest {at[2]:6.1f} ms; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


async def best_run(client: Client, points: int, bars: int) -> str:
    """Return a run of a study that holds a search."""
    _, result = await searched(client, request_of(points, bars, "spot"))
    return str(result["items"][0]["run_id"])


async def ended(client: Client, told: dict[str, Any]) -> None:
    """Wait for the job that an answer names, if it names one."""
    while told.get("job"):
        state = await answer(client, "wait_for_job", {"job_id": told["job"]["job_id"], "wait_seconds": 5})
        if state["state"] not in ("queued", "running"):
            return


async def measure(given: argparse.Namespace, home: str) -> None:
    """Print one line for each kind of work."""
    environment = os.environ | {"BST_HOME": home, "BST_FEED": "simulated"}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "server", "serve"], env=environment, cwd=given.checkout
    )

    async def verdict(client: Client) -> None:
        run_id = await best_run(client, given.points, given.bars)
        async with probed(client, "verdict"):
            await ended(client, await answer(client, "get_verdict", {"run_id": run_id}))

    async def monte_carlo(client: Client) -> None:
        run_id = await best_run(client, 4, given.bars)
        async with probed(client, "monte_carlo"):
            await ended(client, await answer(client, "run_monte_carlo", {"run_id": run_id, "simulations": 20_000}))

    async def portfolio(client: Client) -> None:
        request = {"strategy": "ema_cross", "symbols": COINS, "interval": "60", "start": "2023-01-01"}
        for symbol in COINS:
            alone = {"strategy": "ema_cross", "symbol": symbol, "interval": "60", "start": "2023-01-01"}
            await answer(client, "run_backtest", alone | {"end": "2024-12-01"})
        async with probed(client, "portfolio"):
            for params in ({"fast": 12}, {"fast": 13}, {"fast": 14}):
                await answer(client, "run_backtest", request | {"end": "2024-12-01", "params": params})

    async def quiet(client: Client) -> None:
        async with probed(client, "quiet"):
            await asyncio.sleep(QUIET_S)

    def search(category: str) -> Callable[[Client], Awaitable[None]]:
        async def run(client: Client) -> None:
            # Candles are fetched and kernels compiled or loaded before the clock runs.
            await searched(client, request_of(4, given.bars, category))
            async with probed(client, category):
                await searched(client, request_of(given.points, given.bars, category))

        return run

    works = {
        "quiet": quiet, "spot": search("spot"), "linear": search("linear"), "verdict": verdict,
        "monte_carlo": monte_carlo, "portfolio": portfolio,
    }  # fmt: skip
    async with Client(server) as client:
        await client.list_tools()
        await answer(client, "health_check", {})
        for name in given.only:
            await works[name](client)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--bars", type=int, default=20_000)
    parser.add_argument("--only", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parent.parent.parent)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(measure(given, home))


if __name__ == "__main__":
    main()
