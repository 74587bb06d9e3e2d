"""No answer of any tool, no resource and no exported file depends on a sealed bar."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.verdicts import effort
from tools.catalog import all_tools

END_OF_SEALED = "2024-06-01"
MARKET = {"symbol": "BTCUSDT", "interval": "60"}
RANGE = {"start": "2024-01-01", "end": END_OF_SEALED}
LATE = {"start": "2024-05-10", "end": "2024-05-20"}
ACROSS = {"start": "2024-04-28", "end": "2024-05-10"}
# Long only: a short position would be ruined by any planted price, and ruin tells no price.
BACKTEST = {"strategy": "ema_cross", **MARKET, **RANGE, "settings": {"allow_short": False}}
SEARCH = {"strategy": "ema_cross", **MARKET, **RANGE, "settings": {"allow_short": False}, "min_trades": 1}
LONG_DOCUMENT = {"name": "mean", "long_entry": "close > sma(close, 5)", "long_exit": "close < sma(close, 5)"}
STOPPED = LONG_DOCUMENT | {"name": "stopped", "stop_loss": {"percent": 0.1}, "take_profit": {"percent": 0.1}}
TRADE_LIST = """Trade #,Type,Date/Time,Signal,Price USDT,Position size (qty),Net P&L USDT
1,Entry long,2024-05-12 03:00,L,62000,0.1,10
1,Exit long,2024-05-13 07:00,X,62100,0.1,10
"""
# Made before the seal, or under it.
EVALUATING_JOBS = (
    "OLD_SEARCH",
    "OLD_WALK",
    "OLD_VERDICT",
    "OLD_STRESS",
    "OLD_PATHS",
    "OLD_LOOP",
    "NEW_SEARCH",
    "NEW_WALK",
)
LOOP: dict[str, Any] = {"name": "research-loop", "input": {"idea": "follow the trend", "symbol": "BTCUSDT", **RANGE}}
EXAMINATIONS = {"OLD_VERDICT": "get_verdict", "OLD_STRESS": "run_stress_test", "OLD_PATHS": "run_monte_carlo"}
LINE = "Prices that rose go on."
# Strings in capitals stand for handles made before the walk.
WALK: dict[str, list[dict[str, Any]]] = {
    "search_instruments": [{"query": "btc"}],
    "get_instrument": [{"symbol": "BTCUSDT"}, {"symbol": "BTCUSD", "category": "inverse"}],
    "get_market_snapshot": [{"symbol": "BTCUSDT"}, {"symbol": "BTCUSD", "category": "inverse"}],
    "get_candles": [
        {**MARKET, **span, "limit": 1000} for span in (ACROSS, LATE, {}, {"start": "2024-04-30"}, {"end": "2024-05-03"})
    ]
    + [{**ACROSS, "symbol": "BTCUSDT", "interval": interval} for interval in ("1", "240", "D", "W", "M")]
    + [
        {**ACROSS, "symbol": "BTCUSDT", "category": "spot", "interval": "60"},
        {**ACROSS, "symbol": "BTCUSD", "category": "inverse"},
    ],
    "get_mtf_candles": [{"symbol": "BTCUSDT", "end": "2024-05-06", "aligned": aligned} for aligned in (True, False)],
    "get_derivatives_history": [
        {"symbol": "BTCUSDT", "kind": kind, **span}
        for kind in ("funding", "open_interest", "long_short_ratio", "mark_price", "index_price", "premium")
        for span in (ACROSS, LATE)
    ],
    "start_backfill": [{**MARKET, **RANGE}],
    "get_coverage": [{}, {"symbol": "BTCUSDT"}],
    "import_candles": [{"path": "FILE", "symbol": "BTCUSDT", "interval": "D"}],
    "export_candles": [
        {**MARKET, **span, "format": kind} for span in (ACROSS, LATE, RANGE) for kind in ("csv", "parquet")
    ],
    "list_strategies": [{}],
    "get_strategy": [{"name": "ema_cross"}],
    "validate_strategy": [{"document": LONG_DOCUMENT}],
    "save_strategy": [{"document": LONG_DOCUMENT}],
    "list_indicators": [{}],
    "evaluate_expression": [{"expression": "sma(close, 3)", **MARKET, **span, "limit": 100} for span in (ACROSS, LATE)],
    "run_backtest": [
        BACKTEST,
        BACKTEST | ACROSS,
        BACKTEST | LATE,
        BACKTEST | {"study": "the sealed one"},
        BACKTEST | {"study": "another name"},
        BACKTEST | {"study": "open", "sealed": False},
        BACKTEST | {"interval": "240", "settings": {"leverage": 3}},
        BACKTEST | {"category": "spot"},
        BACKTEST | {"symbol": "BTCUSD", "category": "inverse"},
        BACKTEST | ACROSS | {"strategy": STOPPED, "settings": {"intrabar": "magnify"}},
    ],
    "list_runs": [
        {"limit": 50},
        {"limit": 50, "sort": "sharpe"},
        {"limit": 50, "sort": "total_return", "symbol": "BTCUSDT"},
    ],
    "get_run": [{"run_id": "OLD_RUN", "equity_points": 50}, {"run_id": "RUN", "equity_points": 500}],
    "get_trades": [{"run_id": "OLD_RUN"}, {"run_id": "RUN", "sort": "best", "limit": 500}],
    "reproduce_run": [{"run_id": "OLD_RUN"}, {"run_id": "RUN", "prove_causality": 2}],
    "show_chart": [{"run_id": "OLD_RUN"}, {"run_id": "RUN"}, {"run_id": "RUN", **LATE}],
    "compare_with_tradingview": [{"run_id": "OLD_RUN", "path": "LIST"}, {"run_id": "RUN", "path": "LIST"}],
    "wait_for_job": [{"job_id": job} for job in ("JOB", *EVALUATING_JOBS)],
    "get_job_result": [{"job_id": job} for job in ("JOB", *EVALUATING_JOBS)],
    "cancel_job": [{"job_id": job} for job in ("JOB", *EVALUATING_JOBS)],
    "list_jobs": [{}],
    "get_verdict": [{"run_id": run, "include": ["regimes", "cpcv"]} for run in ("OLD_RUN", "RUN")],
    "run_monte_carlo": [{"run_id": run, "method": "trades_resample"} for run in ("OLD_RUN", "RUN")],
    "run_stress_test": [{"run_id": run} for run in ("OLD_RUN", "RUN")],
    "check_lookahead": [{"run_id": run, "cuts": 3} for run in ("OLD_RUN", "RUN")],
    "analyze_backtest_results": [{"run_id": run} for run in ("OLD_RUN", "RUN")],
    "compare_strategies": [{"run_ids": ["OLD_RUN", "RUN"]}],
    "risk_management_advice": [{"run_id": run, "tolerance": 0.1} for run in ("OLD_RUN", "RUN")],
    "technical_indicator_research": [{"indicator": "rsi", "symbol": "BTCUSDT"}],
    "explain_metric": [{"name": "sharpe", "run_id": run} for run in ("OLD_RUN", "RUN")],
    "market_regime_detection": [{"symbol": "BTCUSDT", "interval": bar} for bar in ("60", "D")],
    "code_review_strategy": [{"strategy": "ema_cross"}],
    "generate_test_scenarios": [{"strategy": "ema_cross"}],
    "ask_agents": [{"prompt": "What happened after May?", "run_ids": [run]} for run in ("OLD_RUN", "RUN")],
    "run_pipeline": [{"name": "code-review", "input": {"code": "close > open"}}, LOOP],
    "list_agents": [{}],
    "submit_analysis": [{"submission_id": "sub_0123456789abcdef", "answer": "777123"}],
    # Opening is the one way, and it is not walked here: it ends the seal.
    "open_holdout": [{"run_id": "OLD_RUN", "reason": "I would like to see", "confirm": True}],
    "list_trials": [{}, {"study": "the sealed one", "sort": "sharpe"}, {"study": "scratch:simulated:linear:BTCUSDT"}],
    "health_check": [{"exchange": True}],
    "cache_stats": [{}],
    "clear_cache": [{"what": "exports", "confirm": True}],
    # Last, and each in a study of its own: they run on while the walk goes on.
    "start_grid_search": [SEARCH | {"grid": {"fast": [6, 12]}}],
    "start_bayesian_search": [SEARCH | {"category": "spot", "space": {"fast": [5, 10]}, "trials": 2}],
    "start_walk_forward": [
        SEARCH | {"symbol": "BTCUSD", "category": "inverse", "search": {"grid": {"fast": [5, 10]}}, "windows": 2}
    ],
}
# What differs between two labs without telling anything of prices.
INCIDENTAL = {
    "now", "created", "path", "database_bytes", "elapsed_sec", "rows_per_sec", "at", "eta_s", "opened", "detail", "progress",
    "message_at", "export_bytes", "submission_id", "ms",
}  # fmt: skip
RESOURCES = ["run://OLD_RUN", "run://OLD_RUN/trades.csv", "run://OLD_RUN/equity.csv", "run://RUN", "run://RUN/trades.csv",
             "run://RUN/equity.csv", "index://runs", "index://strategies"]  # fmt: skip
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.:-])-?\d+(?:\.\d+)?(?![0-9A-Za-z_:-])")
_HANDLE = re.compile(r"\b(run|job|sub|pipe)_[0-9a-f]{12,32}\b")


def filled(value: Any, handles: dict[str, str]) -> Any:
    """Return the arguments with handles in the place of their names."""
    if isinstance(value, dict):
        return {name: filled(part, handles) for name, part in value.items()}
    if isinstance(value, list):
        return [filled(part, handles) for part in value]
    if isinstance(value, str):
        for name, handle in handles.items():
            value = re.sub(rf"\b{name}\b", handle.replace("\\", "/"), value)
    return value


def planted_numbers(text: str) -> list[str]:
    """Return the numbers of a text that can only come from a planted bar."""
    return [number for number in _NUMBER.findall(text) if 776_000 < abs(float(number)) < 779_000]


def told(value: Any) -> Any:
    """Return an answer without what differs between any two labs."""
    if isinstance(value, dict):
        return {name: told(part) for name, part in value.items() if name not in INCIDENTAL}
    if isinstance(value, list):
        return [told(part) for part in value]
    return _HANDLE.sub(r"\1_ID", value) if isinstance(value, str) else value


def write_files(folder: Path) -> None:
    """Write the files that the walk imports and compares."""
    folder.mkdir(parents=True, exist_ok=True)
    days = [f"{1714608000000 + day * 86_400_000},{50 + day},{60 + day},40,{55 + day % 3},5" for day in range(5)]
    (folder / "candles.csv").write_text("\n".join(["time,open,high,low,close,volume", *days]), encoding="utf-8")
    (folder / "list.csv").write_text(TRADE_LIST, encoding="utf-8")


async def prepare(lab: Any, folder: Path) -> dict[str, str]:
    """Fill the lab as one that is used: a run over the range, everything stored, then the seal."""
    write_files(folder)
    old = await lab.call("run_backtest", BACKTEST)
    for interval in ("1", "D"):
        await lab.call("get_candles", {"symbol": "BTCUSDT", "interval": interval, **LATE, "limit": 5})
    before = await lab.call("get_candles", {**MARKET, **LATE, "limit": 5})
    assert planted_numbers(json.dumps(before)) or "888" in lab.home.name, "the walk would see a planted bar"
    assert old["metrics"]["total_return"] > 1, "and a figure that rests on one"
    searched = SEARCH | {"grid": {"fast": [5, 10], "slow": [30, 60]}}
    old_search = await done(lab, await lab.call("start_grid_search", searched))
    walked = SEARCH | {"search": {"grid": {"fast": [5, 10]}}, "windows": 2}
    # The test window of the last refit lies behind the seal, and its training windows before it.
    old_walk = await done(lab, await lab.call("start_walk_forward", walked))
    stored: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effort, "MOST_BARS", 0)
        patch.setattr(effort, "MOST_STEPS", 0)
        for name, tool in EXAMINATIONS.items():
            stored[name] = await done(lab, (await lab.call(tool, {"run_id": old["run_id"]}))["job"])
    loop = await answered_loop(lab)
    run = await lab.seal()
    new_search = await done(lab, await lab.call("start_grid_search", searched | {"study": "the sealed one"}))
    new_walk = await done(lab, await lab.call("start_walk_forward", walked | {"study": "the sealed one"}))
    job = await lab.call("start_backfill", {**MARKET, **RANGE})
    await lab.call("wait_for_job", {"job_id": job["job_id"]})
    return {
        "OLD_RUN": old["run_id"], "RUN": run["run_id"], "JOB": job["job_id"], "FILE": str(folder / "candles.csv"),
        "LIST": str(folder / "list.csv"), "OLD_SEARCH": old_search, "NEW_SEARCH": new_search, "NEW_WALK": new_walk,
        "OLD_WALK": old_walk, "OLD_LOOP": loop, **stored,
    }  # fmt: skip


async def answered_loop(lab: Any) -> str:
    """Run the research loop as its calling model until it has to report on what it found; return its job."""
    job_id = ""
    for _ in range(20):
        told = await lab.call("run_pipeline", LOOP)
        job_id = told["job_id"]
        if told["status"] == "running":
            continue
        assert told["status"] == "delegated", told["error"]
        delegated = told["delegated"]
        if delegated["step"] == "report":
            assert "metrics" in json.dumps(told), "there is something to withhold"
            break
        answer: dict[str, str] = dict.fromkeys(("hypothesis", "rests_on", "refuted_by", "may_mislead"), LINE)
        if delegated["step"] == "strategy":
            answer = {"strategy": json.dumps(LONG_DOCUMENT), "idea": LINE, "expected_weakness": LINE}
        submission = {"submission_id": delegated["submission_id"], "answer": answer}
        await done(lab, await lab.call("submit_analysis", submission))
    return job_id


async def done(lab: Any, job: dict[str, Any]) -> str:
    """Wait for a job and return its id."""
    for _ in range(20):
        if (await lab.call("wait_for_job", {"job_id": job["job_id"], "wait_seconds": 20}))["state"] == "done":
            break
    return job["job_id"]


def text_of(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


async def walk(lab: Any, folder: Path) -> list[tuple[str, Any]]:
    """Return every answer of the walk, checked for planted numbers on the way."""
    handles = await prepare(lab, folder)
    answers: list[tuple[str, Any]] = []
    for tool, calls in WALK.items():
        for arguments in calls:
            _, answer, text = await lab.ask(tool, filled(arguments, handles))
            assert not planted_numbers(text + json.dumps(answer)), (tool, arguments)
            answers.append((f"{tool} {arguments}", told(answer)))
    for uri in RESOURCES:
        try:
            text = (await lab.client.read_resource(filled(uri, handles))).contents[0].text
        except Exception as error:
            text = str(error)
        assert not planted_numbers(text), uri
        answers.append((uri, told(json.loads(text) if text.startswith("{") else text)))
    return answers


def test_the_walk_knows_every_tool() -> None:
    assert set(WALK) == {tool.name for tool in all_tools()}


async def test_nothing_that_is_answered_depends_on_a_sealed_bar(open_lab: Any, tmp_path: Path) -> None:
    # Two markets that are equal up to the seal and have nothing in common after it.
    async with open_lab("with 777") as lab:
        answers = await walk(lab, tmp_path / "files")
    async with open_lab("with 888") as lab:
        other_answers = await walk(lab, tmp_path / "files")
    for (call, answer), (_, other_answer) in zip(answers, other_answers, strict=True):
        assert answer == other_answer, call


async def test_exports_end_at_the_seal_and_pictures_are_the_same_whatever_follows(
    open_lab: Any, tmp_path: Path
) -> None:
    found = []
    for name in ("with 777", "with 888"):
        async with open_lab(name) as lab:
            handles = await prepare(lab, tmp_path / "files")
            exported = await lab.call("export_candles", {**MARKET, **RANGE})
            picture = await lab.client.call_tool("show_chart", {"run_id": handles["RUN"]})
        image = next(part.data for part in picture.content if part.type == "image")
        found.append((text_of(exported["path"]), image))
        assert exported["withheld"]["from"] == "2024-05-01T00:00:00Z"
    assert found[0] == found[1]
    assert not planted_numbers(found[0][0])


async def test_what_any_job_found_is_withheld_when_a_seal_covers_part_of_it(open_lab: Any, tmp_path: Path) -> None:
    async with open_lab("with 777") as lab:
        handles = await prepare(lab, tmp_path / "files")
        for name in EVALUATING_JOBS:
            failed, answer, _ = await lab.ask("get_job_result", {"job_id": handles[name]})
            assert failed is name.startswith("OLD"), (name, answer)
            assert not failed or answer["code"] == "sealed", (name, answer)
        await lab.refused("run_pipeline", LOOP)
        before_the_seal = {**LOOP["input"], "end": "2024-05-01"}
        assert (await lab.call("run_pipeline", LOOP | {"input": before_the_seal}))["status"] == "delegated"
