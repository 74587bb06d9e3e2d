"""The deepest fall found by blocks is that of the plain formula."""

from __future__ import annotations

import numpy as np
import pytest

from engine.core.metrics.returns import deepest_fall

CAPITAL = 1_000.0


def plain(equity: np.ndarray) -> float:
    marks = np.concatenate(([CAPITAL], equity))
    return float(np.max(1.0 - marks / np.maximum.accumulate(marks)))


@pytest.mark.parametrize("bars", [1, 511, 512, 513, 40_000])
@pytest.mark.parametrize("drift", [-1e-3, 0.0, 1e-3])
def test_the_deepest_fall_is_that_of_the_plain_formula(bars: int, drift: float) -> None:
    random = np.random.default_rng(bars)
    grown = CAPITAL * np.exp(np.cumsum(random.normal(drift, 0.01, bars)))
    into_debt = CAPITAL + np.cumsum(random.normal(drift * CAPITAL, 20.0, bars))
    for equity in (grown, into_debt, np.maximum.accumulate(grown), np.full(bars, CAPITAL)):
        assert deepest_fall(CAPITAL, equity) == plain(equity)
