"""Whether the best of many trials beats a benchmark by more than luck: reality check, SPA and StepM."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.bootstrap import sample_counts, stationary_indices
from engine.core.validation.return_matrix import (
    FLAT_SHARE,
    FloatArray,
    RandomSource,
    ReturnMatrix,
    checked_matrix,
    row_chunks,
)
from engine.core.validation.sharpe_inference import NORMAL
from engine.errors import BadRequest

# Rows of the table of recentred maxima.
LOWER, CONSISTENT, UPPER = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapMeans:
    """Mean performance of every trial, and of every trial in every bootstrap sample: what the three tests share.

    Attributes
    ----------
    means : ndarray of float64, shape (trials,)
        Mean of return - benchmark (or of benchmark loss - loss).
    sample_means : ndarray, shape (samples, trials)
        In the dtype of the returns.
    spreads : ndarray of float64, shape (trials,)
        Standard deviation of sqrt(n) times the mean under the stationary bootstrap; 0 for a trial that does not vary.
    observations : int
    mean_block : float
    """

    means: FloatArray
    sample_means: ReturnMatrix
    spreads: FloatArray
    observations: int
    mean_block: float


@dataclass(frozen=True, slots=True)
class SnoopingTest:
    """The p-values of one test.

    Attributes
    ----------
    lower, consistent, upper : float
        Hansen's three; `consistent` is the one to use, `upper` is the least favourable case.
    best_trial : int
        Row of the largest statistic.
    statistic : float
        The largest mean, or the largest mean in standard errors when studentised.
    samples : int
    mean_block : float
    is_studentised : bool
    """

    lower: float
    consistent: float
    upper: float
    best_trial: int
    statistic: float
    samples: int
    mean_block: float
    is_studentised: bool


@dataclass(frozen=True, slots=True)
class SuperiorTrials:
    """The trials that StepM finds superior, with the family-wise error rate it keeps and the steps it took."""

    trials: tuple[int, ...]
    level: float
    steps: int


def bootstrap_means(performance: ReturnMatrix, mean_block: float, samples: int, random: RandomSource) -> BootstrapMeans:
    """Draw bootstrap samples of days, the same for all trials, and average every trial over each.

    Parameters
    ----------
    performance : ndarray of float32 or float64, shape (trials, observations)
        Returns less the benchmark's; for losses, the benchmark's loss less the trial's. At least 3 observations; no
        NaN. float32 makes a matrix of 10,000 trials twice as fast.
    mean_block : float
        In observations; see `optimal_block_length`.
    samples : int
    random : Generator or RandomState

    Notes
    -----
    A sample is a row of counts, so that all means are one matrix product.
    """
    matrix = checked_matrix(performance, fewest_observations=3)
    observations = matrix.shape[1]
    indices = stationary_indices(observations, samples, mean_block, random)
    counts = sample_counts(indices, np.float32 if matrix.dtype == np.float32 else np.float64)
    counts /= observations
    return BootstrapMeans(
        means=matrix.mean(axis=1, dtype=np.float64),
        sample_means=counts @ matrix.T,
        spreads=bootstrap_spreads(matrix, mean_block),
        observations=observations,
        mean_block=mean_block,
    )


def bootstrap_spreads(performance: ReturnMatrix, mean_block: float) -> FloatArray:
    """Return the standard deviation of sqrt(n) times the mean that the stationary bootstrap gives each trial.

    Parameters
    ----------
    performance : ndarray, shape (trials, observations)
    mean_block : float

    Returns
    -------
    ndarray of float64, shape (trials,)
        0 for a trial that does not vary.

    Notes
    -----
    Politis and Romano 1994, lemma 1: sum over lags of (1 - i/n) q^i times the autocovariance of the series closed to a
    circle, q = 1 - 1/block. On the circle that sum is a weighted sum of the periodogram.
    """
    trials, count = performance.shape
    lags = np.arange(count)
    decay = (1.0 - 1.0 / mean_block) ** lags
    weights = (1.0 - lags / count) * decay
    weights[1:] += weights[:0:-1]
    weights[0] = 1.0
    transfer = np.fft.rfft(weights).real
    # Frequencies above 0 and below half the sampling rate stand for two.
    transfer[1 : (count + 1) // 2] *= 2.0
    spreads = np.empty(trials)
    for rows in row_chunks(trials, count):
        part = performance[rows].astype(np.float64)
        part -= part.mean(axis=1, keepdims=True)
        wave = np.fft.rfft(part, axis=1)
        power = wave.real**2 + wave.imag**2
        variances = power @ transfer / count**2
        is_flat = part.std(axis=1) <= FLAT_SHARE * np.abs(performance[rows]).max(axis=1)
        spreads[rows] = np.where(is_flat, 0.0, np.sqrt(np.maximum(variances, 0.0)))
    return spreads


def superior_predictive_ability(bootstrapped: BootstrapMeans, *, is_studentised: bool = True) -> SnoopingTest:
    """Test that no trial beats the benchmark, with poor trials taken out of the reckoning.

    Parameters
    ----------
    bootstrapped : BootstrapMeans
    is_studentised : bool
        Measure each trial in its own standard errors, as Hansen does; False compares raw means, as the package arch.

    Notes
    -----
    Hansen 2005, "A test for superior predictive ability". Trials whose mean lies more than sqrt(2 ln ln n) standard
    errors below zero are not recentred in the consistent version. A trial that does not vary stands for the
    benchmark itself. Standard errors flatter a trial that loses rarely and has not lost yet; see `snooping_p_value`.
    """
    maxima = _recentred_maxima(bootstrapped, is_studentised, None)
    statistics = bootstrapped.means * _scales(bootstrapped, is_studentised)
    best = int(statistics.argmax())
    p_values = (maxima > statistics[best]).mean(axis=1)
    return SnoopingTest(
        float(p_values[LOWER]),
        float(p_values[CONSISTENT]),
        float(p_values[UPPER]),
        best,
        float(statistics[best]),
        len(bootstrapped.sample_means),
        bootstrapped.mean_block,
        is_studentised,
    )


def reality_check(bootstrapped: BootstrapMeans) -> float:
    """Return the p-value of White's reality check: raw means, every trial recentred.

    Notes
    -----
    White 2000, "A reality check for data snooping". It is the upper p-value of the test that is not studentised.
    """
    return superior_predictive_ability(bootstrapped, is_studentised=False).upper


def snooping_p_value(bootstrapped: BootstrapMeans) -> float:
    """Return the larger consistent p-value of the two tests, in standard errors and in raw means: the one to judge by.

    Notes
    -----
    Each test has a weak side that the other lacks. In standard errors, trials with rare large losses look safe while
    the loss is still to come: among 200 of them without skill there is nearly always one that passes. In raw means,
    one wild trial hides all others. Asking both costs next to no power where trials risk alike.
    """
    return max(superior_predictive_ability(bootstrapped, is_studentised=way).consistent for way in (True, False))


def familywise_p_value(bootstrapped: BootstrapMeans, trial: int, unseen: int = 0) -> float:
    """Return how often the best of trials that earn nothing looks as good as this one, each in its own standard errors.

    Parameters
    ----------
    bootstrapped : BootstrapMeans
    trial : int
        Row of the trial. For the best one it is Hansen's consistent p-value.
    unseen : int
        Independent trials beside these whose returns nobody kept.

    Notes
    -----
    The single-step adjusted p-value of Romano and Wolf 2005 with the consistent recentring of Hansen 2005. The sample
    itself counts as one draw, so that it is never 0 (Davison and Hinkley 1997, eq. 4.11). Raw means
    would let the wildest trials of a search set the bar for all others; what standard errors hide, losses still to come,
    is asked for by a least number of losses seen (`engine.core.verdict.checklist`).
    """
    statistic = float((bootstrapped.means * _scales(bootstrapped, True))[trial])
    p = _share_at_least(_recentred_maxima(bootstrapped, True, None)[CONSISTENT], statistic)
    return _beside_unseen(p, statistic, unseen)


def no_skill_p_value(bootstrapped: BootstrapMeans, trial: int, costs: FloatArray, unseen: int = 0) -> float:
    """Return how often the best of trials that predict nothing, and pay their costs, looks as good as this one.

    Parameters
    ----------
    bootstrapped : BootstrapMeans
    trial : int
    costs : ndarray of float64, shape (trials,)
        What each trial paid per observation as a share of its equity; known, not estimated, so that the null hypothesis
        needs no worst case: a trial without skill earns minus its costs.
    unseen : int
        Independent trials beside these whose returns nobody kept; they pay what this one pays.

    Notes
    -----
    As `familywise_p_value`, with the null centre of each trial at -costs instead of 0. It is the test of "nothing here
    predicts anything"; Hansen's is the test of "nothing here earns more than nothing", whose worst case is a set of trials
    that all predict exactly as much as they pay.
    """
    scales = _scales(bootstrapped, True)
    statistic = float((bootstrapped.means * scales)[trial])
    dtype = bootstrapped.sample_means.dtype
    highest = np.full(len(bootstrapped.sample_means), -math.inf)
    for part in row_chunks(len(scales), len(highest)):
        offsets = ((bootstrapped.means[part] + costs[part]) * scales[part]).astype(dtype)
        drawn = bootstrapped.sample_means[:, part] * scales[part].astype(dtype) - offsets
        np.maximum(highest, drawn.max(axis=1), out=highest)
    beyond_costs = float((bootstrapped.means[trial] + costs[trial]) * scales[trial])
    return _beside_unseen(_share_at_least(highest, statistic), beyond_costs, unseen)


def _beside_unseen(p: float, statistic: float, unseen: int) -> float:
    """Return how often the best of the trials, or one of some independent ones beside them, reaches a statistic.

    The mean of one unseen trial, in its standard errors, is normal: the draws of a bootstrap are too few to tell so far out.
    """
    return 1.0 - (1.0 - p) * NORMAL.cdf(statistic) ** unseen if unseen else p


def _share_at_least(maxima: FloatArray, statistic: float) -> float:
    return float((1 + (maxima >= statistic).sum()) / (1 + len(maxima)))


def superior_trials(
    bootstrapped: BootstrapMeans, level: float = 0.05, *, is_studentised: bool = True
) -> SuperiorTrials:
    """Find all trials that beat the benchmark while the chance of a single false one stays below `level`.

    Parameters
    ----------
    bootstrapped : BootstrapMeans
    level : float
        Family-wise error rate, in (0, 1).
    is_studentised : bool

    Notes
    -----
    Romano and Wolf 2005, "Stepwise multiple testing as formalized data snooping": superior trials leave, and the
    critical value of the rest, with Hansen's consistent recentring, is taken again until nothing more is superior.
    """
    if not 0 < level < 1:
        raise BadRequest(f"level {level}", fix="level is a share between 0 and 1, such as 0.05")
    statistics = bootstrapped.means * _scales(bootstrapped, is_studentised)
    remains = np.ones(len(statistics), np.bool_)
    steps = 0
    while remains.any():
        maxima = _recentred_maxima(bootstrapped, is_studentised, remains)
        critical = float(np.quantile(maxima[CONSISTENT], 1.0 - level))
        superior = remains & (statistics > critical)
        steps += 1
        if not superior.any():
            break
        remains &= ~superior
    return SuperiorTrials(tuple(int(row) for row in np.flatnonzero(~remains)), level, steps)


def _scales(bootstrapped: BootstrapMeans, is_studentised: bool) -> FloatArray:
    """Return what turns a mean into a statistic: 1, or sqrt(n) / spread with 0 for a trial that does not vary."""
    if not is_studentised:
        return np.ones(len(bootstrapped.means))
    spreads, root = bootstrapped.spreads, math.sqrt(bootstrapped.observations)
    return np.divide(root, spreads, out=np.zeros(len(spreads)), where=spreads > 0)


def _recentred_maxima(
    bootstrapped: BootstrapMeans, is_studentised: bool, remains: NDArray[np.bool_] | None
) -> FloatArray:
    """Return the largest recentred statistic of each sample, shape (3, samples); of the remaining trials only."""
    means, count = bootstrapped.means, bootstrapped.observations
    threshold = -bootstrapped.spreads * math.sqrt(2.0 * math.log(math.log(count)) / count)
    centres = np.stack((np.maximum(means, 0.0), np.where(means >= threshold, means, 0.0), means))
    scales = _scales(bootstrapped, is_studentised)
    rows = np.arange(len(means)) if remains is None else np.flatnonzero(remains)
    samples = len(bootstrapped.sample_means)
    maxima = np.full((3, samples), -math.inf)
    for part in row_chunks(len(rows), samples):
        chosen = rows[part]
        drawn = bootstrapped.sample_means[:, chosen] * scales[chosen].astype(bootstrapped.sample_means.dtype)
        offsets = (centres * scales)[:, chosen].astype(drawn.dtype)
        for version in range(3):
            np.maximum(maxima[version], (drawn - offsets[version]).max(axis=1), out=maxima[version])
    return maxima
