"""Our ratios against empyrical, quantstats and ffn where the definitions agree, and the places where they do not."""

from __future__ import annotations

import importlib
import math
import statistics
import warnings
from typing import Any

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.metrics import Facts, compute_metrics, gather_facts
from engine.core.simulation import Simulation
from engine.core.timeframes import DAY_MS
from engine.core.trades import Trades

CAPITAL = 1_000.0
SETTINGS = ExecutionSettings(capital=CAPITAL)
DAYS = 1_096


def oracle(name: str) -> Any:
    """Import a library that warns about its own dependencies; skip where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed (dependency group oracles)")


def quietly(measure: Any, *arguments: Any, **options: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(measure(*arguments, **options))


@pytest.fixture(scope="module")
def case() -> tuple[Simulation, Candles]:
    """Return three years of days with heavy tails, a third of them flat, beside a market, and trades of every kind."""
    rng = np.random.default_rng(7)
    returns = rng.standard_t(4, DAYS) * 0.01
    returns[rng.random(DAYS) < 0.35] = 0.0
    # The first bar cannot have traded, so that our starting capital is their first price.
    returns[0] = 0.0
    equity = CAPITAL * np.cumprod(1.0 + returns)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, DAYS)))
    open_ = np.concatenate(([100.0], close[:-1]))
    candles = Candles(np.arange(DAYS, dtype=np.int64) * DAY_MS, open_, close, close, close, close, close)
    pnl = rng.normal(0.5, 10, 80)
    rows = np.array([[1, 2 * row, 2 * row + 1, 2 * row + 2, 0] for row in range(80)], np.int64)
    records = np.zeros((80, 9))
    records[:, 0], records[:, 1], records[:, 2], records[:, 3] = 100.0, 100.0 + pnl, 1.0, pnl
    records[:, 8] = math.nan
    simulation = Simulation(
        trades=Trades.from_tables(rows, records), equity=equity, position=np.zeros(DAYS, np.int8), exposed_bars=0,
        ambiguous_bars=0, skipped_entries={}, capped_entries=0, ruined_bar=None, warmup_bars=0,
    )  # fmt: skip
    return simulation, candles


@pytest.fixture(scope="module")
def facts(case: tuple[Simulation, Candles]) -> Facts:
    return gather_facts(*case, "D", SETTINGS)


@pytest.fixture(scope="module")
def ours(case: tuple[Simulation, Candles]) -> dict[str, Any]:
    return compute_metrics(*case, "D", SETTINGS).values


def daily(facts: Facts) -> Any:
    pandas = oracle("pandas")
    assert facts.returns is not None
    days = pandas.to_datetime(facts.marks_ms[1:], unit="ms")
    return pandas.Series(facts.returns, index=days)


def prices(facts: Facts) -> Any:
    pandas = oracle("pandas")
    return pandas.Series(facts.marks, index=pandas.to_datetime(facts.marks_ms, unit="ms"))


@pytest.mark.parametrize(
    ("name", "function", "options", "sign"),
    [
        ("sharpe", "sharpe_ratio", {"annualization": 365}, 1),
        ("sortino", "sortino_ratio", {"annualization": 365}, 1),
        ("volatility", "annual_volatility", {"annualization": 365}, 1),
        ("max_drawdown", "max_drawdown", {}, -1),
        ("omega", "omega_ratio", {"annualization": 365}, 1),
        ("tail_ratio", "tail_ratio", {}, 1),
        ("value_at_risk", "value_at_risk", {}, 1),
        ("conditional_value_at_risk", "conditional_value_at_risk", {}, 1),
        ("stability", "stability_of_timeseries", {}, 1),
        ("total_return", "cum_returns_final", {}, 1),
    ],
)
def test_empyrical_agrees(
    name: str, function: str, options: dict[str, Any], sign: int, facts: Facts, ours: dict[str, Any]
) -> None:
    empyrical = oracle("empyrical")
    theirs = quietly(getattr(empyrical, function), daily(facts), **options)
    assert ours[name] == pytest.approx(sign * theirs, rel=1e-10)


def test_empyrical_agrees_on_alpha_and_beta(facts: Facts, ours: dict[str, Any]) -> None:
    empyrical = oracle("empyrical")
    pandas = oracle("pandas")
    returns = daily(facts)
    market = pandas.Series(facts.market_returns, index=returns.index)
    alpha = quietly(empyrical.alpha, returns, market, annualization=365)
    assert ours["beta"] == pytest.approx(quietly(empyrical.beta, returns, market), rel=1e-9)
    # Theirs compounds what ours sums.
    assert (1 + ours["alpha"] / 365) ** 365 - 1 == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "function", "options", "sign"),
    [
        ("sharpe", "sharpe", {"periods": 365}, 1),
        ("sortino", "sortino", {"periods": 365}, 1),
        ("volatility", "volatility", {"periods": 365}, 1),
        ("max_drawdown", "max_drawdown", {}, -1),
        ("omega", "omega", {"periods": 365}, 1),
    ],
)
def test_quantstats_agrees_with_a_year_of_365_days(
    name: str, function: str, options: dict[str, Any], sign: int, facts: Facts, ours: dict[str, Any]
) -> None:
    stats = oracle("quantstats.stats")
    assert ours[name] == pytest.approx(sign * quietly(getattr(stats, function), daily(facts), **options), rel=1e-9)


def test_ffn_agrees_on_growth_calmar_and_ulcer(facts: Facts, ours: dict[str, Any]) -> None:
    ffn = oracle("ffn")
    series = prices(facts)
    assert ours["cagr"] == pytest.approx(quietly(ffn.calc_cagr, series), rel=1e-9)
    assert ours["calmar"] == pytest.approx(quietly(ffn.calc_calmar_ratio, series), rel=1e-9)
    assert ours["max_drawdown"] == pytest.approx(-quietly(ffn.calc_max_drawdown, series), rel=1e-12)
    # In percent, and its mean counts the starting capital as one more day without a drawdown.
    theirs = quietly(ffn.to_ulcer_index, series) / 100 * math.sqrt((DAYS + 1) / DAYS)
    assert ours["ulcer"] == pytest.approx(theirs, rel=1e-9)


def test_trade_figures_equal_the_formulas_of_backtesting_py(
    case: tuple[Simulation, Candles], ours: dict[str, Any]
) -> None:
    pnl = case[0].trades.pnl.tolist()
    wins, losses = [value for value in pnl if value > 0], [-value for value in pnl if value < 0]
    rate, payoff = len(wins) / len(pnl), statistics.fmean(wins) / statistics.fmean(losses)
    assert ours["kelly"] == pytest.approx(rate - (1 - rate) / payoff)
    assert ours["sqn"] == pytest.approx(math.sqrt(len(pnl)) * statistics.fmean(pnl) / statistics.stdev(pnl))
    assert ours["win_rate"] == pytest.approx(rate)


def test_where_others_differ_and_why(facts: Facts, ours: dict[str, Any]) -> None:
    empyrical, stats = oracle("empyrical"), oracle("quantstats.stats")
    returns = daily(facts)
    # A year of 252 trading days, their default, on a market that never closes.
    year = math.sqrt(365 / 252)
    assert ours["sharpe"] == pytest.approx(quietly(stats.sharpe, returns) * year, rel=1e-9)
    assert ours["sharpe"] == pytest.approx(quietly(empyrical.sharpe_ratio, returns) * year, rel=1e-9)
    # quantstats divides the squared drawdowns by n - 1, we and ffn by n.
    assert quietly(stats.ulcer_index, returns) == pytest.approx(ours["ulcer"] * math.sqrt(DAYS / (DAYS - 1)), rel=1e-6)
    # Its value at risk is that of a normal distribution, ours is the quantile that happened.
    assert facts.returns is not None
    normal = statistics.NormalDist(float(facts.returns.mean()), float(facts.returns.std(ddof=1))).inv_cdf(0.05)
    assert quietly(stats.value_at_risk, returns) == pytest.approx(normal, rel=1e-6)
    assert abs(ours["value_at_risk"] - normal) > 1e-4
    # Its win rate and profit factor are those of days, ours those of trades; its profit factor is our omega.
    assert quietly(stats.profit_factor, returns) == pytest.approx(ours["omega"], rel=1e-9)
    days = facts.returns[facts.returns != 0]
    assert quietly(stats.win_rate, returns) == pytest.approx(float(np.mean(days > 0)), rel=1e-9)
    assert abs(quietly(stats.win_rate, returns) - ours["win_rate"]) > 1e-3
    # backtesting.py annualises the geometric mean and takes the volatility of compounded growth.
    growth = float(np.prod(1 + facts.returns)) ** (1 / DAYS) - 1
    variance = float(facts.returns.var(ddof=1))
    annual = (1 + growth) ** 365 - 1
    spread = math.sqrt((variance + (1 + growth) ** 2) ** 365 - (1 + growth) ** (2 * 365))
    assert abs(annual / spread - ours["sharpe"]) > 0.01
