"""Figures of many runs at once, each as the metrics registry defines it for one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.metrics.facts import DAYS_PER_YEAR, PERIODS_PER_YEAR
from engine.core.metrics.returns import SMALLEST_SPREAD
from engine.core.sweep import event_kernel as kernel

SWEEP_METRICS: tuple[str, ...] = (
    "net_profit", "final_equity", "total_return", "cagr", "trades", "winning_trades", "losing_trades", "win_rate",
    "profit_factor", "expectancy", "fees_paid", "exposure", "max_drawdown", "max_drawdown_intraday", "calmar",
    "volatility", "sharpe", "sortino", "daily_sharpe", "skew", "kurtosis",
)  # fmt: skip
_NEEDS_RETURNS = 2


def daily_returns(marks: NDArray[np.float64], capital: float) -> NDArray[np.float64]:
    """Return simple returns between daily marks.

    Parameters
    ----------
    marks : ndarray of float64, shape (p, m)

    Returns
    -------
    ndarray of float64, shape (p, m)
        A row of NaN where a mark is zero or less.
    """
    before = np.empty_like(marks)
    before[:, 0] = capital
    before[:, 1:] = marks[:, :-1]
    with np.errstate(all="ignore"):
        returns = marks / before - 1.0
    returns[~(marks > 0).all(axis=1)] = np.nan
    return returns


def measure(
    figures: NDArray[np.float64],
    marks: NDArray[np.float64],
    returns: NDArray[np.float64],
    capital: float,
    bars: int,
    elapsed_days: float,
) -> dict[str, FloatColumn]:
    """Return every figure of `SWEEP_METRICS` (shape (p,); NaN where the metric is undefined).

    Parameters
    ----------
    figures : ndarray of float64, shape (p, FIGURES)
    marks, returns : ndarray of float64, shape (p, m)
    elapsed_days : float
        From the open of the first bar to the close of the last one.

    Notes
    -----
    `daily_sharpe` is the Sharpe ratio per day, not annualised; `skew` and `kurtosis` are the population moments of the daily
    returns, kurtosis 3 for a normal distribution, as the deflated Sharpe ratio takes them (Bailey and López de Prado 2014).
    """
    final, trades = figures[:, kernel.FINAL], figures[:, kernel.TRADES]
    wins, losses = figures[:, kernel.WINS], figures[:, kernel.LOSSES]
    drawdown = _daily_drawdown(marks, capital)
    with np.errstate(all="ignore"):
        cagr = _cagr(final, capital, elapsed_days)
        values = {
            "net_profit": final - capital,
            "final_equity": final.copy(),
            "total_return": final / capital - 1.0,
            "cagr": cagr,
            "trades": trades.copy(),
            "winning_trades": wins.copy(),
            "losing_trades": losses.copy(),
            "win_rate": _ratio(wins, wins + losses),
            "profit_factor": np.where(losses > 0, _ratio(figures[:, kernel.WON], figures[:, kernel.LOST]), np.nan),
            "expectancy": _ratio(figures[:, kernel.WON] - figures[:, kernel.LOST], trades),
            "fees_paid": figures[:, kernel.FEES].copy(),
            "exposure": figures[:, kernel.EXPOSED] / bars,
            "max_drawdown": drawdown,
            "max_drawdown_intraday": 1.0 - figures[:, kernel.LOWEST_RATIO],
            "calmar": _ratio(cagr, drawdown),
            **_moments(returns),
        }
    return {name: np.where(np.isfinite(column), column, np.nan) for name, column in values.items()}


def _ratio(above: FloatColumn, below: FloatColumn) -> FloatColumn:
    return np.where(below > 0, above / below, np.nan)


def _cagr(final: FloatColumn, capital: float, elapsed_days: float) -> FloatColumn:
    if elapsed_days < 1:
        return np.full(len(final), np.nan)
    exponent = DAYS_PER_YEAR / elapsed_days * np.log(final / capital)
    return np.where(exponent < 700, np.expm1(exponent), np.nan)


def _daily_drawdown(marks: NDArray[np.float64], capital: float) -> FloatColumn:
    peaks = np.maximum(np.maximum.accumulate(marks, axis=1), capital)
    return np.maximum((1.0 - marks / peaks).max(axis=1), 0.0)


def _moments(returns: NDArray[np.float64]) -> dict[str, FloatColumn]:
    names = ("volatility", "sharpe", "sortino", "daily_sharpe", "skew", "kurtosis")
    if returns.shape[1] < _NEEDS_RETURNS:
        return {name: np.full(len(returns), np.nan) for name in names}
    mean = returns.mean(axis=1)
    spread = returns.std(axis=1, ddof=1)
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=1))
    varies = spread > SMALLEST_SPREAD
    away = returns - mean[:, None]
    second = (away**2).mean(axis=1)
    year = math.sqrt(PERIODS_PER_YEAR)
    columns = (
        year * spread,
        np.where(varies, year * mean / spread, np.nan),
        np.where(downside > SMALLEST_SPREAD, year * mean / downside, np.nan),
        np.where(varies, mean / spread, np.nan),
        np.where(varies, (away**3).mean(axis=1) / second**1.5, np.nan),
        np.where(varies, (away**4).mean(axis=1) / second**2, np.nan),
    )
    return dict(zip(names, columns, strict=True))
