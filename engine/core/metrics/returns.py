"""Metrics of the equity curve: growth, risk, and one in terms of the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.metrics.facts import DAYS_PER_YEAR, PERIODS_PER_YEAR, Facts
from engine.core.metrics.registry import Metric, Outcome
from engine.core.timeframes import DAY_MS

DAILY = "daily marks at 00:00 UTC, flat days kept, starting capital first, 365 periods a year, risk-free rate 0"
LOST = "the equity fell to zero or below"
FLAT = "the daily returns do not vary"
# Below this a spread of returns is rounding noise.
SMALLEST_SPREAD = 1e-14


def _on_returns(fewest: int, measure: Callable[[FloatColumn], Outcome]) -> Callable[[Facts], Outcome]:
    """Return a measure of the daily returns that is undefined with fewer of them, or without capital."""

    def guarded(facts: Facts) -> Outcome:
        if facts.returns is None:
            return LOST
        if len(facts.returns) < fewest:
            return f"{len(facts.returns)} daily returns; {fewest} are needed"
        return measure(facts.returns)

    return guarded


def _total_return(facts: Facts) -> Outcome:
    return float(facts.marks[-1] / facts.settings.capital - 1.0)


def _cagr(facts: Facts) -> Outcome:
    if facts.marks[-1] <= 0:
        return LOST
    if facts.elapsed_days < 1:
        return "the run is shorter than a day"
    exponent = DAYS_PER_YEAR / facts.elapsed_days * math.log(float(facts.marks[-1]) / facts.settings.capital)
    return math.expm1(exponent) if exponent < 700 else "the run is too short for a yearly rate"


def _volatility(returns: FloatColumn) -> Outcome:
    return math.sqrt(PERIODS_PER_YEAR) * float(np.std(returns, ddof=1))


def _sharpe(returns: FloatColumn) -> Outcome:
    spread = float(np.std(returns, ddof=1))
    return FLAT if spread <= SMALLEST_SPREAD else math.sqrt(PERIODS_PER_YEAR) * float(np.mean(returns)) / spread


def _sortino(returns: FloatColumn) -> Outcome:
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    if downside <= SMALLEST_SPREAD:
        return "no day lost"
    return math.sqrt(PERIODS_PER_YEAR) * float(np.mean(returns)) / downside


def _max_drawdown(facts: Facts) -> Outcome:
    return float(np.max(facts.drawdowns))


def _max_drawdown_intraday(facts: Facts) -> Outcome:
    return deepest_fall(facts.settings.capital, facts.simulation.equity)


def deepest_fall(capital: float, equity: FloatColumn) -> float:
    """Return the largest 1 - equity / highest equity so far, `capital` the first peak.

    Parameters
    ----------
    capital : float
        Above zero.
    equity : ndarray of float64, shape (n,)
        Never NaN; zero and below are allowed.
    """
    from engine.core.kernel import lowest_ratio  # numba takes most of a second to import; only a run pays for it

    # Rounding keeps order: the largest difference belongs to the lowest ratio.
    return 1.0 - float(lowest_ratio(float(capital), equity))


def _max_drawdown_days(facts: Facts) -> Outcome:
    peak_rows = np.flatnonzero(facts.drawdowns <= 0)
    # The open drawdown ends with the run.
    ends = np.append(facts.marks_ms[peak_rows[1:]], facts.marks_ms[-1])
    under = np.append(np.diff(peak_rows) > 1, peak_rows[-1] < len(facts.marks) - 1)
    spans = np.where(under, ends - facts.marks_ms[peak_rows], 0)
    return float(np.max(spans)) / DAY_MS


def _ulcer(facts: Facts) -> Outcome:
    return math.sqrt(float(np.mean(facts.drawdowns[1:] ** 2)))


def _per(numerator: Callable[[Facts], Outcome], divisor: Callable[[Facts], Outcome]) -> Callable[[Facts], Outcome]:
    """Return one metric divided by another, undefined where either is or where the other is zero."""

    def ratio(facts: Facts) -> Outcome:
        above, below = numerator(facts), divisor(facts)
        if isinstance(above, str):
            return above
        if isinstance(below, str):
            return below
        return above / below if below > 0 else "there was no drawdown"

    return ratio


def _drawdown_money(facts: Facts) -> Outcome:
    return float(np.max(np.maximum.accumulate(facts.marks) - facts.marks))


def _net_profit(facts: Facts) -> Outcome:
    return float(facts.marks[-1] - facts.settings.capital)


def percentile(values: FloatColumn, percent: int) -> float:
    """Return what numpy's percentile (linear) returns, to the last bit, in a tenth of its time."""
    place = (len(values) - 1) * (percent / 100)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    parted = np.partition(values, (below, above))
    low, high, share = float(parted[below]), float(parted[above]), place - below
    if share >= 0.5:
        return high - (high - low) * (1.0 - share)
    return low + (high - low) * share


