"""Durable jobs: asked once, run by whoever claims them, resumable after any end of the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from engine.core.series import Series
from engine.core.times import iso_utc
from engine.errors import BadRequest, Cancelled, Conflict, LabError, Unavailable

if TYPE_CHECKING:
    from engine.backfill import Backfill, BackfillProgress
    from engine.ports import Clock, JobWorkers, Queue
    from engine.store.job_store import JobRecord, JobState
    from engine.store.store import Store

logger = logging.getLogger(__name__)

Document = Mapping[str, Any]

_LEASE_MS = 30_000
_HEARTBEAT_S = 0.4
_GRACE_S = 0.4
_POLL_S = 0.2
_HEAVY_TURN = "heavy"
_WORKER_LOST = {
    "code": "unavailable",
    "message": "the process that computed the job ended unexpectedly",
    "fix": "submit the same request again to go on where it stopped; if that happens again, take a smaller one",
}
# Of the progress of a job, what may tell of the bars it looked at.
_TELLING = frozenset({"best", "message"})
_FINAL_STATES = frozenset({"done", "failed", "cancelled"})
# A job whose process died this often may be what kills it; then a person decides.
_ATTEMPTS_BY_ITSELF = 10


@dataclass(slots=True)
class JobContext:
    """What a running body may use: its id, a wish to stop, and a place for its progress."""

    job_id: str
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Document | None = None

    def report(self, progress: Document) -> None:
        """Say how far the work got; it is stored at the next sign of life."""
        self.progress = progress


class JobBody(Protocol):
    """The work of one kind of job. It must go on where it stopped when it is run again with the same request."""

    async def run(self, request: Document, context: JobContext) -> Document:
        """Do the work and return a JSON document. Raises only `engine.errors`; `Cancelled` when asked to stop."""
        ...

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Tell whether the result of a finished job answers the same request today."""
        ...


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as people see it. Times are milliseconds UTC."""

    id: str
    kind: str
    state: JobState
    request: Document
    created_ms: int
    updated_ms: int
    started_ms: int | None
    finished_ms: int | None
    attempts: int
    progress: Document | None
    error: Document | None

    @property
    def is_over(self) -> bool:
        """Return whether nothing more will happen unless it is asked for again."""
        return self.state in _FINAL_STATES

    @property
    def is_given_up(self) -> bool:
        """Return whether it was interrupted so often that only a new request starts it again."""
        return self.state == "interrupted" and self.attempts >= _ATTEMPTS_BY_ITSELF


@dataclass(frozen=True, slots=True)
class JobList:
    """Some jobs, newest first, and how many match in all."""

    items: list[JobView]
    total: int


@dataclass(slots=True)
class _Running:
    context: JobContext
    task: asyncio.Task[None]
    ending: Literal["", "cancelled", "interrupted"] = ""


class InProcessQueue:
    """Runs jobs in this process, as many at a time as there are seats.

    Parameters
    ----------
    start : callable
        Makes the task of a job of some kind, which takes the given seat before it runs.
    heavy_kinds : collection of str
        Kinds that keep every core busy; they have seats of their own, so that the others need not wait for them.
    at_once, heavy_at_once : int
        Seats of either sort.
    """

    def __init__(
        self,
        start: Callable[[str, str, asyncio.Semaphore], None],
        heavy_kinds: Collection[str] = (),
        *,
        at_once: int = 2,
        heavy_at_once: int = 1,
    ) -> None:
        self._start = start
        self._heavy_kinds = frozenset(heavy_kinds)
        self._seats = asyncio.Semaphore(at_once)
        self._heavy_seats = asyncio.Semaphore(heavy_at_once)

    def put(self, job_id: str, kind: str) -> None:
        """Make the task of a job."""
        self._start(job_id, kind, self._heavy_seats if kind in self._heavy_kinds else self._seats)


class Jobs:
    """Runs jobs in this process and shows those of all processes.

    Parameters
    ----------
    store : Store
    clock : Clock
    bodies : mapping of str to JobBody
        One for each kind of job.
    at_once : int
        Jobs running at the same time in this process; the others wait in the order of their submission.
    heavy_kinds : collection of str
        Kinds of which one runs at a time, beside the others: each keeps every core busy. Processes that share a database
        take turns.
    queue : Queue, optional
        Who runs jobs instead of this process.
    workers : JobWorkers, optional
        Processes that compute the jobs of `worker_kinds`, so that this one goes on answering.
    worker_kinds : collection of str
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bodies: Mapping[str, JobBody],
        *,
        at_once: int = 2,
        heavy_kinds: Collection[str] = (),
        queue: Queue | None = None,
        workers: JobWorkers | None = None,
        worker_kinds: Collection[str] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._bodies = bodies
        self._heavy_kinds = frozenset(heavy_kinds)
        self._workers = workers
        self._worker_kinds = frozenset(worker_kinds)
        self._queue: Queue = queue or InProcessQueue(self._start, heavy_kinds, at_once=at_once)
        self._running: dict[str, _Running] = {}
        self._closing = False

    async def submit(self, kind: str, request: Document) -> JobView:
        """Start a job, or return the one that does or did the same; an interrupted one goes on."""
        body = self._body(kind)
        if self._closing:
            raise Conflict("the jobs are being shut down", fix="submit again after the restart")
        if (withheld := await self._store.withheld_of_request(kind, request)) is not None:
            raise withheld.refusal(f"what a {kind} job of this request found")
        record = await self._store.add_job(kind, request, at_ms=self._clock.now_ms())
        if record.state == "done" and not await body.is_still_valid(record.request, record.result or {}):
            record = await self._store.add_job(kind, request, at_ms=self._clock.now_ms(), fresh=True)
        if record.state not in _FINAL_STATES and not await self._is_run_by_somebody(record):
            self._queue.put(record.id, record.kind)
        return await self._seen(record)

    async def view(self, job_id: str) -> JobView:
        """Return a job as it stands."""
        return await self._seen(await self._store.job(job_id))

    async def wait(self, job_id: str, seconds: float) -> JobView:
        """Return a job when it is over, or as it stands after `seconds`."""
        give_up = self._clock.monotonic() + seconds
        while True:
            view = await self.view(job_id)
            left = give_up - self._clock.monotonic()
            at_rest = view.is_over or (view.state == "interrupted" and job_id not in self._running)
            if at_rest or left <= 0:
                return view
            await self._wait_a_little(job_id, left)

    @property
    def has_workers(self) -> bool:
        """Return whether other processes compute for this one."""
        return self._workers is not None

    def runs_here(self, job_id: str) -> bool:
        """Return whether this process is at the job, or will be when a seat is free."""
        return job_id in self._running

    async def result(self, job_id: str) -> Document:
        """Return what a finished job came to."""
        record = await self._store.job(job_id)
        if (withheld := await self._store.withheld_of_job(job_id)) is not None:
            raise withheld.refusal(f"the result of {job_id}")
        if record.state != "done" or record.result is None:
            raise Conflict(f"job {job_id!r} is {record.state}, so it has no result", fix=_next_step(record))
        return record.result

    async def cancel(self, job_id: str) -> JobView:
        """Stop a job wherever it runs; what it has stored stays."""
        running = self._running.get(job_id)
        if running is not None:
            # First of all: what computes it may stand still in the middle of a write that nobody else gets past.
            await self._stop(running, "cancelled")
        record = await self._store.ask_job_to_stop(job_id, now_ms=self._clock.now_ms())
        return await self._seen(record)

    async def list(
        self, *, states: tuple[JobState, ...] = (), kind: str | None = None, limit: int = 50, offset: int = 0
    ) -> JobList:
        """Return jobs, newest first."""
        page = await self._store.list_jobs(states=states, kind=kind, limit=limit, offset=offset)
        return JobList([await self._seen(record) for record in page.items], page.total)

    async def _seen(self, record: JobRecord) -> JobView:
        """Return a job without what it found on bars that a seal withholds by now."""
        view = _view(record)
        if not (view.error or _TELLING & (view.progress or {}).keys()):
            return view
        withheld = await self._store.withheld_of_job(record.id)
        if withheld is None:
            return view
        progress = {name: told for name, told in (view.progress or {}).items() if name not in _TELLING}
        error = view.error and _error_document(withheld.refusal(f"what went wrong with {record.id}"))
        return replace(view, progress=view.progress and progress, error=error)

    async def resume_interrupted(self) -> list[str]:
        """Go on with jobs that nobody runs any more, and return their ids."""
        open_jobs = await self._store.list_jobs(states=("queued", "running", "interrupted"), limit=1000)
        resumed: list[str] = []
        for record in reversed(open_jobs.items):
            if await self._is_left_behind(record):
                self._queue.put(record.id, record.kind)
                resumed.append(record.id)
        return resumed

    async def resume(self, job_id: str) -> JobView:
        """Return a job as it stands; one whose runner set it aside or vanished goes on."""
        record = await self._store.job(job_id)
        began = record.state in {"running", "interrupted"}
        if began and not self._closing and await self._is_left_behind(record):
            self._queue.put(record.id, record.kind)
        return await self._seen(record)

    async def run_job(self, job_id: str, context: JobContext | None = None) -> None:
        """Run one job to its end if nobody else does; the same in this process and in a worker's."""
        running = self._running.get(job_id)
        if context is None:
            context = JobContext(job_id) if running is None else running.context
        claimed = await self._store.claim_job(
            job_id, self._store.owner, now_ms=self._clock.now_ms(), lease_ms=_LEASE_MS
        )
        if claimed is not None:
            await self._run_claimed(claimed, context)

    async def close(self) -> None:
        """Set running jobs aside as interrupted; the next start goes on with them."""
        self._closing = True
        await asyncio.gather(*(self._stop(running, "interrupted") for running in list(self._running.values())))
        if self._workers is not None:
            await self._workers.close()

    def _body(self, kind: str) -> JobBody:
        if kind not in self._bodies:
            raise BadRequest(f"unknown kind of job {kind!r}", fix=f"kind is one of {', '.join(sorted(self._bodies))}")
        return self._bodies[kind]

    def _start(self, job_id: str, kind: str, seats: asyncio.Semaphore) -> None:
        if job_id in self._running:
            return
        context = JobContext(job_id)
        task = asyncio.create_task(self._run_when_seated(job_id, kind, seats), name=job_id)
        self._running[job_id] = _Running(context, task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task.get_name(), None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("job %s broke", task.get_name(), exc_info=error)

    async def _run_when_seated(self, job_id: str, kind: str, seats: asyncio.Semaphore) -> None:
        async with seats, self._turn(kind):
            if self._workers is not None and kind in self._worker_kinds:
                await self._run_in_worker(job_id, self._workers)
            else:
                await self.run_job(job_id)

    @asynccontextmanager
    async def _turn(self, kind: str) -> AsyncGenerator[None]:
        """Wait until no other process that shares the database is at a heavy job."""
        if kind not in self._heavy_kinds:
            yield
            return
        turn = self._store.turn(_HEAVY_TURN)
        while not turn.try_acquire():
            await self._clock.sleep(_POLL_S)
        try:
            yield
        finally:
            turn.release()

    async def _run_in_worker(self, job_id: str, workers: JobWorkers) -> None:
        """Have a worker's process run a job; where none can be started, this one does."""
        try:
            await workers.run(job_id, self._running[job_id].context.cancelled)
        except Unavailable as error:
            logger.warning("job %s runs in the server: %s", job_id, error.message)
            await self.run_job(job_id)
        finally:
            await self._write_end_of_worker(job_id)

    async def _write_end_of_worker(self, job_id: str) -> None:
        """Set a job aside whose worker is gone before it could say how the job ended."""
        record = await self._store.job(job_id)
        if record.state != "running" or record.owner is None or await self._store.is_owner_alive(record.owner):
            return
        ending = self._running[job_id].ending
        is_asked = record.cancel_asked or ending == "cancelled"
        await self._store.finish_job(
            job_id,
            record.owner,
            "cancelled" if is_asked else "interrupted",
            now_ms=self._clock.now_ms(),
            error=None if is_asked or ending else _WORKER_LOST,
        )

    async def _run_claimed(self, record: JobRecord, context: JobContext) -> None:
        """Run the body of a job that is ours, and write down how it ended, whatever happens."""
        state: JobState = "failed"
        result: Document | None = None
        error: Document | None = {"code": "failed", "message": "the job broke unexpectedly", "fix": "see the log"}
        pulse = asyncio.create_task(self._show_life(record.id, context))
        try:
            result = await self._body(record.kind).run(record.request, context)
            state, error = "done", None
        except Cancelled:
            state, error = "cancelled", None
        except LabError as failure:
            error = _error_document(failure)
        except asyncio.CancelledError:
            running = self._running.get(record.id)
            state = "cancelled" if running is not None and running.ending == "cancelled" else "interrupted"
            error = None
            raise
        finally:
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)
            await self._store.finish_job(
                record.id,
                self._store.owner,
                state,
                now_ms=self._clock.now_ms(),
                result=result,
                error=error,
                progress=context.progress,
            )

    async def _show_life(self, job_id: str, context: JobContext) -> None:
        """Keep the lease, store progress, and look for a wish to stop from another process."""
        while True:
            try:
                record = await self._store.renew_job(
                    job_id,
                    self._store.owner,
                    now_ms=self._clock.now_ms(),
                    lease_ms=_LEASE_MS,
                    progress=context.progress,
                )
            except LabError as error:
                logger.warning("job %s could not show life: %s", job_id, error.message)
            else:
                if record.cancel_asked or record.owner != self._store.owner:
                    context.cancelled.set()
            await asyncio.sleep(_HEARTBEAT_S)

    async def _stop(self, running: _Running, ending: Literal["cancelled", "interrupted"]) -> None:
        """Ask a job of this process to stop; one that does not listen is cancelled."""
        running.ending = running.ending or ending
        if ending == "cancelled":
            running.context.cancelled.set()
            await asyncio.wait({running.task}, timeout=_GRACE_S)
        running.task.cancel()
        await asyncio.wait({running.task})

    async def _is_left_behind(self, record: JobRecord) -> bool:
        may_start = record.kind in self._bodies and record.attempts < _ATTEMPTS_BY_ITSELF
        return may_start and not await self._is_run_by_somebody(record)

    async def _is_run_by_somebody(self, record: JobRecord) -> bool:
        if record.id in self._running:
            return True
        if record.state != "running" or record.owner is None or record.lease_until_ms <= self._clock.now_ms():
            return False
        return await self._store.is_owner_alive(record.owner)

    async def _wait_a_little(self, job_id: str, seconds: float) -> None:
        running = self._running.get(job_id)
        if running is None:
            await self._clock.sleep(min(seconds, _POLL_S))
        else:
            await asyncio.wait({running.task}, timeout=seconds)


