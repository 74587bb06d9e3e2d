"""What a metric is: its name, definition and convention beside the function that measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.core.metrics.facts import Facts

# A text says why the metric is undefined.
Outcome = float | int | str
Unit = Literal["money", "fraction", "ratio", "count", "bars", "days"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name, title : str
    unit : str
        `money` is the settlement currency; fractions are of 1, never percent.
    definition, convention, source : str
    undefined_when : str
        Empty when the metric always has a value.
    measure : callable
        Facts to a number, or to the reason why there is none.
    better : str
        Which values a search prefers.
    """

    name: str
    title: str
    unit: Unit
    definition: str
    convention: str
    source: str
    undefined_when: str
    measure: Callable[[Facts], Outcome]
    better: Literal["higher", "lower"] = "higher"
