"""The points a search has evaluated, in the order of their evaluation, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PointTable:
    """Evaluated points.

    Attributes
    ----------
    names : tuple of str
        The searched parameters.
    values : ndarray of float64, shape (n, d)
    metrics : dict of str to ndarray of float64, shape (n,)
        NaN where undefined.
    """

    names: tuple[str, ...]
    values: Matrix
    metrics: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> PointTable:
        """Return the chosen rows."""
        return PointTable(self.names, self.values[rows], {name: column[rows] for name, column in self.metrics.items()})

    def distinct(self) -> PointTable:
        """Return every point once, where it came first."""
        if len(self) == 0:
            return self
        _, firsts = np.unique(self.values, axis=0, return_index=True)
        return self.take(np.sort(firsts))

    @classmethod
    def joined(cls, names: tuple[str, ...], parts: Sequence[PointTable]) -> PointTable:
        """Join parts in their order."""
        if not parts:
            return cls(names, np.empty((0, len(names))), {})
        return cls(
            names,
            np.concatenate([part.values for part in parts]),
            {name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics},
        )
