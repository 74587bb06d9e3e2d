"""The agents' memory, in the store and in process: both must behave the same."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from agents.memory import AgentMemory, MemoryInProcess
from engine.agent_records import AgentCall, AgentUsage, CachedAnswer, CacheSize, PipelineStep, Spending, Submission
from engine.errors import Conflict, NotFound
from engine.store.store import Store

CALL = AgentCall(
    id="call_1", question_id="ask_1", number=1, at_ms=1_000, task="reason", purpose="ask_agents", pipeline_id=None, step=None,
    agent="deepseek", vendor="deepseek", requested_model="deepseek/x", served_model="x-1", outcome="answered", error_class="",
    detail="", http_status=200, duration_ms=12.5, first_token_ms=None, tokens_in=100, tokens_out=20, tokens_reasoning=5,
    tokens_cached=0, cost_usd=0.25, cost_source="price_list", rule="task given by the caller", prompt_version="p@1",
    question_hash="00",
)  # fmt: skip
ANSWER = CachedAnswer(
    "k1", 1_000, 2_000, "reason", "deepseek", "x-1", "an answer", ({"url": "https://a.example"},), 0.25
)
SUBMISSION = Submission(
    "sub_1", 1_000, "ask_1", "reason", "ask_agents", "text", "why?", {"sharpe": 1.5, "days": [1, 2]}
)
STEP = PipelineStep("pipe_1", 1, "plan", "code-review", "finished", 5, "aa", {"x": 1}, "deepseek", "x-1", 2, 0.5, 30)


@pytest.fixture(params=["store", "process"])
async def memory(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[AgentMemory]:
    if request.param == "process":
        yield MemoryInProcess()
        return
    opened = await Store.open(database_url)
    yield opened
    await opened.close()


async def test_the_audit_trail_returns_what_was_kept_newest_first(memory):
    later = dataclasses.replace(CALL, id="call_2", number=2, at_ms=2_000, first_token_ms=1.5, http_status=None)
    other = dataclasses.replace(CALL, id="call_3", question_id="ask_2", at_ms=3_000, pipeline_id="pipe_1", step="plan")
    for call in (CALL, later, other):
        await memory.add_agent_call(call)
    assert await memory.agent_calls() == [other, later, CALL]
    assert await memory.agent_calls(question_id="ask_1") == [later, CALL]
    assert await memory.agent_calls(limit=1) == [other]


async def test_spending_is_summed_by_time_and_pipeline(memory):
    assert await memory.agent_spending(0) == Spending(0.0, 0)
    await memory.add_agent_call(CALL)
    await memory.add_agent_call(dataclasses.replace(CALL, id="call_2", at_ms=2_000, pipeline_id="pipe_1", cost_usd=0.5))
    assert await memory.agent_spending(0) == Spending(0.75, 240)
    assert await memory.agent_spending(1_500) == Spending(0.5, 120)
    assert await memory.agent_spending(0, pipeline_id="pipe_1") == Spending(0.5, 120)
    assert await memory.agent_spending(0, pipeline_id="pipe_2") == Spending(0.0, 0)


async def test_usage_counts_attempts_but_not_what_was_never_sent(memory):
    for number, outcome in enumerate(["answered", "invalid", "failed", "skipped"]):
        await memory.add_agent_call(dataclasses.replace(CALL, id=f"call_{number}", outcome=outcome))
    await memory.add_agent_call(dataclasses.replace(CALL, id="call_9", agent="ollama", cost_usd=0.0))
    assert await memory.agent_usage(0) == [
        AgentUsage("deepseek", 3, 1, 1, 1, 360, 0.75),
        AgentUsage("ollama", 1, 1, 0, 0, 120, 0.0),
    ]
    assert await memory.agent_usage(1_001) == []


async def test_a_cached_answer_lives_until_its_time_and_is_replaced_under_its_key(memory):
    await memory.keep_answer(ANSWER)
    assert await memory.cached_answers(["k0", "k1"], 1_999) == {"k1": ANSWER}
    assert await memory.cached_answers(["k1"], 2_000) == {}
    newer = dataclasses.replace(ANSWER, text="another", created_ms=1_500, expires_ms=9_000)
    await memory.keep_answer(newer)
    assert await memory.cached_answers(["k1"], 2_000) == {"k1": newer}
    assert await memory.agent_cache_size() == CacheSize(1, len("another"))
    assert await memory.clear_agent_cache() == 1
    assert await memory.agent_cache_size() == CacheSize(0, 0)


async def test_a_question_handed_out_is_answered_once(memory):
    await memory.add_submission(SUBMISSION)
    assert await memory.submission("sub_1") == SUBMISSION
    answered = await memory.answer_submission("sub_1", {"reading": "fine"}, 5_000)
    assert (answered.state, answered.answer, answered.answered_ms) == ("answered", {"reading": "fine"}, 5_000)
    assert await memory.submission("sub_1") == answered
    with pytest.raises(Conflict):
        await memory.answer_submission("sub_1", "again", 6_000)
    for unknown in (memory.submission("sub_2"), memory.answer_submission("sub_2", "x", 1)):
        with pytest.raises(NotFound):
            await unknown


async def test_pipeline_steps_come_back_in_order_and_the_last_end_counts(memory):
    second = dataclasses.replace(STEP, number=2, name="write")
    for step in (second, STEP, dataclasses.replace(STEP, output={"x": 2})):
        await memory.save_pipeline_step(step)
    assert await memory.pipeline_steps("pipe_1") == [dataclasses.replace(STEP, output={"x": 2}), second]
    assert await memory.pipeline_steps("pipe_2") == []
