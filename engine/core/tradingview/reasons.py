"""Why two lists of trades differ: each hypothesis is tested on the trades that differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.costs import gross_profit
from engine.core.price_steps import decimal_step
from engine.core.timeframes import MINUTE_MS
from engine.core.times import iso_utc
from engine.core.tradingview.alignment import Alignment, trade_keys, turnover
from engine.core.tradingview.lists import BoolColumn, TradeColumns

Reason = Literal[
    "session_or_time_zone",
    "missing_bar",
    "missing_trade",
    "range",
    "fill_rule",
    "tick_rounding",
    "slippage",
    "size",
    "fee",
    "funding",
    "seed_of_the_average",
    "unknown",
]
_LONGEST_SHIFT_MINUTES = 14 * 60
_SHIFT_STEP_MINUTES = 15
# A reason is named from this share of the differing trades on.
_LEAST_CONFIDENCE = 0.5
# Lists that differ by the seed of an average do so in this first part of the time.
_SEED_PART = 0.25
# A list that misses no larger share of the other's trades inside the common range misses single trades.
_FEW_MISSING = 0.2
# Costs that differ by less are rounding.
_LEAST_FEE = 1e-6
_ABOUT_TIMES: tuple[Reason, ...] = (
    "session_or_time_zone", "missing_bar", "missing_trade", "range", "fill_rule", "seed_of_the_average",
)  # fmt: skip
# Which reasons can be behind a first difference in a field; what else is found may only follow from it.
_ABOUT: dict[str, tuple[Reason, ...]] = {
    "entry": _ABOUT_TIMES,
    "exit_time": _ABOUT_TIMES,
    "entry_price": ("fill_rule", "tick_rounding", "slippage"),
    "exit_price": ("fill_rule", "tick_rounding", "slippage"),
    "quantity": ("size",),
    "pnl": ("fee", "funding"),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the lists differ, as far as testing the hypothesis on the differing trades tells.

    Attributes
    ----------
    confidence : float
        Share of the trades that could be tested which the reason explains, 0 to 1.
    detail : str
        What was measured.
    """

    reason: Reason
    confidence: float
    detail: str


def explain(case: Alignment, fields: Sequence[str]) -> tuple[Explanation, ...]:
    """Return the reasons that hold, those of the first difference (its fields) before what may only follow from it."""
    tests: tuple[Callable[[Alignment], Explanation | None], ...] = (
        _range, _fill_rule, _time_shift, _missing_bar, _missing_trade, _tick_rounding, _slippage, _size, _funding, _fee,
        _seed,
    )  # fmt: skip
    found = [explanation for test in tests if (explanation := test(case)) is not None]
    first = next(_ABOUT[name] for name in _ABOUT if name in fields)
    likely = sorted(
        (one for one in found if one.confidence >= _LEAST_CONFIDENCE),
        key=lambda one: (one.reason not in first, -one.confidence),
    )
    return tuple(likely) or (Explanation("unknown", 0.0, "none of the known reasons explains the differing trades"),)


def missing_because(case: Alignment, row: int, *, in_theirs: bool) -> str:
    """Say why one list probably lacks a trade of the other; `row` is in the list that has it."""
    has, lacks = (case.ours, case.theirs) if in_theirs else (case.theirs, case.ours)
    at_ms = int(has.entry_ms[row])
    whose = "their list" if in_theirs else "our list"
    if not in_theirs and not case.candles.ts[0] <= at_ms <= case.candles.ts[-1]:
        return "outside the range of our run"
    if len(lacks) == 0 or at_ms < lacks.entry_ms[0]:
        return f"before the first trade of {whose}: its range begins later, or its averages were not ready"
    if at_ms > lacks.entry_ms[-1]:
        return f"after the last trade of {whose}: its range ends earlier"
    if not in_theirs and at_ms not in case.candles.ts:
        return "we have no bar at that time"
    held = (lacks.entry_ms < at_ms) & ((lacks.exit_ms > at_ms) | lacks.open)
    if held.any():
        return f"{whose} holds a position from {iso_utc(int(lacks.entry_ms[np.argmax(held)]))} at that time"
    return f"{whose} holds nothing at that time: its signal did not come, or the order was not filled or the row is cut"


