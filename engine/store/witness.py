"""The ledger's witness: an append-only file beside the database that remembers seals, openings and chain heads."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from engine.errors import StorageFailed
from engine.store import locks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PATIENCE_S = 30.0
Statement = dict[str, Any]


class Witness:
    """One JSON object a line, written by every process that uses the folder, never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def statements(self) -> list[Statement]:
        """Return what was said, oldest first; a line torn by a crash says nothing. Blocks."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure() from error
        return [statement for line in lines if (statement := _read(line)) is not None]

    def append(self, statements: Sequence[Statement]) -> None:
        """Add lines and wait until the disk has them. Blocks."""
        if not statements:
            return
        text = "".join(json.dumps(each, sort_keys=True, separators=(",", ":")) + "\n" for each in statements)
        lock = locks.acquire(self.path.with_name(self.path.name + ".lock"), patience_s=_PATIENCE_S)
        try:
            with self.path.open("ab+") as file:
                if _is_torn(file.seek(0, os.SEEK_END), file):
                    text = "\n" + text
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failure() from error
        finally:
            lock.release()

    def _failure(self) -> StorageFailed:
        return StorageFailed(
            f"the ledger's witness {self.path.name!r} cannot be read or written",
            fix="free disk space, or make the folder of BST_HOME writable",
        )


def _is_torn(size: int, file: Any) -> bool:
    if size == 0:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"


def _read(line: bytes) -> Statement | None:
    try:
        statement = json.loads(line)
    except ValueError:
        return None
    return statement if isinstance(statement, dict) and "kind" in statement else None
