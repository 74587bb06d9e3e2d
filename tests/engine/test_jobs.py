import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from engine.errors import BadRequest, Cancelled, Conflict, NotFound, StorageFailed, Unavailable
from engine.jobs import JobContext, Jobs
from engine.store.store import Store

PATIENCE_S = 120.0


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class CountingBody:
    """Counts its runs, and ends when it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.began = asyncio.Event()
        self.runs = 0
        self.at_once = self.most_at_once = 0
        self.failure: Exception | None = None
        self.listens = True
        self.valid = True

    async def run(self, request, context):
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.began.set()
        context.report({"done": 1, "of": request["size"]})
        try:
            if self.failure is not None:
                raise self.failure
            going = asyncio.create_task(self.let_go.wait())
            asked = asyncio.create_task(context.cancelled.wait())
            try:
                await asyncio.wait({going, asked} if self.listens else {going}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                going.cancel()
                asked.cancel()
            if self.listens and context.cancelled.is_set():
                raise Cancelled("stopped")
            return {"sum": request["size"] * 2}
        finally:
            self.at_once -= 1

    async def is_still_valid(self, request, result):
        return self.valid


@pytest.fixture
async def store(tmp_path: Path):
    opened = await Store.open(f"sqlite:///{(tmp_path / 'lab.db').as_posix()}")
    yield opened
    await opened.close()


@pytest.fixture
def body():
    return CountingBody()


@pytest.fixture
async def jobs(store, body):
    opened = Jobs(store, RealClock(), {"count": body}, at_once=2)
    yield opened
    await opened.close()


async def test_a_job_runs_and_its_result_can_be_fetched(jobs, body):
    job = await jobs.submit("count", {"size": 4})
    assert job.state == "queued"
    with pytest.raises(Conflict, match="no result"):
        await jobs.result(job.id)
    body.let_go.set()
    done = await jobs.wait(job.id, PATIENCE_S)
    assert (done.state, done.attempts, done.error, done.progress) == ("done", 1, None, {"done": 1, "of": 4})
    assert await jobs.result(job.id) == {"sum": 8}


async def test_the_same_request_is_one_job_while_it_runs_and_while_its_result_is_valid(jobs, body):
    first = await jobs.submit("count", {"size": 4})
    assert (await jobs.submit("count", {"size": 4})).id == first.id
    body.let_go.set()
    await jobs.wait(first.id, PATIENCE_S)
    assert (await jobs.submit("count", {"size": 4})).id == first.id
    assert body.runs == 1
    body.valid = False
    again = await jobs.submit("count", {"size": 4})
    assert again.id != first.id
    assert (await jobs.wait(again.id, PATIENCE_S)).state == "done"
    assert body.runs == 2
    assert (await jobs.list(kind="count")).total == 2


async def test_waiting_returns_the_job_as_it_stands_when_time_is_up(jobs):
    job = await jobs.submit("count", {"size": 4})
    assert (await jobs.wait(job.id, 0)).state in {"queued", "running"}


@pytest.mark.parametrize("listens", [True, False])
async def test_cancelling_stops_a_job_that_listens_and_one_that_does_not(jobs, body, listens):
    body.listens = listens
    job = await jobs.submit("count", {"size": 4})
    await body.began.wait()
    assert (await jobs.cancel(job.id)).state == "cancelled"
    assert body.at_once == 0
    assert (await jobs.submit("count", {"size": 4})).id != job.id


async def test_a_failure_is_told_with_its_fix_and_the_next_request_is_a_new_job(jobs, body):
    body.failure = StorageFailed("no space", fix="free some")
    job = await jobs.submit("count", {"size": 4})
    failed = await jobs.wait(job.id, PATIENCE_S)
    assert failed.state == "failed"
    assert (failed.error["code"], failed.error["message"], failed.error["fix"]) == ("storage", "no space", "free some")
    with pytest.raises(Conflict) as caught:
        await jobs.result(job.id)
    assert "free some" in caught.value.fix
    body.failure = None
    assert (await jobs.submit("count", {"size": 4})).id != job.id


async def test_a_body_that_breaks_leaves_a_failed_job_and_a_log(jobs, body, caplog):
    body.failure = ZeroDivisionError("a bug")
    job = await jobs.submit("count", {"size": 4})
    assert (await jobs.wait(job.id, PATIENCE_S)).state == "failed"
    assert "broke" in caplog.text


async def test_no_more_jobs_run_at_once_than_there_are_seats(jobs, body):
    started = [await jobs.submit("count", {"size": size}) for size in range(5)]
    async with asyncio.timeout(PATIENCE_S):
        while body.at_once < 2:  # noqa: ASYNC110 - only the body knows
            await asyncio.sleep(0.01)
    body.let_go.set()
    assert {(await jobs.wait(job.id, PATIENCE_S)).state for job in started} == {"done"}
    assert body.most_at_once == 2


async def test_closing_interrupts_jobs_and_the_next_start_goes_on_with_them(store, body):
    jobs = Jobs(store, RealClock(), {"count": body}, at_once=1)
    running = await jobs.submit("count", {"size": 1})
    waiting = await jobs.submit("count", {"size": 2})
    await body.began.wait()
    await jobs.close()
    assert (await store.job(running.id)).state == "interrupted"
    assert (await store.job(waiting.id)).state == "queued"
    with pytest.raises(Conflict):
        await jobs.submit("count", {"size": 3})
    body.let_go.set()
    restarted = Jobs(store, RealClock(), {"count": body})
    assert sorted(await restarted.resume_interrupted()) == sorted([running.id, waiting.id])
    assert (await restarted.wait(running.id, PATIENCE_S)).attempts == 2
    assert (await restarted.wait(waiting.id, PATIENCE_S)).state == "done"
    await restarted.close()


async def test_a_job_of_a_vanished_process_is_resumed_and_one_of_a_living_process_is_left_alone(store, tmp_path, body):
    other = await Store.open(f"sqlite:///{(tmp_path / 'lab.db').as_posix()}")
    theirs = CountingBody()
    elsewhere = Jobs(other, RealClock(), {"count": theirs})
    job = await elsewhere.submit("count", {"size": 1})
    await theirs.began.wait()
    jobs = Jobs(store, RealClock(), {"count": body})
    assert await jobs.resume_interrupted() == []
    assert (await jobs.submit("count", {"size": 1})).id == job.id
    other._connections.owner_lock.release()  # what the operating system does when a process dies
    assert await jobs.resume_interrupted() == [job.id]
    body.let_go.set()
    assert (await jobs.wait(job.id, PATIENCE_S)).state == "done"
    assert body.runs == 1
    await elsewhere.close()
    await jobs.close()
    assert (await store.job(job.id)).state == "done"
    await other.close()


async def test_a_job_of_another_process_is_cancelled_through_the_store(store, tmp_path):
    other = await Store.open(f"sqlite:///{(tmp_path / 'lab.db').as_posix()}")
    theirs = CountingBody()
    elsewhere = Jobs(other, RealClock(), {"count": theirs})
    job = await elsewhere.submit("count", {"size": 1})
    await theirs.began.wait()
    jobs = Jobs(store, RealClock(), {"count": CountingBody()})
    await jobs.cancel(job.id)
    assert (await jobs.wait(job.id, PATIENCE_S)).state == "cancelled"
    await elsewhere.close()
    await other.close()


async def test_unknown_kinds_and_jobs_are_named(jobs):
    with pytest.raises(BadRequest, match="'dance'"):
        await jobs.submit("dance", {})
    with pytest.raises(NotFound, match="'job_0'"):
        await jobs.view("job_0")


async def test_asking_for_a_job_that_was_set_aside_makes_it_go_on_and_leaves_the_waiting_ones_to_their_turn(
    store, body
):
    earlier = Jobs(store, RealClock(), {"count": body}, at_once=1)
    job = await earlier.submit("count", {"size": 1})
    other = await earlier.submit("count", {"size": 2})
    await body.began.wait()
    await earlier.close()
    body.let_go.set()
    jobs = Jobs(store, RealClock(), {"count": body})
    assert (await jobs.resume(job.id)).state == "interrupted"
    assert (await jobs.wait(job.id, 60)).state == "done"
    assert (await jobs.resume(job.id)).state == "done"
    assert not jobs.runs_here(job.id)
    assert (await jobs.resume(other.id)).state == "queued"
    assert not jobs.runs_here(other.id)
    with pytest.raises(NotFound):
        await jobs.resume("job_000000000000")
    await jobs.close()


async def test_a_job_that_was_interrupted_ten_times_is_given_up_until_it_is_asked_for_again(store, body):
    record = await store.add_job("count", {"size": 1}, at_ms=1)
    for _ in range(10):
        assert await store.claim_job(record.id, store.owner, now_ms=2, lease_ms=1000)
        await store.finish_job(record.id, store.owner, "interrupted", now_ms=3)
    jobs = Jobs(store, RealClock(), {"count": body})
    assert (await jobs.resume(record.id)).is_given_up
    assert not jobs.runs_here(record.id)
    body.let_go.set()
    await jobs.submit("count", {"size": 1})
    assert (await jobs.wait(record.id, 60)).state == "done"
    await jobs.close()


async def test_heavy_jobs_of_two_processes_on_one_database_take_turns_and_others_do_not(store, body, tmp_path):
    other = await Store.open(f"sqlite:///{(tmp_path / 'lab.db').as_posix()}")
    theirs = CountingBody()
    elsewhere = Jobs(other, RealClock(), {"heavy": theirs}, heavy_kinds=["heavy"])
    jobs = Jobs(store, RealClock(), {"heavy": body, "light": body}, heavy_kinds=["heavy"])
    first = await elsewhere.submit("heavy", {"size": 1})
    await theirs.began.wait()
    second = await jobs.submit("heavy", {"size": 2})
    light = await jobs.submit("light", {"size": 3})
    await body.began.wait()
    assert [(await jobs.view(job.id)).state for job in (first, second, light)] == ["running", "queued", "running"]
    assert body.runs == 1
    body.let_go.set()
    theirs.let_go.set()
    assert [(await jobs.wait(job.id, PATIENCE_S)).state for job in (first, second, light)] == ["done"] * 3
    await elsewhere.close()
    await jobs.close()
    await other.close()


HOLDER = """
import sys
from pathlib import Path
from engine.store.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


