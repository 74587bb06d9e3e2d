"""What is left of a strategy when costs, timing, luck or prices turn against it: one row a scenario."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles
from engine.core.metrics.facts import daily_marks
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import CompiledStrategy
from engine.core.validation.noise import jitter_candles
from engine.core.verdict.examination import Bench, at_costs

# A twentieth of a percent a fill, about ten ticks of a liquid perpetual.
MORE_SLIPPAGE_FRACTION = 0.0005
DROPPED_SHARE = 0.1
NOISE_ATR = 0.1
DRAWS = 20
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class StressRow:
    """One scenario; of a random one the median of its draws.

    Attributes
    ----------
    scenario : str
    net_profit : float
        Settlement currency.
    sharpe : float
        Annualised, of daily returns; NaN where undefined.
    max_drawdown : float
        Fraction, of daily marks.
    change : float
        Net profit over that of the run as it is, minus 1; NaN where the run made none.
    worst_net_profit : float
        Of the draws; that of the only one elsewhere.
    draws : int
    """

    scenario: str
    net_profit: float
    sharpe: float
    max_drawdown: float
    change: float
    worst_net_profit: float
    draws: int


def stress(
    bench: Bench, strategy: CompiledStrategy, *, draws: int = DRAWS, seed: int = 0, should_stop: ShouldStop = bool
) -> list[StressRow]:
    """Run a strategy under every scenario, the first being the run as it is.

    Parameters
    ----------
    bench : Bench
    strategy : CompiledStrategy
    draws : int
        Of each random scenario.
    seed : int
    should_stop : callable
        Asked before each simulation; what is missing then is left out.
    """
    signals = compute_signals(strategy, bench.candles, bench.interval, extras=bench.extras)
    base = bench.run(strategy)
    slipping = replace(bench.settings, slippage_fraction=bench.settings.slippage_fraction + MORE_SLIPPAGE_FRACTION)
    random = np.random.default_rng(seed)
    dropped_seeds, noise_seeds = random.integers(0, 2**32, (2, draws)).tolist()
    scenarios: list[tuple[str, Sequence[Callable[[], tuple[Bench, Simulation]]]]] = [
        ("as it is", [lambda: (bench, base)]),
        ("fees and slippage x1.5", [lambda: _ran(at_costs(bench, 1.5), strategy)]),
        ("fees and slippage x2", [lambda: _ran(at_costs(bench, 2.0), strategy)]),
        ("slippage +0.05 % a fill", [lambda: _ran(replace(bench, settings=slipping), strategy)]),
        ("every decision one bar later", [lambda: (bench, bench.run(strategy, late=True))]),
        ("10 % of trades missed", [_missing(bench, signals, base, each) for each in dropped_seeds]),
        ("prices blurred by 0.1 ATR", [_blurred(bench, strategy, each) for each in noise_seeds]),
    ]
    rows: list[StressRow] = []
    own = float(base.equity[-1]) - bench.settings.capital
    for name, runs in scenarios:
        figures: list[tuple[float, float, float]] = []
        for run in runs:
            if should_stop():
                return rows
            figures.append(_figures(*run()))
        rows.append(_row(name, np.array(figures), own))
    return rows


def without_positions(signals: Signals, simulation: Simulation, positions: NDArray[np.int64]) -> Signals:
    """Return the signals so that these positions are never entered, nor entered late while they would have been open.

    Parameters
    ----------
    signals : Signals
    simulation : Simulation
        Of these signals.
    positions : ndarray of int64
        Ids of positions.
    """
    trades = simulation.trades
    long_entry, short_entry = signals.long_entry.copy(), signals.short_entry.copy()
    for row in np.flatnonzero(np.isin(trades.position_id, positions)):
        entries = long_entry if trades.side[row] > 0 else short_entry
        entries[trades.signal_bar[row] : max(trades.exit_bar[row], trades.signal_bar[row] + 1)] = False
    return replace(signals, long_entry=long_entry, short_entry=short_entry)


def _ran(bench: Bench, strategy: CompiledStrategy) -> tuple[Bench, Simulation]:
    return bench, bench.run(strategy)


def _missing(bench: Bench, signals: Signals, base: Simulation, seed: int) -> Callable[[], tuple[Bench, Simulation]]:
    def run() -> tuple[Bench, Simulation]:
        known = np.unique(base.trades.position_id)
        count = math.ceil(DROPPED_SHARE * len(known))
        dropped = np.random.default_rng(seed).choice(known, size=count, replace=False)
        return bench, simulate(bench.candles, without_positions(signals, base, dropped), bench.settings, bench.detail)

    return run


def _blurred(bench: Bench, strategy: CompiledStrategy, seed: int) -> Callable[[], tuple[Bench, Simulation]]:
    def run() -> tuple[Bench, Simulation]:
        candles = jitter_candles(
            bench.candles, np.random.default_rng(seed), NOISE_ATR, tick_size=bench.settings.tick_size
        )
        return _ran(_on(bench, candles), strategy)

    return run


def _on(bench: Bench, candles: Candles) -> Bench:
    """Return the bench with blurred candles, which the minutes inside the real ones would contradict."""
    detail = replace(bench.detail, minutes=None, minute_start=None, minute_stop=None)
    pessimistic = bench.settings.intrabar == "magnify"
    settings = replace(bench.settings, intrabar="pessimistic") if pessimistic else bench.settings
    return replace(bench, candles=candles, settings=settings, detail=detail)


def _figures(bench: Bench, simulation: Simulation) -> tuple[float, float, float]:
    _, marks = daily_marks(bench.candles.ts, simulation.equity, bench.interval)
    peaks = np.maximum(np.maximum.accumulate(marks), bench.settings.capital)
    return (
        float(simulation.equity[-1]) - bench.settings.capital,
        bench.sharpe(simulation),
        max(float((1.0 - marks / peaks).max()), 0.0),
    )


def _row(name: str, figures: NDArray[np.float64], own: float) -> StressRow:
    known = figures[~np.isnan(figures[:, 1]), 1]
    net_profit = float(np.median(figures[:, 0]))
    return StressRow(
        scenario=name,
        net_profit=net_profit,
        sharpe=float(np.median(known)) if len(known) else math.nan,
        max_drawdown=float(np.median(figures[:, 2])),
        change=net_profit / own - 1.0 if own > 0 else math.nan,
        worst_net_profit=float(figures[:, 0].min()),
        draws=len(figures),
    )
