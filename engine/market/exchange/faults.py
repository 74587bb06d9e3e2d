"""The fault script: which requests go wrong, and how.

A script is a document ``{"seed": 1, "rules": [{"match": {...}, "action": {"kind": ...}}, ...]}``. Every rule counts the
requests that fit its path, symbol and window; `nth`, `every`, `from_call`, `count` and `probability` then choose among
them. All rules that fire are applied, in order; of the actions that replace the whole answer the first one wins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import BadRequest


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Match(_Document):
    """Which requests a rule is for; what is left out fits all."""

    path: str | None = Field(default=None, description="The path, or its last part: kline, funding/history")
    symbol: str | None = None
    window: tuple[int, int] | None = Field(default=None, description="Requests whose range meets [from_ms, to_ms)")
    nth: int | None = Field(default=None, ge=1, description="Only the n-th fitting request")
    every: int | None = Field(default=None, ge=1, description="Every n-th fitting request")
    from_call: int = Field(default=1, ge=1, description="Not before this fitting request")
    count: int | None = Field(default=None, ge=1, description="Fire at most this often")
    probability: float = Field(default=1.0, ge=0.0, le=1.0)


class Status(_Document):
    """Answer with an HTTP error."""

    kind: Literal["status"] = "status"
    code: int = Field(ge=400, le=599)
    html: bool = Field(default=False, description="A page of the content network instead of JSON")
    retry_after_s: int | None = None


class ReturnCode(_Document):
    """Answer 200 with a business error; `reset_after_ms` adds the X-Bapi-Limit headers."""

    kind: Literal["retcode"] = "retcode"
    code: int = 10006
    message: str = "Too many visits!"
    reset_after_ms: int | None = None


class Ban(_Document):
    """Answer 403 to this and every later request of the address until the time is over."""

    kind: Literal["ban"] = "ban"
    seconds: float = Field(default=600.0, gt=0)


class Delay(_Document):
    """Wait before answering."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0)


class Silence(_Document):
    """Hold the connection for a while and never answer."""

    kind: Literal["silence"] = "silence"
    seconds: float = Field(gt=0)


class Drop(_Document):
    """Close the connection in the middle of the body; its announced length is never reached."""

    kind: Literal["drop"] = "drop"
    share: float = Field(default=0.5, ge=0.0, lt=1.0)


class Drip(_Document):
    """Send the body in small pieces with pauses."""

    kind: Literal["drip"] = "drip"
    pieces: int = Field(default=10, ge=2)
    pause_s: float = Field(default=0.1, ge=0)


class CutJson(_Document):
    """End the body early, with a length that agrees."""

    kind: Literal["cut_json"] = "cut_json"
    share: float = Field(default=0.5, ge=0.0, lt=1.0)


class NullList(_Document):
    """Send `list: null`."""

    kind: Literal["null_list"] = "null_list"


class EmptyList(_Document):
    """Send no rows."""

    kind: Literal["empty_list"] = "empty_list"


class ShortPage(_Document):
    """Send only some rows of the page."""

    kind: Literal["short_page"] = "short_page"
    keep: int = Field(ge=0)
    side: Literal["newest", "oldest"] = "newest"


class Duplicates(_Document):
    """Send the newest rows twice."""

    kind: Literal["duplicates"] = "duplicates"
    rows: int = Field(default=1, ge=1)


class OutOfOrder(_Document):
    """Shuffle the rows (seeded)."""

    kind: Literal["out_of_order"] = "out_of_order"


class ForeignRows(_Document):
    """Append rows of another window: the last `rows` rows, moved in time."""

    kind: Literal["foreign_rows"] = "foreign_rows"
    rows: int = Field(default=1, ge=1)
    shift_ms: int = Field(default=-86_400_000 * 30)


class OtherWindow(_Document):
    """Answer for a range moved in time."""

    kind: Literal["other_window"] = "other_window"
    shift_ms: int


class IgnoreStart(_Document):
    """Answer as if neither start nor end had been sent: the newest window."""

    kind: Literal["ignore_start"] = "ignore_start"


