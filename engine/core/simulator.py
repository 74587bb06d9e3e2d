"""Candles and signals in, a simulation out: the execution rules, said once.

1. A decision at the close of bar t fills at the open of t+1 as a market order: taker fee, adverse slippage in the
   price. An entry against the position closes it and reverses at the same open; an exit decision of the held side only
   closes it. Entries of both sides at one close cancel each other, an entry with the exit of its own side at the same
   close is void, an entry of the side already held at that close is ignored unless rule 9 adds. The last bar's decision
   does nothing.
2. The bar of the entry counts for stops: after the fill its prices may hit them.
3. A stop fills at the open when the bar opens at or beyond it, else at the stop price, with taker fee and slippage. A
   target is a limit order: it fills at the better of open and target, without slippage, with the fee `target_fee` names.
4. A bar that reaches stop and target, and opens between them, is ambiguous: `intrabar` says which comes first. `magnify`
   lets the one-minute candles of the bar act in their order, each by these same rules; a minute that holds both, minutes
   that are missing or contradict the bar, and a liquidation on mark prices, which have no minutes, leave the bar
   undecided: the stop comes first.
5. The trailing stop follows the best price of earlier bars (the entry fill first), `trail_fraction` or `trail_distance`
   behind it, from the moment its activation is reached; the breakeven stop moves to the entry fill likewise. The tightest
   of fixed, breakeven and trailing stop holds.
6. Decisions at the open come before anything inside the bar. After `max_bars` bars the position is closed at the open.
   After a stop or target the account stays flat until the next entry decision, at the earliest that of the exit bar.
7. A position still open at the end is closed at the last close (no slippage, taker fee): `end_of_data`.
8. Equity is marked at every close, fees and funding included. When a mark is zero or less the position is closed at that
   close as `liquidation` and nothing is opened from then on.
9. Up to `max_entries` entries of one side share a position. An addition is sized as an entry, by the equity at its open,
   within leverage * equity for the whole. Stop, target and partial targets are put anew on the average entry with the
   distances of the newest signal; a tighter trailing stop stays. Excursions and `max_bars` run from the first entry.
10. With margin tiers every position has an isolated margin of value / leverage and a liquidation price (see
   `engine.core.perpetual`), touched by the mark price, or by the trade price where no mark candles are given. Of stop and
   liquidation in one bar the nearer one comes first, but a bar whose mark opens beyond the liquidation price liquidates
   at once. The position is closed at its bankruptcy price with the taker fee: the whole margin is lost, never more and
   never less (Bybit help centre, "Liquidation Process": the position is taken over at the bankruptcy price). Tiers are
   those of the value at the average entry; nothing is liquidated in part, no margin is added.
11. Funding is charged at each settlement t with entry < t <= exit, on the quantity then held. A fill at a bar's open
   happens at that open: a position closed there by a decision pays a settlement at that time, one opened there does not.
   A fill inside a bar counts as of the end of the bar: a position that is stopped out pays the settlements inside that
   bar, one whose order fills inside it does not. Funding is taken from the wallet, not from the position's margin.
12. A resting entry order stands at an offset from the close of its signal bar, from the next open on for its number of
   bars; a new entry decision or an exit decision of its side cancels it. A limit order fills at the better of open and
   price with the fee `target_fee` names, a stop order at the worse of both with taker fee and slippage. Inside the bar of
   such a fill only what must have come after it is certain: for a limit order the way against the position and the
   close, for a stop order the way toward the target and the close. Where the rest matters the bar is ambiguous.
13. No entry fills in a bar that opens outside the session; `is_flat_outside_session` closes at the first such open.
14. A partial target closes its share of all that was entered, rounded down to the lot; they are taken in their order,
   before the target of the rest. Each part is a row of the trades.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.core import kernel
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.full_run import needs_all_rules, run_in_full
from engine.core.kernel_inputs import check_prices, check_signals, kernel_rules, pack_decisions, read_only
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.side_thread import WORTH_SHARING_BARS, side_by_side
from engine.core.signals import Signals
from engine.core.simulation import Entries, Simulation, SkipReason
from engine.core.trades import Trades


def simulate(
    candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail = NO_DETAIL
) -> Simulation:
    """Trade the signals over the candles.

    Parameters
    ----------
    candles : Candles
        At least one; prices finite and above zero.
    signals : Signals
        One row a candle.
    settings : ExecutionSettings
    detail : MarketDetail
        Funding, mark prices and minutes, laid beside the candles by `engine.core.market_detail.lay_beside`.

    Returns
    -------
    Simulation

    Notes
    -----
    Consecutive rows are consecutive bars, also across a gap in time.
    """
    check_signals(candles, signals)
    if needs_all_rules(signals, settings, detail):
        check_prices(candles)
        return run_in_full(candles, signals, settings, detail)
    bars = len(candles)
    most_trades = int(np.count_nonzero(signals.long_entry)) + int(np.count_nonzero(signals.short_entry))
    equity = np.empty(bars)
    position = np.empty(bars, np.int8)
    rows = np.empty((most_trades, kernel.ROW_WIDTH), np.int64)
    records = np.empty((most_trades, kernel.RECORD_WIDTH))
    counters = np.zeros(kernel.COUNTERS, np.int64)
    counters[kernel.RUINED_BAR] = -1
    arguments = (
        read_only(candles.open),
        read_only(candles.high),
        read_only(candles.low),
        read_only(candles.close),
        pack_decisions(signals),
        read_only(signals.stop_distance),
        read_only(signals.target_distance),
        read_only(signals.trail_distance),
        kernel_rules(signals, settings),
        equity,
        position,
        rows,
        records,
        counters,
    )
    if bars < WORTH_SHARING_BARS:
        check_prices(candles)
        count = kernel.run_bars(*arguments)
    else:
        # What the loop makes of prices that are none is thrown away.
        count, _ = side_by_side(lambda: kernel.run_bars(*arguments), lambda: check_prices(candles))
    ruined_bar = int(counters[kernel.RUINED_BAR])
    trades = Trades.from_tables(rows[:count], records[:count])
    return Simulation(
        trades=trades,
        equity=equity,
        position=position,
        exposed_bars=int(counters[kernel.EXPOSED]),
        ambiguous_bars=int(counters[kernel.AMBIGUOUS]),
        skipped_entries={skip.name.lower(): int(counters[kernel.SKIPS + skip]) for skip in SkipReason},
        capped_entries=int(counters[kernel.CAPPED]),
        ruined_bar=None if ruined_bar < 0 else ruined_bar,
        warmup_bars=signals.warmup_bars,
        entries=Entries.of_single(trades, settings),
    )


def simulate_extremes(
    candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail = NO_DETAIL
) -> tuple[Simulation, Simulation]:
    """Return the pessimistic and the optimistic run; the same object twice when no bar was ambiguous."""
    pessimistic = simulate(candles, signals, replace(settings, intrabar="pessimistic"), detail)
    if pessimistic.ambiguous_bars == 0:
        return pessimistic, pessimistic
    return pessimistic, simulate(candles, signals, replace(settings, intrabar="optimistic"), detail)
