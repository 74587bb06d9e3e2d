"""The real clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Time as this machine tells it; implements `engine.ports.Clock`."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(seconds)
