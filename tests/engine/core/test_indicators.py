"""Indicators against slow references, other libraries, their declared warm-up and their own past."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from talipp.indicators import HMA, VWMA, SuperTrend
from talipp.ohlcv import OHLCV

from engine.core.candles import Candles
from engine.core.expressions import evaluate, warmup
from engine.core.indicators import REGISTRY

N = 600
STEP_MS = 900_000


def make_candles(rows: int = N, seed: int = 5, *, tick: float = 0.0) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.01, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.01, rows))
    if tick:
        opened, high, low, close = (np.round(column / tick) * tick for column in (opened, high, low, close))
    volume = random.uniform(1, 100, rows)
    ts = np.arange(rows, dtype=np.int64) * STEP_MS + 1_704_067_200_000
    return Candles(ts, opened, high, low, close, volume, volume * close)


CANDLES = make_candles()
OPEN, HIGH, LOW, CLOSE, VOLUME = CANDLES.open, CANDLES.high, CANDLES.low, CANDLES.close, CANDLES.volume


def windows(values: np.ndarray, length: int, compute) -> np.ndarray:
    """Apply `compute` to every full window, the slow and obvious way."""
    result = np.full(len(values), math.nan)
    for row in range(length - 1, len(values)):
        result[row] = compute(values[row - length + 1 : row + 1])
    return result


def smoothed(values: np.ndarray, length: int, weight: float) -> np.ndarray:
    result = np.full(len(values), math.nan)
    result[length - 1] = np.mean(values[:length])
    for row in range(length, len(values)):
        result[row] = result[row - 1] * (1 - weight) + values[row] * weight
    return result


def after_head(values: np.ndarray, compute) -> np.ndarray:
    """Apply `compute` to what follows the leading NaN."""
    head = int(np.isnan(values).sum())
    return np.concatenate((np.full(head, math.nan), compute(values[head:])))


def ema_of(values: np.ndarray, length: int) -> np.ndarray:
    return after_head(values, lambda valid: smoothed(valid, length, 2 / (length + 1)))


def rma_of(values: np.ndarray, length: int) -> np.ndarray:
    return after_head(values, lambda valid: smoothed(valid, length, 1 / length))


def wma_of(values: np.ndarray, length: int) -> np.ndarray:
    weights = np.arange(1, length + 1)
    return after_head(
        values, lambda valid: windows(valid, length, lambda window: (window * weights).sum() / weights.sum())
    )


def sma_of(values: np.ndarray, length: int) -> np.ndarray:
    return after_head(values, lambda valid: windows(valid, length, np.mean))


def true_ranges() -> list[float]:
    later = (max(HIGH[row], CLOSE[row - 1]) - min(LOW[row], CLOSE[row - 1]) for row in range(1, N))
    return [HIGH[0] - LOW[0], *later]


def rsi_of(length: int) -> np.ndarray:
    changes = np.diff(CLOSE)
    gains = rma_of(np.where(changes > 0, changes, 0), length)
    losses = rma_of(np.where(changes < 0, -changes, 0), length)
    return np.concatenate(([math.nan], 100 * gains / (gains + losses)))


def directional_of(length: int, *, rising: bool) -> np.ndarray:
    up, down = np.diff(HIGH), -np.diff(LOW)
    mine, other = (up, down) if rising else (down, up)
    moved = np.where((mine > other) & (mine > 0), mine, 0)
    return np.concatenate(([math.nan], 100 * rma_of(moved, length) / rma_of(np.array(true_ranges()[1:]), length)))


def supertrend_of(multiplier: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pine's published listing, line by line; the direction with our sign."""
    atr = rma_of(np.array(true_ranges()), length)
    line, direction = np.full(N, math.nan), np.full(N, math.nan)
    previous_upper = previous_lower = 0.0
    for row in range(length - 1, N):
        middle = (HIGH[row] + LOW[row]) / 2
        upper, lower = middle + multiplier * atr[row], middle - multiplier * atr[row]
        if row == length - 1:
            direction[row] = -1
        else:
            lower = lower if lower > previous_lower or CLOSE[row - 1] < previous_lower else previous_lower
            upper = upper if upper < previous_upper or CLOSE[row - 1] > previous_upper else previous_upper
            if line[row - 1] == previous_upper:
                direction[row] = 1 if CLOSE[row] > upper else -1
            else:
                direction[row] = -1 if CLOSE[row] < lower else 1
        line[row] = lower if direction[row] == 1 else upper
        previous_upper, previous_lower = upper, lower
    return line, direction


