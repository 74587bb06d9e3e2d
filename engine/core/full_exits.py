"""What the prices of a bar do to a position, compiled: stops, targets, liquidation, and doubt about their order."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.fill_rules import part_of_loop, whole_steps_down
from engine.core.full_layout import (
    AGAINST,
    BANKRUPTCY,
    BAR_CANDLE,
    CLOSE,
    DECIDED,
    ENTERED,
    HAS_OWN_MARKS,
    HIGH,
    INTRABAR,
    LIMIT_ORDER,
    LIQUIDATION,
    LIQUIDATION_PRICE,
    LOT_DOWN,
    LOT_UP,
    LOW,
    MAGNIFY,
    MARK,
    MARK_CLOSE,
    MARK_HIGH,
    MARK_LOW,
    MARK_OPEN,
    MARKET_ORDER,
    MINUTE_CANDLE,
    MUST_AGAINST,
    MUST_MARK,
    MUST_TOWARD,
    NEXT_TARGET,
    OPEN,
    OPTIMISTIC,
    ORDER_PRICE,
    PART_CLOSES_ALL,
    PART_LEVEL,
    PART_SHARE,
    PARTS,
    QUANTITY,
    SIDE,
    SLIPPAGE,
    STOP,
    STOP_ORDER,
    STOP_REASON,
    TAKE_PROFIT,
    TOWARD,
)
from engine.core.full_position import IntegerColumn, is_at, leave, stretch

# What `_act` reads a candle as: its open, its inside, or an inside that has certainly reached the stop.
_OPENING, _INSIDE, _STOPPED = 0, 1, 2
# Where an order filled, or that it did not.
NOWHERE, AT_OPEN, INSIDE = 0, 1, 2


@part_of_loop
def target_of(f: FloatColumn, k: IntegerColumn) -> float:
    """Return the next target's level, NaN where none is left; places without one are passed by."""
    while k[NEXT_TARGET] <= k[PARTS]:
        level = f[PART_LEVEL + k[NEXT_TARGET]]
        if not np.isnan(level):
            return float(level)
        k[NEXT_TARGET] += 1
    return np.nan


@part_of_loop
def _size_of_part(f: FloatColumn, k: IntegerColumn) -> float:
    place = k[NEXT_TARGET]
    if place >= k[PARTS] or k[PART_CLOSES_ALL + place] != 0:
        return f[QUANTITY]
    part = f[ENTERED] * f[PART_SHARE + place]
    if f[LOT_UP] > 0.0:
        part = whole_steps_down(part, f[LOT_UP], f[LOT_DOWN])
    return min(part, f[QUANTITY])


@part_of_loop
def _act(
    f: FloatColumn, k: IntegerColumn, trades: FloatColumn, against: float, mark: float, toward: float, manner: int
) -> None:
    """Leave at the nearer of stop and liquidation if prices reached one, else take the targets they reached."""
    side = f[SIDE]
    is_stopped = is_at(f[STOP], -side, against)
    is_liquidated = is_at(f[LIQUIDATION_PRICE], -side, mark) or (manner == _STOPPED and not is_stopped)
    while f[SIDE] != 0.0:
        quantity = f[QUANTITY]
        if is_liquidated and (manner == _OPENING or not is_stopped or side * f[STOP] < side * f[LIQUIDATION_PRICE]):
            price, reason = f[BANKRUPTCY], LIQUIDATION
        elif is_stopped:
            price = (against if manner == _OPENING else f[STOP]) * (1.0 - side * f[SLIPPAGE])
            reason = k[STOP_REASON]
        else:
            target = target_of(f, k)
            if not is_at(target, side, toward):
                return
            price, reason = toward if manner == _OPENING else target, TAKE_PROFIT
            quantity = _size_of_part(f, k)
            k[NEXT_TARGET] += 1
        if quantity > 0.0:
            leave(f, k, trades, quantity, price, reason)


@part_of_loop
def _look(f: FloatColumn, at: int, kind: int) -> None:
    """Set what of a candle may have come after an entry by an order of this kind, and what certainly did."""
    is_long = f[SIDE] > 0.0
    f[at + AGAINST] = f[at + MUST_AGAINST] = f[at + LOW] if is_long else f[at + HIGH]
    f[at + TOWARD] = f[at + MUST_TOWARD] = f[at + HIGH] if is_long else f[at + LOW]
    f[at + MARK] = f[at + MUST_MARK] = f[at + MARK_LOW] if is_long else f[at + MARK_HIGH]
    if kind == LIMIT_ORDER:
        f[at + MUST_TOWARD] = f[at + CLOSE]
    elif kind == STOP_ORDER:
        f[at + MUST_AGAINST] = f[at + CLOSE]
        f[at + MUST_MARK] = f[at + MARK_CLOSE]


@part_of_loop
def _is_stopped(f: FloatColumn, against: float, mark: float) -> bool:
    return is_at(f[STOP], -f[SIDE], against) or is_at(f[LIQUIDATION_PRICE], -f[SIDE], mark)


