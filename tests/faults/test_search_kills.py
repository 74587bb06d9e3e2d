"""A search whose process is killed at any moment ends with the table of one that was not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("BST_SEARCH_KILLS", "3"))
POINTS = 5_000
# 50 x 100 points of a market without funding, long enough that a life ends in the middle.
DOCUMENT = {
    "name": "cross",
    "params": {
        "fast": {"default": 10, "min": 2, "max": 100, "integer": True},
        "slow": {"default": 50, "min": 2, "max": 400, "integer": True},
    },
    "long_entry": "crossover(ema(close, fast), ema(close, slow))",
    "long_exit": "crossunder(ema(close, fast), ema(close, slow))",
}
REQUEST = {
    "strategy": DOCUMENT, "symbol": "BTCUSDT", "category": "spot", "interval": "60", "start": "2024-01-01",
    "end": "2024-04-01", "grid": {"fast": {"from": 2, "to": 51, "step": 1}, "slow": {"from": 60, "to": 159, "step": 1}},
}  # fmt: skip


async def live(home: Path) -> asyncio.subprocess.Process:
    """Start one life: the command line asks for the search and stays until it ends."""
    environment = os.environ | {"BST_HOME": str(home), "BST_FEED": "simulated"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "call", "start_grid_search", json.dumps(REQUEST),
        env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def finish(home: Path) -> dict[str, Any]:
    process = await live(home)
    told, _ = await asyncio.wait_for(process.communicate(), 400)
    assert process.returncode == 0, told
    return json.loads(told)


def look(home: Path, question: str) -> list[tuple[Any, ...]]:
    if not (home / "bst.sqlite").is_file():
        return []
    with closing(sqlite3.connect(home / "bst.sqlite")) as database, contextlib.suppress(sqlite3.OperationalError):
        return database.execute(question).fetchall()
    return []


def batches(home: Path) -> int:
    rows = look(home, "select count(*) from search_batches")
    return int(rows[0][0]) if rows else 0


async def kill_after(home: Path, count: int, pause_s: float) -> bool:
    """Kill a life a moment after so many batches are committed; False when it ended before."""
    process = await live(home)
    try:
        async with asyncio.timeout(400):
            while process.returncode is None and batches(home) < count:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.01)
        await asyncio.sleep(pause_s)
    finally:
        ended = process.returncode is not None
        if not ended:
            process.kill()
        await process.wait()
    return not ended


async def test_a_search_killed_at_random_moments_ends_with_the_same_table(tmp_path: Path):
    whole = await finish(tmp_path / "whole")
    assert whole["total"] == whole["trials"] == POINTS
    dice = random.Random(20_261_122)
    total = batches(tmp_path / "whole")
    kills = 0
    for life in range(KILLS):
        wanted = max(batches(tmp_path / "cut"), (life + 1) * (total - 1) // (KILLS + 1))
        kills += await kill_after(tmp_path / "cut", wanted, dice.uniform(0, 0.4))
    assert kills, "no life was killed in the middle"
    again = await finish(tmp_path / "cut")
    assert again == whole
    tables = [
        look(tmp_path / home, "select batch_no, rows, crc32 from search_batches order by batch_no")
        for home in ("whole", "cut")
    ]
    assert tables[0] == tables[1]
    counted = look(tmp_path / "cut", "select count(*), count(distinct key), max(number), min(number) from trials")
    assert counted == [(POINTS, POINTS, POINTS, 1)], "no trial is lost or counted twice"
