"""Runs that need more than the fast loop: everything laid out for `engine.core.full_kernel`, and read back from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.core import full_layout as layout
from engine.core.candles import Candles, FloatColumn
from engine.core.execution import ExecutionSettings
from engine.core.full_kernel import Inputs, run_all_rules
from engine.core.kernel_inputs import kernel_rules, pack_decisions, read_only
from engine.core.market_detail import MarketDetail
from engine.core.signals import Signals
from engine.core.simulation import Entries, Simulation, SkipReason
from engine.core.trades import Trades
from engine.errors import BadRequest

_INTRABAR = {
    "pessimistic": layout.PESSIMISTIC,
    "optimistic": layout.OPTIMISTIC,
    "magnify": layout.MAGNIFY,
}
_ORDERS = {"limit": layout.LIMIT_ORDER, "stop": layout.STOP_ORDER}


def needs_all_rules(signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> bool:
    """Say whether a run uses a rule that the fast loop leaves out."""
    return bool(
        settings.intrabar == "magnify"
        or settings.margin_tiers
        or detail.funding_at_open is not None
        or signals.order is not None
        or signals.max_entries > 1
        or signals.partial_targets
        or signals.session is not None
    )


def run_in_full(candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> Simulation:
    """Run the loop with every rule; also right, and slower, for runs that use none of them."""
    bars = len(candles)
    most = int(np.count_nonzero(signals.long_entry | signals.short_entry))
    equity, position = np.empty(bars), np.empty(bars, np.int8)
    trades = np.empty(most * (len(signals.partial_targets) + 1) * layout.TRADE_WIDTH)
    fills = np.empty(most * layout.FILL_WIDTH)
    f, k = initial_arrays(signals, settings, detail, bars)
    distances = _distances(signals)
    k[layout.DISTANCE_PLACE : layout.DISTANCE_PLACE + len(distances)] = list(distances)
    columns = np.array(list(distances.values()), np.float64).reshape(len(distances), bars)
    run_all_rules(_inputs(candles, signals, detail, columns), f, k, trades, fills, equity, position)
    ruined_bar = int(k[layout.RUINED_BAR])
    rows = trades.reshape(-1, layout.TRADE_WIDTH)[: k[layout.TRADES]]
    entries = fills.reshape(-1, layout.FILL_WIDTH)[: k[layout.FILLS]]
    whole, parts = layout.TRADE_NUMBERS, layout.FILL_NUMBERS
    return Simulation(
        trades=Trades.from_tables(rows[:, :whole].astype(np.int64), rows[:, whole:]),
        equity=equity,
        position=position,
        exposed_bars=int(k[layout.EXPOSED]),
        ambiguous_bars=int(k[layout.AMBIGUOUS]),
        skipped_entries={skip.name.lower(): int(k[layout.SKIP + skip]) for skip in SkipReason},
        capped_entries=int(k[layout.CAPPED]),
        ruined_bar=None if ruined_bar < 0 else ruined_bar,
        warmup_bars=signals.warmup_bars,
        entries=Entries.from_tables(entries[:, :parts].astype(np.int64), entries[:, parts:]),
        decided_bars=int(k[layout.DECIDED]),
    )


def initial_arrays(
    signals: Signals, settings: ExecutionSettings, detail: MarketDetail, bars: int
) -> tuple[FloatColumn, NDArray[np.int64]]:
    """Return the two flat arrays of a run that has not begun."""
    _check_detail(detail, bars)
    return _floats(signals, settings), _whole_numbers(signals, settings, detail)


def _inputs(candles: Candles, signals: Signals, detail: MarketDetail, distances: FloatColumn) -> Inputs:
    marks, minutes = detail.mark or candles, detail.minutes or Candles.empty()
    return Inputs(
        open=read_only(candles.open),
        high=read_only(candles.high),
        low=read_only(candles.low),
        close=read_only(candles.close),
        mark_open=read_only(marks.open),
        mark_high=read_only(marks.high),
        mark_low=read_only(marks.low),
        mark_close=read_only(marks.close),
        decisions=all_decisions(signals),
        distances=distances,
        funding_at_open=read_only(detail.funding_at_open),
        funding_inside=read_only(detail.funding_inside),
        minute_open=read_only(minutes.open),
        minute_high=read_only(minutes.high),
        minute_low=read_only(minutes.low),
        minute_close=read_only(minutes.close),
        minute_start=_rows(detail.minute_start),
        minute_stop=_rows(detail.minute_stop),
    )


def all_decisions(signals: Signals) -> NDArray[np.uint8]:
    """Return the decisions of each bar as bits, and whether the next one opens outside the session."""
    decisions = pack_decisions(signals)
    if signals.session is not None:
        decisions[:-1] |= ~signals.session[1:] * np.uint8(layout.OUTSIDE_SESSION)
    return decisions


def _distances(signals: Signals) -> dict[int, FloatColumn]:
    """Return the columns of distances that exist by the place of the flat array they are loaded into."""
    columns = {
        layout.STOP_DISTANCE: signals.stop_distance,
        layout.TARGET_DISTANCE: signals.target_distance,
        layout.TRAIL_DISTANCE: signals.trail_distance,
        layout.ORDER_DISTANCE: None if signals.order is None else signals.order.distance,
    }
    for row, part in enumerate(signals.partial_targets):
        columns[layout.PART_DISTANCE + row] = part.distance
    return {place: column for place, column in columns.items() if column is not None}


def _floats(signals: Signals, settings: ExecutionSettings) -> FloatColumn:
    """Return the array of floats of a run that has not begun."""
    plain, order, tiers = kernel_rules(signals, settings), signals.order, settings.margin_tiers
    f = np.full(layout.TIER + layout.TIER_WIDTH * len(tiers), math.nan)
    f[layout.WALLET], f[layout.SIDE] = plain.capital, 0.0
    f[layout.TAKER_FEE : layout.SIZE_VALUE] = (plain.taker_fee, plain.target_fee, plain.fee_reserve, plain.slippage)
    f[layout.SIZE_VALUE : layout.MIN_QUANTITY] = (
        plain.size_value, plain.leverage, plain.lot_numerator, plain.lot_denominator, plain.tick_numerator,
        plain.tick_denominator,
    )  # fmt: skip
    f[layout.MIN_QUANTITY : layout.STOP_FRACTION] = (plain.min_quantity, plain.min_notional, plain.max_quantity)
    f[layout.STOP_FRACTION : layout.ORDER_FRACTION] = (
        plain.stop_fraction, plain.target_fraction, plain.trail_fraction, plain.trail_activation, plain.breakeven,
    )  # fmt: skip
    f[layout.ORDER_FRACTION] = math.nan if order is None else order.fraction
    for row, part in enumerate(signals.partial_targets):
        f[layout.PART_FRACTION + row], f[layout.PART_SHARE + row] = part.fraction, part.share
    for row, tier in enumerate(tiers):
        place = layout.TIER + layout.TIER_WIDTH * row
        f[place + layout.TIER_LIMIT], f[place + layout.TIER_LEVERAGE] = tier.limit_value, tier.max_leverage
        f[place + layout.TIER_MAINTENANCE] = tier.maintenance_fraction
        f[place + layout.TIER_DEDUCTION] = tier.deduction
    return f


def _whole_numbers(signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> NDArray[np.int64]:
    """Return the array of whole numbers of a run that has not begun."""
    plain, order, parts = kernel_rules(signals, settings), signals.order, signals.partial_targets
    k = np.zeros(layout.WHOLE_NUMBERS, np.int64)
    k[layout.SIZE_MODE], k[layout.MAX_BARS] = plain.size_mode, plain.max_bars
    k[layout.ALLOW_LONG], k[layout.ALLOW_SHORT] = plain.allow_long, plain.allow_short
    k[layout.INVERSE], k[layout.INTRABAR] = plain.inverse, _INTRABAR[settings.intrabar]
    k[layout.HAS_OWN_MARKS] = detail.mark is not None
    if order is not None:
        k[layout.ORDER_KIND], k[layout.ORDER_BARS] = _ORDERS[order.kind], order.bars
    k[layout.MAX_ENTRIES], k[layout.FLAT_OUTSIDE] = signals.max_entries, signals.is_flat_outside_session
    has_trail = signals.trail_distance is not None or not math.isnan(plain.trail_fraction)
    k[layout.MOVES_STOP] = has_trail or not math.isnan(plain.breakeven)
    k[layout.PARTS], k[layout.TIERS] = len(parts), len(settings.margin_tiers)
    shares = [part.share for part in parts]
    for row in range(len(parts)):
        k[layout.PART_CLOSES_ALL + row] = sum(shares[: row + 1]) >= 1.0 - 1e-9
    k[layout.RUINED_BAR] = -1
    return k


def _check_detail(detail: MarketDetail, bars: int) -> None:
    columns = {
        "funding": detail.funding_at_open,
        "mark candles": None if detail.mark is None else detail.mark.close,
        "minute rows": detail.minute_start,
    }
    for name, column in columns.items():
        if column is not None and len(column) != bars:
            raise BadRequest(
                f"the {name} have {len(column)} rows for {bars} candles", fix="lay the detail beside the same candles"
            )


def _rows(column: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty(0, np.int64) if column is None else np.ascontiguousarray(column)
