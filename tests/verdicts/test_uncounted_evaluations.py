"""Searches on noise that leave no trial of the market: a copy under another name, and expressions that are backtests."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

# A walk on which the luckiest of these hours of the week looks like skill, as it does on one walk of ten.
SEED = 2
DAYS, HOURS = range(7), [hour for hour in range(24) if hour % 3 != 2]
LUCKIEST = (2, 7)
RANGE = {"start": "2021-01-01", "end": "2022-12-31"}
ORIGINAL = {"symbol": "WALKUSDT", "interval": "60", **RANGE}
COPY = {**ORIGINAL, "symbol": "MYCOPYUSDT"}
SEARCHED = {
    "name": "hour_of_the_week",
    "params": {
        "day": {"default": 0, "min": 0, "max": 6, "step": 1, "integer": True},
        "begin": {"default": 0, "min": 0, "max": 23, "step": 1, "integer": True},
    },
    "long_entry": "hour == begin and weekday == day",
    "long_exit": "bars_since(hour == begin and weekday == day) >= 47",
}
SEARCH = {"strategy": SEARCHED, "grid": {"day": list(DAYS), "begin": HOURS}}


def written_out(day: int, begin: int) -> dict[str, Any]:
    """Return one point of the search as a strategy of its own, as if it were the only one ever thought of."""
    when = f"hour == {begin} and weekday == {day}"
    return {"name": "the_only_idea", "long_entry": when, "long_exit": f"bars_since({when}) >= 47"}


def profit_of(day: int, begin: int) -> str:
    """Return the expression that is the whole backtest of one point."""
    return f"sum(where(bars_since(hour == {begin} and weekday == {day})[1] < 48, log(close / close[1]), 0), 5000)"


def write_copy(original: Path, path: Path, last_row: int | None = None) -> str:
    """Write the same candles at 3.3 times the prices."""
    header, *rows = original.read_text(encoding="utf-8").splitlines()
    scaled = [header]
    for row in rows[:last_row]:
        time, *prices, volume = row.split(",")
        scaled.append(",".join([time, *(repr(float(price) * 3.3) for price in prices), volume]))
    path.write_text("\n".join(scaled), encoding="utf-8")
    return str(path)


@pytest.fixture
def original(tmp_path: Path, market_writer: Any) -> str:
    """Return the path of the walk."""
    path = tmp_path / "walk.csv"
    market_writer(path, SEED, 0.0)
    return str(path)


async def bring(lab: Any, path: str, symbol: str) -> None:
    await lab.call("import_candles", {"path": path, "symbol": symbol, "interval": "60"})


async def judged(lab: Any, market: dict[str, str], study: str) -> tuple[str, dict[str, Any]]:
    """Run the luckiest point once in a sealed study and return the run with its verdict."""
    run = await lab.call("run_backtest", {"strategy": written_out(*LUCKIEST), **market, "study": study})
    return run["run_id"], await lab.call("get_verdict", {"run_id": run["run_id"]})


async def test_a_search_on_a_copy_imported_first_counts_for_the_original_even_when_the_copy_is_gone(
    open_empty_lab: Any, tmp_path: Path, original: str
) -> None:
    async with open_empty_lab() as lab:
        await bring(lab, write_copy(Path(original), tmp_path / "copy.csv"), "MYCOPYUSDT")
        job = await lab.call("start_grid_search", {**SEARCH, **COPY})
        points = (await lab.finished(job["job_id"]))["items"]
        assert points[0]["metrics"]["sharpe"] > 0.8, "what others would call a find"
        await lab.call("clear_cache", {"what": "candles", "symbol": "MYCOPYUSDT", "confirm": True})
        await bring(lab, original, "WALKUSDT")
        _, verdict = await judged(lab, ORIGINAL, "one honest idea")
        study = (await lab.call("list_trials", {"study": "one honest idea"}))["study"]
    assert verdict["verdict"] in ("fragile", "rejected")
    assert verdict["trials_elsewhere"] == 112
    assert verdict["compared_trials"] == 113, "their daily returns are laid beside the run's"
    assert verdict["effective_trials"] > 10
    assert any("MYCOPY" in note for note in verdict["notes"])
    assert study["market_trials"] == 113
    seen = [(each["study"], each["trials"]) for each in study["already_seen"]]
    assert seen == [("scratch:simulated:linear:MYCOPYUSDT", 112)], "they saw the bars that the study keeps back"


async def test_a_search_on_a_copy_imported_later_counts_as_well_and_so_does_the_original_for_the_copy(
    open_empty_lab: Any, tmp_path: Path, original: str
) -> None:
    async with open_empty_lab() as lab:
        await bring(lab, original, "WALKUSDT")
        run_id, alone = await judged(lab, ORIGINAL, "one honest idea")
        assert alone["verdict"] == "robust", "without the search nobody can know that it is luck"
        assert (alone["trials_elsewhere"], alone["probes"]) == (0, 0)
        sealed_row = (await lab.call("get_run", {"run_id": run_id}))["data"]["bars"]
        await bring(lab, write_copy(Path(original), tmp_path / "copy.csv", sealed_row), "MYCOPYUSDT")
        visible = {**COPY, "end": "2022-08-01"}
        job = await lab.call("start_grid_search", {**SEARCH, **visible})
        best = (await lab.finished(job["job_id"]))["items"][0]
        probe = {"expression": profit_of(0, 0), **visible, "limit": 1}
        assert (await lab.call("evaluate_expression", probe))["counted"]
        after = await lab.call("get_verdict", {"run_id": run_id})
        beside = await lab.call("get_verdict", {"run_id": best["run_id"]})
    assert after["verdict"] in ("fragile", "rejected")
    assert (after["trials_elsewhere"], after["probes"]) == (112, 1)
    assert (beside["trials_elsewhere"], beside["probes"]) == (1, 1)


async def test_expressions_that_are_backtests_count_as_trials_of_the_market(
    open_empty_lab: Any, tmp_path: Path, original: str
) -> None:
    asked = [{"expression": profit_of(*point), **ORIGINAL, "limit": 1} for point in itertools.product(DAYS, HOURS)]
    async with open_empty_lab() as lab:
        await bring(lab, original, "WALKUSDT")
        for request in asked:
            assert (await lab.call("evaluate_expression", request))["counted"]
        again = {**asked[0], "expression": profit_of(0, 0).replace(", ", ","), "start": "2021-06-01"}
        await lab.call("evaluate_expression", again)
        await lab.call("evaluate_expression", {**asked[0], "expression": "hour == 7 and weekday == 2"})
        for harmless in ("close", "ema(close, 20)", "rsi(close, 14)[1]"):
            assert not (await lab.call("evaluate_expression", {**asked[0], "expression": harmless}))["counted"]
        run_id, verdict = await judged(lab, ORIGINAL, "one honest idea")
        study = (await lab.call("list_trials", {"study": "one honest idea"}))["study"]
    assert [(each["study"], each["trials"]) for each in study["already_seen"]] == [("probes", 113)]
    database, kept = tmp_path / "empty" / "bst.sqlite", tmp_path / "kept.sqlite"
    checks = {check["name"]: check for check in verdict["checks"]}
    assert verdict["verdict"] in ("fragile", "rejected")
    assert verdict["probes"] == 112, "the same in other words, and a rule of the run itself, are no further trials"
    assert (verdict["trials"], verdict["effective_trials"]) == (1, 113)
    assert verdict["ledger_intact"]
    assert checks["no_skill"]["passed"] is False
    assert "112 probes" in checks["no_skill"]["why"]
    assert "112 of them probes" in checks["deflated_sharpe"]["why"]
    assert any("112 expressions" in note for note in verdict["notes"])

    # Rows taken out of the database are known to the witness.
    shutil.move(database, kept)
    database.unlink(missing_ok=True)
    async with open_empty_lab() as lab:
        await bring(lab, original, "WALKUSDT")
        _, regained = await judged(lab, ORIGINAL, "one honest idea")
    assert regained["probes"] == 112
    assert run_id == regained["run_id"]


async def test_analyses_that_tell_what_followed_count_as_well(
    open_empty_lab: Any, tmp_path: Path, original: str
) -> None:
    review = {"strategy": written_out(*LUCKIEST)}
    async with open_empty_lab() as lab:
        await bring(lab, original, "WALKUSDT")
        await lab.call("code_review_strategy", {**review, "agent": "none"})
        _, own = await judged(lab, ORIGINAL, "one honest idea")
        await lab.call("code_review_strategy", {"strategy": written_out(3, 3), "agent": "none"})
        await lab.call("technical_indicator_research", {"indicator": "rsi(close, 21)", "agent": "none"})
        _, others = await judged(lab, ORIGINAL, "one honest idea")
    assert own["probes"] == 0, "counting how often the rules of the run itself hold is no further trial"
    assert others["probes"] == 2
