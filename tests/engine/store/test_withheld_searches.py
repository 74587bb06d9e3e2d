"""What a search found stays back once a seal lies on bars it saw."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from engine.core.timeframes import DAY_MS

SPECIFICATION = importlib.util.spec_from_file_location("trial_writer", Path(__file__).with_name("trial_writer.py"))
trial_writer = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(trial_writer)

JOB = "job_1"


async def seal(store, name, from_ms, symbols=("BTCUSDT",)):
    await store.create_study(
        name, feed="bybit", category="linear", symbols=list(symbols), range_ms=(0, 100 * DAY_MS), seal_from_ms=from_ms,
        at_ms=9,
    )  # fmt: skip


@pytest.fixture
async def searched(store):
    """Return a store in which a search of two batches on 60 days of BTCUSDT is recorded."""
    study = await trial_writer.make_study(store)
    for number in range(2):
        batch = trial_writer.batch_of(number * 5, number * 5 + 5)
        await store.record_trials(study.id, trial_writer.WHERE, batch, origin=JOB, at_ms=5, job_id=JOB, batch_no=number)
    return store


async def test_nothing_is_withheld_without_a_seal_nor_of_a_job_that_searched_nothing(searched):
    assert await searched.withheld_of_job(JOB) is None
    await seal(searched, "sealed", 10 * DAY_MS)
    assert await searched.withheld_of_job("job_2") is None


@pytest.mark.parametrize(
    ("from_ms", "is_withheld"),
    [
        pytest.param(30 * DAY_MS, True, id="in the middle"),
        pytest.param(trial_writer.WHERE.end_ms - 1, True, id="on the last bar"),
        pytest.param(trial_writer.WHERE.end_ms, False, id="from the end on"),
    ],
)
async def test_a_search_that_saw_a_sealed_bar_is_withheld(searched, from_ms, is_withheld):
    await seal(searched, "sealed", from_ms)
    withheld = await searched.withheld_of_job(JOB)
    assert (withheld is not None) == is_withheld
    if withheld is not None:
        assert (withheld.from_ms, withheld.study) == (from_ms, "sealed")


async def test_a_seal_on_another_coin_withholds_nothing(searched):
    await seal(searched, "other", 10 * DAY_MS, symbols=("ETHUSDT",))
    assert await searched.withheld_of_job(JOB) is None


async def test_one_batch_on_later_bars_is_enough(searched):
    study = await trial_writer.make_study(searched)
    later = replace(trial_writer.WHERE, end_ms=70 * DAY_MS)
    await searched.record_trials(
        study.id, later, trial_writer.batch_of(10, 12), origin=JOB, at_ms=6, job_id=JOB, batch_no=2
    )
    await seal(searched, "sealed", 65 * DAY_MS)
    withheld = await searched.withheld_of_job(JOB)
    assert withheld is not None
    assert withheld.from_ms == 65 * DAY_MS


async def test_an_opened_seal_gives_the_search_back(searched):
    await seal(searched, "sealed", 30 * DAY_MS)
    await searched.open_seal("bybit", "linear", "BTCUSDT", run_id="run_000000000001", reason="a test", at_ms=10)
    assert await searched.withheld_of_job(JOB) is None
