"""The program of a worker: runs the jobs that are named on stdin, one after the other, until stdin ends."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from engine.errors import LabError
from server.collector import undisturbed_start
from server.logs import configure_logging
from server.settings import Settings
from server.transports import open_protocol_stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from mcp.server import MCPServer

    from engine.jobs import Jobs
    from tools.lab import Lab

logger = logging.getLogger(__name__)

# People and the server come first; with nobody else at work a job has every core all the same.
NICENESS: Final = 5
Message = dict[str, Any]


def main() -> None:
    """Open the lab that the first line describes, then run jobs."""
    # An interruption from the keyboard reaches every process of a terminal; the server decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered: a thread that waits in a buffered read keeps the interpreter from ending.
    commands = os.fdopen(0, "rb", buffering=0, closefd=False)
    settings = Settings.model_validate(json.loads(commands.readline()))
    configure_logging(settings.log_level)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    with open_protocol_stream() as stdout:

        def tell(word: str) -> None:
            stdout.write(word + "\n")
            stdout.flush()

        asyncio.run(_serve(settings, commands, tell))


async def _serve(settings: Settings, commands: FileIO, tell: Callable[[str], None]) -> None:
    with undisturbed_start():
        from server.assembly import close_lab, open_lab

        lab = await open_lab(settings, _no_tools, is_worker=True)
    try:
        messages = _heard(commands, asyncio.get_running_loop())
        tell("ready")
        while True:
            await _run(lab.jobs, (await messages.get())["run"], messages)
            gc.collect()
            tell("over")
    finally:
        await close_lab(lab)


def _no_tools(_lab: Lab) -> MCPServer[Any]:
    raise RuntimeError(
        "a worker is told searches and examinations only; pipelines, which need tools, stay with the server"
    )


def _heard(commands: FileIO, loop: asyncio.AbstractEventLoop) -> asyncio.Queue[Message]:
    """Return the messages of the server; without a server this process ends at once, whatever it does."""
    messages: asyncio.Queue[Message] = asyncio.Queue()

    def listen() -> None:
        while line := commands.readline():
            loop.call_soon_threadsafe(messages.put_nowait, json.loads(line))
        os._exit(0)

    # Standard input cannot be awaited on every system.
    threading.Thread(target=listen, name="listening", daemon=True).start()
    return messages


async def _run(jobs: Jobs, job_id: str, messages: asyncio.Queue[Message]) -> None:
    from engine.jobs import JobContext

    context = JobContext(job_id)
    work = asyncio.create_task(jobs.run_job(job_id, context))
    # Nothing but a wish to stop comes while a job runs.
    stop = asyncio.create_task(messages.get())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        context.cancelled.set()
    stop.cancel()
    try:
        await work
    except LabError:
        logger.exception("job %s broke", job_id)