def vwap_of() -> np.ndarray:
    price = (HIGH + LOW + CLOSE) / 3
    result = []
    for row in range(N):
        start = row - row % 96
        weights = VOLUME[start : row + 1]
        result.append((price[start : row + 1] * weights).sum() / weights.sum())
    return np.array(result)


def obv_of() -> np.ndarray:
    return np.concatenate(([0.0], np.cumsum(np.sign(np.diff(CLOSE)) * VOLUME[1:])))


def stochastic_of(length: int) -> np.ndarray:
    top, bottom = windows(HIGH, length, np.max), windows(LOW, length, np.min)
    return 100 * (CLOSE - bottom) / (top - bottom)


def lagged(values: np.ndarray, bars: int) -> np.ndarray:
    return np.concatenate((np.full(bars, math.nan), values[:-bars]))


def deviation(window: np.ndarray) -> float:
    return float(np.abs(window - window.mean()).mean())


REFERENCES = {
    "sma(close, 20)": lambda: sma_of(CLOSE, 20),
    "ema(close, 20)": lambda: ema_of(CLOSE, 20),
    "rma(close, 14)": lambda: rma_of(CLOSE, 14),
    "wma(close, 9)": lambda: wma_of(CLOSE, 9),
    "sum(volume, 7)": lambda: windows(VOLUME, 7, np.sum),
    "highest(high, 13)": lambda: windows(HIGH, 13, np.max),
    "lowest(low, 13)": lambda: windows(LOW, 13, np.min),
    "stdev(close, 20)": lambda: windows(CLOSE, 20, np.std),
    "mean_deviation(close, 20)": lambda: windows(CLOSE, 20, deviation),
    "tr()": lambda: np.array(true_ranges()),
    "atr(14)": lambda: rma_of(np.array(true_ranges()), 14),
    "rsi(close, 14)": lambda: rsi_of(14),
    "dema(close, 10)": lambda: 2 * ema_of(CLOSE, 10) - ema_of(ema_of(CLOSE, 10), 10),
    "tema(close, 10)": lambda: (
        3 * ema_of(CLOSE, 10) - 3 * ema_of(ema_of(CLOSE, 10), 10) + ema_of(ema_of(ema_of(CLOSE, 10), 10), 10)
    ),
    "hma(close, 16)": lambda: wma_of(2 * wma_of(CLOSE, 8) - wma_of(CLOSE, 16), 4),
    "vwma(close, 20)": lambda: windows(CLOSE * VOLUME, 20, np.sum) / windows(VOLUME, 20, np.sum),
    "macd(close)": lambda: ema_of(CLOSE, 12) - ema_of(CLOSE, 26),
    "macd_signal(close)": lambda: ema_of(ema_of(CLOSE, 12) - ema_of(CLOSE, 26), 9),
    "macd_hist(close)": lambda: (
        ema_of(CLOSE, 12) - ema_of(CLOSE, 26) - ema_of(ema_of(CLOSE, 12) - ema_of(CLOSE, 26), 9)
    ),
    "bb_upper(close, 20, 2.5)": lambda: sma_of(CLOSE, 20) + 2.5 * windows(CLOSE, 20, np.std),
    "bb_middle(close, 20)": lambda: sma_of(CLOSE, 20),
    "bb_lower(close, 20, 2.5)": lambda: sma_of(CLOSE, 20) - 2.5 * windows(CLOSE, 20, np.std),
    "bb_width(close, 20, 2)": lambda: 4 * windows(CLOSE, 20, np.std) / sma_of(CLOSE, 20),
    "bb_percent(close, 20, 2)": lambda: (CLOSE - sma_of(CLOSE, 20)) / (4 * windows(CLOSE, 20, np.std)) + 0.5,
    "zscore(close, 20)": lambda: (CLOSE - sma_of(CLOSE, 20)) / windows(CLOSE, 20, np.std),
    "keltner_upper(close, 20, 1.5)": lambda: ema_of(CLOSE, 20) + 1.5 * ema_of(np.array(true_ranges()), 20),
    "keltner_middle(close, 20)": lambda: ema_of(CLOSE, 20),
    "keltner_lower(close, 20, 1.5)": lambda: ema_of(CLOSE, 20) - 1.5 * ema_of(np.array(true_ranges()), 20),
    "stoch_k(14, 3)": lambda: sma_of(stochastic_of(14), 3),
    "stoch_d(14, 3, 5)": lambda: sma_of(sma_of(stochastic_of(14), 3), 5),
    "cci(hlc3, 20)": lambda: (
        ((HIGH + LOW + CLOSE) / 3 - sma_of((HIGH + LOW + CLOSE) / 3, 20))
        / (0.015 * windows((HIGH + LOW + CLOSE) / 3, 20, deviation))
    ),
    "williams_r(14)": lambda: stochastic_of(14) - 100,
    "roc(close, 9)": lambda: 100 * (CLOSE / lagged(CLOSE, 9) - 1),
    "momentum(close, 10)": lambda: CLOSE - lagged(CLOSE, 10),
    "change(close)": lambda: CLOSE - lagged(CLOSE, 1),
    "donchian_upper(20)": lambda: windows(HIGH, 20, np.max),
    "donchian_lower(20)": lambda: windows(LOW, 20, np.min),
    "donchian_middle(20)": lambda: (windows(HIGH, 20, np.max) + windows(LOW, 20, np.min)) / 2,
    "plus_di(14)": lambda: directional_of(14, rising=True),
    "minus_di(14)": lambda: directional_of(14, rising=False),
    "adx(14, 10)": lambda: (
        100
        * rma_of(
            np.abs(directional_of(14, rising=True) - directional_of(14, rising=False))
            / (directional_of(14, rising=True) + directional_of(14, rising=False)),
            10,
        )
    ),
    "supertrend(3, 10)": lambda: supertrend_of(3, 10)[0],
    "supertrend_direction(3, 10)": lambda: supertrend_of(3, 10)[1],
    "obv()": obv_of,
    "vwap()": vwap_of,
}
FUNCTIONS_WITHOUT_COLUMN_REFERENCE = {name for name, known in REGISTRY.items() if known.family == "functions"}


