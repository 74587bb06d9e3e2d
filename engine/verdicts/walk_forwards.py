"""Finds the walk-forward job that refitted a run's strategy in its study, and reads its stitched record."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine.backtests.reopening import ReopenedRun
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.strategy import compile_strategy
from engine.core.validation.sharpe_interval import sharpe_interval
from engine.core.verdict.study import WalkForwardFacts
from engine.errors import LabError
from engine.searches.requests import Document, target_of
from engine.store import Store
from engine.store.job_store import JobRecord
from engine.store.study_store import StudyRecord

# The checklist asks for the lower end of this interval.
CONFIDENCE = 0.9
_JOBS_LOOKED_AT = 500
_FEWEST_DAYS = 60


async def real_walk_forward(
    store: Store, studies: Sequence[StudyRecord], run: ReopenedRun, marks_ms: TimeColumn
) -> tuple[str, WalkForwardFacts] | None:
    """Return id and record of the newest finished walk-forward of this strategy in these studies; None without one."""
    if not studies:
        return None
    mine = {study.id for study in studies}
    page = await store.list_jobs(states=("done",), kind="walk_forward", limit=_JOBS_LOOKED_AT)
    for job in page.items:
        if job.request.get("study_id") not in mine or not _is_same(job.request, run):
            continue
        if await store.withheld_of_job(job.id) is not None:
            continue
        facts = _facts(job, run, marks_ms)
        if facts is not None:
            return job.id, facts
    return None


def _is_same(request: Document, run: ReopenedRun) -> bool:
    """Say whether a job refitted the run's strategy on its market at its costs."""
    try:
        target = target_of(request)
        same = compile_strategy(target.strategy, run.compiled.params).fingerprint() == run.compiled.fingerprint()
    except LabError:
        return False
    return same and target.series == run.series and target.settings == run.settings


def _facts(job: JobRecord, run: ReopenedRun, marks_ms: TimeColumn) -> WalkForwardFacts | None:
    result = job.result or {}
    curve = result.get("equity") or {"ts": [], "value": []}
    ts = np.array(curve["ts"], np.int64)
    if len(ts) < _FEWEST_DAYS or ts[0] < run.candles.ts[0] or ts[-1] > marks_ms[-1]:
        return None
    capital = run.execution.capital
    returns = _returns(np.array(curve["value"], np.float64), capital)
    efficiency = result["summary"]["efficiency"]["value"]
    windows, source = int(result["summary"]["windows"]), f"refits of {job.id}"
    if not np.isfinite(returns).all() or float(returns.std()) <= 1e-12:
        return WalkForwardFacts(math.nan, math.nan, math.nan, windows, math.nan, source)
    interval = sharpe_interval(returns, CONFIDENCE)
    return WalkForwardFacts(
        interval.estimate, interval.low, interval.high, windows, math.nan if efficiency is None else efficiency, source
    )


def _returns(values: FloatColumn, capital: float) -> FloatColumn:
    before = np.concatenate(([capital], values[:-1]))
    with np.errstate(all="ignore"):
        return values / before - 1.0
