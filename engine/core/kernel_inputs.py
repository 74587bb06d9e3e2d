"""Candles, signals and settings as the compiled loops read them, checked on the way."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.core import fill_rules, kernel
from engine.core.candles import Candles, FloatColumn
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.signals import MOST_ENTRIES, MOST_PARTIAL_TARGETS, BoolColumn, EntryOrder, Signals
from engine.errors import BadRequest, DataMissing

SMALLEST_FRACTION = 1e-9

_SIZE_MODES = {
    "equity_fraction": fill_rules.EQUITY_FRACTION,
    "quote": fill_rules.QUOTE,
    "quantity": fill_rules.QUANTITY,
    "risk": fill_rules.RISK,
}


def check_inputs(candles: Candles, signals: Signals) -> None:
    """Refuse what cannot be simulated: no candles, prices at or below zero, columns of another length, bad levels."""
    check_signals(candles, signals)
    check_prices(candles)


def check_prices(candles: Candles) -> None:
    """Refuse prices at or below zero, and those that are not finite."""
    for name in ("open", "high", "low", "close"):
        if not kernel.are_prices(read_only(getattr(candles, name))):
            raise BadRequest(f"the {name} prices hold a value that is not above zero", fix="repair the candles")


def check_signals(candles: Candles, signals: Signals) -> None:
    """Refuse no candles, columns of another length than theirs, and bad levels."""
    bars = len(candles)
    if bars == 0:
        raise DataMissing("there are no candles to simulate", fix="choose a range with candles, or fetch them first")
    for name in ("long_entry", "long_exit", "short_entry", "short_exit"):
        _check_length(name, len(getattr(signals, name)), bars)
    for name in ("stop_distance", "target_distance", "trail_distance"):
        if getattr(signals, name) is not None:
            _check_length(name, len(getattr(signals, name)), bars)
    for name in (
        "stop_fraction",
        "target_fraction",
        "trail_fraction",
        "trail_activation_fraction",
        "breakeven_fraction",
    ):
        _check_fraction(name, getattr(signals, name))
    if signals.max_bars < 0:
        raise BadRequest(f"max_bars is {signals.max_bars}", fix="max_bars is 1 or more, or 0 for none")
    _check_order(signals.order, signals.max_entries, bars)
    _check_parts(signals, bars)
    if signals.session is not None:
        _check_length("session", len(signals.session), bars)


def pack_decisions(signals: Signals) -> NDArray[np.uint8]:
    """Return the four decision columns as bits of one byte a bar, in the kernel's order."""
    bits: dict[int, tuple[BoolColumn, int]] = {}
    for column, bit in (
        (signals.long_entry, kernel.LONG_ENTRY),
        (signals.long_exit, kernel.LONG_EXIT),
        (signals.short_entry, kernel.SHORT_ENTRY),
        (signals.short_exit, kernel.SHORT_EXIT),
    ):
        # What leaves one side often enters the other: one column for both.
        bits[id(column)] = (column, bits.get(id(column), (column, 0))[1] | bit)
    (first, bit), *others = bits.values()
    packed = np.multiply(first.view(np.uint8), np.uint8(bit))
    shifted = np.empty_like(packed)
    for column, bit in others:
        packed |= np.multiply(column.view(np.uint8), np.uint8(bit), out=shifted)
    return packed


def kernel_rules(signals: Signals, settings: ExecutionSettings) -> kernel.KernelRules:
    """Return settings and levels as the kernel's scalars."""
    lot = step_ratio(settings.lot_step if settings.round_to_lot else 0.0)
    tick = step_ratio(settings.tick_size)
    return kernel.KernelRules(
        capital=float(settings.capital),
        taker_fee=float(settings.taker_fee_fraction),
        target_fee=float(settings.target_fee_fraction),
        fee_reserve=float(settings.fee_reserve_fraction),
        slippage=float(settings.slippage_fraction),
        size_mode=_SIZE_MODES[settings.size_mode],
        size_value=float(settings.size_value),
        leverage=float(settings.leverage),
        lot_numerator=lot[0],
        lot_denominator=lot[1],
        tick_numerator=tick[0],
        tick_denominator=tick[1],
        min_quantity=float(settings.min_quantity),
        min_notional=float(settings.min_notional),
        max_quantity=float(settings.max_quantity),
        stop_fraction=float(signals.stop_fraction),
        target_fraction=float(signals.target_fraction),
        trail_fraction=float(signals.trail_fraction),
        trail_activation=float(signals.trail_activation_fraction),
        breakeven=float(signals.breakeven_fraction),
        max_bars=int(signals.max_bars),
        optimistic=settings.intrabar == "optimistic",
        allow_long=bool(settings.allow_long),
        allow_short=bool(settings.allow_short),
        inverse=settings.category == "inverse",
    )


def _check_fraction(name: str, fraction: float) -> None:
    # Below this a level could be the entry price itself, and armed before anything moved.
    if not math.isnan(fraction) and not (SMALLEST_FRACTION <= fraction < math.inf):
        raise BadRequest(f"{name} is {fraction!r}", fix=f"{name} is {SMALLEST_FRACTION} or more, or NaN for none")


def _check_order(order: EntryOrder | None, max_entries: int, bars: int) -> None:
    if not 1 <= max_entries <= MOST_ENTRIES:
        raise BadRequest(f"max_entries is {max_entries}", fix=f"max_entries is a whole number from 1 to {MOST_ENTRIES}")
    if order is None:
        return
    if max_entries > 1:
        raise BadRequest(
            "resting entry orders cannot add to a position", fix="set max_entries 1, or enter at the market"
        )
    if order.bars < 1:
        raise BadRequest(f"an entry order lives {order.bars} bars", fix="give 1 bar or more")
    _check_fraction("the offset of the entry order", order.fraction)
    if order.distance is not None:
        _check_length("the offset of the entry order", len(order.distance), bars)


def _check_parts(signals: Signals, bars: int) -> None:
    parts = signals.partial_targets
    if len(parts) > MOST_PARTIAL_TARGETS:
        raise BadRequest(f"there are {len(parts)} partial targets", fix=f"give {MOST_PARTIAL_TARGETS} at most")
    if not all(0 < part.share <= 1 for part in parts) or sum(part.share for part in parts) > 1 + 1e-9:
        raise BadRequest(
            "shares of partial targets lie above 0 and sum to 1 at most", fix="give fractions of the position"
        )
    for part in parts:
        _check_fraction("a partial target", part.fraction)
        if part.distance is not None:
            _check_length("a partial target", len(part.distance), bars)


def _check_length(name: str, found: int, bars: int) -> None:
    if found != bars:
        raise BadRequest(f"{name} has {found} rows for {bars} candles", fix="compute the signals on the same candles")


def read_only(column: FloatColumn | None) -> FloatColumn:
    """Return a contiguous read-only view: stored columns are read-only, and a second kind would compile twice."""
    view = np.require(np.empty(0) if column is None else column, np.float64, ["C", "A"]).view()
    view.flags.writeable = False
    return view
