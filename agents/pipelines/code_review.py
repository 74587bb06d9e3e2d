"""Code review: analyse, improve, summarise."""

from __future__ import annotations

from agents.answers import CodeReview
from agents.pipelines.code_forms import CodeGiven, ReviewSummary, material, revision_form
from agents.pipelines.step import AgentStep, Past, Pipeline, StepQuestion


def _analyse(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    return StepQuestion(CodeReview, context=material(given), wish=given.wish)


def _improve(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    review = past.of("analyse", CodeReview)
    return StepQuestion(revision_form(given), context=material(given, review=review), wish=given.wish)


def _summarise(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    review = past.of("analyse", CodeReview)
    revised = past.outputs["improve"]
    return StepQuestion(ReviewSummary, context=material(given, review=review, revised=revised))


CODE_REVIEW = Pipeline(
    name="code-review",
    summary="analyse, improve, summarise",
    given=CodeGiven,
    steps=(
        AgentStep("analyse", "audit", "step-analyse", _analyse),
        AgentStep("improve", "code", "step-improve", _improve),
        AgentStep("summarise", "document", "step-summarise", _summarise),
    ),
)
