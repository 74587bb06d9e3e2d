"""Everything that was tried on a market on the days of a run, in whatever study: a search is as large as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backtests.reopening import ReopenedRun
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.underlyings import underlying_of
from engine.core.verdict.study import daily_costs
from engine.store import Store
from engine.store.study_store import StudyRecord
from engine.store.trial_matrix import TrialMatrix

_MOST_STUDIES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class TrialTable:
    """Trials on the same days, one of them the run under judgement.

    Attributes
    ----------
    returns : ndarray of float32, shape (n, d)
        Daily, no NaN except in the row of a run that lost everything.
    costs : ndarray of float64, shape (n,)
        Fees a day as a share of the equity; 0 where unknown, which is the hardest case.
    chosen : int
        Row of the run.
    trials : int
        Distinct trials that count: all of the study, and those of other studies of the market that saw bars of the run.
    elsewhere : int
        Of them, those that only other studies made.
    studies : tuple of StudyRecord
        Whose trials are in the table.
    """

    returns: NDArray[np.float32]
    costs: FloatColumn
    chosen: int
    trials: int
    elsewhere: int
    studies: tuple[StudyRecord, ...]


async def studies_of_market(store: Store, study: StudyRecord) -> list[StudyRecord]:
    """Return a study and all others that look at the same coin, itself first."""
    coins = {underlying_of(symbol) for symbol in study.symbols}
    page = await store.list_studies(limit=_MOST_STUDIES)
    others = [
        each
        for each in page.items
        if each.id != study.id and each.feed == study.feed and coins & {underlying_of(name) for name in each.symbols}
    ]
    return [study, *others]


async def strictest_first(store: Store, studies: Sequence[StudyRecord], run: ReopenedRun) -> list[StudyRecord]:
    """Return the studies a run was evaluated in, the one that counts most trials against it first."""
    range_ms = (run.slice.start_ms, run.slice.end_ms)
    counted = {each.id: await store.market_trial_count(each.id, range_ms) for each in studies}
    # Of equals the one that seals a holdout.
    return sorted(studies, key=lambda each: (-counted[each.id], not each.sealed, -each.trials, each.created_ms))


async def lay_side_by_side(
    store: Store, study: StudyRecord | None, run: ReopenedRun, marks_ms: TimeColumn, own: FloatColumn
) -> TrialTable:
    """Return the trials beside a run.

    Parameters
    ----------
    study : StudyRecord or None
        The run's; None for a run that no ledger knows.
    marks_ms : ndarray of int64, shape (d,)
        Ends of the run's daily returns.
    own : ndarray of float64, shape (d,)
        The run's daily returns, which stand for it where its trial is not in the ledger's matrix.
    """
    if study is None:
        return TrialTable(own[None, :].astype(np.float32), np.zeros(1), 0, 1, 0, ())
    studies = await studies_of_market(store, study)
    matrices = [await store.trial_matrix(each.id, like=marks_ms) for each in studies]
    seen = run.slice
    counted = await store.market_trial_count(study.id, (seen.start_ms, seen.end_ms))
    contributing = [study, *(each for each, matrix in zip(studies[1:], matrices[1:], strict=True) if len(matrix))]
    returns, costs, chosen = await asyncio.to_thread(_joined, matrices, run, own)
    trials = max(study.trials, counted, len(returns))
    return TrialTable(returns, costs, chosen, trials, trials - study.trials, tuple(contributing))


def _joined(
    matrices: list[TrialMatrix], run: ReopenedRun, own: FloatColumn
) -> tuple[NDArray[np.float32], FloatColumn, int]:
    seen, capital = run.slice, run.execution.capital
    own_key = seen.trial_key(run.compiled.fingerprint())
    known: set[str] = set()
    parts: list[NDArray[np.float32]] = []
    costs: list[FloatColumn] = []
    chosen, count = None, 0
    for matrix in matrices:
        rows = [row for row, key in enumerate(matrix.keys) if key not in known]
        known |= set(matrix.keys)
        returns = matrix.returns[rows]
        # Fees are comparable where capital, costs and days are those of the run.
        alike = [seen.trial_key(matrix.fingerprints[row]) == matrix.keys[row] for row in rows]
        fees = np.where(alike, np.nan_to_num(matrix.fees_paid[rows]), 0.0)
        parts.append(returns)
        costs.append(daily_costs(returns, fees, capital))
        if chosen is None:
            chosen = next((count + place for place, row in enumerate(rows) if matrix.keys[row] == own_key), None)
        count += len(rows)
    if chosen is None:
        chosen = count
        parts.append(own[None, :].astype(np.float32))
        costs.append(np.zeros(1))
    return np.concatenate(parts), np.concatenate(costs), chosen
