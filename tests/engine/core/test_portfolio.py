"""Shared capital: one symbol is the plain simulation, several are worked by hand, and money always adds up."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import catalogue
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.portfolio import Leg, PortfolioSettings, correlation_table, simulate_portfolio
from engine.core.signals import Signals, compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy
from engine.core.trades import ExitReason
from engine.errors import BadRequest, DataMissing

STEP_MS = 3_600_000


def make_candles(rows: int, seed: int, *, first: int = 0, volatility: float = 0.01) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility, rows)))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + random.normal(0, volatility / 5, rows))
    high = np.maximum(opened, close) * (1 + random.uniform(0, volatility, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, volatility, rows))
    ts = (np.arange(rows, dtype=np.int64) + first) * STEP_MS
    return Candles(ts, opened, high, low, close, np.ones(rows), np.ones(rows))


def flat_candles(opens: list[float], first: int = 0) -> Candles:
    """Bars that close where they open."""
    prices = np.array(opens)
    ts = (np.arange(len(prices), dtype=np.int64) + first) * STEP_MS
    return Candles(ts, prices, prices, prices, prices, np.ones(len(prices)), np.ones(len(prices)))


def make_signals(rows: int, *, enter: tuple[int, ...] = (), leave: tuple[int, ...] = (), **levels: float) -> Signals:
    columns = [np.zeros(rows, np.bool_) for _ in range(4)]
    columns[0][list(enter)] = True
    columns[1][list(leave)] = True
    nothing = {"stop_fraction": math.nan, "target_fraction": math.nan, "trail_fraction": math.nan}
    chosen = nothing | {"trail_activation_fraction": math.nan, "breakeven_fraction": math.nan} | levels
    return Signals(
        *columns, stop_distance=None, target_distance=None, trail_distance=None, max_bars=0, warmup_bars=0, **chosen
    )


FREE = ExecutionSettings(capital=1.0, taker_fee_fraction=0.0, maker_fee_fraction=0.0)
PLAIN = PortfolioSettings(capital=1_000.0)


@pytest.mark.parametrize(
    "name", ["ema_cross", "bollinger_reversion", "atr_channel", "donchian_breakout", "random_entry"]
)
@pytest.mark.parametrize(
    "execution",
    [
        ExecutionSettings(capital=5_000.0, slippage_fraction=0.0002),
        ExecutionSettings(capital=5_000.0, size_mode="risk", size_value=0.01, leverage=3.0),
        ExecutionSettings(capital=5_000.0, size_mode="quote", size_value=4_000.0, min_notional=5.0, tick_size=0.01),
        ExecutionSettings(capital=500.0, round_to_lot=True, lot_step=1.0, min_quantity=5.0, intrabar="optimistic"),
        ExecutionSettings(capital=0.05, category="inverse", leverage=5.0, size_value=0.5),
        ExecutionSettings(capital=5_000.0, category="spot", allow_short=False),
    ],
)
def test_one_symbol_is_the_plain_simulation(name: str, execution: ExecutionSettings) -> None:
    candles = make_candles(1_200, 5)
    signals = compute_signals(compile_strategy(catalogue.load(name)), candles, "60")
    alone = simulate(candles, signals, execution)
    shared = simulate_portfolio({"A": Leg(candles, signals, execution)}, PortfolioSettings(capital=execution.capital))
    np.testing.assert_array_equal(shared.equity, alone.equity)
    found = shared.symbols["A"].trades
    for one in fields(found):
        np.testing.assert_array_equal(getattr(found, one.name), getattr(alone.trades, one.name), err_msg=one.name)
    assert (shared.open_positions > 0).tolist() == (alone.position != 0).tolist()


def test_two_symbols_share_the_capital_as_worked_by_hand() -> None:
    # A is bought at 10 with half of 1000 (50 units); it stands at 12 when B is bought, so equity is 1100 and half
    # of that is 550. A already takes 600, which leaves 500: 100 units of B at 5, sold at 6 for 100. A is sold at 14: 200.
    a = Leg(flat_candles([10, 10, 12, 12, 14, 14]), make_signals(6, enter=(0,), leave=(3,)), FREE)
    b = Leg(flat_candles([5, 5, 5, 6, 6, 6]), make_signals(6, enter=(1,), leave=(2,)), FREE)
    found = simulate_portfolio({"A": a, "B": b}, PLAIN)
    assert found.symbols["A"].trades.quantity.tolist() == [50.0]
    assert found.symbols["B"].trades.quantity.tolist() == [100.0]
    assert found.symbols["B"].capped_entries == 1
    assert found.peak_leverage == 1.0
    assert found.equity.tolist() == [1_000.0, 1_000.0, 1_100.0, 1_200.0, 1_300.0, 1_300.0]
    assert found.open_positions.tolist() == [0, 1, 2, 1, 0, 0]
    assert found.symbols["A"].contribution.tolist() == [0.0, 0.0, 100.0, 100.0, 200.0, 200.0]


def test_a_full_book_refuses_until_a_slot_is_free_and_later_signals_count() -> None:
    opens = [10.0] * 8
    a = Leg(flat_candles(opens), make_signals(8, enter=(0,), leave=(3,)), FREE)
    # B's first two entries find the slot taken; its third comes when A has left at the same open.
    b = Leg(flat_candles(opens), make_signals(8, enter=(0, 1, 3)), FREE)
    found = simulate_portfolio({"A": a, "B": b}, replace(PLAIN, max_positions=1))
    assert found.symbols["A"].trades.entry_bar.tolist() == [1]
    assert found.symbols["B"].trades.entry_bar.tolist() == [4]
    assert found.symbols["B"].skipped_entries["no_free_slot"] == 2
    assert found.open_positions.max() == 1
    assert found.symbols["B"].trades.quantity.tolist() == [100.0]


def test_a_refused_reversal_still_closes_the_old_position() -> None:
    signals = make_signals(6, enter=(0,))
    signals.short_entry[2] = True
    execution = replace(FREE, size_mode="quote", size_value=100.0, max_quantity=0.0)
    a = Leg(flat_candles([10, 10, 10, 0.5, 0.5, 0.5]), signals, replace(execution, min_notional=0.0))
    lot = replace(execution, round_to_lot=True, lot_step=15.0, size_mode="equity_fraction", size_value=0.2)
    found = simulate_portfolio({"A": replace(a, execution=lot)}, PLAIN)
    assert found.symbols["A"].trades.exit_bar.tolist()[0] == 3
    alone = simulate(a.candles, signals, replace(lot, capital=1_000.0))
    assert found.equity.tolist() == alone.equity.tolist()


def test_inverse_volatility_gives_the_calm_symbol_more() -> None:
    rows = 400
    calm, wild = make_candles(rows, 1, volatility=0.005), make_candles(rows, 2, volatility=0.02)
    signals = make_signals(rows, enter=(300,))
    legs = {"CALM": Leg(calm, signals, FREE), "WILD": Leg(wild, signals, FREE)}
    found = simulate_portfolio(legs, replace(PLAIN, weighting="inverse_volatility", volatility_bars=200))
    spent = [result.trades.quantity[0] * result.trades.entry_price[0] for result in found.symbols.values()]
    # By hand: returns of the 200 closes up to the signal bar.
    inverse = [1 / np.std(np.diff(np.log(one.close[100:301]))) for one in (calm, wild)]
    np.testing.assert_allclose(spent, 1_000 * np.array(inverse) / sum(inverse), rtol=1e-9)
    later = {"CALM": legs["CALM"], "WILD": Leg(wild.take(slice(0, 320)), make_signals(320, enter=(300,)), FREE)}
    shorter = simulate_portfolio(later, replace(PLAIN, weighting="inverse_volatility", volatility_bars=200))
    np.testing.assert_array_equal(shorter.equity[:319], found.equity[:319])


def test_symbols_with_other_hours_meet_on_the_union_of_their_bars() -> None:
    a = Leg(flat_candles([10, 10, 11]), make_signals(3, enter=(0,)), FREE)
    b = Leg(flat_candles([20, 20, 22], first=2), make_signals(3, enter=(0,)), FREE)
    found = simulate_portfolio({"A": a, "B": b}, PLAIN)
    assert found.ts.tolist() == [row * STEP_MS for row in range(5)]
    assert found.symbols["A"].trades.exit_reason.tolist() == [ExitReason.END_OF_DATA]
    # A made 50; B then buys half of 1050 at 20 and makes 10 %.
    assert found.equity.tolist() == [1_000.0, 1_000.0, 1_050.0, 1_050.0, 1_102.5]


def test_a_lost_account_is_closed_and_opens_nothing_more() -> None:
    lever = replace(FREE, leverage=10.0)
    a = Leg(flat_candles([10, 10, 5, 5, 5]), make_signals(5, enter=(0, 3)), lever)
    b = Leg(flat_candles([10, 10, 10, 10, 10]), make_signals(5, enter=(0, 3)), lever)
    found = simulate_portfolio({"A": a, "B": b}, PLAIN)
    assert found.ruined_ms == 2 * STEP_MS
    assert found.symbols["A"].trades.exit_reason.tolist() == [ExitReason.LIQUIDATION]
    assert found.symbols["B"].trades.exit_reason.tolist() == [ExitReason.LIQUIDATION]
    assert found.equity[2:].tolist() == [-1_500.0] * 3


@st.composite
def portfolios(draw: st.DrawFn) -> tuple[dict[str, Leg], PortfolioSettings]:
    count = draw(st.integers(1, 4))
    legs: dict[str, Leg] = {}
    for index in range(count):
        rows, first = draw(st.integers(30, 90)), draw(st.integers(0, 20))
        candles = make_candles(rows, draw(st.integers(0, 10_000)), first=first, volatility=0.03)
        random = np.random.default_rng(draw(st.integers(0, 10_000)))
        signals = make_signals(rows, stop_fraction=draw(st.sampled_from([math.nan, 0.02])), target_fraction=0.03)
        for column in (signals.long_entry, signals.long_exit, signals.short_entry, signals.short_exit):
            column[:] = random.uniform(size=rows) < 0.15
        mode, value = draw(
            st.sampled_from([("equity_fraction", 1.0), ("equity_fraction", 0.3), ("risk", 0.05), ("quote", 700.0)])
        )
        legs[f"S{index}"] = Leg(
            candles,
            signals,
            ExecutionSettings(
                capital=1.0, size_mode=mode, size_value=value, leverage=draw(st.sampled_from([1.0, 3.0]))
            ),
        )
    leverage = max(leg.execution.leverage for leg in legs.values())
    legs = {name: replace(leg, execution=replace(leg.execution, leverage=leverage)) for name, leg in legs.items()}
    shared = PortfolioSettings(
        capital=1_000.0,
        weighting=draw(st.sampled_from(["equal", "inverse_volatility"])),
        max_positions=draw(st.sampled_from([None, 1, 2])),
        volatility_bars=10,
    )
    return legs, shared


@given(portfolios())
@settings(max_examples=150, deadline=None)
def test_money_adds_up_and_the_leverage_holds(case: tuple[dict[str, Leg], PortfolioSettings]) -> None:
    legs, shared = case
    found = simulate_portfolio(legs, shared)
    profit = sum(float(result.trades.pnl.sum()) for result in found.symbols.values())
    assert profit == pytest.approx(found.equity[-1] - shared.capital, abs=1e-6)
    whole = shared.capital + sum(result.contribution for result in found.symbols.values())
    np.testing.assert_allclose(whole, found.equity, rtol=0, atol=1e-6)
    leverage = next(iter(legs.values())).execution.leverage
    assert found.peak_leverage <= leverage * (1 + 1e-8)
    assert found.open_positions.max() <= (shared.max_positions or len(legs))
    for name, result in found.symbols.items():
        trades, candles = result.trades, legs[name].candles
        assert (trades.entry_bar == trades.signal_bar + 1).all()
        assert (trades.exit_bar < len(candles)).all()
        assert (trades.entry_bar[1:] >= trades.exit_bar[:-1]).all()


def test_correlations_are_those_of_numpy_and_nan_for_what_never_moved() -> None:
    changes = np.random.default_rng(2).normal(size=(3, 50))
    np.testing.assert_allclose(correlation_table(changes), np.corrcoef(changes))
    changes[1] = 0.0
    table = correlation_table(changes)
    assert np.isnan(table[1]).all()
    assert table[0, 0] == pytest.approx(1.0)


def test_two_symbols_that_move_alike_correlate_fully() -> None:
    candles = make_candles(200, 4)
    leg = Leg(candles, make_signals(200, enter=(5,)), FREE)
    found = simulate_portfolio({"A": leg, "B": leg}, PLAIN)
    np.testing.assert_allclose(found.correlations(), np.ones((2, 2)))


def test_what_cannot_be_shared_is_refused() -> None:
    candles = flat_candles([1.0, 1.0])
    leg = Leg(candles, make_signals(2), FREE)
    coin = replace(leg, execution=replace(FREE, category="inverse"))
    with pytest.raises(BadRequest, match="their own coin"):
        simulate_portfolio({"A": leg, "B": coin}, PLAIN)
    with pytest.raises(BadRequest, match="0 symbols"):
        simulate_portfolio({}, PLAIN)
    with pytest.raises(DataMissing, match="no candles"):
        simulate_portfolio({"A": Leg(Candles.empty(), make_signals(0), FREE)}, PLAIN)
    for wrong in ({"capital": 0.0}, {"max_positions": 0}, {"volatility_bars": 1}, {"weighting": "mine"}):
        with pytest.raises(BadRequest):
            PortfolioSettings(**({"capital": 1.0} | wrong))
