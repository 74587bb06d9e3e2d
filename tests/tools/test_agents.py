"""The four agent tools and the pipelines through real MCP clients: with no key, and with scripted vendors on a real port."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from agents import llm
from agents.hygiene import read_data_block
from agents.pipelines import PIPELINES
from agents.scripted import Fault, FaultPlan, ScriptedAnswer, ScriptedModel, ServedModel, serve
from agents.scripted.honest import PLAIN_STRATEGY
from server.mcp_app import create_server
from server.settings import Settings
from tests.agents.hostile_set import TEXTS

MARKET = {"symbol": "BTCUSDT", "start": "2024-01-01", "end": "2024-02-01", "interval": "60"}
IDEA = {"idea": "Trends of a day persist for some days", **MARKET}
CODE = {"code": "def mean(values):\n    return sum(values) / len(values)\n", "file": "mean.py"}
DEEPSEEK_KEY, PERPLEXITY_KEY = "sk-deepseek-secret-1", "pplx-perplexity-secret-2"
SOURCES = ({"url": "https://example.org/paper", "title": "A paper", "snippet": "Trends persist"},)


@pytest.fixture(scope="module")
def served() -> Iterator[ServedModel]:
    with serve(ScriptedModel(search_results=SOURCES)) as served:
        yield served


@pytest.fixture
def vendors(served: ServedModel) -> ServedModel:
    """Return the scripted vendors as if they were new."""
    served.model.restart()
    served.model.search_results = SOURCES
    return served


def vendor_settings(vendors: ServedModel, folder: Path) -> dict[str, str]:
    """Return the environment that leads DeepSeek, Perplexity and Copilot to the scripted server."""
    tokens = folder / "tokens"
    tokens.mkdir(exist_ok=True)
    (tokens / "access-token").write_text("gho_scripted", encoding="utf-8")
    key = {"token": "tid=scripted", "expires_at": 4_000_000_000, "endpoints": {"api": vendors.base_url("copilot")}}
    (tokens / "api-key.json").write_text(json.dumps(key), encoding="utf-8")
    return {
        "DEEPSEEK_API_KEY": DEEPSEEK_KEY,
        "DEEPSEEK_API_BASE": vendors.base_url("deepseek"),
        "PERPLEXITY_API_KEY": PERPLEXITY_KEY,
        "PERPLEXITY_API_BASE": vendors.base_url("perplexity"),
        "BST_COPILOT": "1",
        "GITHUB_COPILOT_TOKEN_DIR": str(tokens),
        "GITHUB_COPILOT_API_BASE": vendors.base_url("copilot"),
        "BST_AGENT_MODELS": '{"copilot": "github_copilot/gpt-5-mini"}',
    }


@asynccontextmanager
async def connected(folder: Path, environment: dict[str, str] | None = None) -> AsyncIterator[Client]:
    if environment:
        await llm.ready()
    given = {"BST_HOME": str(folder / "home"), "BST_FEED": "simulated", **(environment or {})}
    async with Client(create_server(Settings.model_validate(given))) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    assert not result.is_error, result.structured_content
    return result.structured_content


async def finished(client: Client, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline as a host would: again while it is running."""
    while True:
        told = await call(client, "run_pipeline", name=name, input=given)
        if told["status"] != "running":
            return told


async def test_without_a_key_the_question_comes_back_and_an_answer_is_checked_and_stored(tmp_path: Path):
    async with connected(tmp_path) as client:
        run = await call(client, "run_backtest", strategy="ema_cross", **MARKET)
        asked = await call(client, "ask_agents", prompt="Judge this run", run_ids=[run["run_id"]])
        assert asked["status"] == "delegated"
        assert asked["answer"] is None
        assert asked["brief"]["runs"][0]["metrics"] == run["metrics"]
        invented = {"submission_id": asked["submission_id"], "answer": "It made 73,311.25 USDT."}
        refused = await client.call_tool("submit_analysis", invented)
        assert refused.is_error
        assert "73,311.25" in refused.structured_content["fix"]
        honest = f"It made {run['metrics']['trades']} trades."
        stored = await call(client, "submit_analysis", submission_id=asked["submission_id"], answer=honest)
        assert stored["answer"] == honest
        again = await client.call_tool("submit_analysis", {**invented, "answer": honest})
        assert again.structured_content["code"] == "conflict"
        listed = await call(client, "list_agents")
        assert not any(agent["usable"] for agent in listed["items"])
        assert all(route[-1] == "host" for route in listed["routes"].values())