class BackfillBody:
    """The job of kind `backfill`. Its request: feed, category, symbol, kind, interval, start_ms, end_ms, and options."""

    def __init__(self, backfill: Backfill, store: Store) -> None:
        self._backfill = backfill
        self._store = store

    async def run(self, request: Document, context: JobContext) -> Document:
        """Fetch what is missing and return the report."""

        def tell(progress: BackfillProgress) -> None:
            context.report(asdict(progress))

        report = await self._backfill.run(
            _series_of(request),
            int(request["start_ms"]),
            int(request["end_ms"]),
            page=int(request.get("page", 1000)),
            max_pages=request.get("max_pages"),
            recheck_gaps=bool(request.get("recheck_gaps", False)),
            progress=tell,
            job_id=context.job_id,
            cancelled=context.cancelled,
        )
        told = asdict(report)
        for name in ("start", "end"):
            told[name] = iso_utc(told.pop(f"{name}_ms"))
        return told

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Return whether the whole range asked for is stored; gaps that are to be checked again never are."""
        del result
        if request.get("recheck_gaps"):
            return False
        missing = await self._store.missing(_series_of(request), int(request["start_ms"]), int(request["end_ms"]))
        return not missing


def backfill_request(
    series: Series,
    start_ms: int,
    end_ms: int,
    *,
    page: int = 1000,
    max_pages: int | None = None,
    recheck_gaps: bool = False,
) -> Document:
    """Return the request of a backfill job."""
    return {
        "feed": series.feed,
        "category": series.category,
        "symbol": series.symbol,
        "kind": series.kind,
        "interval": series.interval,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "page": page,
        "max_pages": max_pages,
        "recheck_gaps": recheck_gaps,
    }


def _series_of(request: Document) -> Series:
    return Series(*(request[name] for name in ("feed", "category", "symbol", "kind", "interval")))


def _view(record: JobRecord) -> JobView:
    return JobView(
        id=record.id,
        kind=record.kind,
        state=record.state,
        request=record.request,
        created_ms=record.created_ms,
        updated_ms=record.updated_ms,
        started_ms=record.started_ms,
        finished_ms=record.finished_ms,
        attempts=record.attempts,
        progress=record.progress,
        error=record.error,
    )


def _error_document(error: LabError) -> Document:
    return {
        "code": error.code,
        "message": error.message,
        "fix": error.fix,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after_s,
    }


def _next_step(record: JobRecord) -> str:
    if record.state in {"queued", "running"}:
        return "wait_for_job until it is done"
    if record.state == "failed" and record.error is not None:
        return f"it failed: {record.error.get('message')}; {record.error.get('fix')}"
    return "submit the same request again to go on where it stopped"
