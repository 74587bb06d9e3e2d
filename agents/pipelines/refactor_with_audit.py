"""Refactor with audit: refactor, audit, final."""

from __future__ import annotations

from agents.answers import Audit
from agents.pipelines.code_forms import CodeGiven, material, revision_form
from agents.pipelines.step import AgentStep, Past, Pipeline, StepQuestion


def _refactor(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    return StepQuestion(revision_form(given), context=material(given), wish=given.wish)


def _audit(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    return StepQuestion(Audit, context=material(given, refactored=past.outputs["refactor"]), wish=given.wish)


def _final(past: Past) -> StepQuestion:
    given = past.asked(CodeGiven)
    audit = past.of("audit", Audit)
    return StepQuestion(
        revision_form(given), context=material(given, refactored=past.outputs["refactor"], audit=audit), wish=given.wish
    )


REFACTOR_WITH_AUDIT = Pipeline(
    name="refactor-with-audit",
    summary="refactor, audit, final",
    given=CodeGiven,
    steps=(
        AgentStep("refactor", "code", "step-refactor", _refactor),
        AgentStep("audit", "audit", "step-audit", _audit),
        AgentStep("final", "code", "step-final", _final),
    ),
)
