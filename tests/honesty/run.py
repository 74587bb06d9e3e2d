"""The experiment of `docs/honesty.md`: how often noise is believed, how often a planted edge is found, beside a naive rule."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from engine.core.candles import FloatColumn
from tests.honesty.experiment import Outcome, run_study
from tests.honesty.worlds import EDGES, HOURS_PER_YEAR, NOISES, Edge, Noise

YEARS = 3
BARS = HOURS_PER_YEAR * YEARS
TRIALS = 10_000
Plan = tuple[int, Noise, Edge | None]


def plan(noise_studies: int, edge_studies: int, noises: tuple[Noise, ...]) -> list[Plan]:
    """Return the studies: seeds count up, kinds of noise and edges take turns."""
    quiet: list[Plan] = [(seed, noises[seed % len(noises)], None) for seed in range(noise_studies)]
    planted: list[Plan] = [
        (10_000 + seed, noises[seed // len(EDGES) % len(noises)], EDGES[seed % len(EDGES)])
        for seed in range(edge_studies)
    ]
    return [each for pair in zip_longest_flat(quiet, planted) for each in pair]


def zip_longest_flat(first: list[Plan], second: list[Plan]) -> Iterator[list[Plan]]:
    """Yield both lists interleaved in proportion, so that an early stop leaves both."""
    longest = max(len(first), len(second))
    for row in range(longest):
        part: list[Plan] = []
        for each in (first, second):
            low, high = row * len(each) // longest, (row + 1) * len(each) // longest
            part.extend(each[low:high])
        yield part


def real_hourly_returns() -> FloatColumn | None:
    """Return log returns of a real hourly series, None where the shared data are absent."""
    import pandas as pd

    folder = Path(os.environ.get("BST_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    path = folder / "data" / "btcusd_bitstamp_1h_2019-11_2022-03.parquet"
    if not path.exists():
        return None
    return np.diff(np.log(pd.read_parquet(path)["close"].to_numpy(np.float64)))


def study_row(job: tuple[Plan, int, int, FloatColumn | None]) -> dict[str, Any]:
    """Run one study and return its line of the record."""
    (seed, noise, edge), bars, trials, real = job
    return as_row(run_study(seed, noise, edge=edge, bars=bars, trials=trials, real_returns=real))


def as_row(outcome: Outcome) -> dict[str, Any]:
    """Return what is kept of a study."""
    return {
        "seed": outcome.seed,
        "noise": outcome.noise,
        "edge": outcome.edge,
        "trials": outcome.trials,
        "verdict": outcome.verdict.verdict,
        "naive": outcome.is_naive_find,
        "best_sharpe": outcome.best_sharpe,
        "failed": [check.name for check in outcome.verdict.checks if check.passed is False],
        "search": asdict(outcome.evidence.search),
        "own": asdict(outcome.evidence.own),
        "rule": outcome.rule,
        "search_seconds": outcome.search_seconds,
        "verdict_seconds": outcome.verdict_seconds,
    }


def main() -> None:
    """Run the studies and append a line each to a record, which `report.py` turns into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=int, default=200, help="studies without an edge")
    parser.add_argument("--edges", type=int, default=90, help="studies with a planted edge")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", type=Path, default=Path("honesty.jsonl"))
    given = parser.parse_args()
    real = real_hourly_returns()
    noises: tuple[Noise, ...] = NOISES if real is not None else ("gbm", "garch")
    done = {(row["seed"], row["trials"]) for row in read_record(given.record)}
    jobs = [
        (each, given.bars, given.trials, real)
        for each in plan(given.noise, given.edges, noises)
        if (each[0], given.trials) not in done
    ]
    with (
        ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool,
        given.record.open("a", encoding="utf-8") as record,
    ):
        for number, row in enumerate(pool.map(study_row, jobs), 1):
            record.write(json.dumps(row) + "\n")
            record.flush()
            told = f"{number}/{len(jobs)} {row['noise']} {row['edge'] or 'no edge'}: {row['verdict']}"
            print(f"{told} (best Sharpe {row['best_sharpe']:.2f})", file=sys.stderr)
    from tests.honesty.report import report

    print(report(read_record(given.record)))


def read_record(path: Path) -> list[dict[str, Any]]:
    """Return the studies recorded so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
