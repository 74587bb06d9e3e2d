"""Walk-forwards as jobs: disjoint windows, real refits, and a curve that can be worked out by hand."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from engine.core.metrics import daily_marks
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.times import parse_range_ms
from engine.errors import BadRequest
from engine.searches import batches, proposals

SEARCH = {"grid": {"fast": [5, 10, 20], "slow": [30, 60, 100]}}
WINDOWS = {"mode": "rolling", "windows": 4, "in_sample_ratio": 0.6, "purge_bars": None, "embargo_bars": 0}
DAY = 86_400_000


def bounds(item, part):
    return parse_range_ms(item[part]["start"], item[part]["end"])


@pytest.mark.parametrize("mode", ["rolling", "anchored"])
async def test_windows_are_disjoint_and_every_test_follows_its_fit(opened, order, finished, mode):
    async with opened() as lab:
        placed = order(range_ms=parse_range_ms("2024-01-01", "2024-07-01"))
        started = await lab.searches.start_walk_forward(placed, SEARCH, WINDOWS | {"mode": mode})
        result = await finished(lab, started.job.id)
    items = result["items"]
    assert len(items) == 4
    tests = [bounds(item, "out_of_sample") for item in items]
    fits = [bounds(item, "in_sample") for item in items]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(tests)), "adjoining and disjoint"
    purge_ms = result["split"]["purge_bars"] * 3_600_000
    told = {name: result["summary"][name] for name in ("mode", "purge_bars", "embargo_bars", "in_sample_ratio")}
    assert told == {name: result["split"][name] for name in told}
    assert purge_ms > 0
    assert all(fit[1] + purge_ms == test[0] for fit, test in zip(fits, tests, strict=True))
    if mode == "anchored":
        assert {fit[0] for fit in fits} == {placed.range_ms[0]}
    else:
        assert len({fit[1] - fit[0] for fit in fits}) == 1
    assert len({tuple(item["params"].values()) for item in items}) > 1, "refits differ"


async def test_the_joined_curve_and_every_choice_are_those_of_single_runs(opened, order, finished):
    async with opened() as lab:
        placed = order(
            category="linear",
            range_ms=parse_range_ms("2024-01-01", "2024-07-01"),
            settings=RunSettings(capital=5_000, leverage=2),
        )
        started = await lab.searches.start_walk_forward(placed, SEARCH, WINDOWS)
        result = await finished(lab, started.job.id)
        candles = await lab.store.read_candles(
            Series("simulated", "linear", "BTCUSDT", "trade", "60"), *placed.range_ms
        )
        curves, stamps, growth = [], [], 1.0
        for item in result["items"]:
            best = await best_in_sample(lab, placed, bounds(item, "in_sample"))
            assert best == item["params"], "the refit chose what single runs on its own bars choose"
            equity = await equity_from(lab, placed, item["params"], bounds(item, "out_of_sample"))
            curves.append(equity * growth)
            stamps.append(candles.between(*bounds(item, "out_of_sample")).ts)
            growth = curves[-1][-1] / 5_000
        _, marks = daily_marks(np.concatenate(stamps), np.concatenate(curves), "60")
    # The runs by hand start at the bar of their first trade; before it the account is flat in both.
    assert np.allclose(result["equity"]["value"], marks, rtol=1e-9)
    out = result["summary"]["out_of_sample"]
    assert out["total_return"] == pytest.approx(growth - 1, rel=1e-5)
    returns = np.diff(np.concatenate(([5_000], marks))) / np.concatenate(([5_000], marks[:-1]))
    assert out["sharpe"] == pytest.approx(np.sqrt(365) * returns.mean() / returns.std(ddof=1), rel=1e-5)
    assert out["sharpe_low"] < out["sharpe"] < out["sharpe_high"]


async def run_of(lab, placed, params, range_ms):
    return await lab.backtests.run(
        strategy="ema_cross", params=params, symbol="BTCUSDT", category=placed.category, interval="60",
        start_ms=range_ms[0], end_ms=range_ms[1], settings=placed.settings,
    )  # fmt: skip


async def best_in_sample(lab, placed, range_ms):
    """Return the point of the grid with the highest Sharpe ratio of at least three trades, by single runs."""
    found = []
    for fast in SEARCH["grid"]["fast"]:
        for slow in SEARCH["grid"]["slow"]:
            metrics = (await run_of(lab, placed, {"fast": fast, "slow": slow}, range_ms))["metrics"]
            if metrics["trades"] >= 3:
                found.append((metrics["sharpe"], {"fast": fast, "slow": slow}))
    return max(found, key=lambda pair: pair[0])[1]


async def equity_from(lab, placed, params, range_ms):
    """Return the equity of a test window by hand: a run with its history before, trades before the window taken out."""
    from engine.core.signals import compute_signals
    from engine.core.simulator import simulate
    from engine.core.strategy import compile_strategy
    from engine.jobs import JobContext

    target = await lab.searches._target(placed)
    market = await lab.searches._parts.markets.load(
        target.series, placed.range_ms, placed.settings, target.strategy, JobContext("by hand")
    )
    compiled = compile_strategy(target.strategy, params)
    signals = compute_signals(compiled, market.candles, "60")
    start, end = np.searchsorted(market.candles.ts, range_ms)
    for name in ("long_entry", "long_exit", "short_entry", "short_exit"):
        getattr(signals, name)[:start] = False
    whole = simulate(
        market.candles.take(slice(0, end)), cut(signals, int(end)), market.execution(compiled), held(market, end)
    )
    assert (whole.equity[:start] == placed.settings.capital).all()
    return whole.equity[start:]


def cut(signals, end):
    """Return signals without the bars after a window; nothing in them is moved."""
    from dataclasses import replace

    names = (
        "long_entry",
        "long_exit",
        "short_entry",
        "short_exit",
        "stop_distance",
        "target_distance",
        "trail_distance",
    )
    kept = {name: getattr(signals, name) for name in names}
    return replace(signals, **{name: None if column is None else column[:end] for name, column in kept.items()})


def held(market, end):
    """Return funding, marks and minutes up to a bar, with what is paid exactly at its close."""
    from engine.core.market_detail import part_of

    return part_of(market.inputs.detail, 0, int(end))


async def test_every_refit_counts_as_trials_and_an_interrupted_walk_forward_goes_on(
    opened, order, finished, monkeypatch
):
    placed = order(range_ms=parse_range_ms("2024-01-01", "2024-07-01"))
    async with opened("whole") as lab:
        whole = await finished(lab, (await lab.searches.start_walk_forward(placed, SEARCH, WINDOWS)).job.id)
        assert await lab.searches.trial_count(whole["study_id"]) == 4 * 9
    monkeypatch.setattr(proposals, "GRID_BATCH", 4)
    evaluated = batches.BatchRunner._evaluated
    stop, stalled = True, asyncio.Event()

    async def stopping(self, *arguments):
        if stop and self.next_number == 6:
            stalled.set()
            await asyncio.Event().wait()
        return await evaluated(self, *arguments)

    monkeypatch.setattr(batches.BatchRunner, "_evaluated", stopping)
    async with opened("cut") as lab:
        first = (await lab.searches.start_walk_forward(placed, SEARCH, WINDOWS)).job
        async with asyncio.timeout(240):
            await stalled.wait()
    stop = False
    async with opened("cut") as lab:
        assert 0 < len(await lab.store.search_batches(first.id)) < 12
        again = await finished(lab, first.id)
        assert await lab.searches.trial_count(again["study_id"]) == 4 * 9
    for name in ("items", "equity", "split"):
        assert again[name] == whole[name]
    assert again["summary"] == whole["summary"]


async def test_a_window_without_an_eligible_point_stays_flat_and_says_so(opened, order, finished):
    async with opened() as lab:
        placed = order(range_ms=parse_range_ms("2024-01-01", "2024-04-01"), min_trades=10_000)
        result = await finished(lab, (await lab.searches.start_walk_forward(placed, SEARCH, WINDOWS)).job.id)
    assert result["summary"]["flat_windows"] == 4
    assert all(item["params"] is None for item in result["items"])
    assert set(result["equity"]["value"]) == {10_000.0}
    assert result["summary"]["efficiency"]["value"] is None
    assert result["summary"]["out_of_sample"]["sharpe"] is None


async def test_learned_refits_have_seeds_of_their_own(opened, order, finished):
    async with opened() as lab:
        placed = order(range_ms=parse_range_ms("2024-01-01", "2024-04-01"))
        search = {"space": {"fast": {"from": 5, "to": 40}, "slow": {"from": 50, "to": 200}}, "trials": 40, "seed": 1}
        started = await lab.searches.start_walk_forward(placed, search, WINDOWS | {"windows": 2})
        result = await finished(lab, started.job.id)
        stored = await lab.store.search_batches(started.job.id)
    assert started.total == 80
    assert result["luck"]["trials"] == 80
    first, third = stored[0][1], stored[2][1]
    assert not np.array_equal(first["param:fast"], third["param:fast"])


@pytest.mark.parametrize(
    ("search", "split", "message"),
    [
        ({"space": {"fast": {"from": 5, "to": 20}}, "trials": 0}, {}, "trials of the search is 0"),
        ({"space": {"fast": {"from": 5, "to": 20}}, "trials": "many"}, {}, "trials of the search is 'many'"),
        ({"space": {"fast": {"from": 5, "to": 20}}, "seed": -1}, {}, "seed of the search is -1"),
        (SEARCH, {"purge_bars": 100_000}, "less purge 100000 and embargo 0, 0 in-sample bars"),
    ],
)
async def test_what_cannot_be_run_is_refused_before_there_is_a_job_with_its_own_reason(
    opened, order, search, split, message
):
    async with opened() as lab:
        with pytest.raises(BadRequest, match=message):
            await lab.searches.start_walk_forward(order(), search, WINDOWS | split)
        assert (await lab.jobs.list()).total == 0


async def test_a_walk_forward_needs_one_objective_and_a_size_that_can_be_run(opened, order):
    async with opened(search_max_points=20) as lab:
        with pytest.raises(BadRequest, match="one objective"):
            await lab.searches.start_walk_forward(order(objective=["sharpe", "calmar"]), SEARCH, WINDOWS)
        with pytest.raises(BadRequest, match="36 evaluations"):
            await lab.searches.start_walk_forward(order(), SEARCH, WINDOWS)
