"""Steps that prices move by, read from the prices themselves."""

from __future__ import annotations

import numpy as np

from engine.core.candles import FloatColumn

_MOST_DIGITS = 16


def decimal_step(values: FloatColumn) -> float:
    """Return the coarsest decimal step that all values are multiples of.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        NaN is left out.

    Returns
    -------
    float
        1 or less; 1e-16 where no sixteen decimals are enough.

    >>> decimal_step(np.array([42000.5, 42001.25])), decimal_step(np.array([1.25e-8]))
    (0.01, 1e-10)
    """
    values = values[~np.isnan(values)]
    for digits in range(_MOST_DIGITS):
        scaled = np.abs(values) * 10.0**digits
        # Relative, so that a tiny price is not taken for zero; bounded, so that large ones still need the digit.
        if np.all(np.abs(scaled - np.round(scaled)) <= np.minimum(1e-9 * scaled, 1e-6) + 1e-15 * scaled):
            return float(f"1e-{digits}")
    return float(f"1e-{_MOST_DIGITS}")
