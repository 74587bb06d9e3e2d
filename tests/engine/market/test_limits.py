"""The limiter never asks faster than allowed, never during a ban, and shares with other processes."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import BadRequest, Banned
from engine.market.limits import HARD_CAP_PER_S, RateRules, RequestLimiter

HOST = "exchange.test"


def most_in_window(times: list[float], window_s: float) -> int:
    return max((bisect_right(times, at + window_s) - bisect_left(times, at) for at in times), default=0)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rate=st.floats(0.5, HARD_CAP_PER_S),
    burst=st.integers(1, HARD_CAP_PER_S),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=300),
)
async def test_no_second_and_no_five_seconds_see_more_requests_than_allowed(
    fake_clock: Any, rate: float, burst: int, pauses: list[float]
) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=rate, burst=burst))
    granted: list[float] = []
    for pause in pauses:
        if pause > 2.9:
            await fake_clock.sleep(pause)
        granted.append(await limiter.acquire())
    assert granted == sorted(granted)
    assert most_in_window(granted, 1.0) <= min(HARD_CAP_PER_S, burst + rate + 1)
    assert most_in_window(granted, 5.0) <= min(5 * HARD_CAP_PER_S, burst + 5 * rate + 1)


async def test_a_steady_caller_gets_the_configured_rate(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=20, burst=10))
    granted = [await limiter.acquire() for _ in range(210)]
    assert granted[-1] - granted[0] == pytest.approx(10.0, abs=0.2)


async def test_the_hard_cap_holds_when_rate_and_burst_are_at_their_most(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=60, burst=60))
    granted = [await limiter.acquire() for _ in range(700)]
    assert most_in_window(granted, 1.0) == 60
    assert most_in_window(granted, 5.0) <= 300


async def test_waiting_callers_are_served_in_the_order_of_arrival(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=5, burst=1))
    order: list[int] = []

    async def call(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_cancelled_waiter_does_not_block_the_others(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=1, burst=1))
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, float) for result in results[1:])


async def test_a_lifted_limiter_never_sleeps(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=0))
    for _ in range(1000):
        await limiter.acquire()
    assert fake_clock.slept == []


async def test_slowing_down_halves_the_rate_to_the_floor_and_success_brings_it_back(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=20))
    rates = []
    for _ in range(6):
        granted = await limiter.acquire()
        limiter.slow_down(granted, 0.5)
        rates.append(limiter.rate_per_s)
    assert rates == [10, 5, 2.5, 1.25, 1, 1]
    for _ in range(40):
        await fake_clock.sleep(10)
        limiter.succeeded()
    assert limiter.rate_per_s == 20


async def test_answers_to_requests_under_way_halve_the_rate_once(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=20))
    under_way = [await limiter.acquire() for _ in range(8)]
    await fake_clock.sleep(0.1)
    for granted in under_way:
        limiter.slow_down(granted, 1)
    assert limiter.rate_per_s == 10


@pytest.mark.parametrize(("asked_s", "least", "most"), [(7.5, 7.5, 7.6), (None, 1.0, 2.1), (-3, 0, 0.1), (999, 60, 61)])
async def test_nobody_asks_before_the_pause_is_over(
    fake_clock: Any, asked_s: float | None, least: float, most: float
) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=20))
    granted = await limiter.acquire()
    limiter.slow_down(granted, asked_s)
    assert least <= await limiter.acquire() - granted <= most


async def test_a_ban_stops_every_request_until_it_is_over(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(ban_s=600))
    await limiter.ban()
    refused = 0
    while fake_clock.seconds < 1000 + 599:
        with pytest.raises(Banned) as caught:
            await limiter.acquire()
        assert caught.value.retry_after_s == pytest.approx(1600 - fake_clock.seconds)
        refused += 1
        await fake_clock.sleep(7)
    assert refused == 86
    assert await limiter.acquire() >= 1600


async def test_a_ban_reaches_those_who_already_wait(fake_clock: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, rules=RateRules(rate_per_s=1, burst=1))
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    await limiter.ban()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, Banned) for result in results)


async def test_a_ban_survives_a_restart_and_a_jump_of_the_wall_clock(fake_clock: Any, limit_memory: Any) -> None:
    first = RequestLimiter(HOST, clock=fake_clock, memory=limit_memory)
    await first.ban()
    restarted = RequestLimiter(HOST, clock=fake_clock, memory=limit_memory)
    with pytest.raises(Banned):
        await restarted.acquire()
    other_host = RequestLimiter("elsewhere.test", clock=fake_clock, memory=limit_memory)
    await other_host.acquire()
    fake_clock.wall_offset_ms += 3_600_000
    with pytest.raises(Banned):
        await first.acquire()


async def test_a_ban_of_another_process_is_seen_within_a_second(fake_clock: Any, limit_memory: Any) -> None:
    ours, theirs = (RequestLimiter(HOST, clock=fake_clock, memory=limit_memory) for _ in range(2))
    await ours.acquire()
    await theirs.ban()
    await fake_clock.sleep(1)
    with pytest.raises(Banned):
        await ours.acquire()


async def test_the_memory_is_consulted_at_most_once_a_second(fake_clock: Any, limit_memory: Any) -> None:
    limiter = RequestLimiter(HOST, clock=fake_clock, memory=limit_memory, rules=RateRules(rate_per_s=20))
    granted = [await limiter.acquire() for _ in range(100)]
    assert limit_memory.consultations <= granted[-1] - granted[0] + 2


async def test_two_owners_share_the_rate_and_a_lone_one_gets_it_back(fake_clock: Any, limit_memory: Any) -> None:
    limiters = [
        RequestLimiter(HOST, clock=fake_clock, memory=limit_memory, rules=RateRules(rate_per_s=20, burst=2))
        for _ in range(2)
    ]
    granted: list[float] = []

    async def work(limiter: RequestLimiter) -> None:
        for _ in range(100):
            at = await limiter.acquire()
            granted.append(at)

    await asyncio.gather(*(work(limiter) for limiter in limiters))
    # The first of the two learns of the second one second late at most.
    assert most_in_window(sorted(granted), 5.0) <= 100 + 20 + 4
    assert limiters[0].rate_per_s == limiters[1].rate_per_s == 10
    await fake_clock.sleep(11)
    await limiters[0].acquire()
    assert limiters[0].rate_per_s == 20


@pytest.mark.parametrize("rules", [{"rate_per_s": 61}, {"rate_per_s": -1}, {"burst": 0}, {"ban_s": 0}])
def test_rules_beyond_the_hard_cap_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(BadRequest, match="cannot be kept"):
        RateRules(**rules)  # type: ignore[arg-type]
