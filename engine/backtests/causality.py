"""The proof that a stored run knew nothing of its future, symbol by symbol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from engine.backtests.recomputation import Recomputed
from engine.backtests.reopening import strategy_again
from engine.core.causality import CausalityReport, prove_causality
from engine.core.series import Series
from engine.run_inputs import RunInputSource


async def prove_run(again: Recomputed, source: RunInputSource, cuts: int) -> CausalityReport:
    """Replay a run on cut and made-up futures: nothing before the cut may change."""
    outcome, data = again.outcome, again.outcome.manifest["data"]
    compiled = strategy_again(outcome.manifest)
    markets = {data["symbol"]: again.candles}
    if outcome.shared is not None:
        markets = {symbol: leg.candles for symbol, leg in outcome.shared[1].items()}
    reports: dict[str, CausalityReport] = {}
    for symbol, candles in markets.items():
        series = Series(data["feed"], data["category"], symbol, "trade", data["interval"])
        extras = await source.extras(series, candles, compiled.series)
        reports[symbol] = await asyncio.to_thread(
            prove_causality, compiled, candles, series.interval, cuts=-(-cuts // len(markets)), seed=0, extras=extras
        )
    return reports[data["symbol"]] if outcome.shared is None else _joined(reports)


def _joined(reports: Mapping[str, CausalityReport]) -> CausalityReport:
    """Return the proofs of several symbols as one; a leak names its symbol."""
    return CausalityReport(
        cuts=tuple(cut for report in reports.values() for cut in report.cuts),
        comparisons=sum(report.comparisons for report in reports.values()),
        compared_trades=sum(report.compared_trades for report in reports.values()),
        leaks=tuple(
            replace(leak, what=f"{symbol} {leak.what}") for symbol, report in reports.items() for leak in report.leaks
        ),
        lag=None,
    )
