"""Chains of questions, one file each."""

from collections.abc import Mapping

from agents.pipelines.code_review import CODE_REVIEW
from agents.pipelines.refactor_with_audit import REFACTOR_WITH_AUDIT
from agents.pipelines.research_loop import RESEARCH_LOOP
from agents.pipelines.step import Pipeline
from agents.pipelines.strategy_development import STRATEGY_DEVELOPMENT

PIPELINES: Mapping[str, Pipeline] = {
    each.name: each for each in (CODE_REVIEW, STRATEGY_DEVELOPMENT, REFACTOR_WITH_AUDIT, RESEARCH_LOOP)
}

__all__ = ["PIPELINES", "Pipeline"]
