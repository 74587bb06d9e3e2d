import asyncio
import importlib.util
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.core.evaluations import EvaluationBatch, EvaluationSlice
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.timeframes import DAY_MS
from engine.errors import BadRequest, NotFound
from engine.store.store import Store

SCRIPT = Path(__file__).with_name("trial_writer.py")
SPECIFICATION = importlib.util.spec_from_file_location("trial_writer", SCRIPT)
trial_writer = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(trial_writer)

batch_of, WHERE, MARKS = trial_writer.batch_of, trial_writer.WHERE, trial_writer.MARKS


@pytest.fixture
async def study(store):
    return await trial_writer.make_study(store)


async def test_a_batch_is_recorded_once_and_read_back_as_it_was(store, study):
    batch = batch_of(0, 50)
    first = await store.record_trials(study.id, WHERE, batch, origin="job_1", at_ms=5)
    again = await store.record_trials(study.id, WHERE, batch, origin="job_2", at_ms=6)
    assert (first.recorded, first.repeated) == (50, 0)
    assert (again.recorded, again.repeated) == (0, 50)
    assert await store.trial_count(study.id) == 50
    matrix = await store.trial_matrix(study.id)
    np.testing.assert_array_equal(matrix.returns, batch.daily_returns)
    np.testing.assert_array_equal(matrix.marks_ms, batch.marks_ms)
    assert matrix.fingerprints == tuple(batch.fingerprints)
    expected = batch.daily_returns.astype(float)
    np.testing.assert_allclose(matrix.daily_sharpe, expected.mean(axis=1) / expected.std(axis=1, ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(matrix.trades, batch.metrics["trades"])
    assert matrix.left_out == 0


async def test_a_batch_that_repeats_some_trials_records_the_others(store, study):
    await store.record_trials(study.id, WHERE, batch_of(0, 10), origin="a", at_ms=5)
    mixed = await store.record_trials(study.id, WHERE, batch_of(5, 20), origin="b", at_ms=5)
    assert (mixed.recorded, mixed.repeated) == (10, 5)
    matrix = await store.trial_matrix(study.id)
    np.testing.assert_array_equal(matrix.returns, batch_of(0, 20).daily_returns)
    assert (await store.verify_chain(study.id)).length == 20


async def test_the_same_strategy_renamed_or_with_reordered_parameters_is_the_same_trial(store, study):
    rules = {"long_entry": "close > sma(close, slow) and rsi(close, fast) > 50"}
    params = {name: {"default": value, "min": 2, "max": 60} for name, value in (("fast", 5), ("slow", 20))}
    one = compile_strategy(parse_strategy({"name": "one", **rules, "params": params}), {"fast": 7, "slow": 30})
    turned = dict(reversed(params.items()))
    other = compile_strategy(parse_strategy({"params": turned, **rules, "name": "other"}), {"slow": 30.0, "fast": 7.0})
    for compiled in (one, other):
        batch = batch_of(0, 1)
        batch = EvaluationBatch(
            compiled.name, [compiled.fingerprint()], [dict(compiled.params)], batch.metrics, MARKS, batch.daily_returns
        )
        await store.record_trials(study.id, WHERE, batch, origin="x", at_ms=5)
    assert await store.trial_count(study.id) == 1


async def test_other_bars_other_costs_and_other_studies_are_other_trials(store, study):
    another = await store.create_study(
        "second",
        feed="bybit",
        category="linear",
        symbols=["BTCUSDT"],
        range_ms=(0, 100 * DAY_MS),
        seal_from_ms=None,
        at_ms=2,
    )
    costly = EvaluationSlice(*(getattr(WHERE, name) for name in WHERE.__slots__[:-1]), "c" * 64)
    for study_id, where in ((study.id, WHERE), (study.id, costly), (another.id, WHERE)):
        assert (await store.record_trials(study_id, where, batch_of(0, 3), origin="x", at_ms=5)).recorded == 3
    assert await store.trial_count(study.id) == 6
    assert await store.market_trial_count(another.id) == 6, "the same trial in two studies is one of the market's"


async def test_trials_on_other_days_and_ruined_ones_are_left_out_of_the_matrix_and_told(store, study):
    await store.record_trials(study.id, WHERE, batch_of(0, 4), origin="x", at_ms=5)
    later = batch_of(4, 6)
    later = EvaluationBatch("s", later.fingerprints, later.points, later.metrics, MARKS + DAY_MS, later.daily_returns)
    await store.record_trials(study.id, WHERE, later, origin="x", at_ms=5)
    ruined = batch_of(6, 7)
    returns = np.full_like(ruined.daily_returns, np.nan)
    ruined = EvaluationBatch("s", ruined.fingerprints, ruined.points, ruined.metrics, MARKS, returns)
    await store.record_trials(study.id, WHERE, ruined, origin="x", at_ms=5)
    whole = await store.trial_matrix(study.id, like=MARKS)
    assert (len(whole), whole.left_out) == (4, 3)
    common = await store.trial_matrix(study.id, like=MARKS[1:])
    assert (len(common), common.left_out) == (6, 1)
    np.testing.assert_array_equal(common.returns[:4], batch_of(0, 4).daily_returns[:, 1:])
    newest = await store.trial_matrix(study.id, like=MARKS, limit=2)
    assert (newest.numbers.tolist(), newest.left_out) == ([3, 4], 5)


async def test_trials_are_listed_newest_or_best_first(store, study):
    await store.record_trials(study.id, WHERE, batch_of(0, 9), origin="run_1", at_ms=5)
    newest = await store.list_trials(study.id, limit=2)
    best = await store.list_trials(study.id, sort="sharpe", limit=3, offset=1)
    assert [each.number for each in newest.items] == [9, 8]
    assert newest.total == 9
    ranked = sorted(batch_of(0, 9).metrics["daily_sharpe"], reverse=True)
    assert [each.daily_sharpe for each in best.items] == ranked[1:4]
    with pytest.raises(BadRequest, match="luck"):
        await store.list_trials(study.id, sort="luck")
    with pytest.raises(NotFound, match="nowhere"):
        await store.study("nowhere")


async def test_a_batch_of_the_wrong_shape_is_refused(store, study):
    good = batch_of(0, 3)
    bad = EvaluationBatch("s", good.fingerprints, good.points, {}, MARKS, good.daily_returns[:, :-1])
    with pytest.raises(BadRequest, match="daily_sharpe"):
        await store.record_trials(study.id, WHERE, bad, origin="x", at_ms=5)


async def test_a_search_finds_its_batches_again_and_a_repeated_one_changes_nothing(store, study):
    for number in (0, 1, 1):
        batch = batch_of(number * 5, number * 5 + 5)
        await store.record_trials(study.id, WHERE, batch, origin="job_1", at_ms=5, job_id="job_1", batch_no=number)
    found = await store.search_batches("job_1")
    assert [number for number, _ in found] == [0, 1]
    np.testing.assert_array_equal(found[1][1]["param:fast"], np.arange(5, 10.0))
    np.testing.assert_array_equal(found[1][1]["metric:daily_sharpe"], batch_of(5, 10).metrics["daily_sharpe"])
    assert await store.trial_count(study.id) == 10


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE trials SET daily_sharpe = 9 WHERE number = 12",
        "UPDATE trials SET params = '{}' WHERE number = 12",
        "DELETE FROM trials WHERE number = 12",
        "DELETE FROM trials WHERE number > 12",
        "UPDATE trial_returns SET strategy = 'another' WHERE id = 2",
        "UPDATE trial_returns SET data = x'00' WHERE id = 2",
        "UPDATE studies SET trials = 11, head = (SELECT hash FROM trials WHERE number = 11)",
    ],
)
async def test_a_changed_or_removed_trial_breaks_the_chain(database_url, store, study, tampering):
    for at in range(3):
        await store.record_trials(study.id, WHERE, batch_of(at * 8, at * 8 + 8), origin="x", at_ms=5)
    intact = await store.verify_chain(study.id)
    assert (intact.intact, intact.length, intact.broken_at) == (True, 24, None)
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute(tampering)
    raw.close()
    broken = await store.verify_chain(study.id)
    assert not broken.intact
    assert broken.broken_at is not None