def _range(case: Alignment) -> Explanation | None:
    alone = len(case.only_theirs) + len(case.only_ours)
    if not alone or not len(case.pairs):
        return None
    first, last = (int(case.theirs.entry_ms[case.pairs[end, 0]]) for end in (0, -1))
    theirs, ours = case.theirs.entry_ms[case.only_theirs], case.ours.entry_ms[case.only_ours]
    # What lies beyond the common part on one side only is a matter of range; on both sides, trades differ.
    ends = [(name, side, count) for name, side, one, other in (
        ("begins later", "theirs", np.sum(ours < first), np.sum(theirs < first)),
        ("ends earlier", "theirs", np.sum(ours > last), np.sum(theirs > last)),
        ("begins later", "ours", np.sum(theirs < first), np.sum(ours < first)),
        ("ends earlier", "ours", np.sum(theirs > last), np.sum(ours > last)),
    ) if (count := int(one) if not other else 0)]  # fmt: skip
    if not ends:
        return None
    words = {"theirs": "their list", "ours": "our run"}
    detail = "; ".join(f"{words[side]} {name}: {count} trades of the other lie beyond it" for name, side, count in ends)
    share = sum(count for *_, count in ends) / alone
    return Explanation("range", share, f"{detail}; both trade from {iso_utc(first)} to {iso_utc(last)}")


def _time_shift(case: Alignment) -> Explanation | None:
    if not len(case.only_theirs):
        return None
    ours = set(trade_keys(case.ours))
    best, best_share = 0, len(case.pairs) / len(case.theirs)
    for minutes in range(-_LONGEST_SHIFT_MINUTES, _LONGEST_SHIFT_MINUTES + 1, _SHIFT_STEP_MINUTES):
        # One bar is what another fill rule does as well: the prices decide.
        hits = [key in ours for key in trade_keys(case.theirs, minutes * MINUTE_MS)]
        if np.mean(hits) > best_share and _prices_follow(case, minutes * MINUTE_MS):
            best, best_share = minutes, float(np.mean(hits))
    if best == 0:
        return None
    detail = f"their times fit ours once moved by {best:+d} minutes ({best_share:.0%} of entries)"
    return Explanation("session_or_time_zone", best_share, detail)


def _prices_follow(case: Alignment, shift_ms: int) -> bool:
    where = {key: row for row, key in enumerate(trade_keys(case.ours))}
    found = [(row, where[key]) for row, key in enumerate(trade_keys(case.theirs, shift_ms)) if key in where]
    if not found:
        return False
    theirs, ours = np.array(found).T
    return bool(np.mean(case.near(case.theirs.entry_price[theirs], case.ours.entry_price[ours])) >= _LEAST_CONFIDENCE)


def _missing_bar(case: Alignment) -> Explanation | None:
    rows = case.only_theirs
    if not len(rows):
        return None
    absent = ~np.isin(case.theirs.entry_ms[rows], case.candles.ts)
    inside = (case.theirs.entry_ms[rows] >= case.candles.ts[0]) & (case.theirs.entry_ms[rows] <= case.candles.ts[-1])
    first = int(np.argmax(absent & inside))
    share = float(np.mean(absent))
    if not (absent & inside).any() or not inside[0] or not (absent[0] or share >= _LEAST_CONFIDENCE):
        return None
    when = iso_utc(int(case.theirs.entry_ms[rows[first]]))
    # Later trades may differ only because the first one did, so one certain case is enough.
    return Explanation("missing_bar", max(share, 0.9), f"we have no bar at {when}, they traded on it")


def _missing_trade(case: Alignment) -> Explanation | None:
    """Find single trades that one list lacks between trades both have."""
    if not len(case.pairs):
        return None
    first, last = (int(case.theirs.entry_ms[case.pairs[end, 0]]) for end in (0, -1))
    named: list[str] = []
    for rows, has, in_theirs in ((case.only_theirs, case.theirs, False), (case.only_ours, case.ours, True)):
        inner = rows[(has.entry_ms[rows] >= first) & (has.entry_ms[rows] <= last)]
        if not len(inner):
            continue
        row, what = int(inner[0]), "long" if has.side[inner[0]] > 0 else "short"
        reason = missing_because(case, row, in_theirs=in_theirs)
        who = "their list" if in_theirs else "our run"
        named.append(f"{who} lacks {len(inner)}, the first {what} at {iso_utc(int(has.entry_ms[row]))} ({reason})")
    inside = int(
        np.sum((case.theirs.entry_ms[case.only_theirs] >= first) & (case.theirs.entry_ms[case.only_theirs] <= last))
    )
    inside += int(np.sum((case.ours.entry_ms[case.only_ours] >= first) & (case.ours.entry_ms[case.only_ours] <= last)))
    share = inside / (inside + len(case.pairs))
    if not inside or share > _FEW_MISSING:
        return None
    return Explanation("missing_trade", 0.9 - share, "; ".join(named))


