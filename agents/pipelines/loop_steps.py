"""The computed steps of the research loop: validate, backtest, search, judge, all through the server's tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, Field, model_validator

from agents.answers import StrategyDraft
from agents.pipelines.step import Found, Given, Past, checked
from agents.toolbox import Toolbox, ToolRefused
from engine.core.series import Category, clean_symbol
from engine.core.timeframes import parse_interval
from engine.core.times import parse_range_ms, parse_time_ms
from engine.errors import BadRequest, DataMissing, Refused

# Three values a parameter and two parameters: a search that stays small beside what it is judged by.
_SEARCHED_PARAMETERS = 2
_STEP_FRACTION = 0.25
_SHOWN_POINTS = 5
_SHOWN_METRICS = (
    "trades",
    "total_return",
    "buy_and_hold_return",
    "sharpe",
    "sortino",
    "max_drawdown",
    "profit_factor",
    "win_rate",
    "net_profit",
    "fees_paid",
    "final_equity",
    "final_capital",
)


class LoopGiven(Given):
    """An idea, and the market and period to test it on."""

    idea: Annotated[str, Field(min_length=3, max_length=4_000)]
    symbol: Annotated[str, Field(min_length=2, max_length=40), AfterValidator(checked(clean_symbol))]
    start: Annotated[
        str, Field(max_length=40, description="ISO 8601 UTC, inclusive"), AfterValidator(checked(parse_time_ms))
    ]
    end: Annotated[str, Field(max_length=40, description="Exclusive"), AfterValidator(checked(parse_time_ms))]
    interval: Annotated[
        str, Field(max_length=4, description="Minutes, or D W M"), AfterValidator(checked(parse_interval))
    ] = "60"
    category: Category = "linear"
    study: Annotated[str | None, Field(max_length=64, description="Name of the study that counts the trials")] = None
    sealed: Annotated[bool | None, Field(description="Whether a new study keeps a holdout back; default true")] = None

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        """Refuse a range that ends before it begins, before an agent is paid for an idea about it."""
        checked(lambda _: parse_range_ms(self.start, self.end))(self.start)
        return self


class Validated(Found):
    """The strategy as the server reads it."""

    name: str
    valid: bool
    warnings: list[str]


class Backtested(Found):
    """A stored run of the strategy at its defaults."""

    run_id: str
    source: str
    metrics: dict[str, Any]
    fetched_candles: bool


class Searched(Found):
    """A small grid around the defaults, best first, and the run that goes on to be judged."""

    done: bool
    reason: str
    run_id: str
    params: dict[str, float]
    points: list[dict[str, Any]]
    trials: int | None
    expected_max_sharpe: float | None


class Judged(Found):
    """What the server says of the run; no agent had a part in it."""

    run_id: str
    verdict: str
    by: str
    checks: list[dict[str, Any]]
    notes: list[str]


async def validate(past: Past, tools: Toolbox) -> Validated:
    """Have the server read the strategy."""
    document = _document(past)
    told = await tools.call("validate_strategy", {"document": document})
    if told.get("valid") is False:
        raise BadRequest("the strategy is not valid", fix=json.dumps(told.get("problems") or told)[:800])
    return Validated(
        name=str(document["name"]), valid=True, warnings=[str(each) for each in told.get("warnings") or ()]
    )


async def backtest(past: Past, tools: Toolbox) -> Backtested:
    """Run the strategy at its defaults; candles that are missing are fetched first."""
    arguments = _backtest_arguments(past, tools)
    fetched = False
    try:
        card = await tools.call("run_backtest", arguments)
    except ToolRefused as refusal:
        if refusal.refused_code != DataMissing.code:
            raise
        await _fetch(past, tools)
        fetched = True
        card = await tools.call("run_backtest", arguments)
    return Backtested(run_id=str(card["run_id"]), source=_source(card), metrics=_metrics(card), fetched_candles=fetched)


async def optimise(past: Past, tools: Toolbox) -> Searched:
    """Search a few values around the defaults, and run the best point so that it can be judged."""
    first = past.of("backtest", Backtested)
    grid = _grid(_document(past))
    if not tools.takes("start_grid_search", "grid"):
        return _not_searched(first.run_id, "this server offers no start_grid_search")
    if not grid:
        return _not_searched(first.run_id, "the strategy has no parameter with bounds")
    request = {**_backtest_arguments(past, tools), "grid": grid}
    started = await tools.call("start_grid_search", request)
    result = await _finished(tools, str(started["job_id"]))
    points = [_point(item) for item in cast("list[dict[str, Any]]", result.get("items") or [])[:_SHOWN_POINTS]]
    best = next((point for point in points if point["score"] is not None), None)
    if best is None:
        return _not_searched(first.run_id, "no point of the grid traded often enough to be ranked")
    params = {name: float(value) for name, value in best["params"].items()}
    card = await tools.call("run_backtest", {**_backtest_arguments(past, tools), "params": params})
    return Searched(
        done=True,
        reason="",
        run_id=str(card["run_id"]),
        params=params,
        points=points,
        trials=result.get("trials"),
        expected_max_sharpe=result.get("expected_max_sharpe"),
    )


async def judge(past: Past, tools: Toolbox) -> Judged:
    """Ask for the verdict, or, on a server without one, for the flags of the run."""
    run_id = past.of("optimise", Searched).run_id
    if tools.takes("get_verdict", "run_id"):
        told = await tools.call("get_verdict", {"run_id": run_id})
        if "verdict" not in told and "job_id" in told:
            told = dict((await _finished(tools, str(told["job_id"])))["items"][0])
        checks = [_lean(check) for check in cast("list[dict[str, Any]]", told.get("checks") or [])]
        notes = [str(each) for each in [*(told.get("caps") or []), *(told.get("notes") or [])]]
        return Judged(run_id=run_id, verdict=str(told["verdict"]), by="get_verdict", checks=checks, notes=notes)
    if tools.takes("analyze_backtest_results", "run_id"):
        told = await tools.call("analyze_backtest_results", {"run_id": run_id, "agent": "none"})
        flags = cast("list[Any]", told["brief"].get("flags") or [])
        checks = [each if isinstance(each, dict) else {"flag": str(each)} for each in flags]
        notes = ["this server offers no get_verdict: flags are reasons for doubt, not a verdict"]
        return Judged(run_id=run_id, verdict="not judged", by="analyze_backtest_results", checks=checks, notes=notes)
    raise Refused("this server offers no tool that judges a run", fix="offer get_verdict (toolset validation)")


async def _fetch(past: Past, tools: Toolbox) -> None:
    given = past.asked(LoopGiven)
    market = {"symbol": given.symbol, "category": given.category, "interval": given.interval}
    started = await tools.call("start_backfill", {**market, "start": given.start, "end": given.end})
    await _finished(tools, str(started["job_id"]))


async def _finished(tools: Toolbox, job_id: str) -> dict[str, Any]:
    """Wait for a job as any client would, and return its result."""
    while True:
        told = await tools.call("wait_for_job", {"job_id": job_id, "wait_seconds": 20})
        if told["state"] == "done":
            return await tools.call("get_job_result", {"job_id": job_id, "limit": _SHOWN_POINTS})
        if told["state"] not in {"queued", "running"}:
            error: Mapping[str, Any] = told.get("error") or {"message": f"{job_id} was {told['state']}"}
            raise ToolRefused("wait_for_job", error)


def _document(past: Past) -> dict[str, Any]:
    return json.loads(past.of("strategy", StrategyDraft).strategy)


def _backtest_arguments(past: Past, tools: Toolbox) -> dict[str, Any]:
    given = past.asked(LoopGiven)
    arguments: dict[str, Any] = {
        "strategy": _document(past),
        "symbol": given.symbol,
        "category": given.category,
        "interval": given.interval,
        "start": given.start,
        "end": given.end,
    }
    if given.study and tools.takes("run_backtest", "study"):
        arguments["study"] = given.study
    if given.sealed is not None and tools.takes("run_backtest", "sealed"):
        arguments["sealed"] = given.sealed
    return arguments


def _grid(document: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a few values around the defaults of the first parameters that have bounds."""
    grid: dict[str, list[float]] = {}
    for name, about in cast("dict[str, Any]", document.get("params") or {}).items():
        if not isinstance(about, dict) or len(grid) == _SEARCHED_PARAMETERS:
            continue
        described = cast("dict[str, Any]", about)
        if "min" not in described or "max" not in described:
            continue
        grid[name] = _values(described)
    return {name: values for name, values in grid.items() if len(values) > 1}


