"""Background work: wait, fetch, cancel, list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from engine.core.times import iso_utc
from tools.arguments import Cursor, JobId, next_cursor, offset_of
from tools.declare import LabHandle, ProgressHandle, tool

if TYPE_CHECKING:
    from engine.jobs import JobView

# A wait reports progress this often.
_LOOKS = 10
_CURVE_POINTS = 24


class JobState(BaseModel):
    """Where a job stands."""

    job_id: str
    kind: str
    state: str = Field(description="queued, running, done, failed, cancelled or interrupted")
    progress: float = Field(description="0 to 1")
    done: int = Field(description="Pages of a backfill, evaluations of a search")
    total: int | None
    eta_s: float | None
    message: str
    best: dict[str, Any] | None = Field(None, description="Best so far, of searches")
    error: dict[str, Any] | None = None
    created: str


def state_of(job: JobView) -> JobState:
    """Return where a job stands, in the words of the tools."""
    told = job.progress or {}
    done, total = int(told.get("done", told.get("pages_done", 0))), told.get("total", told.get("pages_total"))
    # A pipeline whose run has ended at a step for the calling model is not whole.
    share = 1.0 if job.state == "done" and not told.get("is_waiting") else (done / total if total else 0.0)
    return JobState(
        job_id=job.id,
        kind=job.kind,
        state=job.state,
        progress=round(min(share, 1.0), 4),
        done=done,
        total=total,
        eta_s=None if job.is_over else told.get("eta_seconds"),
        message=told.get("message") or "",
        best=told.get("best"),
        error=None if job.error is None else dict(job.error),
        created=iso_utc(job.created_ms),
    )


@tool("reads", core=True)
async def wait_for_job(
    job_id: JobId,
    wait_seconds: Annotated[float, Field(ge=0, le=30, description="Longest wait")] = 20,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> JobState:
    """Wait until a job ends or the time is up, and say where it stands; call again while it runs."""
    job = await lab.jobs.view(job_id)
    for _ in range(_LOOKS):
        state = state_of(job)
        await progress(state.progress, 1.0, state.message or f"{job.kind} {state.state}")
        if job.is_over or (job.state == "interrupted" and not lab.jobs.runs_here(job_id)):
            break
        job = await lab.jobs.wait(job_id, wait_seconds / _LOOKS)
    return state_of(job)


class JobResult(BaseModel):
    """What a job produced."""

    job_id: str
    state: str
    items: list[dict[str, Any]]
    total: int
    next_cursor: str | None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = Field(
        default=None, description="Of a search: what was tried, how it did as a whole"
    )
    surface: dict[str, Any] | None = Field(default=None, description="Median score over the main parameters")
    equity: dict[str, Any] | None = Field(default=None, description="Out of sample, of a walk-forward; thinned")
    data: dict[str, Any] | None = None
    study_id: str | None = None
    trials: int | None = Field(default=None, description="Distinct strategies the study has evaluated until now")
    effective_trials: float | None = Field(
        default=None, description="Independent ones among them when the search ended"
    )
    expected_max_sharpe: float | None = Field(
        default=None,
        description="Annualised, of the best of so many trials without any skill: a best below it shows nothing",
    )


@tool("reads", core=True)
async def get_job_result(
    job_id: JobId, limit: Annotated[int, Field(ge=1, le=200)] = 10, cursor: Cursor = None, *, lab: LabHandle
) -> JobResult:
    """Return a finished job's result page by page, best first. Compare score with neighbours and expected_max_sharpe."""
    job = await lab.jobs.view(job_id)
    if "run_id" in job.request:
        # What was found about a run is told to whoever may read the run.
        await lab.backtests.record(job.request["run_id"])
    result = dict(await lab.jobs.result(job_id)) if job.state == "done" else {}
    offset = offset_of(cursor)
    is_search = "luck" in result
    items = result.get("items", [result] if result else [])
    total = result.get("total", len(items)) if is_search else len(items)
    shown = await lab.searches.page(job, result, offset, limit) if is_search else items[offset : offset + limit]
    page = JobResult(
        job_id=job.id,
        state=job.state,
        items=shown,
        total=total,
        next_cursor=next_cursor(offset, len(shown), total),
        error=None if job.error is None else dict(job.error),
    )
    if not is_search:
        return page
    luck = result["luck"]
    told = {
        "study_id": result["study_id"],
        "trials": await lab.searches.trial_count(result["study_id"]),
        "effective_trials": luck["effective_trials"],
        "expected_max_sharpe": round(luck["expected_max_sharpe"], 4),
    }
    if offset == 0:
        told |= {name: result.get(name) for name in ("summary", "surface", "data")}
        told["equity"] = _thinned(result.get("equity"))
    return page.model_copy(update=told)


def _thinned(equity: Mapping[str, list[float]] | None) -> dict[str, Any] | None:
    """Return a daily curve with few points, the last one always among them."""
    if equity is None:
        return None
    ts, values = equity["ts"], equity["value"]
    step = max(1, -(-len(ts) // _CURVE_POINTS))
    rows = range((len(ts) - 1) % step, len(ts), step)
    return {
        "columns": ["time", "equity"],
        "rows": [[iso_utc(int(ts[row]))[:10], float(f"{values[row]:.6g}")] for row in rows],
        "days": len(ts),
    }


@tool("writes", core=True)
async def cancel_job(job_id: JobId, *, lab: LabHandle) -> JobState:
    """Stop a job within a second; what it stored stays, and the same request later goes on from there."""
    return state_of(await lab.jobs.cancel(job_id))


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[JobState]
    total: int
    next_cursor: str | None


@tool("reads")
async def list_jobs(
    state: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled", "interrupted"] | None,
        Field(description="Only these"),
    ] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> JobPage:
    """List background work, newest first."""
    offset = offset_of(cursor)
    found = await lab.jobs.list(states=() if state is None else (state,), limit=limit, offset=offset)
    items = [state_of(job) for job in found.items]
    return JobPage(items=items, total=found.total, next_cursor=next_cursor(offset, len(items), found.total))
