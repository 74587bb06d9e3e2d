"""The kernel against the plain reference: trade for trade, equity bit for bit, on bars and settings nobody chose."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.full_run import run_in_full
from engine.core.market_detail import NO_DETAIL, MarketDetail, lay_beside
from engine.core.perpetual import MarginTier, Settlements, tier_deductions
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import EntryOrder, PartialTarget, Signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.simulator import simulate
from engine.core.trades import EXIT_REASONS

NONE = math.nan
# Examples share one compiled kernel; the first of them may compile it, so no deadline holds.
THOROUGH = settings(max_examples=1_300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def random_candles(rng: np.random.Generator, bars: int, price: float, width: float, step: float) -> Candles:
    """Return bars with gaps, ties and standing prices; prices on a grid of `step` relative to the first price."""
    moves = np.where(rng.random(bars) < 0.2, 0.0, rng.normal(0, width, bars))
    gaps = np.where(rng.random(bars) < 0.3, rng.normal(0, width, bars), 0.0)
    close = np.exp(np.cumsum(moves + gaps))
    open_ = np.concatenate(([1.0], close[:-1])) * np.exp(gaps)
    reach = np.where(rng.random(bars) < 0.2, 0.0, 1.0)
    high = np.maximum(open_, close) * (1 + reach * np.abs(rng.normal(0, width, bars)))
    low = np.minimum(open_, close) * (1 - reach * np.minimum(np.abs(rng.normal(0, width, bars)), 0.9))
    columns = (np.maximum(np.round(column / step), 1) * step * price for column in (open_, high, low, close))
    ts = np.arange(bars) * 60_000
    return Candles(ts, *columns, np.full(bars, 1e9), np.full(bars, 1e9))


def random_signals(rng: np.random.Generator, candles: Candles, density: float) -> Signals:
    """Return masks and levels of every kind."""
    bars = len(candles)

    def mask(share: float) -> np.ndarray:
        return rng.random(bars) < share

    def fraction(share: float, scale: float) -> float:
        return float(rng.choice([0.01, 0.02, 0.05, 0.5]) * scale) if rng.random() < share else NONE

    def distance(share: float) -> np.ndarray | None:
        if rng.random() > share:
            return None
        column = np.abs(rng.normal(0, 0.03, bars)) * candles.close
        column[rng.random(bars) < 0.2] = rng.choice([NONE, 0.0, -1.0])
        return column

    return Signals(
        mask(density), mask(density / 2), mask(density), mask(density / 2),
        fraction(0.5, 1.0), distance(0.4), fraction(0.5, 1.5), distance(0.4), fraction(0.4, 0.8), distance(0.3),
        fraction(0.4, 0.5), fraction(0.4, 0.5), int(rng.choice([0, 0, 1, 2, 7])), 0,
    )  # fmt: skip


def random_settings(rng: np.random.Generator, price: float) -> ExecutionSettings:
    """Return settings of every kind; capital is near the price often enough for most sizes to fit."""
    capital = price * float(rng.choice([0.5, 20.0, 1e6]))
    mode, value = (
        ("equity_fraction", 1.0),
        ("equity_fraction", 0.02),
        ("quote", capital * 0.9),
        ("quantity", capital / price * 0.4),
        ("risk", 0.01),
    )[rng.integers(5)]
    is_spot = rng.random() < 0.2
    is_inverse = not is_spot and rng.random() < 0.3
    if is_inverse:
        capital = float(rng.choice([0.5, 20.0]))
        value = capital * price * 0.4 if mode in ("quote", "quantity") else value
    unit = capital * price if is_inverse else capital / price
    has_rules = rng.random() < 0.5
    return ExecutionSettings(
        capital=capital,
        category="spot" if is_spot else "inverse" if is_inverse else "linear",
        taker_fee_fraction=rng.choice([0.0, 0.00055, 0.01]),
        maker_fee_fraction=rng.choice([-0.0001, 0.0, 0.0002]),
        slippage_fraction=rng.choice([0.0, 0.0001, 0.03]),
        size_mode=mode,
        size_value=value,
        leverage=1.0 if is_spot else rng.choice([1.0, 3.0, 50.0]),
        intrabar=rng.choice(["pessimistic", "optimistic"]),
        round_to_lot=has_rules,
        lot_step=float(f"{unit * 0.01:.0e}") if has_rules else 0.0,
        min_quantity=unit * 0.05 * (has_rules and rng.random() < 0.5),
        min_notional=0.05 * capital * (price if is_inverse else 1.0) * (rng.random() < 0.3),
        max_quantity=unit * 0.8 * (rng.random() < 0.3),
        tick_size=float(f"{price * 0.003:.0e}") if rng.random() < 0.4 else 0.0,
        target_fee=rng.choice(["maker", "taker"]),
        allow_long=bool(rng.random() < 0.8),
        allow_short=not is_spot and bool(rng.random() < 0.8),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Candles, Signals, ExecutionSettings]:
    # One seed decides everything: drawn part by part, most examples would be near-empty runs.
    rng = np.random.default_rng(draw(st.integers(0, 2**62)))
    price = float(rng.choice([1e-8, 0.01, 1.0, 30_000.0, 1e9]))
    candles = random_candles(
        rng, int(rng.integers(1, 90)), price, rng.choice([0.001, 0.02, 0.3]), rng.choice([1e-6, 0.01])
    )
    return candles, random_signals(rng, candles, rng.choice([0.05, 0.2, 0.9])), random_settings(rng, price)


def assert_identical(found: Simulation, expected: Simulation) -> None:
    for name in (field.name for field in fields(found.trades)):
        column, wanted = getattr(found.trades, name), getattr(expected.trades, name)
        assert column.dtype == wanted.dtype, name
        assert column.tobytes() == wanted.tobytes(), name
    for name in (field.name for field in fields(found.entries)):
        assert getattr(found.entries, name).tobytes() == getattr(expected.entries, name).tobytes(), name
    assert found.equity.tobytes() == expected.equity.tobytes()
    assert found.position.tobytes() == expected.position.tobytes()
    for name in (
        "exposed_bars",
        "ambiguous_bars",
        "skipped_entries",
        "capped_entries",
        "ruined_bar",
        "warmup_bars",
        "decided_bars",
    ):
        assert getattr(found, name) == getattr(expected, name), name


@THOROUGH
@given(case=cases())
def test_kernel_and_reference_agree_to_the_last_bit_and_the_books_balance(
    case: tuple[Candles, Signals, ExecutionSettings],
) -> None:
    candles, signals, chosen = case
    simulation = simulate(candles, signals, chosen)
    assert_identical(simulation, simulate_plainly(candles, signals, chosen))
    assert_identical(simulation, run_in_full(candles, signals, chosen, NO_DETAIL))
    assert check_accounting(simulation, candles, chosen) == ()
    for reason in {EXIT_REASONS[row] for row in simulation.trades.exit_reason}:
        event(reason)
    for reason, count in simulation.skipped_entries.items():
        if count:
            event(f"skipped: {reason}")
    event(f"ambiguous: {simulation.ambiguous_bars > 0}")


@THOROUGH
@given(case=cases())
def test_every_run_is_finite_ordered_and_within_its_bounds(case: tuple[Candles, Signals, ExecutionSettings]) -> None:
    candles, signals, chosen = case
    simulation = simulate(candles, signals, chosen)
    trades = simulation.trades
    for name in (field.name for field in fields(trades) if field.name != "initial_risk"):
        assert np.isfinite(getattr(trades, name)).all(), name
    assert np.isfinite(simulation.equity).all()
    assert simulation.equity[0] == chosen.capital
    assert simulation.position[-1] == 0
    assert (trades.mae >= 0).all()
    assert (trades.mfe >= 0).all()
    assert (trades.mae >= -trades.gross_pnl).all()
    assert (trades.mfe >= trades.gross_pnl).all()
    assert not (trades.initial_risk <= 0).any()
    assert int((simulation.position != 0).sum()) <= simulation.exposed_bars <= len(candles)
    if signals.max_bars:
        assert (trades.bars <= signals.max_bars).all()
    if not chosen.allow_short:
        assert (trades.side == 1).all()


@settings(THOROUGH, max_examples=300)
@given(case=cases(), cut=st.integers(2, 60))
def test_what_comes_later_changes_nothing_before_it(case: tuple[Candles, Signals, ExecutionSettings], cut: int) -> None:
    candles, signals, chosen = case
    cut = min(cut, len(candles))
    columns = {
        field.name: getattr(signals, field.name)[:cut]
        for field in fields(signals)
        if isinstance(getattr(signals, field.name), np.ndarray)
    }
    whole = simulate(candles, signals, chosen)
    prefix = simulate(candles.take(slice(0, cut)), replace(signals, **columns), chosen)
    # The last bar of the prefix closes what is open.
    assert prefix.equity[: cut - 1].tobytes() == whole.equity[: cut - 1].tobytes()
    ended = whole.trades.exit_bar < cut - 1
    assert prefix.trades.pnl[: ended.sum()].tobytes() == whole.trades.pnl[ended].tobytes()


@st.composite
def tiny_cases(draw: st.DrawFn) -> tuple[Candles, Signals]:
    """Return bars on five prices, so that levels, opens and extremes meet exactly."""
    rng = np.random.default_rng(draw(st.integers(0, 2**62)))
    bars = int(rng.integers(2, 25))
    table = np.sort(rng.integers(8, 13, (bars, 4)), axis=1).astype(float)
    swap = rng.random(bars) < 0.5
    open_, close = np.where(swap, table[:, 1], table[:, 2]), np.where(swap, table[:, 2], table[:, 1])
    candles = Candles(np.arange(bars) * 60_000, open_, table[:, 3], table[:, 0], close, open_, open_)
    masks = (rng.random(bars) < share for share in (0.3, 0.1, 0.3, 0.1))
    levels = (None if rng.random() < 0.3 else np.full(bars, float(rng.integers(1, 4))) for _ in range(3))
    stop, target, trail = levels
    arm, even = rng.choice([NONE, NONE, 0.1, 0.2], 2).tolist()
    return candles, Signals(
        *masks, NONE, stop, NONE, target, NONE, trail, arm, even, int(rng.choice([0, 0, 0, 1, 3])), 0
    )


@settings(THOROUGH, max_examples=1_200)
@given(case=tiny_cases(), intrabar=st.sampled_from(["pessimistic", "optimistic"]))
def test_kernel_and_reference_agree_where_levels_and_prices_tie(case: tuple[Candles, Signals], intrabar: str) -> None:
    candles, signals = case
    chosen = ExecutionSettings(capital=100.0, size_mode="quantity", size_value=1.0, intrabar=intrabar)
    simulation = simulate(candles, signals, chosen)
    assert_identical(simulation, simulate_plainly(candles, signals, chosen))
    assert check_accounting(simulation, candles, chosen) == ()


Full = tuple[Candles, Signals, ExecutionSettings, MarketDetail]
BAR_MS, MINUTE_MS = 300_000, 60_000


def random_minutes(rng: np.random.Generator, candles: Candles) -> Candles:
    """Return five minutes a bar that make up the bar, some of them missing, some bars contradicted."""
    bars = len(candles)
    path = candles.low[:, None] + rng.random((bars, 6)) * (candles.high - candles.low)[:, None]
    path[:, 0], path[:, 5] = candles.open, candles.close
    open_, close = path[:, :5].copy(), path[:, 1:].copy()
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    every = np.arange(bars)
    high[every, rng.integers(0, 5, bars)] = candles.high
    low[every, rng.integers(0, 5, bars)] = candles.low
    wrong = rng.random(bars) < 0.1
    high[wrong], low[wrong] = open_[wrong], open_[wrong]
    close[wrong] = open_[wrong]
    ts = (candles.ts[:, None] + np.arange(5) * MINUTE_MS).ravel()
    kept = rng.random(len(ts)) > rng.choice([0.0, 0.2])
    columns = (column.ravel()[kept] for column in (open_, high, low, close))
    return Candles(ts[kept], *columns, np.ones(kept.sum()), np.ones(kept.sum()))


def random_detail(rng: np.random.Generator, candles: Candles, *, inverse: bool) -> MarketDetail:
    end = len(candles) * 5
    times = np.flatnonzero(rng.random(end + 3) < rng.choice([0.02, 0.3])) * MINUTE_MS
    rates = rng.normal(0, 0.003, len(times))
    marks = candles.open[0] * np.exp(rng.normal(0, 0.05, len(times)))
    shift = np.exp(rng.normal(0, 0.005, len(candles)))
    mark = Candles(candles.ts, *(column * shift for column in candles.columns()[1:]))
    mark = mark.take(rng.random(len(candles)) < 0.95)
    return lay_beside(
        candles,
        "5",
        settlements=Settlements(times, rates, marks) if rng.random() < 0.6 else None,
        mark=mark if rng.random() < 0.4 else None,
        minutes=random_minutes(rng, candles) if rng.random() < 0.7 else None,
        inverse=inverse,
    )


def random_tiers(rng: np.random.Generator, capital: float, leverage: float) -> tuple[MarginTier, ...]:
    limits = [capital * leverage * part for part in (0.3, 0.8, 2.0)]
    fractions = [0.005, 0.01, 0.02]
    deductions = tier_deductions(limits, fractions)
    most = [200.0, 75.0, float(rng.choice([2.0, 75.0]))]
    return tuple(MarginTier(*row) for row in zip(limits, fractions, deductions, most, strict=True))


def with_all_rules(rng: np.random.Generator, candles: Candles, signals: Signals) -> Signals:
    bars = len(candles)

    def reach() -> tuple[float, np.ndarray | None]:
        if rng.random() < 0.6:
            return float(rng.choice([0.002, 0.01, 0.03])), None
        column = np.abs(rng.normal(0, 0.02, bars)) * candles.close
        column[rng.random(bars) < 0.1] = rng.choice([NONE, 0.0])
        return NONE, column

    changes: dict[str, object] = {}
    if rng.random() < 0.4:
        kind = "limit" if rng.random() < 0.5 else "stop"
        changes["order"] = EntryOrder(kind, *reach(), int(rng.choice([1, 2, 5])))
    elif rng.random() < 0.5:
        changes["max_entries"] = int(rng.integers(2, 11))
    if rng.random() < 0.5:
        shares = rng.choice([0.1, 0.25, 0.3, 0.5], int(rng.integers(1, 5)))
        if shares.sum() > 1 or rng.random() < 0.2:
            shares = shares / shares.sum()
        changes["partial_targets"] = tuple(PartialTarget(float(share), *reach()) for share in shares)
    if rng.random() < 0.3:
        changes["session"] = rng.random(bars) < 0.8
        changes["is_flat_outside_session"] = bool(rng.random() < 0.5)
    return replace(signals, **changes)


def full_case(seed: int) -> Full:
    rng = np.random.default_rng(seed)
    price = float(rng.choice([1e-8, 0.01, 1.0, 30_000.0, 1e9]))
    candles = random_candles(
        rng, int(rng.integers(1, 80)), price, rng.choice([0.001, 0.01, 0.05, 0.3]), rng.choice([1e-6, 0.01])
    )
    candles = replace(candles, ts=candles.ts // 60_000 * BAR_MS)
    signals = with_all_rules(rng, candles, random_signals(rng, candles, rng.choice([0.05, 0.2, 0.9])))
    chosen = random_settings(rng, price)
    if chosen.size_mode == "equity_fraction" and rng.random() < 0.5:
        chosen = replace(chosen, size_value=0.3)
    chosen = replace(chosen, intrabar=str(rng.choice(["pessimistic", "optimistic", "magnify"])))
    if chosen.category != "spot" and rng.random() < 0.6:
        chosen = replace(chosen, margin_tiers=random_tiers(rng, chosen.capital, chosen.leverage))
    return candles, signals, chosen, random_detail(rng, candles, inverse=chosen.category == "inverse")


@settings(THOROUGH, max_examples=3_500)
@given(seed=st.integers(0, 2**62))
def test_under_all_rules_kernel_and_reference_agree_to_the_last_bit_and_the_books_balance(seed: int) -> None:
    candles, signals, chosen, detail = full_case(seed)
    simulation = simulate(candles, signals, chosen, detail)
    assert_identical(simulation, simulate_plainly(candles, signals, chosen, detail))
    assert check_accounting(simulation, candles, chosen, detail) == ()
    trades = simulation.trades
    assert np.isfinite(simulation.equity).all()
    assert (trades.mae >= 0).all()
    assert (trades.mfe >= 0).all()
    assert simulation.decided_bars <= simulation.ambiguous_bars
    assert (np.bincount(simulation.entries.position_id) <= signals.max_entries).all()
    for reason in {EXIT_REASONS[row] for row in trades.exit_reason}:
        event(reason)
    for reason, count in simulation.skipped_entries.items():
        if count:
            event(f"skipped: {reason}")
    event(f"several rows a position: {bool((np.bincount(trades.position_id) > 1).any())}")
    event(f"several entries: {len(simulation.entries) > len(set(trades.position_id.tolist()))}")
    event(f"ambiguous {simulation.ambiguous_bars > 0} decided {simulation.decided_bars > 0}")
    event(f"funding {bool(trades.funding.any())}")