def _fill_rule(case: Alignment) -> Explanation | None:
    # "On bar close" fills at the close of the deciding bar, one bar before our open.
    bars = np.searchsorted(case.candles.ts, case.ours.entry_ms)
    where = {
        (int(case.candles.ts[bar - 1]), int(side)): row
        for row, (bar, side) in enumerate(zip(bars, case.ours.side, strict=True))
        if bar > 0
    }
    same_time = {key[:2]: row for row, key in enumerate(trade_keys(case.ours))}
    rows = case.only_theirs if len(case.only_theirs) else case.pairs[~case.equal["entry_price"], 0]
    if not len(rows):
        return None
    hits = 0
    for row in rows.tolist():
        key, price = (int(case.theirs.entry_ms[row]), int(case.theirs.side[row])), float(case.theirs.entry_price[row])
        ours = where.get(key, same_time.get(key))
        hits += ours is not None and _filled_at_close(case, ours, price, is_earlier=key in where)
    detail = "their entries are at the close of the deciding bar, ours at the next open"
    return Explanation("fill_rule", hits / len(rows), detail)


def _filled_at_close(case: Alignment, ours: int, price: float, *, is_earlier: bool) -> bool:
    bar = int(np.searchsorted(case.candles.ts, case.ours.entry_ms[ours]))
    if bar == 0:
        return False
    opened, closed = float(case.candles.open[bar]), float(case.candles.close[bar - 1])
    # Both are moved by the slippage our fill had.
    moved = float(case.ours.entry_price[ours]) / opened
    at_close = bool(case.near(np.array([price, price]), np.array([closed, closed * moved])).any())
    at_open = bool(case.near(np.array([price]), np.array([opened * moved]))[0])
    return at_close and (is_earlier or not at_open)


def _tick_rounding(case: Alignment) -> Explanation | None:
    theirs, ours, gap = _entry_gaps(case)
    if not len(gap):
        return None
    step = case.tick or decimal_step(theirs.entry_price)
    rounded = np.abs(theirs.entry_price / step - np.round(theirs.entry_price / step)) < 1e-6
    finer = np.abs(ours.entry_price / step - np.round(ours.entry_price / step)) > 1e-6
    explained = rounded & finer & (np.abs(gap) <= step * 0.5001)
    return Explanation("tick_rounding", float(explained.mean()), f"their prices are ours rounded to {step:g}")


def _slippage(case: Alignment) -> Explanation | None:
    _, ours, gap = _entry_gaps(case)
    if not len(gap):
        return None
    rounding = case.tick * 0.51
    best, detail = 0.0, ""
    for scale, unit in ((np.ones(len(gap)), ""), (100 / ours.entry_price, " %")):
        values = gap * scale
        middle = float(np.median(values))
        share = float(np.mean(np.abs(values - middle) <= np.maximum(0.05 * abs(middle), rounding * scale)))
        if middle != 0.0 and share > best:
            worse = "worse" if middle > 0 else "better"
            best, detail = share, f"their entries are {abs(middle):.6g}{unit} {worse} than ours"
    # A different reference bar also moves prices, but to both sides alike.
    one_way = float(max(np.mean(gap > 0), np.mean(gap < 0)))
    return Explanation("slippage", best * one_way, detail)


def _size(case: Alignment) -> Explanation | None:
    wrong = ~case.equal["quantity"]
    if not wrong.any():
        return None
    theirs, ours = case.paired(wrong)
    ratios = theirs.quantity / ours.quantity
    ratio = float(np.median(ratios))
    # Sizes that follow the equity drift apart after any other difference: a setting makes one ratio for all.
    steady = np.abs(ratios / ratio - 1) <= 0.01
    share = float(np.mean((case.equal["entry_price"] & case.equal["exit_price"])[wrong] & steady))
    return Explanation("size", share, f"their quantity is {ratio:.6g} times ours, at the same prices")


