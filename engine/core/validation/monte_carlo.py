"""What else could have happened: reordered trades, resampled trades and resampled days, with ruin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.core.validation.return_matrix import CHUNK_VALUES, FloatArray, RandomSource, checked_series
from engine.errors import BadRequest

MonteCarloMethod = Literal["trade_permutation", "trade_resampling", "daily_block_bootstrap"]
DAYS_PER_YEAR = 365.25
# A number of paths to returns of shape (paths, steps).
_Draw = Callable[[int], FloatArray]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The 5th, 50th and 95th percentile over all paths."""

    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class MonteCarloResult:
    """The spread of outcomes.

    Attributes
    ----------
    method : str
    paths : int
    final : Percentiles
        Final equity as a multiple of the starting equity.
    cagr : Percentiles
        Per year of 365.25 days, fraction; -1 for a path that lost everything.
    max_drawdown : Percentiles
        Fraction of the peak, measured at the steps (trades or days); the starting equity is the first peak.
    ruin_level : float
        Share of the starting equity at or below which a path counts as ruined.
    ruin_probability : float
        Share of ruined paths.
    mean_block : float or None
        In days, for the block bootstrap.
    """

    method: MonteCarloMethod
    paths: int
    final: Percentiles
    cagr: Percentiles
    max_drawdown: Percentiles
    ruin_level: float
    ruin_probability: float
    mean_block: float | None = None


def permute_trades(
    trade_returns: FloatArray, days: float, random: RandomSource, paths: int = 1_000, ruin_level: float = 0.5
) -> MonteCarloResult:
    """Put the same trades into other orders: only the way there changes, not the end.

    Parameters
    ----------
    trade_returns : ndarray of float64, shape (n,)
        Net profit of each trade as a fraction of the equity before it; n >= 1.
    days : float
        From first to last bar of the run.
    random : Generator or RandomState
    paths : int
    ruin_level : float
        In [0, 1).

    Notes
    -----
    Final equity is the product of the same factors, so `final` and `cagr` are one number.
    """
    series = checked_series(trade_returns, fewest=1)

    def draw(count: int) -> FloatArray:
        # The order of uniforms is a uniform order.
        return series[np.argsort(random.random(size=(count, len(series))), axis=1)]

    product = float(np.prod(np.maximum(1.0 + series, 0.0)))
    return _simulate("trade_permutation", draw, len(series), days, paths, ruin_level, fixed_final=product)


def resample_trades(
    trade_returns: FloatArray, days: float, random: RandomSource, paths: int = 1_000, ruin_level: float = 0.5
) -> MonteCarloResult:
    """Draw as many trades with replacement: the sample itself could have been another one.

    Parameters
    ----------
    trade_returns, days, random, paths, ruin_level
        As in `permute_trades`.

    Notes
    -----
    Trades are taken as independent of each other.
    """
    series = checked_series(trade_returns, fewest=1)

    def draw(count: int) -> FloatArray:
        return random.choice(series, size=(count, len(series)))

    return _simulate("trade_resampling", draw, len(series), days, paths, ruin_level)


def bootstrap_days(
    daily_returns: FloatArray,
    random: RandomSource,
    paths: int = 1_000,
    ruin_level: float = 0.5,
    mean_block: float | None = None,
) -> MonteCarloResult:
    """Draw blocks of days with replacement: streaks and quiet spells stay together.

    Parameters
    ----------
    daily_returns : ndarray of float64, shape (n,)
        Simple returns; n >= 9.
    random : Generator or RandomState
    paths : int
    ruin_level : float
    mean_block : float or None
        In days; None: the larger of the optimal lengths for the returns and for their squares, because volatility
        clusters where returns do not.
    """
    series = checked_series(daily_returns, fewest=9)
    if mean_block is None:
        mean_block = max(optimal_block_length(series), optimal_block_length(series**2))

    def draw(count: int) -> FloatArray:
        return series[stationary_indices(len(series), count, mean_block, random)]

    return _simulate(
        "daily_block_bootstrap", draw, len(series), float(len(series)), paths, ruin_level, mean_block=mean_block
    )


def _simulate(
    method: MonteCarloMethod,
    draw: _Draw,
    steps: int,
    days: float,
    paths: int,
    ruin_level: float,
    *,
    fixed_final: float | None = None,
    mean_block: float | None = None,
) -> MonteCarloResult:
    if paths < 1 or not 0 <= ruin_level < 1 or not days > 0:
        raise BadRequest(
            f"{paths} paths over {days} days with ruin at {ruin_level} of the starting equity",
            fix="paths is at least 1, days above 0, ruin_level at least 0 and below 1",
        )
    table = np.empty((3, paths))
    width = max(1, CHUNK_VALUES // steps)
    for start in range(0, paths, width):
        end = min(start + width, paths)
        table[:, start:end] = path_figures(draw(end - start))
    final, drawdown, lowest = table
    if fixed_final is not None:
        # Each order rounds differently; the product does not depend on it.
        final = np.full(paths, fixed_final)
    return MonteCarloResult(
        method=method,
        paths=paths,
        final=_percentiles(final),
        cagr=_percentiles(_yearly(final, days)),
        max_drawdown=_percentiles(drawdown),
        ruin_level=ruin_level,
        ruin_probability=float((lowest <= ruin_level).mean()),
        mean_block=mean_block,
    )


def path_figures(returns: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return final equity, largest drawdown and lowest equity of paths that start at 1.

    Parameters
    ----------
    returns : ndarray of float64, shape (paths, steps)
        A loss of everything or more ends the path at 0.

    Returns
    -------
    final, drawdown, lowest : ndarray of float64, shape (paths,)

    >>> [figure.tolist() for figure in path_figures(np.array([[0.5, -0.5, 1.0]]))]
    [[1.5], [0.5], [0.75]]
    """
    factors: FloatArray = np.maximum(1.0 + returns, 0.0)
    equity = factors.cumprod(axis=1)
    peaks = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    drawdown: FloatArray = np.maximum((1.0 - equity / peaks).max(axis=1), 0.0)
    return equity[:, -1], drawdown, np.minimum(equity.min(axis=1), 1.0)


def _yearly(final: FloatArray, days: float) -> FloatArray:
    with np.errstate(divide="ignore"):
        exponent = np.log(final) * (DAYS_PER_YEAR / days)
    # A run of a few days has no yearly rate that a float could hold.
    return np.expm1(np.minimum(exponent, 700.0))


def _percentiles(values: FloatArray) -> Percentiles:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return Percentiles(float(low), float(middle), float(high))