async def test_the_three_vendors_are_asked_as_the_table_says_and_fallback_shows(tmp_path: Path, vendors: ServedModel):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        routes = (await call(client, "list_agents"))["routes"]
        for task, names in routes.items():
            answered = await call(client, "ask_agents", prompt=f"A question for {task}", task=task)
            assert (answered["status"], answered["agent"]) == ("answered", names[0])
            assert answered["route"]["agents"] == [*names[:-1]]
        copilot = await call(client, "ask_agents", prompt="One for Copilot", agent="copilot")
        assert copilot["agent"] == "copilot"
        assert any("terms" in note for note in copilot["notes"])

        vendors.model.replace_faults(FaultPlan(faults=(Fault(kind="503", agent="perplexity"),)))
        fallen = await call(client, "ask_agents", prompt="What is the latest research?", task="research")
        assert fallen["agent"] == routes["research"][1]
        outcomes = [(each["agent"], each["outcome"]) for each in fallen["attempts"]]
        assert ("perplexity", "failed") in outcomes
        assert outcomes[-1] == (fallen["agent"], "answered")
        again = await call(client, "ask_agents", prompt="What is the latest research?", task="research")
        assert again["cached"]
        assert again["cost_usd"] == 0
        shown = {agent["name"]: agent for agent in (await call(client, "list_agents"))["items"]}
        assert shown["perplexity"]["attempts_today"] > shown["perplexity"]["answered_today"]
    assert {entry.agent for entry in vendors.model.log} == {"deepseek", "perplexity", "copilot"}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("code-review", CODE),
        ("refactor-with-audit", {**CODE, "file": "mean.rs"}),
        ("strategy-development", {"idea": "Buy strength after a quiet week"}),
    ],
)
async def test_a_pipeline_runs_its_steps_and_says_who_did_each(
    name: str, given: dict[str, Any], tmp_path: Path, vendors: ServedModel
):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        told = await finished(client, name, given)
        assert told["status"] == "finished"
        assert [step["name"] for step in told["steps"]] == [step.name for step in PIPELINES[name].steps]
        assert all(step["agent"] in {"deepseek", "deepseek-fast", "perplexity"} for step in told["steps"])
        assert told["cost_usd"] == pytest.approx(sum(step["cost_usd"] for step in told["steps"]))
        assert told["cost_usd"] > 0
        count = len(vendors.model.log)
        assert await finished(client, name, given) == told
        assert len(vendors.model.log) == count, "a finished pipeline is not paid for twice"


async def test_a_pipeline_goes_on_after_its_last_finished_step(tmp_path: Path, vendors: ServedModel):
    vendors.model.replace_faults(FaultPlan(faults=(Fault(kind="402", agent="deepseek", skip=1),)))
    only_deepseek = {
        name: value for name, value in vendor_settings(vendors, tmp_path).items() if name.startswith("DEEPSEEK")
    }
    async with connected(tmp_path, only_deepseek) as client:
        first = await finished(client, "code-review", CODE)
        assert first["status"] == "delegated"
        assert [step["state"] for step in first["steps"]] == ["finished", "delegated"]
    vendors.model.restart()
    async with connected(tmp_path, only_deepseek) as client:
        told = await finished(client, "code-review", CODE)
        assert told["status"] == "finished"
        assert told["steps"][0] == first["steps"][0]
    assert len(vendors.model.log) == 2, "the first step is not asked again"


def hosts_answer(delegated: dict[str, Any]) -> Any:
    """Answer a delegated step as a calling model would: from its form and nothing but its brief."""
    match delegated["step"]:
        case "idea":
            texts = ("hypothesis", "rests_on", "refuted_by", "may_mislead")
            return dict.fromkeys(texts, "Trends persist, or they do not.")
        case "strategy":
            return {"strategy": json.dumps(PLAIN_STRATEGY), "idea": "A crossing.", "expected_weakness": "Ranges."}
        case "report":
            brief = delegated["brief"]
            trades = brief["backtest"]["metrics"]["trades"]
            return {
                "summary": f"The verdict is {brief['verdict']['verdict']}, after {trades} trades.",
                "evidence": [f"{trades} trades"],
                "weaknesses": ["Simulated candles say nothing about a market."],
                "next_experiments": [{"change": "Another year", "why": "To see whether it holds."}],
            }
        case step:
            raise AssertionError(step)


