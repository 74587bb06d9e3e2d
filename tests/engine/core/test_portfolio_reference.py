"""Shared capital against two judges: a run of one symbol alone, bit for bit, and a slow account in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail
from engine.core.metrics import compute_metrics
from engine.core.perpetual import MarginTier
from engine.core.portfolio import (
    Leg,
    PortfolioSettings,
    basket_candles,
    check_portfolio_accounting,
    combined_simulation,
    daily_changes,
    simulate_portfolio,
)
from engine.core.signals import Signals
from engine.core.simulator import simulate
from engine.core.trades import ExitReason
from engine.errors import BadRequest

STEP_MS = 3_600_000
TIERS = (MarginTier(5_000.0, 0.02, 0.0, 25.0), MarginTier(1e9, 0.05, 150.0, 10.0))


def make_candles(rows: int, random: np.random.Generator, *, first: int = 0, volatility: float = 0.03) -> Candles:
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility, rows)))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + random.normal(0, volatility / 5, rows))
    high = np.maximum(opened, close) * (1 + random.uniform(0, volatility, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, volatility, rows))
    ts = (np.arange(rows, dtype=np.int64) + first) * STEP_MS
    return Candles(ts, opened, high, low, close, np.ones(rows), np.ones(rows))


def make_signals(rows: int, random: np.random.Generator, share: float, **levels: object) -> Signals:
    columns = [random.uniform(size=rows) < share for _ in range(4)]
    nothing = dict.fromkeys(
        ("stop_fraction", "target_fraction", "trail_fraction", "trail_activation_fraction", "breakeven_fraction"),
        math.nan,
    )
    chosen: dict[str, object] = {
        **nothing, "stop_distance": None, "target_distance": None, "trail_distance": None, "max_bars": 0,
        "warmup_bars": 0,
    }  # fmt: skip
    return Signals(*columns, **(chosen | levels))  # type: ignore[arg-type]


def make_detail(candles: Candles, random: np.random.Generator, *, funding: bool, marks: bool) -> MarketDetail:
    rows = len(candles)
    settles = random.uniform(size=(2, rows)) < 0.2
    paid = np.where(settles, random.normal(0, 0.1, (2, rows)), 0.0)
    mark = None
    if marks:
        factor = 1 + random.normal(0, 0.002, rows)
        mark = Candles(candles.ts, *(column * factor for column in candles.columns()[1:]))  # type: ignore[arg-type]
    return MarketDetail(paid[0] if funding else None, paid[1] if funding else None, mark)


levels = st.fixed_dictionaries(
    {
        "stop_fraction": st.sampled_from([math.nan, 0.02, 0.06]),
        "target_fraction": st.sampled_from([math.nan, 0.03]),
        "trail_fraction": st.sampled_from([math.nan, 0.05]),
        "max_bars": st.sampled_from([0, 0, 7]),
    }
)


@st.composite
def lone_legs(draw: st.DrawFn) -> Leg:
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    rows = draw(st.integers(5, 120))
    candles = make_candles(rows, random, volatility=draw(st.sampled_from([0.02, 0.15])))
    signals = make_signals(rows, random, draw(st.sampled_from([0.05, 0.3])), **draw(levels))
    if draw(st.booleans()):
        signals = replace(signals, session=random.uniform(size=rows) < 0.7, is_flat_outside_session=draw(st.booleans()))
    mode, value = draw(
        st.sampled_from([("equity_fraction", 1.0), ("equity_fraction", 0.3), ("risk", 0.05), ("quote", 900.0)])
    )
    leverage = draw(st.sampled_from([1.0, 5.0]))
    execution = ExecutionSettings(
        capital=1_000.0, size_mode=mode, size_value=value, leverage=leverage, slippage_fraction=0.0003,
        intrabar=draw(st.sampled_from(["pessimistic", "optimistic"])),
        allow_short=draw(st.booleans()),
        round_to_lot=True, lot_step=0.01, min_quantity=0.02, min_notional=draw(st.sampled_from([0.0, 600.0])),
        max_quantity=draw(st.sampled_from([0.0, 20.0])), tick_size=0.01,
        margin_tiers=draw(st.sampled_from([(), (replace(TIERS[0], limit_value=1e9),)])),
    )  # fmt: skip
    detail = make_detail(candles, random, funding=draw(st.booleans()), marks=draw(st.booleans()))
    return Leg(candles, signals, execution, detail)


@given(lone_legs())
@settings(max_examples=150, deadline=None)
def test_one_symbol_is_the_run_alone_bit_for_bit(leg: Leg) -> None:
    alone = simulate(leg.candles, leg.signals, leg.execution, leg.detail)
    found = simulate_portfolio({"A": leg}, PortfolioSettings(capital=leg.execution.capital))
    shared, symbols = combined_simulation(found, {"A": leg})
    assert not symbols.any()
    np.testing.assert_array_equal(shared.equity, alone.equity)
    for one in fields(alone.trades):
        np.testing.assert_array_equal(
            getattr(shared.trades, one.name), getattr(alone.trades, one.name), err_msg=one.name
        )
    for name in ("exposed_bars", "ambiguous_bars", "skipped_entries", "capped_entries", "ruined_bar", "warmup_bars"):
        assert getattr(shared, name) == getattr(alone, name), name
    np.testing.assert_array_equal(shared.position != 0, alone.position != 0)
    of_alone = compute_metrics(alone, leg.candles, "60", leg.execution)
    of_shared = compute_metrics(shared, basket_candles(found, {"A": leg}), "60", leg.execution)
    assert of_shared == of_alone


@dataclass
class PlainSymbol:
    """A position of the slow account; levels and funding as the rules say, one bar after the other."""

    leg: Leg
    side: int = 0
    quantity: float = 0.0
    entry: float = 0.0
    paid: float = 0.0
    price: float = 0.0
    trades: list[tuple[int, float, float, float, float]] = field(default_factory=list)

    def worth(self) -> float:
        return self.side * self.quantity * (self.price - self.entry)


class PlainAccount:
    """The slow judge: walks over every bar, decides and sizes at its open, then looks for stop and target."""

    def __init__(self, legs: dict[str, Leg], shared: PortfolioSettings) -> None:
        self.symbols = [PlainSymbol(leg) for leg in legs.values()]
        self.slots = min(shared.max_positions or len(legs), len(legs))
        self.most = shared.max_positions or len(legs)
        self.cash = shared.capital
        self.equity: list[float] = []

    def run(self, steps: int) -> None:
        for step in range(steps):
            trading = [(one, step - self.offset(one)) for one in self.symbols]
            trading = [(one, row) for one, row in trading if 0 <= row < len(one.leg.candles)]
            self.at_open(trading)
            for one, row in trading:
                self.fund(one, one.leg.detail.funding_inside, row)
            for one, row in trading:
                if one.side:
                    self.look_inside(one, row)
            for one, row in trading:
                one.price = float(one.leg.candles.close[row])
                if one.side and row == len(one.leg.candles) - 1:
                    self.close(one, one.price, "taker")
            self.equity.append(self.cash + sum(one.worth() for one in self.symbols))

    def at_open(self, trading: list[tuple[PlainSymbol, int]]) -> None:
        for one, row in trading:
            one.price = float(one.leg.candles.open[row])
            self.fund(one, one.leg.detail.funding_at_open, row)
        for one, row in trading:
            if one.side and row and self.wants_out(one, row - 1):
                self.close(one, one.price * (1 - one.side * one.leg.execution.slippage_fraction), "taker")
        for one, row in trading:
            if not one.side and row and (way := self.wanted(one.leg.signals, row - 1)):
                self.open(one, way)

    def offset(self, one: PlainSymbol) -> int:
        return int(one.leg.candles.ts[0]) // STEP_MS

    def fund(self, one: PlainSymbol, column: np.ndarray | None, row: int) -> None:
        if one.side and column is not None:
            one.paid += one.side * one.quantity * float(column[row])
            self.cash -= one.side * one.quantity * float(column[row])

    def wanted(self, signals: Signals, row: int) -> int:
        long = signals.long_entry[row] and not signals.short_entry[row] and not signals.long_exit[row]
        short = signals.short_entry[row] and not signals.long_entry[row] and not signals.short_exit[row]
        return 1 if long else -1 if short else 0

    def wants_out(self, one: PlainSymbol, row: int) -> bool:
        leaves = one.leg.signals.long_exit if one.side > 0 else one.leg.signals.short_exit
        return bool(leaves[row]) or self.wanted(one.leg.signals, row) == -one.side

    def open(self, one: PlainSymbol, way: int) -> None:
        execution = one.leg.execution
        price = one.price * (1 + way * execution.slippage_fraction)
        equity = self.cash + sum(other.worth() for other in self.symbols)
        used = sum(other.quantity * other.price for other in self.symbols if other.side)
        if sum(other.side != 0 for other in self.symbols) >= self.most:
            return
        # Fees of opening and of closing at the bankruptcy price, per unit of equity; set aside above leverage 1.
        fees = execution.taker_fee_fraction * (2 * execution.leverage + 1) if execution.leverage > 1 else 0.0
        power = equity * execution.leverage / (1 + fees)
        money = min(power * execution.size_value / self.slots, power - used)
        if money <= 0:
            return
        one.side, one.quantity, one.entry, one.paid = way, money / price, price, 0.0
        self.cash -= money * execution.taker_fee_fraction

    def look_inside(self, one: PlainSymbol, row: int) -> None:
        candles, signals, side = one.leg.candles, one.leg.signals, one.side
        opened = float(candles.open[row])
        low, high = float(candles.low[row]), float(candles.high[row])
        worst, best = (low, high) if side > 0 else (high, low)
        stop = one.entry * (1 - side * signals.stop_fraction)
        target = one.entry * (1 + side * signals.target_fraction)
        slip = 1 - side * one.leg.execution.slippage_fraction
        if side * opened <= side * stop:
            self.close(one, opened * slip, "taker")
        elif side * opened >= side * target:
            self.close(one, opened, "maker")
        elif side * worst <= side * stop:
            self.close(one, stop * slip, "taker")
        elif side * best >= side * target:
            self.close(one, target, "maker")

    def close(self, one: PlainSymbol, price: float, fee: str) -> None:
        execution = one.leg.execution
        rate = execution.taker_fee_fraction if fee == "taker" else execution.maker_fee_fraction
        self.cash += one.side * one.quantity * (price - one.entry) - one.quantity * price * rate
        one.trades.append((one.side, one.entry, price, one.quantity, one.paid))
        one.side, one.quantity = 0, 0.0


@st.composite
def portfolios(draw: st.DrawFn) -> tuple[dict[str, Leg], PortfolioSettings]:
    legs: dict[str, Leg] = {}
    leverage = draw(st.sampled_from([1.0, 2.0]))
    for index in range(draw(st.integers(2, 4))):
        random = np.random.default_rng(draw(st.integers(0, 100_000)))
        rows = draw(st.integers(10, 700))
        candles = make_candles(rows, random, first=draw(st.integers(0, 12)), volatility=0.01)
        signals = make_signals(
            rows, random, draw(st.sampled_from([0.03, 0.2])),
            stop_fraction=draw(st.sampled_from([0.015, 0.05])), target_fraction=draw(st.sampled_from([0.02, 0.1])),
        )  # fmt: skip
        execution = ExecutionSettings(
            capital=1.0, size_value=draw(st.sampled_from([1.0, 0.5])), leverage=leverage, slippage_fraction=0.0002
        )
        legs[f"S{index}"] = Leg(candles, signals, execution, make_detail(candles, random, funding=True, marks=False))
    return legs, PortfolioSettings(capital=1_000.0, max_positions=draw(st.sampled_from([None, 1, 2])))


@given(portfolios())
@settings(max_examples=40, deadline=None)
def test_several_symbols_agree_with_the_slow_account(case: tuple[dict[str, Leg], PortfolioSettings]) -> None:
    legs, shared = case
    found = simulate_portfolio(legs, shared)
    plain = PlainAccount(legs, shared)
    plain.run(int(found.ts[-1]) // STEP_MS + 1)
    equity = np.array(plain.equity)[found.ts // STEP_MS]
    np.testing.assert_allclose(found.equity, equity, rtol=1e-9)
    for one, result in zip(plain.symbols, found.symbols.values(), strict=True):
        trades = result.trades
        columns = (trades.side, trades.entry_price, trades.exit_price, trades.quantity, trades.funding)
        assert len(trades) == len(one.trades)
        if one.trades:
            np.testing.assert_allclose(np.array(columns).T, np.array(one.trades), rtol=1e-9, atol=1e-9)
    assert check_portfolio_accounting(found, legs, shared.capital) == ()


def test_a_run_that_was_tampered_with_does_not_add_up() -> None:
    random = np.random.default_rng(3)
    candles = make_candles(200, random)
    detail = make_detail(candles, random, funding=True, marks=False)
    leg = Leg(candles, make_signals(200, random, 0.1), ExecutionSettings(capital=1.0), detail)
    found = simulate_portfolio({"A": leg, "B": leg}, PortfolioSettings(capital=1_000.0))
    assert check_portfolio_accounting(found, {"A": leg, "B": leg}, 1_000.0) == ()
    found.symbols["A"].trades.funding[0] += 0.5
    assert any("funding" in text for text in check_portfolio_accounting(found, {"A": leg, "B": leg}, 1_000.0))
    found.equity[50] += 1.0
    assert "the symbols' profits do not sum to the equity" in check_portfolio_accounting(
        found, {"A": leg, "B": leg}, 1_000.0
    )


def test_liquidation_takes_the_margin_of_one_position_and_leaves_the_others() -> None:
    prices = np.array([100.0, 100.0, 70.0, 70.0])
    low = np.array([100.0, 100.0, 65.0, 70.0])
    ts = np.arange(4, dtype=np.int64) * STEP_MS
    falling = Candles(ts, prices, prices, low, prices, np.ones(4), np.ones(4))
    steady = Candles(ts, *(np.full(4, 50.0) for _ in range(4)), np.ones(4), np.ones(4))
    signals = make_signals(4, np.random.default_rng(0), 0.0)
    signals.long_entry[0] = True
    execution = ExecutionSettings(
        capital=1.0, leverage=5.0, taker_fee_fraction=0.0, maker_fee_fraction=0.0, margin_tiers=TIERS
    )
    legs = {"A": Leg(falling, signals, execution), "B": Leg(steady, signals, execution)}
    found = simulate_portfolio(legs, PortfolioSettings(capital=1_000.0))
    # Half of 5 * 1000 each: 25 units of A at 100 with a margin of 500, taken over at 100 * (1 - 1/5).
    a = found.symbols["A"].trades
    assert (a.exit_reason.tolist(), a.exit_price.tolist()) == ([ExitReason.LIQUIDATION], [80.0])
    assert a.pnl.tolist() == [-500.0]
    assert found.symbols["B"].trades.exit_reason.tolist() == [ExitReason.END_OF_DATA]
    assert found.equity.tolist() == [1_000.0, 1_000.0, 500.0, 500.0]


def test_a_position_above_the_first_maintenance_tier_is_refused_by_name() -> None:
    candles = make_candles(20, np.random.default_rng(1))
    signals = make_signals(20, np.random.default_rng(1), 0.0)
    signals.long_entry[2] = True
    leg = Leg(candles, signals, ExecutionSettings(capital=1.0, leverage=5.0, margin_tiers=TIERS))
    with pytest.raises(BadRequest, match=r"BIG: the position of .* is worth 9,940") as refused:
        simulate_portfolio({"BIG": leg}, PortfolioSettings(capital=2_000.0))
    assert "settings.capital" in refused.value.fix


def test_daily_changes_are_those_of_closes_at_midnight() -> None:
    random = np.random.default_rng(9)
    a, b = make_candles(96, random), make_candles(72, random, first=24)
    legs = {
        name: Leg(one, make_signals(len(one), random, 0.1), ExecutionSettings(capital=1.0))
        for name, one in (("A", a), ("B", b))
    }
    found = simulate_portfolio(legs, PortfolioSettings(capital=1_000.0))
    returns, profits = daily_changes(found, legs, "60")
    # The last bar before a midnight closes at it; B begins at the second day.
    np.testing.assert_allclose(returns[0], a.close[[71, 95]] / a.close[[47, 71]] - 1.0)
    np.testing.assert_allclose(returns[1], b.close[[47, 71]] / b.close[[23, 47]] - 1.0)
    np.testing.assert_allclose(profits.sum(axis=0), np.diff(np.append(1_000.0, found.equity[[23, 47, 71, 95]])))
