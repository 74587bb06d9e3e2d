"""Opens the lab at the first call that needs it, off the event loop, and closes it with the server."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from engine.errors import StorageFailed
from server.collector import undisturbed_start

if TYPE_CHECKING:
    from server.job_workers import WorkerProcesses
    from server.settings import Settings
    from server.toolbox import ServeLab
    from tools.lab import Lab


class LabKeeper:
    """Holds the one lab of a server; answering `tools/list` needs none, so none is opened for it."""

    def __init__(self, settings: Settings, serve: ServeLab, lab: Lab | None = None) -> None:
        self.settings = settings
        self._serve = serve
        # A server that stays has others to answer while a search runs; a command waits for its one answer anyway.
        self.has_workers = False
        self._lab = lab
        # Whoever opened a lab closes it.
        self._is_ours = lab is None
        self._opening = asyncio.Lock()
        self._connections = 0

    def has_database(self) -> bool:
        """Return whether an earlier process has left a database in the home folder."""
        return self.settings.database_url is None and (self.settings.home / "bst.sqlite").is_file()

    @property
    def is_open(self) -> bool:
        """Return whether the lab has been opened."""
        return self._lab is not None

    async def lab(self) -> Lab:
        """Return the lab, opened once."""
        async with self._opening:
            if self._lab is None:
                with undisturbed_start():
                    self._lab = await self._open()
            return self._lab

    async def _open(self) -> Lab:
        # The database and numeric libraries take seconds to import; other calls go on meanwhile.
        assembly = await asyncio.to_thread(importlib.import_module, "server.assembly")
        try:
            return cast("Lab", await assembly.open_lab(self.settings, self._serve, self._workers()))
        except OSError as error:  # the folder is a file, is read-only, the disk is gone
            raise StorageFailed(
                f"the folder of this server cannot be used: {error.strerror or type(error).__name__}",
                fix="set BST_HOME to a folder that can be written to; `bst doctor` says more",
            ) from error

    def _workers(self) -> WorkerProcesses | None:
        if not self.has_workers:
            return None
        from server.job_workers import WorkerProcesses  # what asyncio needs for processes is not needed to list tools

        return WorkerProcesses(self.settings)

    async def close(self) -> None:
        """Close the lab if it was opened; running jobs are marked interrupted and can be resumed."""
        if self._lab is not None and self._is_ours:
            assembly = importlib.import_module("server.assembly")
            await assembly.close_lab(self._lab)
            self._lab = None

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[LabKeeper]:
        """Keep the lab for one connection; the last one to leave closes it."""
        self._connections += 1
        try:
            yield self
        finally:
            self._connections -= 1
            if self._connections == 0:
                await self.close()


def lab_lifespan(keeper: LabKeeper) -> Callable[[Any], AbstractAsyncContextManager[LabKeeper]]:
    """Return the lifespan of a server around this keeper."""

    def lifespan(_server: Any) -> AbstractAsyncContextManager[LabKeeper]:
        return keeper.connection()

    return lifespan
