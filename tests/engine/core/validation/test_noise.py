"""Candles without an edge: valid bars, the moments asked for, and nothing left of the order of the original."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.validation.noise import (
    Garch,
    average_true_range,
    jitter_candles,
    random_walk_candles,
    shuffle_blocks,
)
from engine.core.validation.return_matrix import RandomSource
from engine.errors import BadRequest

HOUR_MS = 3_600_000


def times(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * HOUR_MS


def market(count: int = 600, seed: int = 1) -> Candles:
    return random_walk_candles(times(count), np.random.default_rng(seed), volatility=0.01)


def is_valid(candles: Candles) -> bool:
    inside = (candles.low <= np.minimum(candles.open, candles.close)) & (
        np.maximum(candles.open, candles.close) <= candles.high
    )
    return bool(inside.all() and (candles.low > 0).all() and all(np.isfinite(c).all() for c in candles.columns()))


def on_ticks(candles: Candles, tick: float) -> bool:
    return all(
        np.allclose(column / tick, np.round(column / tick), atol=1e-6)
        for column in (candles.open, candles.high, candles.low, candles.close)
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    multiple=st.floats(0, 50),
    block=st.integers(1, 80),
    tick=st.sampled_from([0.0, 0.5, 1.0]),
    is_legacy=st.booleans(),
)
def test_made_candles_are_valid_and_on_ticks(
    seed: int, count: int, multiple: float, block: int, tick: float, is_legacy: bool
) -> None:
    random: RandomSource = np.random.RandomState(seed) if is_legacy else np.random.default_rng(seed)
    walk = random_walk_candles(times(count), random, 100.0, 0.05, Garch(), tick_size=tick)
    for made in (
        walk,
        jitter_candles(walk, random, multiple, tick),
        shuffle_blocks(walk, random, block, tick_size=tick),
    ):
        assert is_valid(made)
        assert not tick or on_ticks(made, tick)
        assert made.ts.tolist() == times(count).tolist()


def test_the_error_of_jitter_is_in_proportion_to_the_range() -> None:
    candles = market(4_000)
    blurred = jitter_candles(candles, np.random.default_rng(2), 0.25)
    relative = (blurred.close - candles.close) / average_true_range(candles)
    assert relative.std() == pytest.approx(0.25, rel=0.05)
    assert abs(relative.mean()) < 0.02
    # Bars adjoin as they did.
    assert blurred.open[1:] == pytest.approx(blurred.close[:-1])
    assert blurred.volume.tolist() == candles.volume.tolist()


def test_no_jitter_changes_nothing() -> None:
    candles = market(50)
    assert jitter_candles(candles, np.random.default_rng(1), 0.0).sha256() == candles.sha256()


def test_the_true_range_is_averaged_over_the_bars_so_far_up_to_fourteen() -> None:
    candles = market(40)
    ranges = [
        max(high, before) - min(low, before)
        for high, low, before in zip(candles.high, candles.low, [candles.open[0], *candles.close[:-1]], strict=True)
    ]
    expected = [np.mean(ranges[max(0, row - 13) : row + 1]) for row in range(40)]
    assert average_true_range(candles) == pytest.approx(expected)


def test_shuffled_blocks_keep_every_bar_and_the_end_but_not_the_order() -> None:
    candles = market(605)
    shuffled = shuffle_blocks(candles, np.random.default_rng(3), 24, keeps_drift=True)
    assert shuffled.close[-1] == pytest.approx(candles.close[-1])

    def shapes(made: Candles) -> np.ndarray:
        return np.sort(made.high / made.low)

    assert shapes(shuffled) == pytest.approx(shapes(candles))
    assert np.sort(shuffled.volume).tolist() == np.sort(candles.volume).tolist()
    before, after = np.diff(np.log(candles.close)), np.diff(np.log(shuffled.close))
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.15


def test_without_drift_the_shuffled_market_ends_where_it_began() -> None:
    rising = market(500)
    tilt = np.exp(0.002 * np.arange(501))
    rising = Candles(
        rising.ts, rising.open * tilt[:-1], rising.high * tilt[1:], rising.low * tilt[:-1], rising.close * tilt[1:],
        rising.volume, rising.turnover,
    )  # fmt: skip
    shuffled = shuffle_blocks(rising, np.random.default_rng(4))
    assert is_valid(shuffled)
    assert shuffled.close[-1] == pytest.approx(rising.open[0], rel=1e-9)


def test_blocks_stay_whole() -> None:
    candles = market(400)
    shuffled = shuffle_blocks(candles, np.random.default_rng(5), 50, keeps_drift=True)
    place = {round(float(value), 6): row for row, value in enumerate(candles.volume)}
    rows = np.array([place[round(float(value), 6)] for value in shuffled.volume])
    assert sorted(rows) == list(range(400))
    assert ((np.diff(rows) % 400) == 1).sum() >= 400 - 8


def test_a_random_walk_has_the_volatility_asked_for_and_no_drift() -> None:
    candles = random_walk_candles(times(20_000), np.random.default_rng(6), 100.0, 0.004)
    returns = np.diff(np.log(candles.close))
    assert returns.std() == pytest.approx(0.004, rel=0.02)
    simple = np.diff(candles.close) / candles.close[:-1]
    assert abs(simple.mean()) < 3 * 0.004 / math.sqrt(20_000)
    assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(returns[1:] ** 2, returns[:-1] ** 2)[0, 1]) < 0.03
    assert candles.open[1:].tolist() == candles.close[:-1].tolist()
    # The mean range of 16 normal steps lies well below that of a continuous path, 1.6 deviations.
    ranges = np.log(candles.high / candles.low)
    assert 1.2 < ranges.mean() / 0.004 < 1.6


def test_garch_clusters_volatility_around_the_same_long_run_level() -> None:
    candles = random_walk_candles(
        times(60_000), np.random.default_rng(7), 100.0, 0.004, Garch(0.1, 0.85), steps_per_bar=4
    )
    returns = np.diff(np.log(candles.close))
    assert returns.std() == pytest.approx(0.004, rel=0.05)
    squares = returns**2
    # Bollerslev 1986: lag-one autocorrelation a (1 - a b - b^2) / (1 - 2 a b - b^2).
    expected = 0.1 * (1 - 0.1 * 0.85 - 0.85**2) / (1 - 2 * 0.1 * 0.85 - 0.85**2)
    assert np.corrcoef(squares[1:], squares[:-1])[0, 1] == pytest.approx(expected, abs=0.06)
    assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.02


def test_the_same_seed_makes_the_same_candles() -> None:
    assert market(30, 9).sha256() == market(30, 9).sha256() != market(30, 10).sha256()


def test_empty_and_single_candles_pass_through() -> None:
    random = np.random.default_rng(1)
    assert len(jitter_candles(Candles.empty(), random)) == 0
    assert len(shuffle_blocks(Candles.empty(), random)) == 0
    assert len(random_walk_candles(times(0), random)) == 0
    assert shuffle_blocks(market(1), random).sha256() == market(1).sha256()


@pytest.mark.parametrize(
    "call",
    [
        lambda random: jitter_candles(market(5), random, -1.0),
        lambda random: jitter_candles(market(5), random, math.nan),
        lambda random: shuffle_blocks(market(5), random, 0),
        lambda random: random_walk_candles(times(5), random, 0.0),
        lambda random: random_walk_candles(times(5), random, 1.0, 2.0),
        lambda random: random_walk_candles(times(5), random, garch=Garch(0.5, 0.5)),
    ],
)
def test_arguments_without_sense_are_refused(call: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        call(np.random.default_rng(0))
    assert caught.value.fix
