"""What every indicator and function of the language is called, takes, means and needs; free of kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ParameterKind = Literal["series", "value", "condition", "period", "constant"]
Family = Literal["averages", "momentum", "volatility", "channels", "trend", "volume", "statistics", "functions"]
AnyColumn = NDArray[np.float64] | NDArray[np.bool_]

MAX_PERIOD = 5_000
# Windows that cost period x bars: kept short so that no expression can stall a run.
MAX_SLOW_PERIOD = 500


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a function.

    Attributes
    ----------
    kind : str
        `series` a number that varies with the bar; `value` a number, constant or not; `condition` true or false a
        bar; `period` a whole constant; `constant` a constant number. Constants may be parameters of the strategy.
    default : float or None
        None: the argument is required.
    """

    name: str
    kind: ParameterKind
    default: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    def describe(self) -> str:
        """Say it as in a signature: `period: period = 14 (1..5000)`."""
        default = "" if self.default is None else f" = {self.default:g}"
        bounded = self.minimum is not None and self.maximum is not None
        return f"{self.name}: {self.kind}{default}" + (f" ({self.minimum:g}..{self.maximum:g})" if bounded else "")


@dataclass(frozen=True, slots=True)
class Indicator:
    """The declaration of one function of the language.

    Attributes
    ----------
    formula : str
        How it is computed, for people; `expansion` where the formula is itself an expression.
    source : str
        Where the definition comes from.
    warmup : str
        Rows lost on top of those of its arguments, as an expression of its constants.
    inputs : tuple of str
        Columns it reads besides its arguments.
    expansion : str
        The same thing in the language; empty for a native function.
    elementwise : bool
        Reads one bar at a time and takes plain numbers too.
    finite : bool
        What computes it never returns an infinity, so that nobody has to look.
    variadic : bool
        Takes two or more arguments like the last one, in any order.
    compute : callable or None
        Takes input columns, series arguments and constants in declared order; returns one column.
    siblings, together : tuple of str, callable or None
        Indicators of the same arguments that one pass computes at once, and that pass: takes what `compute` takes,
        returns one column a sibling. Used where more than one of them is asked for.
    """

    name: str
    family: Family
    parameters: tuple[Parameter, ...]
    summary: str
    source: str
    formula: str = ""
    boolean: bool = False
    warmup: str = "0"
    inputs: tuple[str, ...] = ()
    expansion: str = ""
    elementwise: bool = False
    finite: bool = False
    variadic: bool = False
    compute: Callable[..., Any] | None = None
    siblings: tuple[str, ...] = ()
    together: Callable[..., Any] | None = None

    def signature(self) -> str:
        """Say how it is called: `ema(source: series, period: period (1..5000))`."""
        more = ", ..." if self.variadic else ""
        return f"{self.name}({', '.join(parameter.describe() for parameter in self.parameters)}{more})"

    def example(self) -> str:
        """Return a call that parses."""
        return f"{self.name}({', '.join(_example_argument(parameter) for parameter in self.parameters)})"


REGISTRY: dict[str, Indicator] = {}

SOURCE = Parameter("source", "series")
CONDITION = Parameter("condition", "condition")


def period(default: int | None = None, name: str = "period", minimum: int = 1, maximum: int = MAX_PERIOD) -> Parameter:
    """Declare a whole number of bars."""
    return Parameter(name, "period", default, minimum, maximum)


def native(declaration: Indicator) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as what computes `declaration`."""

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        _add(replace(declaration, compute=compute))
        return compute

    return register


def composite(declaration: Indicator) -> None:
    """Register a function that is an expression of others; its warm-up follows from them."""
    _add(replace(declaration, formula=declaration.formula or declaration.expansion))


def _add(declaration: Indicator) -> None:
    if declaration.name in REGISTRY:
        raise ValueError(f"indicator {declaration.name!r} is declared twice")
    REGISTRY[declaration.name] = declaration


def _example_argument(parameter: Parameter) -> str:
    if parameter.kind == "series":
        return "close"
    if parameter.kind == "value":
        return "open"
    if parameter.kind == "condition":
        return "close > open"
    return f"{20 if parameter.default is None else parameter.default:g}"
