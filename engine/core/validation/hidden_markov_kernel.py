"""The compiled recursions of a hidden Markov model with normal returns, scaled so that long series do not underflow."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from engine.core.validation.return_matrix import FloatArray

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@njit(cache=True, nogil=True)
def _densities(value: float, means: FloatArray, deviations: FloatArray, densities: FloatArray) -> float:
    """Fill the densities of one return, the largest scaled to 1, and return the logarithm of that scale."""
    top = -np.inf
    for state in range(len(means)):
        score = (value - means[state]) / deviations[state]
        densities[state] = -0.5 * score * score - math.log(deviations[state]) - _LOG_ROOT_TWO_PI
        top = max(top, densities[state])
    for state in range(len(means)):
        densities[state] = math.exp(densities[state] - top)
    return top


@njit(cache=True, nogil=True)
def forward(
    returns: FloatArray, means: FloatArray, deviations: FloatArray, transitions: FloatArray, start: FloatArray
) -> tuple[FloatArray, float]:
    """Return filtered probabilities, shape (n, states), and the log likelihood."""
    count, states = len(returns), len(means)
    filtered, densities = np.empty((count, states)), np.empty(states)
    likelihood = 0.0
    for row in range(count):
        likelihood += _densities(returns[row], means, deviations, densities)
        total = 0.0
        for state in range(states):
            prior = start[state]
            if row > 0:
                prior = 0.0
                for before in range(states):
                    prior += filtered[row - 1, before] * transitions[before, state]
            filtered[row, state] = prior * densities[state]
            total += filtered[row, state]
        if total <= 0.0:
            # The only likely state cannot be reached: start anew from the densities.
            for state in range(states):
                filtered[row, state] = densities[state]
                total += densities[state]
            likelihood += -700.0
        else:
            likelihood += math.log(total)
        for state in range(states):
            filtered[row, state] /= total
    return filtered, likelihood


@njit(cache=True, nogil=True)
def expect(
    returns: FloatArray, means: FloatArray, deviations: FloatArray, transitions: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Return smoothed probabilities, shape (n, states), expected transitions and the log likelihood."""
    filtered, likelihood = forward(returns, means, deviations, transitions, start)
    count, states = filtered.shape
    pairs = np.zeros((states, states))
    smoothed = filtered.copy()
    ratio = np.empty(states)
    for row in range(count - 2, -1, -1):
        for after in range(states):
            predicted = 0.0
            for before in range(states):
                predicted += filtered[row, before] * transitions[before, after]
            ratio[after] = smoothed[row + 1, after] / predicted if predicted > 0.0 else 0.0
        for before in range(states):
            total = 0.0
            for after in range(states):
                share = filtered[row, before] * transitions[before, after] * ratio[after]
                pairs[before, after] += share
                total += share
            smoothed[row, before] = total
    return smoothed, pairs, likelihood
