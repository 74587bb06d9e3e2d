"""A process that records batches of trials until it is done or killed, telling each acknowledged one."""

import asyncio
import sys

import numpy as np

from engine.core.evaluations import EvaluationBatch, EvaluationSlice
from engine.core.timeframes import DAY_MS
from engine.store.store import Store

EACH = 40
DAYS = 60
MARKS = np.arange(1, DAYS + 1, dtype=np.int64) * DAY_MS
WHERE = EvaluationSlice("linear", "BTCUSDT", "60", 0, DAYS * DAY_MS, DAYS * 24, "a" * 64, "b" * 64)


def batch_of(first: int, last: int) -> EvaluationBatch:
    """Return trials [first, last): a function of their numbers alone."""
    rows = [np.random.default_rng(number).normal(0.001, 0.02, DAYS) for number in range(first, last)]
    returns = np.array(rows).astype(np.float32)
    numbers = np.arange(first, last, dtype=np.float64)
    sharpe = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    metrics = {"trades": numbers, "daily_sharpe": sharpe, "skew": numbers * 0, "kurtosis": numbers * 0 + 3}
    points = [{"fast": float(number), "slow": 50.0} for number in range(first, last)]
    return EvaluationBatch("s", [f"{number:064x}" for number in range(first, last)], points, metrics, MARKS, returns, 7)


async def make_study(store: Store):
    """Return the study that all of them record in."""
    return await store.create_study(
        "one",
        feed="bybit",
        category="linear",
        symbols=["BTCUSDT"],
        range_ms=(0, 100 * DAY_MS),
        seal_from_ms=None,
        at_ms=1,
    )


async def write(url: str, first: int, last: int) -> None:
    """Record batches [first, last)."""
    store = await Store.open(url)
    study = await make_study(store)
    for number in range(first, last):
        batch = batch_of(number * EACH, number * EACH + EACH)
        await store.record_trials(study.id, WHERE, batch, origin="job_1", at_ms=9, job_id="job_1", batch_no=number)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    await store.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
