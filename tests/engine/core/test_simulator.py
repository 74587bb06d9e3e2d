"""Execution by hand: every rule on a few bars with figures worked out on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings, step_ratio
from engine.core.signals import Signals
from engine.core.simulation import check_accounting
from engine.core.simulator import simulate, simulate_extremes
from engine.core.trades import EXIT_REASONS
from engine.errors import BadRequest, DataMissing

NONE = math.nan
FREE = ExecutionSettings(
    capital=1_000.0, taker_fee_fraction=0.0, maker_fee_fraction=0.0, size_mode="quantity", size_value=1.0
)


def candles_of(*bars: Sequence[float]) -> Candles:
    table = np.array(bars, dtype=float)
    filler = np.full(len(bars), 1e9)
    return Candles(np.arange(len(bars)) * 60_000, *(table[:, column].copy() for column in range(4)), filler, filler)


def signals_of(
    bars: int, *, long: tuple[int, ...] = (), short: tuple[int, ...] = (), leave: tuple[int, ...] = (), **levels: object
) -> Signals:
    masks = [np.isin(np.arange(bars), rows) for rows in (long, leave, short, leave)]
    empty = Signals(*masks, NONE, None, NONE, None, NONE, None, NONE, NONE, 0, 0)
    return replace(empty, **levels)


FLAT = (100, 100, 100, 100)


def only_trade(candles: Candles, signals: Signals, settings: ExecutionSettings = FREE) -> tuple[str, int, float]:
    simulation = simulate(candles, signals, settings)
    assert check_accounting(simulation, candles, settings) == ()
    assert len(simulation.trades) == 1
    trades = simulation.trades
    return EXIT_REASONS[trades.exit_reason[0]], int(trades.exit_bar[0]), float(trades.exit_price[0])


def test_a_signal_fills_at_the_next_open_with_slippage_and_taker_fees_on_both_fills() -> None:
    candles = candles_of(FLAT, (101, 110, 100, 108), (107, 112, 105, 110), (120, 121, 119, 120))
    settings = replace(FREE, taker_fee_fraction=0.001, slippage_fraction=0.01)
    simulation = simulate(candles, signals_of(4, long=(0,), leave=(2,)), settings)
    trades = simulation.trades
    assert trades.entry_price[0] == pytest.approx(102.01)
    assert trades.exit_price[0] == pytest.approx(118.8)
    assert trades.fees[0] == pytest.approx(0.10201 + 0.1188)
    assert trades.pnl[0] == pytest.approx(118.8 - 102.01 - 0.22081)
    assert simulation.equity.tolist() == pytest.approx(
        [1_000, 1_000 - 0.10201 + 108 - 102.01, 1_000 - 0.10201 + 110 - 102.01, 1_000 + 16.56919]
    )
    assert simulation.position.tolist() == [0, 1, 1, 0]
    assert (trades.bars[0], simulation.exposed_bars) == (2, 2)
    # Best is the exit fill (the highest price before it was 112), worst the low of 100 in the entry bar.
    assert trades.mfe[0] == pytest.approx(118.8 - 102.01)
    assert trades.mae[0] == pytest.approx(2.01)


def test_an_opposite_entry_reverses_at_one_open() -> None:
    simulation = simulate(candles_of(FLAT, FLAT, (90, 95, 85, 90), FLAT), signals_of(4, long=(0,), short=(1,)), FREE)
    assert simulation.trades.side.tolist() == [1, -1]
    assert simulation.trades.exit_bar.tolist() == [2, 3]
    assert simulation.trades.pnl.tolist() == [-10, -10]


def test_long_exit_and_short_entry_at_one_close_reverse() -> None:
    signals = replace(signals_of(4, long=(0,), short=(1,)), long_exit=np.array([False, True, False, False]))
    assert simulate(candles_of(*[FLAT] * 4), signals, FREE).trades.side.tolist() == [1, -1]


def test_entries_of_both_sides_cancel_and_the_last_bar_decides_nothing() -> None:
    simulation = simulate(candles_of(*[FLAT] * 4), signals_of(4, long=(0, 3), short=(0,)), FREE)
    assert len(simulation.trades) == 0
    assert simulation.skipped_entries["conflicting_signals"] == 1


def test_an_entry_with_the_exit_of_its_own_side_is_void() -> None:
    assert len(simulate(candles_of(*[FLAT] * 3), signals_of(3, long=(0,), leave=(0,)), FREE).trades) == 0


def test_the_entry_bar_may_hit_its_stop() -> None:
    candles = candles_of(FLAT, (100, 101, 97, 100), FLAT)
    assert only_trade(candles, signals_of(3, long=(0,), stop_fraction=0.02)) == ("stop_loss", 1, 98.0)


def test_a_gap_through_the_stop_fills_at_the_open_and_pays_slippage() -> None:
    candles = candles_of(FLAT, FLAT, (90, 91, 89, 90))
    settings = replace(FREE, slippage_fraction=0.001)
    reason, bar, price = only_trade(candles, signals_of(3, long=(0,), stop_fraction=0.02), settings)
    assert (reason, bar) == ("stop_loss", 2)
    assert price == pytest.approx(90 * 0.999)


def test_a_gap_through_the_target_fills_at_the_better_open_without_slippage() -> None:
    candles = candles_of(FLAT, FLAT, (110, 111, 109, 110))
    settings = replace(FREE, slippage_fraction=0.0001)
    assert only_trade(candles, signals_of(3, long=(0,), target_fraction=0.05), settings) == ("take_profit", 2, 110.0)


def test_a_target_pays_the_maker_fee_unless_told_otherwise() -> None:
    candles, signals = candles_of(FLAT, (100, 106, 100, 105)), signals_of(2, long=(0,), target_fraction=0.05)
    settings = replace(FREE, taker_fee_fraction=0.001, maker_fee_fraction=0.0002)
    assert simulate(candles, signals, settings).trades.fees[0] == pytest.approx(0.1 + 0.021)
    taker = replace(settings, target_fee="taker")
    assert simulate(candles, signals, taker).trades.fees[0] == pytest.approx(0.1 + 0.105)


def test_stop_and_target_in_one_bar_are_ambiguous_and_both_extremes_are_told() -> None:
    candles, signals = (
        candles_of(FLAT, (100, 106, 97, 100), FLAT),
        signals_of(3, long=(0,), stop_fraction=0.02, target_fraction=0.05),
    )
    pessimistic, optimistic = simulate_extremes(candles, signals, FREE)
    assert (pessimistic.ambiguous_bars, optimistic.ambiguous_bars) == (1, 1)
    assert (pessimistic.equity[-1], optimistic.equity[-1]) == (998.0, 1005.0)


def test_the_trail_follows_earlier_bars_only() -> None:
    # The bar that reaches 120 also falls to 105: its own high must not stop it; the next bar's stop is 120 * 0.9.
    candles = candles_of(FLAT, (100, 120, 105, 115), (115, 116, 107, 110))
    assert only_trade(candles, signals_of(3, long=(0,), trail_fraction=0.1)) == ("trailing_stop", 2, 108.0)


def test_the_trail_sleeps_until_its_activation() -> None:
    candles = candles_of(FLAT, (100, 104, 89, 100), (100, 105, 99, 104), (104, 104, 94, 95))
    signals = signals_of(4, long=(0,), trail_fraction=0.1, trail_activation_fraction=0.05)
    assert only_trade(candles, signals) == ("trailing_stop", 3, 94.5)


def test_breakeven_moves_the_stop_to_the_entry() -> None:
    candles = candles_of(FLAT, (100, 103, 99, 102), (102, 102, 99, 101))
    signals = signals_of(3, long=(0,), stop_fraction=0.05, breakeven_fraction=0.03)
    assert only_trade(candles, signals) == ("stop_loss", 2, 100.0)


def test_max_bars_leaves_at_the_open_after_that_many_bars() -> None:
    candles = candles_of(*[FLAT] * 3, (103, 104, 102, 103), FLAT)
    assert only_trade(candles, signals_of(5, long=(0,), max_bars=2)) == ("max_bars", 3, 103.0)


def test_after_a_stop_only_a_new_entry_signal_opens_again() -> None:
    bars = [FLAT, (100, 101, 97, 100), FLAT, FLAT, FLAT]
    signals = signals_of(5, long=(0,), stop_fraction=0.02)
    assert len(simulate(candles_of(*bars), signals, FREE).trades) == 1
    again = simulate(candles_of(*bars), replace(signals, long_entry=np.array([True, True, False, False, False])), FREE)
    assert again.trades.entry_bar.tolist() == [1, 2]


def test_an_open_position_ends_at_the_last_close() -> None:
    candles = candles_of(FLAT, FLAT, (100, 108, 99, 107))
    assert only_trade(candles, signals_of(3, short=(0,))) == ("end_of_data", 2, 107.0)


def test_a_forbidden_entry_still_closes_the_opposite_position() -> None:
    simulation = simulate(
        candles_of(*[FLAT] * 4), signals_of(4, long=(0,), short=(1,)), replace(FREE, allow_short=False)
    )
    assert simulation.trades.exit_bar.tolist() == [2]
    assert simulation.skipped_entries["direction_not_allowed"] == 1


def test_lost_capital_closes_the_position_and_ends_trading() -> None:
    candles = candles_of(FLAT, FLAT, (100, 100, 45, 45), *[(45, 46, 44, 45)] * 3)
    settings = replace(FREE, size_mode="equity_fraction", leverage=2.0)
    simulation = simulate(candles, signals_of(6, long=(0, 3)), settings)
    assert [EXIT_REASONS[reason] for reason in simulation.trades.exit_reason] == ["liquidation"]
    assert (simulation.ruined, simulation.ruined_bar) == (True, 2)
    assert simulation.equity.tolist() == [1_000, 1_000, -100, -100, -100, -100]
    assert simulation.skipped_entries["ruined"] == 1


@pytest.mark.parametrize(
    ("mode", "value", "quantity"),
    [("equity_fraction", 0.5, 15.0), ("quote", 500.0, 5.0), ("quantity", 2.5, 2.5), ("risk", 0.01, 5.0)],
)
def test_sizes_follow_their_mode(mode: str, value: float, quantity: float) -> None:
    settings = replace(FREE, size_mode=mode, size_value=value, leverage=3.0)
    simulation = simulate(candles_of(*[FLAT] * 3), signals_of(3, long=(0,), stop_fraction=0.02), settings)
    assert simulation.trades.quantity[0] == pytest.approx(quantity)
    assert simulation.trades.initial_risk[0] == pytest.approx(quantity * 2)


def test_risk_is_bounded_by_the_leverage_and_a_fixed_size_beyond_it_is_refused() -> None:
    candles, signals = candles_of(*[FLAT] * 3), signals_of(3, long=(0,), stop_fraction=0.001)
    risky = simulate(candles, signals, replace(FREE, size_mode="risk", size_value=0.01))
    assert (risky.trades.quantity[0], risky.capped_entries) == (10.0, 1)
    refused = simulate(candles, signals, replace(FREE, size_value=11.0))
    assert (len(refused.trades), refused.skipped_entries["insufficient_margin"]) == (0, 1)


def test_risk_without_a_stop_opens_nothing() -> None:
    simulation = simulate(
        candles_of(*[FLAT] * 3), signals_of(3, long=(0,)), replace(FREE, size_mode="risk", size_value=0.01)
    )
    assert simulation.skipped_entries["no_stop"] == 1


@pytest.mark.parametrize(
    ("wanted", "step", "got"), [(0.3, 0.1, 0.3), (0.7, 0.1, 0.7), (0.29, 0.1, 0.2), (5.0, 5.0, 5.0)]
)
def test_quantities_round_down_to_exact_lots(wanted: float, step: float, got: float) -> None:
    settings = replace(FREE, size_value=wanted, round_to_lot=True, lot_step=step)
    assert simulate(candles_of(*[FLAT] * 3), signals_of(3, long=(0,)), settings).trades.quantity[0] == got


def test_sizes_below_the_instruments_minimum_are_skipped_and_counted() -> None:
    candles, signals = candles_of(*[FLAT] * 3), signals_of(3, long=(0,))
    small = simulate(candles, signals, replace(FREE, min_quantity=2.0))
    cheap = simulate(candles, signals, replace(FREE, min_notional=101.0))
    assert (len(small.trades), small.skipped_entries["below_min_quantity"]) == (0, 1)
    assert (len(cheap.trades), cheap.skipped_entries["below_min_notional"]) == (0, 1)


def test_levels_round_to_the_tick_away_from_profit() -> None:
    signals = signals_of(3, long=(0,), stop_fraction=0.0212, target_fraction=0.0512)
    settings = replace(FREE, tick_size=0.5)
    assert only_trade(candles_of(FLAT, (100, 101, 90, 95), FLAT), signals, settings)[2] == 97.5
    assert only_trade(candles_of(FLAT, (100, 120, 100, 100), FLAT), signals, settings)[2] == 105.5


def test_inverse_profit_is_in_coin() -> None:
    candles = candles_of((50_000,) * 4, (50_000,) * 4, (40_000, 40_000, 40_000, 40_000))
    settings = replace(FREE, capital=1.0, category="inverse", size_value=10_000.0)
    simulation = simulate(candles, signals_of(3, short=(0,)), settings)
    assert simulation.trades.pnl[0] == pytest.approx(-1 * 10_000 * (1 / 50_000 - 1 / 40_000))


def test_spot_sets_its_entry_fee_aside() -> None:
    settings = replace(FREE, category="spot", allow_short=False, taker_fee_fraction=0.001, size_mode="equity_fraction")
    trades = simulate(candles_of(*[FLAT] * 3), signals_of(3, long=(0,)), settings).trades
    assert trades.quantity[0] * 100 * 1.001 == pytest.approx(1_000)


def test_closed_profit_equals_what_bybit_recorded(shared_folder: Path) -> None:
    path = shared_folder / "bybit-samples" / "accounting" / "taker_fees_and_closed_pnl.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["closed_pnl"]
    entry, leave = float(recorded["avgEntryPrice"]), float(recorded["avgExitPrice"])
    candles = candles_of(*[(entry,) * 4] * 2, (leave,) * 4)
    settings = ExecutionSettings(
        capital=100.0,
        leverage=10.0,
        size_mode="quantity",
        size_value=float(recorded["qty"]),
        round_to_lot=True,
        lot_step=0.001,
    )
    simulation = simulate(candles, signals_of(3, long=(0,)), settings)
    assert f"{simulation.trades.pnl[0]:.8f}" == recorded["closedPnl"]


def test_a_taker_fee_equals_what_bybit_recorded(shared_folder: Path) -> None:
    path = shared_folder / "bybit-samples" / "accounting" / "taker_fees_and_closed_pnl.json"
    fill = json.loads(path.read_text(encoding="utf-8"))["linear_taker_fill"]
    value = notional_value(float(fill["execQty"]), float(fill["execPrice"]), inverse=False)
    assert value * float(fill["feeRate"]) == pytest.approx(float(fill["execFee"]), abs=1e-12)


def test_profit_formulas_hold_for_both_sides() -> None:
    assert gross_profit(-1.0, 2.0, 100.0, 90.0, inverse=False) == 20.0
    assert gross_profit(1.0, 100.0, 50.0, 100.0, inverse=True) == 1.0
    assert step_ratio(1e-8) == (1.0, 1e8)


def test_tiny_prices_and_a_single_bar_work() -> None:
    bar = (1e-8, 1e-8, 1e-8, 1e-8)
    simulation = simulate(candles_of(*[bar] * 3), signals_of(3, long=(0,)), replace(FREE, size_mode="equity_fraction"))
    assert simulation.trades.quantity[0] == pytest.approx(1e11)
    assert simulate(candles_of(FLAT), signals_of(1, long=(0,)), FREE).equity.tolist() == [1_000]


def test_the_inputs_may_be_read_only_and_strided_views() -> None:
    table = np.array([FLAT, (101, 110, 100, 108), (107, 112, 105, 110)], dtype=float)
    table.flags.writeable = False
    strided = Candles(np.arange(3), table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 0], table[:, 0])
    signals = signals_of(3, long=(0,))
    expected = simulate(candles_of(*table.tolist()), signals, FREE)
    assert simulate(strided, signals, FREE).equity.tolist() == expected.equity.tolist()


def test_broken_books_are_found_out() -> None:
    candles, signals = candles_of(FLAT, FLAT, (100, 108, 99, 107)), signals_of(3, long=(0,))
    simulation = simulate(candles, signals, FREE)
    wrong = replace(simulation, equity=simulation.equity + np.array([0.0, 0.0, 0.01]))
    assert set(check_accounting(wrong, candles, FREE)) == {
        "cash and position are not the equity",
        "profits do not sum to the change of equity",
    }


@pytest.mark.parametrize("price", [math.nan, 0.0, -1.0, math.inf])
def test_prices_that_are_no_prices_are_refused(price: float) -> None:
    with pytest.raises(BadRequest, match="prices hold"):
        simulate(candles_of(FLAT, (100, 100, price, 100)), signals_of(2), FREE)


def test_no_candles_and_foreign_signals_are_refused() -> None:
    with pytest.raises(DataMissing):
        simulate(Candles.empty(), signals_of(0), FREE)
    with pytest.raises(BadRequest, match="2 rows for 3 candles"):
        simulate(candles_of(*[FLAT] * 3), signals_of(2), FREE)
    with pytest.raises(BadRequest, match="stop_fraction"):
        simulate(candles_of(*[FLAT] * 3), signals_of(3, stop_fraction=-0.02), FREE)


@pytest.mark.parametrize(
    "change",
    [
        {"capital": 0.0}, {"capital": math.nan}, {"taker_fee_fraction": -0.1}, {"slippage_fraction": 0.9},
        {"leverage": 0.5}, {"size_mode": "equity_fraction", "size_value": 1.5}, {"size_value": 0.0},
        {"size_mode": "everything"}, {"intrabar": "magic"}, {"round_to_lot": True}, {"category": "spot"},
        {"category": "spot", "allow_short": False, "leverage": 2.0}, {"category": "option"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_with_a_fix(change: dict[str, object]) -> None:
    with pytest.raises(BadRequest) as refusal:
        replace(FREE, **change)
    assert refusal.value.fix
