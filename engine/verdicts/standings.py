"""Where the research behind a run stands: its study, the ledger's chain, the holdout and what became of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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


async def is_ledger_intact(store: Store, studies: Iterable[StudyRecord]) -> bool:
    """Say whether every chain holds and none is shorter than its witness remembers."""
    known = list(studies)
    for study in known:
        if study.rolled_back_ms is not None or study.witness_lost_ms is not None:
            return False
        if not (await store.verify_chain(study.id)).intact:
            return False
    return bool(known)


async def standing_of(
    run: ReopenedRun,
    studies: Sequence[StudyRecord],
    returns: FloatColumn,
    *,
    intact: bool,
    backtests: Backtests,
    holdouts: Holdouts,
) -> Standing:
    """Return where the research stands; `studies` are all that the run was evaluated in, `returns` its daily returns.

    The run has one past, whatever it is filed under: a holdout that any of the studies keeps back is kept back from all,
    and one that was opened or seen for any of them is so for each.
    """
    simulated = "simulated" in run.manifest["data"]["source"]
    if not studies:
        facts = Standings(False, 0, math.nan, math.nan, math.nan, intact, simulated)
        return Standing(facts, {"state": "none"}, ("no ledger knows this run: it was stored by an older version",))
    openings = _openings_over(studies)
    own = next((each for each in openings if each.run_id == run.record.id), None)
    figures = await _figures(own, backtests, holdouts)
    low, high = (math.nan, math.nan) if figures is None else holdout_band(returns, int(figures["days"]))
    # What was opened for another run, could not be read or saw no trade leaves nothing unseen that confirms this one.
    kept_back = own is None and any(study.sealed_from_ms is not None for study in studies)
    confirms = kept_back or (figures is not None and figures["sharpe"] is not None)
    facts = Standings(
        sealed=confirms and any(study.sealed for study in studies),
        spent=_spent(openings, own),
        already_seen=_seen(studies),
        openings=len(openings),
        holdout_sharpe=_sharpe(figures),
        holdout_low=low,
        holdout_high=high,
        ledger_intact=intact,
        simulated=simulated,
    )
    return Standing(facts, _told(studies, openings, own, figures, facts), _notes(studies, facts))


def _openings_over(studies: Sequence[StudyRecord]) -> list[Opening]:
    """Return the acts that opened bars of the holdouts of these studies, oldest first, each once."""
    acts = {each.id: each for study in studies for each in (*study.openings, *study.slice_openings)}
    return sorted(acts.values(), key=lambda each: (each.at_ms, each.id))


def _spent(openings: Sequence[Opening], own: Opening | None) -> str:
    """Return by whom the holdout was opened before it could confirm this run."""
    before = [each for each in openings if own is None or (each.at_ms, each.id) < (own.at_ms, own.id)]
    if not before:
        return ""
    first = before[0]
    return (
        f"bars of the holdout were opened {len(before)} time{'' if len(before) == 1 else 's'} before, "
        f"at {iso_utc(first.at_ms)} for {first.run_id} in study {first.study!r}"
    )


def _seen(studies: Sequence[StudyRecord]) -> str:
    rows = {each["study"]: each for study in studies for each in study.already_seen}
    told = ", ".join(
        f"{each['trials']} trial{'' if each['trials'] == 1 else 's'} of study {name!r} until {iso_utc(each['until_ms'])}"
        for name, each in sorted(rows.items())
    )
    return f"before it was sealed, it had been evaluated by {told}" if told else ""


async def _figures(opening: Opening | None, backtests: Backtests, holdouts: Holdouts) -> dict[str, Any] | None:
    if opening is None or opening.holdout_run_id is None:
        return None
    if opening.figures is not None:
        return dict(opening.figures)
    try:
        card = await backtests.card(opening.holdout_run_id, 0)
    except LabError:
        # What older versions found lies under a later seal: what nobody can read confirms nothing.
        return {"days": 0, "sharpe": None, "total_return": None}
    return await holdouts.part_after(card, opening.from_ms)


def _sharpe(figures: Mapping[str, Any] | None) -> float:
    """Return the Sharpe ratio of an opened holdout: 0 where nothing was traded, minus infinity where all was lost."""
    if figures is None:
        return math.nan
    if figures["sharpe"] is not None:
        return float(figures["sharpe"])
    return -math.inf if figures["total_return"] is not None and figures["total_return"] < 0 else 0.0


def _told(
    studies: Sequence[StudyRecord],
    openings: Sequence[Opening],
    own: Opening | None,
    figures: dict[str, Any] | None,
    facts: Standings,
) -> dict[str, Any]:
    told: dict[str, Any] = {"state": "none", "openings": len(openings)}
    starts = [study.sealed_from_ms for study in studies if study.sealed_from_ms is not None]
    if starts:
        told |= {"state": "sealed", "from": iso_utc(min(starts))}
    if openings:
        last = own or openings[-1]
        told |= {
            "state": "spent",
            "from": told.get("from") or iso_utc(last.from_ms),
            "opened_for": last.run_id,
            "opened_in": last.study,
            "opened": iso_utc(last.at_ms),
        }
    if figures is not None and own is not None:
        told |= {
            "run_id": own.holdout_run_id,
            "days": figures["days"],
            "sharpe": figures["sharpe"],
            "total_return": figures["total_return"],
            "band_low": facts.holdout_low,
            "band_high": facts.holdout_high,
        }
    seen = sorted({each["study"] for study in studies for each in study.already_seen})
    return told | ({"already_seen_by": seen} if seen else {})


def _notes(studies: Sequence[StudyRecord], facts: Standings) -> tuple[str, ...]:
    notes: list[str] = []
    if facts.openings:
        notes.append(f"holdout_spent: opened {facts.openings} times; it confirms nothing any more")
    if facts.already_seen:
        notes.append("bars of the holdout had been evaluated before it was sealed")
    if any(study.rolled_back_ms is not None for study in studies):
        notes.append("the database was older than its witness remembers: trials are missing from it")
    if any(study.witness_lost_ms is not None for study in studies):
        notes.append("the ledger's witness was gone once, so nobody can vouch for the trials before")
    return tuple(notes)
