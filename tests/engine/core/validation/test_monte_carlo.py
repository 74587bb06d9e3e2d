"""Monte Carlo of trades and days: what must stay, what must spread, and paths by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.validation.monte_carlo import (
    MonteCarloResult,
    Percentiles,
    bootstrap_days,
    path_figures,
    permute_trades,
    resample_trades,
)
from engine.core.validation.return_matrix import RandomSource
from engine.errors import BadRequest

TRADES = np.array([0.10, -0.05, 0.20, -0.15, 0.02])


def slow_figures(returns: list[float]) -> tuple[float, float, float]:
    equity, peak, deepest, lowest = 1.0, 1.0, 0.0, 1.0
    for change in returns:
        equity *= max(1 + change, 0.0)
        peak, lowest = max(peak, equity), min(lowest, equity)
        deepest = max(deepest, 1 - equity / peak)
    return equity, deepest, lowest


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(-1.5, 3), min_size=4, max_size=4), min_size=1, max_size=6))
def test_paths_are_those_of_the_step_by_step_account(rows: list[list[float]]) -> None:
    found = path_figures(np.array(rows))
    expected = [slow_figures(row) for row in rows]
    for column, figure in enumerate(found):
        assert figure == pytest.approx([values[column] for values in expected], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("random", [np.random.default_rng(1), np.random.RandomState(1)])
def test_the_order_of_trades_changes_the_way_but_not_the_end(random: RandomSource) -> None:
    found = permute_trades(TRADES, 365.25, random, paths=2_000)
    product = math.prod(1 + change for change in TRADES)
    assert found.final == Percentiles(*[pytest.approx(product, rel=1e-12)] * 3)
    assert found.cagr.p50 == pytest.approx(product - 1, rel=1e-9)
    # Largest when both losses follow each other, smallest when the gains keep them apart.
    assert found.max_drawdown.p5 == pytest.approx(0.15)
    assert found.max_drawdown.p95 == pytest.approx(1 - 0.95 * 0.85)


def test_every_order_is_as_likely_as_any_other() -> None:
    # Of two trades the loss comes first in half of the orders, and then the drawdown starts from the capital.
    found = permute_trades(np.array([-0.5, 1.0]), 10.0, np.random.default_rng(2), paths=4_000, ruin_level=0.5)
    assert found.ruin_probability == pytest.approx(0.5, abs=0.03)


def test_resampled_trades_end_where_the_binomial_law_says() -> None:
    found = resample_trades(np.array([-0.5, 1.0]), 365.25, np.random.default_rng(3), paths=20_000, ruin_level=0.25)
    # Two draws: 1/4 end at 0.25, half at 1, 1/4 at 4.
    assert (found.final.p5, found.final.p50, found.final.p95) == (0.25, 1.0, 4.0)
    assert found.ruin_probability == pytest.approx(0.25, abs=0.01)


def test_blocks_of_days_keep_streaks_that_single_days_lose() -> None:
    calm, storm = np.full(40, 0.004), np.full(10, -0.02)
    days = np.tile(np.concatenate((calm, storm)), 10)
    short = bootstrap_days(days, np.random.default_rng(4), paths=400, mean_block=1)
    long = bootstrap_days(days, np.random.default_rng(4), paths=400, mean_block=25)
    assert long.max_drawdown.p95 > short.max_drawdown.p95 * 1.2
    chosen = bootstrap_days(days, np.random.default_rng(4), paths=50)
    assert chosen.mean_block is not None
    assert chosen.mean_block > 5


@pytest.mark.parametrize("run", [permute_trades, resample_trades])
def test_the_same_seed_gives_the_same_result_whatever_the_number_of_chunks(run: Any, monkeypatch: Any) -> None:
    first = run(TRADES, 100.0, np.random.default_rng(5), paths=300)
    assert run(TRADES, 100.0, np.random.default_rng(5), paths=300) == first
    monkeypatch.setattr("engine.core.validation.monte_carlo.CHUNK_VALUES", 64)
    cut = run(TRADES, 100.0, np.random.default_rng(5), paths=300)
    assert cut.max_drawdown == first.max_drawdown
    assert cut.final.p50 == pytest.approx(first.final.p50)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1.2, 2), min_size=1, max_size=12), st.integers(0, 99))
def test_figures_are_ordered_and_bounded(returns: list[float], seed: int) -> None:
    series = np.array(returns)
    results: list[MonteCarloResult] = [
        run(series, 30.0, np.random.default_rng(seed), paths=20) for run in (permute_trades, resample_trades)
    ]
    for found in results:
        assert 0 <= found.max_drawdown.p5 <= found.max_drawdown.p50 <= found.max_drawdown.p95 <= 1
        assert 0 <= found.final.p5 <= found.final.p95
        assert -1 <= found.cagr.p5 <= found.cagr.p95 < math.inf
        assert 0 <= found.ruin_probability <= 1


def test_a_loss_of_everything_is_ruin_and_stays() -> None:
    found = permute_trades(np.array([-1.0, 5.0]), 10.0, np.random.default_rng(6), paths=10, ruin_level=0.0)
    assert (found.final.p50, found.cagr.p50, found.max_drawdown.p50, found.ruin_probability) == (0, -1, 1, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda random: permute_trades(np.empty(0), 10.0, random),
        lambda random: permute_trades(TRADES, 0.0, random),
        lambda random: resample_trades(TRADES, 10.0, random, paths=0),
        lambda random: resample_trades(TRADES, 10.0, random, ruin_level=1.0),
        lambda random: bootstrap_days(TRADES, random),
        lambda random: bootstrap_days(np.full(20, np.nan), random),
    ],
)
def test_what_cannot_be_simulated_is_refused(call: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        call(np.random.default_rng(0))
    assert caught.value.fix
