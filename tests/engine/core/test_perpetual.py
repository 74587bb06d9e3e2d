"""Funding, margin and liquidation against recorded payments and against prices worked out on paper."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.costs import notional_value
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail, lay_beside
from engine.core.markets import RiskTier
from engine.core.perpetual import (
    MarginTier,
    Settlements,
    bankruptcy_price,
    find_tier,
    liquidation_price,
    margin_tiers,
    tier_deductions,
)
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import Signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.simulator import simulate
from engine.core.trades import EXIT_REASONS
from engine.errors import BadRequest

NONE = math.nan
HOUR_MS = 3_600_000
FIRST_TIER = MarginTier(2_000_000.0, 0.005)
FREE = ExecutionSettings(
    capital=10_000.0,
    taker_fee_fraction=0.0,
    maker_fee_fraction=0.0,
    size_mode="quantity",
    size_value=1.0,
    leverage=10.0,
)
FLAT = (100.0, 100.0, 100.0, 100.0)


def candles_of(*bars: tuple[float, ...], step_ms: int = HOUR_MS) -> Candles:
    table = np.array(bars, float)
    filler = np.ones(len(bars))
    return Candles(np.arange(len(bars)) * step_ms, *(table[:, column].copy() for column in range(4)), filler, filler)


def signals_of(bars: int, *, long: tuple[int, ...] = (), short: tuple[int, ...] = (), leave: tuple[int, ...] = (),
               **levels: Any) -> Signals:  # fmt: skip
    masks = [np.isin(np.arange(bars), rows) for rows in (long, leave, short, leave)]
    return replace(Signals(*masks, NONE, None, NONE, None, NONE, None, NONE, NONE, 0, 0), **levels)


def run(
    candles: Candles, signals: Signals, settings: ExecutionSettings, detail: MarketDetail | None = None
) -> Simulation:
    detail = detail or MarketDetail()
    simulation = simulate(candles, signals, settings, detail)
    assert simulate_plainly(candles, signals, settings, detail).equity.tobytes() == simulation.equity.tobytes()
    assert check_accounting(simulation, candles, settings, detail) == ()
    return simulation


def accounting(shared_folder: Path, name: str) -> Any:
    return json.loads((shared_folder / "bybit-samples" / "accounting" / name).read_text(encoding="utf-8"))


def test_recorded_funding_payments_are_charged_as_bybit_charged_them(shared_folder: Path) -> None:
    recorded = sorted(
        accounting(shared_folder, "funding_executions_LTCUSDT_long.json"), key=lambda row: row["execTime"]
    )
    assert len(recorded) >= 8
    times = [int(row["execTime"]) for row in recorded]
    marks = [float(row["execPrice"]) for row in recorded]
    rates = [full_rate(row) for row in recorded]
    first, last = times[0] - 8 * HOUR_MS, times[-1] + 8 * HOUR_MS
    ts = np.arange(first, last + 1, 8 * HOUR_MS)
    price = np.full(len(ts), 80.0)
    candles = Candles(ts, price, price, price, price, price, price)
    settlements = Settlements(np.array(times), np.array(rates), np.array(marks))
    detail = lay_beside(candles, "360", settlements=settlements)
    signals = signals_of(len(ts), long=(0,))
    # The entry decided in the first bar fills at the first settlement and does not pay it.
    simulation = run(candles, signals, replace(FREE, size_value=0.1), detail)
    charged = -np.diff(simulation.equity)[times_to_rows(ts, times[1:]) - 1]
    for paid, row in zip(charged, recorded[1:], strict=True):
        assert paid == pytest.approx(float(row["execFee"]), abs=1e-8)
    assert simulation.trades.funding[0] == pytest.approx(sum(float(row["execFee"]) for row in recorded[1:]), abs=1e-8)
    every = 0.1 * settlements.paid_per_unit(inverse=False)
    assert every == pytest.approx([float(row["execFee"]) for row in recorded], abs=1e-8)


def full_rate(row: dict[str, str]) -> float:
    """Return the rate that was charged: executions print it cut to six decimals."""
    printed, value, fee = (Decimal(row[name]) for name in ("feeRate", "execValue", "execFee"))
    if printed * value == fee:
        return float(printed)
    charged = fee / value
    assert charged.quantize(Decimal("0.000001"), rounding=ROUND_DOWN) == printed
    return float(charged)


def times_to_rows(ts: np.ndarray, times: list[int]) -> np.ndarray:
    return np.searchsorted(ts, times)


def test_the_recorded_settlement_changes_the_wallet_by_what_the_ledger_says(shared_folder: Path) -> None:
    ledger = accounting(shared_folder, "settlement_ledger_LTCUSDT.json")
    mark, size, rate = float(ledger["tradePrice"]), float(ledger["size"]), float(ledger["feeRate"])
    candles = candles_of(*[(mark,) * 4] * 3)
    settlements = Settlements(np.array([2 * HOUR_MS]), np.array([rate]), np.array([mark]))
    detail = lay_beside(candles, "60", settlements=settlements)
    simulation = run(candles, signals_of(3, long=(0,)), replace(FREE, size_value=size), detail)
    assert simulation.equity[-1] - FREE.capital == pytest.approx(float(ledger["change"]), abs=1e-8)


def test_a_position_pays_settlements_after_its_entry_up_to_its_exit() -> None:
    candles = candles_of(*[FLAT] * 5)
    settlements = Settlements(
        np.array([0, 1, 2, 3, 4]) * HOUR_MS, np.array([0.01, 0.02, 0.04, 0.08, 0.16]), np.full(5, 100.0)
    )
    detail = lay_beside(candles, "60", settlements=settlements)
    # Entry at the open of bar 1, exit at the open of bar 3: the settlements at 2 and 3 are due, those at 1 and 4 not.
    simulation = run(candles, signals_of(5, long=(0,), leave=(2,)), FREE, detail)
    assert simulation.trades.funding.tolist() == pytest.approx([4.0 + 8.0])
    assert simulation.equity.tolist() == pytest.approx([10_000, 10_000, 9_996, 9_988, 9_988])
    short = run(candles, signals_of(5, short=(0,), leave=(2,)), FREE, detail)
    assert short.trades.funding.tolist() == pytest.approx([-12.0])


def test_a_stop_inside_the_bar_pays_the_settlements_inside_it() -> None:
    candles = candles_of(FLAT, FLAT, (100, 100, 90, 95), step_ms=24 * HOUR_MS)
    times = np.array([2 * 24 + 8]) * HOUR_MS
    detail = lay_beside(candles, "D", settlements=Settlements(times, np.array([0.01]), np.array([50.0])))
    simulation = run(candles, signals_of(3, long=(0,), stop_fraction=0.05), FREE, detail)
    assert (EXIT_REASONS[simulation.trades.exit_reason[0]], simulation.trades.funding[0]) == ("stop_loss", 0.5)


def test_inverse_funding_is_paid_in_coin() -> None:
    candles = candles_of(*[(50_000.0,) * 4] * 3)
    settlements = Settlements(np.array([2 * HOUR_MS]), np.array([0.0001]), np.array([40_000.0]))
    detail = lay_beside(candles, "60", settlements=settlements, inverse=True)
    settings = replace(FREE, capital=1.0, category="inverse", size_value=10_000.0)
    simulation = run(candles, signals_of(3, long=(0,)), settings, detail)
    assert simulation.trades.funding[0] == pytest.approx(10_000 / 40_000 * 0.0001)


def test_settlements_that_cannot_be_charged_are_refused() -> None:
    with pytest.raises(BadRequest, match="no mark price"):
        Settlements(np.array([1]), np.array([0.1]), np.array([math.nan]))
    with pytest.raises(BadRequest, match="ascending"):
        Settlements(np.array([2, 1]), np.zeros(2), np.ones(2))


def test_deductions_follow_from_the_recorded_tiers(shared_folder: Path) -> None:
    rows = accounting(shared_folder, "risk_tiers_linear_BTCUSDT_2023.json")
    limits = [float(row["riskLimitValue"]) for row in rows]
    assert tier_deductions(limits, [float(row["maintenanceMargin"]) for row in rows]) == pytest.approx(
        [0, 10_000, 30_000]
    )
    recorded = [
        RiskTier(
            row["id"], Decimal(row["riskLimitValue"]), Decimal(row["maintenanceMargin"]), Decimal(row["initialMargin"]),
            Decimal(row["maxLeverage"]), Decimal(0),
        )
        for row in rows
    ]  # fmt: skip
    tiers = margin_tiers(recorded[::-1])
    assert [tier.deduction for tier in tiers] == pytest.approx([0, 10_000, 30_000])
    assert [tier.max_leverage for tier in tiers] == [100, 57.14, 40]
    # The margin is the same on both sides of a limit.
    assert 4e6 * tiers[1].maintenance_fraction - tiers[1].deduction == pytest.approx(4e6 * 0.015 - tiers[2].deduction)
    assert find_tier(tiers, 2e6) is tiers[0]
    assert find_tier(tiers, 6e6 + 1) is None


@pytest.mark.parametrize(
    ("side", "quantity", "entry", "leverage", "tier", "inverse", "expected"),
    [
        # 1 BTC at 50,000, 10x: (50,000 - 5,000) / 0.995.
        (1, 1.0, 50_000.0, 10.0, FIRST_TIER, False, 45_000 / 0.995),
        # (50,000 + 5,000) / 1.005.
        (-1, 1.0, 50_000.0, 10.0, FIRST_TIER, False, 55_000 / 1.005),
        # 60 BTC are 3,000,000: second tier, 1 % and 10,000 deducted: (3,000,000 * 0.95 - 10,000) / (60 * 0.99).
        (1, 60.0, 50_000.0, 20.0, MarginTier(4e6, 0.01, 10_000.0), False, 2_840_000 / 59.4),
        (-1, 60.0, 50_000.0, 20.0, MarginTier(4e6, 0.01, 10_000.0), False, 3_160_000 / 60.6),
        # 10,000 USD at 50,000 are 0.2 BTC, margin 0.02: 10,000 * 1.005 / 0.22.
        (1, 10_000.0, 50_000.0, 10.0, FIRST_TIER, True, 10_050 / 0.22),
        # 10,000 * 0.995 / 0.18.
        (-1, 10_000.0, 50_000.0, 10.0, FIRST_TIER, True, 9_950 / 0.18),
    ],
)
def test_liquidation_prices_worked_by_hand(
    side: int, quantity: float, entry: float, leverage: float, tier: MarginTier, inverse: bool, expected: float
) -> None:
    found = liquidation_price(side, quantity, entry, leverage, tier, inverse=inverse)
    assert found == pytest.approx(expected, rel=1e-12)
    # There the margin and the loss leave exactly the maintenance margin.
    value = notional_value(quantity, entry, inverse=inverse)
    at_mark = notional_value(quantity, found, inverse=inverse)
    loss = side * (at_mark - value) if inverse else side * (value - at_mark)
    maintenance = at_mark * tier.maintenance_fraction - tier.deduction
    assert value / leverage - loss == pytest.approx(maintenance, rel=1e-9)


def test_without_leverage_a_linear_long_and_an_inverse_short_cannot_be_liquidated() -> None:
    assert math.isnan(liquidation_price(1, 1.0, 100.0, 1.0, FIRST_TIER, inverse=False))
    assert math.isnan(liquidation_price(-1, 1.0, 100.0, 1.0, FIRST_TIER, inverse=True))
    assert math.isnan(bankruptcy_price(1, 100.0, 1.0, inverse=False))
    assert bankruptcy_price(1, 100.0, 1.0, inverse=True) == 50.0


MARGINED = replace(FREE, margin_tiers=(FIRST_TIER,), taker_fee_fraction=0.001)


@pytest.mark.parametrize(("side", "bar"), [(1, (100, 101, 90.4, 99)), (-1, (100, 109.6, 99, 101))])
def test_a_liquidation_costs_the_margin_and_the_fees_and_no_more(side: int, bar: tuple[float, ...]) -> None:
    signals = signals_of(3, long=(0,)) if side > 0 else signals_of(3, short=(0,))
    simulation = run(candles_of(FLAT, FLAT, bar), signals, MARGINED)
    trades = simulation.trades
    assert EXIT_REASONS[trades.exit_reason[0]] == "liquidation"
    assert trades.exit_price[0] == pytest.approx(100 - side * 10)
    assert trades.pnl[0] == pytest.approx(-10 - 0.1 - (100 - side * 10) * 0.001)
    assert not simulation.ruined


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("leverage", [2.0, 10.0, 25.0, 50.0])
def test_a_liquidation_of_all_that_an_account_can_carry_leaves_it_something(
    leverage: float, side: int, inverse: bool
) -> None:
    gone = (100, 1e4, 99, 1e4) if side < 0 else (100, 101, 0.01, 0.01)
    signals = signals_of(3, long=(0,)) if side > 0 else signals_of(3, short=(0,))
    whole = replace(MARGINED, capital=1_000.0, size_mode="equity_fraction", size_value=1.0, leverage=leverage)
    simulation = run(candles_of(FLAT, FLAT, gone), signals, replace(whole, category="inverse" if inverse else "linear"))
    assert EXIT_REASONS[simulation.trades.exit_reason[0]] == "liquidation"
    fee_of_a_better_side = 1_000.0 * leverage * whole.taker_fee_fraction * 2 / leverage
    assert -1e-9 <= simulation.equity[-1] <= fee_of_a_better_side


def test_the_mark_price_liquidates_and_the_trade_price_does_not() -> None:
    candles = candles_of(FLAT, FLAT, (100, 101, 80, 99), FLAT)
    calm = candles_of(*[FLAT] * 4)
    saved = run(candles, signals_of(4, long=(0,)), MARGINED, lay_beside(candles, "60", mark=calm))
    assert EXIT_REASONS[saved.trades.exit_reason[0]] == "end_of_data"
    lost = run(calm, signals_of(4, long=(0,)), MARGINED, lay_beside(calm, "60", mark=candles))
    assert (EXIT_REASONS[lost.trades.exit_reason[0]], lost.trades.exit_bar[0]) == ("liquidation", 2)
    partly = lay_beside(calm, "60", mark=candles.take(slice(0, 2)))
    assert partly.missing_mark_bars == 2


@pytest.mark.parametrize(
    ("stop", "bar", "reason"),
    [
        (0.05, (100, 101, 85, 99), "stop_loss"),  # the stop is nearer
        (0.2, (100, 101, 75, 99), "liquidation"),  # the liquidation is nearer
        (0.05, (88, 89, 85, 88), "liquidation"),  # the bar opens beyond the liquidation price
        (0.05, (93, 94, 92, 93), "stop_loss"),  # it opens between the two
    ],
)
def test_of_stop_and_liquidation_the_nearer_one_comes_first(stop: float, bar: tuple[float, ...], reason: str) -> None:
    simulation = run(candles_of(FLAT, FLAT, bar), signals_of(3, long=(0,), stop_fraction=stop), MARGINED)
    assert EXIT_REASONS[simulation.trades.exit_reason[0]] == reason


def test_the_tiers_bound_value_and_leverage() -> None:
    candles, signals = candles_of(*[FLAT] * 3), signals_of(3, long=(0,))
    small = (MarginTier(50.0, 0.005), MarginTier(120.0, 0.01, 0.25, max_leverage=5.0))
    steep = run(candles, signals, replace(MARGINED, margin_tiers=small))
    large = run(candles, signals, replace(MARGINED, margin_tiers=small[:1]))
    for refused in (steep, large):
        assert (len(refused.trades), refused.skipped_entries["above_risk_limit"]) == (0, 1)
    assert len(run(candles, signals, replace(MARGINED, margin_tiers=small, leverage=5.0)).trades) == 1


@pytest.mark.parametrize(
    "tiers",
    [(MarginTier(2.0, 0.01), MarginTier(1.0, 0.02)), (MarginTier(1.0, 1.5),), (MarginTier(1.0, 0.01, -1.0),)],
)
def test_impossible_tiers_are_refused(tiers: tuple[MarginTier, ...]) -> None:
    with pytest.raises(BadRequest):
        replace(FREE, margin_tiers=tiers)


def test_spot_has_no_tiers_and_its_fee_in_coin_is_worth_the_fee_in_quote(shared_folder: Path) -> None:
    spot = ExecutionSettings(capital=1_000.0, category="spot", allow_short=False)
    with pytest.raises(BadRequest, match="spot"):
        replace(spot, margin_tiers=(FIRST_TIER,))
    fill = accounting(shared_folder, "taker_fees_and_closed_pnl.json")["spot_taker_fill"]
    quantity, price, rate = float(fill["execQty"]), float(fill["execPrice"]), float(fill["feeRate"])
    assert fill["feeCurrency"] == "ETH"
    assert quantity * rate == pytest.approx(float(fill["execFee"]), abs=1e-12)
    assert float(fill["execFee"]) * price == pytest.approx(notional_value(quantity, price, inverse=False) * rate)


def test_minutes_belong_to_their_bar_and_settlements_between_bars_to_the_bar_before() -> None:
    ts = np.array([0, 1, 4]) * HOUR_MS
    price = np.full(3, 100.0)
    candles = Candles(ts, price, price, price, price, price, price)
    minute_ts = np.array([5, 65, 130, 240, 299]) * 60_000
    flat = np.full(5, 100.0)
    minutes = Candles(minute_ts, flat, flat, flat, flat, flat, flat)
    settlements = Settlements(np.array([1, 2, 4, 5]) * HOUR_MS, np.array([0.1, 0.2, 0.4, 0.8]), np.ones(4))
    detail = lay_beside(candles, "60", settlements=settlements, minutes=minutes)
    assert detail.minute_start is not None
    assert detail.minute_stop is not None
    assert (detail.minute_stop - detail.minute_start).tolist() == [1, 1, 2]
    assert detail.funding_at_open is not None
    assert detail.funding_inside is not None
    assert detail.funding_at_open.tolist() == [0, 0.1, 0.4]
    assert detail.funding_inside.tolist() == [0, 0.2, 0.8]
