"""Funding, open interest and ratios: pages of timed samples, read from the newest backwards.

These endpoints are anchored at the end of the window and answer newest first (Bybit v5 docs, market/open-interest,
market/long-short-ratio, market/history-fund-rate), so the next page ends right before the oldest sample received; that
loses nothing when a page comes short, and needs no cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from engine.errors import BadPayload, BadRequest
from engine.ports import SampleInterval

Kept = TypeVar("Kept")

SAMPLE_STEPS_MS: Mapping[SampleInterval, int] = {
    "5min": 300_000,
    "15min": 900_000,
    "30min": 1_800_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": 86_400_000,
}


class SampleReader(Protocol):
    """Reads one window, both ends inclusive; `understand` judges the rows and may ask for another try."""

    def __call__(
        self, first_ms: int, last_ms: int, limit: int, understand: Callable[[list[Any]], Kept]
    ) -> Awaitable[Kept]:
        """Return what `understand` made of the rows."""
        ...


@dataclass(frozen=True, slots=True)
class SamplePages:
    """The newest `limit` samples in [start_ms, end_ms); consecutive samples are at least `step_ms` apart."""

    start_ms: int
    end_ms: int
    limit: int
    page_rows: int
    step_ms: int

    def __post_init__(self) -> None:
        if self.start_ms >= self.end_ms or self.limit < 1:
            raise BadRequest(
                f"the window [{self.start_ms}, {self.end_ms}) or the limit {self.limit} is empty",
                fix="start is before end, limit is at least 1",
            )

    async def collect(self, read: SampleReader) -> list[Any]:
        """Return the samples, ascending and unique."""
        found: dict[int, Any] = {}
        last_ms = self.end_ms - 1
        while len(found) < self.limit and last_ms >= self.start_ms:
            wanted = min(self.page_rows, self.limit - len(found))
            page = await self._page(read, last_ms, wanted) or await self._page(read, last_ms, wanted)
            if not page:
                break  # twice empty: there is nothing older
            found |= page
            oldest_ms = min(page)
            last_ms = oldest_ms - 1
            if oldest_ms - self.step_ms < self.start_ms:
                break
        return [found[at_ms] for at_ms in sorted(found)[-self.limit :]]

    async def _page(self, read: SampleReader, last_ms: int, rows: int) -> dict[int, Any]:
        return await read(self.start_ms, last_ms, rows, lambda page: unique_samples(page, self.start_ms, last_ms))


def unique_samples(rows: Sequence[Any], first_ms: int, last_ms: int) -> dict[int, Any]:
    """Return the samples of one answer by time, without those outside [first_ms, last_ms].

    Raises
    ------
    BadPayload
        Not one row belongs to the window, or one time came with two values.
    """
    kept: dict[int, Any] = {}
    for row in rows:
        if first_ms <= row.at_ms <= last_ms and kept.setdefault(row.at_ms, row) != row:
            raise BadPayload("one sample came twice with different values", fix="try again; nothing was kept")
    if rows and not kept:
        raise BadPayload(f"all {len(rows)} samples lie outside the window asked for", fix="try again; nothing was kept")
    return kept
