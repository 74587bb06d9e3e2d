"""Market regimes that were knowable at the time: a rule of trend and volatility, and what regimes are made of."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FloatArray, checked_series
from engine.errors import BadRequest

Labels = NDArray[np.int8]

UNKNOWN = -1
# Label = 2 x trend + volatility.
GRID_NAMES = ("down calm", "down wild", "sideways calm", "sideways wild", "up calm", "up wild")
DOWN, SIDEWAYS, UP = range(3)
CALM, WILD = range(2)


@dataclass(frozen=True, slots=True)
class RegimeRule:
    """The rule's parameters.

    Attributes
    ----------
    volatility_bars : int
        Span of the exponentially weighted volatility.
    wild_ratio : float
        Volatility above this multiple of its own median so far is wild.
    trend_bars : int
        Length of the move that makes a trend.
    trend_deviations : float
        Size of that move, in standard deviations of a move without drift.
    """

    volatility_bars: int = 20
    wild_ratio: float = 1.5
    trend_bars: int = 50
    trend_deviations: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class RegimeSummary:
    """How a sequence of regimes behaves.

    Attributes
    ----------
    share : ndarray of float64, shape (regimes,)
        Of the labelled bars.
    mean_duration : ndarray of float64, shape (regimes,)
        In bars; 0 for a regime that never came up.
    transitions : ndarray of float64, shape (regimes, regimes)
        Probability of the next bar's regime (column) after this one (row); a row of 0 where a regime was never left
        behind by another bar.
    """

    share: FloatArray
    mean_duration: FloatArray
    transitions: FloatArray


def label_regimes(close: FloatArray, rule: RegimeRule | None = None) -> Labels:
    """Label each bar from its own close and the ones before it.

    Parameters
    ----------
    close : ndarray of float64, shape (n,)
        Above 0.
    rule : RegimeRule or None

    Returns
    -------
    ndarray of int8, shape (n,)
        Index into `GRID_NAMES`; `UNKNOWN` during the warm-up of max(volatility_bars, trend_bars) bars.

    Notes
    -----
    Volatility is the root of an exponentially weighted mean of squared log returns, compared with the median of its
    values so far; the trend is the move over `trend_bars` in units of that volatility times the root of their number.
    """
    rule = rule or RegimeRule()
    prices = checked_series(close)
    if min(rule.volatility_bars, rule.trend_bars) < 2 or rule.wild_ratio <= 0 or rule.trend_deviations < 0:
        raise BadRequest(f"{rule}", fix="bars are at least 2, wild_ratio above 0 and trend_deviations at least 0")
    if not bool(np.all(prices > 0)):
        raise BadRequest("a close of zero or less has no logarithm", fix="hand in closes above 0")
    logs = np.log(prices)
    volatility = weighted_volatility(np.diff(logs), rule.volatility_bars)
    warmup = max(rule.volatility_bars, rule.trend_bars)
    labels = np.full(len(prices), UNKNOWN, np.int8)
    if len(prices) <= warmup:
        return labels
    current = volatility[warmup - 1 :]
    median = expanding_median(volatility[rule.volatility_bars - 1 :])[warmup - rule.volatility_bars :]
    move = logs[warmup:] - logs[warmup - rule.trend_bars : -rule.trend_bars]
    reach = rule.trend_deviations * current * np.sqrt(rule.trend_bars)
    trend = np.where(move > reach, UP, np.where(move < -reach, DOWN, SIDEWAYS))
    labels[warmup:] = 2 * trend + np.where(current > rule.wild_ratio * median, WILD, CALM)
    return labels


def weighted_volatility(returns: FloatArray, span_bars: int) -> FloatArray:
    """Return the root of the exponentially weighted mean of squares so far.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
    span_bars : int
        Weight of the newest square is 2 / (span + 1); the weights of a short history are scaled up to 1.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    keep = 1.0 - 2.0 / (span_bars + 1.0)
    result = np.empty(len(returns))
    total, weight = 0.0, 0.0
    for row, square in enumerate((returns**2).tolist()):
        total, weight = keep * total + square, keep * weight + 1.0
        result[row] = total / weight
    return np.sqrt(result)


def expanding_median(values: FloatArray) -> FloatArray:
    """Return the median of each value and all before it (shape (n,), no NaN).

    >>> expanding_median(np.array([3.0, 1.0, 2.0])).tolist()
    [3.0, 2.0, 2.0]
    """
    ordered: list[float] = []
    result = np.empty(len(values))
    for row, value in enumerate(values.tolist()):
        insort(ordered, value)
        middle = row // 2
        result[row] = ordered[middle] if row % 2 == 0 else (ordered[middle] + ordered[middle + 1]) / 2.0
    return result


def summarise_regimes(labels: Labels, regimes: int) -> RegimeSummary:
    """Count how long regimes last and what follows them.

    Parameters
    ----------
    labels : ndarray of int8, shape (n,)
        In [0, regimes), or `UNKNOWN`, which is left out and ends a run.
    regimes : int
    """
    if regimes < 1 or (len(labels) and (labels.max() >= regimes or labels.min() < UNKNOWN)):
        raise BadRequest(f"labels outside 0 to {regimes - 1}", fix="hand in the number of regimes the labels come from")
    known = labels[labels != UNKNOWN]
    counts = np.bincount(known, minlength=regimes).astype(np.float64)
    is_begin = np.concatenate(([True], labels[1:] != labels[:-1]))[: len(labels)]
    begun = np.bincount(labels[is_begin & (labels != UNKNOWN)], minlength=regimes)
    pairs = np.zeros((regimes, regimes))
    before, after = labels[:-1], labels[1:]
    both = (before != UNKNOWN) & (after != UNKNOWN)
    np.add.at(pairs, (before[both], after[both]), 1.0)
    left = pairs.sum(axis=1, keepdims=True)
    return RegimeSummary(
        share=counts / max(len(known), 1),
        mean_duration=counts / np.maximum(begun, 1),
        transitions=pairs / np.maximum(left, 1.0),
    )
