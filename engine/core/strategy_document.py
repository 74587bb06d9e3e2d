"""The strategy document: what a person or a model writes, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from engine.core.expressions.nodes import SERIES
from engine.core.expressions.resolution import closest
from engine.errors import BadRequest

MAX_PARAMS = 32
MAX_DEFINITIONS = 64

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
Expression = Annotated[str, Field(min_length=1, max_length=2_000)]
# A number, or an expression of numbers and parameters, so that it can be searched.
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False)] | Expression
_RESERVED = frozenset((*SERIES, "and", "or", "not", "tf"))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Param(_Part):
    """A number that may be changed or searched."""

    default: float
    min: float
    max: float
    step: Annotated[float, Field(gt=0)] | None = None
    integer: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Param:
        if not self.min <= self.default <= self.max:
            raise ValueError(f"default {self.default:g} must lie between min {self.min:g} and max {self.max:g}")
        values = (self.default, self.min, self.max, self.step or 1.0)
        if self.integer and not all(value.is_integer() for value in values):
            raise ValueError("default, min, max and step of an integer must be whole numbers")
        return self


class Level(_Part):
    """A stop or target: percent of the entry price, or a price distance read at the signal bar."""

    percent: Amount | None = None
    distance: Expression | None = None

    @model_validator(mode="after")
    def _one(self) -> Level:
        if (self.percent is None) == (self.distance is None):
            raise ValueError("give either percent or distance")
        return self


class TrailingStop(Level):
    """A stop that follows the best price, from the entry or from a first gain on."""

    activation_percent: Amount | None = None


class PartialTakeProfit(Level):
    """A target that closes a fraction of everything entered, before take_profit closes the rest."""

    fraction: Amount


class EntryOrder(Level):
    """A resting entry at an offset from the signal bar's close: `limit` better than it, `stop` beyond it."""

    type: Literal["limit", "stop"]
    bars: Amount = 1.0


class Session(_Part):
    """When entries may fill, by the open of the bar, UTC; hours may pass midnight, weekdays count from 0 Monday."""

    start_hour: Annotated[int, Field(ge=0, le=23)] = 0
    end_hour: Annotated[int, Field(ge=1, le=24)] = 24
    weekdays: Annotated[tuple[Annotated[int, Field(ge=0, le=6)], ...], Field(min_length=1, max_length=7)] = (
        0, 1, 2, 3, 4, 5, 6,
    )  # fmt: skip
    flat_outside: bool = False

    @model_validator(mode="after")
    def _some_hours(self) -> Session:
        if self.start_hour == self.end_hour:
            raise ValueError("start_hour and end_hour are the same: give 0 and 24 for whole days")
        return self


class Size(_Part):
    """How much to trade: exactly one of these."""

    equity_fraction: Amount | None = None
    quote: Amount | None = None
    quantity: Amount | None = None
    risk_percent: Amount | None = None

    @model_validator(mode="after")
    def _one(self) -> Size:
        if (
            sum(value is not None for value in (self.equity_fraction, self.quote, self.quantity, self.risk_percent))
            != 1
        ):
            raise ValueError("give exactly one of equity_fraction, quote, quantity, risk_percent")
        return self


class StrategyDocument(_Part):
    """A strategy: parameters, definitions, entries, exits, stops, size."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    description: Annotated[str, Field(max_length=4_000)] = ""
    weakness: Annotated[str, Field(max_length=4_000)] = ""
    source: Annotated[str, Field(max_length=1_000)] = ""
    params: Annotated[dict[Name, Param], Field(max_length=MAX_PARAMS)] = {}
    define: Annotated[dict[Name, Expression], Field(max_length=MAX_DEFINITIONS)] = {}
    long_entry: Expression | None = None
    long_exit: Expression | None = None
    short_entry: Expression | None = None
    short_exit: Expression | None = None
    stop_loss: Level | None = None
    take_profit: Level | None = None
    trailing_stop: TrailingStop | None = None
    breakeven_after_percent: Amount | None = None
    max_bars: Amount | None = None
    size: Size | None = None
    partial_take_profits: Annotated[tuple[PartialTakeProfit, ...], Field(min_length=1, max_length=4)] | None = None
    entry_order: EntryOrder | None = None
    max_entries: Amount | None = None
    session: Session | None = None

    @model_validator(mode="after")
    def _whole(self) -> StrategyDocument:
        if self.long_entry is None and self.short_entry is None:
            raise ValueError("give long_entry, short_entry or both")
        taken = (self.params.keys() | self.define.keys()) & _RESERVED
        if taken:
            raise ValueError(f"{min(taken)!r} is a word of the language and cannot name a parameter or definition")
        both = self.params.keys() & self.define.keys()
        if both:
            raise ValueError(f"{min(both)!r} names a parameter and a definition")
        if self.size is not None and self.size.risk_percent is not None and self.stop_loss is None:
            raise ValueError("size.risk_percent measures the risk to the stop: give stop_loss")
        if self.entry_order is not None and self.max_entries not in (None, 1):
            raise ValueError("entry_order cannot add to a position: leave out max_entries")
        return self


def read_document(raw: object) -> StrategyDocument:
    """Return the document without looking into its expressions; failures name the place."""
    if isinstance(raw, StrategyDocument):
        return raw
    if isinstance(raw, str):
        raw = _from_json(raw)
    if not isinstance(raw, Mapping):
        raise BadRequest(
            f"a strategy is an object, found {type(raw).__name__}", fix="give name and long_entry at least"
        )
    try:
        return StrategyDocument.model_validate(dict(cast("Mapping[str, object]", raw)))
    except ValidationError as exc:
        raise _told(exc.errors(include_url=False)) from exc


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the strategy is not valid JSON", fix="give an object, or its JSON text") from exc


def _told(errors: list[ErrorDetails]) -> BadRequest:
    # A field that may be a number or a text fails twice; the last one says what texts need.
    error = errors[0]
    path = [str(part) for part in error["loc"] if part not in ("float", "str", "[key]") and not _is_union_label(part)]
    place = ".".join(path) or "strategy"
    if error["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        hint = closest(path[-1], known)
        return BadRequest(f"{place}: unknown field {path[-1]!r}", fix=f"{hint} fields here: {', '.join(known)}".strip())
    if error["type"] == "missing":
        return BadRequest(f"{place}: missing", fix=f"give {path[-1]}")
    message = error["msg"].removeprefix("Value error, ")
    found = error.get("input")
    shown = f", found {found!r}" if isinstance(found, (int, float, str)) and len(repr(found)) <= 60 else ""
    return BadRequest(f"{place}: {message}{shown}", fix=_fix_for(place))


def _is_union_label(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith(("constrained-", "function-"))


def _fields_at(path: list[str]) -> list[str]:
    places: dict[str, type[BaseModel]] = {
        "params": Param, "stop_loss": Level, "take_profit": Level, "trailing_stop": TrailingStop, "size": Size,
        "partial_take_profits": PartialTakeProfit, "entry_order": EntryOrder, "session": Session,
    }  # fmt: skip
    return list((places[path[0]] if path else StrategyDocument).model_fields)


def _fix_for(place: str) -> str:
    if place.startswith("params"):
        return "a parameter is {default, min, max, step, integer}; names are letters, digits and _"
    if place == "name":
        return "letters, digits, _ . - and at most 64 characters"
    return "get_strategy('ema_cross') shows a whole document"
