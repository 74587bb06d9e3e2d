"""Readings of what is stored: a brief of computed facts always, an agent's reading of it on top."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from agents.answers import (
    BacktestReading,
    CodeReview,
    LiteratureReview,
    MetricExplanation,
    RegimeNarrative,
    RiskAdvice,
    ScenarioIdeas,
    StrategyComparison,
)
from agents.prompting import prompt_text, prompt_version
from agents.questions import AgentProgress, AskRequest, RoutedAnswer
from engine.core.series import clean_symbol
from engine.errors import BadRequest
from tools.agent_answers import AgentAttempt, RouteTaken, attempts_of, route_of
from tools.arguments import Bar, Market, RunId, Symbol
from tools.declare import LabHandle, Progress, ProgressHandle, tool
from tools.lab import Lab

AUTO, BRIEF_ONLY = "auto", "none"
# A direct answer has 45 s; the brief comes first.
ASKING_SECONDS = 30.0

AgentName = Annotated[str, Field(max_length=32, description="none: brief only; or a name")]
StrategyGiven = Annotated[str | dict[str, Any], Field(description="Name or document")]


class AnalysisAnswer(BaseModel):
    """A brief of computed facts, and what came of asking an agent about it."""

    status: Literal["brief_only", "answered", "delegated"] = Field(
        description="delegated: answer by instructions and output_schema, then submit_analysis"
    )
    brief: dict[str, Any] = Field(description="Computed by the engine; every figure of an answer must come from here")
    agent: str | None = None
    served_model: str | None = None
    answer: dict[str, Any] | None = None
    attempts: list[AgentAttempt] = []
    cached: bool = False
    route: RouteTaken | None = None
    notes: list[str] = []
    instructions: str | None = None
    output_schema: dict[str, Any] | None = None
    submission_id: str | None = None


@tool("reads", core=True, third_party_text=True)
async def analyze_backtest_results(
    run_id: RunId, agent: AgentName = AUTO, *, lab: LabHandle, progress: ProgressHandle
) -> AnalysisAnswer:
    """Read a run: metrics, trade clusters, costs, regimes, concentration, flags, verdict."""
    brief = await lab.analyses.backtest(run_id)
    return await _answer(lab, progress, "analyze_backtest_results", brief, agent)


@tool("reads", core=True, third_party_text=True)
async def compare_strategies(
    run_ids: Annotated[list[RunId], Field(min_length=2, max_length=6)],
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Compare runs: metrics, paired tests on common days, correlation, dominance."""
    brief = await lab.analyses.comparison(run_ids)
    return await _answer(lab, progress, "compare_strategies", brief, agent)


