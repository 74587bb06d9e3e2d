"""Points proposed by optuna's tree-structured Parzen estimator, rebuilt for every batch from what is known."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.core.search.objectives import Objective, eligible_points
from engine.core.search.space import Dimension, Space, draw_points
from engine.core.search.table import PointTable

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Matrix = NDArray[np.float64]

BATCH = 16
# The first points are drawn by chance; a model of fewer would be of noise.
STARTUP_POINTS = 32
# Proposals that break a condition or repeat a point, for each one that is wanted.
_TRIES_A_POINT = 20
# Optuna's verbosity is one setting for the process.
_quiet = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class ParzenProposer:
    """Learns from earlier points where better ones may be.

    Every batch begins with a fresh study that holds all earlier points, and a sampler seeded by the batch's number. So a
    search that was killed and goes on proposes what it would have proposed without the interruption.

    Attributes
    ----------
    space : Space
    objectives : tuple of Objective
    min_trades : int
        Points with fewer trades are told as infeasible, the worse the fewer trades they have.
    total : int
    seed : int
    """

    space: Space
    objectives: tuple[Objective, ...]
    min_trades: int
    total: int
    seed: int

    def propose(self, number: int, known: PointTable) -> Matrix:
        """Return the next points: distinct, and new."""
        wanted = min(STARTUP_POINTS if number == 0 else BATCH, self.total - len(known))
        taken = set(map(tuple, known.values.tolist()))
        generator = np.random.default_rng([self.seed, number])
        if wanted <= 0 or number == 0:
            return draw_points(self.space, max(wanted, 0), generator, taken)
        found = self._asked(number, known, wanted, taken)
        if len(found) < wanted:
            # A sampler that keeps to what it knows must not end a search while there are points left.
            more = draw_points(self.space, wanted - len(found), generator, taken)
            found.extend(more.tolist())
        return np.array(found, np.float64).reshape(len(found), len(self.space.names))

    def _asked(self, number: int, known: PointTable, wanted: int, taken: set[tuple[float, ...]]) -> list[list[float]]:
        import optuna  # a third of a second that only such a search pays

        scales = [_Scale(dimension) for dimension in self.space.dimensions]
        distributions = {scale.name: scale.distribution() for scale in scales}
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            study = self._study(number, known, scales, distributions)
            found: list[list[float]] = []
            for _ in range(_TRIES_A_POINT * wanted):
                trial = study.ask(distributions)
                row = [scale.value(trial.params[scale.name]) for scale in scales]
                if self._is_refused(study, trial, row, taken):
                    continue
                taken.add(tuple(row))
                found.append(row)
                if len(found) == wanted:
                    break
        return found

    def _is_refused(self, study: Study, trial: Trial, row: list[float], taken: set[tuple[float, ...]]) -> bool:
        from optuna.trial import TrialState

        violation = float(self.space.violations(np.array([row]))[0])
        if violation > 0:
            trial.set_constraint("violation", violation)
            study.tell(trial, state=TrialState.PRUNED)
        elif tuple(row) in taken:
            study.tell(trial, state=TrialState.FAIL)
        else:
            return False
        return True

    def _study(
        self, number: int, known: PointTable, scales: Sequence[_Scale], distributions: Mapping[str, BaseDistribution]
    ) -> Study:
        import optuna
        from optuna.study import StudyDirection
        from optuna.trial import TrialState, create_trial

        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
        study = optuna.create_study(directions=[StudyDirection.MAXIMIZE] * len(self.objectives), sampler=sampler)
        eligible = eligible_points(known.metrics, self.min_trades)
        scores = np.stack([each.scores(known.metrics, eligible) for each in self.objectives], axis=1)
        missing = np.maximum(self.min_trades - known.metrics["trades"], 1.0)
        for row, values in enumerate(known.values.tolist()):
            params = {scale.name: scale.place(value) for scale, value in zip(scales, values, strict=True)}
            if np.isnan(scores[row]).any():
                study.add_trial(
                    create_trial(
                        state=TrialState.PRUNED,
                        params=params,
                        distributions=dict(distributions),
                        constraints={"violation": float(missing[row])},
                    )
                )
            else:
                study.add_trial(
                    create_trial(params=params, distributions=dict(distributions), values=scores[row].tolist())
                )
        return study


class _Scale:
    """A dimension as the sampler sees it: values that can be counted by their place, so that they keep their order."""

    def __init__(self, dimension: Dimension) -> None:
        self.name = dimension.name
        self._dimension = dimension
        self._values = None if dimension.count is None or dimension.log else dimension.values()

    def distribution(self) -> Any:
        from optuna.distributions import FloatDistribution, IntDistribution

        dimension = self._dimension
        if self._values is not None:
            return IntDistribution(0, len(self._values) - 1)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)

    def value(self, place: float) -> float:
        if self._values is not None:
            return float(self._values[int(place)])
        if self._dimension.step is None:
            return float(place)
        # A logarithmic range with steps is drawn as a continuum and moved to the nearest step.
        low, step = self._dimension.low, self._dimension.step
        return float(np.round(low + step * round((place - low) / step), 12))

    def place(self, value: float) -> float | int:
        return value if self._values is None else int(np.searchsorted(self._values - 1e-9, value))