def test_every_indicator_has_a_slow_reference() -> None:
    referenced = {text.split("(")[0] for text in REFERENCES}
    assert REGISTRY.keys() - FUNCTIONS_WITHOUT_COLUMN_REFERENCE == referenced - {"change"}


@pytest.mark.parametrize("expression", REFERENCES)
def test_an_indicator_equals_its_slow_reference_from_the_declared_bar_on(expression: str) -> None:
    expected = REFERENCES[expression]()
    found = evaluate(expression, CANDLES, "15")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert int(np.isnan(found).sum()) == warmup(expression)


def talib_stochastic() -> np.ndarray:
    return talib.STOCH(HIGH, LOW, CLOSE, fastk_period=14, slowk_period=3, slowd_period=3)[0]


TALIB = {
    "sma(close, 20)": (lambda: talib.SMA(CLOSE, 20), 19),
    "ema(close, 20)": (lambda: talib.EMA(CLOSE, 20), 19),
    "wma(close, 20)": (lambda: talib.WMA(CLOSE, 20), 19),
    "dema(close, 10)": (lambda: talib.DEMA(CLOSE, 10), 18),
    "tema(close, 10)": (lambda: talib.TEMA(CLOSE, 10), 27),
    "rsi(close, 14)": (lambda: talib.RSI(CLOSE, 14), 14),
    "tr()": (lambda: talib.TRANGE(HIGH, LOW, CLOSE), 1),
    "atr(14)": (lambda: talib.ATR(HIGH, LOW, CLOSE, 14), 400),
    "macd(close)": (lambda: talib.MACD(CLOSE)[0], 400),
    "macd_signal(close)": (lambda: talib.MACD(CLOSE)[1], 400),
    "macd_hist(close)": (lambda: talib.MACD(CLOSE)[2], 400),
    "bb_upper(close, 20, 2)": (lambda: talib.BBANDS(CLOSE, 20)[0], 19),
    "bb_lower(close, 20, 2)": (lambda: talib.BBANDS(CLOSE, 20)[2], 19),
    "stoch_k(14, 3)": (talib_stochastic, 17),
    "cci(hlc3, 20)": (lambda: talib.CCI(HIGH, LOW, CLOSE, 20), 19),
    "williams_r(14)": (lambda: talib.WILLR(HIGH, LOW, CLOSE, 14), 13),
    "roc(close, 9)": (lambda: talib.ROC(CLOSE, 9), 9),
    "momentum(close, 10)": (lambda: talib.MOM(CLOSE, 10), 10),
    "stdev(close, 20)": (lambda: talib.STDDEV(CLOSE, 20), 19),
    "highest(high, 13)": (lambda: talib.MAX(HIGH, 13), 12),
    "lowest(low, 13)": (lambda: talib.MIN(LOW, 13), 12),
    "plus_di(14)": (lambda: talib.PLUS_DI(HIGH, LOW, CLOSE, 14), 500),
    "minus_di(14)": (lambda: talib.MINUS_DI(HIGH, LOW, CLOSE, 14), 500),
    "adx(14)": (lambda: talib.ADX(HIGH, LOW, CLOSE, 14), 500),
    "obv() - obv()[1]": (lambda: np.diff(talib.OBV(CLOSE, VOLUME), prepend=math.nan), 1),
    "sum(close, 12)": (lambda: talib.SUM(CLOSE, 12), 11),
}


