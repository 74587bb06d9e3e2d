"""Searches of parameters: grid, learned or random draws, walk-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from engine.core.run_settings import read_settings
from engine.core.series import Category, clean_symbol
from engine.core.times import parse_range_ms
from tools.arguments import Code
from tools.declare import LabHandle, tool

if TYPE_CHECKING:
    from engine.core.timeframes import Interval
    from engine.searches.searches import SearchOrder, Started

NO_SETTINGS: dict[str, Any] = {}


def _briefly(kind: str | None, description: str, **more: Any) -> WithJsonSchema:
    """Return a schema of few words: these arguments stand in three tools, and run_backtest describes them in full."""
    return WithJsonSchema({**({"type": kind} if kind else {}), "description": description, **more})


Strategy = Annotated[
    str | dict[str, Any],
    _briefly(None, "Name or document", anyOf=[{"type": "string"}, {"type": "object"}]),
]
Symbol = Annotated[str, Field(min_length=2, max_length=40), _briefly("string", "E.g. BTCUSDT")]
Time = Annotated[str, Field(max_length=40), _briefly("string", "ISO 8601 UTC")]
Bar = Annotated[Code, _briefly("string", "Minutes, or D W M")]
Objective = Annotated[
    str | dict[str, float] | list[str],
    _briefly(
        None,
        'Metric, {"sharpe":1,"cagr":2} or rivals',
        anyOf=[{"type": "string"}, {"type": "object"}, {"type": "array", "items": {"type": "string"}}],
    ),
]
MinTrades = Annotated[int, Field(ge=0, le=100_000), _briefly("integer", "Fewer: unranked")]
Constraints = Annotated[
    list[str] | None,
    Field(max_length=10),
    _briefly("array", '"fast < slow"', items={"type": "string"}),
]
Costs = Annotated[dict[str, Any], _briefly("object", "As run_backtest")]
StudyName = Annotated[str | None, Field(max_length=64), _briefly("string", "Default: scratch")]
Sealed = Annotated[bool | None, _briefly("boolean", "Keep a holdout")]
Ranges = Annotated[
    dict[str, Any],
    Field(min_length=1),
    _briefly("object", '{"fast":{"from":5,"to":50,"step"?,"log"?}} or lists'),
]


class SearchHandle(BaseModel):
    """A search that was started, or that did or does the same already."""

    job_id: str
    state: str
    total: int = Field(description="Evaluations it takes; each counts as a trial of the study")
    skipped: int = Field(0, description="Grid points that break a constraint")
    study: dict[str, Any] = Field(default_factory=dict[str, Any])
    next: str


@tool("writes", core=True, asks_exchange=True, task=True)
async def start_grid_search(
    strategy: Strategy,
    grid: Annotated[
        dict[str, Any],
        Field(min_length=1),
        _briefly("object", '{"fast":[5,10],"slow":{"from":30,"to":120,"step":10}}'),
    ],
    symbol: Symbol,
    start: Time,
    end: Time,
    interval: Bar = "15",
    category: Category = "linear",
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Backtest every point of a grid, as a job. Keep it small: each point is a trial."""
    order = _order(
        strategy, symbol, category, interval, (start, end), settings, objective, min_trades, constraints, study, sealed
    )
    return _handle(await lab.searches.start("grid", order, {"grid": grid}))


@tool("writes", core=True, asks_exchange=True, task=True)
async def start_bayesian_search(
    strategy: Strategy,
    space: Ranges,
    symbol: Symbol,
    start: Time,
    end: Time,
    interval: Bar = "15",
    category: Category = "linear",
    trials: Annotated[int, Field(ge=1, le=1_000_000), _briefly("integer", "Points to try")] = 200,
    sampler: Annotated[Literal["tpe", "random"], Field()] = "tpe",
    seed: Annotated[int, Field(ge=0, le=2**31), _briefly("integer", "Of chance")] = 0,
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Search wide ranges by a sampler that learns (tpe) or by chance, as a job."""
    order = _order(
        strategy, symbol, category, interval, (start, end), settings, objective, min_trades, constraints, study, sealed
    )
    search = {"space": space, "trials": trials, "sampler": sampler, "seed": seed}
    return _handle(await lab.searches.start("bayesian", order, search))


@tool("writes", core=True, asks_exchange=True, task=True)
async def start_walk_forward(
    strategy: Strategy,
    search: Annotated[dict[str, Any], _briefly("object", '{"grid"} or {"space","trials","sampler","seed"}')],
    symbol: Symbol,
    start: Time,
    end: Time,
    interval: Bar = "15",
    category: Category = "linear",
    mode: Literal["rolling", "anchored"] = "rolling",
    windows: Annotated[int, Field(ge=1, le=100, description="Refits")] = 6,
    in_sample_ratio: Annotated[float, Field(gt=0, lt=1), _briefly("number", "Of a window")] = 0.7,
    purge_bars: Annotated[
        int | None, Field(ge=0, le=100_000), _briefly("integer", "Default: longest stay or warm-up")
    ] = None,
    embargo_bars: Annotated[int, Field(ge=0, le=100_000), _briefly("integer", "Besides")] = 0,
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Refit on each window and test on the bars after it, as a job."""
    order = _order(
        strategy, symbol, category, interval, (start, end), settings, objective, min_trades, constraints, study, sealed
    )
    split = {
        "mode": mode,
        "windows": windows,
        "in_sample_ratio": in_sample_ratio,
        "purge_bars": purge_bars,
        "embargo_bars": embargo_bars,
    }
    return _handle(await lab.searches.start_walk_forward(order, search, split))


def _order(
    strategy: str | dict[str, Any],
    symbol: str,
    category: Category,
    interval: Interval,
    between: tuple[str, str],
    settings: dict[str, Any],
    objective: str | dict[str, float] | list[str],
    min_trades: int,
    constraints: list[str] | None,
    study: str | None,
    sealed: bool | None,
) -> SearchOrder:
    from engine.searches.searches import SearchOrder  # pulls the database library, which tools/list must not wait for

    return SearchOrder(
        strategy=strategy,
        symbol=clean_symbol(symbol),
        category=category,
        interval=interval,
        range_ms=parse_range_ms(*between),
        settings=read_settings(settings),
        objective=objective,
        min_trades=min_trades,
        constraints=tuple(constraints or ()),
        study=study,
        sealed=sealed,
    )


def _handle(started: Started) -> SearchHandle:
    job, study = started.job, started.study
    return SearchHandle(
        job_id=job.id,
        state=job.state,
        total=started.total,
        skipped=started.skipped,
        study={"id": study.id, "name": study.name, "trials": study.trials},
        next=f'wait_for_job {{"job_id":"{job.id}"}}',
    )
