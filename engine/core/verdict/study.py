"""What the trials of a study, laid side by side on the same days, say about the one that was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.bootstrap import optimal_block_length
from engine.core.validation.data_snooping import bootstrap_means, familywise_p_value, no_skill_p_value
from engine.core.validation.effective_trials import effective_trials, null_sharpe_variance
from engine.core.validation.overfitting import probability_of_overfitting
from engine.core.validation.return_matrix import ReturnMatrix, row_chunks
from engine.core.validation.sharpe_inference import deflated_sharpe, expected_max_sharpe
from engine.core.validation.sharpe_interval import sharpe_interval
from engine.core.validation.sharpe_moments import sharpe_moments
from engine.core.validation.splits import walk_forward_efficiency, walk_forward_windows
from engine.core.verdict.evidence import SearchFacts

DAYS_PER_YEAR = 365.0
BOOTSTRAP_SAMPLES = 1_000
# So many trials tell the typical block length; every one of ten thousand would tell the same.
_BLOCK_TRIALS = 200
_PBO_BLOCKS = 16
# Below this a split of the days leaves blocks or windows of a few days each.
_FEWEST_DAYS = 60
_WALK_FORWARD_WINDOWS = 5
_WALK_FORWARD_CONFIDENCE = 0.9
OWN_TRIALS = "each window follows the study's trial that was best before it"


@dataclass(frozen=True, slots=True)
class WalkForwardFacts:
    """A stitched out-of-sample record; Sharpe ratios annualised, NaN where there are too few days."""

    sharpe: float
    low: float
    high: float
    windows: int
    efficiency: float
    source: str


NO_WALK_FORWARD = WalkForwardFacts(math.nan, math.nan, math.nan, 0, math.nan, OWN_TRIALS)


def weigh_search(
    returns: ReturnMatrix,
    chosen: int,
    trials: int,
    costs: NDArray[np.float64],
    *,
    walk_forward: WalkForwardFacts | None = None,
    probes: int = 0,
    seed: int = 0,
) -> SearchFacts:
    """Return what the trials say about one of them.

    Parameters
    ----------
    returns : ndarray of float32 or float64, shape (trials, days)
        Daily returns on the same days. A row with NaN (the capital was lost) counts as a trial that stood aside.
    chosen : int
        Row of the run under judgement.
    trials : int
        Distinct trials of the study, those on other days included.
    costs : ndarray of float64, shape (trials,)
        What each row paid in fees a day, as a share of its equity; see `daily_costs`.
    walk_forward : WalkForwardFacts, optional
        Of a real walk-forward of the study; without it the study's own trials are refitted window by window.
    probes : int
        Looks at the outcome of something that left no returns; each counts as one more independent trial.
    seed : int
        Of the bootstrap; the same gives the same figures.
    """
    matrix = np.where(np.isnan(returns).any(axis=1, keepdims=True), returns.dtype.type(0), returns)
    count, days = matrix.shape
    own = matrix[chosen].astype(np.float64)
    if days < _FEWEST_DAYS or float(own.std()) == 0.0:
        return _nothing(trials, count, probes)
    random = np.random.default_rng(seed)
    sample = matrix[np.unique(np.linspace(0, count - 1, min(count, _BLOCK_TRIALS)).astype(np.int64))]
    varying = sample[sample.std(axis=1) > 0] if count > 1 else own[None, :]
    block = float(np.clip(np.median(optimal_block_length(varying, per_trial=True)), 1.0, days / 4))
    bootstrapped = bootstrap_means(matrix, block, BOOTSTRAP_SAMPLES, random)
    weight = effective_trials(matrix, random)
    # Strategies left out of the comparison were looked at all the same.
    effective = weight.effective * max(1.0, trials / count) + probes
    variance = null_sharpe_variance(days)
    moments = sharpe_moments(own)
    found = walk_forward or follow_best(matrix)
    return SearchFacts(
        trials=trials,
        compared_trials=count,
        effective_trials=effective,
        expected_max_sharpe=math.sqrt(DAYS_PER_YEAR) * expected_max_sharpe(effective, variance),
        deflated_sharpe=deflated_sharpe(moments.sharpe, effective, variance, days, moments.skew, moments.kurtosis),
        no_skill_p=no_skill_p_value(bootstrapped, chosen, costs, probes),
        no_edge_p=familywise_p_value(bootstrapped, chosen, probes),
        pbo=probability_of_overfitting(matrix, _PBO_BLOCKS).pbo if count > 1 else math.nan,
        walk_forward_sharpe=found.sharpe,
        walk_forward_low=found.low,
        walk_forward_high=found.high,
        walk_forward_windows=found.windows,
        walk_forward_efficiency=found.efficiency,
        walk_forward_source=found.source,
        probes=probes,
    )


def daily_costs(returns: ReturnMatrix, fees: NDArray[np.float64], capital: float) -> NDArray[np.float64]:
    """Return the fees of each trial per day as a share of its equity.

    Parameters
    ----------
    returns : ndarray, shape (trials, days)
        A row with NaN costs nothing here.
    fees : ndarray of float64, shape (trials,)
        Paid in all, settlement currency.
    capital : float

    Notes
    -----
    Fees follow the equity, which shrinks with them: total fees over the sum of the daily equities is the daily share, exactly
    so where the turnover is even. Slippage is left out, which errs to the safe side.
    """
    costs = np.zeros(len(returns))
    for rows in row_chunks(*returns.shape):
        growth = np.cumprod(1.0 + returns[rows].astype(np.float64), axis=1)
        summed = capital * growth.sum(axis=1)
        np.divide(fees[rows], summed, out=costs[rows], where=summed > 0)
    return np.maximum(costs, 0.0)


def follow_best(returns: ReturnMatrix, windows: int = _WALK_FORWARD_WINDOWS) -> WalkForwardFacts:
    """Walk forward over trials already made: before each window the best trial so far is chosen and followed through it.

    Parameters
    ----------
    returns : ndarray, shape (trials, days)
        No NaN.
    windows : int
        Disjoint out-of-sample windows, each as long as the days before the first; a day between fit and window is purged,
        because a position may be held over midnight.

    Notes
    -----
    The refit of a window sees only its past, and searches exactly what the study searched. A strategy carries its position
    into the window: days are cut, not trades.
    """
    days = returns.shape[1]
    if days < _FEWEST_DAYS:
        return NO_WALK_FORWARD
    stitched: list[NDArray[np.float64]] = []
    fitted: list[float] = []
    for window in walk_forward_windows(days, windows, 0.5, "anchored", purge_bars=1):
        sharpes = sharpe_rows(returns[:, window.in_sample_start : window.in_sample_end])
        best = int(sharpes.argmax())
        fitted.append(float(sharpes[best]))
        stitched.append(returns[best, window.out_of_sample_start : window.out_of_sample_end].astype(np.float64))
    record = np.concatenate(stitched)
    if float(record.std()) == 0.0:
        return NO_WALK_FORWARD
    interval = sharpe_interval(record, _WALK_FORWARD_CONFIDENCE)
    efficiency = walk_forward_efficiency(float(np.mean(fitted)) * math.sqrt(DAYS_PER_YEAR), interval.estimate)
    return WalkForwardFacts(
        interval.estimate, interval.low, interval.high, len(stitched),
        math.nan if efficiency is None else efficiency, OWN_TRIALS,
    )  # fmt: skip


def sharpe_rows(returns: ReturnMatrix) -> NDArray[np.float64]:
    """Return the Sharpe ratio per day of every row; 0 for one that does not vary."""
    sharpes = np.zeros(len(returns))
    for rows in row_chunks(*returns.shape):
        part = returns[rows].astype(np.float64)
        spread = part.std(axis=1, ddof=1)
        np.divide(part.mean(axis=1), spread, out=sharpes[rows], where=spread > 1e-12)
    return sharpes


def _nothing(trials: int, compared: int, probes: int) -> SearchFacts:
    """Return the facts of a run too short, or too still, to be weighed."""
    unknown = math.nan
    return SearchFacts(
        trials, compared, float(compared + probes), unknown, unknown, unknown, unknown, unknown,
        unknown, unknown, unknown, 0, unknown, OWN_TRIALS, probes,
    )  # fmt: skip
