"""Outside text stays data: no block is closed, no markup survives, no route, key or answer changes."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.answers import BacktestReading
from agents.hygiene import MAX_TEXT_CHARACTERS, clean_text, clean_value, data_block, read_data_block
from agents.memory import MemoryInProcess
from agents.prompting import read_schema_block, user_text
from agents.questions import AskRequest
from tests.agents.hostile_set import TEXTS
from tests.agents.surroundings import BRIEF, DEEPSEEK_KEY, PERPLEXITY_KEY

LOOKS_LIKE_A_CALL = re.compile(
    r"<\s*[/|｜]?\s*(?:antml:)?(?:tool|function|invoke|parameter|system|assistant|im_start|think|use_mcp|data|schema)|<\||<｜|\[INST|<<SYS"
    r"|\"tool_calls\"\s*:|\"jsonrpc\"\s*:|'function_call'\s*:|```(?:tool|json_rpc)",
    re.IGNORECASE,
)  # fmt: skip
ROLE = re.compile(r"^\s*(?:system|user|assistant|developer)\s*:", re.IGNORECASE | re.MULTILINE)
HELD = {"Cc", "Cf", "Co", "Cs", "Cn"}


def test_there_are_a_hundred_different_hostile_texts():
    assert (len(TEXTS), len(set(TEXTS))) == (100, 100)


@pytest.mark.parametrize("text", TEXTS, ids=range(100))
def test_a_hostile_text_is_disarmed_and_stays_inside_its_block(text):
    cleaned = clean_text(text)
    assert not LOOKS_LIKE_A_CALL.search(cleaned)
    assert not ROLE.search(cleaned)
    assert all(unicodedata.category(each) not in HELD or each in "\n\t" for each in cleaned)
    assert len(cleaned) <= MAX_TEXT_CHARACTERS + 60
    hostile = {"news": text, text[:50]: [text, {"comment": text}], "sharpe": 1.5}
    prompt = user_text("What now?", brief=hostile, context=text, schema={"type": "object"})
    assert [prompt.count(tag) for tag in ("<data name=", "</data>", "<schema>", "</schema>")] == [2, 2, 1, 1]
    assert read_data_block("brief", prompt)["sharpe"] == 1.5
    assert read_data_block("brief", prompt)["news"] == cleaned
    assert read_schema_block(prompt) == {"type": "object"}


@pytest.mark.parametrize("text", TEXTS, ids=range(100))
def test_a_hostile_question_cannot_forge_a_block(text):
    prompt = user_text(text, brief={"sharpe": 1.5}, context="", schema=None)
    assert [prompt.count(tag) for tag in ("<data name=", "</data>", "<schema>")] == [1, 1, 0]
    assert read_data_block("brief", prompt) == {"sharpe": 1.5}


async def test_no_hostile_text_changes_agent_route_answer_or_leaks_a_key(make_router, scripted):
    memory = MemoryInProcess()
    router = make_router(memory)
    for text in TEXTS:
        brief = {**BRIEF, "news": text[:5_000]}
        request = AskRequest(
            "analyze the run", task="reason", schema=BacktestReading, brief=brief, context=text[:90_000]
        )
        answer = await router.ask(request)
        assert (answer.status, answer.agent) == ("answered", "deepseek")
        assert answer.route.agents == ("deepseek", "deepseek-fast", "attic", "perplexity")
        assert answer.answer.reading == "The brief gives sharpe as 1.2345."
    bodies = json.dumps([entry.body for entry in scripted.model.log])
    everything = bodies + repr(await memory.agent_calls(limit=1_000))
    assert DEEPSEEK_KEY not in everything
    assert PERPLEXITY_KEY not in everything
    # No inner model is given a tool, whatever it reads.
    assert not any("tools" in entry.body for entry in scripted.model.log)


@given(st.text(max_size=500))
def test_cleaning_twice_is_cleaning_once_and_blocks_read_back(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert read_data_block("x", data_block("x", {"text": text})) == {"text": cleaned}


def test_ordinary_text_and_numbers_pass_unchanged():
    text = "Return of 12.5 % on BTC/USDT; a < b and b > c.\nСделки: 12. naïve — “quoted” 日本"
    assert clean_text(text) == text
    assert clean_value({"a": [1, 2.5, None, True], "b": text}) == {"a": [1, 2.5, None, True], "b": text}


def test_a_long_text_is_cut_and_says_so():
    assert clean_text("abc" * 10, most_characters=10) == "abcabcabca [cut after 10 characters]"
