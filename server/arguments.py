"""What a caller sends, made ready for strict validation: null is left out, JSON inside strings is read, nothing else bends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata

Schema = Mapping[str, Any]


class StrictMetadata(FuncMetadata):
    """The SDK's description of a tool's arguments, which takes true for no number and "yes" for no truth.

    Attributes
    ----------
    parameters : dict
        The input schema that clients are shown.
    """

    parameters: dict[str, Any]

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them, or raise pydantic's ValidationError."""
        prepared = read_arguments(self.pre_parse_json(arguments_to_validate), self.parameters)
        return self.arg_model.model_validate(prepared, strict=True).model_dump_one_level()


def read_arguments(given: dict[str, Any], parameters: Schema) -> dict[str, Any]:
    """Return the arguments without the nulls of optional ones, and with scalars read where hosts send them as strings.

    >>> read_arguments({"limit": "40", "end": None}, {"properties": {"limit": {"type": "integer"}, "end": {}}})
    {'limit': 40}
    """
    return _read_object(given, parameters, parameters.get("$defs", {}))


def names_at(parameters: Schema, path: Sequence[str | int]) -> list[str]:
    """Return the names that the object at this place of the arguments takes; empty where any name goes."""
    definitions = parameters.get("$defs", {})
    here: list[Schema] = [parameters]
    for part in path:
        inner = [
            option.get("items", {}) if isinstance(part, int) else option.get("properties", {}).get(part, {})
            for option in here
        ]
        here = [option for schema in inner for option in _options(schema, definitions)]
    return list(dict.fromkeys(name for option in here for name in option.get("properties", {})))


def _options(schema: Schema, definitions: Schema) -> Iterator[Schema]:
    """Yield the alternatives of a schema with their references followed."""
    if "$ref" in schema:
        yield from _options(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif "anyOf" in schema:
        for option in schema["anyOf"]:
            yield from _options(option, definitions)
    else:
        yield schema


def _read_object(given: Mapping[str, Any], schema: Schema, definitions: Schema) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return {
        name: _read(value, properties.get(name, {}), definitions)
        for name, value in given.items()
        if value is not None or name in required or name not in properties
    }


def _read(given: object, schema: Schema, definitions: Schema) -> object:
    options = list(_options(schema, definitions))
    kinds = {option.get("type") for option in options}
    if isinstance(given, dict):
        return _read_mapping(cast("dict[str, Any]", given), options, definitions)
    if isinstance(given, list):
        items = next((option["items"] for option in options if "items" in option), {})
        return [_read(value, items, definitions) for value in cast("list[object]", given)]
    if isinstance(given, str) and "string" not in kinds:
        given = _read_scalar(given, kinds)
    # JSON does not tell 5 from 5.0.
    if isinstance(given, float) and given.is_integer() and "integer" in kinds and "number" not in kinds:
        return int(given)
    return given


def _read_mapping(given: dict[str, Any], options: Sequence[Schema], definitions: Schema) -> dict[str, Any]:
    for option in options:
        if "properties" in option:
            return _read_object(given, option, definitions)
        values = option.get("additionalProperties")
        if isinstance(values, dict):
            return {name: _read(value, cast("Schema", values), definitions) for name, value in given.items()}
    return given


def _read_scalar(text: str, kinds: set[Any]) -> object:
    """Return the boolean or number that the text is in JSON, if one is wanted; the text itself otherwise."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, bool):
        return value if "boolean" in kinds else text
    return value if isinstance(value, int | float) and kinds & {"integer", "number"} else text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
