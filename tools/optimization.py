"""Searches of parameters: grid, learned or random draws, walk-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from engine.core.run_settings import read_settings
from engine.core.series import Category, clean_symbol
from engine.core.times import parse_range_ms
from tools.arguments import Bar, End, Market, Sealed, Start, StudyName, Symbol
from tools.declare import LabHandle, tool

if TYPE_CHECKING:
    from engine.core.timeframes import Interval
    from engine.searches.searches import SearchOrder, Started

NO_SETTINGS: dict[str, Any] = {}

Strategy = Annotated[str | dict[str, Any], Field(description="Name or document")]
Objective = Annotated[
    str | dict[str, float] | list[str],
    Field(description='Metric, weights such as {"sharpe":1,"max_drawdown":-0.5}, or competing metrics'),
]
MinTrades = Annotated[int, Field(ge=0, le=100_000, description="Fewer: not ranked")]
Constraints = Annotated[list[str] | None, Field(max_length=10, description='"fast < slow"')]
Costs = Annotated[dict[str, Any], Field(description="As in run_backtest")]
Ranges = Annotated[
    dict[str, Any], Field(description='{"fast":{"from":5,"to":50,"step"?,"log"?}} or lists of values', min_length=1)
]


class SearchHandle(BaseModel):
    """A search that was started, or that did or does the same already."""

    job_id: str
    state: str
    total: int = Field(description="Evaluations it takes; each counts as a trial of the study")
    skipped: int = Field(description="Grid points that break a constraint")
    study: dict[str, Any]
    next: str


@tool("writes", core=True, asks_exchange=True)
async def start_grid_search(
    strategy: Strategy,
    grid: Annotated[
        dict[str, Any],
        Field(
            description='{"fast":[5,10],"slow":{"from":30,"to":120,"step":10}}',
            min_length=1,
        ),
    ],
    symbol: Symbol,
    start: Start,
    end: End,
    interval: Bar = "15",
    category: Market = "linear",
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Backtest every combination of a grid as a job; follow with wait_for_job, then get_job_result.

    Prefer few values for few parameters: every point is a trial and raises expected_max_sharpe.
    """
    order = _order(
        strategy, symbol, category, interval, (start, end), settings, objective, min_trades, constraints, study, sealed
    )
    return _handle(await lab.searches.start("grid", order, {"grid": grid}))


@tool("writes", core=True, asks_exchange=True)
async def start_bayesian_search(
    strategy: Strategy,
    space: Ranges,
    symbol: Symbol,
    start: Start,
    end: End,
    interval: Bar = "15",
    category: Market = "linear",
    trials: Annotated[int, Field(ge=1, le=1_000_000, description="Points to try")] = 200,
    sampler: Annotated[Literal["tpe", "random"], Field(description="tpe learns from earlier points")] = "tpe",
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0,
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Search ranges too large for a grid, by a Bayesian sampler or by chance; follow with wait_for_job."""
    order = _order(
        strategy, symbol, category, interval, (start, end), settings, objective, min_trades, constraints, study, sealed
    )
    search = {"space": space, "trials": trials, "sampler": sampler, "seed": seed}
    return _handle(await lab.searches.start("bayesian", order, search))


@tool("writes", core=True, asks_exchange=True)
async def start_walk_forward(
    strategy: Strategy,
    search: Annotated[
        dict[str, Any],
        Field(description='{"grid"} or {"space","trials","sampler","seed"} as in the other searches'),
    ],
    symbol: Symbol,
    start: Start,
    end: End,
    interval: Bar = "15",
    category: Market = "linear",
    mode: Annotated[Literal["rolling", "anchored"], Field(description="Window moves along, or grows")] = "rolling",
    windows: Annotated[int, Field(ge=1, le=100, description="Refits")] = 6,
    in_sample_ratio: Annotated[float, Field(gt=0, lt=1, description="Of the first window")] = 0.7,
    purge_bars: Annotated[
        int | None, Field(ge=0, le=100_000, description="Left out before a test; default: longest stay or warm-up")
    ] = None,
    embargo_bars: Annotated[int, Field(ge=0, le=100_000, description="Left out too")] = 0,
    objective: Objective = "sharpe",
    min_trades: MinTrades = 10,
    constraints: Constraints = None,
    settings: Costs = NO_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
) -> SearchHandle:
    """Refit on each window, test on the bars after it, and join the tests: what the way of searching earns unseen."""
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
