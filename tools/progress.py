"""The caller's progress channel, paced: at the start, at most four times a second, and every ten seconds of silence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

Send = Callable[[float, float | None, str | None], Awaitable[None]]

HEARTBEAT_SECONDS: Final = 10.0
LONGEST_BURST: Final = 4
BURST_SECONDS: Final = 1.0


class PacedProgress:
    """Sends progress while it is entered; values always rise, as the protocol demands, and none follows the end.

    Parameters
    ----------
    send : callable
        Takes (progress, total, message) and delivers them to the caller.
    heartbeat_seconds : float
        Longest silence; hosts give up on a call that says nothing for longer than their own limit.
    """

    def __init__(self, send: Send, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._send = send
        self._heartbeat_seconds = heartbeat_seconds
        self._sent_at: deque[float] = deque(maxlen=LONGEST_BURST)
        self._last = -1.0
        self._total: float | None = None
        self._message: str | None = None
        self._open = False
        self._heartbeat: asyncio.Task[None] | None = None

    async def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report `done` of `total`; too frequent reports are dropped, the heartbeat repeats the latest message."""
        self._total, self._message = total, message
        if self._open and not self._in_burst():
            await self._deliver(done)

    async def __aenter__(self) -> Self:
        """Say that work has begun and keep saying so."""
        self._open = True
        await self._deliver(0.0)
        self._heartbeat = asyncio.create_task(self._beat(), name="progress heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fall silent for good."""
        self._open = False
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    async def _beat(self) -> None:
        while self._open:
            await asyncio.sleep(self._heartbeat_seconds)
            silent_for = asyncio.get_running_loop().time() - self._sent_at[-1]
            if silent_for >= self._heartbeat_seconds * 0.9:
                await self._deliver(self._last)

    def _in_burst(self) -> bool:
        now = asyncio.get_running_loop().time()
        return len(self._sent_at) == LONGEST_BURST and now - self._sent_at[0] < BURST_SECONDS

    async def _deliver(self, done: float) -> None:
        self._last = done if done > self._last else self._last + self._smallest_step()
        self._sent_at.append(asyncio.get_running_loop().time())
        await self._send(self._last, self._total, self._message)

    def _smallest_step(self) -> float:
        """Return a step that shows life without running past the total."""
        if self._total is not None and self._total > self._last:
            return (self._total - self._last) / 1000
        return 0.001