async def test_the_research_loop_comes_to_a_verdict_with_the_calling_model_as_the_agent(tmp_path: Path):
    async with connected(tmp_path) as client:
        told = await finished(client, "research-loop", IDEA)
        asked: list[str] = []
        while told["status"] == "delegated":
            step = told["delegated"]
            asked.append(step["step"])
            handed = await call(
                client, "submit_analysis", submission_id=step["submission_id"], answer=hosts_answer(step)
            )
            assert handed["job_id"], "the pipeline goes on by itself"
            told = await finished(client, "research-loop", IDEA)
        assert asked == ["idea", "strategy", "report"]
        check_loop(told, agents={"host", "server"})


async def test_the_research_loop_comes_to_a_verdict_with_a_scripted_model(tmp_path: Path, vendors: ServedModel):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        told = await finished(client, "research-loop", IDEA)
        check_loop(told, agents={"deepseek", "deepseek-fast", "server"})
        run = await call(client, "get_run", run_id=told["steps"][3]["output"]["run_id"])
        shown = told["steps"][3]["output"]["metrics"]
        assert shown == {name: run["metrics"][name] for name in shown}


async def test_the_research_loop_counts_in_the_study_it_is_given_and_seals_it_when_asked(
    tmp_path: Path, vendors: ServedModel
):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        refused = await finished(client, "research-loop", {**IDEA, "study": "loops"})
        assert "too short to keep a holdout back" in refused["error"]["message"], "a named study is sealed by default"
        told = await finished(client, "research-loop", {**IDEA, "study": "loops", "sealed": False})
        check_loop(told, agents={"deepseek", "deepseek-fast", "server"})
        study = (await call(client, "list_trials", study="loops"))["study"]
    assert study["sealed"] is False
    assert study["trials"] > 1


def check_loop(told: dict[str, Any], agents: set[str]) -> None:
    assert told["status"] == "finished", told["error"]
    steps = {step["name"]: step for step in told["steps"]}
    assert list(steps) == ["idea", "strategy", "validate", "backtest", "optimise", "verdict", "report"]
    assert {step["agent"] for step in told["steps"]} == agents
    verdict = steps["verdict"]["output"]
    assert verdict["run_id"] == steps["optimise"]["output"]["run_id"]
    if verdict["by"] == "get_verdict":
        assert verdict["verdict"] in {"robust", "candidate", "fragile", "rejected"}
        assert steps["optimise"]["output"]["done"]
    else:
        assert verdict["verdict"] == "not judged"
        assert any("flag" in check for check in verdict["checks"])


async def test_a_step_whose_tool_refuses_tells_the_tools_error_and_keeps_what_came_before(
    tmp_path: Path, vendors: ServedModel
):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        told = await finished(client, "research-loop", {**IDEA, "start": "2011-01-01", "end": "2011-02-01"})
        assert told["status"] == "failed"
        assert told["error"]["step"] == "backtest"
        assert told["error"]["fix"]
        assert [step["name"] for step in told["steps"]] == ["idea", "strategy", "validate"]


async def test_everything_wrong_with_an_input_is_told_before_an_agent_is_paid(tmp_path: Path, vendors: ServedModel):
    wrong = {
        **IDEA,
        "start": "2024-06-01",
        "end": "yesterday",
        "interval": "7",
        "category": "futures",
        "symbol": "B T C",
    }
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        told = (await client.call_tool("run_pipeline", {"name": "research-loop", "input": wrong})).structured_content
        for part in ("'yesterday' is not a date", "unknown interval '7'", "category", "'B T C' is not a symbol"):
            assert part in told["message"], part
        backwards = {**IDEA, "start": "2024-06-01", "end": "2024-01-01"}
        told = (
            await client.call_tool("run_pipeline", {"name": "research-loop", "input": backwards})
        ).structured_content
        assert "is not after start" in told["message"]
        unknown = {**IDEA, "symbol": "NOSUCHUSDT"}
        told = (await client.call_tool("run_pipeline", {"name": "research-loop", "input": unknown})).structured_content
        assert "NOSUCHUSDT" in told["message"]
    assert vendors.model.log == []


