"""What the job of a search is asked to do, as one JSON document: everything its result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from engine.core.run_settings import RunSettings
from engine.core.search.objectives import Objective, RawObjective, read_objectives
from engine.core.search.space import Space, grid_points, read_grid, read_space
from engine.core.series import Category, Series
from engine.core.strategy_document import StrategyDocument, read_document
from engine.core.timeframes import Interval
from engine.errors import BadRequest
from engine.searches.proposals import GridProposer, Proposer, RandomProposer

Document = Mapping[str, Any]
Sampler = Literal["tpe", "random"]


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What is searched and where: the part that all kinds of searches share.

    Attributes
    ----------
    strategy : StrategyDocument
    series : Series
    start_ms, end_ms : int
    settings : RunSettings
    objective : str, dict or list
        As given; see `read_objectives`.
    min_trades : int
    constraints : sequence of str
    """

    strategy: StrategyDocument
    series: Series
    start_ms: int
    end_ms: int
    settings: RunSettings
    objective: RawObjective
    min_trades: int
    constraints: Sequence[str] = ()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Return the objectives."""
        return read_objectives(self.objective)

    def request(self, study_id: str, study: str | None, search: Document) -> dict[str, Any]:
        """Return the request of a job; `study` is the name of a study, None for the market's scratch study."""
        return {
            "feed": self.series.feed,
            "category": self.series.category,
            "symbol": self.series.symbol,
            "interval": self.series.interval,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "strategy": self.strategy.model_dump(mode="json", exclude_none=True),
            "settings": self.settings.model_dump(mode="json"),
            "objective": self.objective if isinstance(self.objective, str | Mapping) else list(self.objective),
            "min_trades": self.min_trades,
            "constraints": list(self.constraints),
            "study_id": study_id,
            "study": study,
            "search": dict(search),
        }


def target_of(request: Document) -> SearchTarget:
    """Return the target of a job's request."""
    category: Category = request["category"]
    interval: Interval = request["interval"]
    return SearchTarget(
        strategy=read_document(request["strategy"]),
        series=Series(request["feed"], category, request["symbol"], "trade", interval),
        start_ms=int(request["start_ms"]),
        end_ms=int(request["end_ms"]),
        settings=RunSettings.model_validate(request["settings"]),
        objective=cast("RawObjective", request["objective"]),
        min_trades=int(request["min_trades"]),
        constraints=request["constraints"],
    )


@dataclass(frozen=True, slots=True, eq=False)
class SearchPlan:
    """A checked search, before anything runs.

    Attributes
    ----------
    space : Space
    proposer : Proposer
    is_grid : bool
    skipped : int
        Points of a grid that break a condition.
    """

    space: Space
    proposer: Proposer
    is_grid: bool
    skipped: int


def plan_search(target: SearchTarget, search: Document, *, most_points: int, seed_offset: int = 0) -> SearchPlan:
    """Return the plan of `{grid}` or `{space, trials, seed, sampler}`; refuses one that is too large, or empty.

    `seed_offset` tells the refits of a walk-forward apart.
    """
    if ("grid" in search) == ("space" in search):
        raise BadRequest(
            "a search has either a grid or a space",
            fix='give {"grid": {"fast": [5, 10]}} or {"space": {"fast": {"from": 5, "to": 50}}, "trials": 100}',
        )
    if "grid" in search:
        space = read_grid(target.strategy, search["grid"], target.constraints, most_points=most_points)
        points = grid_points(space)
        if len(points.values) == 0:
            raise BadRequest("no point of the grid fulfils the constraints", fix="widen the grid or drop a constraint")
        return SearchPlan(space, GridProposer(points.values), is_grid=True, skipped=points.skipped)
    space = read_space(target.strategy, search["space"], target.constraints)
    trials = min(_whole(search, "trials", 100, least=1), space.size or most_points)
    if trials > most_points:
        raise BadRequest(f"{trials:,} trials", fix=f"at most {most_points:,} are run")
    seed = _whole(search, "seed", 0, least=0) + seed_offset
    proposer: Proposer
    if search.get("sampler", "tpe") == "random":
        proposer = RandomProposer(space, trials, seed)
    else:
        from engine.searches.sampler import ParzenProposer

        proposer = ParzenProposer(space, target.objectives, target.min_trades, trials, seed)
    if len(proposer.propose(0, _nothing(space))) == 0:
        raise BadRequest("no point of the space fulfils the constraints", fix="widen the space or drop a constraint")
    return SearchPlan(space, proposer, is_grid=False, skipped=0)


def _whole(search: Document, name: str, default: int, *, least: int) -> int:
    value = search.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadRequest(f"{name} of the search is {value!r}", fix=f"{name} is a whole number of at least {least}")
    return value


def _nothing(space: Space) -> Any:
    from engine.core.search.table import PointTable

    return PointTable.joined(space.names, [])
