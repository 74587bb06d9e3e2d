"""What judges a run: the verdict, the single examinations, all trials, and the holdout that was kept back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import Resolve
from pydantic import BaseModel, ConfigDict, Field

from engine.core.times import iso_utc
from tools.arguments import Cursor, RunId, next_cursor, offset_of
from tools.asking import consent
from tools.declare import LabHandle, ProgressHandle, tool

if TYPE_CHECKING:
    from engine.jobs import JobView

NOTHING: list[Literal["regimes", "cpcv"]] = []
_YEAR_DAYS = 365
_REMARKABLE = ("imported_into_seal", "imported_beside_seal", "copy_sealed", "rolled_back", "opening_recalled")
_REMARKS = 10
# A verdict that another process computes is waited for this long; then it is a job like any other.
_DIRECT_S = 20.0


class WorkingJob(BaseModel):
    """A job that does what would take too long for an answer."""

    job_id: str
    state: str
    next: str


class CheckLine(BaseModel):
    """One line of the checklist; passed is null where it does not apply."""

    name: str
    value: float | None
    threshold: str
    passed: bool | None
    why: str


class VerdictResult(BaseModel):
    """The verdict on a run. No agent can overrule it. All null where a job works on it."""

    run_id: str
    verdict: Literal["robust", "candidate", "fragile", "rejected"] | None = None
    checks: list[CheckLine] = Field(default_factory=list[CheckLine])
    caps: list[str] = Field(default_factory=list[str], description="What else holds the verdict down")
    trials: int | None = Field(default=None, description="Distinct strategies it was weighed by")
    trials_elsewhere: int | None = Field(default=None, description="Of them, by other studies on these bars")
    probes: int | None = Field(default=None, description="Expressions evaluated on these bars; each counts as a trial")
    compared_trials: int | None = Field(default=None, description="On the same days as the run")
    effective_trials: float | None = Field(default=None, description="Independent ones among all of them")
    expected_max_sharpe: float | None = Field(
        default=None, description="Annualised, of the best of them without any skill"
    )
    sharpe: float | None = None
    study: dict[str, Any] | None = None
    holdout: dict[str, Any] | None = None
    ledger_intact: bool | None = None
    source: str | None = None
    notes: list[str] = Field(default_factory=list[str])
    regimes: dict[str, Any] | None = Field(default=None, description="Days and profit; a day counts where its eve was")
    cpcv: dict[str, Any] | None = Field(
        default=None, description="Sharpe of out-of-sample paths of choosing the best trial"
    )
    job: WorkingJob | None = None


@tool("reads", core=True)
async def get_verdict(
    run_id: RunId,
    include: Annotated[list[Literal["regimes", "cpcv"]], Field(max_length=2, description="Further tables")] = NOTHING,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> VerdictResult:
    """Judge a run by a fixed checklist that knows every trial beside it: robust, candidate, fragile or rejected."""
    await progress(0, None, "gathering the trials")
    request = {"run_id": run_id, "include": include}
    if await lab.verdicts.takes_long(run_id):
        return VerdictResult(run_id=run_id, job=await _job(lab, "verdict", request))
    if lab.jobs.has_workers and await lab.verdicts.has_many_trials(run_id):
        job = await lab.jobs.wait((await lab.jobs.submit("verdict", request)).id, _DIRECT_S)
        if job.state != "done":
            return VerdictResult(run_id=run_id, job=_working(job))
        return VerdictResult.model_validate(await lab.jobs.result(job.id))
    return VerdictResult.model_validate(await lab.verdicts.judge(run_id, include))


class MonteCarloAnswer(BaseModel):
    """Percentiles over all paths; returns and drawdowns are fractions. All null where a job works on it."""

    run_id: str
    method: str
    simulations: int
    final_equity_ratio: dict[str, float] | None = Field(default=None, description="Over the starting capital")
    cagr: dict[str, float] | None = None
    max_drawdown: dict[str, float] | None = Field(default=None, description="Measured at trades, or days")
    ruin_level: float | None = Field(default=None, description="Share of the starting capital left")
    ruin_probability: float | None = None
    mean_block_days: float | None = None
    run: dict[str, float | int | None] | None = None
    source: str | None = None
    job: WorkingJob | None = None


@tool("reads")
async def run_monte_carlo(
    run_id: RunId,
    method: Literal["trades_permutation", "trades_resample", "block_bootstrap"] = "block_bootstrap",
    simulations: Annotated[int, Field(ge=100, le=20_000)] = 2_000,
    ruin_fraction: Annotated[float, Field(gt=0, le=1, description="Loss that is ruin")] = 0.5,
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> MonteCarloAnswer:
    """Show what else a run could have come to: percentiles, risk of ruin. Blocks are of days."""
    await progress(0, None, "drawing paths")
    if await lab.examinations.monte_carlo_takes_long(run_id, method, simulations):
        asked = {"method": method, "simulations": simulations, "ruin_fraction": ruin_fraction, "seed": seed}
        job = await _job(lab, "monte_carlo", {"run_id": run_id, **asked})
        return MonteCarloAnswer(run_id=run_id, method=method, simulations=simulations, job=job)
    found = await lab.examinations.monte_carlo(run_id, method, simulations, ruin_fraction, seed)
    return MonteCarloAnswer.model_validate(found)


class StressLine(BaseModel):
    """One scenario."""

    scenario: str
    net_profit: float = Field(description="Median of the draws")
    sharpe: float | None
    max_drawdown: float
    change: float | None = Field(description="Of net profit, fraction")
    worst_net_profit: float
    draws: int


class StressTable(BaseModel):
    """A run under adverse conditions; none of them counts as a trial."""

    run_id: str
    source: str | None = None
    seed: int | None = None
    items: list[StressLine] = Field(default_factory=list[StressLine])
    job: WorkingJob | None = None


@tool("reads")
async def run_stress_test(run_id: RunId, *, lab: LabHandle, progress: ProgressHandle) -> StressTable:
    """Run a backtest again with higher costs, more slippage, one bar late, trades missed at random, and blurred prices."""
    await progress(0, None, "running the scenarios")
    if await lab.examinations.stress_takes_long(run_id):
        return StressTable(run_id=run_id, job=await _job(lab, "stress", {"run_id": run_id}))
    return StressTable.model_validate(await lab.examinations.stress(run_id))


class LookAhead(BaseModel):
    """Whether the past of a run changes with its future, and its end with its beginning."""

    run_id: str
    causal: bool
    cuts: int
    comparisons: int
    compared_trades: int
    leaks: list[str]
    net_profit: float | None
    net_profit_one_bar_later: float | None
    history: list[dict[str, float]] = Field(description="Last bars recomputed with that many bars before them")
    last_bars: int


@tool("reads")
async def check_lookahead(
    run_id: RunId,
    cuts: Annotated[int, Field(ge=1, le=100, description="Random bars at which the future changes")] = 20,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> LookAhead:
    """Replay a run on cut, blanked and made-up futures, one bar late, and with shorter histories."""
    await progress(0, None, "replaying")
    return LookAhead.model_validate(await lab.examinations.look_ahead(run_id, cuts))


class HoldoutResult(BaseModel):
    """How a strategy did on the bars that were kept back, beside what it did on those it was chosen on."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    run_id: str
    holdout_run_id: str
    opened: str
    reason: str
    studies: list[str] = Field(description="That held the seal; their holdout is spent")
    openings: int = Field(description="On record")
    since: str = Field(alias="from", description="Start of the holdout")
    end: str
    source: str
    in_sample: dict[str, float | int | None]
    holdout: dict[str, float | int | None]
    warnings: list[str]