async def test_looks_at_a_waiting_pipeline_are_looks_at_one_job(tmp_path: Path):
    async with connected(tmp_path) as client:
        looks = [await finished(client, "research-loop", IDEA) for _ in range(3)]
        assert {look["status"] for look in looks} == {"delegated"}
        assert len({look["job_id"] for look in looks}) == 1
        state = await call(client, "wait_for_job", job_id=looks[0]["job_id"])
        assert state["progress"] < 1
        assert "waits for your answer" in state["message"]
        step = looks[0]["delegated"]
        handed = await call(client, "submit_analysis", submission_id=step["submission_id"], answer=hosts_answer(step))
        assert handed["job_id"] != looks[0]["job_id"]
        assert (await finished(client, "research-loop", IDEA))["delegated"]["step"] == "strategy"


async def test_hostile_material_changes_no_route_no_tool_call_and_leaks_nothing(tmp_path: Path, vendors: ServedModel):
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        plain = await call(client, "ask_agents", prompt="Explain this text", context="nothing special")
        before = await call(client, "list_jobs")
        # What is no Unicode cannot be sent by any client, and what is too long is refused before anybody reads it.
        for number, text in enumerate(text[:90_000].encode("utf-8", "replace").decode() for text in TEXTS):
            told = await call(client, "ask_agents", prompt="Explain this text", context=f"{number}\n{text}")
            assert told["route"] == plain["route"]
            assert told["agent"] == plain["agent"]
            assert told["answer"] == plain["answer"]
            shown = json.dumps(told)
            assert DEEPSEEK_KEY not in shown
            assert PERPLEXITY_KEY not in shown
        assert await call(client, "list_jobs") == before
    assert len(vendors.model.log) == len(TEXTS) + 1
    for entry in vendors.model.log:
        assert "tools" not in entry.body, "an inner model is given no tools"
        assert DEEPSEEK_KEY not in entry.prompt


async def test_material_arrives_whole_and_only_as_data(tmp_path: Path, vendors: ServedModel):
    text = "def f():\n    return \"$(rm -rf ~) `x` ${HOME}\"  # Привет, <b> & \\ 'quotes'\n"
    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        await call(client, "ask_agents", prompt="Explain", context=text)
    assert read_data_block("context", vendors.model.log[0].prompt) == text


async def test_progress_carries_the_text_on_its_way(tmp_path: Path, vendors: ServedModel):
    text = "Trends persist because people follow each other. " * 20
    vendors.model.answers.append(ScriptedAnswer("", text))
    vendors.model.replace_faults(FaultPlan(faults=(Fault(kind="slow_stream", seconds=0.1),)))
    heard: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with connected(tmp_path, vendor_settings(vendors, tmp_path)) as client:
        result = await client.call_tool("ask_agents", {"prompt": "Why?"}, progress_callback=hear)
    assert result.structured_content["answer"] == text.strip()
    pieces = [message.partition(" writes: ")[2] for message in heard if " writes: " in message]
    assert pieces
    assert text.startswith("".join(pieces))


async def test_stdout_of_a_server_with_agents_holds_the_protocol_alone(tmp_path: Path, vendors: ServedModel):
    """A stray line on stdout would break the client's session; the SDK's client fails on it."""
    environment = os.environ | vendor_settings(vendors, tmp_path)
    environment |= {"BST_HOME": str(tmp_path / "home"), "BST_FEED": "simulated"}
    server = StdioServerParameters(command=sys.executable, args=["-P", "-m", "server", "serve"], env=environment)
    vendors.model.replace_faults(FaultPlan(faults=(Fault(kind="401", agent="perplexity"), Fault(kind="500", times=2))))
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        async with Client(stdio_client(server, errlog=log)) as client:
            async with asyncio.timeout(600):
                while not (await call(client, "list_agents"))["library_ready"]:  # noqa: ASYNC110 - the server loads it
                    await asyncio.sleep(0.1)
            answered = await call(client, "ask_agents", prompt="Explain the Sharpe ratio", task="research")
            reviewed = await finished(client, "code-review", CODE)
    assert answered["status"] == "answered"
    assert answered["agent"] != "perplexity"
    assert reviewed["status"] == "finished"
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert DEEPSEEK_KEY not in said
    assert PERPLEXITY_KEY not in said