@tool("reads", third_party_text=True)
async def risk_management_advice(
    run_id: RunId,
    capital: Annotated[float, Field(ge=0, le=1e12, description="0: the run's")] = 0,
    tolerance: Annotated[float, Field(gt=0, lt=1, description="Drawdown accepted, fraction")] = 0.2,
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Size a run's strategy: Kelly, ruin, drawdown simulation, liquidation distance."""
    brief = await lab.analyses.risk(run_id, capital or None, tolerance)
    return await _answer(lab, progress, "risk_management_advice", brief, agent)


@tool("reads", third_party_text=True)
async def technical_indicator_research(
    indicator: Annotated[str, Field(min_length=1, max_length=200, description="rsi, or rsi(close, 21)")],
    symbol: Symbol | None = None,
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Show an indicator's formula, source, warm-up, and behaviour on stored candles."""
    name = clean_symbol(symbol) if symbol else None
    brief = await lab.analyses.indicator(indicator, name, None, None)
    return await _answer(lab, progress, "technical_indicator_research", brief, agent)


@tool("reads", third_party_text=True)
async def explain_metric(
    name: Annotated[str, Field(min_length=1, max_length=60, description="sharpe, pbo, ...")],
    run_id: RunId | None = None,
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Explain a metric or statistical word; with a run its value and interval."""
    brief = await lab.analyses.metric(name, run_id)
    return await _answer(lab, progress, "explain_metric", brief, agent)


@tool("reads", core=True, asks_exchange=True, third_party_text=True)
async def market_regime_detection(
    symbol: Symbol,
    interval: Bar = "60",
    category: Market = "linear",
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Tell a market's trend and volatility regime, history, transitions; past bars only."""
    brief = await lab.analyses.regime(clean_symbol(symbol), category, interval, progress)
    return await _answer(lab, progress, "market_regime_detection", brief, agent)


@tool("reads", third_party_text=True)
async def code_review_strategy(
    strategy: StrategyGiven | None = None,
    code: Annotated[str | None, Field(max_length=40_000, description="Instead: Python or Pine")] = None,
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Review a strategy: look-ahead, overfitting smells, conditions that never hold, warm-up."""
    if (strategy is None) == (code is None):
        found = "neither a strategy nor code was given" if strategy is None else "both a strategy and code were given"
        raise BadRequest(found, fix="give one: strategy (name or document) or code (Python or Pine text)")
    brief = await (lab.analyses.code(code or "") if strategy is None else lab.analyses.strategy(strategy))
    return await _answer(lab, progress, "code_review_strategy", brief, agent, context=code or "")


@tool("writes", third_party_text=True)
async def generate_test_scenarios(
    strategy: StrategyGiven,
    agent: AgentName = AUTO,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> AnalysisAnswer:
    """Make scenarios for run_backtest: slices of stored markets, made-up markets (stored), what must come out."""
    brief = await lab.analyses.scenarios(strategy)
    return await _answer(lab, progress, "generate_test_scenarios", brief, agent)


# Kind of question and form of the answer, by tool.
_ASKED: dict[str, tuple[str, type[BaseModel]]] = {
    "analyze_backtest_results": ("reason", BacktestReading),
    "compare_strategies": ("reason", StrategyComparison),
    "risk_management_advice": ("reason", RiskAdvice),
    "technical_indicator_research": ("research", LiteratureReview),
    "explain_metric": ("explain", MetricExplanation),
    "market_regime_detection": ("explain", RegimeNarrative),
    "code_review_strategy": ("code", CodeReview),
    "generate_test_scenarios": ("code", ScenarioIdeas),
}


async def _answer(
    lab: Lab, progress: Progress, name: str, brief: dict[str, Any], agent: str, *, context: str = ""
) -> AnalysisAnswer:
    """Ask the analyst about a brief; the brief is part of every answer."""
    if agent == BRIEF_ONLY or lab.analyst is None:
        return AnalysisAnswer(status="brief_only", brief=brief)
    task, form = _ASKED[name]
    prompt = f"tool-{name}"
    request = AskRequest(
        prompt=prompt_text(prompt),
        task=task,
        context=context,
        agent=None if agent == AUTO else agent,
        schema=form,
        brief=brief,
        prompt_version=prompt_version(prompt),
        purpose=name,
        deadline_s=ASKING_SECONDS,
    )

    async def tell(step: AgentProgress) -> None:
        await progress(step.tokens, None, f"{step.agent}: {step.kind}")

    return _told(brief, request.prompt, await lab.analyst.ask(request, tell))


def _told(brief: dict[str, Any], asked: str, routed: RoutedAnswer) -> AnalysisAnswer:
    is_delegated = routed.status == "delegated"
    answer = routed.answer
    return AnalysisAnswer(
        status=routed.status,
        brief=brief,
        agent=routed.agent,
        served_model=routed.served_model or None,
        answer=answer.model_dump(mode="json") if isinstance(answer, BaseModel) else None,
        attempts=attempts_of(routed),
        cached=routed.cached,
        route=route_of(routed),
        notes=list(routed.notes),
        instructions=f"{routed.instructions}\n\n{asked}" if is_delegated else None,
        output_schema=dict(routed.output_schema) if is_delegated and routed.output_schema else None,
        submission_id=routed.submission_id,
    )
