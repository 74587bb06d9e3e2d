"""Computations on a thread that end with the call that asked for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from engine.errors import Cancelled

ShouldStop = Callable[[], bool]
Result = TypeVar("Result")


async def run_off_loop(work: Callable[[ShouldStop], Result]) -> Result:
    """Run a computation on a thread; when the waiting task is cancelled, the computation learns it at its next look."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop.is_set)
    except asyncio.CancelledError:
        stop.set()
        raise


def stop_if(should_stop: ShouldStop) -> None:
    """End a computation that is not wanted any more."""
    if should_stop():
        raise Cancelled("the run was cancelled", fix="start it again when it is wanted")


def never() -> bool:
    """Go on to the end."""
    return False
