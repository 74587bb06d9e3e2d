"""The verdict through a real client: every figure against another way to it, and every way it can be held down."""

from __future__ import annotations

import itertools
import math
import sqlite3
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from engine.core.times import parse_time_ms
from engine.store import Store
from engine.verdicts import effort

AFTERNOON = {
    "name": "afternoon",
    "params": {"begin": {"default": 13, "min": 8, "max": 17, "step": 1, "integer": True}},
    "long_entry": "hour >= begin and hour < begin + 6",
    "long_exit": "hour < begin or hour >= begin + 6",
}
EDGE = {"symbol": "EDGEUSDT", "interval": "60", "start": "2021-01-01", "end": "2022-05-01"}
SHORT = {**EDGE, "end": "2021-07-01"}
NOISE = {**EDGE, "symbol": "WALKUSDT"}
CHOICE = {"reason": "the only hypothesis there was", "confirm": True}
UNKNOWN = "run_000000000000"


def checks_of(verdict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in verdict["checks"]}


async def daily_returns(lab: Any, run_id: str) -> np.ndarray[Any, Any]:
    """Return the run's daily returns from what get_run shows."""
    run = await lab.call("get_run", {"run_id": run_id, "equity_points": 500})
    assert len(run["equity"]["rows"]) == run["equity"]["days"]
    marks = np.array([run["metrics"]["initial_capital"], *(row[1] for row in run["equity"]["rows"])])
    return marks[1:] / marks[:-1] - 1


def sharpe(returns: np.ndarray[Any, Any]) -> float:
    return math.sqrt(365) * returns.mean() / returns.std(ddof=1)


