"""Research loop: an idea becomes a strategy in our language, is tested, searched and judged by the server's own tools, and reported."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from agents.answers import Answer, Experiment, Line, StrategyDraft, Text, register_form
from agents.pipelines import loop_steps
from agents.pipelines.loop_steps import Backtested, Judged, LoopGiven, Searched, Validated
from agents.pipelines.step import AgentStep, Past, Pipeline, StepQuestion, ToolStep


@register_form
class Hypothesis(Answer):
    """An idea as something that a test can refute."""

    hypothesis: Text
    rests_on: Line
    refuted_by: Line
    may_mislead: Line


@register_form
class ResearchReport(Answer):
    """What came of the research."""

    summary: Text
    evidence: Annotated[list[Line], Field(min_length=1, max_length=6)]
    weaknesses: Annotated[list[Line], Field(min_length=1, max_length=6)]
    next_experiments: Annotated[list[Experiment], Field(min_length=1, max_length=3)]


def _idea(past: Past) -> StepQuestion:
    return StepQuestion(Hypothesis, brief=_request(past))


def _strategy(past: Past) -> StepQuestion:
    idea = past.of("idea", Hypothesis)
    return StepQuestion(StrategyDraft, brief={**_request(past), "research": idea.model_dump(mode="json")})


def _report(past: Past) -> StepQuestion:
    draft = past.of("strategy", StrategyDraft)
    brief: dict[str, Any] = {
        "verdict": past.of("verdict", Judged).model_dump(mode="json"),
        "backtest": past.of("backtest", Backtested).model_dump(mode="json"),
        "search": past.of("optimise", Searched).model_dump(mode="json"),
        "request": _request(past),
        "hypothesis": past.of("idea", Hypothesis).model_dump(mode="json"),
        "strategy": json.loads(draft.strategy),
    }
    return StepQuestion(ResearchReport, brief=brief)


def _request(past: Past) -> dict[str, Any]:
    return past.asked(LoopGiven).model_dump(mode="json", exclude_none=True)


RESEARCH_LOOP = Pipeline(
    name="research-loop",
    summary="idea, strategy, validate, backtest, optimise, verdict, report",
    given=LoopGiven,
    steps=(
        AgentStep("idea", "reason", "step-idea", _idea),
        AgentStep("strategy", "code", "step-write-strategy", _strategy),
        ToolStep("validate", Validated, loop_steps.validate),
        ToolStep("backtest", Backtested, loop_steps.backtest),
        ToolStep("optimise", Searched, loop_steps.optimise),
        ToolStep("verdict", Judged, loop_steps.judge),
        AgentStep("report", "document", "step-report", _report),
    ),
)
