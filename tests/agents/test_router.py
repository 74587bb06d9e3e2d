"""The router over the real client library, against a scripted model on a real port."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from agents.answers import FORMS, BacktestReading, LiteratureReview, StrategyDraft
from agents.memory import MemoryInProcess
from agents.questions import AgentProgress, AskRequest
from agents.router import Router
from agents.scripted import FAULT_KINDS, Fault, FaultPlan, ScriptedAnswer, ScriptedModel, serve
from agents.settings import Limits, LocalServer
from engine.agent_records import AgentCall
from engine.errors import BadRequest, Conflict, NotFound
from tests.agents.surroundings import (
    BRIEF,
    DEEPSEEK_KEY,
    PERPLEXITY_KEY,
    HurriedClock,
    LeapingClock,
    ManualClock,
    plan,
    settings_for,
)

READ = AskRequest("analyze the run", task="reason", schema=BacktestReading, brief=BRIEF)


def shown(answer) -> list[tuple[str, str, str]]:
    return [(each.agent, each.outcome, each.error_class) for each in answer.attempts]


async def test_a_question_is_answered_by_the_first_agent_of_its_route(make_router, scripted):
    memory = MemoryInProcess()
    answer = await make_router(memory).ask(READ)
    assert (answer.status, answer.agent, answer.served_model) == ("answered", "deepseek", "deepseek-v4-pro")
    assert isinstance(answer.answer, BacktestReading)
    assert shown(answer) == [("deepseek", "answered", "")]
    assert answer.cost_usd > 0
    body = scripted.model.log[0].body
    assert body["response_format"] == {"type": "json_object"}
    assert (body["thinking"], body["reasoning_effort"]) == ({"type": "enabled"}, "high")
    [row] = await memory.agent_calls()
    assert (row.outcome, row.http_status, row.cost_source) == ("answered", 200, "price_list")
    assert (row.cost_usd, row.tokens_in + row.tokens_out) == (answer.cost_usd, answer.tokens)


async def test_research_goes_to_the_searching_agent_and_keeps_its_sources(make_router, scripted):
    answer = await make_router().ask(
        AskRequest("literature on EMA", task="research", schema=LiteratureReview, brief=BRIEF)
    )
    assert (answer.agent, answer.notes) == ("perplexity", ())
    assert [source.url for source in answer.search_results] == ["https://example.org/paper"]
    assert answer.answer.statements[0].url == "https://example.org/paper"
    assert (answer.cost_usd, answer.attempts[0].cost_source) == (0.005, "provider")
    entry = scripted.model.log[0]
    assert (entry.path, entry.body["preset"]) == ("/perplexity/v1/responses", "low")
    assert "x-cited" not in json.dumps(entry.body["response_format"])


async def test_an_answer_from_memory_to_a_research_question_says_so(make_router, scripted):
    scripted.model.replace_faults(plan(Fault(kind="404", agent="perplexity")))
    answer = await make_router().ask(AskRequest("literature on EMA", task="research", brief=BRIEF))
    assert answer.agent == "deepseek-fast"
    assert answer.notes == ("answered from memory, without looking at the web",)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("401", [("deepseek", "failed", "authentication"), ("deepseek-fast", "skipped", "breaker_blocked"), ("attic", "answered", "")]),
        ("402", [("deepseek", "failed", "payment"), ("deepseek-fast", "skipped", "breaker_blocked"), ("attic", "answered", "")]),
        ("404", [("deepseek", "failed", "model_not_found"), ("deepseek-fast", "answered", "")]),
        ("429", [("deepseek", "failed", "rate_limited"), ("deepseek", "answered", "")]),
        ("500", [("deepseek", "failed", "server"), ("deepseek", "answered", "")]),
        ("503", [("deepseek", "failed", "overloaded"), ("deepseek", "answered", "")]),
        ("context_window", [("deepseek", "failed", "context_window"), ("deepseek-fast", "answered", "")]),
        ("html", [("deepseek", "failed", "bad_payload"), ("deepseek", "answered", "")]),
        ("bad_json", [("deepseek", "failed", "bad_payload"), ("deepseek", "answered", "")]),
        ("cut_stream", [("deepseek", "failed", "connection"), ("deepseek", "answered", "")]),
        ("drop", [("deepseek", "failed", "connection"), ("deepseek", "answered", "")]),
        ("not_json", [("deepseek", "invalid", "checks"), ("deepseek", "answered", "")]),
        ("wrong_schema", [("deepseek", "invalid", "checks"), ("deepseek", "answered", "")]),
        ("invented_number", [("deepseek", "invalid", "checks"), ("deepseek", "answered", "")]),
        ("blank", [("deepseek", "invalid", "checks"), ("deepseek", "answered", "")]),
        ("keep_alive", [("deepseek", "answered", "")]),
        ("slow_stream", [("deepseek", "answered", "")]),
    ],
)  # fmt: skip
async def test_one_fault_leads_to_a_retry_a_re_ask_or_the_next_agent(make_router, scripted, kind, expected):
    scripted.model.replace_faults(plan(Fault(kind=kind, times=1, seconds=0.01)))
    answer = await make_router().ask(READ)
    assert answer.status == "answered"
    assert shown(answer) == expected
    sent = [each for each in answer.attempts if each.outcome != "skipped"]
    # One attempt is one request on the wire: nothing below us repeats it.
    assert len(scripted.model.log) == len(sent)


async def test_a_silent_agent_loses_its_share_of_the_deadline_only(make_router, scripted):
    clock = LeapingClock()
    router = make_router(clock=clock)
    await router.ask(AskRequest("warm", task="explain"))
    scripted.model.replace_faults(plan(Fault(kind="timeout", agent="deepseek", times=1)))

    async def leap(progress: AgentProgress) -> None:
        # To a moment before the end of the first share, which is 360 of 600 s; the second agent has 240 real ones.
        if (progress.kind, progress.agent) == ("asking", "deepseek"):
            clock.ahead_s = 359.0

    answer = await router.ask(AskRequest("why?", task="reason", brief=BRIEF, deadline_s=600), leap)
    assert shown(answer) == [("deepseek", "failed", "timeout"), ("deepseek-fast", "answered", "")]
    # Nobody knows whether the silent vendor bills, so the worst case is counted.
    assert answer.attempts[0].cost_source == "estimate"
    silent, good = answer.attempts
    assert (silent.status, silent.tokens, silent.cost_usd) == (None, None, None)
    assert silent.reserved_usd > 0
    assert (answer.cost_usd, answer.tokens) == (good.cost_usd, good.tokens)


async def test_figures_without_a_brief_are_asked_about_once_and_then_marked(make_router, scripted):
    scripted.model.answers.append(ScriptedAnswer("how did", "The figures are 73.1337 %."))
    answer = await make_router().ask(AskRequest("how did it go?", task="reason"))
    assert shown(answer) == [("deepseek", "invalid", "checks"), ("deepseek", "answered", "")]
    assert "73.1337 %" in answer.attempts[0].why
    assert answer.notes == ("no figure of this answer was checked: there was no brief; unchecked: 73.1337 %",)
    quoted = await make_router().ask(AskRequest("how did 73.1337 % come about?", task="reason"))
    assert (len(quoted.attempts), quoted.notes) == (1, ())


async def test_an_answer_kept_in_the_cache_keeps_its_mark(make_router, scripted):
    memory = MemoryInProcess()
    scripted.model.answers.append(ScriptedAnswer("how did", "The figures are 73.1337 %."))
    await make_router(memory).ask(AskRequest("how did it go?", task="reason"))
    again = await make_router(memory).ask(AskRequest("how did it go?", task="reason"))
    assert again.cached
    assert "unchecked: 73.1337 %" in again.notes[0]


async def test_an_agent_that_fails_when_asked_again_leaves_its_marked_answer(make_router, scripted):
    scripted.model.answers.append(ScriptedAnswer("how did", "The figures are 73.1337 %."))
    scripted.model.replace_faults(plan(Fault(kind="404", skip=1)))
    answer = await make_router().ask(AskRequest("how did it go?", task="reason"))
    assert shown(answer) == [("deepseek", "invalid", "checks"), ("deepseek", "failed", "model_not_found")]
    assert "unchecked: 73.1337 %" in answer.notes[0]


async def test_the_hosts_figures_without_a_brief_are_treated_by_the_same_rule(make_router):
    router = make_router()
    asked = await router.ask(AskRequest("how did it go?", agent="host"))
    assert "brief" not in asked.instructions.replace("There is no brief", "")
    with pytest.raises(BadRequest, match="nothing supports") as caught:
        await router.submit(asked.submission_id, "The figures are 73.1337 %.")
    assert "73.1337 %" in caught.value.fix
    kept = await router.submit(asked.submission_id, "The figures are 73.1337 %.")
    assert "unchecked: 73.1337 %" in kept.notes[-1]


async def test_a_status_is_shown_only_when_a_server_sent_one(make_router, scripted):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = LocalServer(name="attic", base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1", model="m")
        answer = await make_router(local_servers=(closed,)).ask(AskRequest("why?", agent="attic"))
    assert [(each.error_class, each.status) for each in answer.attempts] == [("unreachable", None)]
    for kind, status in (("500", 500), ("html", 200), ("drop", None)):
        scripted.model.replace_faults(plan(Fault(kind=kind, times=1)))
        answer = await make_router().ask(AskRequest("why?", agent="deepseek"))
        assert [each.status for each in answer.attempts] == [status, 200], kind
    scripted.model.replace_faults(plan(Fault(kind="html", times=1)))
    answer = await make_router().ask(READ)
    assert (answer.attempts[0].tokens, answer.attempts[0].cost_usd) == (None, None)
    assert answer.cost_usd == answer.attempts[1].cost_usd


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_model_that_answered_is_named_and_not_the_one_asked_for(make_router, is_streamed):
    async def watch(_: AgentProgress) -> None:
        return None

    with serve(ScriptedModel(served_model="qwen3-real")) as own:
        server = LocalServer(name="attic", base_url=own.url + "/attic/v1", model="asked-for")
        router = make_router(local_servers=(server,), deepseek_api_base=own.url + "/deepseek")
        for agent in ("attic", "deepseek"):
            answer = await router.ask(AskRequest("why?", agent=agent), watch if is_streamed else None)
            assert answer.served_model == "qwen3-real"


async def test_what_needs_no_library_does_not_wait_for_it(scripted):
    class Unready:
        async def ready(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            return None

    memory = MemoryInProcess()
    spent = Router(
        settings_for(scripted, limits=Limits(call_usd=0.0, call_tokens=0)), memory, HurriedClock(), Unready()
    )
    answer = await asyncio.wait_for(spent.ask(READ), 60)
    assert {each.error_class for each in answer.attempts} == {"call_budget"}
    assert any("BST_AGENT_CALL_USD" in note for note in answer.notes)
    late = Router(settings_for(scripted), memory, HurriedClock(), Unready())
    answer = await late.ask(AskRequest("why?", deadline_s=0.05))
    assert (answer.status, answer.attempts) == ("delegated", ())
    assert answer.notes[0] == "the client library was still being loaded; ask again"


async def test_a_failed_run_over_http_200_is_a_failure(make_router, scripted):
    scripted.model.replace_faults(plan(Fault(kind="failed_run", agent="perplexity", times=1)))
    answer = await make_router().ask(AskRequest("news?", task="research", brief=BRIEF))
    assert shown(answer) == [("perplexity", "failed", "failed_run"), ("perplexity", "answered", "")]


async def test_retry_after_is_obeyed_and_a_long_one_goes_to_the_next_agent(make_router, scripted):
    clock = HurriedClock()
    scripted.model.replace_faults(plan(Fault(kind="429", times=1, retry_after_s=3)))
    await make_router(clock=clock).ask(READ)
    assert clock.pauses_s == [3.0]
    scripted.model.replace_faults(plan(Fault(kind="429", times=1, retry_after_s=20)))
    router = make_router(clock=(second := HurriedClock()))
    answer = await router.ask(READ)
    assert (answer.agent, second.pauses_s) == ("deepseek-fast", [])
    state = {each.name: each.breaker for each in (await router.state()).agents}
    assert (state["deepseek"], state["deepseek-fast"]) == ("open", "closed")


async def test_a_failing_agent_is_tried_three_times_and_re_asked_twice_at_most(make_router, scripted):
    scripted.model.replace_faults(plan(Fault(kind="500", agent="deepseek")))
    answer = await make_router().ask(READ)
    assert [each.agent for each in answer.attempts] == ["deepseek"] * 3 + ["deepseek-fast"] * 3 + ["attic"]
    assert answer.agent == "attic"
    scripted.model.replace_faults(plan(Fault(kind="invented_number")))
    refused = await make_router().ask(AskRequest("analyze it", task="explain", schema=BacktestReading, brief=BRIEF))
    assert refused.status == "delegated"
    assert [each.outcome for each in refused.attempts] == ["invalid"] * 9
    again = scripted.model.log[-1].prompt
    assert "The previous answer was refused" in again
    assert "8,675,309.17" in again


async def test_dead_agents_lead_to_delegation_with_everything_the_host_needs(make_router):
    dead = "http://127.0.0.1:1"
    router = make_router(deepseek_api_base=dead, perplexity_api_base=dead, local_servers=())
    answer = await router.ask(READ)
    assert (answer.status, answer.agent, answer.answer) == ("delegated", "host", None)
    assert shown(answer) == [
        ("deepseek", "failed", "unreachable"),
        ("deepseek-fast", "skipped", "breaker_open"),
        ("perplexity", "failed", "unreachable"),
    ]
    assert "submit_analysis" in answer.instructions
    assert answer.output_schema is not None
    assert answer.output_schema["required"] == ["reading", "weaknesses", "next_experiments"]
    assert answer.submission_id is not None


async def test_without_keys_every_question_is_delegated_and_says_what_is_missing(make_router):
    router = make_router(deepseek_api_key=None, perplexity_api_key="", local_servers=())
    assert not router.has_agents
    answer = await router.ask(READ)
    assert (answer.status, answer.attempts) == ("delegated", ())
    assert any("set DEEPSEEK_API_KEY" in note for note in answer.notes)


async def test_the_hosts_answer_is_checked_like_any_other_and_kept_once(make_router):
    memory = MemoryInProcess()
    router = make_router(memory)
    asked = await router.ask(AskRequest("read it", agent="host", schema=BacktestReading, brief=BRIEF))
    invented = {"reading": "Sharpe of 9.9.", "weaknesses": ["none"], "next_experiments": [{"change": "x", "why": "y"}]}
    with pytest.raises(BadRequest, match="refused") as caught:
        await router.submit(asked.submission_id, invented)
    assert "9.9" in caught.value.fix
    honest = {**invented, "reading": "Sharpe of 1.23."}
    handed_in = await router.submit(asked.submission_id, json.dumps(honest))
    assert (handed_in.status, handed_in.agent, handed_in.answer.reading) == ("answered", "host", "Sharpe of 1.23.")
    assert (await memory.submission(asked.submission_id)).answer["reading"] == "Sharpe of 1.23."
    with pytest.raises(Conflict):
        await router.submit(asked.submission_id, honest)
    with pytest.raises(NotFound):
        await router.submit("sub_none", honest)


async def test_the_same_question_is_paid_once_also_when_asked_at_the_same_time(make_router, scripted):
    memory = MemoryInProcess()
    router = make_router(memory)
    answers = await asyncio.gather(*(router.ask(READ) for _ in range(5)))
    assert len(scripted.model.log) == 1
    assert sorted(each.cached for each in answers) == [False, True, True, True, True]
    assert [each.cost_usd for each in answers if each.cached] == [0.0] * 4
    assert len({each.answer.reading for each in answers}) == 1
    again = await make_router(memory).ask(READ)
    assert again.cached
    fresh = await router.ask(AskRequest(READ.prompt, task="reason", schema=BacktestReading, brief=BRIEF, no_cache=True))
    assert (fresh.cached, len(scripted.model.log)) == (False, 2)
    other = await router.ask(
        AskRequest(READ.prompt, task="reason", schema=BacktestReading, brief={**BRIEF, "sharpe": 2.0})
    )
    assert (other.cached, len(scripted.model.log)) == (False, 3)


async def test_a_question_waiting_for_its_twin_keeps_its_own_deadline(make_router, scripted):
    router = make_router()
    await router.ask(AskRequest("warm", task="explain"))
    scripted.model.replace_faults(plan(Fault(kind="timeout", agent="deepseek")))
    slow = asyncio.create_task(router.ask(AskRequest("why?", agent="deepseek", deadline_s=600)))
    await wait_for_requests(scripted.model, 2)
    waiting = await router.ask(AskRequest("why?", agent="deepseek", task="reason", deadline_s=0.2))
    assert waiting.status == "delegated"
    assert "still being asked" in waiting.notes[0]
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_a_question_does_not_wait_for_a_connection_beyond_its_deadline(make_router, scripted):
    # Its time stands still: however slow the machine, the deadline cannot pass before the connection is waited for.
    router = make_router(clock=ManualClock())
    await router.ask(AskRequest("warm", agent="attic"))
    scripted.model.replace_faults(plan(Fault(kind="timeout")))
    holders = [
        asyncio.create_task(router.ask(AskRequest(f"why {n}?", agent="attic", deadline_s=600))) for n in range(2)
    ]
    await wait_for_requests(scripted.model, 3)
    answer = await router.ask(AskRequest("why not?", agent="attic", deadline_s=0.2))
    assert (answer.status, shown(answer)) == ("delegated", [("attic", "skipped", "busy")])
    for holder in holders:
        holder.cancel()
    results = await asyncio.gather(*holders, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results)


async def test_a_cancelled_question_leaves_a_row_with_its_worst_case(make_router, scripted):
    memory = MemoryInProcess()
    router = make_router(memory)
    await router.ask(AskRequest("warm", task="explain"))
    scripted.model.replace_faults(plan(Fault(kind="timeout")))
    asked = asyncio.create_task(router.ask(READ))
    await wait_for_requests(scripted.model, 2)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    [row, _] = await memory.agent_calls()
    assert (row.outcome, row.error_class, row.cost_source) == ("failed", "cancelled", "estimate")


async def wait_for_requests(model: ScriptedModel, count: int) -> None:
    assert await asyncio.to_thread(model.wait_for_requests, count, 60)


async def test_nothing_is_sent_that_could_pass_a_limit(make_router, scripted):
    memory = MemoryInProcess()
    nothing = make_router(memory, limits=Limits(call_usd=0.0001), local_servers=())
    answer = await nothing.ask(READ)
    assert (answer.status, scripted.model.log) == ("delegated", [])
    assert {each.error_class for each in answer.attempts} == {"call_budget"}
    free = await make_router(memory, limits=Limits(call_usd=0.0001)).ask(READ)
    assert free.agent == "attic"
    tokens = await make_router(limits=Limits(day_tokens=100)).ask(READ)
    assert {each.error_class for each in tokens.attempts} == {"day_budget"}
    own = AskRequest("analyze", task="reason", schema=BacktestReading, brief=BRIEF, max_cost_usd=0.0, no_cache=True)
    assert (await make_router().ask(own)).agent == "attic"


async def test_the_day_and_pipeline_budgets_count_what_was_spent_before(make_router, scripted):
    memory = MemoryInProcess()
    spent = AgentCall(
        id="call_0", question_id="ask_0", number=1, at_ms=HurriedClock().now_ms(), task="reason", purpose="x", pipeline_id="pipe_1",
        step="s", agent="deepseek", vendor="deepseek", requested_model="m", served_model="m", outcome="answered", error_class="",
        detail="", http_status=200, duration_ms=1.0, first_token_ms=None, tokens_in=1, tokens_out=1, tokens_reasoning=0,
        tokens_cached=0, cost_usd=1.0, cost_source="price_list", rule="", prompt_version="", question_hash="",
    )  # fmt: skip
    await memory.add_agent_call(spent)
    only = {"local_servers": ()}
    day = await make_router(memory, limits=Limits(day_usd=1.0), **only).ask(READ)
    assert {each.error_class for each in day.attempts} == {"day_budget"}
    step = AskRequest("analyze", task="reason", brief=BRIEF, pipeline_id="pipe_1", step="next")
    pipeline = await make_router(memory, limits=Limits(pipeline_usd=1.0), **only).ask(step)
    assert {each.error_class for each in pipeline.attempts} == {"pipeline_budget"}
    other = AskRequest("analyze", task="reason", brief=BRIEF, pipeline_id="pipe_2", step="next")
    assert (await make_router(memory, limits=Limits(pipeline_usd=1.0), **only).ask(other)).status == "answered"


async def test_streaming_reports_pieces_and_a_broken_stream_starts_again(make_router, scripted):
    seen: list[AgentProgress] = []

    async def watch(progress: AgentProgress) -> None:
        seen.append(progress)

    scripted.model.replace_faults(plan(Fault(kind="cut_stream", times=1)))
    answer = await make_router().ask(READ, watch)
    assert shown(answer) == [("deepseek", "failed", "cut_stream"), ("deepseek", "answered", "")]
    kinds = [each.kind for each in seen]
    assert kinds.count("restart") == 1
    last = kinds.index("restart")
    whole = "".join(each.text for each in seen[last:] if each.kind == "text")
    assert json.loads(whole)["reading"] == answer.answer.reading
    assert all(each.is_stream for each in scripted.model.log)


@pytest.mark.parametrize("kind", [kind for kind in FAULT_KINDS if kind != "timeout"])
async def test_no_fault_of_a_stream_yields_a_partial_or_wrong_answer(make_router, scripted, kind):
    async def watch(_: AgentProgress) -> None:
        return None

    scripted.model.replace_faults(plan(Fault(kind=kind, times=1, seconds=0.01)))
    for agent in ("deepseek", "perplexity", "attic"):
        answer = await make_router().ask(
            AskRequest(READ.prompt, agent=agent, schema=BacktestReading, brief=BRIEF), watch
        )
        assert answer.status == "answered" or len(answer.attempts) == 1
        if answer.status == "answered":
            assert answer.answer.reading.startswith("The brief gives sharpe as 1.2345")


async def test_the_callers_agent_is_the_only_one_asked(make_router, scripted):
    scripted.model.replace_faults(plan(Fault(kind="404", agent="attic")))
    answer = await make_router().ask(AskRequest("why?", agent="attic"))
    assert (answer.status, [each.agent for each in answer.attempts]) == ("delegated", ["attic"])
    with pytest.raises(BadRequest, match="nobody") as caught:
        await make_router().ask(AskRequest("why?", agent="nobody"))
    assert "deepseek" in caught.value.fix
    for wrong in (
        AskRequest("  "),
        AskRequest("x" * 50_000),
        AskRequest("x", context="y" * 200_000),
        AskRequest("x", task="poetry"),
    ):
        with pytest.raises(BadRequest):
            await make_router().ask(wrong)


async def test_code_in_an_answer_must_be_valid_in_its_language(make_router, scripted):
    broken = {
        "strategy": '{"name": "x", "long_entry": "crossover(ema(close, 5)"}',
        "idea": "i",
        "expected_weakness": "w",
    }
    scripted.model.answers.append(ScriptedAnswer("draft", json.dumps(broken), times=1))
    answer = await make_router().ask(AskRequest("draft a strategy", task="code", schema=StrategyDraft, brief=BRIEF))
    assert [each.outcome for each in answer.attempts] == ["invalid", "answered"]
    assert "the strategy is not valid" in answer.attempts[0].problems[0]


async def test_a_cited_address_must_be_among_the_search_results(make_router, scripted):
    cited = {"summary": "Known.", "statements": [{"statement": "It lags.", "url": "https://evil.example/made-up"}]}
    scripted.model.answers.append(ScriptedAnswer("literature", json.dumps(cited), times=1))
    answer = await make_router().ask(AskRequest("literature", task="research", schema=LiteratureReview, brief=BRIEF))
    assert "not among the search results" in answer.attempts[0].problems[0]
    assert answer.answer.statements[0].url == "https://example.org/paper"


async def test_keys_and_vendor_texts_with_keys_appear_nowhere(make_router, scripted):
    memory = MemoryInProcess()
    router = make_router(memory)
    scripted.model.replace_faults(plan(Fault(kind="401")))
    answer = await router.ask(READ)
    everything = repr((answer, await memory.agent_calls(), await router.state(), router, settings_for(scripted)))
    for key in (DEEPSEEK_KEY, PERPLEXITY_KEY):
        assert key not in everything
        assert all(key not in entry.prompt for entry in scripted.model.log)
    assert scripted.model.log[0].headers["authorization"] == f"Bearer {DEEPSEEK_KEY}"


async def test_routes_and_models_are_settings(make_router, scripted):
    router = make_router(routes={"explain": ("local", "perplexity")}, models={"deepseek": "deepseek/deepseek-next"})
    assert (await router.ask(AskRequest("what is it?", task="explain"))).agent == "attic"
    await router.ask(AskRequest("why?", task="reason"))
    assert scripted.model.log[-1].model == "deepseek-next"
    state = await router.state()
    assert state.routes["explain"] == ("attic", "perplexity", "host")
    assert [each.name for each in state.agents] == [
        "deepseek",
        "deepseek-fast",
        "perplexity",
        "perplexity-fast",
        "attic",
        "copilot",
    ]
    assert {each.agent: each.answered for each in state.usage_today} == {"attic": 1, "deepseek": 1}
    with pytest.raises(BadRequest, match="unknown agent 'gpt'"):
        make_router(routes={"explain": ("gpt",)})
    with pytest.raises(BadRequest, match="unknown task 'poetry'"):
        make_router(routes={"poetry": ("deepseek",)})


async def test_the_scripted_model_fills_every_form_from_the_brief(make_router, scripted):
    router = make_router()
    for name, form in FORMS.items():
        answer = await router.ask(AskRequest(f"fill {name}", task="research", schema=form, brief=BRIEF))
        assert (answer.status, [each.outcome for each in answer.attempts]) == ("answered", ["answered"]), name
        assert isinstance(answer.answer, form)


async def test_sixty_questions_with_faults_of_every_kind_are_all_answered_once_or_delegated(scripted, make_router):
    kinds = tuple(kind for kind in FAULT_KINDS if kind not in {"401", "402", "403", "timeout"})
    scripted.model.replace_faults(FaultPlan(share=0.3, share_kinds=kinds, share_seconds=0.01, seed=3))
    memory = MemoryInProcess()
    router = make_router(memory, limits=Limits(day_usd=1e6, day_tokens=10**12))
    asks = [
        AskRequest(
            f"analyze run number {n}", task="reason", schema=BacktestReading, brief={**BRIEF, "sharpe": 1 + n / 7}
        )
        for n in range(60)
    ]
    answers = await asyncio.gather(*(router.ask(each) for each in asks))
    for number, answer in enumerate(answers):
        if answer.status == "answered":
            assert (
                answer.answer.reading == f"The brief gives sharpe as {1 + number / 7:.4f}".rstrip("0").rstrip(".") + "."
            )
    rows = await memory.agent_calls(limit=10_000)
    assert len([row for row in rows if row.outcome != "skipped"]) == len(scripted.model.log)
    assert sum(len(answer.attempts) for answer in answers) == len(rows)
    # Paid twice would be a good answer delivered and asked for again.
    for answer in answers:
        good = [row for row in rows if row.question_id == answer.question_id and row.outcome == "answered"]
        assert len(good) == (1 if answer.status == "answered" else 0)
    known = sum(row.cost_usd for row in rows if row.cost_source != "estimate")
    assert known == pytest.approx(sum(answer.cost_usd for answer in answers))
    assert {entry.fault for entry in scripted.model.log} - {None}


async def test_an_agent_that_died_is_left_alone_and_tried_again_later(make_router, port):
    clock = ManualClock()
    with serve(ScriptedModel()) as own:
        router = make_router(
            clock=clock, local_servers=(LocalServer(name="attic", base_url=own.url + "/attic/v1", model="m"),)
        )
        own.model.replace_faults(plan(Fault(kind="500", times=5)))
        request = AskRequest("why?", agent="attic", no_cache=True, deadline_s=100_000)
        await router.ask(request)
        await router.ask(request)
        assert len(own.model.log) == 5
        assert shown(await router.ask(request)) == [("attic", "skipped", "breaker_open")]
        clock.seconds += 31
        answer = await router.ask(request)
        assert (answer.status, len(own.model.log)) == ("answered", 6)
