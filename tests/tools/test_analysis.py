"""The eight analyses through an MCP client, with no key set, and with a scripted agent on a real port."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from mcp.client import Client

from agents import llm
from agents.router import build_router
from agents.scripted import ScriptedModel, serve
from agents.settings import AgentSettings, LocalServer
from engine.core.run_settings import RunSettings
from engine.core.times import parse_time_ms
from server.assembly import close_lab, open_lab
from server.mcp_app import create_server, serve_lab
from server.settings import Settings
from tools.analysis import explain_metric
from tools.catalog import all_tools

MARKET = {"symbol": "BTCUSDT", "start": "2024-01-01", "end": "2024-03-01", "interval": "60"}
MOST_TOKENS = 2_000
ROOT = Path(__file__).parent.parent.parent


def tokens_of(value: Any) -> int:
    """Count with o200k_base where litellm ships it, else at the 2.4 characters a token that briefs were measured at."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    package = importlib.util.find_spec("litellm")
    folder = Path(package.origin or "").parent / "litellm_core_utils" / "tokenizers" if package else None
    if folder is None or not (folder / "fb374d419588a4632f3f557e76b4b70aebbca790").is_file():
        return round(len(text) / 2.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return len(tiktoken.get_encoding("o200k_base").encode(text))


@asynccontextmanager
async def connected(home: Path) -> AsyncIterator[Client]:
    settings = Settings.model_validate({"home": home, "feed": "simulated"})
    async with Client(create_server(settings)) as client:
        yield client


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    assert not result.is_error, result.structured_content
    return result.structured_content


async def refused(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    assert result.structured_content is not None
    return result.structured_content


async def make_runs(client: Client) -> list[dict[str, Any]]:
    return [
        await call(client, "run_backtest", {"strategy": name, **MARKET})
        for name in ("ema_cross", "rsi_reversal", "supertrend")
    ]


def requests(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    first, ids = runs[0]["run_id"], [run["run_id"] for run in runs]
    return {
        "analyze_backtest_results": {"run_id": first},
        "compare_strategies": {"run_ids": ids},
        "risk_management_advice": {"run_id": first},
        "technical_indicator_research": {"indicator": "rsi"},
        "explain_metric": {"name": "sharpe", "run_id": first},
        "market_regime_detection": {"symbol": "BTCUSDT"},
        "code_review_strategy": {"strategy": "ema_cross"},
        "generate_test_scenarios": {"strategy": "ema_cross"},
    }


async def test_without_a_key_every_tool_answers_its_brief_and_asks_the_caller(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        runs = await make_runs(client)
        for name, arguments in requests(runs).items():
            answer = await call(client, name, arguments)
            assert answer["status"] == "delegated", name
            assert answer["submission_id"].startswith("sub_")
            assert answer["output_schema"]["type"] == "object"
            assert "brief" in answer["instructions"]
            assert answer["answer"] is None
            assert "simulated" in json.dumps(answer["brief"]), name
            page = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8").partition(f"### {name}\n")[2]
            undocumented = [key for key in answer["brief"] if f"`{key}`" not in page.partition("\n### ")[0]]
            assert not undocumented, name
            assert tokens_of(answer["brief"]) <= MOST_TOKENS, name
            only = await call(client, name, {**arguments, "agent": "none"})
            assert only["status"] == "brief_only"
            assert only["submission_id"] is None
            # Asking twice of the same store gives the same facts.
            assert only["brief"] == answer["brief"], name


async def test_the_figures_of_briefs_are_those_of_the_engine(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        runs = await make_runs(client)
        calls = requests(runs)
        read = (await call(client, "analyze_backtest_results", calls["analyze_backtest_results"]))["brief"]
        assert read["metrics"] == {name: runs[0]["metrics"][name] for name in read["metrics"]}
        compared = (await call(client, "compare_strategies", calls["compare_strategies"]))["brief"]
        for metric, *values in compared["metrics"]["rows"]:
            assert values == [run["metrics"][metric] for run in runs]
        explained = (await call(client, "explain_metric", calls["explain_metric"]))["brief"]
        assert explained["value"] == runs[0]["metrics"]["sharpe"]
        advised = (await call(client, "risk_management_advice", calls["risk_management_advice"]))["brief"]
        assert advised["measured"]["max_drawdown"] == runs[0]["metrics"]["max_drawdown"]
        counted = (await call(client, "code_review_strategy", calls["code_review_strategy"]))["brief"]
        rule = counted["strategy"]["rules"]["long_entry"]
        # The longest stored stretch of the market is that of the runs.
        evaluated = await call(client, "evaluate_expression", {"expression": rule, **MARKET})
        assert counted["conditions"]["rows"][0][2] == evaluated["summary"]["true_bars"]


async def test_scenarios_run_as_they_are_given_and_what_must_come_out_does(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        await call(client, "get_candles", {**MARKET})
        await call(client, "run_backtest", {"strategy": "ema_cross", **MARKET})
        for strategy in ("bollinger_reversion", "donchian_breakout", "vwap_reversion"):
            brief = (await call(client, "generate_test_scenarios", {"strategy": strategy, "agent": "none"}))["brief"]
            assert {one["name"] for one in brief["scenarios"]} >= {
                "trend_up",
                "crash",
                "gaps",
                "strongest fall of BTCUSDT",
            }
            results: dict[str, dict[str, Any]] = {}
            for scenario in brief["scenarios"]:
                request = {"strategy": strategy, **brief["common"], **scenario["arguments"]}
                run = await call(client, "run_backtest", request)
                results[scenario["name"]] = run["metrics"]
                assert run["data"]["source"] == "simulated"
            for scenario in brief["scenarios"]:
                for metric, comparison, value, kind in scenario["expected"]:
                    if kind == "must":
                        assert holds(results, scenario["name"], metric, comparison, value), (strategy, scenario)


def holds(results: dict[str, dict[str, Any]], name: str, metric: str, comparison: str, value: Any) -> bool:
    found = results[name][metric]
    if comparison == "equals that of":
        return found == results[value][metric]
    return {"==": found == value, "<=": found <= value, "<": found < value, ">": found > value}[comparison]


async def test_an_unknown_run_names_the_latest_ones(tmp_path: Path) -> None:
    unknown = "run_000000000000"
    async with connected(tmp_path) as client:
        none = await refused(client, "analyze_backtest_results", {"run_id": unknown})
        assert "run_backtest makes one" in none["fix"]
        run = await call(client, "run_backtest", {"strategy": "ema_cross", **MARKET})
        for name, arguments in (
            ("analyze_backtest_results", {"run_id": unknown}),
            ("compare_strategies", {"run_ids": [run["run_id"], unknown]}),
            ("risk_management_advice", {"run_id": unknown}),
            ("explain_metric", {"name": "sharpe", "run_id": unknown}),
        ):
            error = await refused(client, name, arguments)
            assert error["code"] == "not_found"
            assert run["run_id"] in error["fix"], name


async def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        run = await call(client, "run_backtest", {"strategy": "ema_cross", **MARKET})
        error = await refused(client, "compare_strategies", {"run_ids": [run["run_id"]] * 2})
        assert "1 different runs" in error["message"]


async def test_a_portfolio_is_read_without_figures_that_only_one_market_has(tmp_path: Path) -> None:
    shared = {"strategy": "ema_cross", "symbols": ["BTCUSDT", "ETHUSDT"]} | {
        name: value for name, value in MARKET.items() if name != "symbol"
    }
    async with connected(tmp_path) as client:
        run = await call(client, "run_backtest", shared)
        alone = await call(client, "run_backtest", {"strategy": "ema_cross", **MARKET})
        read = (await call(client, "analyze_backtest_results", {"run_id": run["run_id"]}))["brief"]
        assert read["metrics"]["net_profit"] == run["metrics"]["net_profit"]
        assert "several symbols" in read["regimes"]["why"]
        sides = [row for row in read["clusters"]["rows"] if row[0] == "side"]
        assert sum(row[2] for row in sides) == run["metrics"]["trades"]
        advised = (await call(client, "risk_management_advice", {"run_id": run["run_id"]}))["brief"]
        assert "portfolio" in advised["liquidation"]["why"]
        assert advised["own_size"]["mean_notional_share_of_equity"] is None
        compared = (await call(client, "compare_strategies", {"run_ids": [run["run_id"], alone["run_id"]]}))["brief"]
        assert "different_market" in {one["flag"] for one in compared["flags"]}
        explained = (await call(client, "explain_metric", {"name": "sharpe", "run_id": run["run_id"]}))["brief"]
        assert explained["value"] == run["metrics"]["sharpe"]


async def test_an_empty_store_says_what_is_missing(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        indicator = (await call(client, "technical_indicator_research", {"indicator": "atr"}))["brief"]
        assert "start_backfill" in indicator["why_no_behaviour"]
        assert indicator["indicator"]["formula"]
        reviewed = (await call(client, "code_review_strategy", {"strategy": "ema_cross"}))["brief"]
        assert reviewed["conditions"]["why"] == "no candles are stored"
        scenarios = (await call(client, "generate_test_scenarios", {"strategy": "ema_cross"}))["brief"]
        assert any("no market slices" in note for note in scenarios["notes"])


async def test_made_up_candles_are_not_taken_for_a_market(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        await call(client, "generate_test_scenarios", {"strategy": "ema_cross"})
        indicator = (await call(client, "technical_indicator_research", {"indicator": "atr"}))["brief"]
        assert indicator["data"] is None


async def test_an_unknown_agent_is_refused_by_name(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        error = await refused(client, "explain_metric", {"name": "sharpe", "agent": "oracle"})
        assert "oracle" in error["message"]


async def test_six_runs_still_fit_a_short_answer(tmp_path: Path) -> None:
    names = ("ema_cross", "rsi_reversal", "supertrend", "macd_cross", "donchian_breakout", "bollinger_breakout")
    async with connected(tmp_path) as client:
        runs = [await call(client, "run_backtest", {"strategy": name, **MARKET}) for name in names]
        answer = await call(client, "compare_strategies", {"run_ids": [run["run_id"] for run in runs]})
        assert len(answer["brief"]["pairs"]["rows"]) == 15
        assert tokens_of(answer["brief"]) <= MOST_TOKENS


@pytest.mark.parametrize(
    ("arguments", "found"),
    [({}, "neither a strategy nor code"), ({"strategy": "ema_cross", "code": "x = 1"}, "both a strategy and code")],
)
async def test_a_review_takes_either_a_strategy_or_code(tmp_path: Path, arguments: dict[str, Any], found: str) -> None:
    async with connected(tmp_path) as client:
        error = await refused(client, "code_review_strategy", arguments)
        assert found in error["message"]
        assert "give one: strategy" in error["fix"]


async def silent(done: float, total: float | None = None, message: str | None = None) -> None:
    """Take progress and do nothing with it."""


async def test_an_agents_answer_stands_beside_the_brief_and_quotes_only_it(tmp_path: Path) -> None:
    # Loading the library must not cost a question its deadline.
    await llm.ready()
    settings = Settings.model_validate({"home": tmp_path, "feed": "simulated"})
    lab = await open_lab(settings, serve_lab(settings))
    try:
        with serve(ScriptedModel()) as served:
            local = LocalServer(name="attic", base_url=served.base_url("attic") + "/v1", model="tiny")
            router = build_router(AgentSettings(local_servers=(local,)), lab.store, lab.clock)
            try:
                run = await lab.backtests.run(
                    strategy="ema_cross", params={}, symbol="BTCUSDT", category="linear", interval="60",
                    start_ms=parse_time_ms("2024-01-01"), end_ms=parse_time_ms("2024-03-01"),
                    settings=RunSettings.model_validate({}),
                )  # fmt: skip
                asked = dataclasses.replace(lab, analyst=router)
                for name, arguments in requests([run, run, run]).items():
                    if name in ("compare_strategies", "market_regime_detection"):
                        continue
                    tool = next(tool for tool in all_tools() if tool.name == name)
                    answer = await tool.function(**arguments, lab=asked, progress=silent)
                    assert answer.status == "answered", (name, answer.notes, answer.attempts)
                    assert answer.agent == "attic"
                    assert answer.answer
                    assert answer.brief
                    assert [one.outcome for one in answer.attempts] == ["answered"], answer.attempts
                    assert answer.submission_id is None
                again = await explain_metric.function(name="sharpe", run_id=run["run_id"], lab=asked, progress=silent)
                assert again.cached
                assert again.attempts == []
            finally:
                await router.close()
    finally:
        await close_lab(lab)
