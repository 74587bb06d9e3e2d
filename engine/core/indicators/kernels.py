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

_LONGEST_USUAL_WARMUP = 8_192


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

            # Python's error at a division by zero is a branch in every loop that divides.
            compiled.append(njit(cache=True, nogil=True, error_model="numpy")(function))
        return compiled[0](*args, **kwargs)

    return call


def telling_kernel(function: Callable[P, bool]) -> Callable[P, bool]:
    """Compile a kernel that says whether all it wrote after its warm-up is finite, which a missing input makes untrue.

    Where it says yes nobody has to look at the columns again: each look costs as much as many a kernel.
    """
    call = kernel(function)
    call.tells = True  # type: ignore[attr-defined]
    return call


def over_valid(run: Callable[..., bool | None], columns: tuple[FloatColumn, ...], *constants: Any) -> FloatColumn:
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
    run: Callable[..., bool | None], columns: tuple[FloatColumn, ...], wanted: tuple[int, ...] | None, *constants: Any
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
    tells = hasattr(run, "tells")
    if tells and rows and not any(np.isnan(column[0]) for column in columns):
        outputs = [np.empty(rows if which in chosen else 0) for which in range(count)]
        if run(*outputs, *(readable(column) for column in columns), *constants):
            return tuple(outputs[which] for which in chosen)
    whole = all(_whole(column) for column in columns)
    present = slice(0, rows) if whole else _present(columns)
    inputs = [readable(column[present]) for column in columns]
    outputs = [np.empty(len(inputs[0]) if which in chosen else 0) for which in range(count)]
    run(*outputs, *inputs, *constants)
    found = [outputs[which] if whole else _spread(outputs[which], present, rows) for which in chosen]
    return tuple(map(without_infinities, found)) if tells else tuple(found)


def readable(column: FloatColumn) -> FloatColumn:
    """Return a contiguous read-only view: to the compiler a column that can be written is another kind of argument."""
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


# Kernels that write more than one column.
KERNEL_OUTPUTS = {"_bands": 2, "_macd": 3}


def without_infinities(values: Any) -> Any:
    """Turn infinities into NaN: what overflowed or was divided by zero has no value."""
    if values.dtype == np.bool_ or _all_finite(values):
        return values
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values) if infinite.any() else values


def _all_finite(values: Any) -> bool:
    # A finite sum has no infinity in it: the cheapest look at the bars after the warm-up, which are all of most columns.
    if values.ndim == 0:
        return bool(np.isfinite(values))
    known = np.flatnonzero(~np.isnan(values[:_LONGEST_USUAL_WARMUP]))
    with np.errstate(all="ignore"):
        return len(known) > 0 and bool(np.isfinite(values[known[0] :].sum()))


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
