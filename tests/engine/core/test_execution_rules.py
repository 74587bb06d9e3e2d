"""Additions, partial targets, resting orders, sessions and minutes by hand, on a few bars each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail, lay_beside
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import EntryOrder, PartialTarget, Signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.simulator import simulate, simulate_extremes
from engine.core.trades import EXIT_REASONS
from engine.errors import BadRequest

NONE = math.nan
FREE = ExecutionSettings(
    capital=1_000.0, taker_fee_fraction=0.0, maker_fee_fraction=0.0, size_mode="quantity", size_value=1.0
)
FLAT = (100.0, 100.0, 100.0, 100.0)


def candles_of(*bars: Sequence[float]) -> Candles:
    table = np.array(bars, dtype=float)
    filler = np.full(len(bars), 1e9)
    return Candles(np.arange(len(bars)) * 300_000, *(table[:, column].copy() for column in range(4)), filler, filler)


def signals_of(
    bars: int, *, long: tuple[int, ...] = (), short: tuple[int, ...] = (), leave: tuple[int, ...] = (), **levels: object
) -> Signals:
    masks = [np.isin(np.arange(bars), rows) for rows in (long, leave, short, leave)]
    return replace(Signals(*masks, NONE, None, NONE, None, NONE, None, NONE, NONE, 0, 0), **levels)


def run(
    candles: Candles, signals: Signals, settings: ExecutionSettings = FREE, detail: MarketDetail | None = None
) -> Simulation:
    detail = detail or MarketDetail()
    simulation = simulate(candles, signals, settings, detail)
    assert simulate_plainly(candles, signals, settings, detail).equity.tobytes() == simulation.equity.tobytes()
    assert check_accounting(simulation, candles, settings, detail) == ()
    return simulation


def reasons(simulation: Simulation) -> list[str]:
    return [EXIT_REASONS[reason] for reason in simulation.trades.exit_reason]


def test_an_addition_averages_the_entry_and_moves_the_levels() -> None:
    candles = candles_of(FLAT, FLAT, (110, 110, 110, 110), (106, 106, 99, 100))
    signals = signals_of(4, long=(0, 1), stop_fraction=0.02, max_entries=2)
    simulation = run(candles, signals, replace(FREE, taker_fee_fraction=0.001))
    trades = simulation.trades
    # Average 105, so the stop stands at 102.9; fees on 100, 110 and 2 * 102.9.
    assert (trades.entry_price[0], trades.quantity[0], trades.entry_bar[0]) == (105, 2, 1)
    assert trades.exit_price[0] == pytest.approx(102.9)
    assert trades.fees[0] == pytest.approx(0.1 + 0.11 + 0.2058)
    assert trades.initial_risk[0] == pytest.approx(4.2)
    assert simulation.entries.price.tolist() == [100, 110]
    assert simulation.equity[2] == pytest.approx(1_000 + 10 - 0.21)


def test_additions_stop_at_their_bound_and_at_the_leverage() -> None:
    candles, signals = candles_of(*[FLAT] * 6), signals_of(6, long=(0, 1, 2, 3), max_entries=3)
    assert run(candles, signals).trades.quantity.tolist() == [3]
    bounded = run(candles, signals, replace(FREE, size_value=4.0))
    assert bounded.trades.quantity.tolist() == [8]
    assert bounded.skipped_entries["insufficient_margin"] == 2


def test_an_inverse_addition_averages_by_coins() -> None:
    candles = candles_of(*[(100.0,) * 4] * 2, *[(50.0,) * 4] * 2)
    settings = replace(FREE, category="inverse", capital=100.0, size_value=100.0)
    simulation = run(candles, signals_of(4, long=(0, 1), max_entries=2), settings)
    assert simulation.trades.entry_price[0] == pytest.approx(200 / 3)


def test_partial_targets_close_their_shares_and_the_rows_sum_to_the_position() -> None:
    candles = candles_of(FLAT, (100, 106, 100, 105), (105, 112, 104, 111), (111, 121, 110, 120))
    parts = (PartialTarget(0.5, 0.05, None), PartialTarget(0.25, 0.1, None))
    signals = signals_of(4, long=(0,), target_fraction=0.2, partial_targets=parts)
    simulation = run(candles, signals, replace(FREE, size_value=4.0, taker_fee_fraction=0.001))
    trades = simulation.trades
    assert trades.quantity.tolist() == [2, 1, 1]
    assert trades.exit_price.tolist() == pytest.approx([105, 110, 120])
    assert trades.exit_bar.tolist() == [1, 2, 3]
    assert trades.position_id.tolist() == [0, 0, 0]
    assert trades.fees.tolist() == pytest.approx([0.2, 0.1, 0.1])
    assert trades.pnl.sum() == pytest.approx(simulation.equity[-1] - 1_000)


def test_a_part_that_rounds_to_no_lot_is_not_closed_and_the_rest_is_stopped() -> None:
    candles = candles_of(FLAT, (100, 106, 100, 105), (105, 105, 97, 98))
    signals = signals_of(3, long=(0,), stop_fraction=0.02, partial_targets=(PartialTarget(0.3, 0.05, None),))
    simulation = run(candles, signals, replace(FREE, size_value=2.0, round_to_lot=True, lot_step=1.0))
    assert (reasons(simulation), simulation.trades.quantity.tolist()) == (["stop_loss"], [2])


def test_the_optimist_takes_the_part_and_is_stopped_with_the_rest() -> None:
    candles = candles_of(FLAT, (100, 106, 97, 100))
    parts = (PartialTarget(0.5, 0.05, None),)
    signals = signals_of(2, long=(0,), stop_fraction=0.02, target_fraction=0.2, partial_targets=parts)
    pessimistic, optimistic = simulate_extremes(candles, signals, replace(FREE, size_value=2.0))
    assert reasons(pessimistic) == ["stop_loss"]
    assert reasons(optimistic) == ["take_profit", "stop_loss"]
    assert optimistic.trades.pnl.tolist() == pytest.approx([5, -2])


def order(kind: str, fraction: float, bars: int = 1) -> EntryOrder:
    return EntryOrder(kind, fraction, None, bars)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "bar", "price", "fee"),
    [
        ("limit", (100, 101, 97, 99), 98.0, 0.0002),
        ("limit", (97, 99, 96, 98), 97.0, 0.0002),  # it opens below: the better price
        ("stop", (100, 103, 99, 101), 102.0 * 1.01, 0.001),
        ("stop", (104, 105, 103, 104), 104.0 * 1.01, 0.001),  # it opens above: the worse price
    ],
)
def test_a_resting_entry_fills_where_its_order_says(
    kind: str, bar: tuple[float, ...], price: float, fee: float
) -> None:
    settings = replace(FREE, taker_fee_fraction=0.001, maker_fee_fraction=0.0002, slippage_fraction=0.01)
    simulation = run(candles_of(FLAT, bar, FLAT), signals_of(3, long=(0,), order=order(kind, 0.02)), settings)
    entries = simulation.entries
    assert entries.price[0] == pytest.approx(price)
    assert entries.fee[0] == pytest.approx(price * fee)
    assert (simulation.trades.signal_bar[0], simulation.trades.entry_bar[0]) == (0, 1)


def test_an_order_expires_and_is_counted() -> None:
    candles = candles_of(FLAT, FLAT, FLAT, (100, 100, 90, 95), FLAT)
    short_lived = run(candles, signals_of(5, long=(0,), order=order("limit", 0.05, 2)))
    assert (len(short_lived.trades), short_lived.skipped_entries["order_not_filled"]) == (0, 1)
    patient = run(candles, signals_of(5, long=(0,), order=order("limit", 0.05, 3)))
    assert (patient.trades.signal_bar[0], patient.trades.entry_bar[0]) == (0, 3)


def test_an_exit_decision_withdraws_the_order() -> None:
    candles = candles_of(FLAT, FLAT, (100, 100, 90, 95), FLAT)
    simulation = run(candles, signals_of(4, long=(0,), leave=(1,), order=order("limit", 0.05, 3)))
    assert (len(simulation.trades), simulation.skipped_entries["order_not_filled"]) == (0, 1)


def test_after_a_limit_entry_the_high_of_the_bar_is_no_certain_target() -> None:
    # The bar rises to 110 and falls to 97: whether the high came after the purchase at 98 is not known.
    candles = candles_of(FLAT, (100, 110, 97, 99), (99, 99, 99, 99))
    signals = signals_of(3, long=(0,), target_fraction=0.05, order=order("limit", 0.02))
    pessimistic, optimistic = simulate_extremes(candles, signals, FREE)
    assert (reasons(pessimistic), reasons(optimistic)) == (["end_of_data"], ["take_profit"])
    assert pessimistic.ambiguous_bars == 1
    assert pessimistic.trades.mfe[0] == pytest.approx(1.0)
    certain = run(candles_of(FLAT, (100, 110, 97, 108)), signals_of(2, long=(0,), target_fraction=0.05, order=order("limit", 0.02)))  # fmt: skip
    assert (reasons(certain), certain.ambiguous_bars) == (["take_profit"], 0)


def test_orders_cannot_add_to_a_position() -> None:
    with pytest.raises(BadRequest, match="cannot add"):
        run(candles_of(FLAT), signals_of(1, order=order("limit", 0.1), max_entries=2))


def test_no_entry_outside_the_session_and_flat_at_its_end() -> None:
    session = np.array([True, True, True, False, False])
    inside = run(candles_of(*[FLAT] * 5), signals_of(5, long=(0, 2), session=session))
    assert (len(inside.trades), reasons(inside)) == (1, ["end_of_data"])
    flat = run(candles_of(*[FLAT] * 5), signals_of(5, long=(0, 3), session=session, is_flat_outside_session=True))
    assert (reasons(flat), flat.trades.exit_bar.tolist()) == (["session_end"], [3])
    assert flat.skipped_entries["outside_session"] == 1


def minutes_of(bar: int, *minutes: Sequence[float]) -> Candles:
    table = np.array(minutes, dtype=float)
    ts = bar * 300_000 + np.arange(len(minutes)) * 60_000
    return Candles(ts, *(table[:, column].copy() for column in range(4)), table[:, 0], table[:, 0])


BOTH = (100, 106, 97, 100)


@pytest.mark.parametrize(
    ("minutes", "reason", "decided"),
    [
        (((100, 106, 100, 104), (104, 104, 97, 100)), "take_profit", 1),
        (((100, 101, 97, 99), (99, 106, 99, 100)), "stop_loss", 1),
        (((100, 106, 97, 100),), "stop_loss", 0),  # the minute holds both
        (((100, 101, 99, 100),), "stop_loss", 0),  # the minutes contradict the bar
    ],
)
def test_the_minutes_of_a_bar_decide_their_order(
    minutes: tuple[tuple[float, ...], ...], reason: str, decided: int
) -> None:
    candles, signals = candles_of(FLAT, BOTH), signals_of(2, long=(0,), stop_fraction=0.02, target_fraction=0.05)
    detail = lay_beside(candles, "5", minutes=minutes_of(1, *minutes))
    simulation = run(candles, signals, replace(FREE, intrabar="magnify"), detail)
    assert (reasons(simulation), simulation.ambiguous_bars, simulation.decided_bars) == ([reason], 1, decided)


def test_without_minutes_the_stop_comes_first_and_the_bar_stays_undecided() -> None:
    candles, signals = candles_of(FLAT, BOTH), signals_of(2, long=(0,), stop_fraction=0.02, target_fraction=0.05)
    simulation = run(candles, signals, replace(FREE, intrabar="magnify"))
    assert (reasons(simulation), simulation.ambiguous_bars, simulation.decided_bars) == (["stop_loss"], 1, 0)


def test_minutes_tell_what_came_after_a_limit_entry() -> None:
    candles = candles_of(FLAT, (100, 110, 97, 99))
    signals = signals_of(2, long=(0,), target_fraction=0.05, order=order("limit", 0.02))
    high_first = minutes_of(1, (100, 110, 100, 100), (100, 100, 97, 99))
    low_first = minutes_of(1, (100, 100, 97, 99), (99, 110, 99, 99))
    chosen = replace(FREE, intrabar="magnify")
    missed = run(candles, signals, chosen, lay_beside(candles, "5", minutes=high_first))
    gained = run(candles, signals, chosen, lay_beside(candles, "5", minutes=low_first))
    assert (reasons(missed), missed.decided_bars) == (["end_of_data"], 1)
    assert (reasons(gained), gained.decided_bars) == (["take_profit"], 1)


# What a run may meet at the edges.


def test_a_run_without_signals_trades_nothing_and_keeps_its_capital() -> None:
    simulation = run(candles_of(*[FLAT] * 3), signals_of(3, max_entries=2))
    assert (len(simulation.trades), len(simulation.entries), simulation.equity.tolist()) == (0, 0, [1_000] * 3)


def test_only_losses_lead_to_ruin_and_nothing_after_it() -> None:
    bars = [(100.0 - 10 * row, 100.0 - 10 * row, 90.0 - 10 * row, 90.0 - 10 * row) for row in range(9)]
    settings = replace(FREE, capital=50.0, leverage=10.0, size_mode="quantity")
    simulation = run(candles_of(*bars), signals_of(9, long=(0, 7), max_entries=2), settings)
    assert simulation.ruined
    assert (simulation.trades.pnl < 0).all()
    assert simulation.skipped_entries["ruined"] == 1


@pytest.mark.parametrize("price", [1e-8, 1e9])
def test_tiny_and_huge_prices_keep_their_books(price: float) -> None:
    bars = [
        tuple(price * value / 100 for value in bar) for bar in (FLAT, (100, 106, 99, 105), (105, 112, 104, 111), FLAT)
    ]
    parts = (PartialTarget(0.5, 0.05, None),)
    signals = signals_of(4, long=(0,), leave=(2,), partial_targets=parts)
    simulation = run(candles_of(*bars), signals, replace(FREE, size_mode="equity_fraction", size_value=1.0))
    assert simulation.trades.pnl.tolist() == pytest.approx([25, 0], abs=1e-6)


def test_a_single_bar_trades_nothing_under_every_rule() -> None:
    candles = candles_of(FLAT)
    assert run(candles, signals_of(1, long=(0,), max_entries=3)).equity.tolist() == [1_000]
    assert run(candles, signals_of(1, long=(0,), order=order("stop", 0.01))).equity.tolist() == [1_000]


def test_a_gap_with_nan_is_refused_and_a_gap_in_time_is_crossed() -> None:
    with pytest.raises(BadRequest, match="prices hold"):
        simulate(candles_of(FLAT, (100, NONE, 99, 100)), signals_of(2, max_entries=2), FREE)
    gapped = replace(candles_of(FLAT, FLAT, (90, 91, 89, 90)), ts=np.array([0, 300_000, 90_000_000]))
    simulation = run(gapped, signals_of(3, long=(0,), stop_fraction=0.05, session=np.ones(3, bool)))
    assert (reasons(simulation), simulation.trades.exit_price[0]) == (["stop_loss"], 90.0)
