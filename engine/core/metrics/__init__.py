"""Metrics of a simulation, each with its convention; an undefined one is None with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.metrics.account import ACCOUNT_METRICS
from engine.core.metrics.facts import Facts, daily_marks, gather_facts
from engine.core.metrics.registry import Metric
from engine.core.metrics.returns import RETURN_METRICS
from engine.core.metrics.tables import deepest_drawdowns, period_returns, rolling_sharpe, side_summary
from engine.core.metrics.trade_statistics import TRADE_METRICS
from engine.core.metrics.tradingview import tradingview_report
from engine.core.simulation import Simulation
from engine.core.timeframes import Interval

__all__ = [
    "METRICS", "Facts", "Metric", "MetricSet", "compute_metrics", "daily_marks", "deepest_drawdowns", "gather_facts",
    "period_returns", "rolling_sharpe", "side_summary", "tradingview_report",
]  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*ACCOUNT_METRICS, *RETURN_METRICS, *TRADE_METRICS)}

# Metrics of what this simulator does not charge; a caller whose simulator does hands in less.
NOT_MODELLED: Mapping[str, str] = {"funding_paid": "funding was not modelled"}


@dataclass(frozen=True, slots=True)
class MetricSet:
    """Metrics by name; every None in `values` has its reason in `reasons`, and nothing else has one."""

    values: dict[str, float | int | None]
    reasons: dict[str, str]


def compute_metrics(
    simulation: Simulation,
    candles: Candles,
    interval: Interval,
    settings: ExecutionSettings,
    *,
    unmodelled: Mapping[str, str] = NOT_MODELLED,
) -> MetricSet:
    """Measure everything in the registry.

    Parameters
    ----------
    simulation : Simulation
    candles : Candles
        The candles of the simulation.
    interval : Interval
    settings : ExecutionSettings
    unmodelled : mapping of str to str
        Metrics that cannot be known for this run, with the reason.

    Returns
    -------
    MetricSet
        Never NaN or infinite: such a figure is None with a reason.
    """
    facts = gather_facts(simulation, candles, interval, settings)
    values: dict[str, float | int | None] = {}
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        outcome = unmodelled.get(name) or metric.measure(facts)
        if not isinstance(outcome, str) and not math.isfinite(outcome):
            outcome = "the figure is too large to be a number"
        if isinstance(outcome, str):
            values[name], reasons[name] = None, outcome
        else:
            values[name] = outcome
    return MetricSet(values, reasons)
