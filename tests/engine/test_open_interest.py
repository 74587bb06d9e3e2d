"""Open interest as a word of the strategy language: fetched once, known only after its time, the same everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.times import parse_range_ms
from engine.errors import BadRequest
from engine.run_inputs import OLDEST_INTEREST_MS
from engine.searches.searches import SearchOrder
from server.assembly import close_lab, open_lab
from server.mcp_app import serve_lab
from server.settings import Settings
from tools.lab import Lab

MARKET = ("BTCUSDT", "linear")
RANGE = ("2024-01-01", "2024-02-01")
HOUR_MS = 3_600_000
STRATEGY = {
    "name": "interest",
    "params": {"days": {"default": 1, "min": 1, "max": 5, "integer": True}},
    "long_entry": "open_interest > sma(open_interest, days * 24)",
    "long_exit": "open_interest < sma(open_interest, days * 24)",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    given = Settings(home=tmp_path, feed="simulated", _env_file=None)
    opened = await open_lab(given, serve_lab(given))
    try:
        yield opened
    finally:
        await close_lab(opened)


@pytest.mark.parametrize("interval", ["15", "60", "240"])
async def test_a_bar_knows_the_last_sample_before_its_close(lab: Lab, interval):
    start_ms, end_ms = parse_range_ms(*RANGE)
    found = await lab.backtests.evaluate("open_interest", {}, *MARKET, interval, *RANGE, 180)
    samples = await lab.feed.open_interest("linear", "BTCUSDT", "1h", start_ms - OLDEST_INTEREST_MS, end_ms, 2_000)
    by_time = {sample.at_ms: sample.value for sample in samples}
    step_ms = int(interval) * 60_000
    last_ms = [end_ms - back * step_ms for back in range(180 - 1, -1, -1)]
    wanted = [by_time[(close_ms - 1) // HOUR_MS * HOUR_MS] for close_ms in last_ms]
    assert [value for _, value in found["rows"]] == pytest.approx(wanted, rel=1e-6)
    assert len(set(wanted)) > 30


async def test_a_strategy_on_open_interest_runs_is_searched_and_does_not_look_ahead(lab: Lab):
    between = parse_range_ms(*RANGE)
    order = SearchOrder(
        strategy=STRATEGY, symbol="BTCUSDT", category="linear", interval="60", range_ms=between, settings=RunSettings(),
        objective="sharpe", min_trades=1, constraints=(), study=None, sealed=None,
    )  # fmt: skip
    job = (await lab.searches.start("grid", order, {"grid": {"days": [1, 2, 3]}})).job
    assert (await lab.jobs.wait(job.id, 240)).state == "done"
    best = dict(await lab.jobs.result(job.id))["items"][0]
    run = await lab.backtests.run(
        strategy=STRATEGY, params=best["params"], symbol="BTCUSDT", category="linear", interval="60",
        start_ms=between[0], end_ms=between[1], settings=RunSettings(),
    )  # fmt: skip
    assert run["metrics"]["trades"] == best["metrics"]["trades"] > 3
    assert run["metrics"]["sharpe"] == pytest.approx(best["metrics"]["sharpe"], rel=1e-5)
    assert (await lab.backtests.reproduce(run["run_id"]))["identical"]
    assert (await lab.backtests.prove_causality(run["run_id"], 3)).causal


async def test_samples_are_fetched_once_and_an_old_one_is_no_knowledge(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    inputs, series = lab.backtests._inputs, Series("simulated", "linear", "BTCUSDT", "trade", "60")
    candles = (await lab.history.load(series, *parse_range_ms("2024-01-01", "2024-01-03"))).candles
    asked: list[int] = []
    answer = inputs._feed.open_interest

    async def holed(*arguments):
        asked.append(arguments[3])
        day_ms = parse_range_ms("2024-01-02", "2024-01-03")[0]
        return [sample for sample in await answer(*arguments) if sample.at_ms < day_ms]

    monkeypatch.setattr(inputs._feed, "open_interest", holed, raising=False)
    first = (await inputs.extras(series, candles, {"open_interest"}))["open_interest"]
    again = (await inputs.extras(series, candles, {"open_interest"}))["open_interest"]
    assert len(asked) == 1
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.isnan(first[:26]).any()
    assert np.isnan(first[28:]).all()


async def test_spot_has_no_open_interest(lab: Lab):
    with pytest.raises(BadRequest, match="spot has no open_interest"):
        await lab.backtests.evaluate("open_interest", {}, "BTCUSDT", "spot", "60", *RANGE, 5)
