"""How much work an examination is, told from the stored run alone: what takes too long for an answer becomes a job."""

from __future__ import annotations

import json

from engine.core.timeframes import DAY_MS
from engine.core.verdict.examination import REPLAYS
from engine.core.verdict.stress import DRAWS
from engine.store import RunRecord

# Bars times simulations, and paths times steps, that take about ten seconds on one slow core.
MOST_BARS = 20_000_000
MOST_STEPS = 100_000_000
_FUTURES = 3
_STRESS_SIMULATIONS = 5 + 2 * DRAWS
# Looking inside bars costs a multiple of looking at them.
_MAGNIFIED = 5


def verdict_bars(record: RunRecord) -> int:
    """Return the bars a verdict walks over: the run, its neighbours, costs, lag and replays."""
    manifest = json.loads(record.manifest)
    neighbours = 2 * len(manifest["strategy"]["params"])
    return _bars(record) * (4 + neighbours + _FUTURES * REPLAYS)


def stress_bars(record: RunRecord) -> int:
    """Return the bars a stress test walks over."""
    return _bars(record) * _STRESS_SIMULATIONS


def replay_bars(record: RunRecord, cuts: int) -> int:
    """Return the bars a look-ahead check walks over."""
    return _bars(record) * (_FUTURES + 1) * cuts


def most_cuts(record: RunRecord) -> int:
    """Return how many cuts a direct answer has time for, at least 1."""
    return max(1, MOST_BARS // replay_bars(record, 1))


def path_steps(record: RunRecord, simulations: int, *, of_days: bool) -> int:
    """Return the steps of all paths of a Monte Carlo."""
    data = json.loads(record.manifest)["data"]
    days = -(-(data["end_ms"] - data["start_ms"]) // DAY_MS)
    return simulations * (days if of_days else int(json.loads(record.result)["metrics"]["trades"]))


def _bars(record: RunRecord) -> int:
    manifest = json.loads(record.manifest)
    factor = _MAGNIFIED if manifest["settings"].get("intrabar") == "magnify" else 1
    return int(manifest["data"]["bars"]) * factor
