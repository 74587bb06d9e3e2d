"""Searches as jobs: the figures of single runs, counted as trials, resumed to the same table."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.times import parse_range_ms
from engine.errors import BadRequest, Conflict, TooLarge
from engine.searches import batches, proposals

GRID = {"fast": [5, 10, 20], "slow": {"from": 30, "to": 120, "step": 30}}


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_every_point_has_the_figures_of_a_backtest_at_that_point(opened, order, finished, category):
    async with opened() as lab:
        placed = order(category=category, settings=RunSettings(leverage=1 if category == "spot" else 3))
        started = await lab.searches.start("grid", placed, {"grid": GRID})
        assert started.total == 12
        result = await finished(lab, started.job.id)
        for item in (result["items"][0], result["items"][7]):
            run = await lab.backtests.run(
                strategy="ema_cross",
                params=item["params"],
                symbol="BTCUSDT",
                category=category,
                interval="60",
                start_ms=placed.range_ms[0],
                end_ms=placed.range_ms[1],
                settings=placed.settings,
            )
            for name, value in item["metrics"].items():
                assert value == (
                    None if run["metrics"][name] is None else pytest.approx(run["metrics"][name], rel=1e-5)
                )
        assert run["study"]["trials"] == 12, "a run of a point that was searched is no new trial"
        assert result["data"]["sha256"] == run["data"]["sha256"]


async def test_metrics_a_sweep_does_not_measure_are_those_of_a_backtest_at_that_point(opened, order, finished):
    weights = {"omega": 1, "ulcer": -1, "sqn": 1, "beta": -1, "payoff": 1, "value_at_risk": 1}
    async with opened() as lab:
        placed = order(category="linear", objective=weights, settings=RunSettings(leverage=2))
        result = await finished(lab, (await lab.searches.start("grid", placed, {"grid": GRID})).job.id)
        for item in (result["items"][0], result["items"][5]):
            run = await lab.backtests.run(
                strategy="ema_cross",
                params=item["params"],
                symbol="BTCUSDT",
                category="linear",
                interval="60",
                start_ms=placed.range_ms[0],
                end_ms=placed.range_ms[1],
                settings=placed.settings,
            )
            for name in weights:
                assert item["metrics"][name] == pytest.approx(run["metrics"][name], rel=1e-5)
        assert result["summary"]["eligible"] > 0


async def test_what_was_not_modelled_cannot_be_searched_for_and_says_why(opened, order):
    async with opened() as lab:
        placed = order(category="spot", objective="funding_paid")
        started = await lab.searches.start("grid", placed, {"grid": {"fast": [5, 10]}})
        job = await lab.jobs.wait(started.job.id, 240)
        assert job.state == "failed"
        assert "spot has no funding" in str(job.error)


async def test_the_best_points_are_stored_as_runs(opened, order, finished):
    async with opened() as lab:
        started = await lab.searches.start("grid", order(), {"grid": GRID})
        result = await finished(lab, started.job.id)
        for item in result["items"][:3]:
            card = await lab.backtests.card(item["run_id"], 0)
            assert {name: card["strategy"]["params"][name] for name in item["params"]} == item["params"]
            assert card["metrics"]["sharpe"] == pytest.approx(item["score"], rel=1e-5)
        assert "run_id" not in result["items"][3]
        scores = [item["score"] for item in result["items"]]
        assert scores == sorted(scores, reverse=True)


async def test_the_same_request_is_the_same_job_and_counts_once(opened, order, finished):
    async with opened() as lab:
        one = await lab.searches.start("grid", order(), {"grid": GRID})
        await finished(lab, one.job.id)
        other = await lab.searches.start("grid", order(), {"grid": GRID})
        assert other.job.id == one.job.id
        assert await lab.searches.trial_count(one.study.id) == 12
        wider = await lab.searches.start("grid", order(), {"grid": {**GRID, "fast": [5, 10, 20, 25]}})
        result = await finished(lab, wider.job.id)
        assert wider.job.id != one.job.id
        assert result["total"] == 16
        assert await lab.searches.trial_count(one.study.id) == 16, "twelve of them were known"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
async def test_a_search_that_was_interrupted_ends_with_the_table_of_one_that_was_not(
    opened, order, finished, whole_table, monkeypatch, sampler
):
    monkeypatch.setattr(proposals, "GRID_BATCH", 16)
    search = {
        "space": {"fast": {"from": 5, "to": 60}, "slow": {"from": 20, "to": 200}},
        "trials": 96, "seed": 3, "sampler": sampler,
    }  # fmt: skip
    placed = order(constraints=("fast * 2 < slow",))
    async with opened("whole") as lab:
        job = (await lab.searches.start("bayesian", placed, search)).job
        await finished(lab, job.id)
        whole = await whole_table(lab, job.id)
    with monkeypatch.context() as patched:
        stall_after(patched, 2)
        async with opened("cut") as lab:
            job = (await lab.searches.start("bayesian", placed, search)).job
            await committed(lab, job.id, 2)
    async with opened("cut") as lab:
        result = await finished(lab, job.id)
        assert await whole_table(lab, job.id) == whole
        assert await lab.searches.trial_count(result["study_id"]) == len(whole) == 96
        assert (await lab.jobs.view(job.id)).attempts >= 2
    assert all(item["params"]["fast"] * 2 < item["params"]["slow"] for item in whole)
    assert len({tuple(item["params"].values()) for item in whole}) == 96


def stall_after(patched: pytest.MonkeyPatch, count: int) -> None:
    """Let searches wait for ever once so many batches were evaluated."""
    evaluated = batches.BatchRunner._evaluated

    async def stalled(self, *arguments):
        if self.next_number == count:
            self.context.progress = {**self.context.progress, "message": "stalled"}
            await asyncio.Event().wait()
        return await evaluated(self, *arguments)

    patched.setattr(batches.BatchRunner, "_evaluated", stalled)


async def committed(lab, job_id: str, count: int) -> None:
    """Return when so many batches are in the store."""
    async with asyncio.timeout(240):
        while len(await lab.store.search_batches(job_id)) < count:
            job = await lab.jobs.wait(job_id, 0.02)
            assert not job.is_over, job.error


async def test_a_resumed_search_refuses_candles_that_have_changed(opened, order, monkeypatch):
    monkeypatch.setattr(proposals, "GRID_BATCH", 16)
    search = {
        "space": {"fast": {"from": 5, "to": 60}, "slow": {"from": 70, "to": 200}},
        "trials": 200,
        "sampler": "random",
    }
    stall_after(monkeypatch, 2)
    async with opened() as lab:
        job = (await lab.searches.start("bayesian", order(), search)).job
        await committed(lab, job.id, 1)
        await lab.jobs.close()
        series = Series("simulated", "spot", "BTCUSDT", "trade", "60")
        start_ms, end_ms = order().range_ms
        candles = await lab.store.read_candles(series, start_ms, end_ms)
        part = candles.take(slice(300, 900))
        changed = type(part)(part.ts, *(column * 1.5 for column in part.columns()[1:]))
        await lab.store.commit_page(
            series, changed, start_ms=int(part.ts[0]), end_ms=int(part.ts[-1]) + 3_600_000, source="imported",
            at_ms=lab.clock.now_ms(),
        )  # fmt: skip
    async with opened() as lab:
        view = await lab.jobs.wait(job.id, 240)
        assert view.state == "failed"
        assert "changed" in view.error["message"]


async def test_cancelling_stops_the_search_and_keeps_what_was_committed(opened, order, monkeypatch):
    stall_after(monkeypatch, 2)
    grid = {"fast": {"from": 5, "to": 60, "step": 1}, "slow": {"from": 60, "to": 240, "step": 1}}
    async with opened() as lab:
        job = (await lab.searches.start("grid", order(category="linear"), {"grid": grid})).job
        await committed(lab, job.id, 1)
        view = await lab.jobs.cancel(job.id)
        assert view.state == "cancelled"
        assert view.progress["best"]["trades"] >= 3
        kept = len(await lab.store.search_batches(job.id))
        assert kept >= 1
        study = (await lab.store.list_studies()).items[0]
        assert study.trials == kept * proposals.GRID_BATCH


async def test_searches_run_one_after_the_other_beside_other_jobs(opened, order, finished, monkeypatch):
    running: list[str] = []
    most = 0
    evaluate = batches.BatchRunner.run

    async def watched(self, *arguments):
        nonlocal most
        running.append(self.context.job_id)
        most = max(most, len(running))
        try:
            return await evaluate(self, *arguments)
        finally:
            running.remove(self.context.job_id)

    monkeypatch.setattr(batches.BatchRunner, "run", watched)
    async with opened() as lab:
        jobs = [
            (await lab.searches.start("grid", order(), {"grid": {"fast": [fast], "slow": [50, 60]}})).job
            for fast in (5, 10, 20)
        ]
        for job in jobs:
            await finished(lab, job.id)
    assert most == 1


async def test_a_named_study_keeps_its_holdout_from_a_search(opened, order, finished):
    async with opened() as lab:
        placed = order(study="momentum", range_ms=parse_range_ms("2023-01-01", "2024-01-01"))
        started = await lab.searches.start("grid", placed, {"grid": GRID})
        result = await finished(lab, started.job.id)
        study = await lab.store.study("momentum")
        assert study.sealed_from_ms is not None
        assert parse_range_ms(result["data"]["start"], result["data"]["end"])[1] <= study.sealed_from_ms
        assert study.trials == 12


@pytest.mark.parametrize(
    ("changes", "search", "named"),
    [
        ({}, {"grid": {"fst": [5]}}, "fast"),
        ({"objective": "luck"}, {"grid": GRID}, "sharpe"),
        ({"constraints": ("fast > slow",)}, {"grid": GRID}, "constraint"),
        (
            {},
            {"grid": {"fast": {"from": 5, "to": 60, "step": 1}, "slow": {"from": 20, "to": 240, "step": 1}}},
            "12,376",
        ),
    ],
)
async def test_a_search_that_cannot_be_is_refused_before_there_is_a_job(opened, order, changes, search, named):
    async with opened(search_max_points=10_000) as lab:
        with pytest.raises((BadRequest, TooLarge, Conflict)) as refusal:
            await lab.searches.start("grid", order(**changes), search)
        assert named in refusal.value.message + refusal.value.fix
        assert (await lab.jobs.list()).total == 0


async def test_a_space_is_never_asked_for_more_points_than_it_has(opened, order, finished):
    async with opened() as lab:
        search = {"space": {"fast": [5, 10, 20], "slow": [50, 60]}, "trials": 5_000}
        started = await lab.searches.start("bayesian", order(), search)
        assert started.total == 6
        assert (await finished(lab, started.job.id))["total"] == 6


async def test_competing_objectives_give_a_front_that_nobody_beats(opened, order, finished):
    async with opened() as lab:
        placed = order(objective=["total_return", "max_drawdown"])
        result = await finished(lab, (await lab.searches.start("grid", placed, {"grid": GRID})).job.id)
        front = [item["metrics"] for item in result["items"] if item["on_front"]]
        assert len(front) == result["summary"]["front"] >= 1
        for item in result["items"]:
            for best in front:
                at_least = item["metrics"]["total_return"] >= best["total_return"]
                at_most = item["metrics"]["max_drawdown"] <= best["max_drawdown"]
                assert not (at_least and at_most) or item["metrics"] == best


async def test_no_skill_is_measured_with_the_trials_of_the_study(opened, order, finished):
    async with opened() as lab:
        result = await finished(lab, (await lab.searches.start("grid", order(), {"grid": GRID})).job.id)
        luck = result["luck"]
        matrix = await lab.store.trial_matrix(result["study_id"])
        variance = 365 * np.nanvar(matrix.daily_sharpe, ddof=1)
        assert luck["trials"] == 12
        assert 1 <= luck["effective_trials"] <= 12
        assert luck["sharpe_variance"] == pytest.approx(variance)
        assert 0 < luck["expected_max_sharpe"] <= np.sqrt(variance) * 1.7
