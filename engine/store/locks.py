"""Locks between processes on small files; the operating system frees them when a process dies, however it dies."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, Protocol

from engine.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _seize(file: BinaryIO) -> None:
        # Windows locks byte ranges; the first byte stands for the file and may lie beyond its end.
        file.seek(0, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _seize(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class Turn(Protocol):
    """Something that one holder has at a time."""

    def try_acquire(self) -> bool:
        """Take it if nobody has it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class NoTurn:
    """The turn of a database that no other process can open."""

    def try_acquire(self) -> bool:
        """Take it: nobody else can."""
        return True

    def release(self) -> None:
        """Give it back."""


class FileLock:
    """An exclusive lock on one file; never inherited by child processes, so a dead holder cannot live on in one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        file = self.path.open("a+b")
        try:
            _seize(file)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back; the file stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def acquire(path: Path, *, patience_s: float) -> FileLock:
    """Take the lock of a file, waiting up to `patience_s`; blocks, so call it from a worker thread."""
    lock = FileLock(path)
    give_up = time.monotonic() + patience_s
    while not lock.try_acquire():
        if time.monotonic() > give_up:
            raise Unavailable(
                f"another process has kept {path.name!r} locked for {patience_s:.0f} s",
                fix="try again, or end the other process",
                retry_after_s=5,
            )
        time.sleep(0.02)
    return lock


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock of this file; a missing file is held by nobody."""
    if not path.exists():
        return False
    lock = FileLock(path)
    taken = lock.try_acquire()
    lock.release()
    return not taken
