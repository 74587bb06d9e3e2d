"""Ways round a seal: each is impossible, or it is on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.core.times import parse_time_ms
from engine.store import Store

MARKET = {"symbol": "BTCUSDT", "interval": "60"}
RANGE = {"start": "2024-01-01", "end": "2024-06-01"}
LATE = {"start": "2024-05-10", "end": "2024-05-20"}
BACKTEST = {"strategy": "ema_cross", **MARKET, **RANGE}
STUDY = "the sealed one"
CHOICE = {"reason": "the plateau is wide", "confirm": True}


async def study_of(lab: Any, name: str = STUDY) -> dict[str, Any]:
    return (await lab.call("list_trials", {"study": name}))["study"]


async def test_a_holdout_is_opened_once_and_a_second_time_is_refused_with_the_number_of_openings(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.seal()
        await lab.refused("open_holdout", {"run_id": run["run_id"], "reason": "no consent"}, "bad_request")
        assert (await study_of(lab))["openings"] == []
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        again = await lab.refused("open_holdout", {"run_id": run["run_id"], **CHOICE}, "conflict")
        other = await lab.call("run_backtest", BACKTEST | {"study": STUDY, "params": {"fast": 5}})
        another = await lab.refused("open_holdout", {"run_id": other["run_id"], **CHOICE}, "conflict")
        study = await study_of(lab)
    assert opened["openings"] == 1
    assert opened["from"] == "2024-05-01T00:00:00Z"
    assert opened["end"] == "2024-06-01T00:00:00Z"
    assert opened["holdout"]["days"] == 31
    assert opened["in_sample"]["trades"] == run["metrics"]["trades"]
    assert "1 opening(s)" in again["message"]
    assert opened["holdout_run_id"] in again["fix"]
    assert "1 opening(s)" in another["message"]
    assert [each["run_id"] for each in study["openings"]] == [run["run_id"]]
    assert study["sealed_from"] is None


async def test_an_opening_that_was_recorded_and_not_evaluated_is_evaluated_without_a_second_one(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.backtests import Backtests

    async def crash(*_: Any, **__: Any) -> Any:
        raise OSError("the machine went down")

    async with open_lab() as lab:
        run = await lab.seal()
        with monkeypatch.context() as patch:
            patch.setattr(Backtests, "evaluate_run", crash)
            failed, _, _ = await lab.ask("open_holdout", {"run_id": run["run_id"], **CHOICE})
            assert failed
        assert len((await study_of(lab))["openings"]) == 1
    async with open_lab() as lab:
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
    assert opened["openings"] == 1
    assert opened["holdout"]["days"] == 31


async def test_a_run_of_another_study_cannot_open_a_seal(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
        scratch = await lab.call("run_backtest", BACKTEST | {"params": {"fast": 7}})
        error = await lab.refused("open_holdout", {"run_id": scratch["run_id"], **CHOICE}, "conflict")
        assert STUDY in error["fix"]
        assert (await study_of(lab))["sealed_from"] == "2024-05-01T00:00:00Z"


@pytest.mark.parametrize("evaluations", [0, 2])
async def test_a_restored_old_database_regains_its_seal_and_remembers_its_trials(
    open_lab: Any, evaluations: int
) -> None:
    async with open_lab() as lab:
        await lab.call("run_backtest", BACKTEST)
    database = lab.home / "bst.sqlite"
    shutil.copy(database, lab.home / "old.sqlite")
    async with open_lab() as lab:
        await lab.seal()
        for fast in range(evaluations):
            await lab.call("run_backtest", BACKTEST | {"study": STUDY, "params": {"fast": 5 + fast}})
    shutil.move(lab.home / "old.sqlite", database)
    for leftover in ("bst.sqlite-wal", "bst.sqlite-shm"):
        (lab.home / leftover).unlink(missing_ok=True)
    async with open_lab() as lab:
        await lab.refused("get_candles", {**MARKET, **LATE})
        study = await study_of(lab)
        assert study["trials"] == 1 + evaluations
        assert study["rolled_back"]
        after = await lab.call("run_backtest", BACKTEST | {"study": STUDY, "params": {"fast": 11}})
        assert after["study"]["trials"] == 2 + evaluations
    async with open_lab() as lab:
        assert (await study_of(lab))["trials"] == 2 + evaluations


async def test_a_restored_old_database_cannot_forget_that_the_holdout_was_opened(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.seal()
    shutil.copy(lab.home / "bst.sqlite", lab.home / "old.sqlite")
    async with open_lab() as lab:
        await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
    shutil.move(lab.home / "old.sqlite", lab.home / "bst.sqlite")
    async with open_lab() as lab:
        study = await study_of(lab)
        assert len(study["openings"]) == 1
        assert study["rolled_back"]


async def test_a_new_database_in_the_same_folder_carries_the_old_seal(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
    other = f"sqlite:///{(lab.home / 'other.sqlite').as_posix()}"
    async with open_lab(database_url=other) as lab:
        await lab.refused("get_candles", {**MARKET, **LATE})
        assert (await study_of(lab))["rolled_back"]


async def test_a_witness_that_is_gone_is_on_record(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
    (lab.home / "ledger-witness.jsonl").unlink()
    async with open_lab() as lab:
        assert (await study_of(lab))["witness_lost"]
        await lab.refused("get_candles", {**MARKET, **LATE})
    async with open_lab() as lab:
        assert "rolled_back" not in await study_of(lab), "the new witness has learned what the database knows"


async def test_another_name_for_the_study_joins_the_seal_and_counts_the_markets_trials(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
        renamed = await lab.call("run_backtest", BACKTEST | {"study": "a new name", "params": {"fast": 9}})
        unsealed = await lab.call("run_backtest", BACKTEST | {"study": "unsealed", "sealed": False})
        assert renamed["study"]["sealed_from"] == "2024-05-01T00:00:00Z"
        assert renamed["withheld"] == unsealed["withheld"] is not None
        assert unsealed["data"]["end"] == "2024-05-01T00:00:00Z"
        assert (await study_of(lab, "a new name"))["market_trials"] == 2
        opened = await lab.call("open_holdout", {"run_id": renamed["run_id"], **CHOICE})
        assert sorted(opened["studies"]) == ["a new name", STUDY]
        assert len((await study_of(lab))["openings"]) == 1, (
            "an opening is recorded against every study that held the seal"
        )


async def test_a_study_that_asks_for_less_does_not_shave_the_visible_part(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
        visible = BACKTEST | {"study": "second", "end": "2024-05-01"}
        assert (await lab.call("run_backtest", visible))["study"]["sealed_from"] == "2024-05-01T00:00:00Z"
        longer = BACKTEST | {"study": "third", "start": "2023-01-01"}
        assert (await lab.call("run_backtest", longer))["study"]["sealed_from"] == "2024-02-18T00:00:00Z"
        assert (await study_of(lab))["sealed_from"] == "2024-02-18T00:00:00Z", "the earliest start holds for all"


async def test_sealed_is_read_when_a_study_is_created_and_never_again(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
        error = await lab.refused("run_backtest", BACKTEST | {"study": STUDY, "sealed": False}, "conflict")
        assert "created sealed" in error["message"]
        await lab.refused("run_backtest", BACKTEST | {"study": STUDY.upper(), "symbol": "ETHUSDT"}, "conflict")
        short = BACKTEST | {"study": "short", "symbol": "ETHUSDT", "start": "2024-04-01"}
        error = await lab.refused("run_backtest", short, "bad_request")
        assert '"sealed": false' in error["fix"]
        assert (await lab.call("run_backtest", short | {"sealed": False}))["study"]["sealed_from"] is None


@pytest.mark.parametrize(
    "market",
    [
        {"symbol": "btcusdt"},
        {"symbol": "BTCUSDT", "category": "spot"},
        {"symbol": "BTCUSD", "category": "inverse"},
        {"symbol": "BTCUSDT", "interval": "1"},
        {"symbol": "BTCUSDT", "interval": "D"},
    ],
)
async def test_another_spelling_category_or_interval_is_the_same_holdout(open_lab: Any, market: dict[str, str]) -> None:
    async with open_lab() as lab:
        await lab.seal()
        await lab.refused("get_candles", {"interval": "60", **market, **LATE})
        await lab.refused("run_backtest", {"strategy": "ema_cross", "interval": "60", **market, **LATE})


@pytest.mark.parametrize(("interval", "last"), [("W", "2024-04-22"), ("M", "2024-04-01"), ("D", "2024-04-30")])
async def test_a_longer_bar_that_reaches_into_the_holdout_is_withheld(open_lab: Any, interval: str, last: str) -> None:
    async with open_lab() as lab:
        await lab.seal()
        wanted = {"symbol": "BTCUSDT", "interval": interval, "start": "2024-01-01", "end": "2024-05-20"}
        table = await lab.call("get_candles", {**wanted, "limit": 1000})
    assert table["rows"][-1][0][:10] == last
    assert table["withheld"]["from"] == "2024-05-01T00:00:00Z"


async def test_what_was_evaluated_before_the_seal_is_listed_as_already_seen(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.call("run_backtest", BACKTEST)
        await lab.call("run_backtest", BACKTEST | {"category": "spot", "params": {"fast": 8}})
        await lab.seal()
        seen = (await study_of(lab))["already_seen"]
        assert [(each["study"], each["trials"]) for each in seen] == [
            ("scratch:simulated:linear:BTCUSDT", 1),
            ("scratch:simulated:spot:BTCUSDT", 1),
        ]
        assert {each["until"] for each in seen} == {"2024-06-01T00:00:00Z"}
        await lab.refused("get_run", {"run_id": run["run_id"]})
        listed = await lab.call("list_runs", {})
        assert (listed["total"], listed["withheld"]) == (1, 2)
        hidden = await lab.call("list_trials", {"study": "scratch:simulated:linear:BTCUSDT"})
        assert (hidden["items"], hidden["total"], hidden["withheld"]) == ([], 1, 1)


def write_candles(path: Path, closes: Any, start: str = "2024-05-01", step_ms: int = 3_600_000) -> str:
    first = parse_time_ms(start)
    rows = [
        f"{first + row * step_ms},{close},{close * 1.01},{close * 0.99},{close},5" for row, close in enumerate(closes)
    ]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]), encoding="utf-8")
    return str(path)


async def test_an_import_over_the_holdout_stays_withheld_and_is_on_record(open_lab: Any, tmp_path: Path) -> None:
    path = write_candles(tmp_path / "rosy.csv", np.linspace(777_000, 777_900, 24 * 20))
    async with open_lab() as lab:
        await lab.seal()
        told = await lab.call("import_candles", {"path": path, **MARKET})
        assert told["withheld"]["from"] == "2024-05-01T00:00:00Z"
        assert told["revised"] is None
        await lab.refused("get_candles", {**MARKET, **LATE})
        run = await lab.call("run_backtest", BACKTEST | {"study": STUDY})
        assert "imported" not in run["data"]["source"]
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        assert any("imported" in warning for warning in opened["warnings"])
        assert any("imported" in each["kind"] for each in (await study_of(lab))["remarks"])


@pytest.mark.parametrize("interval", ["60", "240"])
@pytest.mark.parametrize("factor", [1.0, 0.01])
async def test_sealed_bars_under_a_foreign_name_are_refused(
    open_lab: Any, tmp_path: Path, factor: float, interval: str
) -> None:
    async with open_lab() as lab:
        before = await lab.call("get_candles", {**MARKET, "start": "2024-05-01", "end": "2024-05-25", "limit": 1000})
        closes = np.array([row[4] for row in before["rows"]])
        every = int(interval) // 60
        path = write_candles(tmp_path / "copy.csv", closes[every - 1 :: every] * factor, step_ms=every * 3_600_000)
        await lab.seal()
        foreign = {"path": path, "symbol": "MYUSDT", "interval": interval}
        await lab.refused("import_candles", foreign)
        walk = np.cumprod(1 + np.random.default_rng(3).normal(0, 0.01, len(closes[::every])))
        write_candles(tmp_path / "copy.csv", 100 * walk, step_ms=every * 3_600_000)
        assert (await lab.call("import_candles", foreign))["bars"] == len(walk)


async def test_a_copy_made_before_the_seal_is_sealed_with_its_original(open_lab: Any, tmp_path: Path) -> None:
    async with open_lab() as lab:
        before = await lab.call("get_candles", {**MARKET, "start": "2024-04-20", "end": "2024-05-25", "limit": 1000})
        path = write_candles(tmp_path / "copy.csv", [row[4] for row in before["rows"]], start="2024-04-20")
        await lab.call("import_candles", {"path": path, "symbol": "MYUSDT", "interval": "60"})
        await lab.seal()
        await lab.refused("get_candles", {"symbol": "MYUSDT", "interval": "60", **LATE})


async def test_clearing_and_fetching_again_shows_no_sealed_bar(open_lab: Any) -> None:
    async with open_lab() as lab:
        await lab.seal()
        await lab.call("clear_cache", {"what": "candles", "symbol": "BTCUSDT", "confirm": True})
        await lab.refused("get_candles", {**MARKET, **LATE})
        job = await lab.call("start_backfill", {**MARKET, **RANGE})
        while (await lab.call("wait_for_job", {"job_id": job["job_id"]}))["state"] != "done":
            pass
        await lab.refused("get_candles", {**MARKET, **LATE})
        table = await lab.call("get_candles", {**MARKET, "start": "2024-04-30", "end": "2024-05-20", "limit": 1000})
    assert table["rows"][-1][0] == "2024-04-30T23:00:00Z"


async def test_a_seal_set_by_one_process_is_seen_by_the_next_read_of_another(open_lab: Any) -> None:
    async with open_lab() as one, open_lab() as other:
        assert (await other.call("get_candles", {**MARKET, **LATE, "limit": 3}))["rows"]
        await one.seal()
        await other.refused("get_candles", {**MARKET, **LATE})
        await other.refused("get_market_snapshot", {"symbol": "BTCUSDT"})


async def test_a_run_at_the_edge_of_the_seal_comes_out_the_same_after_the_opening(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.call("run_backtest", BACKTEST | {"study": STUDY, "settings": {"leverage": 2}})
        assert (await lab.call("reproduce_run", {"run_id": run["run_id"]}))["identical"]
        await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        again = await lab.call("reproduce_run", {"run_id": run["run_id"]})
    assert again["identical"], again
    assert again["data_unchanged"]


async def test_a_run_stored_by_an_older_version_is_withheld_as_well(open_lab: Any, tmp_path: Path) -> None:
    async with open_lab() as lab:
        old = await lab.call("run_backtest", BACKTEST)
        store = await Store.open(f"sqlite:///{(lab.home / 'bst.sqlite').as_posix()}")
        record = await store.run(old["run_id"])
        await store.close()
        assert record.end_ms == parse_time_ms("2024-06-01")
        assert json.loads(record.manifest)["data"]["end_ms"] == record.end_ms
