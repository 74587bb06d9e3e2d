"""How often we may ask: one limiter for all callers of a host, shared with other processes through a memory.

Bybit allows 600 requests per 5 s and address and bans the address for at least 10 minutes beyond that (Bybit v5
docs, rate-limit); the limiter stays at half of it at most, slows down when told to, and obeys a ban to the letter.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from dataclasses import dataclass

from engine.errors import BadRequest, Banned
from engine.ports import Clock, LimitMemory

HARD_CAP_PER_S = 60
# Half of what the exchange counts, in any second and in any window of its own length.
_GUARDS = ((1.0, HARD_CAP_PER_S), (5.0, 5 * HARD_CAP_PER_S))
_FLOOR_PER_S = 1.0
_RECOVERY_S = 10.0
_MEMORY_INTERVAL_S = 1.0
_LEASE_S = 10.0
# The grants of a guard window must leave it before the next one; a millisecond hides the rounding of clocks.
_MARGIN_S = 0.001
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class RateRules:
    """How fast to ask. `rate_per_s` of 0 or None lifts the rate (not the ban), for exchanges on this machine."""

    rate_per_s: float | None = 20.0
    burst: int = 10
    ban_s: float = 600.0

    def __post_init__(self) -> None:
        rate = self.rate_per_s or 0
        if not 0 <= rate <= HARD_CAP_PER_S or not 1 <= self.burst <= HARD_CAP_PER_S or self.ban_s <= 0:
            raise BadRequest(
                f"rate {self.rate_per_s!r}, burst {self.burst!r}, ban {self.ban_s!r} s cannot be kept",
                fix=f"rate 0 to {HARD_CAP_PER_S} a second, burst 1 to {HARD_CAP_PER_S}, ban over 0 s",
            )


class RequestLimiter:
    """The gate every request to one host passes, in the order of arrival.

    Parameters
    ----------
    host : str
        The name bans and callers are remembered under.
    clock : Clock
    memory : LimitMemory, optional
        Shared between processes; without it bans and callers are known to this process only.
    rules : RateRules
    owner : str, optional
        Name of this caller in the memory; a random one by default.
    """

    def __init__(
        self,
        host: str,
        *,
        clock: Clock,
        memory: LimitMemory | None = None,
        rules: RateRules | None = None,
        owner: str | None = None,
    ) -> None:
        self.host = host
        self.rules = rules or RateRules()
        self._clock = clock
        self._memory = memory
        self._owner = owner or uuid.uuid4().hex
        self._turn = asyncio.Lock()  # wakes its waiters first come, first served
        self._rate_per_s = self.rules.rate_per_s or 0.0
        self._callers = 1
        self._tokens = float(self.rules.burst)
        self._refilled_at = clock.monotonic()
        self._grants: deque[float] = deque(maxlen=_GUARDS[-1][1])
        self._paused_until = 0.0
        self._slowed_at = float("-inf")
        self._recovering_since = float("-inf")
        self._banned_until = float("-inf")
        self._remembered_ban_ms = 0
        self._consult_at = float("-inf")

    @property
    def rate_per_s(self) -> float:
        """The share of the rate this caller may use now; 0 when it is lifted."""
        return self._rate_per_s / self._callers

    async def acquire(self) -> float:
        """Wait for a turn and return when it was granted; raise `Banned` at once during a ban."""
        async with self._turn:
            while True:
                await self._consult()
                self._refuse_during_ban()
                now = self._clock.monotonic()
                wait_s = self._wait_s(now)
                if wait_s <= 0:
                    self._tokens -= 1
                    self._grants.append(now)
                    return now
                # Short naps, so that a ban or another caller is noticed while waiting.
                await self._clock.sleep(max(_MARGIN_S, min(wait_s, _MEMORY_INTERVAL_S)))

    def succeeded(self) -> None:
        """Take note of a good answer; after a while of them the rate climbs back."""
        now = self._clock.monotonic()
        if self._rate_per_s < (self.rules.rate_per_s or 0.0) and now - self._recovering_since >= _RECOVERY_S:
            self._rate_per_s = min(self.rules.rate_per_s or 0.0, self._rate_per_s + 1.0)
            self._recovering_since = now

    def slow_down(self, granted_at: float, pause_s: float | None = None) -> float:
        """Halve the rate and hold everybody for `pause_s` (1 to 2 s when the exchange named none); return the pause.

        Requests that were under way when the rate was last halved do not halve it again.
        """
        now = self._clock.monotonic()
        pause = random.uniform(1.0, 2.0) if pause_s is None else min(max(pause_s, 0.0), _LONGEST_PAUSE_S)  # noqa: S311 - jitter
        self._paused_until = max(self._paused_until, now + pause)
        self._recovering_since = now
        if self._rate_per_s and granted_at >= self._slowed_at:
            self._rate_per_s = max(min(_FLOOR_PER_S, self.rules.rate_per_s or 0.0), self._rate_per_s / 2)
            self._slowed_at = now
        return pause

    async def ban(self) -> None:
        """Stop all requests to the host, of every process that shares the memory, also after a restart."""
        self._banned_until = self._clock.monotonic() + self.rules.ban_s
        until_ms = self._clock.now_ms() + round(self.rules.ban_s * 1000)
        if self._memory is not None:
            await self._memory.remember_ban(self.host, until_ms)

    async def _consult(self) -> None:
        now = self._clock.monotonic()
        if self._memory is None or now < self._consult_at:
            return
        now_ms = self._clock.now_ms()
        self._remembered_ban_ms = await self._memory.ban_until_ms(self.host)
        self._callers = max(
            1, await self._memory.active_callers(self.host, self._owner, now_ms, round(_LEASE_S * 1000))
        )
        self._consult_at = now + _MEMORY_INTERVAL_S

    def _refuse_during_ban(self) -> None:
        left_s = max(
            self._banned_until - self._clock.monotonic(), (self._remembered_ban_ms - self._clock.now_ms()) / 1000
        )
        if left_s > 0:
            raise Banned(
                f"{self.host} refuses requests from this address for another {left_s:.0f} s",
                fix="wait; no request is sent meanwhile. Stored candles can still be used",
                retry_after_s=left_s,
            )

    def _wait_s(self, now: float) -> float:
        wait_s = self._paused_until - now
        if not self._rate_per_s:
            return wait_s
        rate = self.rate_per_s
        capacity = max(1.0, self.rules.burst / self._callers)
        self._tokens = min(capacity, self._tokens + (now - self._refilled_at) * rate)
        self._refilled_at = now
        if self._tokens < 1 - 1e-9:
            wait_s = max(wait_s, (1 - self._tokens) / rate)
        for window_s, most in _GUARDS:
            allowed = max(1, most // self._callers)
            if len(self._grants) >= allowed:
                wait_s = max(wait_s, self._grants[-allowed] + window_s + _MARGIN_S - now)
        return wait_s
