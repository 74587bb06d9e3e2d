"""The sealed holdout: where it begins, which bars it withholds, and how that is told."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.timeframes import DAY_MS, Interval, floor_open, next_open
from engine.core.times import iso_utc
from engine.errors import BadRequest, Sealed

HOLDOUT_SHARE = 0.2
SHORTEST_HOLDOUT_MS = 30 * DAY_MS
# Below this the holdout would be more than a third of the range.
SHORTEST_RANGE_MS = 90 * DAY_MS


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a seal keeps back.

    Attributes
    ----------
    from_ms : int
        Bars that close after this time are withheld, milliseconds UTC.
    study : str
        Name of a study that holds the seal.
    """

    from_ms: int
    study: str

    def last_open_ms(self, interval: Interval) -> int:
        """Return the time before which a visible bar opens: such a bar has closed by the start of the seal."""
        return floor_open(interval, self.from_ms)

    def covers_run(self, end_ms: int) -> bool:
        """Say whether something that rests on bars up to this close rests on a withheld one."""
        return end_ms > self.from_ms

    def refusal(self, what: str) -> Sealed:
        """Return the error for a caller of whose wish nothing is left."""
        return Sealed(
            f"{what} reaches into the holdout of study {self.study!r}, which is sealed from {iso_utc(self.from_ms)} on",
            fix=f"ask for a range before {iso_utc(self.from_ms)}; open_holdout evaluates one chosen run on it, once",
        )


def holdout_start_ms(start_ms: int, end_ms: int) -> int:
    """Return where the holdout of a range begins: its last fifth, at least 30 days, from a midnight UTC on.

    >>> from engine.core.times import iso_utc, parse_time_ms
    >>> iso_utc(holdout_start_ms(parse_time_ms("2023-01-01"), parse_time_ms("2024-01-01")))
    '2023-10-20T00:00:00Z'
    """
    if end_ms - start_ms < SHORTEST_RANGE_MS:
        days = (end_ms - start_ms) / DAY_MS
        raise BadRequest(
            f"a range of {days:.0f} days is too short to keep a holdout back; a sealed study needs {SHORTEST_RANGE_MS // DAY_MS}",
            fix='choose an earlier start or a later end, or create the study with "sealed": false',
        )
    held_ms = max(int((end_ms - start_ms) * HOLDOUT_SHARE), SHORTEST_HOLDOUT_MS)
    return floor_open("D", end_ms - held_ms)


def last_close_ms(interval: Interval, last_open_ms: int) -> int:
    """Return when the last bar of a run closed."""
    return next_open(interval, last_open_ms)