async def test_deleting_a_run_leaves_its_trials(database_url, store, study):
    await store.record_trials(study.id, WHERE, batch_of(0, 1), origin="run_000000000001", at_ms=5)
    await store.link_run("run_000000000001", study.id, at_ms=5)
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as raw:
        raw.execute("DELETE FROM runs")
    raw.close()
    assert await store.trial_count(study.id) == 1


@pytest.fixture
def start_writer():
    """Return a way to start recording processes; those that still live at the end of a test are killed."""
    writers = []

    def start(url, first, last):
        command = [sys.executable, str(SCRIPT), url, str(first), str(last)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8"))
        return writers[-1]

    yield start
    for writer in writers:
        writer.kill()
        writer.communicate()


async def test_two_processes_that_record_at_once_lose_nothing(database_url, store, study, start_writer):
    writers = [start_writer(database_url, 0, 15), start_writer(database_url, 10, 25)]
    for writer in writers:
        assert await asyncio.to_thread(writer.wait) == 0
    assert await store.trial_count(study.id) == 25 * trial_writer.EACH
    state = await store.verify_chain(study.id)
    assert (state.intact, state.length) == (True, 25 * trial_writer.EACH)


async def test_killing_a_recorder_at_any_moment_leaves_whole_batches_and_going_on_counts_nothing_twice(
    database_url, store, study, start_writer
):
    for acknowledged in (1, 4, 6):
        writer = start_writer(database_url, 0, 12)
        for _ in range(acknowledged):
            assert writer.stdout.readline()
        writer.kill()
        writer.wait()
        assert await store.trial_count(study.id) % trial_writer.EACH == 0
    assert await asyncio.to_thread(start_writer(database_url, 0, 12).wait) == 0
    assert await store.trial_count(study.id) == 12 * trial_writer.EACH
    state = await store.verify_chain(study.id)
    assert state.intact
    reopened = await Store.open(database_url)
    assert [number for number, _ in await reopened.search_batches("job_1")] == list(range(12))
    await reopened.close()
