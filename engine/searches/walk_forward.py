"""The job of kind `walk_forward`: refit on every window, judge on the bars that follow, join what was judged."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.metrics import compute_metrics, daily_marks
from engine.core.search.objectives import ranking
from engine.core.search.space import Space
from engine.core.search.table import PointTable
from engine.core.search.walk_forward import (
    Stitched,
    annual_return,
    drift,
    judge,
    purge_bars,
    stitch,
    stitched_sharpe,
)
from engine.core.strategy import compile_strategy
from engine.core.sweep.figures import daily_returns
from engine.core.timeframes import next_open
from engine.core.times import iso_utc
from engine.core.validation.splits import WalkForwardWindow, walk_forward_efficiency, walk_forward_windows
from engine.jobs import JobContext
from engine.searches.batches import rounded, score_matrix
from engine.searches.bodies import SearchParts, data_document, has_same_candles, make_runner
from engine.searches.market import LoadedMarket, run_off_loop
from engine.searches.requests import Document, SearchTarget, plan_search, target_of
from engine.searches.results import measure_luck

FITTED_METRICS = ("sharpe", "total_return", "trades")
JUDGED_METRICS = ("sharpe", "total_return", "max_drawdown", "trades", "win_rate", "profit_factor")


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One window after it was fitted and judged; a window without an eligible point stays flat."""

    window: WalkForwardWindow
    point: NDArray[np.float64] | None
    in_sample: dict[str, float | None]
    in_sample_annual: float | None
    out_of_sample: dict[str, float | int | None]
    out_of_sample_annual: float | None
    candles: Candles
    equity: FloatColumn


