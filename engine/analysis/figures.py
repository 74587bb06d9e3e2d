"""How figures and tables stand in a brief: six significant digits, None where there is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from engine.core.times import iso_utc

# A brief: plain values that JSON knows.
Brief = dict[str, Any]
Severity = Literal["high", "medium", "low"]


def shown(value: Any, digits: int = 6) -> Any:
    """Return a figure to so many significant digits; None for NaN and infinity, anything else as it is.

    >>> shown(0.123456789), shown(float("nan")), shown("long"), shown(7)
    (0.123457, None, 'long', 7)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 6) -> Brief:
    """Return a table: the names of its columns once, then its rows."""
    return {"columns": list(columns), "rows": [[shown(cell, digits) for cell in row] for row in rows]}


def flag(name: str, severity: Severity, why: str) -> dict[str, str]:
    """Return something a careful reader must not overlook."""
    return {"flag": name, "severity": severity, "why": why}


def day(at_ms: int | None) -> str | None:
    """Return the date of a time, None where there is none."""
    return None if at_ms is None else iso_utc(int(at_ms))[:10]
