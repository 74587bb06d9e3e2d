"""Every indicator TA-Lib has too, side by side with it on one million bars: medians of alternating runs, one core.

Both sides return fresh columns; where TA-Lib returns several, ours are asked for together, as a strategy would.
Run: python tests/benchmarks/indicators.py [bars]
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import talib

from engine.core.candles import Candles
from engine.core.expressions import Evaluator, tree_of

ROUNDS = 9


def make_candles(rows: int) -> Candles:
    """Return a seeded random walk of minutes."""
    random = np.random.default_rng(7)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.0005, rows)))
    opened = np.concatenate((close[:1], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.0005, rows))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.0005, rows))
    volume = random.uniform(1, 100, rows)
    return Candles(np.arange(rows, dtype=np.int64) * 60_000, opened, high, low, close, volume, volume * close)


def cases(candles: Candles) -> dict[tuple[str, ...], Callable[[], object]]:
    """Return what TA-Lib does for the expressions of each line."""
    opened, high, low, close, volume = candles.open, candles.high, candles.low, candles.close, candles.volume
    return {
        ("ema(close, 20)",): lambda: talib.EMA(close, 20),
        ("rsi(close, 14)",): lambda: talib.RSI(close, 14),
        ("atr(14)",): lambda: talib.ATR(high, low, close, 14),
        ("bb_upper(close)", "bb_middle(close)", "bb_lower(close)"): lambda: talib.BBANDS(close, 20),
        ("macd(close)", "macd_signal(close)", "macd_hist(close)"): lambda: talib.MACD(close),
        ("sma(close, 20)",): lambda: talib.SMA(close, 20),
        ("wma(close, 20)",): lambda: talib.WMA(close, 20),
        ("dema(close, 20)",): lambda: talib.DEMA(close, 20),
        ("tema(close, 20)",): lambda: talib.TEMA(close, 20),
        ("trima(close, 20)",): lambda: talib.TRIMA(close, 20),
        ("kama(close, 10)",): lambda: talib.KAMA(close, 10),
        ("sum(close, 20)",): lambda: talib.SUM(close, 20),
        ("highest(high, 14)",): lambda: talib.MAX(high, 14),
        ("lowest(low, 14)",): lambda: talib.MIN(low, 14),
        ("stdev(close, 20)",): lambda: talib.STDDEV(close, 20),
        ("variance(close, 20)",): lambda: talib.VAR(close, 20),
        ("tr()",): lambda: talib.TRANGE(high, low, close),
        ("natr(14)",): lambda: talib.NATR(high, low, close, 14),
        ("stoch_k(14, 3)", "stoch_d(14, 3, 3)"): lambda: talib.STOCH(high, low, close, 14, 3, 0, 3),
        ("stoch_rsi_raw(close)",): lambda: talib.STOCHRSI(close, 14, 14, 1),
        ("cci(hlc3, 20)",): lambda: talib.CCI(high, low, close, 20),
        ("williams_r(14)",): lambda: talib.WILLR(high, low, close, 14),
        ("roc(close, 9)",): lambda: talib.ROC(close, 9),
        ("momentum(close, 10)",): lambda: talib.MOM(close, 10),
        ("ppo(close)",): lambda: talib.PPO(close, 12, 26, 1),
        ("trix(close, 18)",): lambda: talib.TRIX(close, 18),
        ("ultimate_oscillator()",): lambda: talib.ULTOSC(high, low, close),
        ("balance_of_power()",): lambda: talib.BOP(opened, high, low, close),
        ("plus_di(14)",): lambda: talib.PLUS_DI(high, low, close, 14),
        ("minus_di(14)",): lambda: talib.MINUS_DI(high, low, close, 14),
        ("adx(14)",): lambda: talib.ADX(high, low, close, 14),
        ("aroon_up(14)", "aroon_down(14)"): lambda: talib.AROON(high, low, 14),
        ("psar()",): lambda: talib.SAR(high, low, 0.02, 0.2),
        ("obv()",): lambda: talib.OBV(close, volume),
        ("accumulation_distribution()",): lambda: talib.AD(high, low, close, volume),
        ("chaikin_oscillator()",): lambda: talib.ADOSC(high, low, close, volume, 3, 10),
        ("mfi(hlc3, 14)",): lambda: talib.MFI(high, low, close, volume, 14),
        ("linreg(close, 14)",): lambda: talib.LINEARREG(close, 14),
        ("linreg_slope(close, 14)",): lambda: talib.LINEARREG_SLOPE(close, 14),
    }


def seconds(run: Callable[[], object]) -> float:
    """Return how long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print one line a case: ours and TA-Lib's milliseconds and the ratio (above 1: ours is faster)."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    candles = make_candles(rows)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{rows:,} bars, {ROUNDS} alternating rounds, medians; load {load:.2f}; TA-Lib {talib.__version__}")
    gc.disable()
    for texts, theirs in cases(candles).items():
        trees = [tree_of(text) for text in texts]

        def ours(trees: list = trees) -> list:
            evaluator = Evaluator(candles, "1")
            evaluator.expect(trees)
            return [evaluator.numbers(tree) for tree in trees]

        ours(), theirs()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
        mine, other = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{' + '.join(texts):60} {mine:8.2f} {other:8.2f} {other / mine:6.2f}")


if __name__ == "__main__":
    main()
