"""Gathers the evidence about a stored run and lets the checklist judge it."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backtests import Backtests, Holdouts
from engine.backtests.reopening import ReopenedRun
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.metrics.facts import daily_marks
from engine.core.validation.regimes import GRID_NAMES, label_regimes
from engine.core.verdict import Evidence, OwnFacts, SearchFacts, StabilityFacts, Verdict, judge
from engine.core.verdict.combinations import CombinationFacts, follow_combinations
from engine.core.verdict.examination import Bench, own_facts, stability_facts
from engine.core.verdict.study import WalkForwardFacts, weigh_search
from engine.jobs import JobContext
from engine.searches.market import run_off_loop
from engine.store import Store
from engine.store.study_store import StudyRecord
from engine.verdicts import effort
from engine.verdicts.standings import Standing, is_ledger_intact, standing_of
from engine.verdicts.trials import TrialTable, lay_side_by_side, strictest_first
from engine.verdicts.walk_forwards import real_walk_forward

# Answers are the same for everybody who asks.
SEED = 0
_REMEMBERED = 32
SECTIONS = ("regimes", "cpcv")
# Weighing so many trials takes seconds, a good part of them in code that keeps the interpreter to itself.
_MANY_TRIALS = 1_000


@dataclass(frozen=True, slots=True)
class _Weighed:
    """What takes time: everything but the standing of the research."""

    own: OwnFacts
    search: SearchFacts
    stability: StabilityFacts
    regimes: dict[str, Any]
    combinations: CombinationFacts


class Verdicts:
    """Judges stored runs."""

    def __init__(self, store: Store, backtests: Backtests, holdouts: Holdouts) -> None:
        self._store = store
        self._backtests = backtests
        self._holdouts = holdouts
        self._remembered: OrderedDict[tuple[object, ...], _Weighed] = OrderedDict()

    async def takes_long(self, run_id: str) -> bool:
        """Say whether a verdict is too long for a direct answer."""
        return effort.verdict_bars(await self._backtests.record(run_id)) > effort.MOST_BARS

    async def has_many_trials(self, run_id: str) -> bool:
        """Say whether a verdict, though short enough for a direct answer, is better computed in another process."""
        return any(study.trials > _MANY_TRIALS for study in await self._store.studies_of_run(run_id))

    async def judge(
        self, run_id: str, include: Collection[str] = (), context: JobContext | None = None
    ) -> dict[str, Any]:
        """Return the verdict on a stored run with every figure it rests on."""
        run = await self._backtests.reopen(run_id)
        bench = bench_of(run)
        simulation = await asyncio.to_thread(bench.run, run.compiled)
        marks_ms, _ = daily_marks(run.candles.ts, simulation.equity, run.series.interval)
        returns = bench.daily_returns(simulation)
        studies = await strictest_first(self._store, await self._store.studies_of_run(run_id), run)
        study = studies[0] if studies else None
        walk_forward = await real_walk_forward(self._store, studies, run, marks_ms)
        table = await lay_side_by_side(self._store, study, run, marks_ms, returns)
        key = (run_id, *_stamp(study, table), None if walk_forward is None else walk_forward[0])
        weighed = self._remembered.get(key)
        if weighed is None:
            found = None if walk_forward is None else walk_forward[1]
            weighed = await run_off_loop(
                context or JobContext(run_id), lambda _: _weigh(run, bench, table, found, marks_ms)
            )
            self._remember(key, weighed)
        ledgers = {each.id: each for each in (*table.studies, *studies)}.values()
        intact = await is_ledger_intact(self._store, ledgers) and await self._store.are_probes_intact()
        standing = await standing_of(
            run, studies, returns, intact=intact, backtests=self._backtests, holdouts=self._holdouts
        )
        evidence = Evidence(weighed.own, weighed.search, weighed.stability, standing.facts)
        return _document(run, studies, table, judge(evidence), evidence, standing, weighed, include)

    def _remember(self, key: tuple[object, ...], weighed: _Weighed) -> None:
        self._remembered[key] = weighed
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)


def bench_of(run: ReopenedRun) -> Bench:
    """Return the market and the rules of a stored run."""
    return Bench(run.candles, run.series.interval, run.execution, run.inputs.detail, run.inputs.extras)


def _stamp(study: StudyRecord | None, table: TrialTable) -> tuple[object, ...]:
    if study is None:
        return None, table.probes
    return study.id, table.trials, table.probes, table.returns.shape, tuple(each.head for each in table.studies)


def _weigh(
    run: ReopenedRun, bench: Bench, table: TrialTable, walk_forward: WalkForwardFacts | None, marks_ms: TimeColumn
) -> _Weighed:
    simulation = bench.run(run.compiled)
    clean = np.where(np.isnan(table.returns).any(axis=1, keepdims=True), np.float32(0), table.returns)
    return _Weighed(
        own=own_facts(bench, simulation),
        search=weigh_search(
            table.returns,
            table.chosen,
            table.trials,
            table.costs,
            walk_forward=walk_forward,
            probes=table.probes,
            seed=SEED,
        ),
        stability=stability_facts(bench, run.compiled.document, run.compiled.params, seed=SEED),
        regimes=_profit_by_regime(bench, simulation.equity, len(marks_ms)),
        combinations=follow_combinations(clean),
    )


def _profit_by_regime(bench: Bench, equity: FloatColumn, days: int) -> dict[str, Any]:
    """Return profit and days of each regime; a day belongs to the regime its eve showed."""
    if days < 2:
        return {}
    _, closes = daily_marks(bench.candles.ts, bench.candles.close, bench.interval)
    _, marks = daily_marks(bench.candles.ts, equity, bench.interval)
    labels = label_regimes(closes)[:-1]
    earned = np.bincount(labels + 1, np.diff(marks), minlength=len(GRID_NAMES) + 1)
    counted = np.bincount(labels + 1, minlength=len(GRID_NAMES) + 1)
    names = ("too early to tell", *GRID_NAMES)
    return {
        name: {"days": int(counted[place]), "net_profit": shown(float(earned[place]))}
        for place, name in enumerate(names)
        if counted[place]
    }


def _document(
    run: ReopenedRun,
    studies: Sequence[StudyRecord],
    table: TrialTable,
    verdict: Verdict,
    evidence: Evidence,
    standing: Standing,
    weighed: _Weighed,
    include: Collection[str],
) -> dict[str, Any]:
    search, source = evidence.search, str(run.manifest["data"]["source"])
    notes = [*standing.notes, *_notes(source, table)]
    document: dict[str, Any] = {
        "run_id": run.record.id,
        "verdict": verdict.verdict,
        "checks": [
            {
                "name": each.name,
                "value": shown(each.value),
                "threshold": each.threshold,
                "passed": each.passed,
                "why": each.why,
            }
            for each in verdict.checks
        ],
        "caps": list(verdict.caps),
        "trials": table.trials,
        "trials_elsewhere": table.elsewhere,
        "probes": table.probes,
        "compared_trials": search.compared_trials,
        "effective_trials": shown(search.effective_trials),
        "expected_max_sharpe": shown(search.expected_max_sharpe),
        "sharpe": shown(evidence.own.sharpe),
        "study": _weighed_in(studies),
        "holdout": {name: shown(value) for name, value in standing.holdout.items()},
        "ledger_intact": evidence.standings.ledger_intact,
        "source": source,
        "notes": notes,
    }
    if "regimes" in include:
        document["regimes"] = weighed.regimes
    if "cpcv" in include:
        told: Mapping[str, Any] = {
            name: shown(getattr(weighed.combinations, name)) for name in ("splits", "paths", "low", "median", "high")
        }
        document["cpcv"] = dict(told)
    return document


def _weighed_in(studies: Sequence[StudyRecord]) -> dict[str, Any] | None:
    """Return the study a run was weighed in, and the others that it was evaluated in."""
    if not studies:
        return None
    first, *others = studies
    told = {"id": first.id, "name": first.name, "sealed": first.sealed, "trials": first.trials}
    return told | ({"others": [each.name for each in others]} if others else {})


def _notes(source: str, table: TrialTable) -> list[str]:
    notes: list[str] = []
    if "simulated" in source:
        notes.append("the candles are simulated: this says nothing about a real market")
    if "imported" in source:
        notes.append("candles were imported from a file: nobody here can say where they come from")
    if table.elsewhere > 0:
        notes.append(
            f"{table.elsewhere} trials on these bars were made in other studies; they count too, and are among trials"
        )
    if table.probes > 0:
        notes.append(
            f"{table.probes} expressions were evaluated on these bars; each counts as one more independent trial"
        )
    if table.copies:
        notes.append(f"the same market under other names: {', '.join(table.copies)}; what was tried there counts too")
    return notes


def shown(value: Any) -> Any:
    """Return a number with six digits, None for one that is not finite, anything else as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