def moments(returns: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Return Sharpe ratio per day, skew and raw kurtosis."""
    away = returns - returns.mean()
    spread = returns.std()
    return returns.mean() / returns.std(ddof=1), (away**3).mean() / spread**3, (away**4).mean() / spread**4


def error_of(ratio: float, skew: float, kurtosis: float, days: int) -> float:
    """Return the standard error of a Sharpe ratio (Mertens 2002)."""
    return math.sqrt((1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / (days - 1))


async def test_every_figure_of_a_single_scratch_run_comes_out_another_way(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE})
        verdict = await lab.call("get_verdict", {"run_id": run["run_id"], "include": ["regimes", "cpcv"]})
        trades = await lab.call("get_trades", {"run_id": run["run_id"], "limit": 500})
        returns = await daily_returns(lab, run["run_id"])
        dear = {"taker_fee_percent": 0.11, "maker_fee_percent": 0.04, "slippage_percent": 0.02}
        costly = await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE, "settings": dear})
        late = await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE, "params": {"begin": 14}})
        around = [
            (await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE, "params": {"begin": begin}}))["metrics"]
            for begin in (12, 14)
        ]
    checks = checks_of(verdict)
    assert verdict["verdict"] == "candidate"
    assert "seals no holdout" in verdict["caps"][0]
    assert verdict["study"]["name"].startswith("scratch:")
    assert (verdict["trials"], verdict["compared_trials"], verdict["effective_trials"]) == (1, 1, 1.0)
    assert verdict["expected_max_sharpe"] == 0.0

    pnl = np.array([trade["pnl"] for trade in trades["items"]])
    assert len(pnl) == trades["total"]
    assert checks["in_sample"]["value"] == pytest.approx(pnl.sum(), rel=1e-5)
    assert checks["enough_evidence"]["value"] == len(pnl)
    assert f"{int((pnl < 0).sum())} lost" in checks["enough_evidence"]["why"]
    assert checks["one_trade"]["value"] == pytest.approx(pnl.max() / pnl.sum(), rel=1e-5)
    assert verdict["sharpe"] == pytest.approx(sharpe(returns), rel=1e-5)

    ratio, skew, kurtosis = moments(returns)
    error = error_of(ratio, skew, kurtosis, len(returns))
    assert checks["deflated_sharpe"]["value"] == pytest.approx(NormalDist().cdf(ratio / error), abs=1e-5)
    needed = 1 + (error * math.sqrt(len(returns) - 1)) ** 2 * (NormalDist().inv_cdf(0.95) / ratio) ** 2
    assert f"needs {needed:.0f} days" in checks["enough_evidence"]["why"]

    assert checks["costs"]["value"] == pytest.approx(costly["metrics"]["net_profit"], rel=1e-5)
    # An hour later is what the rule of an hour later does.
    assert checks["lag"]["value"] == pytest.approx(late["metrics"]["net_profit"], rel=1e-3)
    assert checks["plateau"]["value"] == pytest.approx(
        np.median([metrics["sharpe"] for metrics in around]) / sharpe(returns), rel=1e-5
    )

    # Windows of a single trial all follow it: the second half, in five parts.
    judged = returns[-(len(returns) // 6) * 5 :]
    ratio, skew, kurtosis = moments(judged)
    reach = NormalDist().inv_cdf(0.95) * error_of(ratio, skew, kurtosis, len(judged))
    assert checks["walk_forward"]["value"] == pytest.approx(math.sqrt(365) * (ratio - reach), rel=1e-4)
    assert verdict["cpcv"]["median"] == pytest.approx(sharpe(returns), rel=1e-5)

    regimes = verdict["regimes"]
    gains = [
        each["net_profit"] for name, each in regimes.items() if name != "too early to tell" and each["net_profit"] > 0
    ]
    assert checks["regimes"]["value"] == pytest.approx(max(gains) / sum(gains), rel=1e-4)
    assert sum(each["days"] for each in regimes.values()) == len(returns) - 1
    assert checks["pbo"]["passed"] is None
    assert checks["holdout"]["why"] == "there is none"
    assert any("imported" in note for note in verdict["notes"])


async def test_the_best_of_two_thousand_points_on_noise_is_weighed_by_all_of_them(open_lab: Any) -> None:
    search = {
        "strategy": "ema_cross",
        "grid": {"fast": {"from": 5, "to": 44, "step": 1}, "slow": {"from": 44, "to": 240, "step": 4}},
        **NOISE,
        "study": "noise",
    }
    async with open_lab() as lab:
        job = await lab.call("start_grid_search", search)
        found = await lab.finished(job["job_id"])
        best = found["items"][0]
        verdict = await lab.call("get_verdict", {"run_id": best["run_id"]})
        again = await lab.call("get_verdict", {"run_id": best["run_id"]})
        store = await Store.open(f"sqlite:///{(lab.home / 'bst.sqlite').as_posix()}")
        matrix = await store.trial_matrix((await store.study("noise")).id)
        await store.close()
        returns = await daily_returns(lab, best["run_id"])
    checks = checks_of(verdict)
    assert verdict["verdict"] != "robust"
    assert again == verdict
    assert best["metrics"]["sharpe"] > 1.5, "what others would report as a find"
    assert verdict["trials"] == verdict["compared_trials"] == len(matrix) == 2000
    assert 1 < verdict["effective_trials"] < 2000
    assert verdict["trials_elsewhere"] == 0

    # Bailey and Lopez de Prado 2014: expected maximum of N standard normal draws, in units of 1 / sqrt(days - 1).
    number, days, euler = verdict["effective_trials"], len(returns), 0.5772156649015329
    normal = NormalDist()
    highest = (1 - euler) * normal.inv_cdf(1 - 1 / number) + euler * normal.inv_cdf(1 - 1 / (number * math.e))
    hurdle = highest / math.sqrt(days - 1)
    assert verdict["expected_max_sharpe"] == pytest.approx(math.sqrt(365) * hurdle, rel=1e-4)
    ratio, skew, kurtosis = moments(returns)
    deflated = normal.cdf((ratio - hurdle) / error_of(ratio, skew, kurtosis, days))
    assert checks["deflated_sharpe"]["value"] == pytest.approx(deflated, abs=1e-4)
    assert checks["pbo"]["value"] == pytest.approx(overfitting(matrix.returns.astype(np.float64)), abs=0.01)
    assert checks["data_snooping"]["value"] >= checks["no_skill"]["value"]


def overfitting(returns: np.ndarray[Any, Any], blocks: int = 16) -> float:
    """Return the share of splits whose in-sample best falls to the lower half out of sample (Bailey et al. 2017)."""
    length = returns.shape[1] // blocks
    parts = returns[:, : blocks * length].reshape(len(returns), blocks, length)
    sums, squares = parts.sum(axis=2), (parts**2).sum(axis=2)
    below, splits = 0, list(itertools.combinations(range(blocks), blocks // 2))
    for chosen in splits:
        rest = [block for block in range(blocks) if block not in chosen]
        inside, outside = (
            _ratios(sums[:, rows].sum(axis=1), squares[:, rows].sum(axis=1), length * blocks // 2)
            for rows in (list(chosen), rest)
        )
        winner = outside[inside.argmax()]
        rank = (outside < winner).sum() + 0.5 * ((outside == winner).sum() + 1)
        below += rank / (len(outside) + 1) <= 0.5
    return below / len(splits)


def _ratios(total: np.ndarray[Any, Any], square: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    mean = total / count
    spread = np.sqrt(np.maximum(square - count * mean**2, 0) / (count - 1))
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 1e-12)


async def test_a_planted_edge_in_a_sealed_study_is_robust_until_its_holdout_says_otherwise(open_lab: Any) -> None:
    mine = {"strategy": AFTERNOON, **EDGE, "study": "afternoons"}
    async with open_lab() as lab:
        run = await lab.call("run_backtest", mine)
        other = await lab.call("run_backtest", mine | {"params": {"begin": 12}})
        before = await lab.call("get_verdict", {"run_id": run["run_id"]})
        returns = await daily_returns(lab, run["run_id"])
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        after = await lab.call("get_verdict", {"run_id": run["run_id"]})
        beside = await lab.call("get_verdict", {"run_id": other["run_id"]})
        await lab.refused("open_holdout", {"run_id": other["run_id"], **CHOICE}, "conflict")
    assert before["verdict"] == "robust", before
    assert before["holdout"] == {"state": "sealed", "openings": 0, "from": run["study"]["sealed_from"]}
    assert checks_of(before)["holdout"]["passed"] is None
    assert parse_time_ms(run["data"]["last_bar"]) < parse_time_ms(before["holdout"]["from"])

    days = opened["holdout"]["days"]
    ratio, skew, kurtosis = moments(returns)
    reach = 1.959964 * math.hypot(error_of(ratio, skew, kurtosis, len(returns)), error_of(ratio, skew, kurtosis, days))
    check, told = checks_of(after)["holdout"], after["holdout"]
    assert check["value"] == told["sharpe"] == pytest.approx(opened["holdout"]["sharpe"], rel=1e-5)
    assert told["band_low"] == pytest.approx(math.sqrt(365) * (ratio - reach), rel=1e-4)
    assert told["band_high"] == pytest.approx(math.sqrt(365) * (ratio + reach), rel=1e-4)
    assert check["passed"] is (told["sharpe"] >= told["band_low"])
    assert (told["state"], told["openings"], told["days"]) == ("spent", 1, days)
    assert told["run_id"] == opened["holdout_run_id"]
    assert any("holdout_spent" in note for note in after["notes"])

    assert beside["verdict"] in ("candidate", "fragile", "rejected"), "nothing unseen is left to confirm another run"
    assert beside["holdout"]["opened_for"] == run["run_id"]
    assert "sharpe" not in beside["holdout"]


async def test_a_holdout_without_a_trade_confirms_nothing(open_lab: Any) -> None:
    # The volume of these markets counts their bars.
    early = AFTERNOON | {"name": "early", "long_entry": f"{AFTERNOON['long_entry']} and volume < 8760"}
    sealed_2022 = {"strategy": early, **EDGE, "study": "early"}
    async with open_lab() as lab:
        run = await lab.call("run_backtest", sealed_2022)
        opened = await lab.call("open_holdout", {"run_id": run["run_id"], **CHOICE})
        verdict = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert opened["holdout"]["trades"] == 0
    assert verdict["verdict"] != "robust"
    assert verdict["caps"]


async def test_a_changed_trial_caps_the_verdict_at_fragile(open_lab: Any) -> None:
    async with open_lab() as lab:
        run = await lab.call("run_backtest", {"strategy": AFTERNOON, **EDGE, "study": "afternoons"})
        assert (await lab.call("get_verdict", {"run_id": run["run_id"]}))["ledger_intact"]
        database = sqlite3.connect(lab.home / "bst.sqlite")
        with database:
            database.execute("UPDATE trials SET daily_sharpe = 9")
        database.close()
        verdict = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert verdict["ledger_intact"] is False
    assert verdict["verdict"] == "fragile"
    assert any("trial ledger" in cap for cap in verdict["caps"])


async def test_a_search_made_under_another_name_counts_all_the_same(open_lab: Any) -> None:
    grid = {"fast": {"from": 5, "to": 14, "step": 1}, "slow": {"from": 40, "to": 120, "step": 20}}
    async with open_lab() as lab:
        job = await lab.call("start_grid_search", {"strategy": "ema_cross", "grid": grid, **NOISE})
        best = (await lab.finished(job["job_id"]))["items"][0]
        searched = await lab.call("get_verdict", {"run_id": best["run_id"]})
        fresh = {"strategy": "ema_cross", "params": best["params"], **NOISE, "study": "fresh", "sealed": False}
        run = await lab.call("run_backtest", fresh)
        verdict = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert run["run_id"] == best["run_id"]
    assert verdict["study"]["others"] == ["fresh"], "weighed where most was tried"
    assert verdict["trials"] == 50, "the number that is quoted is the one it was weighed by"
    assert verdict["compared_trials"] == searched["compared_trials"] == 50
    assert verdict["effective_trials"] == pytest.approx(searched["effective_trials"], rel=0.05)
    assert checks_of(verdict)["pbo"]["value"] == pytest.approx(checks_of(searched)["pbo"]["value"], abs=0.01)


async def test_trials_are_those_of_all_studies_on_these_bars_with_the_share_of_the_others_beside(open_lab: Any) -> None:
    async with open_lab() as lab:
        for begin in (9, 10, 11):
            await lab.call("run_backtest", {"strategy": AFTERNOON, **NOISE, "params": {"begin": begin}})
        mine = {"strategy": AFTERNOON, **NOISE, "study": "fresh", "sealed": False}
        run = await lab.call("run_backtest", mine)
        verdict = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert run["study"]["trials"] == verdict["study"]["trials"] == 1
    assert (verdict["trials"], verdict["trials_elsewhere"], verdict["compared_trials"]) == (4, 3, 4)


async def test_refits_of_a_walk_forward_take_the_place_of_the_studys_own_trials(open_lab: Any) -> None:
    mine = {"strategy": AFTERNOON, **EDGE, "study": "afternoons"}
    async with open_lab() as lab:
        run = await lab.call("run_backtest", mine)
        before = await lab.call("get_verdict", {"run_id": run["run_id"]})
        job = await lab.call("start_walk_forward", mine | {"search": {"grid": {"begin": [12, 13, 14]}}, "windows": 4})
        stitched = (await lab.finished(job["job_id"]))["summary"]["out_of_sample"]
        after = await lab.call("get_verdict", {"run_id": run["run_id"]})
    assert (
        "own" in checks_of(before)["walk_forward"]["why"] or "study's trial" in checks_of(before)["walk_forward"]["why"]
    )
    told = checks_of(after)["walk_forward"]
    assert f"refits of {job['job_id']}" in told["why"]
    assert f"{stitched['sharpe']:.3g} over 4 windows" in told["why"]
    # The job tells the interval of 95 %, the check asks for that of 90 %.
    half = NormalDist().inv_cdf(0.95) / NormalDist().inv_cdf(0.975)
    assert told["value"] == pytest.approx(
        stitched["sharpe"] - half * (stitched["sharpe"] - stitched["sharpe_low"]), rel=1e-3
    )
    assert after["trials"] > before["trials"], "refits are trials"


async def test_a_long_examination_becomes_a_job_with_the_same_answer(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab() as lab:
        run_id = (await lab.call("run_backtest", {"strategy": AFTERNOON, **SHORT}))["run_id"]
        calls = (
            ("get_verdict", {"run_id": run_id}),
            ("run_stress_test", {"run_id": run_id}),
            ("run_monte_carlo", {"run_id": run_id, "simulations": 300}),
        )
        direct = [await lab.call(*call) for call in calls]
        monkeypatch.setattr(effort, "MOST_BARS", 0)
        monkeypatch.setattr(effort, "MOST_STEPS", 0)
        for (tool, arguments), answer in zip(calls, direct, strict=True):
            handle = await lab.call(tool, arguments)
            items = (await lab.finished(handle["job"]["job_id"]))["items"]
            if tool == "run_stress_test":
                assert items == answer["items"]
            else:
                assert items == [{name: answer[name] for name in items[0]}], tool
        error = await lab.refused("check_lookahead", {"run_id": run_id}, "too_large")
        assert "cuts is at most 1" in error["fix"]


async def test_stress_and_monte_carlo_agree_with_backtests_and_trades(open_lab: Any) -> None:
    fixed = {"strategy": AFTERNOON, **SHORT, "settings": {"funding": False}}
    async with open_lab() as lab:
        run = await lab.call("run_backtest", fixed)
        run_id = run["run_id"]
        table = await lab.call("run_stress_test", {"run_id": run_id})
        slipped = await lab.call("run_backtest", fixed | {"settings": {"funding": False, "slippage_percent": 0.06}})
        trades = (await lab.call("get_trades", {"run_id": run_id, "limit": 500}))["items"]
        permuted = await lab.call("run_monte_carlo", {"run_id": run_id, "method": "trades_permutation"})
        drawn = await lab.call("run_monte_carlo", {"run_id": run_id, "method": "trades_resample", "seed": 3})
        same = await lab.call("run_monte_carlo", {"run_id": run_id, "method": "trades_resample", "seed": 3})
        blocks = await lab.call("run_monte_carlo", {"run_id": run_id, "ruin_fraction": 0.01})
        listed = await lab.call("list_trials", {"study": run["study"]["name"]})
        ahead = await lab.call("check_lookahead", {"run_id": run_id, "cuts": 5})
    rows = {row["scenario"]: row for row in table["items"]}
    own = rows["as it is"]
    for name in ("net_profit", "sharpe", "max_drawdown"):
        assert own[name] == pytest.approx(run["metrics"][name], rel=1e-5)
    assert rows["slippage +0.05 % a fill"]["net_profit"] == pytest.approx(slipped["metrics"]["net_profit"], rel=1e-5)
    assert own["net_profit"] > rows["fees and slippage x1.5"]["net_profit"] > rows["fees and slippage x2"]["net_profit"]
    missed = rows["10 % of trades missed"]
    assert missed["draws"] == 20
    assert missed["worst_net_profit"] < missed["net_profit"]
    assert missed["change"] == pytest.approx(missed["net_profit"] / own["net_profit"] - 1, rel=1e-3)
    assert rows["every decision one bar later"]["net_profit"] == ahead["net_profit_one_bar_later"]
    assert listed["total"] == 2, "examinations are no trials: the run and the slipped one are"

    equity = np.concatenate(([10_000.0], 10_000.0 + np.cumsum([trade["pnl"] for trade in trades])))
    assert permuted["final_equity_ratio"] == dict.fromkeys(
        ("p5", "p50", "p95"), pytest.approx(equity[-1] / equity[0], rel=1e-5)
    )
    assert permuted["max_drawdown"]["p5"] > 0
    assert drawn == same
    assert (
        drawn["final_equity_ratio"]["p5"] < permuted["final_equity_ratio"]["p50"] < drawn["final_equity_ratio"]["p95"]
    )
    assert 0 < blocks["ruin_probability"] < 1
    assert ahead["causal"]
    assert ahead["leaks"] == []
    assert ahead["compared_trades"] > 0
    assert all(row["changed_decisions"] == 0 for row in ahead["history"]), "the clock has no memory"


@pytest.mark.parametrize("tool", ["get_verdict", "run_stress_test", "run_monte_carlo", "check_lookahead"])
async def test_an_unknown_run_is_refused_with_the_latest_ones(open_lab: Any, tool: str) -> None:
    async with open_lab() as lab:
        error = await lab.refused(tool, {"run_id": UNKNOWN}, "not_found")
    assert "run_backtest" in error["fix"]
