"""A hidden Markov model of returns whose states are told apart by volatility, and its filtered probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.core.validation.regimes import Labels
from engine.core.validation.return_matrix import FloatArray, checked_series
from engine.errors import BadRequest

# A state narrower than this share of the whole spread has collapsed onto a few equal returns.
NARROWEST_SHARE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class HiddenMarkovModel:
    """Normal returns in states that follow each other as a Markov chain, calmest state first.

    Attributes
    ----------
    means, deviations : ndarray of float64, shape (states,)
        Per bar.
    transitions : ndarray of float64, shape (states, states)
        Probability of the next state (column) after this one (row).
    start : ndarray of float64, shape (states,)
        Long-run probability of each state, taken for the first bar.
    log_likelihood : float
        Of the returns it was fitted to.
    iterations : int
    has_converged : bool
    """

    means: FloatArray
    deviations: FloatArray
    transitions: FloatArray
    start: FloatArray
    log_likelihood: float
    iterations: int
    has_converged: bool


def fit_hidden_markov(
    returns: FloatArray, states: int = 2, most_iterations: int = 500, tolerance: float = 1e-8
) -> HiddenMarkovModel:
    """Fit the model by expectation-maximisation, from states split by the size of the returns.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        At least 20 a state.
    states : int
        2 or 3.
    most_iterations : int
    tolerance : float
        Ends when the log likelihood per observation grows by less.

    Notes
    -----
    Baum, Petrie, Soules and Weiss 1970; scaled recursions as in Rabiner 1989, "A tutorial on hidden Markov models",
    section V. A fit has seen all the returns it is given: to label bars causally, fit on earlier ones.
    """
    series = checked_series(returns, fewest=20 * max(states, 1))
    if states not in (2, 3):
        raise BadRequest(f"{states} states", fix="states is 2 or 3")
    spread = float(series.std())
    if spread <= 1e-14:
        raise BadRequest("the returns do not vary, so they have no states", fix="hand in returns of a traded market")
    # Compiling takes a second and numba half of one: the rule of trend and volatility does without.
    from engine.core.validation.hidden_markov_kernel import expect, forward

    scaled = (series - series.mean()) / spread
    means, deviations, transitions, start = _first_guess(scaled, states)
    likelihood, iterations, has_converged = -math.inf, 0, False
    while iterations < most_iterations:
        iterations += 1
        weights, pairs, found = expect(scaled, means, deviations, transitions, start)
        has_converged = found - likelihood < tolerance * len(scaled)
        likelihood = found
        if has_converged:
            break
        means, deviations, transitions, start = _maximise(scaled, weights, pairs)
    order = np.argsort(deviations)
    means, deviations = means[order] * spread + series.mean(), deviations[order] * spread
    transitions = transitions[np.ix_(order, order)]
    start = _stationary(transitions)
    return HiddenMarkovModel(
        means=means,
        deviations=deviations,
        transitions=transitions,
        start=start,
        log_likelihood=forward(series, means, deviations, transitions, start)[1],
        iterations=iterations,
        has_converged=has_converged,
    )


def _first_guess(scaled: FloatArray, states: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    deviations = np.quantile(np.abs(scaled), (np.arange(states) + 0.5) / states) / 0.6745
    # A third of flat bars would start a state at zero.
    deviations = np.maximum(deviations, 0.1 * (1 + np.arange(states)))
    transitions = np.full((states, states), 0.05 / (states - 1))
    np.fill_diagonal(transitions, 0.95)
    return np.zeros(states), deviations, transitions, np.full(states, 1.0 / states)


def _maximise(
    scaled: FloatArray, weights: FloatArray, pairs: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    totals = np.maximum(weights.sum(axis=0), 1e-12)
    means = weights.T @ scaled / totals
    squares = (weights * (scaled[:, None] - means) ** 2).sum(axis=0) / totals
    deviations = np.maximum(np.sqrt(squares), NARROWEST_SHARE)
    left = np.maximum(pairs.sum(axis=1, keepdims=True), 1e-300)
    return means, deviations, pairs / left, weights[0]


def _stationary(transitions: FloatArray) -> FloatArray:
    """Return the long-run share of each state: where a stretch of returns begins is not known."""
    states = len(transitions)
    balance = np.vstack((transitions.T - np.eye(states), np.ones(states)))
    solution, *_ = np.linalg.lstsq(balance, np.append(np.zeros(states), 1.0))
    bounded = np.maximum(solution, 1e-12)
    return bounded / bounded.sum()


def filtered_probabilities(model: HiddenMarkovModel, returns: FloatArray) -> FloatArray:
    """Return the probability of each state at each bar, given the returns up to that bar and none after it.

    Parameters
    ----------
    model : HiddenMarkovModel
    returns : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n, states)
        Rows add up to 1.
    """
    from engine.core.validation.hidden_markov_kernel import forward

    series = checked_series(returns, fewest=1)
    filtered, _ = forward(series, model.means, model.deviations, model.transitions, model.start)
    return filtered


def label_states(model: HiddenMarkovModel, returns: FloatArray) -> Labels:
    """Return the likeliest filtered state of each bar, 0 the calmest (ndarray of int8, shape (n,))."""
    return filtered_probabilities(model, returns).argmax(axis=1).astype(np.int8)
