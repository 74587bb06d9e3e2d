"""Candles without an edge, or with blurred prices: jitter, shuffled blocks, geometric Brownian motion and GARCH."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.core.candles import Candles, FloatColumn, TimeColumn
from engine.core.validation.return_matrix import RandomSource
from engine.errors import BadRequest

ATR_BARS = 14
# A blurred price never falls below this share of the price it was.
LOWEST_SHARE = 0.01
SPREAD_OF_VOLUMES = 0.5


@dataclass(frozen=True, slots=True)
class Garch:
    """Volatility that clusters: variance = w + alpha x last squared return + beta x last variance.

    Attributes
    ----------
    alpha, beta : float
        At least 0, together below 1; w makes the long-run variance that of `volatility`.
    """

    alpha: float = 0.08
    beta: float = 0.90


def jitter_candles(
    candles: Candles, random: RandomSource, atr_multiple: float = 0.1, tick_size: float = 0.0
) -> Candles:
    """Blur every price by a normal error in proportion to the average true range.

    Parameters
    ----------
    candles : Candles
    random : Generator or RandomState
    atr_multiple : float
        Standard deviation of the error in average true ranges of up to 14 bars; at least 0.
    tick_size : float
        Prices become multiples of it; 0 leaves them as they come.

    Returns
    -------
    Candles
        low <= open, close <= high. A close and the open after it get the same error, so no gap appears where there was
        none; high and low have their own and are widened where open or close pass them. Volumes stay.
    """
    if not 0 <= atr_multiple < math.inf or not 0 <= tick_size < math.inf:
        raise BadRequest(
            f"atr_multiple {atr_multiple}, tick size {tick_size}", fix="both are finite numbers of 0 or more"
        )
    if not len(candles):
        return candles
    scale = atr_multiple * average_true_range(candles)
    seams = random.standard_normal(size=len(candles) + 1)
    close = candles.close + scale * seams[1:]
    open_ = candles.open + np.concatenate((scale[:1], scale[:-1])) * seams[:-1]
    high = candles.high + scale * random.standard_normal(size=len(candles))
    low = candles.low + scale * random.standard_normal(size=len(candles))
    moved = zip((open_, high, low, close), (candles.open, candles.high, candles.low, candles.close), strict=True)
    open_, high, low, close = (np.maximum(new, LOWEST_SHARE * old) for new, old in moved)
    return _enveloped(candles.ts, open_, high, low, close, candles.volume, candles.turnover, tick_size)


def average_true_range(candles: Candles) -> FloatColumn:
    """Return the mean true range of each bar and up to 13 before it (shape (n,), quote currency, no NaN)."""
    before = np.concatenate((candles.open[:1], candles.close[:-1]))
    ranges = np.maximum(candles.high, before) - np.minimum(candles.low, before)
    totals = np.concatenate(([0.0], np.cumsum(ranges)))
    ends = np.arange(1, len(ranges) + 1)
    begins = np.maximum(ends - ATR_BARS, 0)
    return (totals[ends] - totals[begins]) / (ends - begins)


def shuffle_blocks(
    candles: Candles, random: RandomSource, block_bars: int = 24, *, keeps_drift: bool = False, tick_size: float = 0.0
) -> Candles:
    """Put blocks of bars into another order: every bar's shape is real, the order beyond a block is chance.

    Parameters
    ----------
    candles : Candles
    random : Generator or RandomState
    block_bars : int
        Bars that stay together; at least 1. The first block begins at a random bar, the series taken as a circle.
    keeps_drift : bool
        False takes the mean log return out of every bar, so that holding the market has no edge either.
    tick_size : float

    Returns
    -------
    Candles
        The times of the original; low <= open, close <= high.
    """
    if block_bars < 1:
        raise BadRequest(f"blocks of {block_bars} bars", fix="block_bars is at least 1")
    count = len(candles)
    if count < 2:
        return candles
    order = _block_order(count, block_bars, random)
    before = np.concatenate((candles.open[:1], candles.close[:-1]))
    gaps = np.log(candles.open / before)
    bodies = np.log(candles.close / candles.open)
    if not keeps_drift:
        gaps -= (gaps.sum() + bodies.sum()) / count
    steps = gaps[order] + bodies[order]
    closes = np.log(candles.open[0]) + np.cumsum(steps)
    open_ = np.exp(closes - bodies[order])
    close = np.exp(closes)
    return _enveloped(
        candles.ts,
        open_,
        open_ * (candles.high / candles.open)[order],
        open_ * (candles.low / candles.open)[order],
        close,
        candles.volume[order],
        candles.turnover[order] * close / candles.close[order],
        tick_size,
    )


def _block_order(count: int, block_bars: int, random: RandomSource) -> TimeColumn:
    start = int(random.random() * count)
    circle = (start + np.arange(count)) % count
    blocks = [circle[at : at + block_bars] for at in range(0, count, block_bars)]
    return np.concatenate([blocks[which] for which in random.permutation(len(blocks))])


def random_walk_candles(
    ts: TimeColumn,
    random: RandomSource,
    start_price: float = 10_000.0,
    volatility: float = 0.005,
    garch: Garch | None = None,
    *,
    steps_per_bar: int = 16,
    tick_size: float = 0.0,
) -> Candles:
    """Make candles of a martingale: no rule has an edge on them before costs.

    Parameters
    ----------
    ts : ndarray of int64, shape (n,)
        Bar opens, milliseconds UTC.
    random : Generator or RandomState
    start_price : float
        Above 0.
    volatility : float
        Standard deviation of a bar's log return (long-run, with `garch`); above 0.
    garch : Garch or None
        None: geometric Brownian motion, every bar alike.
    steps_per_bar : int
        Moves inside a bar, whose extremes make high and low.
    tick_size : float

    Returns
    -------
    Candles
        A bar opens at the last close. Volumes are lognormal and know nothing of prices.

    Notes
    -----
    The drift of the log price is minus half the variance, so that the expected price tomorrow is today's. GARCH(1,1):
    Bollerslev 1986.
    """
    if not start_price > 0 or not 0 < volatility < 1 or steps_per_bar < 1:
        raise BadRequest(
            f"start price {start_price}, volatility {volatility}, {steps_per_bar} steps a bar",
            fix="start_price is above 0, volatility between 0 and 1, steps_per_bar at least 1",
        )
    count = len(ts)
    moves = random.standard_normal(size=(count, steps_per_bar)) / math.sqrt(steps_per_bar)
    deviations = volatility * _relative_deviations(moves.sum(axis=1), garch)
    moves *= deviations[:, None]
    moves -= (deviations**2 / (2.0 * steps_per_bar))[:, None]
    path = math.log(start_price) + np.cumsum(moves).reshape(count, steps_per_bar)
    close = np.exp(path[:, -1])
    open_ = np.concatenate(([start_price], close[:-1]))[:count]
    volume = 1_000.0 * np.exp(SPREAD_OF_VOLUMES * random.standard_normal(size=count))
    high, low = np.exp(path.max(axis=1, initial=-math.inf)), np.exp(path.min(axis=1, initial=math.inf))
    return _enveloped(ts, open_, high, low, close, volume, volume * close, tick_size)


def _relative_deviations(shocks: FloatColumn, garch: Garch | None) -> FloatColumn:
    """Return the standard deviation of each bar in units of the long-run one."""
    if garch is None:
        return np.ones(len(shocks))
    if min(garch.alpha, garch.beta) < 0 or garch.alpha + garch.beta >= 1:
        raise BadRequest(f"{garch}", fix="alpha and beta are at least 0 and add up to less than 1")
    rest = 1.0 - garch.alpha - garch.beta
    variances = np.empty(len(shocks))
    variance = 1.0
    for row, square in enumerate((shocks**2).tolist()):
        variances[row] = variance
        variance = rest + (garch.alpha * square + garch.beta) * variance
    return np.sqrt(variances)


def _enveloped(
    ts: TimeColumn,
    open_: FloatColumn,
    high: FloatColumn,
    low: FloatColumn,
    close: FloatColumn,
    volume: FloatColumn,
    turnover: FloatColumn,
    tick_size: float,
) -> Candles:
    """Round to ticks and widen high and low so that they hold open and close."""
    if tick_size > 0:
        open_, high, low, close = (
            np.maximum(np.round(column / tick_size), 1.0) * tick_size for column in (open_, high, low, close)
        )
    top = np.maximum(np.maximum(high, low), np.maximum(open_, close))
    bottom = np.minimum(np.minimum(high, low), np.minimum(open_, close))
    return Candles(ts, open_, top, bottom, close, volume.copy(), turnover.copy())
