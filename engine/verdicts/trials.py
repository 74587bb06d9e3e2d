"""Everything that was tried on a market on the days of a run, in whatever study: a search is as large as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backtests.reopening import ReopenedRun
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.expressions.looking import conjuncts, review_text
from engine.core.sketches import sketch_of
from engine.core.underlyings import underlying_of
from engine.core.verdict.study import daily_costs
from engine.store import Store
from engine.store.probe_store import Probe
from engine.store.sketch_rows import Coin
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
    probes : int
        Expressions somebody looked at on bars of the run, without the rules of the run itself; they left no returns.
    copies : tuple of str
        Coins whose prices move as one with the market's under another name; their trials and probes count here.
    """

    returns: NDArray[np.float32]
    costs: FloatColumn
    chosen: int
    trials: int
    elsewhere: int
    studies: tuple[StudyRecord, ...]
    probes: int = 0
    copies: tuple[str, ...] = ()


async def studies_of_market(store: Store, study: StudyRecord, coins: Collection[Coin]) -> list[StudyRecord]:
    """Return a study and all others that look at one of its coins or of these, itself first."""
    wanted = {*coins, *coins_of(study)}
    page = await store.list_studies(limit=_MOST_STUDIES)
    return [study, *(each for each in page.items if each.id != study.id and wanted & coins_of(each))]


def coins_of(study: StudyRecord) -> set[Coin]:
    """Return the coins a study is about."""
    return {(study.feed, underlying_of(symbol)) for symbol in study.symbols}


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
    seen, series = run.slice, run.series
    range_ms = (seen.start_ms, seen.end_ms)
    market: Coin = (series.feed, underlying_of(series.symbol))
    sketch = sketch_of(series.symbol, series.interval, run.candles)
    coins = await store.same_markets([market], [sketch])
    probes = len(await store.probes(coins, range_ms) - _rules_of(run))
    copies = tuple(sorted(coin for feed, coin in coins if (feed, coin) != market))
    if study is None:
        return TrialTable(own[None, :].astype(np.float32), np.zeros(1), 0, 1, 0, (), probes, copies)
    studies = await studies_of_market(store, study, coins)
    matrices = [await store.trial_matrix(each.id, like=marks_ms) for each in studies]
    counted = await store.market_trial_count(study.id, range_ms, coins)
    contributing = [study, *(each for each, matrix in zip(studies[1:], matrices[1:], strict=True) if len(matrix))]
    returns, costs, chosen = await asyncio.to_thread(_joined, matrices, run, own)
    trials = max(study.trials, counted, len(returns))
    return TrialTable(returns, costs, chosen, trials, trials - study.trials, tuple(contributing), probes, copies)


def _rules_of(run: ReopenedRun) -> frozenset[Probe]:
    """Return what the run itself is made of: whoever looked at that looked at no further strategy."""
    interval = run.series.interval
    parts = [part for rule in run.compiled.rules.values() for part in conjuncts(rule)]
    texts = [each.text for each in (*run.compiled.rules.values(), *parts)]
    return frozenset(Probe(text, interval) for text in (*texts, review_text(run.compiled.fingerprint())))


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
