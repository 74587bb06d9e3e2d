"""How kernels are compiled, and the rule for missing values that all of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from engine.core.candles import FloatColumn

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` at its first call, so that declaring indicators costs nothing.

    A kernel cannot call another one; what needs two is written as an expression or as plain numpy around them.
    """
    compiled: list[Callable[P, R]] = []

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not compiled:
            # numba takes 0.6 s to import; validating a strategy and listing indicators do without it.
            from numba import njit

            compiled.append(njit(cache=True, nogil=True)(function))
        return compiled[0](*args, **kwargs)

    return call


def over_valid(run: Callable[..., FloatColumn], columns: tuple[FloatColumn, ...], *constants: Any) -> FloatColumn:
    """Run a kernel over the bars where every input is a number; the other bars are NaN and do not exist for it.

    Parameters
    ----------
    run : callable
        Takes C-contiguous float64 columns without NaN, then `constants`; returns a column of the same length.
    columns : tuple of ndarray of float64, shape (n,)
        NaN marks a bar without a value.

    Returns
    -------
    ndarray of float64, shape (n,)

    Notes
    -----
    Bars that are na are skipped whole, as TradingView's `ta.*` functions do: a leading gap moves the seed, and a gap
    in the middle leaves the state as it was.
    """
    if all(_whole(column) for column in columns):
        return run(*(np.ascontiguousarray(column) for column in columns), *constants)
    missing = functools.reduce(np.logical_or, [np.isnan(column) for column in columns])
    result = np.full(len(missing), np.nan)
    present = np.flatnonzero(~missing)
    if len(present) == 0:
        return result
    first = int(present[0])
    if len(present) == len(missing) - first:
        result[first:] = run(*(np.ascontiguousarray(column[first:]) for column in columns), *constants)
    else:
        result[present] = run(*(np.ascontiguousarray(column[present]) for column in columns), *constants)
    return result


def over_valid_together(
    run: Callable[..., tuple[FloatColumn, ...]], columns: tuple[FloatColumn, ...], *constants: Any
) -> tuple[FloatColumn, ...]:
    """Do as `over_valid` does with a kernel that returns several columns."""
    if all(_whole(column) for column in columns):
        return run(*(np.ascontiguousarray(column) for column in columns), *constants)
    missing = functools.reduce(np.logical_or, [np.isnan(column) for column in columns])
    present = np.flatnonzero(~missing)
    found = run(*(np.ascontiguousarray(column[present]) for column in columns), *constants)
    results = tuple(np.full(len(missing), np.nan) for _ in found)
    for result, values in zip(results, found, strict=True):
        result[present] = values
    return results


def _whole(column: FloatColumn) -> bool:
    # A NaN makes the sum NaN; an overflow may do so too, and then the slow way finds that nothing is missing.
    with np.errstate(all="ignore"):
        return not np.isnan(column.sum())