def _omega(returns: FloatColumn) -> Outcome:
    lost = float(np.sum(np.maximum(-returns, 0.0)))
    return float(np.sum(np.maximum(returns, 0.0))) / lost if lost > 0 else "no day lost"


def _tail_ratio(returns: FloatColumn) -> Outcome:
    low, high = percentile(returns, 5), percentile(returns, 95)
    return abs(high) / abs(low) if low != 0 else "the 5th percentile of daily returns is zero"


def _value_at_risk(returns: FloatColumn) -> Outcome:
    return percentile(returns, 5)


def _conditional_value_at_risk(returns: FloatColumn) -> Outcome:
    return float(np.mean(returns[returns <= percentile(returns, 5)]))


def _stability(returns: FloatColumn) -> Outcome:
    growth = np.cumsum(np.log1p(returns))
    time = np.arange(len(growth), dtype=np.float64)
    growth_spread, time_spread = growth - np.mean(growth), time - np.mean(time)
    total = float(np.sum(growth_spread**2))
    if total <= SMALLEST_SPREAD**2:
        return "the equity does not move"
    return float(np.sum(growth_spread * time_spread)) ** 2 / (total * float(np.sum(time_spread**2)))


def _beta(facts: Facts) -> Outcome:
    if facts.returns is None:
        return LOST
    market = facts.market_returns
    if market is None:
        return "the warm-up leaves no bar to trade"
    if len(market) < 2:
        return f"{len(market)} daily returns; 2 are needed"
    spread = float(np.var(market, ddof=1))
    if spread <= SMALLEST_SPREAD**2:
        return "the market does not move"
    return float(np.cov(facts.returns, market, ddof=1)[0, 1]) / spread


def _alpha(facts: Facts) -> Outcome:
    beta = _beta(facts)
    if isinstance(beta, str) or facts.returns is None or facts.market_returns is None:
        return beta
    return PERIODS_PER_YEAR * float(np.mean(facts.returns) - beta * np.mean(facts.market_returns))


_FEW = f"fewer than 2 daily returns, or {LOST}"

