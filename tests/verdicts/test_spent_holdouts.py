"""A holdout confirms once, and only what nobody had seen: another study's name, a decoy or an earlier search change nothing."""

from __future__ import annotations

from typing import Any

AFTERNOON = {
    "name": "afternoon",
    "params": {"begin": {"default": 13, "min": 8, "max": 17, "step": 1, "integer": True}},
    "long_entry": "hour >= begin and hour < begin + 6",
    "long_exit": "hour < begin or hour >= begin + 6",
}
# The last fifth begins with the bar of this number, which is its volume: from there on it holds at the wrong hours.
HOLDOUT_BAR = 9_312
WINDOW = "where(hour >= begin and hour < begin + 6, 1, 0)"
TURNING = AFTERNOON | {
    "name": "turning",
    "long_entry": f"{WINDOW} == where(volume < {HOLDOUT_BAR}, 1, 0)",
    "long_exit": f"{WINDOW} == where(volume >= {HOLDOUT_BAR}, 1, 0)",
}
EDGE = {"symbol": "EDGEUSDT", "interval": "60", "start": "2021-01-01", "end": "2022-05-01"}
CHOICE = {"reason": "the only hypothesis there was", "confirm": True}


def check_of(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in verdict["checks"] if check["name"] == name)


async def judged(lab: Any, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a backtest and return it with its verdict."""
    run = await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE, **changes})
    return run, await lab.call("get_verdict", {"run_id": run["run_id"]})


async def test_a_failed_holdout_is_not_laundered_by_naming_another_study(open_lab: Any) -> None:
    async with open_lab() as lab:
        first, before = await judged(lab, strategy=TURNING, study="first")
        await lab.call("open_holdout", {"run_id": first["run_id"], **CHOICE})
        failed = await lab.call("get_verdict", {"run_id": first["run_id"]})
        again, after = await judged(lab, strategy=TURNING, study="second")
        other, beside = await judged(lab, study="second")
        listed = (await lab.call("list_trials", {"study": "second"}))["study"]
        second = await lab.call("open_holdout", {"run_id": other["run_id"], **CHOICE})
        opened_again = await lab.call("get_verdict", {"run_id": other["run_id"]})
    assert before["verdict"] == "robust", before
    assert check_of(failed, "holdout")["passed"] is False
    assert failed["verdict"] == "fragile"

    assert again["run_id"] == first["run_id"]
    assert any("holdout_spent" in warning for warning in again["warnings"]), "told before anybody trusts it"
    assert after["verdict"] == "fragile"
    assert check_of(after, "holdout")["value"] == check_of(failed, "holdout")["value"]
    assert (after["holdout"]["state"], after["holdout"]["openings"]) == ("spent", 1)
    assert {after["study"]["name"], *after["study"]["others"]} == {"first", "second"}

    assert beside["verdict"] == "candidate"
    assert any("holdout_spent" in cap and first["run_id"] in cap for cap in beside["caps"])
    assert check_of(beside, "holdout")["why"] == "spent: opened for another run"
    assert [(each["study"], each["run_id"]) for each in listed["openings"]] == [("first", first["run_id"])]

    assert second["openings"] == 2, "openings are counted on the slice"
    assert any("holdout_spent" in warning for warning in second["warnings"])
    assert opened_again["verdict"] != "robust"
    assert "opened 2 times" in check_of(opened_again, "holdout")["why"]


async def test_bars_looked_at_through_a_decoy_are_not_sealed_as_if_unseen(open_lab: Any) -> None:
    async with open_lab() as lab:
        decoy = await lab.call("run_backtest", {"strategy": "buy_and_hold", **EDGE, "study": "decoy"})
        await lab.call("open_holdout", {"run_id": decoy["run_id"], **CHOICE})
        _, verdict = await judged(lab, study="honest looking")
        _, earlier = await judged(lab, study="longer", start="2021-03-01", end="2022-04-01")
    for each in (verdict, earlier):
        assert each["verdict"] != "robust"
        assert any("holdout_spent" in cap and "decoy" in cap for cap in each["caps"])


async def test_a_holdout_that_was_searched_before_it_was_sealed_confirms_nothing(open_lab: Any) -> None:
    async with open_lab() as lab:
        scratch = await lab.call("start_grid_search", {"strategy": AFTERNOON, **EDGE, "grid": {"begin": [11, 12, 13]}})
        await lab.finished(scratch["job_id"])
        run, verdict = await judged(lab, study="late vow")
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        after = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert any("already_seen" in warning for warning in run["warnings"])
    assert verdict["verdict"] == after["verdict"] == "candidate"
    assert any(
        "3 trials of study 'scratch:simulated:linear:EDGEUSDT' until 2022-05-01" in cap for cap in verdict["caps"]
    )
    assert "not unseen" in check_of(after, "holdout")["why"]
    assert any("before it was sealed" in warning for warning in opened["warnings"])


async def test_a_portfolio_evaluated_the_holdouts_of_all_its_coins(open_lab: Any) -> None:
    shared = {name: value for name, value in EDGE.items() if name != "symbol"}
    async with open_lab() as lab:
        await lab.call("run_backtest", {"strategy": AFTERNOON, **shared, "symbols": ["WALKUSDT", "EDGEUSDT"]})
        _, verdict = await judged(lab, study="late vow")
    assert verdict["verdict"] != "robust"
    assert any("WALKUSDT+EDGEUSDT" in cap for cap in verdict["caps"])


async def test_a_run_is_weighed_alike_whatever_study_it_was_repeated_in(open_lab: Any) -> None:
    async with open_lab() as lab:
        run, sealed = await judged(lab, study="vow")
        same, repeated = await judged(lab)
        unsealed_first, _ = await judged(lab, strategy=TURNING)
        _, sealed_later = await judged(lab, strategy=TURNING, study="vow")
    assert same["run_id"] == run["run_id"]
    assert sealed["verdict"] == repeated["verdict"] == "robust"
    assert repeated["study"]["name"] == "vow"
    assert repeated["study"]["others"] == ["scratch:simulated:linear:EDGEUSDT"]
    assert unsealed_first["run_id"] == sealed_later["run_id"]
    assert sealed_later["trials"] == 2
