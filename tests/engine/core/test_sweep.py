"""A sweep against single runs: every figure of every combination, on strategies and settings nobody chose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.core import catalogue
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import NO_DETAIL, MarketDetail, lay_beside
from engine.core.metrics import compute_metrics, gather_facts
from engine.core.perpetual import MarginTier, Settlements
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.sweep import SWEEP_METRICS, SweepResult, sweep
from engine.errors import BadExpression, BadRequest, Cancelled

THOROUGH = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
OWN_METRICS = ("daily_sharpe", "skew", "kurtosis")
CROSS = {
    "name": "cross",
    "params": {
        "fast": {"default": 5, "min": 1, "max": 60, "integer": True},
        "slow": {"default": 20, "min": 2, "max": 240, "integer": True},
        "width": {"default": 2.0, "min": 0.1, "max": 50.0},
    },
    "define": {"f": "ema(close, fast)", "s": "ema(close, slow)"},
    "long_entry": "crossover(f, s)",
    "long_exit": "crossunder(f, s)",
    "short_entry": "crossunder(f, s)",
    "short_exit": "crossover(f, s)",
}
LINEAR = ExecutionSettings(capital=10_000.0, size_value=0.5, slippage_fraction=0.0001)


def make_candles(seed: int, bars: int, minutes: int = 60, volatility: float = 0.01) -> Candles:
    rng = np.random.default_rng(seed)
    close = 30_000 * np.exp(np.cumsum(rng.normal(0, volatility, bars)))
    open_ = np.concatenate(([30_000.0], close[:-1])) * np.exp(
        np.where(rng.random(bars) < 0.1, rng.normal(0, volatility, bars), 0)
    )
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, volatility / 2, bars)))
    low = np.minimum(open_, close) * (1 - np.minimum(np.abs(rng.normal(0, volatility / 2, bars)), 0.9))
    ts = 1_640_995_200_000 + np.cumsum(np.where(rng.random(bars) < 0.02, 30, 1)) * minutes * 60_000
    return Candles(ts, open_, high, low, close, rng.random(bars) + 1, rng.random(bars) + 1)


def assert_as_single_runs(
    result: SweepResult,
    candles: Candles,
    document: StrategyDocument,
    chosen: ExecutionSettings,
    detail: MarketDetail = NO_DETAIL,
) -> None:
    for row, point in enumerate(result.points):
        signals = compute_signals(compile_strategy(document, point), candles, "60")
        simulation = simulate(candles, signals, chosen, detail)
        expected = compute_metrics(simulation, candles, "60", chosen).values
        assert result.warmup_bars[row] == signals.warmup_bars
        for name, column in result.values.items():
            if name in OWN_METRICS:
                continue
            wanted = expected[name]
            found = float(column[row])
            same = math.isnan(found) if wanted is None else math.isclose(found, wanted, rel_tol=1e-12, abs_tol=1e-13)
            assert same, (name, point, found, wanted)
        assert result.values["final_equity"][row] == simulation.equity[-1]
        returns = gather_facts(simulation, candles, "60", chosen).returns
        if returns is None:
            assert np.isnan(result.daily_returns[row]).all()
        else:
            assert result.daily_returns[row].tobytes() == returns.tobytes()


CONDITIONS = (
    "crossover(f, s)", "crossunder(f, s)", "crossover(close, s)", "close > s", "f <= s", "not (f > s)", "rsi(close, fast) < 40",
    "close[1] < f and f < s", "crossover(f, s) or rsi(close, 14) > 60 + width", "rising(close, 2) and hour < 12",
    "width > 2 and crossover(f, s)", "fast < slow and close > f", "fast > slow or close < s", "low < f < high",
    "close == f", "close != f", "s > close * (1 + width / 1000)", "flag", "flag[1] and not flag", "tf('240', close > f)",
    "crossover(rsi(close, 14), 50)", "bars_since(close > s) > fast", "open < close < s or flag",
)  # fmt: skip
LEVELS: tuple[dict[str, Any] | None, ...] = (
    None, {"percent": 1.0}, {"percent": "width"}, {"percent": "width / 2"}, {"distance": "atr(14)"},
    {"distance": "width * atr(fast)"}, {"distance": "close - s"},
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    maybe = st.none() | st.sampled_from(CONDITIONS)
    raw = CROSS | {
        "define": {**CROSS["define"], "flag": "close > sma(close, slow)"},
        "long_entry": draw(st.sampled_from(CONDITIONS)),
        "long_exit": draw(maybe),
        "short_entry": draw(maybe),
        "short_exit": draw(maybe),
        "stop_loss": draw(st.sampled_from(LEVELS)),
        "take_profit": draw(st.sampled_from(LEVELS)),
        "trailing_stop": draw(st.sampled_from(LEVELS)),
        "max_bars": draw(st.sampled_from([None, None, 3, "fast", "fast + 1"])),
        "breakeven_after_percent": draw(st.sampled_from([None, None, 1.0, "width"])),
    }
    if raw["trailing_stop"] and draw(st.booleans()):
        raw["trailing_stop"] = raw["trailing_stop"] | {"activation_percent": draw(st.sampled_from([0.5, "width"]))}
    return {name: value for name, value in raw.items() if value is not None}


POINTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "fast": st.sampled_from([1, 2, 5, 9]),
            "slow": st.sampled_from([2, 5, 20, 60]),
            "width": st.sampled_from([0.5, 1.0, 2.0, 10.0]),
        },
    ),
    min_size=1,
    max_size=6,
)
EXECUTIONS = st.sampled_from(
    [
        LINEAR,
        replace(LINEAR, leverage=20.0, size_value=1.0),
        replace(LINEAR, category="inverse", capital=2.0, intrabar="optimistic"),
        replace(LINEAR, allow_short=False, tick_size=0.5, round_to_lot=True, lot_step=0.001, min_notional=100.0),
        replace(LINEAR, allow_long=False, size_mode="quote", size_value=5_000.0),
    ]
)


@THOROUGH
@given(raw=documents(), points=POINTS, chosen=EXECUTIONS, seed=st.integers(0, 10_000), threads=st.sampled_from([1, 2]))
def test_a_sweep_tells_what_single_runs_tell(
    raw: Mapping[str, Any],
    points: list[dict[str, float]],
    chosen: ExecutionSettings,
    seed: int,
    threads: int,
) -> None:
    candles = make_candles(seed, bars=1 + seed % 400)
    document = parse_strategy(raw)
    result = sweep(candles, document, points, "60", chosen, threads=threads)
    assert result.bar_loop_reason is None
    event(f"traded: {bool((result.values['trades'] > 0).any())}")
    assert_as_single_runs(result, candles, document, chosen)


@pytest.mark.parametrize("name", catalogue.names())
def test_every_strategy_of_the_catalogue_sweeps_as_it_runs(name: str) -> None:
    document = catalogue.load(name)
    points = [{}] + [{param: value} for param, found in document.params.items() for value in (found.min, found.max)]
    candles = make_candles(3, bars=1_500)
    result = sweep(candles, document, points, "60", LINEAR)
    assert result.bar_loop_reason is None
    assert_as_single_runs(result, candles, document, LINEAR)


def test_little_memory_means_more_batches_and_the_same_figures() -> None:
    candles, document = make_candles(1, bars=3_000), parse_strategy(CROSS)
    points = [{"fast": fast, "slow": slow} for fast in range(2, 12) for slow in range(20, 40, 2)]
    roomy = sweep(candles, document, points, "60", LINEAR)
    tight = sweep(candles, document, points, "60", LINEAR, memory_bytes=200_000)
    assert tight.daily_returns.tobytes() == roomy.daily_returns.tobytes()
    for name in SWEEP_METRICS:
        assert tight.values[name].tobytes() == roomy.values[name].tobytes(), name


def test_what_the_event_kernel_does_not_cover_goes_through_the_bar_loop_with_the_same_figures() -> None:
    candles, document = make_candles(1, bars=500), parse_strategy(CROSS)
    broken = replace(candles, high=np.minimum(candles.high, candles.open * 0.9999))
    points = [{"fast": 3}, {"fast": 5}]
    result = sweep(broken, document, points, "60", LINEAR)
    assert result.bar_loop_reason == "bars whose open or close lies outside their low and high"
    assert_as_single_runs(result, broken, document, LINEAR)


def market_detail(candles: Candles, seed: int) -> MarketDetail:
    """Return settlements every eight hours, late ones among them, and marks near the prices."""
    rng = np.random.default_rng(seed)
    times = np.arange(candles.ts[0], candles.ts[-1], 8 * 3_600_000) + rng.choice([0, 60_000])
    rates, prices = rng.normal(0, 0.001, len(times)), np.full(len(times), 30_000.0)
    shift = np.exp(rng.normal(0, 0.002, len(candles)))
    mark = Candles(candles.ts, *(column * shift for column in candles.columns()[1:]))
    return lay_beside(candles, "60", settlements=Settlements(times, rates, prices), mark=mark)


TIERS = (MarginTier(20_000.0, 0.01, 0.0, 50.0), MarginTier(60_000.0, 0.05, 800.0, 10.0))


@settings(THOROUGH, max_examples=80)
@given(
    raw=documents(), points=POINTS, seed=st.integers(0, 10_000), leverage=st.sampled_from([1.0, 3.0, 10.0, 20.0]),
    category=st.sampled_from(["linear", "inverse"]),
)  # fmt: skip
def test_a_sweep_of_a_perpetual_tells_what_single_runs_tell(
    raw: Mapping[str, Any], points: list[dict[str, float]], seed: int, leverage: float, category: Any
) -> None:
    candles = make_candles(seed, bars=1 + seed % 400)
    detail = market_detail(candles, seed)
    chosen = replace(
        LINEAR,
        category=category,
        leverage=leverage,
        margin_tiers=TIERS,
        capital=10_000.0 if category == "linear" else 2.0,
    )
    document = parse_strategy(raw)
    result = sweep(candles, document, points, "60", chosen, detail=detail)
    assert result.bar_loop_reason is None
    event(f"traded: {bool((result.values['trades'] > 0).any())}")
    assert_as_single_runs(result, candles, document, chosen, detail)


def test_minutes_decide_in_the_bar_loop() -> None:
    candles, document = make_candles(1, bars=300), parse_strategy(CROSS | {"stop_loss": {"percent": 1}})
    detail, chosen = market_detail(candles, 1), replace(LINEAR, intrabar="magnify", margin_tiers=TIERS)
    result = sweep(candles, document, [{"fast": 3}, {"fast": 5}], "60", chosen, detail=detail)
    assert result.bar_loop_reason == "intrabar 'magnify'"
    assert_as_single_runs(result, candles, document, chosen, detail)


@pytest.mark.parametrize("high", [1.0, 0.9999])
def test_the_strategys_own_size_may_vary_from_point_to_point(high: float) -> None:
    candles = make_candles(2, bars=800)
    # Bars whose open lies above their high go through the bar loop.
    candles = replace(candles, high=candles.high if high == 1 else np.minimum(candles.high, candles.open * high))
    document = parse_strategy(CROSS | {"size": {"risk_percent": "width"}, "stop_loss": {"percent": 3.0}})
    points = [{"width": 0.5}, {"width": 2.0}]
    result = sweep(candles, document, points, "60", LINEAR, uses_document_size=True)
    assert (result.bar_loop_reason is None) == (high == 1)
    for row, value in enumerate((0.005, 0.02)):
        chosen = replace(LINEAR, size_mode="risk", size_value=value)
        signals = compute_signals(compile_strategy(document, points[row]), candles, "60")
        assert result.values["final_equity"][row] == simulate(candles, signals, chosen).equity[-1]


def test_moments_are_those_of_the_daily_returns() -> None:
    candles, document = make_candles(5, bars=3_000), parse_strategy(CROSS)
    result = sweep(candles, document, [{}], "60", LINEAR)
    returns = result.daily_returns[0]
    away = returns - returns.mean()
    assert math.isclose(result.values["skew"][0], (away**3).mean() / returns.std() ** 3, rel_tol=1e-9)
    assert math.isclose(result.values["kurtosis"][0], (away**4).mean() / returns.std() ** 4, rel_tol=1e-9)
    assert math.isclose(result.values["daily_sharpe"][0] * math.sqrt(365), result.values["sharpe"][0], rel_tol=1e-12)
    assert len(result.marks_ms) == len(returns)


def test_the_best_rows_leave_undefined_ones_out() -> None:
    candles, document = make_candles(5, bars=300), parse_strategy(CROSS)
    result = sweep(candles, document, [{"slow": 240}, {"slow": 20}, {"slow": 30}], "60", LINEAR, metrics=["sharpe"])
    assert list(result.values) == ["sharpe"]
    assert 0 not in result.best("sharpe", 3)
    first, second = result.best("sharpe", 3)
    assert result.values["sharpe"][first] >= result.values["sharpe"][second]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no points"),
        ([{"fast": 3}, {"fats": 3}], "no parameter 'fats'"),
        ([{"fast": 3}, {"fast": 6.5}], "params.fast is 6.5"),
        ([{"fast": 3}, {"fast": 2.5}, {"fast": 9}], "params.fast is 2.5"),
        ([{"fast": 3}, {"fast": "4"}], "params.fast is 4"),
        ([{"fast": 3}, {"fast": math.nan}], "params.fast is nan"),
    ],
)
def test_a_bad_point_is_refused_as_in_a_single_run(points: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        sweep(make_candles(1, bars=50), parse_strategy(CROSS), points, "60", LINEAR)


def test_an_expression_that_fails_at_one_point_names_its_place_in_the_document() -> None:
    document = parse_strategy(CROSS | {"define": {**CROSS["define"], "f": "close / (fast - 7)"}})
    with pytest.raises(BadExpression, match=r"define\.f"):
        sweep(make_candles(1, bars=50), document, [{"fast": 3}, {"fast": 7}, {"fast": 9}], "60", LINEAR)


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadRequest, match="does not measure 'alpha'") as caught:
        sweep(make_candles(1, bars=50), parse_strategy(CROSS), [{}], "60", LINEAR, metrics=["alpha"])
    assert "sharpe" in caught.value.fix


def test_a_sweep_reports_its_progress_and_stops_when_told() -> None:
    candles, document = make_candles(1, bars=200), parse_strategy(CROSS)
    points = [{"slow": slow} for slow in range(2, 102)]
    told: list[tuple[int, int]] = []
    sweep(candles, document, points, "60", LINEAR, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (100, 100)
    assert told == sorted(told)
    with pytest.raises(Cancelled):
        sweep(candles, document, points, "60", LINEAR, cancelled=lambda: True)


def test_what_comes_later_changes_nothing_before_it() -> None:
    candles, document = make_candles(4, bars=24 * 60), parse_strategy(CROSS | {"stop_loss": {"percent": 2.0}})
    points = [{"fast": fast} for fast in (2, 5, 9)]
    whole = sweep(candles, document, points, "60", LINEAR)
    prefix = sweep(candles.take(slice(0, 24 * 40)), document, points, "60", LINEAR)
    # The last bar of the prefix closes what is open, on the prefix's last two days at the latest.
    kept = prefix.daily_returns.shape[1] - 2
    assert kept > 30
    assert prefix.daily_returns[:, :kept].tobytes() == whole.daily_returns[:, :kept].tobytes()
