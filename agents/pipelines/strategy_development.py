"""Strategy development: research, generate, document."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from agents.answers import Answer, Line, Lines, LiteratureReview, StrategyDraft, Text, register_form
from agents.pipelines.step import AgentStep, Given, Past, Pipeline, StepQuestion, checked
from engine.core.series import clean_symbol
from engine.core.timeframes import parse_interval


class IdeaGiven(Given):
    """An idea in plain words."""

    idea: Annotated[str, Field(min_length=3, max_length=4_000)]
    symbol: Annotated[
        str, Field(max_length=40, description="E.g. BTCUSDT"), AfterValidator(checked(clean_symbol, or_empty=True))
    ] = ""
    interval: Annotated[
        str,
        Field(max_length=4, description="Minutes, or D W M"),
        AfterValidator(checked(parse_interval, or_empty=True)),
    ] = ""
    material: Annotated[str, Field(max_length=30_000, description="Text to start from")] = ""


@register_form
class StrategyPage(Answer):
    """The documentation of a strategy."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    what_it_does: Text
    rules: Annotated[list[Line], Field(min_length=1, max_length=8)]
    how_to_refute_it: Line
    limits: Lines


def _research(past: Past) -> StepQuestion:
    given = past.asked(IdeaGiven)
    return StepQuestion(LiteratureReview, brief=_request(given), context=given.material)


def _generate(past: Past) -> StepQuestion:
    research = past.of("research", LiteratureReview)
    brief = {**_request(past.asked(IdeaGiven)), "research": research.model_dump(mode="json")}
    return StepQuestion(StrategyDraft, brief=brief, context=past.asked(IdeaGiven).material)


def _document(past: Past) -> StepQuestion:
    draft = past.of("generate", StrategyDraft)
    document: dict[str, Any] = json.loads(draft.strategy)
    brief = {
        **_request(past.asked(IdeaGiven)),
        "strategy": document,
        "idea_behind_it": draft.idea,
        "expected_weakness": draft.expected_weakness,
    }
    return StepQuestion(StrategyPage, brief=brief)


def _request(given: IdeaGiven) -> dict[str, Any]:
    return given.model_dump(mode="json", exclude={"material"}, exclude_defaults=True)


STRATEGY_DEVELOPMENT = Pipeline(
    name="strategy-development",
    summary="research, generate, document",
    given=IdeaGiven,
    steps=(
        AgentStep("research", "research", "step-research", _research),
        AgentStep("generate", "code", "step-write-strategy", _generate),
        AgentStep("document", "document", "step-document", _document),
    ),
)