@pytest.mark.parametrize("expression", TALIB)
def test_an_indicator_agrees_with_talib_once_both_have_settled(expression: str) -> None:
    compute, settled = TALIB[expression]
    found = evaluate(expression, CANDLES, "15")
    np.testing.assert_allclose(found[settled:], compute()[settled:], rtol=1e-7, atol=1e-7)


def none_to_nan(values: list[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values])


def test_hull_and_volume_weighted_averages_agree_with_talipp() -> None:
    bars = [OHLCV(*row) for row in zip(OPEN, HIGH, LOW, CLOSE, VOLUME, strict=True)]
    hull, weighted = none_to_nan(list(HMA(16, list(CLOSE)))), none_to_nan(list(VWMA(20, bars)))
    np.testing.assert_allclose(evaluate("hma(close, 16)", CANDLES, "15")[30:], hull[30:], rtol=1e-9)
    np.testing.assert_allclose(evaluate("vwma(close, 20)", CANDLES, "15")[30:], weighted[30:], rtol=1e-9)


def test_supertrend_direction_agrees_with_talipp_once_settled() -> None:
    bars = [OHLCV(*row) for row in zip(OPEN, HIGH, LOW, CLOSE, VOLUME, strict=True)]
    theirs = [None if value is None else value.trend.name == "UP" for value in SuperTrend(10, 3, bars)]
    ours = evaluate("supertrend_direction(3, 10) > 0", CANDLES, "15")
    assert ours[200:].tolist() == theirs[200:]