@part_of_loop
def _is_doubtful(f: FloatColumn, k: IntegerColumn, at: int) -> bool:
    """Return whether the unknown order of a candle's prices decides."""
    side = f[SIDE]
    may_stop = _is_stopped(f, f[at + AGAINST], f[at + MARK])
    must_stop = _is_stopped(f, f[at + MUST_AGAINST], f[at + MUST_MARK])
    target = target_of(f, k)
    may_gain, must_gain = is_at(target, side, f[at + TOWARD]), is_at(target, side, f[at + MUST_TOWARD])
    return (may_stop and may_gain) or may_stop != must_stop or may_gain != must_gain


@part_of_loop
def touch(f: FloatColumn, kind: int, side: float, at: int) -> int:
    """Return where in a candle the resting order fills."""
    # A limit order to buy waits below the market, a stop order to buy above it.
    up = side if kind == STOP_ORDER else -side
    if up * f[at + OPEN] >= up * f[ORDER_PRICE]:
        return AT_OPEN
    farthest = f[at + HIGH] if up > 0.0 else f[at + LOW]
    return INSIDE if up * farthest >= up * f[ORDER_PRICE] else NOWHERE


@part_of_loop
def _survive(f: FloatColumn, at: int) -> None:
    stretch(f, f[at + MUST_AGAINST])
    stretch(f, f[at + MUST_TOWARD])


@part_of_loop
def live_through(f: FloatColumn, k: IntegerColumn, trades: FloatColumn, at: int, kind: int) -> bool:
    """Let a candle act on the position and return whether the unknown order of its prices matters.

    `kind` is that of the order that filled inside it. A doubtful bar that its minutes shall decide acts by its open only.
    """
    _look(f, at, kind)
    if kind == MARKET_ORDER:
        stretch(f, f[at + OPEN])
        _act(f, k, trades, f[at + OPEN], f[at + MARK_OPEN], f[at + OPEN], _OPENING)
        if f[SIDE] == 0.0:
            return False
    is_doubtful = _is_doubtful(f, k, at)
    if is_doubtful and k[INTRABAR] == MAGNIFY and at == BAR_CANDLE:
        return True
    against, mark, toward, must_stop = f[at + AGAINST], f[at + MARK], f[at + MUST_TOWARD], False
    if k[INTRABAR] == OPTIMISTIC:
        must_stop = _is_stopped(f, f[at + MUST_AGAINST], f[at + MUST_MARK])
        against, mark, toward = np.nan, np.nan, f[at + TOWARD]
    _act(f, k, trades, against, mark, toward, _INSIDE)
    if must_stop:
        _act(f, k, trades, f[at + MUST_AGAINST], f[at + MUST_MARK], np.nan, _STOPPED)
    if f[SIDE] != 0.0:
        _survive(f, at)
    return is_doubtful


@part_of_loop
def _load_minute(f: FloatColumn, k: IntegerColumn, open_: float, high: float, low: float, close: float) -> None:
    f[MINUTE_CANDLE + OPEN], f[MINUTE_CANDLE + HIGH] = open_, high
    f[MINUTE_CANDLE + LOW], f[MINUTE_CANDLE + CLOSE] = low, close
    if k[HAS_OWN_MARKS] != 0:
        open_ = high = low = close = np.nan
    f[MINUTE_CANDLE + MARK_OPEN], f[MINUTE_CANDLE + MARK_HIGH] = open_, high
    f[MINUTE_CANDLE + MARK_LOW], f[MINUTE_CANDLE + MARK_CLOSE] = low, close


@part_of_loop
def magnify(  # noqa: C901, PLR0913 - the order of the minutes is the order of the branches
    f: FloatColumn, k: IntegerColumn, trades: FloatColumn, kind: int, first: int, last: int, minute_open: FloatColumn,
    minute_high: FloatColumn, minute_low: FloatColumn, minute_close: FloatColumn,
) -> None:  # fmt: skip
    """Let the minutes of a doubtful bar act in order; where they cannot tell, expect the worst."""
    side = f[SIDE]
    is_open, is_decided = kind == MARKET_ORDER, True
    expects_worst = k[HAS_OWN_MARKS] != 0 and is_at(f[LIQUIDATION_PRICE], -side, f[BAR_CANDLE + MARK])
    if not expects_worst:
        for row in range(first, last):
            _load_minute(f, k, minute_open[row], minute_high[row], minute_low[row], minute_close[row])
            kind_now = MARKET_ORDER
            if not is_open:
                place = touch(f, kind, side, MINUTE_CANDLE)
                if place == NOWHERE:
                    continue
                is_open = True
                if place == INSIDE:
                    kind_now = kind
            if live_through(f, k, trades, MINUTE_CANDLE, kind_now):
                is_decided = False
            if f[SIDE] == 0.0:
                break
        if f[SIDE] != 0.0:
            contradicts = _is_stopped(f, f[BAR_CANDLE + MUST_AGAINST], f[BAR_CANDLE + MUST_MARK])
            expects_worst = contradicts or not is_open or is_at(target_of(f, k), side, f[BAR_CANDLE + MUST_TOWARD])
    if expects_worst:
        _act(f, k, trades, f[BAR_CANDLE + AGAINST], f[BAR_CANDLE + MARK], f[BAR_CANDLE + MUST_TOWARD], _INSIDE)
    elif is_decided:
        k[DECIDED] += 1
    if f[SIDE] != 0.0:
        _survive(f, BAR_CANDLE)
