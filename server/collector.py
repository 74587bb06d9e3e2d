"""Python's garbage collector, held off while modules are imported and parts are built."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def undisturbed_start() -> Generator[None]:
    """Hold the garbage collector off while the block imports and builds what stays, then exempt that from later rounds.

    Imports allocate a great deal and free almost nothing, so that each round walks over everything for nothing. Blocks may
    follow one another, lie inside one another and overlap.
    """
    was_on = gc.isenabled()
    modules = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        # Garbage that waits at this moment is never freed, so it is not done again and again for nothing.
        if len(sys.modules) > modules:
            gc.freeze()
        if was_on:
            gc.enable()
