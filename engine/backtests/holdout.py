"""Opens a sealed holdout for one chosen run, once, and evaluates that run's strategy on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backtests.backtests import Backtests
from engine.core.metrics.facts import PERIODS_PER_YEAR
from engine.core.metrics.moments import return_moments
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.strategy import CompiledStrategy, compile_strategy, parse_strategy
from engine.core.timeframes import advance, ceil_open
from engine.core.times import iso_utc
from engine.errors import Conflict
from engine.history import Report
from engine.ports import Clock
from engine.store import Store
from engine.store.study_store import Opening, StudyRecord

SHOWN_METRICS = ("total_return", "sharpe", "max_drawdown", "trades", "win_rate", "profit_factor")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The run a holdout is opened for."""

    run_id: str
    series: Series
    compiled: CompiledStrategy
    origin: str
    settings: RunSettings
    metrics: Mapping[str, Any]


class Holdouts:
    """Opens sealed holdouts."""

    def __init__(self, store: Store, backtests: Backtests, clock: Clock) -> None:
        self._store = store
        self._backtests = backtests
        self._clock = clock

    async def open(self, run_id: str, reason: str, report: Report | None = None) -> dict[str, Any]:
        """Record the act, lift the seal for good, and evaluate the run's strategy on what was sealed.

        The act is on record before the first sealed bar is read. When the evaluation fails after that, asking again
        evaluates without another opening.
        """
        chosen = await self._chosen(run_id)
        opening = await self._unfinished(chosen) or await self._act(chosen, reason)
        held = [await self._store.study(each.study_id) for each in await self._rows_of(opening)]
        run = await self._evaluate(chosen, opening, held, report)
        figures = await self.part_after(run, opening.from_ms)
        await self._store.note_holdout_run(opening.id, run["run_id"], figures)
        shown = {name: chosen.metrics[name] for name in SHOWN_METRICS}
        return {
            "run_id": run_id,
            "holdout_run_id": run["run_id"],
            "opened": iso_utc(opening.at_ms),
            "reason": opening.reason,
            "studies": [study.name for study in held],
            "openings": max(len(study.slice_openings) for study in held),
            "from": iso_utc(opening.from_ms),
            "end": run["data"]["end"],
            "source": run["data"]["source"],
            "in_sample": shown,
            "holdout": figures,
            "warnings": _warnings(held, run),
        }

    async def _chosen(self, run_id: str) -> _Chosen:
        record = await self._backtests.record(run_id)
        manifest = json.loads(record.manifest)
        data, strategy = manifest["data"], manifest["strategy"]
        return _Chosen(
            run_id,
            Series(data["feed"], data["category"], data["symbol"], "trade", data["interval"]),
            compile_strategy(parse_strategy(strategy["document"]), strategy["params"]),
            strategy["origin"],
            RunSettings.model_validate(manifest["settings"]),
            json.loads(record.result)["metrics"],
        )

    async def _unfinished(self, chosen: _Chosen) -> Opening | None:
        """Return the opening made for this run that still lacks its evaluation."""
        made = await self._store.openings_of_run(chosen.run_id)
        return next((each for each in reversed(made) if each.holdout_run_id is None), None)

    async def _act(self, chosen: _Chosen, reason: str) -> Opening:
        studies = await self._store.studies_of_run(chosen.run_id)
        if not any(study.sealed_from_ms is not None for study in studies):
            raise await self._nothing_to_open(chosen, studies)
        series = chosen.series
        openings = await self._store.open_seal(
            series.feed,
            series.category,
            series.symbol,
            run_id=chosen.run_id,
            reason=reason,
            at_ms=self._clock.now_ms(),
        )
        return openings[0]

    async def _nothing_to_open(self, chosen: _Chosen, studies: list[StudyRecord]) -> Conflict:
        opened = [(study, study.slice_openings[-1]) for study in studies if study.slice_openings]
        if opened:
            study, last = opened[0]
            evaluated = last.holdout_run_id or "not evaluated yet"
            return Conflict(
                f"the holdout of study {study.name!r} is spent: opened {iso_utc(last.at_ms)} for {last.run_id}, "
                f"{len(study.slice_openings)} opening(s) on record",
                fix=f"its evaluation is {evaluated} (get_run); a new holdout needs a new study on later data",
            )
        withheld = await self._store.withheld(chosen.series.feed, chosen.series.category, chosen.series.symbol)
        if withheld is not None:
            return Conflict(
                f"{chosen.run_id} was evaluated in no study that holds the seal",
                fix=f'run it again with "study": "{withheld.study}", then open the holdout for that run',
            )
        return Conflict(
            f"no study of {chosen.run_id} holds a seal", fix="name a study in run_backtest: it is sealed by default"
        )

    async def _rows_of(self, opening: Opening) -> list[Opening]:
        return [each for each in await self._store.openings_of_run(opening.run_id) if each.id == opening.id]

    async def _evaluate(
        self, chosen: _Chosen, opening: Opening, held: list[StudyRecord], report: Report | None
    ) -> dict[str, Any]:
        """Run the strategy so that its first decision falls on the first sealed bar."""
        series = chosen.series
        first_ms = ceil_open(series.interval, opening.from_ms)
        start_ms = advance(series.interval, first_ms, -chosen.compiled.warmup_bars(series.interval))
        end_ms = max(study.range_ms[1] for study in held)
        evaluated = await self._backtests.evaluate_run(
            chosen.compiled, chosen.origin, series, (start_ms, end_ms), chosen.settings, report
        )
        for study in held:
            await self._store.link_run(evaluated["run_id"], study.id, at_ms=self._clock.now_ms())
        return evaluated

    async def part_after(self, run: Mapping[str, Any], from_ms: int) -> dict[str, Any]:
        """Return the figures of the sealed days alone: the warm-up before them is flat by construction."""
        marks = await self._store.run_equity(run["run_id"])
        equity = marks["equity"][marks["ts"] > from_ms]
        before = marks["equity"][marks["ts"] <= from_ms]
        base = float(before[-1]) if len(before) else float(run["metrics"]["initial_capital"])
        values = np.concatenate(([base], equity))
        figures: dict[str, Any] = {name: run["metrics"][name] for name in SHOWN_METRICS}
        solvent = bool(np.all(values > 0))
        sharpe, skew, kurtosis = (
            float(column[0]) if solvent else np.nan
            for column in return_moments((values[1:] / np.where(values[:-1] > 0, values[:-1], 1.0) - 1.0)[None, :])
        )
        figures |= {
            "sharpe": sharpe * PERIODS_PER_YEAR**0.5,
            "daily_sharpe": sharpe,
            "skew": skew,
            "kurtosis": kurtosis,
        }
        figures |= {"days": len(equity), "bars": run["data"]["bars"]}
        return {name: None if value is None or value != value else value for name, value in figures.items()}


def _warnings(held: list[StudyRecord], run: Mapping[str, Any]) -> list[str]:
    told = [
        f"study {study.name!r}: {len(study.already_seen)} studies had evaluated bars of the holdout before it was sealed"
        for study in held
        if study.already_seen
    ]
    told += [
        f"study {study.name!r}: holdout_spent, bars of the holdout were opened {len(study.slice_openings)} times"
        for study in held
        if len(study.slice_openings) > 1
    ]
    if "imported" in run["data"]["source"]:
        told.append("some of the holdout's bars were imported from a file, not answered by the exchange")
    return [*told, *run["warnings"]]