class Conflict(_Document):
    """Send the oldest rows of the page a second time with other values."""

    kind: Literal["conflict"] = "conflict"
    rows: int = Field(default=1, ge=1)
    factor: float = Field(default=1.01, gt=0)


class Revise(_Document):
    """Send other values for the rows that open in [from_ms, to_ms)."""

    kind: Literal["revise"] = "revise"
    from_ms: int
    to_ms: int
    factor: float = Field(default=1.01, gt=0)


class Gap(_Document):
    """Leave out the rows that open in [from_ms, to_ms); with `match.count` they come late."""

    kind: Literal["gap"] = "gap"
    from_ms: int
    to_ms: int


class Skew(_Document):
    """Answer by a clock that is off."""

    kind: Literal["skew"] = "skew"
    offset_ms: int


class OpenClose(_Document):
    """Change the close of the newest row when its candle is still open."""

    kind: Literal["open_close"] = "open_close"
    factor: float = Field(default=1.001, gt=0)


RequestAction = OtherWindow | IgnoreStart | Skew
RowAction = (
    NullList | EmptyList | ShortPage | Duplicates | OutOfOrder | ForeignRows | Conflict | Revise | Gap | OpenClose
)
DeliveryAction = Status | ReturnCode | Ban | Delay | Silence | Drop | Drip | CutJson
Action = Annotated[RequestAction | RowAction | DeliveryAction, Field(discriminator="kind")]


class Rule(_Document):
    """One thing that goes wrong."""

    match: Match = Match()
    action: Action


class FaultScript(_Document):
    """All that goes wrong, in order."""

    seed: int = 1
    rules: tuple[Rule, ...] = ()


class FaultDirector:
    """Applies a script to requests as they come, counting per rule."""

    def __init__(self, script: FaultScript) -> None:
        self.random = random.Random(script.seed)  # noqa: S311 - reproducible faults, no secrets
        self._rules = script.rules
        self._calls = [0] * len(script.rules)
        self._fired = [0] * len(script.rules)

    def actions(self, path: str, symbol: str, first_ms: int | None, last_ms: int | None) -> Iterator[Action]:
        """Count a request and yield what befalls it."""
        for index, rule in enumerate(self._rules):
            if not _fits(rule.match, path, symbol, first_ms, last_ms):
                continue
            self._calls[index] += 1
            if self._chooses(rule.match, self._calls[index], self._fired[index]):
                self._fired[index] += 1
                yield rule.action

    def _chooses(self, match: Match, call: int, fired: int) -> bool:
        # Drawn for every fitting request, so that other conditions do not move the sequence.
        lucky = match.probability >= 1.0 or self.random.random() < match.probability
        return (
            lucky
            and call >= match.from_call
            and (match.nth is None or call == match.nth)
            and (match.every is None or call % match.every == 0)
            and (match.count is None or fired < match.count)
        )


def _fits(match: Match, path: str, symbol: str, first_ms: int | None, last_ms: int | None) -> bool:
    if match.path is not None and path != match.path and not path.endswith("/" + match.path.strip("/")):
        return False
    if match.symbol is not None and symbol != match.symbol:
        return False
    if match.window is None:
        return True
    return (last_ms is None or last_ms >= match.window[0]) and (first_ms is None or first_ms < match.window[1])


def parse_fault_script(text: str | bytes) -> FaultScript:
    """Read a script from JSON."""
    try:
        return FaultScript.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BadRequest(
            f"the fault script is not valid at {where}: {first['msg']}",
            fix='a script is {"seed": 1, "rules": [{"match": {"path": "kline", "nth": 2}, "action": {"kind": "status", "code": 503}}]}',
        ) from exc


def load_fault_script(path: Path) -> FaultScript:
    """Read a script from a file."""
    try:
        return parse_fault_script(path.read_bytes())
    except OSError as exc:
        raise BadRequest(f"the fault script {path.name!r} cannot be read", fix="name an existing JSON file") from exc
