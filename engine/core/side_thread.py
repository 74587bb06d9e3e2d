"""A second thread for one half of a long computation; compiled code runs without the interpreter's lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")

# Handing work over and waiting for it takes about as long as a simple pass over so many bars.
WORTH_SHARING_BARS = 200_000


def side_by_side(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Run both, the second one beside the first where the thread is free, else after it; neither waits for anybody else."""
    waiting = _pool().submit(second)
    try:
        done = first()
    except BaseException:
        # Nobody asks for the other half any more; its arrays must not be written to behind the caller's back.
        if not waiting.cancel():
            waiting.exception()
        raise
    return done, second() if waiting.cancel() else waiting.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="side")
