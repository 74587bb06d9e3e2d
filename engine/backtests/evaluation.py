"""What a finished run leaves in the trial ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.core.candles import Candles
from engine.core.evaluations import EvaluationBatch, EvaluationSlice, costs_hash
from engine.core.metrics import daily_marks
from engine.core.metrics.moments import return_moments
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.simulation import Simulation
from engine.core.sketches import sketch_of
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import next_open


def evaluation_slice(
    series: Series,
    candles: Candles,
    settings: RunSettings,
    rules: Mapping[str, str | None] | None,
    described: Mapping[str, object],
) -> EvaluationSlice:
    """Return what strategies are evaluated on; equal for a run and for the same point of a search.

    Parameters
    ----------
    rules : mapping or None
        Of the instrument, as `instrument_rules` prints them.
    described : mapping
        Of the other inputs (`RunInputs.described`).
    """
    costs = {"settings": settings.model_dump(mode="json"), "instrument": rules, "inputs": dict(described)}
    return EvaluationSlice(
        category=series.category,
        symbol=series.symbol,
        interval=series.interval,
        start_ms=int(candles.ts[0]),
        end_ms=next_open(series.interval, int(candles.ts[-1])),
        bars=len(candles),
        data_sha256=candles.sha256(),
        costs_sha256=costs_hash(costs),
    )


def evaluation_of(
    compiled: CompiledStrategy,
    series: Series,
    candles: Candles,
    simulation: Simulation,
    metrics: Mapping[str, Any],
    markets: Mapping[str, Candles] | None = None,
) -> EvaluationBatch:
    """Return a finished run as a batch of one trial; `markets` are the candles of each symbol where there are several."""
    marks_ms, marks = daily_marks(candles.ts, simulation.equity, series.interval)
    before = np.concatenate(([metrics["initial_capital"]], marks[:-1]))
    with np.errstate(all="ignore"):
        returns = (marks / before - 1.0)[None, :]
    if not bool(np.all(marks > 0)):
        returns[:] = np.nan
    sharpe, skew, kurtosis = return_moments(returns)
    figures = {
        "trades": metrics["trades"],
        "total_return": metrics["total_return"],
        "max_drawdown": metrics["max_drawdown"],
        "fees_paid": metrics["fees_paid"],
    }
    columns = {name: np.array([np.nan if value is None else value], np.float64) for name, value in figures.items()}
    return EvaluationBatch(
        strategy=compiled.name,
        fingerprints=[compiled.fingerprint()],
        points=[dict(compiled.params)],
        metrics={**columns, "daily_sharpe": sharpe, "skew": skew, "kurtosis": kurtosis},
        marks_ms=marks_ms,
        daily_returns=returns.astype(np.float32),
        sketches=[
            sketch_of(symbol, series.interval, bars) for symbol, bars in (markets or {series.symbol: candles}).items()
        ],
    )
