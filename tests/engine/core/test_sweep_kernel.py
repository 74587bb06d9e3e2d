"""The event kernel against the bar loop: every figure and mark of every run, to the last bit."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.signals import Signals
from engine.core.simulator import simulate
from engine.core.sweep import event_kernel as kernel
from engine.core.sweep.blocks import price_blocks
from engine.core.sweep.masks import compare_columns, pack_condition, pack_valid, unpack_condition, words_needed
from engine.core.sweep.plan import Relation
from engine.core.sweep.sweep import _shared_rules

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
    candles: Candles, signals: Signals, chosen: ExecutionSettings, marks_at: np.ndarray
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
        np.array([signals.warmup_bars]), _shared_rules(chosen), marks_at, marks, figures, 0, 1,
    )  # fmt: skip
    return figures[0], marks[0]


def assert_same(candles: Candles, signals: Signals, chosen: ExecutionSettings) -> None:
    # Marking every bar shows the whole equity curve.
    figures, equity = run_events(candles, signals, chosen, np.arange(len(candles)))
    expected = simulate(candles, signals, chosen)
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
