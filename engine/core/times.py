"""Moments as people and models write them: ISO 8601 UTC in, int64 milliseconds inside, ISO 8601 UTC out."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.errors import BadRequest

# Bybit opened in 2018; a bound far outside catches seconds mistaken for milliseconds and typing errors alike.
EARLIEST_MS = 1_262_304_000_000  # 2010-01-01
LATEST_MS = 4_102_444_800_000  # 2100-01-01


def parse_time_ms(text: str, name: str = "time") -> int:
    """Return milliseconds UTC of an ISO 8601 date or moment; without a zone it is UTC.

    >>> parse_time_ms("2024-01-01")
    1704067200000
    >>> parse_time_ms("2024-01-01T02:00+02:00")
    1704067200000
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadRequest(
            f"{name} {text[:40]!r} is not a date", fix=f"{name} is ISO 8601 UTC: 2024-01-01 or 2024-01-01T12:30Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        milliseconds = int(moment.timestamp() * 1000)
    except (OverflowError, ValueError):
        milliseconds = -1
    if not EARLIEST_MS <= milliseconds <= LATEST_MS:
        raise BadRequest(f"{name} {text[:40]!r} is out of range", fix=f"{name} lies between 2010-01-01 and 2100-01-01")
    return milliseconds


def iso_utc(at_ms: int) -> str:
    """Return the moment as text, without milliseconds when there are none.

    >>> iso_utc(1704067200000)
    '2024-01-01T00:00:00Z'
    """
    moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def parse_range_ms(start: str, end: str) -> tuple[int, int]:
    """Return [start, end) in milliseconds; the end must lie after the start."""
    start_ms, end_ms = parse_time_ms(start, "start"), parse_time_ms(end, "end")
    if start_ms >= end_ms:
        raise BadRequest(
            f"end {end!r} is not after start {start!r}", fix="start is inclusive, end exclusive; swap or widen them"
        )
    return start_ms, end_ms
