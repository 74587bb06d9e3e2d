"""Breaker, budget, routing and settings, each by itself."""

from __future__ import annotations

import asyncio

import pytest

from agents.breaker import Breaker
from agents.budget import Budget, BudgetSpent, Purse, worst_case
from agents.cache import AnswerCache, answer_key
from agents.client import CompletionRequest
from agents.memory import MemoryInProcess
from agents.providers import FREE, Price, agents_of
from agents.questions import AgentProgress, throttled
from agents.routing import DEFAULT_ROUTES, TASKS, classify
from agents.settings import AgentSettings, Limits, read_local_servers, read_routes
from agents.vendor_errors import redacted
from engine.agent_records import Spending
from engine.errors import BadRequest
from tests.agents.surroundings import ManualClock


def test_a_breaker_opens_after_five_failures_within_a_minute_and_lets_one_trial_through():
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
        clock.seconds += 14
    assert breaker.state == "closed"
    breaker.failed()
    assert (breaker.state, breaker.closes_in_s, breaker.allows()) == ("open", 30.0, False)
    clock.seconds += 30
    assert breaker.state == "half_open"
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    assert breaker.closes_in_s == 60.0
    clock.seconds += 60
    assert breaker.allows()
    breaker.succeeded()
    assert (breaker.state, breaker.allows()) == ("closed", True)


def test_a_breaker_doubles_its_pause_to_ten_minutes_at_most():
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed()
    pauses = []
    for _ in range(7):
        pauses.append(breaker.closes_in_s)
        clock.seconds += breaker.closes_in_s
        assert breaker.allows()
        breaker.failed()
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


def test_failures_far_apart_keep_a_breaker_closed_and_a_cancelled_trial_tells_nothing():
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(20):
        breaker.failed()
        clock.seconds += 20
    assert breaker.state == "closed"
    for _ in range(5):
        breaker.failed()
    clock.seconds += 30
    assert breaker.allows()
    breaker.abandoned()
    assert breaker.allows()


def test_a_blocked_or_resting_agent_is_not_asked():
    clock = ManualClock()
    breaker = Breaker(clock)
    breaker.rest(20)
    assert (breaker.state, breaker.allows()) == ("open", False)
    clock.seconds += 20
    assert breaker.allows()
    breaker.block("payment")
    clock.seconds += 100_000
    assert (breaker.state, breaker.allows()) == ("blocked", False)


async def test_what_is_under_way_counts_with_its_worst_case():
    budget = Budget(Limits(call_usd=10, day_usd=1.0, pipeline_usd=0.5), MemoryInProcess(), ManualClock())
    async with budget.reserved(Spending(0.6, 10), Purse()):
        with pytest.raises(BudgetSpent) as caught:
            async with budget.reserved(Spending(0.6, 10), Purse()):
                pass
        assert caught.value.scope == "day"
    async with budget.reserved(Spending(0.6, 10), Purse()):
        pass
    with pytest.raises(BudgetSpent) as caught:
        async with budget.reserved(Spending(0.6, 10), Purse("pipe_1")):
            pass
    assert caught.value.scope == "pipeline"


async def test_the_limit_of_one_question_counts_its_earlier_attempts():
    budget = Budget(Limits(call_usd=1.0, call_tokens=1_000), MemoryInProcess(), ManualClock())
    purse = Purse(call_usd=0.4)
    async with budget.reserved(Spending(0.3, 100), purse):
        purse.pay(0.3, 100, is_known=True)
    with pytest.raises(BudgetSpent):
        async with budget.reserved(Spending(0.2, 100), purse):
            pass
    with pytest.raises(BudgetSpent):
        async with budget.reserved(Spending(0.0, 901), Purse(spent=Spending(0.0, 100))):
            pass


def test_the_worst_case_is_dearer_than_any_answer_within_its_limits():
    agents = agents_of(AgentSettings(deepseek_api_key="k"))
    request = CompletionRequest(agents["deepseek"], "s" * 1_000, "p" * 9_000, max_output_tokens=1_000)
    # By hand: 10,000 bytes at 2.5 a token and 100 of form are 4,100 tokens at 1.32, and 1,000 at 3.96, per million.
    assert worst_case(request) == Spending(pytest.approx(4_100 * 1.32e-6 + 1_000 * 3.96e-6), 5_100)
    assert Price(1.0, 2.0, 0.5).cost_usd(1_000_000, 500_000, 400_000) == pytest.approx(0.6 + 0.2 + 1.0)
    assert FREE.cost_usd(10**9, 10**9) == 0.0


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("What is the Sortino ratio?", "explain"),
        ("Explain profit factor in plain words", "explain"),
        ("Find literature and news on funding rates", "research"),
        ("Refactor this Python function", "code"),
        ("Write a docstring and a readme", "document"),
        ("Audit and review this result, find the flaws", "audit"),
        ("Compare these two runs and judge which is better", "reason"),
        ("hello", "reason"),
        ("объясни, что такое коэффициент Шарпа", "explain"),
        ("найди новости и источники", "research"),
        ("рефакторинг кода", "code"),
    ],
)
def test_a_free_question_is_classified_by_its_words_and_says_which(prompt, task):
    found, rule = classify(prompt)
    assert found == task
    assert task in rule
    assert classify(prompt) == (found, rule)


