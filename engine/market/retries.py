"""Retries: which failures deserve another try, how long to wait before it, and when to give up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from engine.errors import BadPayload, Banned, LabError, Unavailable, Unreachable
from engine.ports import Clock

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the exchange. All in seconds but the numbers of attempts.

    A host that takes no connection rarely does so seconds later, so it is given up after `unreachable_attempts`.
    """

    deadline_s: float = 120.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 15.0
    retry_base_s: float = 0.5
    retry_cap_s: float = 30.0
    attempts: int = 8
    unreachable_attempts: int = 3


def is_transient(error: BaseException) -> bool:
    """Say whether the same request may succeed soon; a ban never ends soon."""
    return isinstance(error, (Unavailable, BadPayload)) and not isinstance(error, Banned)


async def retry(
    attempt: Callable[[], Awaitable[Outcome]], *, clock: Clock, patience: Patience, deadline: float
) -> Outcome:
    """Run `attempt` until it succeeds, fails for good, has been tried often enough, or `deadline` would pass.

    Waits are full jitter (uniform between 0 and base * 2^n, capped), or as long as the exchange asked for when that is
    longer. `deadline` is a reading of ``clock.monotonic()``.
    """
    jitter = wait_random_exponential(multiplier=patience.retry_base_s, max=patience.retry_cap_s)

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, LabError) else None
        return max(jitter(state), asked_s or 0.0)

    unreachable = 0

    def is_enough(state: RetryCallState) -> bool:
        nonlocal unreachable
        error = state.outcome.exception() if state.outcome else None
        unreachable = unreachable + 1 if isinstance(error, Unreachable) else 0
        tried_enough = state.attempt_number >= patience.attempts or unreachable >= patience.unreachable_attempts
        return tried_enough or clock.monotonic() + state.upcoming_sleep > deadline

    retrying = AsyncRetrying(
        sleep=clock.sleep, stop=is_enough, wait=wait_s, retry=retry_if_exception(is_transient), reraise=True
    )
    try:
        return await retrying(attempt)
    except (Unavailable, BadPayload) as exc:
        tried = retrying.statistics.get("attempt_number", 1)
        if tried > 1:
            exc.message = f"{exc.message} ({tried} attempts)"
            exc.args = (exc.message,)
        raise
