import asyncio
import signal

import pytest

from server.interruption import run_until_stopped


def test_work_that_is_not_stopped_returns_what_it_came_to_and_the_handler_from_before_is_back():
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    before = signal.getsignal(signal.SIGTERM)
    assert run_until_stopped(work()) == 7
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_termination_inside_a_callback_of_the_loop_loses_no_answer_and_lets_the_work_clean_up():
    told: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def hand_over() -> None:
            signal.raise_signal(signal.SIGTERM)
            answer.set_result("the answer")

        loop.call_soon(hand_over)
        try:
            await asyncio.Event().wait()
        finally:
            told.append(await answer)

    with pytest.raises(KeyboardInterrupt):
        run_until_stopped(work())
    assert told == ["the answer"]


def test_further_terminations_do_not_cut_the_cleaning_up_short():
    told: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            told.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run_until_stopped(work())
    assert told == ["cleaned up"]


def test_a_cancellation_of_another_origin_is_passed_on_as_it_is():
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_stopped(work())
