"""A short form of the experiment: noise must not be believed more often than promised, and edges must be found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.honesty.calibration import true_sharpe
from tests.honesty.experiment import run_study
from tests.honesty.report import exact_interval, report
from tests.honesty.run import as_row, plan
from tests.honesty.worlds import EDGES, NOISES, Edge, Noise, make_world

NOISE_STUDIES = 24
PROMISED_FALSE_POSITIVES = 0.05


def test_noise_is_believed_no_more_often_than_promised():
    rows = [
        as_row(run_study(seed, ("gbm", "garch")[seed % 2], edge=None, bars=8_760, trials=300))
        for seed in range(NOISE_STUDIES)
    ]
    believed = sum(row["verdict"] in ("candidate", "robust") for row in rows)
    lowest, _ = exact_interval(believed, NOISE_STUDIES, 0.998)
    assert lowest <= PROMISED_FALSE_POSITIVES, report(rows)
    assert not any(row["verdict"] == "robust" for row in rows), report(rows)
    # The searcher is eager enough to be worth guarding against.
    assert any(row["naive"] for row in rows)


def test_planted_edges_are_found_more_often_than_noise_may_be():
    rows = [as_row(run_study(10_000 + seed, "gbm", edge="trend", bars=26_280, trials=600)) for seed in range(4)]
    assert sum(row["verdict"] in ("candidate", "robust") for row in rows) >= 2, report(rows)


@pytest.mark.parametrize("edge", EDGES)
def test_the_exact_rule_of_a_planted_edge_earns_what_is_said(edge: Edge):
    # Six markets of 30 years: the mean of their Sharpe ratios has a standard error of 0.075.
    assert true_sharpe(edge, 1.0, range(500, 506)) == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("noise", ["gbm", "garch"])
def test_a_market_is_a_function_of_its_seed(noise: Noise):
    first, again = (make_world(3, noise, 2_000, edge="reversion").candles for _ in range(2))
    assert first.sha256() == again.sha256()
    assert first.sha256() != make_world(4, noise, 2_000, edge="reversion").candles.sha256()


def test_shuffled_noise_keeps_the_volatility_of_the_real_returns_and_loses_their_drift():
    real = np.random.default_rng(0).normal(0.001, 0.01, 10_000)
    close = make_world(1, "shuffled", 50_000, real_returns=real).candles.close
    returns = np.diff(np.log(close))
    assert returns.std() == pytest.approx(0.01, rel=0.05)
    assert abs(returns.mean()) < 4 * 0.01 / math.sqrt(50_000)


def test_the_plan_mixes_kinds_and_counts():
    studies = plan(30, 12, NOISES)
    assert sum(edge is None for _, _, edge in studies) == 30
    assert {noise for _, noise, _ in studies} == set(NOISES)
    assert {edge for _, _, edge in studies[:14]} == {None, *EDGES}


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 100, 0.0, 0.0362), (5, 100, 0.0164, 0.1128)])
def test_intervals_are_those_of_the_textbook(hits: int, count: int, low: float, high: float):
    # Clopper and Pearson 1934; the values are those of R's binom.test.
    assert exact_interval(hits, count) == pytest.approx((low, high), abs=1e-4)