def _funding(case: Alignment) -> Explanation | None:
    theirs, ours = case.paired(_same_fills(case) & case.equal["quantity"] & ~case.equal["pnl"])
    paid = ours.funding != 0
    if not paid.any():
        return None
    allowed = 1.02 * theirs.pnl_step + 1e-9 * (1 + np.abs(ours.pnl)) + 0.02 * np.abs(ours.funding)
    share = float(np.mean(np.abs(theirs.pnl - ours.pnl - ours.funding) <= allowed))
    return Explanation("funding", share, "their profits are ours without funding, which TradingView does not charge")


def _fee(case: Alignment) -> Explanation | None:
    theirs, ours = case.paired(_same_fills(case) & ~case.equal["pnl"])
    if not len(theirs):
        return None
    best: Explanation | None = None
    for funding, words in ((np.zeros(len(ours)), ""), (ours.funding, ", and no funding")):
        rates = _cost_rates(theirs, case) - _cost_rates(ours, case, funding)
        middle = float(np.median(rates))
        if abs(middle) < _LEAST_FEE:
            continue
        per_value = turnover(theirs, inverse=case.inverse)
        rounding = 1.02 * theirs.pnl_step + case.tick * theirs.quantity * (0 if case.inverse else 1)
        allowed = np.maximum(0.05 * abs(middle), rounding / per_value)
        share = float(np.mean(np.abs(rates - middle) <= allowed))
        more = "more" if middle > 0 else "less"
        detail = f"they charge {abs(100 * middle):.4g} % of each fill {more} than we do{words}"
        if best is None or share > best.confidence:
            best = Explanation("fee", share, detail)
    return best


def _cost_rates(trades: TradeColumns, case: Alignment, funding: FloatColumn | float = 0.0) -> FloatColumn:
    """Return what a list charges for each fill as a share of its value, by its own quantities."""
    fills = (trades.entry_price, trades.exit_price)
    gross = gross_profit(trades.side.astype(float), trades.quantity, *fills, inverse=case.inverse)
    return (gross - trades.pnl - funding) / turnover(trades, inverse=case.inverse)


def _same_fills(case: Alignment) -> BoolColumn:
    theirs, ours = case.paired(np.ones(len(case.pairs), np.bool_))
    same = case.equal["entry_price"] & case.equal["exit_price"] & case.equal["exit_time"]
    return same & ~(theirs.open | ours.open) & ~np.isnan(theirs.pnl + theirs.quantity)


def _seed(case: Alignment) -> Explanation | None:
    # An average forgets its seed: entries differ at the beginning, and none after that.
    moved = ~(case.equal["entry_price"] & case.equal["exit_time"])
    wrong = np.concatenate(
        (
            case.theirs.entry_ms[case.pairs[moved, 0]],
            case.theirs.entry_ms[case.only_theirs],
            case.ours.entry_ms[case.only_ours],
        )
    )
    alone = len(case.only_theirs) + len(case.only_ours)
    if not alone or not len(case.pairs):
        return None
    start = min(int(case.theirs.entry_ms[0]), int(case.ours.entry_ms[0]), int(case.candles.ts[0]))
    end = max(int(case.theirs.entry_ms[-1]), int(case.ours.entry_ms[-1]))
    part = (int(wrong.max()) - start) / max(end - start, 1)
    # A single trade that only one list has is a missing one; another seed moves entries of both.
    both = len(case.only_theirs) and len(case.only_ours)
    if part > _SEED_PART:
        return None
    return Explanation(
        "seed_of_the_average",
        (0.95 if both else 0.7) - part,
        f"all entries that differ lie in the first {part:.0%} of the time; later ones agree",
    )


def _entry_gaps(case: Alignment) -> tuple[TradeColumns, TradeColumns, FloatColumn]:
    """Return the pairs whose entry prices differ, and by how much theirs is worse."""
    theirs, ours = case.paired(~case.equal["entry_price"])
    return theirs, ours, (theirs.entry_price - ours.entry_price) * ours.side