@tool("deletes", asks_exchange=True)
async def open_holdout(
    run_id: RunId,
    reason: Annotated[str, Field(min_length=3, max_length=400, description="Why this run; goes on record")],
    confirm: Annotated[bool | None, Field(description="Must be true where the host cannot ask the user")] = None,
    *,
    agreed: Annotated[bool, Resolve(consent("Open the sealed holdout? It can be done once and never undone."))],
    lab: LabHandle,
    progress: ProgressHandle,
) -> HoldoutResult:
    """Evaluate one chosen run on its study's sealed holdout: once, on record, for good. The seal is lifted for everyone."""
    del confirm, agreed  # without consent the call does not get here
    return HoldoutResult.model_validate(await lab.holdouts.open(run_id, reason, progress))


class TrialList(BaseModel):
    """Trials of a study, or the studies there are."""

    study: dict[str, Any] | None
    items: list[dict[str, Any]]
    total: int
    next_cursor: str | None
    withheld: int = Field(description="Trials not shown: they rest on sealed bars")


@tool("reads")
async def list_trials(
    study: Annotated[str | None, Field(max_length=64, description="Without it: the studies")] = None,
    sort: Annotated[
        Literal["newest", "sharpe", "total_return", "max_drawdown", "trades"], Field(description="Best first")
    ] = "newest",
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> TrialList:
    """List the strategies evaluated in a study, or all studies with trials, seal and openings."""
    offset = offset_of(cursor)
    if study is None:
        studies = await lab.store.list_studies(limit=limit, offset=offset)
        rows = [_study_row(each) for each in studies.items]
        following = next_cursor(offset, len(rows), studies.total)
        return TrialList(study=None, items=rows, total=studies.total, next_cursor=following, withheld=0)
    found = await lab.store.study(study)
    page = await lab.store.list_trials(found.id, sort=sort, limit=limit, offset=offset)
    shown = page.total - page.withheld
    told = _study_row(found) | {
        "market_trials": await lab.store.market_trial_count(found.id),
        "already_seen": [
            {"study": each["study"], "until": iso_utc(each["until_ms"]), "trials": each["trials"]}
            for each in found.already_seen
        ],
        "remarks": [
            {"at": iso_utc(each.at_ms), "kind": each.kind, **each.document}
            for each in (await lab.store.study_events(found.id, _REMARKABLE))[-_REMARKS:]
        ],
    }
    return TrialList(
        study=told,
        items=[_trial_row(each) for each in page.items],
        total=page.total,
        next_cursor=next_cursor(offset, len(page.items), shown),
        withheld=page.withheld,
    )


async def _job(lab: LabHandle, kind: str, request: dict[str, Any]) -> WorkingJob:
    return _working(await lab.jobs.submit(kind, request))


def _working(job: JobView) -> WorkingJob:
    return WorkingJob(job_id=job.id, state=job.state, next=f'wait_for_job {{"job_id":"{job.id}"}}, then get_job_result')


def _study_row(study: Any) -> dict[str, Any]:
    remarks = {"rolled_back": study.rolled_back_ms, "witness_lost": study.witness_lost_ms}
    return {
        "id": study.id,
        "name": study.name,
        "market": f"{'+'.join(study.symbols)} {study.category}",
        "trials": study.trials,
        "sealed": study.sealed,
        "sealed_from": None if study.sealed_from_ms is None else iso_utc(study.sealed_from_ms),
        "openings": [
            {"at": iso_utc(each.at_ms), "run_id": each.run_id, "reason": each.reason, "study": each.study}
            for each in study.slice_openings
        ],
        **{name: iso_utc(at_ms) for name, at_ms in remarks.items() if at_ms is not None},
    }


def _trial_row(trial: Any) -> dict[str, Any]:
    return {
        "number": trial.number,
        "strategy": trial.strategy,
        "params": dict(trial.params),
        "symbol": trial.symbol,
        "interval": trial.interval,
        "start": iso_utc(trial.start_ms),
        "end": iso_utc(trial.end_ms),
        "trades": trial.trades,
        "sharpe": None if trial.daily_sharpe is None else trial.daily_sharpe * _YEAR_DAYS**0.5,
        "total_return": trial.total_return,
        "max_drawdown": trial.max_drawdown,
        "origin": trial.origin,
    }
