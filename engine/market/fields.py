"""How Bybit prints values: numbers as strings, absent numbers as empty strings, times as strings of milliseconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from engine.errors import BadPayload

Parsed = TypeVar("Parsed")

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")


def _read_decimal(value: object) -> Decimal:
    # A JSON number would already have passed through binary floating point; Bybit prints strings.
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None:
        raise ValueError(f"a number printed as a string is needed, found {value!r:.40}")
    return Decimal(value)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _read_time(value: object) -> object:
    return None if value in ("", "0", 0) else value


Number = Annotated[Decimal, BeforeValidator(_read_decimal)]
PositiveNumber = Annotated[Number, Field(gt=0)]
# Bybit prints "" where a figure does not apply (funding of an expiring future, basis of a perpetual).
OptionalNumber = Annotated[Number | None, BeforeValidator(_empty_is_none)]
Milliseconds = Annotated[int, Field(ge=0)]
# "0" and "" both mean that there is no such time (deliveryTime of a perpetual, endTime of the last pre-listing phase).
OptionalMilliseconds = Annotated[int | None, Field(ge=0), BeforeValidator(_read_time)]
Level = tuple[Number, Number]


class WireModel(BaseModel):
    """Something Bybit sends: camelCase names; fields we do not know are ignored, for the exchange adds some."""

    # A command needs none or few of these; each is built when it is first met.
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=False, validate_by_alias=True, frozen=True, defer_build=True
    )


def validate(adapter: TypeAdapter[Parsed], payload: Any, what: str) -> Parsed:
    """Return the payload as its model, or tell where it departs from the documented shape."""
    try:
        return adapter.validate_python(payload)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        raise BadPayload(
            f"{what} does not have the documented shape: at {place}: {first['msg']}",
            fix="try again; if it stays, the exchange has changed its format",
        ) from exc
