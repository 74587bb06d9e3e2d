"""What judges a search: its trials, and the holdout that was kept back from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Resolve
from pydantic import BaseModel, ConfigDict, Field

from engine.core.times import iso_utc
from tools.arguments import Cursor, RunId, next_cursor, offset_of
from tools.asking import consent
from tools.declare import LabHandle, ProgressHandle, tool

_YEAR_DAYS = 365
_REMARKABLE = ("imported_into_seal", "imported_beside_seal", "copy_sealed", "rolled_back", "opening_recalled")
_REMARKS = 10


class HoldoutResult(BaseModel):
    """How a strategy did on bars nobody had seen, beside what it did on those it was chosen on."""

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
            {"at": iso_utc(each.at_ms), "run_id": each.run_id, "reason": each.reason} for each in study.openings
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
