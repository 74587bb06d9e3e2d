"""Honest answers without a model: any JSON schema is filled from the brief in the prompt, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, cast

from agents.hygiene import read_data_block
from agents.prompting import read_schema_block
from agents.scripted.wire import ModelRequest

_LONGEST_TEXT_FACTS = 5
_DEEPEST = 12

# Valid in the language, so that a loop driven by a scripted model reaches a backtest when the brief holds no strategy.
PLAIN_STRATEGY: dict[str, Any] = {
    "name": "scripted-trend",
    "params": {
        "fast": {"default": 20, "min": 5, "max": 60, "integer": True},
        "slow": {"default": 60, "min": 20, "max": 240, "integer": True},
    },
    "long_entry": "crossover(ema(close, fast), ema(close, slow))",
    "long_exit": "crossunder(ema(close, fast), ema(close, slow))",
}


def honest_text(request: ModelRequest, search_results: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return an answer to this request made of its brief: JSON when a schema is asked for, else sentences."""
    brief = read_data_block("brief", request.prompt)
    facts = list(facts_of(brief))
    # The block in the prompt keeps the marks that a vendor's request leaves out.
    schema = read_schema_block(request.prompt) or request.schema
    if schema is None:
        return " ".join(sentence(fact) for fact in facts[:_LONGEST_TEXT_FACTS]) or "The brief holds no figures."
    return json.dumps(_Composer(schema, facts, brief, search_results).value(schema, "", 0))


def facts_of(brief: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the path and value of every number in a brief."""
    if isinstance(brief, bool):
        return
    if isinstance(brief, int | float):
        yield path, float(brief)
    elif isinstance(brief, dict):
        for key, each in cast("dict[str, object]", brief).items():
            yield from facts_of(each, f"{path}.{key}" if path else key)
    elif isinstance(brief, list):
        for each in cast("list[object]", brief):
            yield from facts_of(each, path)


def sentence(fact: tuple[str, float]) -> str:
    """Return one fact as a sentence, its number rounded to four decimals."""
    path, value = fact
    name = path.rsplit(".", 1)[-1].replace("_", " ") or "value"
    number = f"{value:.4f}".rstrip("0").rstrip(".")
    return f"The brief gives {name} as {number}."


class _Composer:
    """Fills a JSON schema; texts take the facts in turn."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        facts: list[tuple[str, float]],
        brief: object,
        search_results: Sequence[Mapping[str, Any]],
    ) -> None:
        self._definitions = cast("Mapping[str, Any]", schema.get("$defs", {}))
        self._sentences = cycle([sentence(fact) for fact in facts] or ["The brief holds no figures."])
        self._facts = facts
        self._brief = brief
        self._urls = [str(result["url"]) for result in search_results if "url" in result]

    def value(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        """Return a value that satisfies the schema."""
        schema = self._resolved(schema)
        if "x-language" in schema:
            return self._code(str(schema["x-language"]))
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if "enum" in schema:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._choice(schema[key], name, depth)
        return self._typed(schema, name, depth)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return {
                **self._definitions[reference.rsplit("/", 1)[-1]],
                **{k: v for k, v in schema.items() if k != "$ref"},
            }
        return schema

    def _choice(self, options: list[Mapping[str, Any]], name: str, depth: int) -> Any:
        has_null = any(option.get("type") == "null" for option in options)
        return None if has_null else self.value(options[0], name, depth)

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                count = max(1, int(schema.get("minItems", 1))) if depth < _DEEPEST else int(schema.get("minItems", 0))
                if self._is_url(schema.get("items", {})) and not self._urls:
                    count = int(schema.get("minItems", 0))
                return [self.value(schema.get("items", {}), name, depth + 1) for _ in range(count)]
            case "integer":
                return int(
                    schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 0)
                )
            case "number":
                return self._fact(name, float(schema.get("minimum", 0.0)))
            case "boolean":
                return False
            case "null":
                return None
            case _:
                return self._text(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
        required = cast("list[str]", schema.get("required", []))
        return {name: self.value(each, name, depth + 1) for name, each in properties.items() if name in required}

    def _is_url(self, schema: Mapping[str, Any]) -> bool:
        schema = self._resolved(schema)
        inner = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
        return "x-cited" in schema or any("x-cited" in each for each in inner.values())

    def _fact(self, name: str, otherwise: float) -> float:
        return next((value for path, value in self._facts if path.endswith(name)), otherwise)

    def _text(self, schema: Mapping[str, Any]) -> str:
        if "x-cited" in schema:
            return self._urls[0] if self._urls else ""
        text = next(self._sentences)
        return text[: int(schema.get("maxLength", len(text)))]

    def _code(self, language: str) -> Any:
        if language == "python":
            return "def unchanged(value: float) -> float:\n    return value\n"
        given = cast("dict[str, Any]", self._brief) if isinstance(self._brief, dict) else {}
        document = given.get("strategy") or given.get("document")
        return json.dumps(document if isinstance(document, dict) and "name" in document else PLAIN_STRATEGY)
