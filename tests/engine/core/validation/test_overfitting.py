"""The probability of overfitting against the slow obvious version, split by split."""

from __future__ import annotations

import itertools
import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.core.validation.overfitting import probability_of_overfitting
from engine.errors import BadRequest

Matrix = NDArray[np.float64]


def slow_splits(returns: Matrix, blocks: int) -> tuple[list[float], list[float], list[float]]:
    """Return logits, chosen and found Sharpe ratios by the definition."""
    length = returns.shape[1] // blocks
    cut = [list(range(block * length, (block + 1) * length)) for block in range(blocks)]
    logits, chosen, found = [], [], []

    def sharpes(rows: list[int]) -> list[float]:
        part = [[float(series[row]) for row in rows] for series in returns]
        return [
            statistics.fmean(values) / statistics.stdev(values) if max(values) > min(values) else 0.0 for values in part
        ]

    for half in itertools.combinations(range(blocks), blocks // 2):
        inside = sharpes([row for block in half for row in cut[block]])
        outside = sharpes([row for block in range(blocks) if block not in half for row in cut[block]])
        best = inside.index(max(inside))
        below = sum(value < outside[best] - 1e-12 for value in outside)
        equal = sum(abs(value - outside[best]) <= 1e-12 for value in outside)
        rank = (below + (equal + 1) / 2) / (len(returns) + 1)
        logits.append(math.log(rank / (1 - rank)))
        chosen.append(inside[best])
        found.append(outside[best])
    return logits, chosen, found


@pytest.mark.parametrize(("trials", "days", "blocks"), [(2, 12, 6), (9, 47, 6), (5, 80, 8), (4, 8, 2)])
def test_every_split_is_that_of_the_definition(trials: int, days: int, blocks: int) -> None:
    returns = np.random.default_rng(trials).normal(0.1, 1.0, (trials, days))
    returns[0] = 0.0
    logits, chosen, found = slow_splits(returns, blocks)
    result = probability_of_overfitting(returns, blocks)
    assert result.logits == pytest.approx(np.array(logits), abs=1e-9)
    assert result.pbo == sum(logit <= 1e-12 for logit in logits) / len(logits)
    assert result.probability_of_loss == sum(value < 0 for value in found) / len(found)
    assert result.median_out_of_sample_sharpe == pytest.approx(statistics.median(found), abs=1e-9)
    slope, _ = statistics.linear_regression(chosen, found) if max(chosen) > min(chosen) else (0.0, 0.0)
    assert result.degradation_slope == pytest.approx(slope, abs=1e-7)
    assert (result.splits, result.trials, result.observations) == (len(logits), trials, days // blocks * blocks)


def test_it_equals_ffn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ffn = pytest.importorskip("ffn", reason="ffn is in the dependency group oracles")
        pandas = pytest.importorskip("pandas", reason="pandas comes with the dependency group oracles")
    returns = np.random.default_rng(20261122).normal(0, 0.01, (30, 300))
    expected = ffn.calc_prob_backtest_overfitting(pandas.DataFrame(returns.T), n_blocks=8, full_output=True)
    found = probability_of_overfitting(returns, 8)
    assert found.pbo == expected["pbo"]
    assert found.logits == pytest.approx(expected["logits"].to_numpy(), abs=1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    trials=st.integers(2, 12),
    days=st.integers(16, 60),
    scale=st.floats(1e-4, 1e4),
    seed=st.integers(0, 2**32 - 1),
)
def test_scale_and_order_of_trials_do_not_matter(trials: int, days: int, scale: float, seed: int) -> None:
    draws = np.random.default_rng(seed)
    returns = draws.standard_normal((trials, days))
    found = probability_of_overfitting(returns, 8)
    mixed = probability_of_overfitting(scale * returns[draws.permutation(trials)], 8)
    assert mixed.logits == pytest.approx(found.logits, abs=1e-9)
    assert 0 <= found.pbo <= 1
    assert 0 <= found.probability_of_loss <= 1


def test_trials_that_are_all_alike_are_never_chosen_with_skill() -> None:
    alike = np.tile(np.random.default_rng(1).standard_normal(64), (5, 1))
    # All ranks tie at the middle, which counts as overfit.
    assert probability_of_overfitting(alike, 8).pbo == 1.0
    flat = probability_of_overfitting(np.zeros((5, 64)), 8)
    assert (flat.pbo, flat.degradation_slope, flat.probability_of_loss) == (1.0, 0.0, 0.0)


def test_a_lasting_edge_is_not_overfit_and_a_reversing_one_is() -> None:
    returns = np.random.default_rng(2).normal(0, 1, (20, 400))
    steady = returns.copy()
    steady[3] += 0.5
    assert probability_of_overfitting(steady, 8).pbo == 0.0
    # Trials that win in one half lose in the other by the same amount.
    sides = np.where(np.arange(400) // 50 % 2 == 0, 1.0, -1.0)
    reversing = returns + 0.3 * np.linspace(-1, 1, 20)[:, None] * sides
    found = probability_of_overfitting(reversing, 8)
    assert found.pbo > 0.5
    assert found.degradation_slope < -0.5


@pytest.mark.parametrize(
    ("shape", "blocks"), [((2, 40), 7), ((2, 40), 0), ((2, 400), 22), ((1, 40), 8), ((2, 15), 8), ((40,), 8)]
)
def test_a_study_too_small_to_split_is_refused(shape: tuple[int, ...], blocks: int) -> None:
    with pytest.raises(BadRequest) as caught:
        probability_of_overfitting(np.ones(shape), blocks)
    assert caught.value.fix
