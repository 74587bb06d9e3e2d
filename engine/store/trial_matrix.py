"""Daily returns of a study's trials laid side by side on the same days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.core.metrics.moments import return_moments
from engine.store.trial_rows import unpack_marks, unpack_returns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from sqlalchemy import Row

    from engine.core.candles import FloatColumn, TimeColumn


@dataclass(frozen=True, slots=True, eq=False)
class TrialMatrix:
    """Daily returns of a study's trials on the same days.

    Attributes
    ----------
    marks_ms : ndarray of int64, shape (d,)
        Ends of the daily returns, milliseconds UTC.
    returns : ndarray of float32, shape (n, d)
        Simple returns, finite.
    daily_sharpe, skew, kurtosis : ndarray of float64, shape (n,)
        Of these very returns: mean by standard deviation (n - 1), population moments, kurtosis 3 for a normal
        distribution. NaN where the returns do not vary.
    trades : ndarray of float64, shape (n,)
        As recorded; NaN where unknown.
    fees_paid : ndarray of float64, shape (n,)
        Over the whole range of the trial, settlement currency; NaN where unknown.
    numbers : ndarray of int64, shape (n,)
        Of the trials in their study.
    keys, fingerprints : tuple of str
    left_out : int
        Trials of the study that are not here: evaluated on other days, ruined, or beyond the limit.
    """

    marks_ms: TimeColumn
    returns: NDArray[np.float32]
    daily_sharpe: FloatColumn
    skew: FloatColumn
    kurtosis: FloatColumn
    trades: FloatColumn
    fees_paid: FloatColumn
    numbers: NDArray[np.int64]
    keys: tuple[str, ...]
    fingerprints: tuple[str, ...]
    left_out: int

    def __len__(self) -> int:
        return len(self.returns)


def build_matrix(
    batches: list[Row[Any]], trials: list[Row[Any]], like: TimeColumn | None, limit: int, total: int
) -> TrialMatrix:
    """Return the trials that were evaluated on all days of `like`, or on those of the newest batch."""
    marks = {batch.id: unpack_marks(batch.marks) for batch in batches}
    days = like if like is not None else (marks[batches[-1].id] if batches else np.empty(0, np.int64))
    of_batch: dict[int, list[Row[Any]]] = {}
    for trial in trials:
        of_batch.setdefault(trial.batch_id, []).append(trial)
    parts: list[NDArray[np.float32]] = []
    kept: list[Row[Any]] = []
    for batch in reversed(batches):
        columns = _columns_on(marks[batch.id], days)
        if columns is None or len(kept) >= limit:
            continue
        returns = unpack_returns(batch, what=f"batch {batch.id}")[:, columns]
        usable = [trial for trial in of_batch.get(batch.id, []) if np.isfinite(returns[trial.position]).all()]
        usable = usable[-(limit - len(kept)) :]
        parts.insert(0, returns[[trial.position for trial in usable]])
        kept = [*usable, *kept]
    returns = np.concatenate(parts) if parts else np.empty((0, len(days)), np.float32)
    return TrialMatrix(
        days,
        returns,
        *return_moments(returns),
        _numbers(trial.trades for trial in kept),
        _numbers(trial.fees_paid for trial in kept),
        np.array([trial.number for trial in kept], np.int64),
        tuple(trial.key for trial in kept),
        tuple(trial.fingerprint for trial in kept),
        total - len(kept),
    )


def _numbers(values: Iterable[float | None]) -> FloatColumn:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _columns_on(marks: TimeColumn, days: TimeColumn) -> Any:
    """Return the columns of these days, None when one is not there."""
    if len(days) == 0 or len(marks) == 0:
        return None
    columns = np.minimum(np.searchsorted(marks, days), len(marks) - 1)
    return columns if bool(np.all(marks[columns] == days)) else None