def test_a_tie_is_reason_and_says_so():
    assert classify("explain the news") == ("reason", "tie of research, explain at 3: reason")
    assert classify("") == ("reason", "no known word: reason")


def test_every_task_has_a_route_and_copilot_is_last_in_all():
    assert set(DEFAULT_ROUTES) == set(TASKS)
    assert all(names[-1] == "copilot" and "copilot" not in names[:-1] for names in DEFAULT_ROUTES.values())
    agents = agents_of(AgentSettings())
    assert [agent.name for agent in agents.values() if agent.is_usable] == []
    assert all(agent.unusable_because for agent in agents.values())


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"name": "a"}]', '[{"name": "deepseek", "base_url": "http://x", "model": "m"}]',
     '[{"name": "a", "base_url": "ftp://x", "model": "m"}]',
     '[{"name": "a", "base_url": "http://x", "model": "m"}, {"name": "a", "base_url": "http://y", "model": "m"}]'],
)  # fmt: skip
def test_a_wrong_list_of_local_servers_is_refused_with_what_works(text):
    with pytest.raises(BadRequest, match="BST_LOCAL_AGENTS") as caught:
        read_local_servers(text)
    assert caught.value.fix


def test_local_servers_and_routes_are_read_from_json():
    [server] = read_local_servers('[{"name": "attic", "base_url": "http://127.0.0.1:1/v1", "model": "m"}]')
    assert (server.name, server.model) == ("attic", "m")
    assert read_routes('{"reason": ["attic"]}') == {"reason": ("attic",)}
    with pytest.raises(BadRequest):
        read_routes("[]")


def test_the_key_of_an_answer_changes_with_everything_that_could_change_it():
    agents = agents_of(AgentSettings(deepseek_api_key="k"))
    keys = {
        answer_key(agents["deepseek"], "s", "p", None, 100),
        answer_key(agents["deepseek-fast"], "s", "p", None, 100),
        answer_key(agents["deepseek"], "s2", "p", None, 100),
        answer_key(agents["deepseek"], "s", "p2", None, 100),
        answer_key(agents["deepseek"], "s", "p", {"type": "object"}, 100),
        answer_key(agents["deepseek"], "s", "p", None, 101),
    }
    assert len(keys) == 6
    other_key = agents_of(AgentSettings(deepseek_api_key="another"))["deepseek"]
    assert answer_key(other_key, "s", "p", None, 100) in keys


async def test_turns_under_one_key_are_taken_one_by_one_and_leave_nothing_behind():
    cache = AnswerCache(MemoryInProcess(), ManualClock())
    inside: list[int] = []
    most = 0

    async def take(key: str) -> None:
        nonlocal most
        async with cache.turn(key):
            inside.append(1)
            most = max(most, len(inside))
            await asyncio.sleep(0)
            inside.pop()

    await asyncio.gather(*(take("a") for _ in range(5)))
    assert most == 1
    assert cache._turns == {}


async def test_a_throttled_listener_hears_four_pieces_a_second_and_everything_else():
    clock = ManualClock()
    heard: list[str] = []

    async def listen(event: AgentProgress) -> None:
        heard.append(event.text)

    slow = throttled(listen, clock)
    for number in range(100):
        await slow(AgentProgress("text", "deepseek", str(number)))
        clock.seconds += 0.03125
    await slow(AgentProgress("again", "deepseek", "mend it"))
    # 100 pieces in 3.125 seconds: one every quarter of a second, the first at once.
    assert heard == [*(str(number) for number in range(0, 100, 8)), "mend it"]


def test_keys_are_taken_out_of_vendor_texts():
    text = "invalid key my-secret-value and sk-abcdefghijklmnop and Bearer abc.def\nnext line " + "x" * 500
    shown = redacted(text, ["my-secret-value"])
    assert "secret" not in shown
    assert "abcdefgh" not in shown
    assert "abc.def" not in shown
    assert len(shown) <= 303
    assert "kkkkkk" not in repr(AgentSettings(deepseek_api_key="kkkkkk"))
