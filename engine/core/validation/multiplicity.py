"""Many p-values at once: which to believe when the share of false discoveries shall stay bounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.validation.return_matrix import FloatArray
from engine.errors import BadRequest


@dataclass(frozen=True, slots=True, eq=False)
class Discoveries:
    """The verdict on a list of p-values.

    Attributes
    ----------
    is_rejected : ndarray of bool, shape (n,)
        True where the null hypothesis is rejected.
    adjusted : ndarray of float64, shape (n,)
        Adjusted p-values: the smallest rate at which each would be rejected, at most 1.
    rate : float
        The bound on the expected share of false rejections.
    """

    is_rejected: NDArray[np.bool_]
    adjusted: FloatArray
    rate: float


def benjamini_hochberg(p_values: FloatArray, rate: float = 0.05) -> Discoveries:
    """Bound the expected share of false discoveries among independent or positively dependent tests.

    Parameters
    ----------
    p_values : ndarray of float64, shape (n,)
        In [0, 1], no NaN; an empty list has no discoveries.
    rate : float
        In (0, 1).

    Notes
    -----
    Benjamini and Hochberg 1995, "Controlling the false discovery rate".

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).adjusted.round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not bool(np.all((values >= 0) & (values <= 1))):
        raise BadRequest("p-values lie between 0 and 1, none is missing", fix="hand in one list of p-values")
    if not 0 < rate < 1:
        raise BadRequest(f"rate {rate}", fix="the rate is a share between 0 and 1, such as 0.05")
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return Discoveries(adjusted <= rate, adjusted, rate)
