"""Made-up markets with a known character, the same on every machine: what a strategy is tried on, never judged by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.analysis.market_data import SCENARIO_PREFIX
from engine.core.candles import Candles, FloatColumn
from engine.core.series import FeedName, Series
from engine.core.timeframes import Interval, floor_open, step_ms
from engine.core.times import parse_time_ms
from engine.errors import BadRequest

BARS = 2_000
SEED = 7
START_PRICE = 100.0
# An hour's deviation; other intervals scale with the root of time.
HOURLY_VOLATILITY = 0.006
LARGEST_VOLATILITY = 0.03
GAP = 0.08
_END_MS = parse_time_ms("2025-01-01")
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Character:
    """One made-up market: its name, what it is like, and its log price path."""

    name: str
    what: str
    path: Callable[[FloatColumn, float], FloatColumn]
    jumps: bool = False
    quiet: bool = False

    def series(self, feed: FeedName, interval: Interval) -> Series:
        """Return the name its candles are stored under."""
        return Series(feed, "linear", f"{SCENARIO_PREFIX}{self.name.upper().replace('_', '-')}", "trade", interval)


def _trend(direction: float) -> Callable[[FloatColumn, float], FloatColumn]:
    return lambda shocks, volatility: np.cumsum(volatility * (shocks + direction * 0.12))


def _sideways(shocks: FloatColumn, volatility: float) -> FloatColumn:
    path = np.empty(len(shocks))
    level = 0.0
    for row, shock in enumerate((volatility * shocks).tolist()):
        level = 0.98 * level + shock
        path[row] = level
    return path


def _crash(shocks: FloatColumn, volatility: float) -> FloatColumn:
    count = len(shocks)
    first, last = int(0.7 * count), int(0.73 * count)
    moves = volatility * (0.5 * shocks + 0.03)
    moves[first:last] = 3.0 * volatility * shocks[first:last]
    # Half of the price goes, whatever the shocks add up to.
    moves[first:last] += (math.log(0.5) - moves[first:last].sum()) / (last - first)
    moves[last:] = volatility * shocks[last:]
    return np.cumsum(moves)


CHARACTERS: tuple[Character, ...] = (
    Character("trend_up", "a steady rise", _trend(1.0)),
    Character("trend_down", "a steady fall", _trend(-1.0)),
    Character("sideways", "swings around one price", _sideways),
    Character("crash", "a quiet rise, then half of the price lost within 3 % of the bars", _crash),
    Character("gaps", f"sideways, with opens {GAP:.0%} away from the last close", _sideways, jumps=True),
    Character("low_volume", "the prices of sideways with a fiftieth of its volume", _sideways, quiet=True),
)


def scenario_candles(character: Character, interval: Interval) -> Candles:
    """Return the candles of a made-up market; the same for the same interval."""
    if interval in ("W", "M"):
        raise BadRequest(f"interval {interval} has too few bars", fix="use D or shorter")
    step = step_ms(interval)
    end_ms = floor_open(interval, _END_MS)
    ts = end_ms - step * np.arange(BARS, 0, -1, dtype=np.int64)
    volatility = min(HOURLY_VOLATILITY * math.sqrt(step / _HOUR_MS), LARGEST_VOLATILITY)
    random = np.random.default_rng(SEED)
    shocks, up, down, busy = random.standard_normal((4, BARS))
    path = character.path(shocks, volatility)
    jump = np.zeros(BARS)
    if character.jumps:
        rows = np.arange(BARS // 10, BARS, BARS // 10)
        jump[rows] = GAP * np.where(np.arange(len(rows)) % 2 == 0, 1.0, -1.0)
    before = np.concatenate(([0.0], path[:-1])) + np.concatenate(([0.0], np.cumsum(jump)[:-1]))
    close = START_PRICE * np.exp(path + np.cumsum(jump))
    open_ = START_PRICE * np.exp(before + jump)
    reach = 0.5 * volatility
    high = np.maximum(open_, close) * np.exp(reach * np.abs(up))
    low = np.minimum(open_, close) * np.exp(-reach * np.abs(down))
    volume = 1_000.0 * np.exp(0.5 * busy) / (50.0 if character.quiet else 1.0)
    return Candles(ts, open_, high, low, close, volume, volume * close)
