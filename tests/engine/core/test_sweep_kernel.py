"""The event kernel against the bar loop and the plain reference: every figure and mark of every run, to the last bit."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.kernel_inputs import kernel_rules
from engine.core.market_detail import NO_DETAIL, MarketDetail
from engine.core.perpetual import MarginTier
from engine.core.reference_simulator import simulate_plainly
from engine.core.signals import Signals
from engine.core.simulation import Simulation
from engine.core.simulator import simulate
from engine.core.sweep import event_kernel as kernel
from engine.core.sweep.blocks import price_blocks
from engine.core.sweep.masks import compare_columns, pack_condition, pack_valid, unpack_condition, words_needed
from engine.core.sweep.perpetual_events import margin_of, settled_bars
from engine.core.sweep.plan import Relation
from engine.core.trades import ExitReason

THOROUGH = settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _cases() -> ModuleType:
    path = Path(__file__).with_name("test_simulator_equivalence.py")
    spec = importlib.util.spec_from_file_location("equivalence_cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = _cases()


def run_events(
    candles: Candles, signals: Signals, chosen: ExecutionSettings, detail: MarketDetail, marks_at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return figures and marks of one run of the event kernel."""
    bars = len(candles)
    distances = [signals.stop_distance, signals.target_distance, signals.trail_distance]
    usable = np.ones((3, bars), np.bool_)
    masks = tuple(
        pack_condition(mask)[None, :]
        for mask in (signals.long_entry, signals.long_exit, signals.short_entry, signals.short_exit, *usable)
    )
    levels = np.array(
        [[
            signals.stop_fraction, signals.target_fraction, signals.trail_fraction, signals.trail_activation_fraction,
            signals.breakeven_fraction, signals.max_bars, chosen.size_value,
        ]]
    )  # fmt: skip
    table = np.stack([np.full(bars, np.nan) if column is None else column for column in distances])
    rows = np.array([[-1 if column is None else row for row, column in enumerate(distances)]])
    figures, marks = np.empty((1, kernel.FIGURES)), np.empty((1, len(marks_at)))
    prices = [column.view() for column in (candles.open, candles.high, candles.low, candles.close)]
    for column in prices:
        column.flags.writeable = False
    kernel.run_combinations(
        *prices, price_blocks(candles), masks, np.zeros((1, 7), np.int64), table, rows, levels,
        np.array([signals.warmup_bars]), kernel_rules(signals, chosen), settled_bars(candles, detail),
        margin_of(candles, detail, chosen.margin_tiers), marks_at, marks, figures, 0, 1,
    )  # fmt: skip
    return figures[0], marks[0]


def assert_same(
    candles: Candles,
    signals: Signals,
    chosen: ExecutionSettings,
    detail: MarketDetail = NO_DETAIL,
    judge: Callable[[Candles, Signals, ExecutionSettings, MarketDetail], Simulation] = simulate,
) -> None:
    # Marking every bar shows the whole equity curve.
    figures, equity = run_events(candles, signals, chosen, detail, np.arange(len(candles)))
    expected = judge(candles, signals, chosen, detail)
    pnl = expected.trades.pnl
    assert figures[kernel.TRADES] == len(pnl)
    assert equity.tobytes() == expected.equity.tobytes()
    assert figures[kernel.FINAL] == expected.equity[-1]
    assert figures[kernel.WINS] == np.count_nonzero(pnl > 0)
    assert figures[kernel.LOSSES] == np.count_nonzero(pnl < 0)
    assert math.isclose(figures[kernel.WON], pnl[pnl > 0].sum(), rel_tol=1e-12)
    assert math.isclose(figures[kernel.LOST], -pnl[pnl < 0].sum(), rel_tol=1e-12)
    assert math.isclose(figures[kernel.FEES], expected.trades.fees.sum(), rel_tol=1e-12)
    assert figures[kernel.EXPOSED] == expected.exposed_bars
    curve = np.concatenate(([chosen.capital], expected.equity))
    assert 1.0 - figures[kernel.LOWEST_RATIO] == np.max(1.0 - curve / np.maximum.accumulate(curve))
    event(f"trades: {min(len(pnl), 3)}")
    event(f"ruined: {expected.ruined}")
    event(f"funding: {bool(expected.trades.funding.any())}")
    event(f"liquidated: {bool((expected.trades.exit_reason == ExitReason.LIQUIDATION).any())}")
    for reason, count in expected.skipped_entries.items():
        if count:
            event(f"skipped: {reason}")


