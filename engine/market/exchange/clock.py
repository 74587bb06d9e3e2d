"""The exchange's own clock, which a test may skew or stop."""

from __future__ import annotations

import time
from collections.abc import Callable


def wall_clock_ms() -> int:
    """Return the time of this computer, milliseconds UTC."""
    return time.time_ns() // 1_000_000


class ExchangeClock:
    """A clock that runs on another one, shifted, or stands still."""

    def __init__(self, running_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._running_ms = running_ms
        self._offset_ms = 0
        self._stopped_ms: int | None = None

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._stopped_ms if self._stopped_ms is not None else self._running_ms() + self._offset_ms

    def set(self, *, now_ms: int | None = None, offset_ms: int = 0, stopped: bool = False) -> None:
        """Show `now_ms` (or the running time plus an offset) from this moment on, running or stopped."""
        self._stopped_ms = None
        self._offset_ms = offset_ms if now_ms is None else now_ms - self._running_ms()
        if stopped:
            self._stopped_ms = self.now_ms() if now_ms is None else now_ms
