"""Durable jobs seen as tasks: the task id is the job id, so a client may ask again after any restart of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import LabError, NotFound
from server.result_policy import bounded, told_result
from server.tasks.task import Task, TaskStatus
from tools.failures import compact
from tools.jobs import get_job_result, state_of

if TYPE_CHECKING:
    from engine.jobs import JobView
    from server.lifespan import LabKeeper
    from tools.jobs import JobState
    from tools.lab import Lab

# A client that polls at a twentieth of what is left sees steady progress and the end soon after it came.
_POLLS_TO_THE_END = 20
_SOONEST_POLL_MS = 500
_LATEST_POLL_MS = 10_000


class JobTasks:
    """The jobs of the lab as tasks."""

    def __init__(self, keeper: LabKeeper) -> None:
        self._keeper = keeper

    async def find(self, task_id: str) -> Task | None:
        """Return the task of a job; one that nobody runs any more goes on because somebody asks for it."""
        lab = await self._keeper.lab()
        try:
            job = await lab.jobs.resume(task_id)
        except NotFound:
            return None
        return await _as_task(lab, job)

    async def cancel(self, task_id: str) -> None:
        """Stop the job."""
        lab = await self._keeper.lab()
        await lab.jobs.cancel(task_id)

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Ignore the answers: no job asks its client anything."""


async def _as_task(lab: Lab, job: JobView) -> Task:
    state = state_of(job)
    status: TaskStatus = "working"
    result: dict[str, Any] | None = None
    if job.state == "done":
        status, result = "completed", await _result_of(lab, job)
    elif job.state == "cancelled":
        status = "cancelled"
    elif job.state == "failed":
        status, result = "completed", _refusal(dict(job.error or {}))
    elif job.is_given_up:
        status, result = "completed", _refusal(_given_up(job))
    return Task(
        id=job.id,
        status=status,
        message=_message(state),
        created_ms=job.created_ms,
        updated_ms=job.updated_ms,
        poll_interval_ms=_poll_interval_ms(state.eta_s),
        result=result,
    )


async def _result_of(lab: Lab, job: JobView) -> dict[str, Any]:
    """Return the answer of the tool that started the job, its state now done, with the first page of what came of it."""
    try:
        page = await get_job_result.function(job.id, lab=lab)
    except LabError as error:
        # A seal that was set since withholds it: that is the task's answer, not a fault of asking.
        return _refusal({name: getattr(error, name) for name in ("code", "message", "fix", "retryable")})
    told = bounded({**page.model_dump(mode="json"), "next": f'get_job_result {{"job_id":"{job.id}"}}'})
    return {"content": [{"type": "text", "text": compact(told)}], "structuredContent": told, "isError": False}


def _refusal(error: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's error; the protocol keeps the status `failed` for errors of its own."""
    return told_result(error).model_dump(by_alias=True, mode="json", exclude_none=True)


def _given_up(job: JobView) -> dict[str, Any]:
    return {
        "code": "conflict",
        "message": f"job {job.id!r} was interrupted {job.attempts} times and is not started again by itself",
        "fix": "call the tool that started it again to go on where it stopped, or look at the log first",
        "retryable": False,
        "retry_after_s": None,
    }


def _message(state: JobState) -> str:
    if state.error is not None:
        return f"{state.kind} {state.state}: {state.error.get('message')}"
    said = [state.message or f"{state.kind} {state.state}"]
    if state.total:
        said.append(f"{state.done} of {state.total}")
    if state.eta_s is not None:
        said.append(f"about {state.eta_s:.0f} s left")
    return ", ".join(said)


def _poll_interval_ms(eta_s: float | None) -> int:
    if eta_s is None:
        return _SOONEST_POLL_MS
    return int(min(max(eta_s * 1000 / _POLLS_TO_THE_END, _SOONEST_POLL_MS), _LATEST_POLL_MS))
