"""Leaves an agent alone that fails again and again, and tries it once in a while."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.ports import Clock

BreakerState = Literal["closed", "open", "half_open", "blocked"]

FAILURES_TO_OPEN = 5
WINDOW_S = 60.0
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0


class Breaker:
    """The breaker of one agent: closed, open, half-open; blocked for good when its account refuses us.

    Five failures within a minute open it for 30 s, doubling to ten minutes while the one trial at the end of each pause
    fails. Refused keys and empty accounts block it until the settings change, which needs a new process.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FAILURES_TO_OPEN)
        self._pause_s = FIRST_PAUSE_S
        self._open_until = 0.0
        self._is_open = False
        self._is_trying = False
        self.blocked_because = ""

    @property
    def state(self) -> BreakerState:
        """Return how things stand."""
        if self.blocked_because:
            return "blocked"
        if not self._is_open:
            return "closed" if self._clock.monotonic() >= self._open_until else "open"
        return "open" if self._clock.monotonic() < self._open_until else "half_open"

    @property
    def closes_in_s(self) -> float:
        """Return the seconds until the agent may be tried again."""
        return max(0.0, self._open_until - self._clock.monotonic())

    def allows(self) -> bool:
        """Return whether the agent may be asked now; a half-open one lets a single question through."""
        state = self.state
        if state == "half_open" and not self._is_trying:
            self._is_trying = True
            return True
        return state == "closed"

    def succeeded(self) -> None:
        """Close: the agent works."""
        self._failures.clear()
        self._pause_s = FIRST_PAUSE_S
        self._is_open = self._is_trying = False

    def failed(self) -> None:
        """Count a failure; open when there are too many."""
        now = self._clock.monotonic()
        if self._is_trying:
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
            self._open(now)
            return
        self._failures.append(now)
        if len(self._failures) == FAILURES_TO_OPEN and now - self._failures[0] <= WINDOW_S and not self._is_open:
            self._open(now)

    def abandoned(self) -> None:
        """End a trial that told nothing about the agent, such as a cancelled one."""
        self._is_trying = False

    def rest(self, seconds: float) -> None:
        """Leave the agent alone for as long as it asked to be."""
        self._open_until = max(self._open_until, self._clock.monotonic() + min(seconds, LONGEST_PAUSE_S))

    def block(self, reason: str) -> None:
        """Ask this agent nothing more: somebody must mend its account first."""
        self.blocked_because = reason

    def _open(self, now: float) -> None:
        self._is_open, self._is_trying = True, False
        self._open_until = now + self._pause_s
