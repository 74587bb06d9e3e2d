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


def chain_of(length: int, *, maximum: int = 1) -> np.ndarray:
    values = CLOSE
    for _ in range(maximum):
        values = ema_of(values, length)
    return values


def rolling(values: np.ndarray, length: int, compute) -> np.ndarray:
    return after_head(values, lambda valid: windows(valid, length, compute))


def highest_of(values: np.ndarray, length: int) -> np.ndarray:
    return rolling(values, length, np.max)


def lowest_of(values: np.ndarray, length: int) -> np.ndarray:
    return rolling(values, length, np.min)


def sum_of(values: np.ndarray, length: int) -> np.ndarray:
    return rolling(values, length, np.sum)


def kama_of(length: int) -> np.ndarray:
    result = np.full(N, math.nan)
    average = CLOSE[length - 1]
    for row in range(length, N):
        path = np.abs(np.diff(CLOSE[row - length : row + 1])).sum()
        efficiency = abs(CLOSE[row] - CLOSE[row - length]) / path
        average += (efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2 * (CLOSE[row] - average)
        result[row] = average
    return result


def alma_of(length: int) -> np.ndarray:
    weights = [math.exp(-((i - 0.85 * (length - 1)) ** 2) / (2 * (length / 6) ** 2)) for i in range(length)]
    return windows(CLOSE, length, lambda window: float(np.dot(window, weights) / sum(weights)))


def stochastic_rsi_of(length: int, rsi_length: int) -> np.ndarray:
    strength = rsi_of(rsi_length)
    bottom = lowest_of(strength, length)
    return 100 * (strength - bottom) / (highest_of(strength, length) - bottom)


def mfi_of(length: int) -> np.ndarray:
    price = (HIGH + LOW + CLOSE) / 3
    flow, change = price * VOLUME, np.diff(price)
    up = sum_of(np.concatenate(([math.nan], np.where(change > 0, flow[1:], 0))), length)
    down = sum_of(np.concatenate(([math.nan], np.where(change < 0, flow[1:], 0))), length)
    return 100 - 100 / (1 + up / down)


def ultimate_of() -> np.ndarray:
    bottom = np.minimum(LOW[1:], CLOSE[:-1])
    span = np.maximum(HIGH[1:], CLOSE[:-1]) - bottom
    parts = [sum_of(CLOSE[1:] - bottom, n) / sum_of(span, n) for n in (7, 14, 28)]
    return np.concatenate(([math.nan], 100 * (4 * parts[0] + 2 * parts[1] + parts[2]) / 7))


def fisher_of(length: int) -> np.ndarray:
    middle = (HIGH + LOW) / 2
    place = (middle - lowest_of(middle, length)) / (highest_of(middle, length) - lowest_of(middle, length))
    result, value, last = np.full(N, math.nan), 0.0, 0.0
    for row in range(length - 1, N):
        value = 0.66 * (place[row] - 0.5) + 0.67 * value
        value = 0.999 if value > 0.99 else -0.999 if value < -0.99 else value
        last = math.atanh(value) + 0.5 * last
        result[row] = last
    return result


def accumulation_of() -> np.ndarray:
    return np.cumsum((2 * CLOSE - LOW - HIGH) / (HIGH - LOW) * VOLUME)


def aroon_of(values: np.ndarray, length: int, compute) -> np.ndarray:
    return windows(values, length + 1, lambda window: 100 * compute(window) / length)


def fit_of(length: int, what: str) -> np.ndarray:
    x = np.arange(length)

    def line(window: np.ndarray) -> float:
        slope, intercept = np.polyfit(x, window, 1)
        fitted = intercept + slope * (length - 1)
        return {"end": fitted, "slope": slope, "r2": np.corrcoef(x, window)[0, 1] ** 2}[what]

    return windows(CLOSE, length, line)


def parabolic_of() -> np.ndarray:
    """Pine's published listing of ta.sar, line by line."""
    result = np.full(N, math.nan)
    below = CLOSE[1] > CLOSE[0]
    extreme, value, speed = (HIGH[1], LOW[0], 0.02) if below else (LOW[1], HIGH[0], 0.02)
    for row in range(1, N):
        first = row == 1
        value = value + speed * (extreme - value)
        if below:
            if value > LOW[row]:
                first, below, value, extreme, speed = True, False, max(HIGH[row], extreme), LOW[row], 0.02
        elif value < HIGH[row]:
            first, below, value, extreme, speed = True, True, min(LOW[row], extreme), HIGH[row], 0.02
        if not first:
            if below and HIGH[row] > extreme:
                extreme, speed = HIGH[row], min(speed + 0.02, 0.2)
            if not below and LOW[row] < extreme:
                extreme, speed = LOW[row], min(speed + 0.02, 0.2)
        past = slice(max(row - 2, 0), row)
        value = min(value, LOW[past].min()) if below else max(value, HIGH[past].max())
        result[row] = value
    return result


def log_returns() -> np.ndarray:
    return np.concatenate(([math.nan], np.diff(np.log(CLOSE))))


def of_days(compute) -> np.ndarray:
    """Value of the last closed day, 96 quarter hours each; the data starts at midnight."""
    result = np.full(N, math.nan)
    for row in range(95, N):
        end = (row + 1) // 96 * 96
        result[row] = compute(HIGH[end - 96 : end].max(), LOW[end - 96 : end].min(), CLOSE[end - 1])
    return result


def middle_of(length: int) -> np.ndarray:
    return (windows(HIGH, length, np.max) + windows(LOW, length, np.min)) / 2


def volatility_of(values: np.ndarray, length: int) -> np.ndarray:
    return 100 * np.sqrt(365 * windows(values, length, np.mean))


def double_smoothed(values: np.ndarray) -> np.ndarray:
    return ema_of(ema_of(values, 25), 13)


HLC3 = (HIGH + LOW + CLOSE) / 3
HL2 = (HIGH + LOW) / 2
MOVES = np.concatenate(([math.nan], np.diff(CLOSE)))
TRUE_RANGES = np.array(true_ranges())
REFERENCES |= {
    "kama(close, 10)": lambda: kama_of(10),
    "alma(close, 9)": lambda: alma_of(9),
    "trima(close, 8)": lambda: sma_of(sma_of(CLOSE, 5), 4),
    "zlema(close, 11)": lambda: ema_of(2 * CLOSE - lagged(CLOSE, 5), 11),
    "ichimoku_conversion()": lambda: middle_of(9),
    "ichimoku_base()": lambda: middle_of(26),
    "ichimoku_span_a()": lambda: lagged((middle_of(9) + middle_of(26)) / 2, 25),
    "ichimoku_span_b()": lambda: lagged(middle_of(52), 25),
    "pivot()": lambda: of_days(lambda high, low, close: (high + low + close) / 3),
    "pivot_resistance()": lambda: of_days(lambda high, low, close: 2 * (high + low + close) / 3 - low),
    "pivot_support()": lambda: of_days(lambda high, low, close: 2 * (high + low + close) / 3 - high),
    "natr(14)": lambda: 100 * rma_of(TRUE_RANGES, 14) / CLOSE,
    "variance(close, 20)": lambda: windows(CLOSE, 20, np.var),
    "historical_volatility(20, 365)": lambda: 100 * math.sqrt(365) * rolling(log_returns(), 20, np.std),
    "parkinson_volatility(20)": lambda: volatility_of(np.log(HIGH / LOW) ** 2 / (4 * math.log(2)), 20),
    "garman_klass_volatility(20)": lambda: volatility_of(
        0.5 * np.log(HIGH / LOW) ** 2 - (2 * math.log(2) - 1) * np.log(CLOSE / OPEN) ** 2, 20
    ),
    "rogers_satchell_volatility(20)": lambda: volatility_of(
        np.log(HIGH / CLOSE) * np.log(HIGH / OPEN) + np.log(LOW / CLOSE) * np.log(LOW / OPEN), 20
    ),
    "choppiness(14)": lambda: (
        100
        * np.log10(sum_of(TRUE_RANGES, 14) / (windows(HIGH, 14, np.max) - windows(LOW, 14, np.min)))
        / math.log10(14)
    ),
    "ulcer_index(close, 14)": lambda: np.sqrt(
        rolling((100 * (CLOSE / windows(CLOSE, 14, np.max) - 1)) ** 2, 14, np.mean)
    ),
    "mass_index(9, 25)": lambda: sum_of(ema_of(HIGH - LOW, 9) / ema_of(ema_of(HIGH - LOW, 9), 9), 25),
    "stoch_rsi_raw(close, 14, 10)": lambda: stochastic_rsi_of(14, 10),
    "stoch_rsi_k(close, 14, 14, 3)": lambda: sma_of(stochastic_rsi_of(14, 14), 3),
    "stoch_rsi_d(close, 14, 14, 3, 3)": lambda: sma_of(sma_of(stochastic_rsi_of(14, 14), 3), 3),
    "cmo(close, 9)": lambda: 100 * (CLOSE - lagged(CLOSE, 9)) / sum_of(np.abs(MOVES), 9),
    "trix(close, 18)": lambda: 100 * (chain_of(18, maximum=3) / lagged(chain_of(18, maximum=3), 1) - 1),
    "ultimate_oscillator()": ultimate_of,
    "fisher(9)": lambda: fisher_of(9),
    "ppo(close)": lambda: 100 * (ema_of(CLOSE, 12) / ema_of(CLOSE, 26) - 1),
    "tsi(close)": lambda: double_smoothed(MOVES) / double_smoothed(np.abs(MOVES)),
    "awesome_oscillator()": lambda: sma_of(HL2, 5) - sma_of(HL2, 34),
    "coppock(close)": lambda: wma_of(100 * (CLOSE / lagged(CLOSE, 14) + CLOSE / lagged(CLOSE, 11) - 2), 10),
    "dpo(close, 21)": lambda: CLOSE - lagged(sma_of(CLOSE, 21), 11),
    "balance_of_power()": lambda: (CLOSE - OPEN) / (HIGH - LOW),
    "bull_power(13)": lambda: HIGH - ema_of(CLOSE, 13),
    "bear_power(13)": lambda: LOW - ema_of(CLOSE, 13),
    "aroon_up(14)": lambda: aroon_of(HIGH, 14, np.argmax),
    "aroon_down(14)": lambda: aroon_of(LOW, 14, np.argmin),
    "aroon_oscillator(14)": lambda: aroon_of(HIGH, 14, np.argmax) - aroon_of(LOW, 14, np.argmin),
    "psar()": parabolic_of,
    "vortex_plus(14)": lambda: sum_of(np.abs(HIGH - lagged(LOW, 1)), 14) / sum_of(TRUE_RANGES, 14),
    "vortex_minus(14)": lambda: sum_of(np.abs(LOW - lagged(HIGH, 1)), 14) / sum_of(TRUE_RANGES, 14),
    "mfi(hlc3, 14)": lambda: mfi_of(14),
    "accumulation_distribution()": accumulation_of,
    "chaikin_oscillator()": lambda: ema_of(accumulation_of(), 3) - ema_of(accumulation_of(), 10),
    "cmf(20)": lambda: windows((2 * CLOSE - LOW - HIGH) / (HIGH - LOW) * VOLUME, 20, np.sum) / sum_of(VOLUME, 20),
    "rolling_vwap(20)": lambda: sum_of(HLC3 * VOLUME, 20) / sum_of(VOLUME, 20),
    "force_index(13)": lambda: ema_of(MOVES * VOLUME, 13),
    "ease_of_movement(14)": lambda: sma_of(10000 * (HL2 - lagged(HL2, 1)) * (HIGH - LOW) / VOLUME, 14),
    "volume_oscillator(5, 10)": lambda: 100 * (ema_of(VOLUME, 5) / ema_of(VOLUME, 10) - 1),
    "linreg(close, 14)": lambda: fit_of(14, "end"),
    "linreg_slope(close, 14)": lambda: fit_of(14, "slope"),
    "linreg_r2(close, 14)": lambda: fit_of(14, "r2"),
    "percent_rank(close, 50)": lambda: windows(CLOSE, 51, lambda window: 100 * np.mean(window[:-1] <= window[-1])),
}
FUNCTIONS_WITHOUT_COLUMN_REFERENCE = {name for name, known in REGISTRY.items() if known.family == "functions"}


def test_every_indicator_has_a_slow_reference() -> None:
    referenced = {text.split("(")[0] for text in REFERENCES}
    assert REGISTRY.keys() - FUNCTIONS_WITHOUT_COLUMN_REFERENCE == referenced - {"change"}


# The declared figure is for data that may start inside a day; these candles start at midnight.
DAYS_KNOWN_WHOLE = dict.fromkeys(("pivot()", "pivot_resistance()", "pivot_support()"), 95)


@pytest.mark.parametrize("expression", REFERENCES)
def test_an_indicator_equals_its_slow_reference_from_the_declared_bar_on(expression: str) -> None:
    expected = REFERENCES[expression]()
    found = evaluate(expression, CANDLES, "15")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert int(np.isnan(found).sum()) == warmup(expression, interval="15") - DAYS_KNOWN_WHOLE.get(expression, 0)


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
    "kama(close, 10)": (lambda: talib.KAMA(CLOSE, 10), 10),
    "trima(close, 8)": (lambda: talib.TRIMA(CLOSE, 8), 7),
    "variance(close, 20)": (lambda: talib.VAR(CLOSE, 20), 19),
    "natr(14)": (lambda: talib.NATR(HIGH, LOW, CLOSE, 14), 400),
    "stoch_rsi_raw(close, 14, 10)": (lambda: talib.STOCHRSI(CLOSE, 10, 14, 1)[0], 23),
    "ppo(close)": (lambda: talib.PPO(CLOSE, 12, 26, 1), 25),
    "trix(close, 18)": (lambda: talib.TRIX(CLOSE, 18), 52),
    "ultimate_oscillator()": (lambda: talib.ULTOSC(HIGH, LOW, CLOSE), 28),
    "balance_of_power()": (lambda: talib.BOP(OPEN, HIGH, LOW, CLOSE), 0),
    "aroon_up(14)": (lambda: talib.AROON(HIGH, LOW, 14)[1], 14),
    "aroon_down(14)": (lambda: talib.AROON(HIGH, LOW, 14)[0], 14),
    "mfi(hlc3, 14)": (lambda: talib.MFI(HIGH, LOW, CLOSE, VOLUME, 14), 14),
    "accumulation_distribution()": (lambda: talib.AD(HIGH, LOW, CLOSE, VOLUME), 0),
    "chaikin_oscillator()": (lambda: talib.ADOSC(HIGH, LOW, CLOSE, VOLUME, 3, 10), 300),
    "linreg(close, 14)": (lambda: talib.LINEARREG(CLOSE, 14), 13),
    "linreg_slope(close, 14)": (lambda: talib.LINEARREG_SLOPE(CLOSE, 14), 13),
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
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0


@pytest.mark.parametrize("scale", [1e-8, 1e9])
@pytest.mark.parametrize(
    ("name", "compute"), [("sma", np.mean), ("stdev", np.std), ("sum", np.sum), ("linreg_slope", None)]
)
def test_window_sums_do_not_drift_over_five_million_bars(scale: float, name: str, compute) -> None:
    rows = 5_000_000
    random = np.random.default_rng(3)
    # A violent past must leave nothing behind.
    prices = scale * np.exp(np.cumsum(random.normal(0, 0.0005, rows)))
    prices[1_000_000:1_001_000] *= 1e6
    candles = Candles(np.arange(rows) * 60_000, *(prices,) * 6)
    found = evaluate(f"{name}(close, 50)", candles, "1")
    for row in (1_001_100, 3_333_333, rows - 1):
        window = prices[row - 49 : row + 1]
        expected = np.polyfit(np.arange(50), window / scale, 1)[0] * scale if compute is None else compute(window)
        assert found[row] == pytest.approx(expected, rel=1e-8)
