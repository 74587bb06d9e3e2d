"""Jobs in processes of their own: the same results, ended at once when asked to, gone with the server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import JobView
from engine.verdicts import verdicts
from server.assembly import close_lab, open_lab
from server.job_workers import _PROGRAM, WorkerProcesses
from server.mcp_app import serve_lab
from server.settings import Settings
from tools import validation
from tools.lab import Lab
from tools.optimization import start_grid_search
from tools.validation import VerdictResult, get_verdict

pytestmark = pytest.mark.faults

PATIENCE_S = 240.0
MARKET = {"symbol": "BTCUSDT", "category": "spot", "interval": "60", "start": "2024-01-01", "end": "2024-02-01"}
SMALL = {**MARKET, "grid": {"fast": [5, 10, 20], "slow": [30, 60, 90]}}
# Long enough to be met in the middle on any machine; nobody waits for its end.
LARGE = {
    **MARKET,
    "category": "linear",
    "grid": {"fast": {"from": 5, "to": 54, "step": 1}, "slow": {"from": 60, "to": 199, "step": 1}},
}


class Watched(WorkerProcesses):
    """Workers whose processes a test may look at."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self.processes: list[asyncio.subprocess.Process] = []

    async def _ready(self) -> Any:
        worker = await super()._ready()
        if worker.process not in self.processes:
            self.processes.append(worker.process)
        return worker


@asynccontextmanager
async def laboratory(home: Path, workers: type[WorkerProcesses] | None = None) -> AsyncIterator[tuple[Lab, Any]]:
    settings = Settings(home=home, feed="simulated", _env_file=None)
    made = None if workers is None else workers(settings)
    lab = await open_lab(settings, serve_lab(settings), made)
    try:
        yield lab, made
    finally:
        await close_lab(lab)


async def search(lab: Lab, arguments: dict[str, Any]) -> str:
    return (await start_grid_search.function(strategy="ema_cross", **arguments, lab=lab)).job_id


async def until(lab: Lab, job_id: str, wanted: Callable[[JobView], bool]) -> JobView:
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(view := await lab.jobs.wait(job_id, 0.05)):
            assert not view.is_over, view.error
    return view


def is_under_way(view: JobView) -> bool:
    return view.state == "running" and bool((view.progress or {}).get("done"))


async def finished(lab: Lab, arguments: dict[str, Any]) -> dict[str, Any]:
    job_id = await search(lab, arguments)
    view = await lab.jobs.wait(job_id, PATIENCE_S)
    assert view.state == "done", view.error
    return dict(await lab.jobs.result(job_id))


async def judged(lab: Lab, result: dict[str, Any]) -> VerdictResult:
    async def unheard(*_: object) -> None:
        """Nobody follows the progress."""

    return await get_verdict.function(run_id=result["items"][0]["run_id"], lab=lab, progress=unheard)


async def test_a_worker_finds_what_this_process_finds_and_the_next_job_has_the_same_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(verdicts, "_MANY_TRIALS", 5)
    monkeypatch.setattr(validation, "_DIRECT_S", PATIENCE_S)
    async with laboratory(tmp_path / "here") as (lab, _):
        here = await finished(lab, SMALL)
        verdict_here = await judged(lab, here)
        assert (await lab.jobs.list(kind="verdict")).total == 0
    async with laboratory(tmp_path / "there", Watched) as (lab, workers):
        there = await finished(lab, SMALL)
        assert await judged(lab, there) == verdict_here
        assert [job.state for job in (await lab.jobs.list(kind="verdict")).items] == ["done"]
        await finished(lab, SMALL | {"grid": {"fast": [7], "slow": [70]}})
        assert len(workers.processes) == 1
        assert await lab.store.trial_count(there["study_id"]) == 10
    assert there == here
    assert workers.processes[0].returncode is not None, "closing the lab ends its workers"


