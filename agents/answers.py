"""The forms of answers: one model for each kind of question. Texts in them are checked against the facts."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import NotFound

# Marks in the JSON schema say what a text is: code in a language, a cited address, a proposal that may name new figures.
LANGUAGE, CITED, PROPOSAL = "x-language", "x-cited", "x-proposal"

Text = Annotated[str, Field(min_length=1, max_length=4_000)]
Line = Annotated[str, Field(min_length=1, max_length=600)]
Proposal = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={PROPOSAL: True})]
CitedUrl = Annotated[str, Field(max_length=2_000, json_schema_extra={CITED: True})]
PythonCode = Annotated[str, Field(max_length=40_000, json_schema_extra={LANGUAGE: "python"})]
StrategyJson = Annotated[
    str,
    Field(
        max_length=40_000, description="The strategy document as JSON text", json_schema_extra={LANGUAGE: "strategy"}
    ),
]
Lines = Annotated[list[Line], Field(max_length=10)]


class Answer(BaseModel):
    """An answer in a fixed form."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Experiment(Answer):
    """Something to try next."""

    change: Proposal
    why: Line


class BacktestReading(Answer):
    """How to read a backtest."""

    reading: Text
    weaknesses: Annotated[list[Line], Field(min_length=1, max_length=6)]
    next_experiments: Annotated[list[Experiment], Field(min_length=1, max_length=3)]


class StrategyComparison(Answer):
    """An opinion on several strategies."""

    opinion: Text
    preferred: Annotated[str, Field(max_length=200, description="Run id or name; empty when none is better")]
    reasons: Annotated[list[Line], Field(min_length=1, max_length=6)]
    caveats: Lines


class RiskAdvice(Answer):
    """Advice on size and risk."""

    advice: Text
    warnings: Annotated[list[Line], Field(min_length=1, max_length=6)]
    suggestion: Proposal


class SourcedStatement(Answer):
    """A statement and where it was found."""

    statement: Line
    url: CitedUrl


class LiteratureReview(Answer):
    """What is known about a subject, with sources; none when the agent cannot search."""

    summary: Text
    statements: Annotated[list[SourcedStatement], Field(max_length=10)]


class MetricExplanation(Answer):
    """A metric in plain words."""

    explanation: Text
    pitfalls: Lines


class RegimeNarrative(Answer):
    """A market's state in words."""

    narrative: Text
    watch: Lines
    news: Annotated[list[SourcedStatement], Field(max_length=10)]


class ReviewFinding(Answer):
    """One finding of a review."""

    severity: Literal["high", "medium", "low"]
    where: Line
    problem: Line
    suggestion: Proposal


class CodeReview(Answer):
    """A review of a strategy or of code."""

    summary: Text
    findings: Annotated[list[ReviewFinding], Field(max_length=12)]
    verdict: Literal["revise", "accept", "reject"]


class ScenarioIdea(Answer):
    """A situation worth testing."""

    name: Line
    situation: Proposal
    expected: Proposal


class ScenarioIdeas(Answer):
    """Further ideas for tests."""

    scenarios: Annotated[list[ScenarioIdea], Field(min_length=1, max_length=8)]


class StrategyDraft(Answer):
    """A strategy in our language and the idea behind it."""

    strategy: StrategyJson
    idea: Text
    expected_weakness: Line


class CodeChange(Answer):
    """Changed Python code."""

    code: PythonCode
    summary: Text


class Audit(Answer):
    """A judgement on somebody else's work."""

    verdict: Literal["approve", "reject"]
    reasons: Annotated[list[Line], Field(min_length=1, max_length=8)]
    required_changes: Annotated[list[Proposal], Field(max_length=8)]


FORMS: dict[str, type[BaseModel]] = {
    form.__name__: form
    for form in (
        Audit,
        BacktestReading,
        CodeChange,
        CodeReview,
        LiteratureReview,
        MetricExplanation,
        RegimeNarrative,
        RiskAdvice,
        ScenarioIdeas,
        StrategyComparison,
        StrategyDraft,
    )
}


def register_form(form: type[BaseModel]) -> type[BaseModel]:
    """Make a form known by its name, so that an answer handed in later, even to another process, can be checked."""
    FORMS[form.__name__] = form
    return form


def form_named(name: str) -> type[BaseModel]:
    """Return a form by its name."""
    if name not in FORMS:
        raise NotFound(f"there is no form of answer {name!r}", fix=f"forms are {', '.join(sorted(FORMS))}")
    return FORMS[name]


@cache
def schema_of(form: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a form with its marks and without generated titles; the same object every time."""
    schema = _without_titles(form.model_json_schema())
    assert isinstance(schema, dict)  # noqa: S101  for the type checker: an object goes in, an object comes out
    return schema


def _without_titles(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_titles(each) for key, each in value.items() if not (key == "title" and isinstance(each, str))
        }
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    return value
