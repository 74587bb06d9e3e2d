"""The time range of a command, given as moments or as days back from now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.core.timeframes import Interval

DAY_MS = 86_400_000


def range_ms(start: str | None, end: str | None, days: float, now_ms: int, interval: Interval) -> tuple[int, int]:
    """Return [start, end) in milliseconds; without an end it is the open of the bar that runs now.

    Parameters
    ----------
    start, end : str or None
        ISO 8601 UTC.
    days : float
        Length of the range when there is no start.
    now_ms : int
    interval : str
        Days back begin at the open of a bar.
    """
    from engine.core.timeframes import floor_open
    from engine.core.times import parse_time_ms
    from engine.errors import BadRequest

    end_ms = parse_time_ms(end, "--end") if end else floor_open(interval, now_ms)
    start_ms = parse_time_ms(start, "--start") if start else floor_open(interval, end_ms - int(days * DAY_MS))
    if start_ms >= end_ms:
        raise BadRequest("--end is not after --start", fix="start is inclusive, end exclusive; swap or widen them")
    return start_ms, end_ms
