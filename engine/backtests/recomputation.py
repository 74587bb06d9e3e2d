"""Stored runs computed again from their manifests, and what differs from what was stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.backtests.computation import ENGINE_VERSION, Outcome, compute, outcome_sha256
from engine.backtests.portfolios import Part, Sharing, compute_portfolio
from engine.backtests.reopening import inputs_again, strategy_again
from engine.backtests.stopping import ShouldStop, run_off_loop
from engine.core.candles import Candles
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.strategy import CompiledStrategy
from engine.core.times import iso_utc
from engine.errors import DataMissing
from engine.history import LoadedCandles
from engine.run_inputs import RunInputSource
from engine.store import RunRecord, Store

# So many differences are told.
_MOST_DIFFERENCES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Recomputed:
    """A stored run computed again, the candles it rests on, and whether its data are still those it was made of."""

    outcome: Outcome
    candles: Candles
    is_unchanged: bool


async def recompute(record: RunRecord, store: Store, source: RunInputSource) -> Recomputed:
    """Compute a stored run again on what is stored now."""
    manifest = json.loads(record.manifest)
    settings = RunSettings.model_validate(manifest["settings"])
    run = _StoredRun(record.id, manifest, strategy_again(manifest), settings, store, source)
    return await (run.portfolio() if "portfolio" in manifest else run.single())


async def recompute_unchanged(record: RunRecord, store: Store, source: RunInputSource) -> Recomputed:
    """Compute a stored run again; raises when its data changed or are gone."""
    again = await recompute(record, store, source)
    if not again.is_unchanged:
        raise DataMissing(
            f"the data of {record.id} have changed or are gone, so it cannot be shown again",
            fix="run the backtest again; get_run and get_trades still show the stored one",
        )
    return again


def compare_with_stored(record: RunRecord, trades: Mapping[str, Any], again: Recomputed) -> dict[str, Any]:
    """Return whether a run came out again to the byte, and the first of what differs."""
    stored, outcome = json.loads(record.result), again.outcome
    stored_sha256 = outcome_sha256(stored, trades)
    differences = [] if again.is_unchanged else ["the stored candles are not those of the run"]
    differences += [
        f"metric {name}: was {stored['metrics'][name]!r}, is {value!r}"
        for name, value in outcome.result["metrics"].items()
        if stored["metrics"].get(name) != value
    ]
    if stored_sha256 != outcome.sha256 and not differences:
        differences.append("trades or provenance differ")
    return {
        "run_id": record.id,
        "identical": stored_sha256 == outcome.sha256,
        "data_unchanged": again.is_unchanged,
        "differences": differences[:_MOST_DIFFERENCES],
        "stored_sha256": stored_sha256,
        "recomputed_sha256": outcome.sha256,
        "engine_then": json.loads(record.manifest)["engine"],
        "engine_now": ENGINE_VERSION,
    }


@dataclass(frozen=True, slots=True)
class _StoredRun:
    """A stored run on its way to be computed again."""

    run_id: str
    manifest: Mapping[str, Any]
    compiled: CompiledStrategy
    settings: RunSettings
    store: Store
    source: RunInputSource

    @property
    def range_ms(self) -> tuple[int, int]:
        return self.manifest["data"]["start_ms"], self.manifest["data"]["end_ms"]

    async def single(self) -> Recomputed:
        manifest = self.manifest
        described = manifest["data"] | {"instrument": manifest["instrument"], "inputs": manifest["inputs"]}
        part, is_unchanged = await self.part(described)
        outcome = await asyncio.to_thread(
            compute, self.compiled, manifest["strategy"]["origin"], part.loaded, part.series, self.range_ms,
            self.settings, part.rules, part.inputs,
        )  # fmt: skip
        return Recomputed(outcome, part.loaded.candles, is_unchanged)

    async def portfolio(self) -> Recomputed:
        shared, origin = self.manifest["portfolio"], self.manifest["strategy"]["origin"]
        again = [await self.part(described) for described in shared["legs"]]
        parts, sharing = [part for part, _ in again], Sharing(shared["weights"], shared["max_positions"])

        def work(should_stop: ShouldStop) -> Outcome:
            return compute_portfolio(
                self.compiled, origin, parts, self.range_ms, self.settings, sharing, should_stop=should_stop
            )

        outcome = await run_off_loop(work)
        return Recomputed(outcome, outcome.candles, all(is_unchanged for _, is_unchanged in again))

    async def part(self, described: Mapping[str, Any]) -> tuple[Part, bool]:
        """Return one symbol as it is stored now, and whether it is what the manifest describes."""
        data, (start_ms, end_ms) = self.manifest["data"], self.range_ms
        series = Series(data["feed"], data["category"], described["symbol"], "trade", data["interval"])
        candles = await self.store.read_candles(series, start_ms, end_ms)
        if len(candles) == 0:
            raise DataMissing(
                f"the candles of {self.run_id} are not stored any more",
                fix=f"fetch {series} from {iso_utc(start_ms)} to {iso_utc(end_ms)} again with start_backfill",
            )
        inputs = await inputs_again(self.source, series, candles, self.settings, self.compiled, described["inputs"])
        loaded = LoadedCandles(candles, described["source"], tuple(tuple(gap) for gap in described["gaps"]), 0)
        is_unchanged = candles.sha256() == described["sha256"] and inputs.described == described["inputs"]
        return Part(series, loaded, described["instrument"], inputs), is_unchanged
