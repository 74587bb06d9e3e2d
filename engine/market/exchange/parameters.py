"""Reading a query string the way the exchange does: defaults, limits, ranges, cursors, and the texts of its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, unquote

from engine.core.series import Category
from engine.core.timeframes import INTERVALS, Interval, ceil_open, floor_open
from engine.market.exchange.listings import CATEGORIES
from engine.market.exchange.sources import Window

UnalignedStart = Literal["containing", "next"]

SAMPLE_STEPS_MS = {
    "5min": 300_000, "15min": 900_000, "30min": 1_800_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000,
}  # fmt: skip
# The year 2100: no candle opens later, whatever a request says.
_FAR_FUTURE_MS = 4_102_444_800_000


class ParameterRefused(Exception):
    """The exchange answers retCode 10001 with this text, over HTTP 200."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one request, the first value of each name."""

    values: Mapping[str, str]

    @classmethod
    def parse(cls, query_string: str) -> Query:
        """Read a raw query string."""
        return cls({name: found[0] for name, found in parse_qs(query_string, keep_blank_values=True).items()})

    def text(self, name: str) -> str:
        """Return a parameter, or an empty text."""
        return self.values.get(name, "")

    def category(self, *, default: Category | None = None, allowed: tuple[Category, ...] = CATEGORIES) -> Category:
        """Return the category, or refuse it."""
        asked = self.text("category")
        if not asked and default is not None:
            return default
        for category in allowed:
            if asked == category:
                return category
        raise ParameterRefused("Illegal category")

    def interval(self) -> Interval:
        """Return the candle interval, or refuse it."""
        for interval in INTERVALS:
            if self.text("interval") == interval:
                return interval
        raise ParameterRefused("params error: interval is invalid")

    def sample_step_ms(self, name: str) -> int:
        """Return the step of open interest or account ratio."""
        step = SAMPLE_STEPS_MS.get(self.text(name))
        if step is None:
            raise ParameterRefused(f"params error: {name} is invalid")
        return step

    def limit(self, *, default: int, most: int) -> int:
        """Return how many rows are wanted."""
        asked = self.milliseconds("limit")
        if asked is None:
            return default
        if not 1 <= asked <= most:
            raise ParameterRefused("params error: limit is invalid")
        return asked

    def milliseconds(self, name: str) -> int | None:
        """Return a whole number that is not negative, None when it was not sent."""
        asked = self.text(name)
        if not asked:
            return None
        number = whole_number(asked)
        if number is None:
            raise ParameterRefused(f"params error: {name} is invalid")
        return min(number, _FAR_FUTURE_MS)

    def cursor(self) -> dict[str, str]:
        """Return the fields of a cursor, whether or not the caller encoded it once more."""
        raw = self.text("cursor")
        decoded = unquote(raw) if "%3D" in raw.upper() else raw
        return {name: found[0] for name, found in parse_qs(decoded).items()}

    def candle_window(self, interval: Interval, now_ms: int, unaligned_start: UnalignedStart) -> Window:
        """Return the bars meant by start, end and limit.

        End is inclusive; with both, or with end alone, the newest rows win; a lone start gives the oldest
        (Bybit v5 docs, market/kline, and recordings; what an unaligned start gives differs between recordings).
        """
        start, end = self.milliseconds("start"), self.milliseconds("end")
        limit = self.limit(default=200, most=1000)
        align = floor_open if unaligned_start == "containing" else ceil_open
        first_ms = 0 if start is None else align(interval, start)
        last_ms = floor_open(interval, now_ms if end is None else min(end, now_ms))
        if start is not None and end is not None and start > end:
            return Window(first_ms, -1, limit, newest=True)
        return Window(first_ms, last_ms, limit, newest=end is not None or start is None)


def whole_number(text: str) -> int | None:
    """Return the number a text of at most 18 plain digits stands for."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def encode_cursor(**fields: object) -> str:
    """Return a cursor as the exchange prints it: percent-encoded already inside the JSON."""
    return quote("&".join(f"{name}={value}" for name, value in fields.items()), safe="")