@st.composite
def long_cases(draw: st.DrawFn) -> tuple[Candles, Signals, ExecutionSettings]:
    """Return runs of up to 700 bars, so that positions span blocks of every size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**62)))
    price = float(rng.choice([1e-8, 1.0, 30_000.0]))
    candles = CASES.random_candles(rng, int(rng.integers(1, 700)), price, rng.choice([1e-4, 0.001, 0.02]), 1e-6)
    return (
        candles,
        CASES.random_signals(rng, candles, rng.choice([0.002, 0.01, 0.2])),
        CASES.random_settings(rng, price),
    )


@THOROUGH
@given(case=long_cases())
def test_events_and_bars_agree_on_long_and_short_stays(case: tuple[Candles, Signals, ExecutionSettings]) -> None:
    assert_same(*case)


@THOROUGH
@given(case=CASES.cases())
def test_events_and_bars_agree_on_dense_signals(case: tuple[Candles, Signals, ExecutionSettings]) -> None:
    assert_same(*case)


@settings(THOROUGH, max_examples=2_000)
@given(case=CASES.tiny_cases(), intrabar=st.sampled_from(["pessimistic", "optimistic"]))
def test_events_and_bars_agree_where_levels_and_prices_tie(case: tuple[Candles, Signals], intrabar: str) -> None:
    candles, signals = case
    assert_same(
        candles, signals, ExecutionSettings(capital=100.0, size_mode="quantity", size_value=1.0, intrabar=intrabar)
    )


def perpetual_case(seed: int, most_bars: int) -> tuple[Candles, Signals, ExecutionSettings, MarketDetail]:
    """Return a run with funding, mark prices or the trade prices for them, leverage and maintenance tiers."""
    rng = np.random.default_rng(seed)
    price = float(rng.choice([1e-8, 1.0, 30_000.0]))
    bars, width = int(rng.integers(1, most_bars)), float(rng.choice([0.001, 0.01, 0.05, 0.3]))
    candles = CASES.random_candles(rng, bars, price, width, float(rng.choice([1e-6, 0.01])))
    candles = replace(candles, ts=candles.ts // CASES.MINUTE_MS * CASES.BAR_MS)
    signals = CASES.random_signals(rng, candles, float(rng.choice([0.01, 0.1, 0.5])))
    if rng.random() < 0.3:
        # Without levels positions live until they are liquidated.
        signals = replace(signals, stop_fraction=math.nan, stop_distance=None, trail_fraction=math.nan,
                          trail_distance=None, breakeven_fraction=math.nan)  # fmt: skip
    chosen = CASES.random_settings(rng, price)
    if chosen.category != "spot":
        chosen = replace(chosen, leverage=float(rng.choice([1.0, 2.0, 10.0, 50.0])))
        chosen = replace(chosen, margin_tiers=CASES.random_tiers(rng, chosen.capital, chosen.leverage))
        if chosen.size_mode == "equity_fraction" and rng.random() < 0.6:
            chosen = replace(chosen, size_value=0.25)
    return candles, signals, chosen, CASES.random_detail(rng, candles, inverse=chosen.category == "inverse")


@settings(THOROUGH, max_examples=1_500)
@given(seed=st.integers(0, 2**62))
def test_events_and_the_reference_agree_on_funding_leverage_and_liquidation(seed: int) -> None:
    assert_same(*perpetual_case(seed, 90), judge=simulate_plainly)


@settings(THOROUGH, max_examples=800)
@given(seed=st.integers(0, 2**62))
def test_events_and_bars_agree_on_long_stays_under_funding_and_margin(seed: int) -> None:
    assert_same(*perpetual_case(seed, 900))


@st.composite
def tying_marks(draw: st.DrawFn) -> tuple[Candles, Signals, ExecutionSettings, MarketDetail]:
    """Return bars and marks on five prices, liquidation among them, so that levels, marks and opens meet exactly."""
    candles, signals = draw(CASES.tiny_cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**62)))
    bars = len(candles)
    table = np.sort(rng.integers(8, 13, (bars, 4)), axis=1).astype(float)
    mark = Candles(
        candles.ts, table[:, int(rng.integers(4))], table[:, 3], table[:, 0], table[:, 2], candles.open, candles.open
    )
    # Maintenance of a sixteenth and leverage 4 on an entry of 10: bankruptcy at 7.5 and 12.5, liquidation at 8 and 12 (nearly).
    tiers = (MarginTier(15.0, 0.0625, 0.0), MarginTier(50.0, 0.25, 1.0, float(rng.choice([2.0, 75.0]))))
    chosen = ExecutionSettings(
        capital=100.0, size_mode="quantity", size_value=float(rng.choice([1.0, 2.0])), leverage=float(rng.choice([4.0, 8.0])),
        margin_tiers=tiers, intrabar=str(rng.choice(["pessimistic", "optimistic"])),
    )  # fmt: skip
    at_open, inside = (np.where(rng.random(bars) < 0.3, rng.choice([-0.5, 0.25], bars), 0.0) for _ in range(2))
    return candles, signals, chosen, MarketDetail(at_open, inside, mark if rng.random() < 0.7 else None)


@settings(THOROUGH, max_examples=1_200)
@given(case=tying_marks())
def test_events_and_the_reference_agree_where_liquidation_stop_target_and_marks_tie(
    case: tuple[Candles, Signals, ExecutionSettings, MarketDetail],
) -> None:
    assert_same(*case, judge=simulate_plainly)


@given(bars=st.integers(0, 300), seed=st.integers(0, 1_000))
def test_packing_bits_loses_nothing(bars: int, seed: int) -> None:
    condition = np.random.default_rng(seed).random(bars) < 0.5
    assert unpack_condition(pack_condition(condition), bars).tolist() == condition.tolist()


@settings(max_examples=200, deadline=None)
@given(bars=st.integers(1, 2_600), seed=st.integers(0, 1_000_000))
def test_compared_columns_are_numpys_comparisons_also_with_gaps_and_ties(bars: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = words_needed(bars)
    table = np.full((2, words * 64), np.nan)
    # Few values, so that ties happen; gaps anywhere, so that a crossing may follow one.
    table[:, :bars] = rng.choice([1.0, 2.0, 3.0, np.nan], (2, bars))
    valid = np.empty((2, words), np.uint64)
    for row in range(2):
        pack_valid(table[row], valid[row])
    relations = np.array(list(Relation), np.int64)
    result = np.empty((len(relations), 1, words), np.uint64)
    compare_columns(table, valid, np.array([0]), np.array([1]), relations, result, 0, 1)
    a, b = table[:, :bars]
    known = ~np.isnan(a) & ~np.isnan(b)
    up, down = np.zeros((2, bars), np.bool_)
    up[1:], down[1:] = (a > b)[1:] & (a <= b)[:-1], (a < b)[1:] & (a >= b)[:-1]
    for relation, expected in zip(
        Relation, (a < b, a > b, a <= b, a >= b, a == b, known & (a != b), up, down), strict=True
    ):
        found = unpack_condition(result[relation, 0], bars)
        assert found.tolist() == expected.tolist(), relation
