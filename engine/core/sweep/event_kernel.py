"""Many combinations, event by event: the execution rules of `engine.core.simulator` without a look at the bars between.

A position changes only at a decision, at a bar that reaches a level, or at its time limit. Decisions are found in bit masks,
levels by passing over blocks of bars; equity between two events follows from the extremes of the closes there, because it
rises and falls with the close, rounding included. Figures are those of the bar loop, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core.candles import FloatColumn
from engine.core.fill_rules import (
    NOT_REFUSED,
    exit_inside,
    find_quantity,
    gross_of,
    level_at,
    liquidation_of,
    part_of_loop,
    refusal_of,
)
from engine.core.kernel import KernelRules
from engine.core.sweep.blocks import PriceBlocks
from engine.core.sweep.masks import Words
from engine.core.sweep.perpetual_events import Margin, Settled

# Columns of the table of figures.
(FINAL, TRADES, WINS, LOSSES, WON, LOST, FEES, EXPOSED, LOWEST_RATIO, FIGURES) = range(10)
# Columns of the table of levels.
(STOP, TARGET, TRAIL, ACTIVATION, BREAKEVEN, MAX_BARS, SIZE, LEVELS) = range(8)
# Places of the mask tables.
(LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT, STOP_GIVEN, TARGET_GIVEN, TRAIL_GIVEN, MASKS) = range(8)


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(distances: NDArray[np.float64], row: int, bar: int) -> float:
    if row >= 0 and distances[row, bar] > 0.0:
        return distances[row, bar]
    return np.nan


@part_of_loop
def _tier_of(margin: Margin, value: float, leverage: float) -> int:
    """Return the tier of a position, -1 where its value or its leverage is above the limit."""
    for tier in range(len(margin.limit)):
        if value <= margin.limit[tier]:
            return tier if leverage <= margin.leverage[tier] else -1
    return -1


@part_of_loop
def _first_liquidation(margin: Margin, first: int, last: int, side: float, level: float) -> int:
    """Return the first bar in [first, last) whose marks reach the liquidation price, -1 where none does."""
    marks = margin.low if side > 0.0 else margin.high
    small = margin.small_low if side > 0.0 else margin.small_high
    large = margin.large_low if side > 0.0 else margin.large_high
    level = side * level
    bar = first
    while bar < last:
        if bar & 63 == 0 and bar + 64 <= last and side * large[bar >> 6] > level:
            bar += 64
        elif bar & 7 == 0 and bar + 8 <= last and side * small[bar >> 3] > level:
            bar += 8
        elif side * marks[bar] <= level:
            return bar
        else:
            bar += 1
    return -1


# Position of the only set bit of a word: de Bruijn multiplication (Leiserson, Prokop and Randall 1998).
_DE_BRUIJN = 0x03F79D71B4CB0A89
_BIT_OF = np.zeros(64, np.int64)
for _bit in range(64):
    _BIT_OF[((_DE_BRUIJN << _bit) & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit


@njit(cache=True, nogil=True, error_model="numpy")
def _next_bar(words: Words, bar: int) -> int:
    """Return the first bar from `bar` on whose bit is set, -1 where there is none."""
    word = bar >> 6
    if word >= len(words):
        return -1
    bits = words[word] & (np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(bar & 63))
    while bits == np.uint64(0):
        word += 1
        if word >= len(words):
            return -1
        bits = words[word]
    lowest = bits & (~bits + np.uint64(1))
    return word * 64 + int(_BIT_OF[(lowest * np.uint64(_DE_BRUIJN)) >> np.uint64(58)])


@njit(cache=True, nogil=True, error_model="numpy")
def _is_set(words: Words, bar: int) -> bool:
    return (words[bar >> 6] >> np.uint64(bar & 63)) & np.uint64(1) != np.uint64(0)


@njit(cache=True, nogil=True, error_model="numpy")
def _keep_between(words: Words, first: int, last: int) -> None:
    """Clear every bit outside [first, last)."""
    for word in range(len(words)):
        low, high = word * 64, word * 64 + 64
        if low < first or high > last:
            for bit in range(64):
                if low + bit < first or low + bit >= last:
                    words[word] &= ~(np.uint64(1) << np.uint64(bit))


@njit(cache=True, nogil=True, error_model="numpy")
def _widened(bits: NDArray[np.int64], high: int, low: int) -> tuple[int, int]:
    for bar in range(len(bits)):
        high = max(high, bits[bar])
        low = min(low, bits[bar])
    return high, low


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(blocks: PriceBlocks, first: int, last: int) -> tuple[int, int]:
    """Return the highest and lowest close of bars [first, last), at least one, as bit patterns."""
    bits = blocks.close_bits
    high = low = bits[first]
    start, end = (first + 63) >> 6, last >> 6
    if end - start < 2:
        return _widened(bits[first:last], high, low)
    high, low = _widened(bits[first : start * 64], high, low)
    high, low = _widened(bits[end * 64 : last], high, low)
    level = 0
    while (2 << level) <= end - start:
        level += 1
    other = end - (1 << level)
    high = max(high, blocks.run_high[level, start], blocks.run_high[level, other])
    low = min(low, blocks.run_low[level, start], blocks.run_low[level, other])
    return high, low


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(  # noqa: PLR0913 - a compiled function takes its state as arguments
    adverse: FloatColumn,
    favourable: FloatColumn,
    first: int,
    limit: int,
    side: float,
    stop: float,
    target: float,
    best: float,
    trail_from: float,
    trail_factor: float,
) -> tuple[int, float, float]:
    """Walk bars [first, limit) until a level is reached; return the bar, the stop in it and the best price before it."""
    stop, target, best = side * stop, side * target, side * best
    for bar in range(first, limit):
        toward = side * favourable[bar]
        if side * adverse[bar] <= stop or toward >= target:
            return bar, side * stop, side * best
        best = max(best, toward)
        level = best * trail_factor
        stop = level if best >= trail_from and level > stop else stop
    return limit, side * stop, side * best


@njit(cache=True, nogil=True, error_model="numpy")
def _find_hit(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one search, every level at its place in it
    high: FloatColumn,
    low: FloatColumn,
    blocks: PriceBlocks,
    first: int,
    limit: int,
    side: float,
    price: float,
    stop: float,
    target: float,
    trails: bool,
    trail_from: float,
    trail_fraction: float,
    trail_gap: float,
    breaks_even: bool,
    breakeven_from: float,
    up: float,
    down: float,
) -> tuple[int, float]:
    """Return the first bar in [first, limit) that reaches a level, else -1, and the stop that stood in it."""
    best: float = price
    bar = first
    adverse, favourable = (low, high) if side > 0.0 else (high, low)
    # The usual kind: a trail by a fraction or none, levels as they come.
    is_plain = up == 0.0 and not breaks_even and not (trails and np.isnan(trail_fraction))
    plain_from = side * trail_from if trails else np.inf
    plain_factor = 1.0 - side * trail_fraction
    while bar < limit:
        if bar & 7 == 0 and bar + 8 <= limit:
            size = 64 if bar & 63 == 0 and bar + 64 <= limit else 8
            skipped = False
            while True:
                if size == 64:
                    top, bottom = blocks.large_high[bar >> 6], blocks.large_low[bar >> 6]
                else:
                    top, bottom = blocks.small_high[bar >> 3], blocks.small_low[bar >> 3]
                against = bottom if side > 0.0 else top
                toward = top if side > 0.0 else bottom
                if side * against > side * stop and side * toward < side * target:
                    best_then = toward if side * toward > side * best else best
                    stop_then = stop
                    if trails and side * best_then >= side * trail_from:
                        level = level_at(best_then, -side, trail_fraction, trail_gap, up, down)
                        if side * level > side * stop:
                            stop_then = level
                    # The stop cannot be tighter inside the block than it is after it.
                    armed = breaks_even and side * best_then >= side * breakeven_from
                    if side * against > side * stop_then and not armed:
                        best, stop = best_then, stop_then
                        bar += size
                        skipped = True
                        break
                if size == 8:
                    break
                size = 8
            if skipped:
                continue
        pause = min(limit, (bar | 7) + 1)
        if is_plain:
            bar, stop, best = _walk(adverse, favourable, bar, pause, side, stop, target, best, plain_from, plain_factor)
            if bar < pause:
                return bar, stop
            continue
        while bar < pause:
            if side * adverse[bar] <= side * stop or side * favourable[bar] >= side * target:
                return bar, stop
            if side * favourable[bar] > side * best:
                best = favourable[bar]
            if breaks_even and side * best >= side * breakeven_from:
                breaks_even = False
                level = level_at(price, -side, 0.0, np.nan, up, down)
                if side * level > side * stop:
                    stop = level
            if trails and side * best >= side * trail_from:
                level = level_at(best, -side, trail_fraction, trail_gap, up, down)
                if side * level > side * stop:
                    stop = level
            bar += 1
    return -1, stop


@njit(cache=True, nogil=True, error_model="numpy")
def run_combinations(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one loop over the events, every rule at its place in it
    open_: FloatColumn,
    high: FloatColumn,
    low: FloatColumn,
    close: FloatColumn,
    blocks: PriceBlocks,
    masks: tuple[Words, ...],
    mask_rows: NDArray[np.int64],
    distances: NDArray[np.float64],
    distance_rows: NDArray[np.int64],
    levels: NDArray[np.float64],
    warmups: NDArray[np.int64],
    rules: KernelRules,
    settled: Settled,
    margin: Margin,
    mark_bars: NDArray[np.int64],
    marks: NDArray[np.float64],
    figures: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    """Run combinations [first, last) and fill their rows of the two output tables.

    Parameters
    ----------
    open_, high, low, close : ndarray of float64, shape (n,)
        Finite and positive; open and close of a bar lie between its low and high.
    blocks : PriceBlocks
    masks : tuple of seven ndarrays of uint64, shape (rows, w)
        The four rules, and where each of the three distances may be used.
    mask_rows : ndarray of int64, shape (p, 7)
        The row of each mask table a combination uses.
    distances : ndarray of float64, shape (rows, n or more)
    distance_rows : ndarray of int64, shape (p, 3)
        -1 where there is none.
    levels : ndarray of float64, shape (p, LEVELS)
        Fractions, NaN where there is none; MAX_BARS 0 where there is none.
    warmups : ndarray of int64, shape (p,)
    rules : KernelRules
        What all combinations share; levels, size and time limit are those of the table.
    settled : Settled
    margin : Margin
    mark_bars : ndarray of int64, shape (m,)
        Ascending bars whose close is marked.
    marks : output, shape (p, m)
    figures : output, shape (p, FIGURES)
    """
    bars = len(close)
    word_count = masks[0].shape[1]
    leave_long = np.empty(word_count, np.uint64)
    leave_short = np.empty(word_count, np.uint64)
    enter_long = np.empty(word_count, np.uint64)
    enter_short = np.empty(word_count, np.uint64)
    enter_flat = np.empty(word_count, np.uint64)
    extremes = np.empty(2, np.int64)
    extreme_closes = extremes.view(np.float64)
    everything = np.uint64(0xFFFFFFFFFFFFFFFF)
    long_allowed = everything if rules.allow_long else np.uint64(0)
    short_allowed = everything if rules.allow_short else np.uint64(0)
    up, down = rules.tick_numerator, rules.tick_denominator
    mark_count, settlements = len(mark_bars), len(settled.bar)
    is_margined = len(margin.limit) > 0

    for row in range(first, last):
        buys, sells = masks[LONG_ENTRY][mask_rows[row, LONG_ENTRY]], masks[SHORT_ENTRY][mask_rows[row, SHORT_ENTRY]]
        leaves_long, leaves_short = (
            masks[LONG_EXIT][mask_rows[row, LONG_EXIT]],
            masks[SHORT_EXIT][mask_rows[row, SHORT_EXIT]],
        )
        stop_given = masks[STOP_GIVEN][mask_rows[row, STOP_GIVEN]]
        target_given = masks[TARGET_GIVEN][mask_rows[row, TARGET_GIVEN]]
        trail_given = masks[TRAIL_GIVEN][mask_rows[row, TRAIL_GIVEN]]
        for word in range(word_count):
            given = stop_given[word] & target_given[word] & trail_given[word]
            buy, sell = buys[word] & given, sells[word] & given
            enters_long = buy & ~sell & ~leaves_long[word]
            enters_short = sell & ~buy & ~leaves_short[word]
            leave_long[word] = leaves_long[word] | enters_short
            leave_short[word] = leaves_short[word] | enters_long
            enter_long[word] = enters_long
            enter_short[word] = enters_short
            enter_flat[word] = (enters_long & long_allowed) | (enters_short & short_allowed)
        # Nothing is decided while indicators warm up, and the last bar's decision has no bar to happen in.
        _keep_between(leave_long, warmups[row], bars - 1)
        _keep_between(leave_short, warmups[row], bars - 1)
        _keep_between(enter_long, warmups[row], bars - 1)
        _keep_between(enter_short, warmups[row], bars - 1)
        _keep_between(enter_flat, warmups[row], bars - 1)

        stop_fraction, target_fraction = levels[row, STOP], levels[row, TARGET]
        trail_fraction, activation = levels[row, TRAIL], levels[row, ACTIVATION]
        breakeven, size_value = levels[row, BREAKEVEN], levels[row, SIZE]
        max_bars = int(levels[row, MAX_BARS])
        wallet: float = rules.capital
        peak = wallet
        lowest_ratio = 1.0
        trades = wins = losses = exposed = 0
        won = lost = fees_paid = 0.0
        mark = 0
        is_ruined = False
        decided = 0

        while not is_ruined:
            decided = _next_bar(enter_flat, decided)
            if decided < 0:
                break
            bar = decided + 1
            side = 1.0 if _is_set(enter_long, decided) else -1.0
            while True:
                # At this open the account is flat and an entry is wanted.
                price = open_[bar] * (1.0 + side * rules.slippage)
                quantity = notional = 0.0
                stop = target = trail_gap = trail_from = liquidation = bankruptcy = np.nan
                tier = 0
                if wallet > 0.0 and (rules.allow_long if side > 0.0 else rules.allow_short):
                    gap = _distance(distances, distance_rows[row, 0], bar - 1)
                    stop = level_at(price, -side, stop_fraction, gap, up, down)
                    if np.isnan(stop):
                        stop = -side * np.inf
                    gap = _distance(distances, distance_rows[row, 1], bar - 1)
                    target = level_at(price, side, target_fraction, gap, up, down)
                    if np.isnan(target):
                        target = side * np.inf
                    trail_gap = _distance(distances, distance_rows[row, 2], bar - 1)
                    trail_from = price * (1.0 + side * activation)
                    if np.isnan(trail_from):
                        trail_from = -side * np.inf
                        level = level_at(price, -side, trail_fraction, trail_gap, up, down)
                        if side * level > side * stop:
                            stop = level
                    power = wallet * rules.leverage / (1.0 + rules.fee_reserve)
                    bounded = stop > 0.0 and not np.isinf(stop)
                    risk = 0.0 - gross_of(side, 1.0, price, stop, rules.inverse) if bounded else np.nan
                    quantity, _ = find_quantity(
                        rules.size_mode, size_value, wallet, power, power, risk, price, rules.inverse,
                        rules.max_quantity, rules.lot_numerator, rules.lot_denominator,
                    )  # fmt: skip
                    notional = quantity / price if rules.inverse else quantity * price
                    refusal = refusal_of(
                        quantity, notional, rules.inverse, 0.0, power, rules.min_quantity, rules.min_notional
                    )
                    if refusal == NOT_REFUSED and is_margined:
                        tier = _tier_of(margin, notional, rules.leverage)
                        if tier >= 0:
                            liquidation, bankruptcy = liquidation_of(
                                side, quantity, price, rules.leverage, margin.maintenance[tier],
                                margin.deduction[tier], rules.inverse,
                            )  # fmt: skip
                    if refusal != NOT_REFUSED or tier < 0:
                        quantity = 0.0
                if quantity == 0.0:
                    decided = bar
                    break
                while mark < mark_count and mark_bars[mark] < bar:
                    marks[row, mark] = wallet
                    mark += 1
                fees = notional * rules.taker_fee
                wallet -= fees
                trails = not np.isnan(trail_fraction) or not np.isnan(trail_gap)

                # The position is left at the open of `limit` at the latest, at the last close when that is past the end.
                told = _next_bar(leave_long if side > 0.0 else leave_short, bar)
                limit = told + 1 if told >= 0 else bars
                if max_bars > 0 and bar + max_bars < limit:
                    limit = bar + max_bars
                hit = -1
                if trails or not np.isinf(stop) or not np.isinf(target) or not np.isnan(breakeven):
                    hit, stop = _find_hit(
                        high, low, blocks, bar, limit, side, price, stop, target,
                        trails, trail_from, trail_fraction, trail_gap,
                        not np.isnan(breakeven), price * (1.0 + side * breakeven), up, down,
                    )  # fmt: skip
                liquidated = -1
                if not np.isnan(liquidation):
                    liquidated = _first_liquidation(margin, bar, hit + 1 if hit >= 0 else limit, side, liquidation)
                if liquidated >= 0 and liquidated != hit:
                    hit = liquidated
                    stop, target = -side * np.inf, side * np.inf
                end = hit if hit >= 0 else limit
                # Closes [bar, held) are marked with the position open, from settlement to settlement.
                held = min(end, bars - 1)
                ruin = -1
                funding = 0.0
                units = side * quantity
                settlement = settled.next_row[bar] if settlements > 0 else 0
                start = bar
                while start < held and ruin < 0:
                    until, is_whole = held, False
                    if settlement < settlements:
                        if settled.bar[settlement] == start:
                            if start > bar:
                                paid = units * settled.at_open[settlement]
                                wallet -= paid
                                funding += paid
                            paid = units * settled.inside[settlement]
                            wallet -= paid
                            funding += paid
                            settlement += 1
                            is_whole = True
                        if settlement < settlements and settled.bar[settlement] <= held:
                            until = settled.bar[settlement]
                        else:
                            is_whole = False
                    if is_whole:
                        top, bottom = settled.high[settlement - 1], settled.low[settlement - 1]
                    else:
                        extremes[0], extremes[1] = _extremes(blocks, start, until)
                        top, bottom = extreme_closes[0], extreme_closes[1]
                    highest = wallet + gross_of(side, quantity, price, top if side > 0.0 else bottom, rules.inverse)
                    lowest = wallet + gross_of(side, quantity, price, bottom if side > 0.0 else top, rules.inverse)
                    last_marked = until
                    if lowest <= 0.0:
                        ruin = start
                        while wallet + gross_of(side, quantity, price, close[ruin], rules.inverse) > 0.0:
                            ruin += 1
                        last_marked = ruin
                    if highest <= peak and ruin < 0:
                        lowest_ratio = min(lowest_ratio, lowest / peak)
                    elif ruin >= 0 or lowest / max(peak, highest) < lowest_ratio:
                        for inside in range(start, last_marked):
                            marked = wallet + gross_of(side, quantity, price, close[inside], rules.inverse)
                            peak = max(peak, marked)
                            lowest_ratio = min(lowest_ratio, marked / peak)
                    else:
                        peak = highest
                    while mark < mark_count and mark_bars[mark] < last_marked:
                        marks[row, mark] = wallet + gross_of(
                            side, quantity, price, close[int(mark_bars[mark])], rules.inverse
                        )
                        mark += 1
                    start = until

                # The exit: ruin at a close, a level inside a bar, the end of the data, or an order at an open.
                fee_rate = rules.taker_fee
                left = end
                if ruin >= 0:
                    left = ruin
                    exit_price = close[ruin]
                elif hit >= 0:
                    against = low[hit] if side > 0.0 else high[hit]
                    toward = high[hit] if side > 0.0 else low[hit]
                    exit_price, takes_target, is_gap, _ = exit_inside(
                        side, open_[hit], against, toward, stop, target, rules.optimistic, rules.slippage
                    )
                    if liquidated >= 0:
                        at_once = side * margin.open[hit] <= side * liquidation
                        survives = is_gap or (takes_target and rules.optimistic)
                        stops_first = side * against <= side * stop and side * stop >= side * liquidation
                        if at_once or not (survives or stops_first):
                            exit_price, takes_target = bankruptcy, False
                    if takes_target:
                        fee_rate = rules.target_fee
                elif end == bars:
                    left = bars - 1
                    exit_price = close[left]
                else:
                    exit_price = open_[end] * (1.0 - side * rules.slippage)
                at_open = ruin < 0 and hit < 0 and end < bars
                if ruin < 0 and settlement < settlements and settled.bar[settlement] == left:
                    if left > bar:
                        paid = units * settled.at_open[settlement]
                        wallet -= paid
                        funding += paid
                    if not at_open:
                        paid = units * settled.inside[settlement]
                        wallet -= paid
                        funding += paid
                gross = gross_of(side, quantity, price, exit_price, rules.inverse)
                fee = (quantity / exit_price if rules.inverse else quantity * exit_price) * fee_rate
                fees += fee
                wallet += gross - fee
                profit = gross - fees - funding
                trades += 1
                fees_paid += fees
                exposed += left - bar + (0 if at_open else 1)
                if profit > 0.0:
                    wins += 1
                    won += profit
                elif profit < 0.0:
                    losses += 1
                    lost -= profit

                decided = left
                if at_open and told == left - 1:
                    if side < 0.0 and _is_set(enter_long, told):
                        side, bar = 1.0, left
                        continue
                    if side > 0.0 and _is_set(enter_short, told):
                        side, bar = -1.0, left
                        continue
                break
            # Flat at this close.
            peak = max(peak, wallet)
            lowest_ratio = min(lowest_ratio, wallet / peak)
            is_ruined = wallet <= 0.0

        while mark < mark_count:
            marks[row, mark] = wallet
            mark += 1
        figures[row, FINAL] = wallet
        figures[row, TRADES] = trades
        figures[row, WINS] = wins
        figures[row, LOSSES] = losses
        figures[row, WON] = won
        figures[row, LOST] = lost
        figures[row, FEES] = fees_paid
        figures[row, EXPOSED] = exposed
        figures[row, LOWEST_RATIO] = lowest_ratio
