"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"


def sparkline(values: Sequence[float], encoding: str = "utf-8") -> str:
    """Return the values as blocks of eight heights; plain characters where the encoding has no blocks.

    >>> sparkline([1, 2, 3, 2, 1])
    '▁▅█▅▁'
    >>> sparkline([1, 2, 3, 2, 1], "ascii")
    '_=#=_'
    """
    if not values:
        return ""
    try:
        BLOCKS.encode(encoding)
        heights = BLOCKS
    except (LookupError, UnicodeEncodeError):
        heights = ASCII_BLOCKS
    low, high = min(values), max(values)
    if low == high:
        return heights[3] * len(values)
    scale = (len(heights) - 1) / (high - low)
    return "".join(heights[int((value - low) * scale + 0.5)] for value in values)
