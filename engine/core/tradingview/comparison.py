"""What differs between TradingView's list of trades and ours: the first difference, trades that are missing, reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.core.candles import Candles
from engine.core.tradingview.alignment import Alignment, align
from engine.core.tradingview.lists import TradeColumns
from engine.core.tradingview.reasons import Explanation, Reason, explain, missing_because

# So many missing trades of each list are named.
NAMED_MISSING = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first trade that differs: its rows in both lists (None: the list has no such trade) and what differs."""

    their_row: int | None
    our_row: int | None
    at_ms: int
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MissingTrade:
    """A trade that one of the lists does not have.

    Attributes
    ----------
    missing_in : str
        `theirs` or `ours`.
    row : int
        In the list that has it.
    at_ms : int
        Of the entry.
    side : int
    reason : str
        Why it is probably missing, as far as the lists and the candles tell.
    """

    missing_in: Literal["theirs", "ours"]
    row: int
    at_ms: int
    side: int
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two trade lists side by side.

    Attributes
    ----------
    matched_entries : int
        Trades with the same side and entry time.
    matched : int
        Those whose prices, exit, quantity and profit agree too, as far as both lists have them.
    missing_in_theirs, missing_in_ours : int
    missing : tuple of MissingTrade
        The first ones of each list, in the order of time.
    first_difference : Difference or None
    explanations : tuple of Explanation
        Those of the first difference before others, each likeliest first; empty when nothing differs.
    """

    their_trades: int
    our_trades: int
    matched_entries: int
    matched: int
    missing_in_theirs: int
    missing_in_ours: int
    missing: tuple[MissingTrade, ...]
    first_difference: Difference | None
    explanations: tuple[Explanation, ...]

    @property
    def likely_reason(self) -> Reason | None:
        """Return the most likely reason, None when nothing differs."""
        return self.explanations[0].reason if self.explanations else None


def compare_trades(
    theirs: TradeColumns, ours: TradeColumns, candles: Candles, *, tick: float = 0.0, inverse: bool = False
) -> Comparison:
    """Align two lists by side and entry time, and look for the reason of the first difference.

    Parameters
    ----------
    candles : Candles
        The bars our trades were made on.
    tick : float
        Price step of the market; a price of ours that is not on it may be a step away from theirs, others must be met.
        0: not known.
    inverse : bool
        Quantities are dollars and profits coins.
    """
    case = align(theirs, ours, candles, tick, inverse=inverse)
    difference = _first_difference(case)
    return Comparison(
        their_trades=len(theirs),
        our_trades=len(ours),
        matched_entries=len(case.pairs),
        matched=int(case.agree.sum()),
        missing_in_theirs=len(case.only_ours),
        missing_in_ours=len(case.only_theirs),
        missing=_missing(case),
        first_difference=difference,
        explanations=() if difference is None else explain(case, difference.fields),
    )


def _first_difference(case: Alignment) -> Difference | None:
    found: list[tuple[int, int, Difference]] = []
    wrong = np.flatnonzero(~case.agree)
    if len(wrong):
        their_row, our_row = (int(row) for row in case.pairs[wrong[0]])
        names = tuple(name for name, same in case.equal.items() if not same[wrong[0]])
        at_ms = int(case.theirs.entry_ms[their_row])
        found.append((at_ms, 2, Difference(their_row, our_row, at_ms, names)))
    if len(case.only_theirs):
        row = int(case.only_theirs[0])
        at_ms = int(case.theirs.entry_ms[row])
        found.append((at_ms, 0, Difference(row, None, at_ms, ("entry",))))
    if len(case.only_ours):
        row = int(case.only_ours[0])
        at_ms = int(case.ours.entry_ms[row])
        found.append((at_ms, 1, Difference(None, row, at_ms, ("entry",))))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _missing(case: Alignment) -> tuple[MissingTrade, ...]:
    found = [
        MissingTrade("ours", row, int(case.theirs.entry_ms[row]), int(case.theirs.side[row]),
                     missing_because(case, row, in_theirs=False))
        for row in case.only_theirs[:NAMED_MISSING].tolist()
    ] + [
        MissingTrade("theirs", row, int(case.ours.entry_ms[row]), int(case.ours.side[row]),
                     missing_because(case, row, in_theirs=True))
        for row in case.only_ours[:NAMED_MISSING].tolist()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda trade: trade.at_ms))
