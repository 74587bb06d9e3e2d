"""Checks of answers: figures, addresses, code, form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.answers import BacktestReading, CodeChange, LiteratureReview, StrategyDraft, form_named
from agents.checks import Evidence, judge
from agents.numbers import facts_from, invented_numbers
from agents.scripted.honest import PLAIN_STRATEGY
from engine.core.strategy import parse_strategy
from engine.errors import NotFound
from tests.agents import answer_set, fresh_answers

PYTHON = {"code": "def f(x):\n    return x\n", "summary": "Nothing changed."}


def test_the_set_has_fifty_honest_and_fifty_adversarial_answers():
    texts = [*answer_set.HONEST, *(text for texts in answer_set.ADVERSARIAL.values() for text in texts)]
    assert (len(answer_set.HONEST), len(texts), len(set(texts))) == (50, 100, 100)


@pytest.mark.parametrize("text", answer_set.HONEST)
def test_an_honest_answer_passes(text):
    assert not answer_set.refused(text)


@pytest.mark.parametrize(
    "text", [text for trick, texts in answer_set.ADVERSARIAL.items() if trick != "beyond the rule" for text in texts]
)
def test_an_adversarial_answer_is_refused(text):
    assert answer_set.refused(text)


def test_the_confusion_table_names_what_the_rule_cannot_see():
    table = answer_set.confusion_table()
    assert table.splitlines()[1].split() == ["honest", "50", "0"]
    assert [line for line in table.splitlines() if line.startswith("  accepted")] == [
        f"  accepted (beyond the rule): {text}" for text in answer_set.BEYOND
    ]


@pytest.mark.parametrize("text", answer_set.WORDED_HONEST)
def test_honest_words_and_named_figures_pass(text):
    assert not answer_set.refused(text)


@pytest.mark.parametrize("text", answer_set.WORDED_ADVERSARIAL)
def test_shares_multiples_russian_words_and_swapped_names_are_refused(text):
    assert answer_set.refused(text)


def test_answers_written_after_the_rules_are_judged_as_noted():
    found = {text: answer_set.refused(text) for text in fresh_answers.ALL}
    assert found == fresh_answers.ALL


@given(st.floats(0.001, 99_999, allow_nan=False), st.integers(0, 4))
def test_any_fact_rounded_any_way_is_among_the_facts(value, digits):
    shown = f"{value:.{digits}f}"
    if digits == 0 and float(shown) < 10:
        return
    assert invented_numbers(f"The figure is {shown} here.", facts_from({"x": value})) == []
    assert invented_numbers(f"The figure is {float(shown):,.{digits}f} here.", facts_from({"x": value})) == []


@given(st.floats(1, 9_999, allow_nan=False), st.floats(1.02, 50))
def test_a_figure_off_by_two_percent_or_more_is_not_among_the_facts(value, factor):
    shown = f"{value * factor:.4f}"
    assert invented_numbers(f"The figure is {shown} here.", facts_from({"x_usdt": value})) == [shown]


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text):
    invented_numbers(text, facts_from({"x": 1.5, "text": text}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "blank"),
        ("\u200b \n", "blank"),
        ("no", "not one JSON object"),
        ("[1]", "valid dictionary"),
        ("{" * 5_000, "not one JSON object"),
        ('{"code": "def f(:", "summary": "s"}', "does not parse"),
        ('{"code": "  ", "summary": "s"}', "empty"),
        ('{"code": "x = 1", "summary": "s", "more": 1}', "more: Extra inputs"),
        (json.dumps({**PYTHON, "summary": "It is 12 % faster."}), "not in the brief: 12 %"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_compactly(text, problem):
    judged = judge(text, CodeChange, Evidence(brief={"speed": 1.0}))
    assert judged.value is None
    assert problem in " ".join(judged.problems)
    assert all(len(each) <= 300 for each in judged.problems)


def test_a_fenced_answer_is_unpacked_and_code_may_hold_any_figure():
    code = {**PYTHON, "code": "LIMIT = 12345.678\n"}
    judged = judge(f"```json\n{json.dumps(code)}\n```", CodeChange, Evidence(brief={}))
    assert judged.value is not None


def test_a_strategy_must_be_one_of_our_language():
    draft = {"idea": "Trend.", "expected_weakness": "Sideways markets.", "strategy": json.dumps(PLAIN_STRATEGY)}
    assert judge(json.dumps(draft), StrategyDraft, Evidence(brief={})).problems == ()
    wrong = {**draft, "strategy": json.dumps({"name": "x", "long_entry": "close > tomorrow"})}
    assert "the strategy is not valid" in judge(json.dumps(wrong), StrategyDraft, Evidence(brief={})).problems[0]
    parse_strategy(PLAIN_STRATEGY)


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("https://example.org/paper", True),
        ("https://www.example.org/paper/", True),
        ("https://example.org/paper?page=2", False),
        ("https://example.org/other", False),
        ("https://example.org.evil.example/paper", False),
        ("https://user@example.org/paper", False),
        ("javascript:alert(1)", False),
        ("ftp://example.org/paper", False),
    ],
)
def test_an_address_must_be_one_of_the_search_results(url, is_fine):
    review = {"summary": "Known.", "statements": [{"statement": "It lags.", "url": url}]}
    evidence = Evidence(brief={}, urls=["https://example.org/paper"])
    assert (judge(json.dumps(review), LiteratureReview, evidence).value is not None) is is_fine
    if url.startswith("http"):
        assert (judge(f"See {url} for more.", None, evidence).value is not None) is is_fine


@pytest.mark.parametrize(
    "text",
    [
        "The Sortino ratio divides the mean excess return by the downside deviation and hides how often losses come.",
        "1. It ignores 2 things: skew and autocorrelation.\n2. It is annualised by the square root of 365 (or 252).",
        "For example, returns of 5.3 %, -3.1 % and 7.7 % give 1.83.",
        "A 95 % confidence interval of one year of daily returns is wide. See `window = 37`.",
        "Sortino wrote about it in 1991; a ratio above 2 is often called good.",
        "Use SMA200 on 1h candles.",
    ],
)
def test_a_general_answer_without_a_brief_names_nothing_unchecked(text):
    assert judge(text, None, Evidence()).unchecked == ()


@pytest.mark.parametrize(
    "text", ["the figures are 73.1337 %", "It closed 7 trades.", "Drawdown reached 23.1%.", "Seventy percent won."]
)
def test_a_figure_that_reads_like_data_is_unchecked_without_a_brief(text):
    judged = judge(text, None, Evidence())
    assert judged.unchecked
    assert judged.note.startswith("no figure of this answer was checked: there was no brief")


def test_a_proposal_may_name_new_figures_and_nothing_else_may():
    reading = {
        "reading": "A thin edge.",
        "weaknesses": ["Few trades."],
        "next_experiments": [{"change": "Try a stop of 3.5 %", "why": "Smaller losses."}],
    }
    assert judge(json.dumps(reading), BacktestReading, Evidence(brief={})).problems == ()
    reading["next_experiments"] = [{"change": "Try it", "why": "It wins 73 % of the time."}]
    assert "next_experiments.0.why" in judge(json.dumps(reading), BacktestReading, Evidence(brief={})).problems[0]


def test_forms_are_found_by_name():
    assert form_named("BacktestReading") is BacktestReading
    with pytest.raises(NotFound):
        form_named("Poem")