EXAMPLES = {name: known.example() for name, known in REGISTRY.items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_past_of_every_function_never_changes_when_bars_are_added(name: str) -> None:
    whole = evaluate(EXAMPLES[name], CANDLES, "15")
    for rows in (1, 2, 19, 20, 21, 57, 96, 97, 333, N - 1):
        part = evaluate(EXAMPLES[name], CANDLES.take(slice(0, rows)), "15")
        np.testing.assert_array_equal(part, whole[:rows])


@pytest.mark.parametrize("name", sorted(REGISTRY.keys() - FUNCTIONS_WITHOUT_COLUMN_REFERENCE))
def test_every_indicator_survives_flat_empty_and_single_bar_markets(name: str) -> None:
    flat = np.full(120, 7.0)
    candles = Candles(CANDLES.ts[:120], flat, flat, flat, flat, flat, flat)
    found = evaluate(EXAMPLES[name], candles, "15")
    assert not np.isinf(found).any()
    assert len(evaluate(EXAMPLES[name], candles.take(slice(0, 0)), "15")) == 0
    assert len(evaluate(EXAMPLES[name], candles.take(slice(0, 1)), "15")) == 1


def test_flat_markets_have_exactly_no_deviation_even_after_violent_ones() -> None:
    prices = np.concatenate((make_candles(500).close * 1e6, np.full(100, 0.1)))
    candles = Candles(np.arange(600) * STEP_MS, prices, prices, prices, prices, prices, prices)
    assert (evaluate("stdev(close, 20)", candles, "15")[519:] == 0.0).all()


def test_rsi_is_100_where_nothing_falls_and_0_where_nothing_rises() -> None:
    up = np.arange(1.0, 41.0)
    rising = Candles(np.arange(40) * STEP_MS, up, up, up, up, up, up)
    falling = Candles(rising.ts, up[::-1], up[::-1], up[::-1], up[::-1], up, up)
    assert set(evaluate("rsi(close, 14)", rising, "15")[14:]) == {100.0}
    assert set(evaluate("rsi(close, 14)", falling, "15")[14:]) == {0.0}


def test_wilders_smoothing_and_the_seed_of_the_ema_match_hand_worked_values() -> None:
    prices = np.array([2.0, 4.0, 6.0, 8.0, 4.0])
    candles = Candles(np.arange(5) * STEP_MS, prices, prices, prices, prices, prices, prices)
    # Seeds are (2 + 4 + 6) / 3 = 4; EMA alpha 1/2; RMA (4 * 2 + 8) / 3.
    np.testing.assert_allclose(evaluate("ema(close, 3)", candles, "15")[2:], [4.0, 6.0, 5.0])
    np.testing.assert_allclose(evaluate("rma(close, 3)", candles, "15")[2:], [4.0, 16 / 3, (32 / 3 + 4) / 3])
    np.testing.assert_allclose(evaluate("wma(close, 3)", candles, "15")[2:], [28 / 6, 40 / 6, 34 / 6])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_bars_without_a_value_are_skipped_whole(data: st.DataObject) -> None:
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=60)))
    name = data.draw(st.sampled_from(["sma", "ema", "rma", "wma", "sum", "highest", "lowest", "stdev", "rsi"]))
    source = np.where(missing, math.nan, CLOSE[: len(missing)])
    gappy = CANDLES.take(slice(0, len(missing)))
    gappy = Candles(gappy.ts, gappy.open, gappy.high, gappy.low, gappy.close, source, gappy.turnover)
    whole = gappy.take(~missing)
    if len(whole) == 0:
        return
    found = evaluate(f"{name}(volume, 5)", gappy, "15")
    assert np.isnan(found[missing]).all()
    np.testing.assert_array_equal(found[~missing], evaluate(f"{name}(volume, 5)", whole, "15"))


@given(length=st.integers(1, 60), tick=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_windows_of_any_length_agree_with_the_slow_way(length: int, tick: float, seed: int) -> None:
    candles = make_candles(100, seed, tick=tick)
    slow = {"sma": np.mean, "stdev": np.std, "highest": np.max, "lowest": np.min, "sum": np.sum}
    for name, compute in slow.items():
        found = evaluate(f"{name}(close, {length})", candles, "15")
        np.testing.assert_allclose(found, windows(candles.close, length, compute), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_function_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    known = REGISTRY[name]
    assert known.summary.endswith(".")
    assert known.formula or known.expansion
    assert known.source
    assert known.signature().startswith(f"{name}(")


def test_declaring_and_validating_needs_no_compiler() -> None:
    program = (
        "import sys; from engine.core import catalogue; from engine.core.strategy import compile_strategy, explain;"
        "[explain(compile_strategy(document), '15') for document in catalogue.load_all()];"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
