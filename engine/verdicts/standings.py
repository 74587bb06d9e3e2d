"""Where the research behind a run stands: its study, the ledger's chain, the holdout and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.backtests import Backtests, Holdouts
from engine.backtests.reopening import ReopenedRun
from engine.core.candles import FloatColumn
from engine.core.times import iso_utc
from engine.core.verdict import Standings
from engine.core.verdict.holdout import holdout_band
from engine.errors import LabError
from engine.store import Store
from engine.store.study_store import Opening, StudyRecord


@dataclass(frozen=True, slots=True)
class Standing:
    """What the checklist looks at, and the same for people."""

    facts: Standings
    holdout: dict[str, Any]
    notes: tuple[str, ...]


async def is_ledger_intact(store: Store, studies: Sequence[StudyRecord]) -> bool:
    """Say whether every chain holds and none is shorter than its witness remembers."""
    for study in studies:
        if study.rolled_back_ms is not None or study.witness_lost_ms is not None:
            return False
        if not (await store.verify_chain(study.id)).intact:
            return False
    return bool(studies)


async def standing_of(
    run: ReopenedRun,
    study: StudyRecord | None,
    returns: FloatColumn,
    *,
    intact: bool,
    backtests: Backtests,
    holdouts: Holdouts,
) -> Standing:
    """Return where the research stands; `returns` are the run's daily returns."""
    simulated = "simulated" in run.manifest["data"]["source"]
    if study is None:
        facts = Standings(False, 0, math.nan, math.nan, math.nan, intact, simulated)
        return Standing(facts, {"state": "none"}, ("no ledger knows this run: it was stored by an older version",))
    opening = _opening_of(study, run.record.id)
    figures = await _figures(opening, backtests, holdouts)
    low, high = (math.nan, math.nan) if figures is None else holdout_band(returns, int(figures["days"]))
    # What was opened for another run, could not be read or saw no trade leaves nothing unseen that confirms this one.
    confirms = study.sealed_from_ms is not None or (figures is not None and figures["sharpe"] is not None)
    facts = Standings(study.sealed and confirms, len(study.openings), _sharpe(figures), low, high, intact, simulated)
    return Standing(facts, _told(study, opening, figures, facts), _notes(study))


def _opening_of(study: StudyRecord, run_id: str) -> Opening | None:
    return next((each for each in reversed(study.openings) if each.run_id == run_id), None)


async def _figures(opening: Opening | None, backtests: Backtests, holdouts: Holdouts) -> dict[str, Any] | None:
    if opening is None or opening.holdout_run_id is None:
        return None
    try:
        card = await backtests.card(opening.holdout_run_id, 0)
    except LabError:
        # A later seal may lie on the very bars; then nobody is told.
        return None
    return await holdouts.part_after(card, opening.from_ms)


def _sharpe(figures: Mapping[str, Any] | None) -> float:
    """Return the Sharpe ratio of an opened holdout: 0 where nothing was traded, minus infinity where all was lost."""
    if figures is None:
        return math.nan
    if figures["sharpe"] is not None:
        return float(figures["sharpe"])
    return -math.inf if figures["total_return"] is not None and figures["total_return"] < 0 else 0.0


def _told(
    study: StudyRecord, opening: Opening | None, figures: dict[str, Any] | None, facts: Standings
) -> dict[str, Any]:
    told: dict[str, Any] = {"state": "none", "openings": len(study.openings)}
    if study.sealed_from_ms is not None:
        told |= {"state": "sealed", "from": iso_utc(study.sealed_from_ms)}
    elif study.openings:
        last = opening or study.openings[-1]
        told |= {
            "state": "spent",
            "from": iso_utc(last.from_ms),
            "opened_for": last.run_id,
            "opened": iso_utc(last.at_ms),
        }
    if figures is not None and opening is not None:
        told |= {
            "run_id": opening.holdout_run_id,
            "days": figures["days"],
            "sharpe": figures["sharpe"],
            "total_return": figures["total_return"],
            "band_low": facts.holdout_low,
            "band_high": facts.holdout_high,
        }
    if study.already_seen:
        told["already_seen_by"] = [each["study"] for each in study.already_seen]
    return told


def _notes(study: StudyRecord) -> tuple[str, ...]:
    notes: list[str] = []
    if study.openings and study.sealed_from_ms is None:
        notes.append(f"holdout_spent: opened {len(study.openings)} times; it confirms nothing any more")
    if study.already_seen:
        notes.append("bars of the holdout had been evaluated before it was sealed")
    if study.rolled_back_ms is not None:
        notes.append("the database was older than its witness remembers: trials are missing from it")
    if study.witness_lost_ms is not None:
        notes.append("the ledger's witness was gone once, so nobody can vouch for the trials before")
    return tuple(notes)
