"""Funding and margin of a perpetual as the event kernel reads them: settlements as events, marks in blocks, tiers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.market_detail import MarketDetail
from engine.core.perpetual import MarginTier
from engine.core.sweep.blocks import LARGE, SMALL, whole_blocks


class Settled(NamedTuple):
    """Bars with a funding settlement, ascending; none where funding is not charged.

    Attributes
    ----------
    bar : ndarray of int64, shape (s,)
    at_open, inside : ndarray of float64, shape (s,)
        What one long unit pays at the bar's open, and after it.
    high, low : ndarray of float64, shape (s,)
        Extreme closes of the bars from this one to the one before the next settlement.
    next_row : ndarray of int64, shape (n,) or (0,)
        The first settlement at each bar or after it; empty where there is none at all.
    """

    bar: NDArray[np.int64]
    at_open: FloatColumn
    inside: FloatColumn
    high: FloatColumn
    low: FloatColumn
    next_row: NDArray[np.int64]


class Margin(NamedTuple):
    """Maintenance tiers and the mark prices that liquidate; everything is empty where nothing is liquidated.

    Attributes
    ----------
    limit, maintenance, deduction, leverage : ndarray of float64, shape (t,)
    open, high, low : ndarray of float64, shape (n,) or (0,)
        Marks of the bars; high and low include the open.
    small_high, small_low, large_high, large_low : ndarray of float64
        Extremes of whole blocks of the marks (see `PriceBlocks`).
    """

    limit: FloatColumn
    maintenance: FloatColumn
    deduction: FloatColumn
    leverage: FloatColumn
    open: FloatColumn
    high: FloatColumn
    low: FloatColumn
    small_high: FloatColumn
    small_low: FloatColumn
    large_high: FloatColumn
    large_low: FloatColumn


def settled_bars(candles: Candles, detail: MarketDetail) -> Settled:
    """Return the settlements laid beside some candles."""
    at_open, inside = detail.funding_at_open, detail.funding_inside
    bars = len(candles)
    if at_open is None or inside is None:
        at_open = inside = np.zeros(bars)
    bar = np.flatnonzero((at_open != 0.0) | (inside != 0.0)).astype(np.int64)
    if len(bar) == 0:
        return Settled(bar, np.empty(0), np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.int64))
    return Settled(
        bar, at_open[bar], inside[bar], np.maximum.reduceat(candles.close, bar), np.minimum.reduceat(candles.close, bar),
        np.searchsorted(bar, np.arange(bars)).astype(np.int64),
    )  # fmt: skip


def margin_of(candles: Candles, detail: MarketDetail, tiers: tuple[MarginTier, ...]) -> Margin:
    """Return tiers and marks; the candles' own prices stand in for marks that are not given."""
    if not tiers:
        nothing = np.empty(0)
        return Margin(*(nothing,) * 11)
    marks = detail.mark or candles
    # A mark that is not a number reaches nothing.
    high, low = np.fmax(marks.high, marks.open), np.fmin(marks.low, marks.open)
    return Margin(
        limit=np.array([tier.limit_value for tier in tiers], np.float64),
        maintenance=np.array([tier.maintenance_fraction for tier in tiers], np.float64),
        deduction=np.array([tier.deduction for tier in tiers], np.float64),
        leverage=np.array([tier.max_leverage for tier in tiers], np.float64),
        open=marks.open.copy(),
        high=high,
        low=low,
        small_high=np.fmax.reduce(whole_blocks(high, SMALL), axis=1),
        small_low=np.fmin.reduce(whole_blocks(low, SMALL), axis=1),
        large_high=np.fmax.reduce(whole_blocks(high, LARGE), axis=1),
        large_low=np.fmin.reduce(whole_blocks(low, LARGE), axis=1),
    )
