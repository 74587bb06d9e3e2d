"""Artificial markets whose truth is known: noise in which no rule has an edge, and the same noise with one planted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn

HOUR_MS = 3_600_000
HOURS_PER_YEAR = 8_760
START_MS = 1_609_459_200_000  # 2021-01-01
FIRST_PRICE = 20_000.0
ANNUAL_VOLATILITY = 0.6

Noise = Literal["gbm", "garch", "shuffled"]
NOISES: tuple[Noise, ...] = ("gbm", "garch", "shuffled")
Edge = Literal["trend", "reversion", "calendar"]
EDGES: tuple[Edge, ...] = ("trend", "reversion", "calendar")

# Drift with the rule, in standard deviations of an hourly return, at which the exact rule earns a Sharpe ratio of 2 a year
# after the costs of `searcher.COSTS`; `calibration.py` finds them and a test checks them on other seeds.
DRIFT_FOR_SHARPE_2: dict[Edge, float] = {"trend": 0.02478, "reversion": 0.03654, "calendar": 0.07352}
# The exact rules, as the strategy language writes them.
RULES: dict[Edge, str] = {
    "trend": "ema(close, 24) > ema(close, 96)",
    "reversion": "close < sma(close, 72)",
    "calendar": "hour >= 13 and hour < 19",
}
_SIDES: dict[Edge, int] = {"trend": 0, "reversion": 1, "calendar": 2}


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """One artificial market: hourly candles and what is true of them."""

    candles: Candles
    noise: Noise
    edge: Edge | None
    seed: int


def make_world(
    seed: int, noise: Noise, bars: int, *, edge: Edge | None = None, real_returns: FloatColumn | None = None,
    strength: float = 1.0,
) -> World:  # fmt: skip
    """Return a market of `bars` hourly candles; the same arguments give the same bytes.

    Parameters
    ----------
    seed : int
    noise : {"gbm", "garch", "shuffled"}
        Independent normal returns; GARCH(1,1) with Student-t innovations; blocks of 24 real returns in random order, every
        one with a random sign.
    edge : {"trend", "reversion", "calendar"}, optional
        The rule in whose direction prices drift.
    real_returns : ndarray of float64, optional
        Hourly log returns for `shuffled`.
    strength : float
        Multiple of the drift that earns a Sharpe ratio of 2.
    """
    rng = np.random.default_rng(seed)
    returns, sigma = _noise(rng, noise, bars, real_returns)
    if edge is not None:
        returns = _drifting(returns, _SIDES[edge], DRIFT_FOR_SHARPE_2[edge] * strength * sigma)
    return World(_candles(returns, sigma, rng), noise, edge, seed)


def _noise(
    rng: np.random.Generator, noise: Noise, bars: int, real_returns: FloatColumn | None
) -> tuple[FloatColumn, float]:
    sigma = ANNUAL_VOLATILITY / math.sqrt(HOURS_PER_YEAR)
    if noise == "gbm":
        return sigma * rng.standard_normal(bars), sigma
    if noise == "garch":
        # Bollerslev 1986; persistence as commonly estimated on hourly crypto returns.
        return _garch(rng.standard_t(5, bars) / math.sqrt(5 / 3), sigma, 0.08, 0.90), sigma
    if real_returns is None:
        raise ValueError("shuffled noise needs real returns")
    centred = real_returns - real_returns.mean()
    starts = rng.integers(0, len(centred) - 24, -(-bars // 24))
    rows = (starts[:, None] + np.arange(24)).ravel()[:bars]
    # A random sign for every hour leaves volatility clusters and fat tails, and takes away whatever the real market's own
    # hours said about the next: with one sign a block, hourly reversals stayed in, and were found.
    return rng.choice((-1.0, 1.0), bars) * centred[rows], float(centred.std())


@njit(cache=True)
def _garch(innovations: FloatColumn, sigma: float, alpha: float, beta: float) -> FloatColumn:
    returns = np.empty(len(innovations))
    variance = sigma * sigma
    base = variance * (1.0 - alpha - beta)
    for bar in range(len(innovations)):
        returns[bar] = math.sqrt(variance) * innovations[bar]
        variance = base + alpha * returns[bar] ** 2 + beta * variance
    return returns


@njit(cache=True)
def _drifting(noise: FloatColumn, rule: int, drift: float) -> FloatColumn:
    """Return returns that drift by `drift` in the direction the rule shows at the close before."""
    bars = len(noise)
    returns = np.empty(bars)
    closes = np.empty(bars)
    price = FIRST_PRICE
    fast = slow = price
    total = 0.0
    for bar in range(bars):
        side = 0.0
        if rule == 0 and bar > 300:
            side = 1.0 if fast > slow else -1.0
        elif rule == 1 and bar > 300:
            side = 1.0 if price < total / 72.0 else -1.0
        elif rule == 2:
            # Decided at the close before: a position of 13 to 19 is held over the hours 14 to 20.
            hour = (bar - 1) % 24
            side = 1.0 if 13 <= hour < 19 else 0.0
        returns[bar] = noise[bar] + drift * side
        price *= math.exp(returns[bar])
        closes[bar] = price
        fast += 2.0 / 25.0 * (price - fast)
        slow += 2.0 / 97.0 * (price - slow)
        total += price - (closes[bar - 72] if bar >= 72 else 0.0)
    return returns


def _candles(returns: FloatColumn, sigma: float, rng: np.random.Generator) -> Candles:
    bars = len(returns)
    close = FIRST_PRICE * np.exp(np.cumsum(returns))
    open_ = np.concatenate(([FIRST_PRICE], close[:-1]))
    reach: NDArray[np.float64] = np.exp(0.4 * sigma * np.abs(rng.standard_normal((2, bars))))
    ones = np.ones(bars)
    return Candles(
        ts=START_MS + HOUR_MS * np.arange(bars, dtype=np.int64), open=open_,
        high=np.maximum(open_, close) * reach[0], low=np.minimum(open_, close) / reach[1],
        close=close, volume=ones, turnover=ones * close,
    )  # fmt: skip
