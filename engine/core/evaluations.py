"""What one evaluated strategy leaves in the trial ledger, whoever evaluated it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import TimeColumn
from engine.core.series import Category
from engine.core.sketches import MarketSketch
from engine.core.timeframes import Interval


@dataclass(frozen=True, slots=True)
class EvaluationSlice:
    """The candles and costs some strategies were evaluated on.

    Attributes
    ----------
    category, symbol, interval
        The market.
    start_ms, end_ms : int
        Open of the first bar and close of the last one, milliseconds UTC.
    bars : int
    data_sha256 : str
        Of the candles.
    costs_sha256 : str
        Of settings, instrument rules and the other inputs of a run; see `costs_hash`.
    """

    category: Category
    symbol: str
    interval: Interval
    start_ms: int
    end_ms: int
    bars: int
    data_sha256: str
    costs_sha256: str

    def trial_key(self, fingerprint: str) -> str:
        """Return the identity of a trial: the same strategy on the same bars at the same costs is one trial."""
        text = "\n".join((fingerprint, self.data_sha256, self.costs_sha256))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationBatch:
    """Some strategies evaluated on one slice, one row each.

    Attributes
    ----------
    strategy : str
        Name, for people.
    fingerprints : sequence of str
        Of the compiled strategies (`CompiledStrategy.fingerprint`).
    points : sequence of mapping of str to float
        Parameters.
    metrics : dict of str to ndarray of float64, shape (n,)
        NaN where undefined; holds at least trades, daily_sharpe, skew, kurtosis (raw: 3 for a normal distribution).
    marks_ms : ndarray of int64, shape (d,)
        Ends of the daily returns, milliseconds UTC.
    daily_returns : ndarray of float32, shape (n, d)
        Simple returns; a row of NaN where the equity fell to zero or below.
    seed : int or None
        Of the search that proposed the points.
    sketches : sequence of MarketSketch
        Of the markets they ran on, by which copies under another name are known.
    """

    strategy: str
    fingerprints: Sequence[str]
    points: Sequence[Mapping[str, float]]
    metrics: Mapping[str, NDArray[np.float64]]
    marks_ms: TimeColumn
    daily_returns: NDArray[np.float32]
    seed: int | None = None
    sketches: Sequence[MarketSketch] = ()

    def __len__(self) -> int:
        return len(self.fingerprints)


def costs_hash(described: Mapping[str, object]) -> str:
    """Return the hash of everything a result depends on besides strategy and candles."""
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
