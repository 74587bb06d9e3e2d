"""How kernels are compiled, and the rule for missing values that all of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

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


def over_valid(run: Callable[..., None], columns: tuple[FloatColumn, ...], *constants: Any) -> FloatColumn:
    """Run a kernel over the bars where every input is a number; the other bars are NaN and do not exist for it.

    Parameters
    ----------
    run : callable
        Takes the column to write, C-contiguous float64 columns of the same length without NaN, then `constants`.
    columns : tuple of ndarray of float64, shape (n,)
        NaN marks a bar without a value.

    Returns
    -------
    ndarray of float64, shape (n,)

    Notes
    -----
    Bars that are na are skipped whole, as TradingView's `ta.*` functions do: a leading gap moves the seed, and a gap
    in the middle leaves the state as it was. Results are allocated here because numpy asks the system for large pages
    and numba does not, which is worth a millisecond a million bars.
    """
    return over_valid_together(run, columns, None, *constants)[0]


def over_valid_together(
    run: Callable[..., None], columns: tuple[FloatColumn, ...], wanted: tuple[int, ...] | None, *constants: Any
) -> tuple[FloatColumn, ...]:
    """Do as `over_valid` does with a kernel that writes several columns, and return the wanted ones.

    Parameters
    ----------
    wanted : tuple of int or None
        Which of the columns of a kernel with several; the others are handed to it without rows. None: it has one.
    """
    count = 1 if wanted is None else KERNEL_OUTPUTS[run.__name__]
    chosen = range(count) if wanted is None else wanted
    rows = len(columns[0])
    whole = all(_whole(column) for column in columns)
    present = slice(0, rows) if whole else _present(columns)
    inputs = [readable(column[present]) for column in columns]
    outputs = [np.empty(len(inputs[0]) if which in chosen else 0) for which in range(count)]
    run(*outputs, *inputs, *constants)
    if whole:
        return tuple(outputs[which] for which in chosen)
    return tuple(_spread(outputs[which], present, rows) for which in chosen)


def readable(column: FloatColumn) -> FloatColumn:
    """Return a contiguous read-only view: to the compiler a column that can be written is another kind of argument."""
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


# Kernels that write more than one column.
KERNEL_OUTPUTS = {"_bands": 2, "_macd": 3}


def _present(columns: tuple[FloatColumn, ...]) -> slice | NDArray[np.intp]:
    """Return the rows where every column is a number: a slice when only a head is missing."""
    missing = functools.reduce(np.logical_or, [np.isnan(column) for column in columns])
    first = int(np.argmin(missing)) if len(missing) and not missing.all() else len(missing)
    return np.flatnonzero(~missing) if missing[first:].any() else slice(first, len(missing))


def _spread(values: FloatColumn, rows: slice | NDArray[np.intp], length: int) -> FloatColumn:
    result = np.empty(length)
    if isinstance(rows, slice):
        result[: rows.start] = np.nan
    else:
        result[:] = np.nan
    result[rows] = values
    return result


def _whole(column: FloatColumn) -> bool:
    # A NaN makes the sum NaN; an overflow may do so too, and then the slow way finds that nothing is missing.
    with np.errstate(all="ignore"):
        return not np.isnan(column.sum())
