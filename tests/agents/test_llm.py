"""LiteLLM's edge: quiet on stdout, silent about its settings, one request for each call, nothing imported early."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

import pytest

from agents.client import AttemptFailed, Completion, CompletionRequest
from agents.llm import LiteLLMClient
from agents.providers import agents_of
from agents.scripted import FAULT_KINDS, Fault
from tests.agents.surroundings import RealClock, plan, settings_for

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def client(scripted):
    opened = LiteLLMClient(settings_for(scripted), RealClock())
    await opened.ready()
    yield opened
    await opened.close()


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False
    )


async def test_stdout_stays_clean_whatever_the_vendors_do(client, scripted, capfd):
    failures = 0
    agents = agents_of(settings_for(scripted))
    for kind in FAULT_KINDS:
        patience_s = 0.1 if kind == "timeout" else 60
        for name in ("deepseek", "perplexity", "attic"):
            scripted.model.replace_faults(plan(Fault(kind=kind, seconds=0.01)))
            request = CompletionRequest(agents[name], "system", "question")
            with suppress(AttemptFailed):
                await client.complete(request, RealClock().monotonic() + patience_s)
                failures -= 1
            with suppress(AttemptFailed):
                async for _ in client.stream(request, RealClock().monotonic() + patience_s):
                    pass
                failures -= 1
            failures += 2
    assert failures > 60
    assert capfd.readouterr().out == ""


def test_the_router_is_imported_without_litellm():
    done = run("import sys, agents.router, agents.scripted; print([n for n in sys.modules if n.split('.')[0] in ('litellm', 'openai', 'uvicorn', 'sqlmodel')])")  # fmt: skip
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_unexpected_file_runs_at_every_start_of_python():
    # A trojanised LiteLLM (1.82.8, March 2026) came with litellm_init.pth, which runs at every start of the interpreter.
    known = ("bybit_strategy_tester", "_virtualenv", "distutils-precedence", "__editable__", "matplotlib")
    folder = Path(sysconfig.get_paths()["purelib"])
    assert [path.name for path in folder.glob("*.pth") if not path.name.startswith(known)] == []


def test_the_library_is_pinned_to_a_version_that_was_looked_at():
    pins = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"litellm==1.106.2"' in pins
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "litellm==1.106.2 \\\n    --hash=sha256:" in locked


async def test_the_wire_carries_what_each_vendor_understands(client, scripted):
    schema = {"type": "object", "properties": {"x": {"type": "string", "x-cited": True}}, "required": ["x"]}
    agents = agents_of(settings_for(scripted))
    for name in ("deepseek", "deepseek-fast", "perplexity", "attic"):
        await client.complete(
            CompletionRequest(agents[name], "system", "question", schema), RealClock().monotonic() + 60
        )
    deepseek, fast, perplexity, attic = (entry.body for entry in scripted.model.log)
    assert deepseek["response_format"] == {"type": "json_object"}
    assert deepseek["reasoning_effort"] == "high"
    assert (fast["thinking"], "reasoning_effort" in fast) == ({"type": "disabled"}, False)
    assert perplexity["response_format"]["json_schema"]["schema"]["properties"]["x"] == {"type": "string"}
    assert perplexity["instructions"] == "system"
    assert "model" not in perplexity
    assert attic["response_format"]["type"] == "json_schema"
    assert [entry.path for entry in scripted.model.log] == [
        "/deepseek/chat/completions", "/deepseek/chat/completions", "/perplexity/v1/responses", "/attic/v1/chat/completions",
    ]  # fmt: skip


async def test_a_missing_key_is_found_before_anything_is_sent(client, scripted):
    agent = agents_of(settings_for(scripted, deepseek_api_key=None))["deepseek"]
    with pytest.raises(AttemptFailed) as caught:
        await client.complete(CompletionRequest(agent, "system", "question"), RealClock().monotonic() + 60)
    assert (caught.value.kind, scripted.model.log) == ("missing_key", [])


async def test_blank_lines_do_not_hold_the_total_deadline_open(client, scripted):
    scripted.model.replace_faults(plan(Fault(kind="keep_alive", seconds=60)))
    for name in ("deepseek", "attic"):
        agent = agents_of(settings_for(scripted))[name]
        with pytest.raises(AttemptFailed) as caught:
            await client.complete(CompletionRequest(agent, "system", "question"), RealClock().monotonic() + 0.3)
        assert caught.value.kind == "timeout"


async def test_a_piece_of_a_stream_that_cannot_be_read_ends_it(client, scripted):
    # LiteLLM leaves such a piece out and goes on, which would make a wrong answer look whole.
    scripted.model.replace_faults(plan(Fault(kind="bad_json")))
    for name in ("deepseek", "attic"):
        request = CompletionRequest(agents_of(settings_for(scripted))[name], "system", "question")
        with pytest.raises(AttemptFailed):
            async for _ in client.stream(request, RealClock().monotonic() + 60):
                pass


async def test_a_stream_ends_with_the_whole_answer_its_tokens_and_its_first_piece(client, scripted):
    for name in ("deepseek", "perplexity", "attic"):
        request = CompletionRequest(agents_of(settings_for(scripted))[name], "system", "question")
        *pieces, last = [piece async for piece in client.stream(request, RealClock().monotonic() + 60)]
        assert isinstance(last, Completion)
        assert "".join(piece.text for piece in pieces) == last.text == "The brief holds no figures."
        assert last.usage.total > 0
        assert last.first_token_ms is not None
    assert json.dumps([entry.is_stream for entry in scripted.model.log]) == "[true, true, true]"
