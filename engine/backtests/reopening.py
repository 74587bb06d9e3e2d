"""A stored run made ready to be examined: on the very candles and inputs it rested on, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.backtests.computation import execution_settings
from engine.backtests.evaluation import evaluation_slice
from engine.core.candles import Candles
from engine.core.evaluations import EvaluationSlice
from engine.core.execution import ExecutionSettings
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.strategy import CompiledStrategy, compile_strategy, parse_strategy
from engine.errors import BadRequest, DataMissing
from engine.run_inputs import RunInputs, RunInputSource, tiers_from_manifest
from engine.store import RunRecord, Store


@dataclass(frozen=True, slots=True, eq=False)
class ReopenedRun:
    """A stored run with everything it was computed from.

    Attributes
    ----------
    record : RunRecord
    manifest : dict
    compiled : CompiledStrategy
    series : Series
    candles : Candles
    settings : RunSettings
    execution : ExecutionSettings
    inputs : RunInputs
    """

    record: RunRecord
    manifest: Mapping[str, Any]
    compiled: CompiledStrategy
    series: Series
    candles: Candles
    settings: RunSettings
    execution: ExecutionSettings
    inputs: RunInputs

    @property
    def slice(self) -> EvaluationSlice:
        """Return what the run was recorded under as a trial."""
        rules = self.manifest["instrument"]
        return evaluation_slice(self.series, self.candles, self.settings, rules, self.inputs.described)


async def reopen(record: RunRecord, store: Store, source: RunInputSource) -> ReopenedRun:
    """Return a stored run ready to be examined; raises when its data changed or are gone."""
    manifest = json.loads(record.manifest)
    if "portfolio" in manifest:
        raise BadRequest(
            f"{record.id} shares its capital among several symbols, and only a run of one symbol can be examined",
            fix="run the strategy on each symbol alone with run_backtest, in the same study, and examine those runs: "
            "the shared run counts among their trials",
        )
    data, described = manifest["data"], manifest["inputs"]
    series = Series(data["feed"], data["category"], data["symbol"], "trade", data["interval"])
    candles = await store.read_candles(series, data["start_ms"], data["end_ms"])
    if len(candles) == 0 or candles.sha256() != data["sha256"]:
        raise _changed(record.id, "candles")
    compiled = strategy_again(manifest)
    settings = RunSettings.model_validate(manifest["settings"])
    inputs = await inputs_again(source, series, candles, settings, compiled, described)
    if inputs.described != described:
        raise _changed(record.id, "funding, mark or minute candles")
    execution = execution_settings(settings, compiled.size, series.category, manifest["instrument"], inputs)
    return ReopenedRun(record, manifest, compiled, series, candles, settings, execution, inputs)


def strategy_again(manifest: Mapping[str, Any]) -> CompiledStrategy:
    """Return the strategy of a stored run."""
    strategy = manifest["strategy"]
    return compile_strategy(parse_strategy(strategy["document"]), strategy["params"])


async def inputs_again(
    source: RunInputSource,
    series: Series,
    candles: Candles,
    settings: RunSettings,
    compiled: CompiledStrategy,
    described: Mapping[str, Any],
) -> RunInputs:
    """Gather what a stored run had beside its candles, by the rules it was gathered by then."""
    inputs = await source.gather(
        series,
        candles,
        settings,
        minutes=described["minutes_sha256"] is not None,
        stored_tiers=tiers_from_manifest(described.get("tiers")),
        closing_settlement=described.get("closing_settlement", True),
    )
    return replace(inputs, extras=await source.extras(series, candles, compiled.series))


def _changed(run_id: str, what: str) -> DataMissing:
    return DataMissing(
        f"the {what} of {run_id} have changed or are gone, so it cannot be examined",
        fix="run the backtest again, and examine the new run",
    )
