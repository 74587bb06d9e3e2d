"""Who says which points come next: a grid in order, draws by chance, or a sampler that learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.core.search.space import Space, draw_points
from engine.core.search.table import PointTable

Matrix = NDArray[np.float64]
# A batch is one transaction, and what a killed process has to do again.
GRID_BATCH = 256


class Proposer(Protocol):
    """Proposes batches of points. The same number with the same earlier points gives the same batch."""

    @property
    def total(self) -> int:
        """Return how many points there will be at most."""
        ...

    def propose(self, number: int, known: PointTable) -> Matrix:
        """Return batch `number` (shape (n, d)) after all points of the earlier ones; no rows when there are no more."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GridProposer:
    """All points in order."""

    values: Matrix

    @property
    def total(self) -> int:
        """Return how many points there are."""
        return len(self.values)

    def propose(self, number: int, known: PointTable) -> Matrix:
        """Return the next points."""
        del number
        return self.values[len(known) : len(known) + GRID_BATCH]


@dataclass(frozen=True, slots=True, eq=False)
class RandomProposer:
    """Distinct points drawn by chance."""

    space: Space
    total: int
    seed: int

    def propose(self, number: int, known: PointTable) -> Matrix:
        """Return the next draws."""
        wanted = min(GRID_BATCH, self.total - len(known))
        if wanted <= 0:
            return np.empty((0, len(self.space.names)))
        generator = np.random.default_rng([self.seed, number])
        return draw_points(self.space, wanted, generator, set(map(tuple, known.values.tolist())))
