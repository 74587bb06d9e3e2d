"""Python's garbage collector, held off while modules are imported and parts are built."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def undisturbed_start() -> Generator[None]:
    """Hold the garbage collector off while the block builds what stays, then exempt all of it from later rounds.

    Imports allocate a great deal and free almost nothing, so that each round walks over everything for nothing. Blocks may
    follow one another, lie inside one another and overlap.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