async def test_a_killed_process_leaves_its_turn_and_one_that_waits_for_it_can_be_cancelled(store, body):
    jobs = Jobs(store, RealClock(), {"heavy": body}, heavy_kinds=["heavy"])
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(store.turn("heavy").path), stdin=PIPE, stdout=PIPE
    )
    try:
        assert (await asyncio.wait_for(holder.stdout.readline(), PATIENCE_S)).strip() == b"True"
        unwanted = await jobs.submit("heavy", {"size": 1})
        job = await jobs.submit("heavy", {"size": 2})
        assert (await jobs.cancel(unwanted.id)).state == "cancelled"
        assert (await jobs.view(job.id)).state == "queued"
    finally:
        holder.kill()
        await holder.communicate()
    body.let_go.set()
    assert (await jobs.wait(job.id, PATIENCE_S)).state == "done"
    assert body.runs == 1
    await jobs.close()


class OneWorker:
    """Runs jobs of another `Jobs` as a process of its own would, or none at all."""

    def __init__(self, theirs: Jobs | None) -> None:
        self._theirs = theirs
        self.is_closed = False

    async def run(self, job_id, stop):
        if self._theirs is None:
            raise Unavailable("no process can be started", fix="none")
        await self._theirs.run_job(job_id, JobContext(job_id, stop))

    async def close(self):
        self.is_closed = True


