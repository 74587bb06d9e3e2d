"""Runs that need more than the fast loop: everything laid out for `engine.core.full_kernel`, and read back from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.core import full_kernel, kernel
from engine.core.candles import Candles, FloatColumn
from engine.core.execution import ExecutionSettings
from engine.core.kernel_inputs import kernel_rules, pack_decisions, read_only
from engine.core.market_detail import MarketDetail
from engine.core.signals import Signals
from engine.core.simulation import Entries, Simulation, SkipReason
from engine.core.trades import Trades
from engine.errors import BadRequest

_INTRABAR = {
    "pessimistic": full_kernel.PESSIMISTIC,
    "optimistic": full_kernel.OPTIMISTIC,
    "magnify": full_kernel.MAGNIFY,
}
_ORDERS = {"limit": full_kernel.LIMIT_ORDER, "stop": full_kernel.STOP_ORDER}


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
    _check_detail(detail, len(candles))
    bars = len(candles)
    most = int(np.count_nonzero(signals.long_entry | signals.short_entry))
    parts = len(signals.partial_targets)
    equity, position = np.empty(bars), np.empty(bars, np.int8)
    account = full_kernel.Account(
        f=np.zeros(full_kernel.FLOAT_STATES),
        k=np.zeros(full_kernel.INTEGER_STATES, np.int64),
        levels=np.full(parts + 1, math.nan),
        rows=np.empty((most * (parts + 1), full_kernel.ROW_WIDTH), np.int64),
        records=np.empty((most * (parts + 1), full_kernel.RECORD_WIDTH)),
        entry_rows=np.empty((most, full_kernel.ENTRY_ROW_WIDTH), np.int64),
        entry_records=np.empty((most, full_kernel.ENTRY_RECORD_WIDTH)),
        counters=np.zeros(full_kernel.COUNTERS, np.int64),
    )
    account.f[0] = settings.capital
    account.counters[kernel.RUINED_BAR] = -1
    full_kernel.run_all_rules(
        _inputs(candles, signals, detail), _rules(signals, settings, detail), account, equity, position
    )
    trades, fills = int(account.k[full_kernel.TRADES_STATE]), int(account.k[full_kernel.FILLS_STATE])
    counters = account.counters
    ruined_bar = int(counters[kernel.RUINED_BAR])
    return Simulation(
        trades=Trades.from_tables(account.rows[:trades], account.records[:trades]),
        equity=equity,
        position=position,
        exposed_bars=int(counters[kernel.EXPOSED]),
        ambiguous_bars=int(counters[kernel.AMBIGUOUS]),
        skipped_entries={skip.name.lower(): int(counters[kernel.SKIPS + skip]) for skip in SkipReason},
        capped_entries=int(counters[kernel.CAPPED]),
        ruined_bar=None if ruined_bar < 0 else ruined_bar,
        warmup_bars=signals.warmup_bars,
        entries=Entries.from_tables(account.entry_rows[:fills], account.entry_records[:fills]),
        decided_bars=int(counters[full_kernel.DECIDED]),
    )


def _inputs(candles: Candles, signals: Signals, detail: MarketDetail) -> full_kernel.Inputs:
    marks, minutes = detail.mark or candles, detail.minutes or Candles.empty()
    partial = np.full((len(signals.partial_targets), len(candles)), math.nan)
    for row, part in enumerate(signals.partial_targets):
        if part.distance is not None:
            partial[row] = part.distance
    return full_kernel.Inputs(
        open=read_only(candles.open),
        high=read_only(candles.high),
        low=read_only(candles.low),
        close=read_only(candles.close),
        mark_open=read_only(marks.open),
        mark_high=read_only(marks.high),
        mark_low=read_only(marks.low),
        mark_close=read_only(marks.close),
        decisions=pack_decisions(signals),
        session=np.empty(0, np.bool_) if signals.session is None else np.array(signals.session, np.bool_),
        stop_distance=read_only(signals.stop_distance),
        target_distance=read_only(signals.target_distance),
        trail_distance=read_only(signals.trail_distance),
        order_distance=read_only(None if signals.order is None else signals.order.distance),
        partial_distance=partial,
        funding_at_open=read_only(detail.funding_at_open),
        funding_inside=read_only(detail.funding_inside),
        minute_open=read_only(minutes.open),
        minute_high=read_only(minutes.high),
        minute_low=read_only(minutes.low),
        minute_close=read_only(minutes.close),
        minute_start=_rows(detail.minute_start),
        minute_stop=_rows(detail.minute_stop),
    )


def _rules(signals: Signals, settings: ExecutionSettings, detail: MarketDetail) -> full_kernel.FullRules:
    order, parts, tiers = signals.order, signals.partial_targets, settings.margin_tiers
    shares = [part.share for part in parts]
    return full_kernel.FullRules(
        plain=kernel_rules(signals, settings),
        intrabar=_INTRABAR[settings.intrabar],
        has_own_marks=detail.mark is not None,
        order_kind=full_kernel.MARKET_ORDER if order is None else _ORDERS[order.kind],
        order_fraction=math.nan if order is None else float(order.fraction),
        order_bars=0 if order is None else int(order.bars),
        max_entries=int(signals.max_entries),
        flat_outside=bool(signals.is_flat_outside_session),
        partial_share=_numbers(shares),
        partial_fraction=_numbers([part.fraction for part in parts]),
        partial_closes_all=np.array([sum(shares[: row + 1]) >= 1.0 - 1e-9 for row in range(len(parts))], np.bool_),
        tier_limit=_numbers([tier.limit_value for tier in tiers]),
        tier_maintenance=_numbers([tier.maintenance_fraction for tier in tiers]),
        tier_deduction=_numbers([tier.deduction for tier in tiers]),
        tier_leverage=_numbers([tier.max_leverage for tier in tiers]),
    )


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


def _numbers(values: list[float]) -> FloatColumn:
    return np.array(values, np.float64)


def _rows(column: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty(0, np.int64) if column is None else np.ascontiguousarray(column)
