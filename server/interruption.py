"""Runs the coroutine of a command so that a terminated process leaves like an interrupted one: it cleans up, then ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import FrameType

Outcome = TypeVar("Outcome")


def run_until_stopped(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run `work` to its end; SIGTERM cancels it as Ctrl-C does, and KeyboardInterrupt is raised once it has cleaned up."""
    terminations: list[int] = []
    try:
        return asyncio.run(_heeding_termination(work, terminations))
    except asyncio.CancelledError:
        if terminations:
            raise KeyboardInterrupt from None
        raise


async def _heeding_termination(work: Coroutine[Any, Any, Outcome], terminations: list[int]) -> Outcome:
    """Await `work` and cancel it at the first SIGTERM, whose number is noted in `terminations`."""
    # A handler that raises would do so wherever the event loop happens to be: inside the callback that hands over an
    # answer, for example. The answer is lost then, and whoever waits for it waits for ever, even while cleaning up.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in a task
    loop = asyncio.get_running_loop()

    def leave(number: int, _frame: FrameType | None) -> None:
        if not terminations:
            task.cancel()
            loop.call_soon_threadsafe(_wake_up)
        terminations.append(number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        return await work
    finally:
        signal.signal(signal.SIGTERM, before)


def _wake_up() -> None:
    """Make a loop that sleeps look at its tasks."""
