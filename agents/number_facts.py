"""The numbers and dates that a text may quote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that may be quoted, and where it stands."""

    path: str  # empty for a number met in a text
    value: float
    is_percent: bool = False

    @property
    def key(self) -> str:
        """Return the last part of the path, in lower case."""
        return self.path.rsplit(".", 1)[-1].lower()


@dataclass(frozen=True, slots=True)
class Facts:
    """Every number and the span of dates that a text may quote."""

    numbers: tuple[Fact, ...]
    first_day: str | None = None
    last_day: str | None = None
    text: str = ""