def _values(about: Mapping[str, Any]) -> list[float]:
    low, high, default = float(about["min"]), float(about["max"]), float(about["default"])
    step = (high - low) / 4 if default == 0 else abs(default) * _STEP_FRACTION
    values = [min(high, max(low, default + step * sign)) for sign in (-1, 0, 1)]
    if about.get("integer"):
        values = [float(round(value)) for value in values]
    return sorted(set(values))


def _point(item: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("rank", "params", "score", "neighbours")
    metrics = cast("dict[str, Any]", item.get("metrics") or {})
    return {name: item.get(name) for name in shown} | {
        "metrics": {name: metrics[name] for name in _SHOWN_METRICS if name in metrics}
    }


def _lean(check: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in check.items() if value is not None}


def _metrics(card: Mapping[str, Any]) -> dict[str, Any]:
    metrics = cast("dict[str, Any]", card.get("metrics") or {})
    return {name: metrics[name] for name in _SHOWN_METRICS if name in metrics}


def _source(card: Mapping[str, Any]) -> str:
    data = cast("dict[str, Any]", card.get("data") or {})
    return str(card.get("source") or data.get("source") or "unknown")


def _not_searched(run_id: str, reason: str) -> Searched:
    return Searched(
        done=False, reason=reason, run_id=run_id, params={}, points=[], trials=None, expected_max_sharpe=None
    )
