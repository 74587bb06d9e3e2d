"""Processes that compute heavy jobs beside the server: the event loop keeps its interpreter, and a stuck job can be ended."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from engine.errors import Unavailable

if TYPE_CHECKING:
    from server.settings import Settings

logger = logging.getLogger(__name__)

# The imports of a worker take a second, so the next job of a row of jobs finds it ready; then its memory is given back.
IDLE_S: Final = 60.0
# Neither the folder it is started in nor its environment changes what a worker imports: it has the server's own path.
_PROGRAM: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from server.worker import main; main()"
_WINDOWS_FLAGS: Final = ("CREATE_NO_WINDOW", "BELOW_NORMAL_PRIORITY_CLASS")


@dataclass(slots=True, eq=False)
class Worker:
    """One process and the pipes to it. It ends by itself when the server does, however that ends."""

    process: Process
    leave: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        """Start a process and wait until it has opened the lab."""
        flags = sum(int(getattr(subprocess, name, 0)) for name in _WINDOWS_FLAGS)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM, json.dumps(sys.path), stdin=PIPE, stdout=PIPE, creationflags=flags
            )
        except OSError as error:
            raise Unavailable(f"no process can be started: {error.strerror}", fix="see the log") from error
        worker = cls(process)
        is_ready = False
        try:
            worker.send(settings.told_to_worker())
            is_ready = await worker.hear("ready")
        finally:
            if not is_ready:
                await worker.end()
        if not is_ready:
            raise Unavailable("the process of a worker ended before it was ready", fix="see the log")
        return worker

    def send(self, message: dict[str, object]) -> None:
        """Send a message; a process that is gone hears nothing, which its silence tells."""
        assert self.process.stdin is not None  # noqa: S101 - asked for above
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def hear(self, word: str) -> bool:
        """Wait for a word; False when the process ended instead."""
        assert self.process.stdout is not None  # noqa: S101 - asked for above
        return (await self.process.stdout.readline()).decode().strip() == word

    async def end(self) -> None:
        """End the process at once; what it has committed stays."""
        if self.leave is not None:
            self.leave.cancel()
        if self.process.returncode is None:
            self.process.kill()
        # Reads both pipes to their end, so that the loop holds nothing of the process any more.
        await self.process.communicate()


class WorkerProcesses:
    """Workers by demand: one a job, at most one kept for the next.

    Parameters
    ----------
    settings : Settings
        Of the server; workers open the same database.
    idle_s : float
        How long a worker without a job is kept.
    """

    def __init__(self, settings: Settings, *, idle_s: float = IDLE_S) -> None:
        self._settings = settings
        self._idle_s = idle_s
        self._idle: list[Worker] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, job_id: str, stop: asyncio.Event) -> None:
        """Have a process run a job and return when it is over or the process is gone; see `JobWorkers`."""
        worker = await self._ready()
        may_stay = False
        try:
            worker.send({"run": job_id})
            may_stay = await _ended(worker, stop)
            if not may_stay and not stop.is_set():
                logger.error("the process of job %s ended unexpectedly (%s)", job_id, worker.process.returncode)
        finally:
            # After a wish to stop a thread of it may still be computing.
            if may_stay and not stop.is_set() and not self._idle:
                self._keep(worker)
            else:
                await worker.end()

    async def close(self) -> None:
        """End all processes that wait for a job."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(worker.end() for worker in idle), *self._ending)

    async def _ready(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.leave is not None:
                worker.leave.cancel()
            if worker.process.returncode is None:
                return worker
            await worker.end()
        return await Worker.start(self._settings)

    def _keep(self, worker: Worker) -> None:
        self._idle.append(worker)
        worker.leave = asyncio.get_running_loop().call_later(self._idle_s, self._dismiss, worker)

    def _dismiss(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            task = asyncio.create_task(worker.end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _ended(worker: Worker, stop: asyncio.Event) -> bool:
    """Wait until the worker says that its job is over, and pass a wish to stop on; False when the process is gone."""
    over = asyncio.create_task(worker.hear("over"))
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({over, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            worker.send({"stop": True})
        return await over
    finally:
        asked.cancel()
        over.cancel()
        await asyncio.gather(asked, over, return_exceptions=True)
