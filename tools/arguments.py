"""Arguments that many tools share, described once and briefly: every word here is paid for in every tool list."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue

from engine.core.series import Category
from engine.core.timeframes import Interval, parse_interval
from engine.errors import BadRequest


def read_interval(given: object) -> object:
    """Return Bybit's code for the spellings people use (15, "15m", "4h", "1d"); anything else as it is, to be refused."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        return given
    try:
        return parse_interval(str(given))
    except BadRequest:
        return given


Symbol = Annotated[str, Field(max_length=40, description="E.g. BTCUSDT")]
Market = Category
# An argument whose description says all that a model needs: its schema, with every field and value, is kept from the tool
# list, where it costs more than it tells, and is what a wrong call is answered with.
IN_WORDS: dict[str, JsonValue] = {"told": "in words"}
Code = Annotated[Interval, BeforeValidator(read_interval), Field(json_schema_extra=IN_WORDS)]
Bar = Annotated[Code, Field(description="Minutes, or D W M")]
Start = Annotated[str, Field(max_length=40, description="ISO 8601 UTC, inclusive")]
End = Annotated[str, Field(max_length=40, description="Exclusive")]
Cursor = Annotated[str | None, Field(max_length=20, pattern=r"^\d+$", description="next_cursor")]
RunId = Annotated[str, Field(pattern=r"^run_[0-9a-f]{12}$", description="From run_backtest or list_runs")]
StudyName = Annotated[str | None, Field(max_length=64, description="Default: unsealed scratch")]
Sealed = Annotated[bool | None, Field(description="Of a new study; default true")]
JobId = Annotated[str, Field(pattern=r"^job_[0-9a-f]{12}$", description="From start_... or list_jobs")]


def offset_of(cursor: str | None) -> int:
    """Return the row a cursor points at."""
    return int(cursor) if cursor else 0


def next_cursor(offset: int, shown: int, total: int) -> str | None:
    """Return the cursor of the next page, None at the end."""
    return str(offset + shown) if offset + shown < total else None
