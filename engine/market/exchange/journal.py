"""The request log, and the count of requests in which an address may be banned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

_REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One request as it was answered. `status` is 0 where no complete answer was sent.

    `arrived_ms` is when it came, `at_ms` when its answer was out, by the clock of the exchange.
    """

    arrived_ms: int
    at_ms: int
    monotonic_s: float
    path: str
    query: str
    status: int
    ret_code: int | None
    faults: tuple[str, ...]


class Journal:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self.entries: deque[JournalEntry] = deque(maxlen=_REMEMBERED)
        self.chapter = 0

    def write(self, entry: JournalEntry, chapter: int) -> None:
        """Add a request that arrived in this chapter; one that arrived before the latest clearing stays forgotten."""
        if chapter == self.chapter:
            self.entries.append(entry)

    def clear(self) -> None:
        """Forget all requests, also those not answered yet."""
        self.entries.clear()
        self.chapter += 1

    def rows(self) -> list[dict[str, object]]:
        """Return the entries as plain documents."""
        return [asdict(entry) for entry in self.entries]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often one address may ask before it is banned (Bybit v5 docs, rate-limit: 600 requests in 5 s, 10 minutes).

    `time_scale` 60 makes a second of the test count as a minute of the rule.
    """

    requests: int = 600
    window_s: float = 5.0
    ban_s: float = 600.0
    time_scale: float = 1.0


class AddressGate:
    """A sliding count per address, and the bans that follow from it or from a fault."""

    def __init__(self, limit: RateLimit | None, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._seen: dict[str, deque[float]] = {}
        self._banned_until: dict[str, float] = {}

    def admits(self, address: str) -> bool:
        """Count a request and say whether it may be answered."""
        now = self._monotonic()
        if now < self._banned_until.get(address, 0.0):
            return False
        if self._limit is None:
            return True
        seen = self._seen.setdefault(address, deque())
        seen.append(now)
        while seen and seen[0] <= now - self._limit.window_s / self._limit.time_scale:
            seen.popleft()
        if len(seen) > self._limit.requests:
            self.ban(address, self._limit.ban_s / self._limit.time_scale)
            return False
        return True

    def ban(self, address: str, seconds: float) -> None:
        """Refuse this address for a while."""
        self._banned_until[address] = self._monotonic() + seconds
        self._seen.pop(address, None)
