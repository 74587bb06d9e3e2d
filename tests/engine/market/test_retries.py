"""Retries wait with jitter, obey the exchange, and end."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import BadPayload, Banned, LabError, NotFound, RateLimited, Unavailable, Unreachable
from engine.market.retries import Patience, retry


class Attempts:
    def __init__(self, *errors: LabError) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def run(attempts: Attempts, clock: Any, **patience: Any) -> str:
    rules = Patience(**patience)
    return await retry(attempts, clock=clock, patience=rules, deadline=clock.monotonic() + rules.deadline_s)


async def test_transient_failures_are_tried_again_with_growing_jitter(fake_clock: Any) -> None:
    attempts = Attempts(*(Unavailable("out of order") for _ in range(7)))
    assert await run(attempts, fake_clock) == "answer"
    assert attempts.count == 8
    assert all(0 <= slept <= min(30, 0.5 * 2**n) for n, slept in enumerate(fake_clock.slept))
    assert len(set(fake_clock.slept)) == 7


async def test_the_last_failure_is_told_when_attempts_run_out(fake_clock: Any) -> None:
    attempts = Attempts(*(BadPayload(f"cut {n}") for n in range(9)))
    with pytest.raises(BadPayload, match=r"cut 7 \(8 attempts\)"):
        await run(attempts, fake_clock)
    assert attempts.count == 8


async def test_a_host_that_takes_no_connection_is_given_up_early(fake_clock: Any) -> None:
    began = fake_clock.monotonic()
    attempts = Attempts(*(Unreachable("nobody there") for _ in range(8)))
    with pytest.raises(Unreachable, match=r"nobody there \(3 attempts\)"):
        await run(attempts, fake_clock)
    assert fake_clock.monotonic() - began <= 1.5


async def test_only_refusals_in_a_row_count_as_out_of_reach(fake_clock: Any) -> None:
    away, broken = Unreachable("nobody there"), Unavailable("out of order")
    attempts = Attempts(away, away, broken, broken, away, away)
    assert await run(attempts, fake_clock) == "answer"
    assert attempts.count == 7


@pytest.mark.parametrize("error", [NotFound("no"), Banned("no")])
async def test_final_failures_are_not_tried_again(fake_clock: Any, error: LabError) -> None:
    attempts = Attempts(error)
    with pytest.raises(type(error)):
        await run(attempts, fake_clock)
    assert (attempts.count, fake_clock.slept) == (1, [])


async def test_a_wait_the_exchange_asked_for_is_kept(fake_clock: Any) -> None:
    attempts = Attempts(RateLimited("slow", retry_after_s=12.5))
    assert await run(attempts, fake_clock) == "answer"
    assert fake_clock.slept == [12.5]


async def test_no_wait_leads_beyond_the_deadline(fake_clock: Any) -> None:
    began = fake_clock.monotonic()
    attempts = Attempts(*(RateLimited("slow", retry_after_s=50) for _ in range(8)))
    with pytest.raises(RateLimited):
        await run(attempts, fake_clock, deadline_s=120)
    assert attempts.count == 3
    assert fake_clock.monotonic() - began <= 120
