"""The benchmark's market: one-minute candles of a random walk with stochastic volatility, always the same ones."""

from __future__ import annotations

import numpy as np

from engine.core.candles import Candles

SEED = 20_261_122
MINUTES_A_YEAR = 525_600
START_MS = 1_640_995_200_000
TICK = 0.1


def make_candles(bars: int, seed: int = SEED) -> Candles:
    """Return geometric Brownian motion, 60 % a year, hourly log-volatility AR(1), rare jumps and gaps, tick 0.1 at 30,000."""
    rng = np.random.default_rng(seed)
    hours = bars // 60 + 1
    log_volatility = np.empty(hours)
    level = 0.0
    for hour, shock in enumerate(rng.normal(0, 0.12, hours)):
        level = 0.97 * level + shock
        log_volatility[hour] = level
    sigma = 0.6 / np.sqrt(MINUTES_A_YEAR) * np.exp(np.repeat(log_volatility, 60)[:bars])
    moves = rng.normal(0, 1, bars) * sigma
    moves += np.where(rng.random(bars) < 2e-5, rng.normal(0, 0.01, bars), 0)
    gaps = np.where(rng.random(bars) < 1e-3, rng.normal(0, 5e-4, bars), 0)
    close = 30_000 * np.exp(np.cumsum(moves + gaps))
    open_ = np.concatenate(([30_000.0], close[:-1])) * np.exp(gaps)
    reach = np.abs(rng.normal(0, 0.6, (2, bars))) * sigma
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    columns = [np.maximum(np.round(column / TICK), 1) * TICK for column in (open_, high, low, close)]
    volume = rng.lognormal(0, 1, bars)
    return Candles(START_MS + np.arange(bars, dtype=np.int64) * 60_000, *columns, volume, volume * columns[3])