async def test_jobs_of_the_kinds_of_workers_run_there_and_others_here(store, body, tmp_path):
    other = await Store.open(f"sqlite:///{(tmp_path / 'lab.db').as_posix()}")
    theirs = CountingBody()
    worker = OneWorker(Jobs(other, RealClock(), {"far": theirs}))
    jobs = Jobs(store, RealClock(), {"far": body, "near": body}, workers=worker, worker_kinds=["far"])
    far, near = await jobs.submit("far", {"size": 1}), await jobs.submit("near", {"size": 2})
    await theirs.began.wait()
    assert jobs.runs_here(far.id)
    assert (await store.job(far.id)).owner == other.owner
    body.let_go.set()
    assert (await jobs.wait(near.id, PATIENCE_S)).state == "done"
    assert (await jobs.cancel(far.id)).state == "cancelled"
    assert (body.runs, theirs.runs, theirs.at_once) == (1, 1, 0)
    await jobs.close()
    assert worker.is_closed
    await other.close()


async def test_a_job_runs_here_where_no_worker_can_be_started(store, body):
    jobs = Jobs(store, RealClock(), {"far": body}, workers=OneWorker(None), worker_kinds=["far"])
    body.let_go.set()
    job = await jobs.submit("far", {"size": 1})
    assert (await jobs.wait(job.id, PATIENCE_S)).state == "done"
    assert body.runs == 1
    await jobs.close()
