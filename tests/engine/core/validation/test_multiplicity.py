"""Benjamini-Hochberg by hand, by the definition, and against the false discoveries it promises to bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.validation.multiplicity import benjamini_hochberg
from engine.errors import BadRequest

# The example of Benjamini and Hochberg 1995, section 3.2: four of fifteen are rejected at 0.05.
PAPER = [
    0.0001,
    0.0004,
    0.0019,
    0.0095,
    0.0201,
    0.0278,
    0.0298,
    0.0344,
    0.0459,
    0.3240,
    0.4262,
    0.5719,
    0.6528,
    0.7590,
    1.0,
]


def test_the_example_of_the_paper_comes_out() -> None:
    assert benjamini_hochberg(np.array(PAPER)).is_rejected.tolist() == [True] * 4 + [False] * 11


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_rejections_are_those_of_the_definition(p_values: list[float], rate: float) -> None:
    found = benjamini_hochberg(np.array(p_values), rate)
    ordered = sorted(p_values)
    largest = max((value for rank, value in enumerate(ordered, 1) if value <= rank / len(ordered) * rate), default=-1.0)
    # The two forms of the same inequality round differently on the line itself.
    for value, adjusted, is_rejected in zip(p_values, found.adjusted, found.is_rejected, strict=True):
        if abs(adjusted - rate) > 1e-9:
            assert is_rejected == (value <= largest)
        assert value <= adjusted + 1e-12
        assert adjusted <= 1


def test_the_share_of_false_discoveries_stays_bounded() -> None:
    draws = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        p_values = draws.random(40)
        p_values[:10] **= 6
        rejected = benjamini_hochberg(p_values, 0.2).is_rejected
        shares.append(rejected[10:].sum() / max(rejected.sum(), 1))
    assert np.mean(shares) < 0.2


def test_nothing_is_discovered_in_an_empty_list() -> None:
    assert benjamini_hochberg(np.empty(0)).adjusted.shape == (0,)


@pytest.mark.parametrize("p_values", [[1.2], [-0.1], [np.nan], [[0.1]]])
def test_what_is_no_p_value_is_refused(p_values: list[float]) -> None:
    with pytest.raises(BadRequest):
        benjamini_hochberg(np.array(p_values))
    with pytest.raises(BadRequest):
        benjamini_hochberg(np.array([0.1]), 1.0)