class WalkForwardBody:
    """Fits by any search on each window and judges the choice on the bars after it."""

    def __init__(self, parts: SearchParts) -> None:
        self._parts = parts

    async def run(self, request: Document, context: JobContext) -> Document:
        """Run all windows, or those that are left."""
        parts, target, split = self._parts, target_of(request), request["windows"]
        market = await parts.markets.load(
            target.series, (target.start_ms, target.end_ms), target.settings, target.strategy, context
        )
        plan = plan_search(target, request["search"], most_points=parts.most_points)
        purge, windows = _windows(market, target, plan.space, split)
        runner = make_runner(parts, "walk_forward", request, target, plan.proposer.total * len(windows), context)
        await runner.recall(plan.space.names)
        judged: list[Judged] = []
        for place, window in enumerate(windows):
            fitted = market.part(window.in_sample_start, window.in_sample_end)
            refit = plan_search(target, request["search"], most_points=parts.most_points, seed_offset=place)
            table = await runner.run(fitted, plan.space.names, refit.proposer)
            judged.append(
                await run_off_loop(
                    context, lambda _, w=window, t=table: _judged(market, target, plan.space.names, w, t)
                )
            )
        runner.progress.say("joining the windows")
        luck = await measure_luck(parts.store, request["study_id"], context)
        told = await run_off_loop(context, lambda _: _report(market, target, plan.space, judged))
        shown = {name: split[name] for name in ("mode", "in_sample_ratio", "embargo_bars")}
        told["summary"] |= {**shown, "purge_bars": purge}
        return {
            "data": data_document(market),
            "study_id": request["study_id"],
            "luck": luck.document(),
            "split": {**split, "purge_bars": purge},
            **told,
        }

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Return whether the candles are those the windows were cut from."""
        return await has_same_candles(self._parts.store, request, result)


def _windows(
    market: LoadedMarket, target: SearchTarget, space: Space, split: Document
) -> tuple[int, tuple[WalkForwardWindow, ...]]:
    """Return the purge and the windows."""
    bars, ratio = len(market.candles), float(split["in_sample_ratio"])

    def cut(purge: int) -> tuple[WalkForwardWindow, ...]:
        return walk_forward_windows(
            bars, int(split["windows"]), ratio, split["mode"], purge_bars=purge, embargo_bars=int(split["embargo_bars"])
        )

    purge = split["purge_bars"]
    if purge is None:
        first = cut(0)[0]
        purge = purge_bars(target.strategy, corners(space), target.series.interval, first.in_sample_end)
    return int(purge), cut(int(purge))


def corners(space: Space) -> PointTable:
    """Return the points at which every parameter is lowest or highest."""
    ends = [sorted({dimension.low, dimension.high}) for dimension in space.dimensions]
    most = 2**10
    points = list(itertools.islice(itertools.product(*ends), most))
    return PointTable(space.names, np.array(points, np.float64), {})


def _judged(
    market: LoadedMarket,
    target: SearchTarget,
    names: tuple[str, ...],
    window: WalkForwardWindow,
    table: PointTable,
) -> Judged:
    scores = score_matrix(table, target.objectives, target.min_trades)
    row = int(ranking(target.objectives, scores)[0][0])
    rows = (window.out_of_sample_start, window.out_of_sample_end)
    candles = market.candles.take(slice(*rows))
    if np.isnan(scores[row]).any():
        flat = np.full(len(candles), target.settings.capital_in(target.series.category))
        return Judged(window, None, {}, None, {}, 0.0, candles, flat)
    point = table.values[row]
    compiled = compile_strategy(target.strategy, dict(zip(names, point.tolist(), strict=True)))
    execution = market.execution(compiled)
    interval = target.series.interval
    simulation = judge(compiled, market.candles, interval, execution, market.inputs.detail, market.inputs.extras, rows)
    judged_names = tuple(dict.fromkeys((*JUDGED_METRICS, *target.objectives[0].weights)))
    measured = compute_metrics(simulation, candles, interval, execution, unmodelled=market.inputs.unmodelled).values
    _, marks = daily_marks(candles.ts, simulation.equity, interval)
    return Judged(
        window,
        point,
        {name: rounded(table.metrics[name][row]) for name in judged_names},
        _annual_in_sample(table, row),
        {name: measured[name] for name in judged_names},
        annual_return(daily_returns(marks[None, :], execution.capital)[0]),
        candles,
        simulation.equity,
    )


def _annual_in_sample(table: PointTable, row: int) -> float | None:
    """Return the mean daily return times 365, from the Sharpe ratio and the volatility of the same days."""
    sharpe, volatility = float(table.metrics["sharpe"][row]), float(table.metrics["volatility"][row])
    return None if np.isnan(sharpe) or np.isnan(volatility) else sharpe * volatility


def _report(market: LoadedMarket, target: SearchTarget, space: Space, judged: Sequence[Judged]) -> dict[str, Any]:
    capital = target.settings.capital_in(target.series.category)
    interval = target.series.interval
    stitched = stitch([(each.candles, each.equity) for each in judged], capital, interval)
    fitted = dict.fromkeys((*FITTED_METRICS, *target.objectives[0].weights))
    items = [_item(market, space, place, each, fitted) for place, each in enumerate(judged)]
    return {
        "summary": {
            "objective": target.objectives[0].text,
            "min_trades": target.min_trades,
            "windows": len(judged),
            "flat_windows": sum(each.point is None for each in judged),
            "profitable_windows": sum((each.out_of_sample.get("total_return") or 0) > 0 for each in judged),
            "out_of_sample": _stitched_document(stitched, capital, judged),
            "efficiency": _efficiency(judged),
            "drift": drift(space.names, [each.point for each in judged]),
            "rules": [
                "a window is judged from a flat account on; its first decision is that of its first close",
                "a position still open at its end is closed at the last close",
                "growth of the windows is multiplied, each having begun with the starting capital",
                "efficiency is the out-of-sample annual return / the in-sample one (mean daily return x 365)",
            ],
        },
        "equity": {"ts": stitched.marks_ms.tolist(), "value": _daily_equity(stitched, capital)},
        "total": len(items),
        "items": items,
    }


def _daily_equity(stitched: Stitched, capital: float) -> list[float]:
    return (capital * np.cumprod(1.0 + np.nan_to_num(stitched.daily_returns))).tolist()


def _stitched_document(stitched: Stitched, capital: float, judged: Sequence[Judged]) -> dict[str, Any]:
    interval = stitched_sharpe(stitched)
    peaks = np.maximum(np.maximum.accumulate(stitched.equity), capital)
    return {
        "start": iso_utc(int(stitched.ts[0])),
        "days": len(stitched.daily_returns),
        "total_return": rounded(float(stitched.equity[-1]) / capital - 1.0),
        "max_drawdown_intraday": rounded(float((1.0 - stitched.equity / peaks).max())),
        "trades": sum(int(each.out_of_sample.get("trades") or 0) for each in judged),
        "sharpe": None if interval is None else rounded(interval.estimate),
        "sharpe_low": None if interval is None else rounded(interval.low),
        "sharpe_high": None if interval is None else rounded(interval.high),
        "confidence": None if interval is None else interval.confidence,
        "method": None if interval is None else interval.method,
    }


def _efficiency(judged: Sequence[Judged]) -> dict[str, Any]:
    pairs = [
        (each.in_sample_annual, each.out_of_sample_annual)
        for each in judged
        if each.in_sample_annual is not None and each.out_of_sample_annual is not None
    ]
    if not pairs:
        return {"value": None, "undefined": "no window had an eligible point"}
    fitted, tested = (float(np.mean(column)) for column in zip(*pairs, strict=True))
    value = walk_forward_efficiency(fitted, tested)
    told = {"in_sample_annual_return": rounded(fitted), "out_of_sample_annual_return": rounded(tested)}
    if value is None:
        return {"value": None, "undefined": "the chosen points lost in sample", **told}
    return {"value": rounded(value), **told}


def _item(market: LoadedMarket, space: Space, place: int, judged: Judged, fitted: Iterable[str]) -> dict[str, Any]:
    window, candles, interval = judged.window, market.candles, market.series.interval

    def stretch(start: int, end: int) -> dict[str, Any]:
        return {
            "start": iso_utc(int(candles.ts[start])),
            "end": iso_utc(next_open(interval, int(candles.ts[end - 1]))),
            "bars": end - start,
        }

    efficiency = None
    if judged.in_sample_annual is not None and judged.out_of_sample_annual is not None:
        efficiency = walk_forward_efficiency(judged.in_sample_annual, judged.out_of_sample_annual)
    return {
        "window": place + 1,
        "params": None if judged.point is None else dict(zip(space.names, judged.point.tolist(), strict=True)),
        "metrics": {
            name: value if value is None or isinstance(value, int) else rounded(value)
            for name, value in judged.out_of_sample.items()
        },
        "in_sample_metrics": {name: judged.in_sample.get(name) for name in fitted},
        "efficiency": None if efficiency is None else rounded(efficiency),
        "in_sample": stretch(window.in_sample_start, window.in_sample_end),
        "out_of_sample": stretch(window.out_of_sample_start, window.out_of_sample_end),
    }
