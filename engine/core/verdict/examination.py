"""One strategy under examination: what it earned and from what, and how it bends when costs, timing or parameters change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from engine.core.candles import Candles, FloatColumn
from engine.core.causality import CausalityReport, delay, prove_causality
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.metrics.facts import PERIODS_PER_YEAR, daily_marks
from engine.core.signals import compute_signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.strategy_document import Param, StrategyDocument
from engine.core.timeframes import Interval
from engine.core.validation.regimes import GRID_NAMES, label_regimes
from engine.core.validation.sharpe_inference import minimum_track_record
from engine.core.validation.sharpe_moments import sharpe_moments
from engine.core.verdict.evidence import OwnFacts, StabilityFacts
from engine.errors import BadExpression, BadRequest, DataMissing

# Without a step of its own a parameter moves by a twentieth of its range.
_STEP_SHARE = 0.05
REPLAYS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """The market and the rules a strategy is examined under.

    Attributes
    ----------
    candles : Candles
    interval : Interval
    settings : ExecutionSettings
    detail : MarketDetail
    extras : mapping of str to ndarray of float64, shape (n,)
        Series of the strategy language besides the candles.
    """

    candles: Candles
    interval: Interval
    settings: ExecutionSettings
    detail: MarketDetail = NO_DETAIL
    extras: Mapping[str, FloatColumn] = field(default_factory=dict[str, FloatColumn])

    def run(self, strategy: CompiledStrategy, *, late: bool = False) -> Simulation:
        """Simulate a strategy, with every decision one bar later when asked for."""
        signals = compute_signals(strategy, self.candles, self.interval, extras=self.extras)
        return simulate(self.candles, delay(signals) if late else signals, self.settings, self.detail)

    def daily_returns(self, simulation: Simulation) -> FloatColumn:
        """Return simple returns between daily marks; NaN from a mark of zero or less on."""
        _, marks = daily_marks(self.candles.ts, simulation.equity, self.interval)
        before = np.concatenate(([self.settings.capital], marks[:-1]))
        ruined = np.logical_or.accumulate(marks <= 0)
        with np.errstate(all="ignore"):
            return np.where(ruined, math.nan, marks / before - 1.0)

    def sharpe(self, simulation: Simulation) -> float:
        """Return the annualised Sharpe ratio of daily returns; NaN where they do not vary."""
        return annual_sharpe(self.daily_returns(simulation))


def annual_sharpe(returns: FloatColumn) -> float:
    """Return sqrt(365) * mean / standard deviation (ddof 1); NaN where it is undefined."""
    if len(returns) < 2 or not np.isfinite(returns).all():
        return math.nan
    spread = float(returns.std(ddof=1))
    return math.sqrt(PERIODS_PER_YEAR) * float(returns.mean()) / spread if spread > 1e-12 else math.nan


def own_facts(bench: Bench, simulation: Simulation) -> OwnFacts:
    """Return what a run did, and how much of it came from one trade or one regime."""
    returns = bench.daily_returns(simulation)
    net_profit = float(simulation.equity[-1] - bench.settings.capital)
    pnl = simulation.trades.pnl
    best_trade = float(pnl.max()) if len(pnl) else 0.0
    share, regime = _best_regime(bench, simulation)
    return OwnFacts(
        trades=len(pnl),
        losing_trades=int((pnl < 0).sum()),
        bars=len(bench.candles),
        days=len(returns),
        net_profit=net_profit,
        sharpe=annual_sharpe(returns),
        minimum_track_record_days=_days_needed(returns),
        best_trade_share=best_trade / net_profit if net_profit > 0 else math.inf,
        best_regime_share=share,
        best_regime=regime,
        alpha=_alpha(bench, returns),
    )


def stability_facts(
    bench: Bench, document: StrategyDocument, params: Mapping[str, float], *, cuts: int = REPLAYS, seed: int = 0
) -> StabilityFacts:
    """Return what is left of a strategy at its neighbours, at double costs and one bar late, and whether it is causal.

    Parameters
    ----------
    bench : Bench
    document : StrategyDocument
    params : mapping of str to float
        The point under examination.
    cuts : int
        Random rows at which the future is cut off, blanked and made up.
    seed : int
        Of the cuts.
    """
    compiled = compile_strategy(document, params)
    own = bench.sharpe(bench.run(compiled))
    around = [bench.sharpe(bench.run(neighbour)) for neighbour in neighbours(document, compiled.params)]
    scores = np.nan_to_num(np.array(around, np.float64), nan=0.0)
    report = _replay(bench, compiled, cuts, seed)
    capital = bench.settings.capital
    return StabilityFacts(
        neighbours=len(scores),
        neighbour_ratio=float(np.median(scores)) / own if len(scores) and own > 0 else math.nan,
        neighbours_above_zero=float((scores > 0).mean()) if len(scores) else math.nan,
        net_profit_at_double_costs=float(at_costs(bench, 2.0).run(compiled).equity[-1]) - capital,
        net_profit_one_bar_later=float(bench.run(compiled, late=True).equity[-1]) - capital,
        causal=None if report is None else report.causal,
        replays=0 if report is None else 3 * len(report.cuts),
    )


def neighbours(document: StrategyDocument, params: Mapping[str, float]) -> list[CompiledStrategy]:
    """Return the strategies one step away in one parameter, those that exist."""
    found: list[CompiledStrategy] = []
    for name, param in document.params.items():
        for way in (-1.0, 1.0):
            value = params[name] + way * step_of(param)
            if not param.min <= value <= param.max:
                continue
            try:
                found.append(compile_strategy(document, {**params, name: value}))
            except (BadExpression, BadRequest):
                # A period of nought, or longer than allowed: there is no such neighbour.
                continue
    return found


def step_of(param: Param) -> float:
    """Return how far a parameter moves to its neighbour."""
    step = param.step or (param.max - param.min) * _STEP_SHARE
    return max(1.0, float(round(step))) if param.integer else step


def at_costs(bench: Bench, factor: float) -> Bench:
    """Return the bench with fees and slippage times `factor`."""
    settings = bench.settings
    return replace(
        bench,
        settings=replace(
            settings,
            taker_fee_fraction=settings.taker_fee_fraction * factor,
            maker_fee_fraction=settings.maker_fee_fraction * factor,
            slippage_fraction=settings.slippage_fraction * factor,
        ),
    )


def _replay(bench: Bench, compiled: CompiledStrategy, cuts: int, seed: int) -> CausalityReport | None:
    try:
        return prove_causality(compiled, bench.candles, bench.interval, cuts=cuts, seed=seed, extras=bench.extras)
    except DataMissing:
        return None


def _days_needed(returns: FloatColumn) -> float:
    if len(returns) < 2 or not np.isfinite(returns).all() or float(returns.std()) <= 1e-12:
        return math.inf
    moments = sharpe_moments(returns)
    return minimum_track_record(moments.sharpe, 0.0, moments.skew, moments.kurtosis) if moments.sharpe > 0 else math.inf


def _alpha(bench: Bench, returns: FloatColumn) -> float:
    """Return 365 times the mean daily return beyond beta times the market's."""
    _, closes = daily_marks(bench.candles.ts, bench.candles.close, bench.interval)
    market = closes / np.concatenate(([bench.candles.open[0]], closes[:-1])) - 1.0
    spread = float(market.var())
    if len(returns) < 2 or not np.isfinite(returns).all() or spread <= 0:
        return math.nan
    beta = float(((returns - returns.mean()) * (market - market.mean())).mean()) / spread
    return PERIODS_PER_YEAR * float(returns.mean() - beta * market.mean())


def _best_regime(bench: Bench, simulation: Simulation) -> tuple[float, str]:
    """Return the share of the best regime in the profit of all profitable ones, and its name.

    A day belongs to the regime its eve showed, so that the day's own move does not choose where it counts.
    """
    _, closes = daily_marks(bench.candles.ts, bench.candles.close, bench.interval)
    _, marks = daily_marks(bench.candles.ts, simulation.equity, bench.interval)
    if len(closes) < 2:
        return math.nan, ""
    labels = label_regimes(closes)[:-1]
    earned = np.bincount(labels + 1, np.diff(marks), minlength=len(GRID_NAMES) + 1)[1:]
    gains = np.maximum(earned, 0.0)
    if not gains.sum() > 0:
        return math.nan, ""
    best = int(gains.argmax())
    return float(gains[best] / gains.sum()), GRID_NAMES[best]
