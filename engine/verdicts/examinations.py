"""The single examinations of a stored run: stress, Monte Carlo and the search for a look ahead."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from engine.backtests import Backtests
from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.causality import prove_causality
from engine.core.market_detail import part_of
from engine.core.signals import Signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.timeframes import DAY_MS, next_open
from engine.core.times import parse_time_ms
from engine.core.validation.monte_carlo import MonteCarloResult, bootstrap_days, permute_trades, resample_trades
from engine.core.verdict.stress import stress
from engine.core.verdict.warmup import TAIL_BARS, history_sensitivity
from engine.errors import BadRequest, TooLarge
from engine.jobs import JobContext
from engine.searches.market import ShouldStop, run_off_loop
from engine.store import Store
from engine.verdicts import effort
from engine.verdicts.verdicts import SEED, bench_of, shown

MonteCarloMethod = Literal["trades_permutation", "trades_resample", "block_bootstrap"]
_FEWEST_DAYS = 9
_SHOWN_LEAKS = 5


class Examinations:
    """Examines stored runs; none of it counts as a trial, because it judges and does not search."""

    def __init__(self, store: Store, backtests: Backtests) -> None:
        self._store = store
        self._backtests = backtests

    async def stress(self, run_id: str, context: JobContext | None = None) -> dict[str, Any]:
        """Return the table of scenarios."""
        run = await self._backtests.reopen(run_id)
        bench = bench_of(run)

        def work(should_stop: ShouldStop) -> dict[str, Any]:
            rows = stress(bench, run.compiled, seed=SEED, should_stop=should_stop)
            return {
                "run_id": run_id,
                "source": run.manifest["data"]["source"],
                "seed": SEED,
                "items": [_plain(asdict(row)) for row in rows],
            }

        return await run_off_loop(context or JobContext(run_id), work)

    async def stress_takes_long(self, run_id: str) -> bool:
        """Say whether a stress test is too long for a direct answer."""
        return effort.stress_bars(await self._backtests.record(run_id)) > effort.MOST_BARS

    async def monte_carlo_takes_long(self, run_id: str, method: MonteCarloMethod, simulations: int) -> bool:
        """Say whether so many paths are too long for a direct answer."""
        record = await self._backtests.record(run_id)
        steps = effort.path_steps(record, simulations, of_days=method == "block_bootstrap")
        return steps > effort.MOST_STEPS

    async def look_ahead(self, run_id: str, cuts: int) -> dict[str, Any]:
        """Replay a run on prefixes, NaN and made-up futures, a bar late, and with shorter histories."""
        record = await self._backtests.record(run_id)
        if cuts > (most := effort.most_cuts(record)):
            raise TooLarge(f"{cuts} cuts of a run of that length take too long", fix=f"cuts is at most {most} here")
        run = await self._backtests.reopen(run_id)
        bench = bench_of(run)

        def execute(candles: Candles, signals: Signals) -> Simulation:
            return simulate(candles, signals, bench.settings, part_of(bench.detail, 0, len(candles)))

        def work(_: ShouldStop) -> dict[str, Any]:
            report = prove_causality(
                run.compiled, bench.candles, bench.interval, cuts=cuts, seed=0, execution=execute, extras=bench.extras
            )
            history = history_sensitivity(run.compiled, bench.candles, bench.interval, bench.extras)
            capital, lag = bench.settings.capital, report.lag
            return {
                "run_id": run_id,
                "causal": report.causal,
                "cuts": len(report.cuts),
                "comparisons": report.comparisons,
                "compared_trades": report.compared_trades,
                "leaks": [
                    f"{leak.what} at row {leak.row} changed when the future from bar {leak.cut} was {leak.future}"
                    for leak in report.leaks[:_SHOWN_LEAKS]
                ],
                "net_profit": None if lag is None else shown(lag.final_equity - capital),
                "net_profit_one_bar_later": None if lag is None else shown(lag.delayed_final_equity - capital),
                "history": [_plain(asdict(row)) for row in history],
                "last_bars": TAIL_BARS,
            }

        return await run_off_loop(JobContext(run_id), work)

    async def monte_carlo(
        self,
        run_id: str,
        method: MonteCarloMethod,
        simulations: int,
        ruin_fraction: float,
        seed: int,
        context: JobContext | None = None,
    ) -> dict[str, Any]:
        """Return percentiles of what else could have happened, and how often it was ruin.

        `ruin_fraction` is the share of the starting equity whose loss counts as ruin.
        """
        record = await self._backtests.record(run_id)
        result = json.loads(record.result)
        capital = float(result["metrics"]["initial_capital"])
        trades, marks = await self._store.run_trades(run_id), await self._store.run_equity(run_id)

        def work(_: ShouldStop) -> dict[str, Any]:
            random = np.random.default_rng(seed)
            level = 1.0 - ruin_fraction
            if method == "block_bootstrap":
                returns = _daily_returns(marks["equity"], capital)
                if len(returns) < _FEWEST_DAYS:
                    raise BadRequest(
                        f"{run_id} has {len(returns)} days; blocks need {_FEWEST_DAYS}",
                        fix='test a longer range, or choose "trades_resample"',
                    )
                found = bootstrap_days(returns, random, simulations, level)
            else:
                growth = _trade_returns(trades["pnl"], trades["exit_ts"], capital)
                if len(growth) == 0:
                    raise BadRequest(f"{run_id} has no trades", fix="choose a run that trades: list_runs")
                first, last = (parse_time_ms(result["data"][name]) for name in ("first_bar", "last_bar"))
                days = (next_open(result["data"]["interval"], last) - first) / DAY_MS
                draw = permute_trades if method == "trades_permutation" else resample_trades
                found = draw(growth, days, random, simulations, level)
            return _told(run_id, method, found, result)

        return await run_off_loop(context or JobContext(run_id), work)


def _daily_returns(marks: FloatColumn, capital: float) -> FloatColumn:
    """Return simple returns between daily marks; -1 from the day on that all was lost."""
    before = np.concatenate(([capital], marks[:-1]))
    with np.errstate(all="ignore"):
        returns = marks / before - 1.0
    return np.where(np.logical_or.accumulate(marks <= 0), -1.0, returns)


def _trade_returns(pnl: FloatColumn, exit_ms: TimeColumn, capital: float) -> FloatColumn:
    """Return the net profit of each trade over the equity before it, in the order of the exits."""
    ordered = pnl[np.argsort(exit_ms, kind="stable")]
    before = capital + np.concatenate(([0.0], np.cumsum(ordered)[:-1]))
    with np.errstate(all="ignore"):
        return np.where(np.logical_or.accumulate(before <= 0), -1.0, ordered / before)


def _told(run_id: str, method: MonteCarloMethod, found: MonteCarloResult, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "method": method,
        "simulations": found.paths,
        "final_equity_ratio": _plain(asdict(found.final)),
        "cagr": _plain(asdict(found.cagr)),
        "max_drawdown": _plain(asdict(found.max_drawdown)),
        "ruin_level": found.ruin_level,
        "ruin_probability": found.ruin_probability,
        "mean_block_days": shown(found.mean_block),
        "run": {name: result["metrics"][name] for name in ("total_return", "cagr", "max_drawdown", "trades")},
        "source": result["data"]["source"],
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: shown(value) for name, value in row.items()}