RETURN_METRICS: tuple[Metric, ...] = (
    Metric(
        "total_return", "Total return", "fraction",
        "final equity / starting capital - 1", "fees included", "definition", "", _total_return,
    ),
    Metric(
        "cagr", "Compound annual growth rate", "fraction",
        "(final equity / starting capital)^(365.25 days / elapsed) - 1",
        "calendar time from the first bar's open to the last bar's close", "ffn, calc_cagr",
        f"the run is shorter than a day, or {LOST}", _cagr,
    ),
    Metric(
        "volatility", "Volatility", "fraction",
        "sqrt(365) * standard deviation of daily returns (n - 1)", DAILY, "empyrical, annual_volatility", _FEW,
        _on_returns(2, _volatility), better="lower",
    ),
    Metric(
        "sharpe", "Sharpe ratio", "ratio",
        "sqrt(365) * mean(r) / standard deviation(r, n - 1)", DAILY, "Sharpe 1994; quantstats and empyrical with 365",
        f"{_FEW}, or daily returns that do not vary", _on_returns(2, _sharpe),
    ),
    Metric(
        "sortino", "Sortino ratio", "ratio",
        "sqrt(365) * mean(r) / sqrt(mean(min(r, 0)^2)) over all days", f"{DAILY}, minimum acceptable return 0",
        "Sortino and Price 1994; quantstats and empyrical with 365", f"{_FEW}, or no losing day",
        _on_returns(2, _sortino),
    ),
    Metric(
        "max_drawdown", "Maximum drawdown", "fraction",
        "largest 1 - equity / highest equity so far", "daily marks, starting capital is the first peak, positive",
        "empyrical, max_drawdown (sign turned)", "", _max_drawdown, better="lower",
    ),
    Metric(
        "max_drawdown_intraday", "Maximum drawdown on bar closes", "fraction",
        "largest 1 - equity / highest equity so far", "every bar close, starting capital is the first peak, positive",
        "definition", "", _max_drawdown_intraday, better="lower",
    ),
    Metric(
        "max_drawdown_days", "Longest drawdown", "days",
        "longest time from a peak to its recovery", "daily marks; a drawdown still open at the end counts up to it",
        "definition", "", _max_drawdown_days, better="lower",
    ),
    Metric(
        "calmar", "Calmar ratio", "ratio", "CAGR / maximum drawdown", "daily marks, whole run", "Young 1991; ffn",
        "no drawdown, or CAGR is undefined", _per(_cagr, _max_drawdown),
    ),
    Metric(
        "ulcer", "Ulcer index", "fraction", "sqrt(mean(drawdown^2))", "daily marks, divided by n; a fraction of 1",
        "Martin 1987; ffn (quantstats divides by n - 1)", "", _ulcer, better="lower",
    ),
    Metric(
        "martin", "Martin ratio", "ratio", "CAGR / ulcer index", "daily marks, risk-free rate 0",
        "Martin 1987 (ulcer performance index)", "no drawdown, or CAGR is undefined", _per(_cagr, _ulcer),
    ),
    Metric(
        "recovery_factor", "Recovery factor", "ratio", "net profit / largest drawdown in money", "daily marks",
        "TradingView, return of max drawdown", "no drawdown", _per(_net_profit, _drawdown_money),
    ),
    Metric(
        "omega", "Omega ratio", "ratio", "sum of max(r, 0) / sum of max(-r, 0)", f"{DAILY}, threshold 0",
        "Keating and Shadwick 2002; empyrical, omega_ratio", f"no losing day, no daily return, or {LOST}",
        _on_returns(1, _omega),
    ),
    Metric(
        "tail_ratio", "Tail ratio", "ratio", "|95th percentile of r| / |5th percentile of r|", f"{DAILY}; linear quantiles",
        "empyrical, tail_ratio", f"{_FEW}, or a 5th percentile of zero", _on_returns(2, _tail_ratio),
    ),
    Metric(
        "value_at_risk", "Value at risk, 95 %", "fraction", "5th percentile of daily returns",
        "historical, one day, linear quantile; negative is a loss", "empyrical, value_at_risk", _FEW,
        _on_returns(2, _value_at_risk),
    ),
    Metric(
        "conditional_value_at_risk", "Expected shortfall, 95 %", "fraction",
        "mean of the daily returns at or below their 5th percentile", "historical, one day; negative is a loss",
        "empyrical, conditional_value_at_risk", _FEW, _on_returns(2, _conditional_value_at_risk),
    ),
    Metric(
        "stability", "Stability", "fraction", "R^2 of cumulative log returns on time", DAILY,
        "empyrical, stability_of_timeseries", f"fewer than 3 daily returns, an equity that does not move, or {LOST}",
        _on_returns(3, _stability),
    ),
    Metric(
        "beta", "Beta against buy and hold", "ratio", "covariance(r, market) / variance(market), n - 1",
        f"{DAILY}; market is the price in quote currency from the first bar an order could fill at", "empyrical, beta",
        f"{_FEW}, no bar to trade, or a market that does not move", _beta,
    ),
    Metric(
        "alpha", "Alpha against buy and hold", "fraction", "365 * (mean(r) - beta * mean(market))",
        f"{DAILY}; a year's sum, not compounded", "Jensen 1968; empyrical, alpha (compounds it)",
        f"{_FEW}, no bar to trade, or a market that does not move", _alpha,
    ),
)  # fmt: skip