@pytest.mark.parametrize(
    "is_stuck",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform == "win32", reason="nothing stops a process"))],
)
async def test_a_cancelled_search_is_over_and_its_process_gone_even_when_it_does_not_listen(tmp_path, is_stuck):
    async with laboratory(tmp_path / "home", Watched) as (lab, workers):
        job_id = await search(lab, LARGE)
        await until(lab, job_id, is_under_way)
        if is_stuck:
            os.kill(workers.processes[0].pid, signal.SIGSTOP)
        assert (await lab.jobs.cancel(job_id)).state == "cancelled"
        assert workers.processes[0].returncode is not None
        assert not lab.jobs.runs_here(job_id)


async def test_a_search_whose_process_was_killed_is_set_aside_and_told(tmp_path):
    async with laboratory(tmp_path / "home", Watched) as (lab, workers):
        job_id = await search(lab, LARGE)
        before = await until(lab, job_id, is_under_way)
        workers.processes[0].kill()
        aside = await until(lab, job_id, lambda view: view.state == "interrupted")
        assert aside.error is not None
        assert "ended unexpectedly" in aside.error["message"]
        assert await search(lab, LARGE) == job_id, "the same request goes on with it"
        again = await until(lab, job_id, lambda view: is_under_way(view) and view.attempts == 2)
        assert again.progress["done"] >= before.progress["done"], "with what was committed"
        assert len(workers.processes) == 2
    store = (await _reopened(tmp_path / "home", job_id)).state
    assert store == "interrupted", "a server that ends sets its jobs aside"


async def _reopened(home: Path, job_id: str) -> JobView:
    settings = Settings(home=home, feed="simulated", _env_file=None)
    lab = await open_lab(settings, serve_lab(settings), is_worker=True)
    try:
        return await lab.jobs.view(job_id)
    finally:
        await close_lab(lab)


async def test_a_worker_without_a_job_is_let_go_after_a_while(tmp_path):
    class Impatient(Watched):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings, idle_s=0)

    async with laboratory(tmp_path / "home", Impatient) as (lab, workers):
        await finished(lab, SMALL)
        async with asyncio.timeout(PATIENCE_S):
            await workers.processes[0].wait()


async def test_where_no_process_can_be_started_the_job_runs_here(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-program"))
    async with laboratory(tmp_path / "home", Watched) as (lab, workers):
        assert (await finished(lab, SMALL))["total"] == 9
        assert workers.processes == []


async def _say(process: asyncio.subprocess.Process, home: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    settings = Settings(home=home, feed="simulated", _env_file=None)
    process.stdin.write(json.dumps(settings.told_to_worker()).encode() + b"\n")
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"ready\n"


async def test_a_worker_ends_when_the_server_is_gone_even_in_the_middle_of_a_job(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, json.dumps(sys.path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        await _say(process, tmp_path / "home")
        async with laboratory(tmp_path / "home") as (lab, _):
            queued = await lab.store.add_job("grid", await _request(lab), at_ms=1)
            process.stdin.write(json.dumps({"run": queued.id}).encode() + b"\n")
            await until(lab, queued.id, is_under_way)
            process.stdin.close()
            await asyncio.wait_for(process.wait(), PATIENCE_S)
            left = await lab.store.job(queued.id)
            assert left.state == "running"
            assert not await lab.store.is_owner_alive(left.owner), "whoever comes next may go on with it"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _request(lab: Lab) -> dict[str, Any]:
    """Return the request of a large search, which nobody runs."""
    job_id = await search(lab, LARGE)
    await lab.jobs.cancel(job_id)
    return {**(await lab.store.job(job_id)).request, "min_trades": 4}


def test_a_worker_is_told_no_secret(tmp_path):
    settings = Settings(home=tmp_path, deepseek_api_key="sk-of-mine", http_token="the-token", _env_file=None)
    told = json.dumps(settings.told_to_worker())
    assert "sk-of-mine" not in told
    assert "the-token" not in told
    assert Settings(**json.loads(told), _env_file=None).store_url == settings.store_url
