"""Bar boundaries: where bars of an interval open, in int64 milliseconds UTC.

Minute intervals open at multiples of their length since the epoch, days at 00:00 UTC, weeks on ISO Monday 00:00 UTC,
months on the first at 00:00 UTC (reference/bybit-and-reliability.md 1.2; the weekly anchor is the product's contract).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, get_args

from engine.errors import BadRequest

Interval = Literal["1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)

MINUTE_MS = 60_000
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
# 1970-01-05 was the first Monday after the epoch.
_MONDAY_MS = 4 * DAY_MS

_ALIASES: dict[str, Interval] = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "60m": "60", "1h": "60", "2h": "120", "4h": "240",
    "6h": "360", "12h": "720", "1d": "D", "d": "D", "1w": "W", "w": "W", "1mo": "M", "1M": "M",
}  # fmt: skip


def parse_interval(text: str) -> Interval:
    """Return the Bybit code of an interval; `15m`, `1h`, `1d` are understood too.

    >>> parse_interval("4h")
    '240'
    """
    cleaned = text.strip()
    for known in INTERVALS:
        if cleaned == known:
            return known
    alias = _ALIASES.get(cleaned) or _ALIASES.get(cleaned.lower())
    if alias is None:
        raise BadRequest(f"unknown interval {text!r}", fix=f"interval is one of {', '.join(INTERVALS)}")
    return alias


def step_ms(interval: Interval) -> int:
    """Return the length of a bar in milliseconds; for months the shortest one (28 days), fit for bounds only."""
    if interval == "D":
        return DAY_MS
    if interval == "W":
        return WEEK_MS
    if interval == "M":
        return 28 * DAY_MS
    return int(interval) * MINUTE_MS


def floor_open(interval: Interval, at_ms: int) -> int:
    """Return the open of the bar that contains `at_ms`."""
    if interval == "M":
        moment = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
        return _month_ms(moment.year, moment.month)
    if interval == "W":
        return (at_ms - _MONDAY_MS) // WEEK_MS * WEEK_MS + _MONDAY_MS
    step = step_ms(interval)
    return at_ms // step * step


def next_open(interval: Interval, open_ms: int) -> int:
    """Return the open of the bar after the one that opens at `open_ms`; also that bar's close time."""
    if interval == "M":
        moment = datetime.fromtimestamp(open_ms // 1000, tz=UTC)
        return _month_ms(moment.year + moment.month // 12, moment.month % 12 + 1)
    return open_ms + step_ms(interval)


def ceil_open(interval: Interval, at_ms: int) -> int:
    """Return the first bar open at or after `at_ms`."""
    floor = floor_open(interval, at_ms)
    return floor if floor == at_ms else next_open(interval, floor)


def count_opens(interval: Interval, start_ms: int, end_ms: int) -> int:
    """Return how many bars open in [start_ms, end_ms)."""
    first, last = ceil_open(interval, start_ms), ceil_open(interval, end_ms)
    if first >= last:
        return 0
    if interval == "M":
        a, b = (datetime.fromtimestamp(ms // 1000, tz=UTC) for ms in (first, last))
        return (b.year - a.year) * 12 + b.month - a.month
    return (last - first) // step_ms(interval)


def advance(interval: Interval, open_ms: int, bars: int) -> int:
    """Return the open that lies `bars` (may be negative) bars after `open_ms`, itself an open."""
    if interval == "M":
        moment = datetime.fromtimestamp(open_ms // 1000, tz=UTC)
        months = moment.year * 12 + moment.month - 1 + bars
        return _month_ms(months // 12, months % 12 + 1)
    return open_ms + bars * step_ms(interval)


def _month_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
