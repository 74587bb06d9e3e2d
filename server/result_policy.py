"""What every tool's answer looks like: bounded, the same facts in both channels, errors with their fix."""

from __future__ import annotations

import difflib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Extension
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolRequestParams, CallToolResult, TextContent
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.errors import BadRequest, LabError, NotFound
from server.arguments import names_at
from tools.failures import compact, error_object, told_by_resolver

logger = logging.getLogger(__name__)

# JSON of figures runs at about two characters a token (o200k_base), so this holds the cap of 8,000 tokens.
MAX_CHARACTERS = 16_000

# What pydantic's errors of type mean in JSON.
_KINDS = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
_SUBJECT = re.compile(r"^(Input|String|List|Dictionary) should ")
_PYTHON_COUNT = re.compile(r" after validation, not \w+")


def error_result(error: LabError) -> CallToolResult:
    """Return the error as a tool result: the model reads it and mends its call."""
    return told_result(error_object(error))


def told_result(told: dict[str, Any]) -> CallToolResult:
    """Return an error object in both channels."""
    return CallToolResult(
        content=[TextContent(type="text", text=compact(told))], structured_content=told, is_error=True
    )


class InternalError(LabError):
    """Something we did not anticipate; its details stay in the server's log."""

    code = "internal"


class ResultPolicy(Extension):
    """Checks arguments, bounds answers and shapes errors of every tool call."""

    identifier = "io.github.bybit-strategy-tester/result-policy"

    def __init__(self, tools: Mapping[str, Tool], most_characters: int | None = MAX_CHARACTERS) -> None:
        self._tools = tools
        self._most_characters = most_characters

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Run the call under the policy and log one line about it."""
        started = time.perf_counter()
        refusal = self._refusal(params)
        result = error_result(refusal) if refusal else await call_next(ctx)
        if isinstance(result, CallToolResult):
            result = _shaped(result, params, self._most_characters)
        logger.info(
            "%s %s in %.0f ms",
            params.name if params.name in self._tools else "unknown tool",
            "failed" if isinstance(result, CallToolResult) and result.is_error else "answered",
            (time.perf_counter() - started) * 1000,
        )
        return result

    def _refusal(self, params: CallToolRequestParams) -> LabError | None:
        tool = self._tools.get(params.name)
        if tool is None:
            near = difflib.get_close_matches(params.name, self._tools, n=3)
            return NotFound(
                f"there is no tool {params.name[:64]!r}",
                fix=f"did you mean: {', '.join(near)}" if near else "tools/list names the tools",
            )
        try:
            tool.fn_metadata.validate_arguments(params.arguments or {})
        except ValidationError as error:
            return _argument_error(error, tool.parameters)
        except RecursionError:
            return BadRequest("the arguments are nested too deeply", fix="flatten them")
        return None


def _argument_error(error: ValidationError, parameters: Mapping[str, Any]) -> BadRequest:
    wrong: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=True)[:20]:
        wrong.setdefault(_path(detail), []).append(detail)
    shown = list(wrong.items())[:5]
    message = "; ".join(
        f"{_place(path) or 'arguments'}: {_problem(details, path, parameters)}" for path, details in shown
    )
    return BadRequest(message, fix="; ".join(dict.fromkeys(_names(parameters, path) for path, _ in shown)))


def _path(detail: ErrorDetails) -> tuple[str | int, ...]:
    """Return where the error is, as the caller sees it; a name the caller chose stays whatever it looks like."""
    *before, last = detail["loc"] or ("arguments",)
    is_name = detail["type"] in ("extra_forbidden", "missing") or not _is_union_branch(last)
    return (*(part for part in before if not _is_union_branch(part)), *((last,) if is_name else ()))


def _place(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)[:80]


def _names(parameters: Mapping[str, Any], path: Sequence[str | int]) -> str:
    """Say what the nearest object around this place takes whose names are known."""
    level = path[:-1]
    while level and not names_at(parameters, level):
        level = level[:-1]
    return f"{_place(level) or 'this tool'} takes: {', '.join(names_at(parameters, level)) or 'no arguments'}"


def _is_union_branch(part: object) -> bool:
    """Tell pydantic's names of union members (`str`, `dict[str,any]`, `function-...`) from names of arguments."""
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or any(mark in part for mark in "[(-"))


def _problem(details: Sequence[ErrorDetails], path: Sequence[str | int], parameters: Mapping[str, Any]) -> str:
    detail = details[0]
    kind = detail["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), names_at(parameters, path[:-1]), n=1)
        return "unknown argument" + (f", did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return "is missing"
    if kind == "value_error":  # our own words, which say what was found
        return detail["msg"].removeprefix("Value error, ")[:300]
    return f"{_needed(details, names_at(parameters, path))}, found {_shown(detail['input'])}"


def _needed(details: Sequence[ErrorDetails], inner: Sequence[str]) -> str:
    """Say what was needed in JSON's words; each member of a union has told its own."""
    kinds = list(dict.fromkeys(_KINDS[detail["type"]] for detail in details if detail["type"] in _KINDS))
    if not kinds:
        text = _SUBJECT.sub("must ", details[0]["msg"])
        return _PYTHON_COUNT.sub("", text)[:200]
    told = [f"{kind} with {', '.join(inner)}" if kind == "an object" and inner else kind for kind in kinds]
    return f"must be {' or '.join(told)}"


def _shown(value: object) -> str:
    if isinstance(value, str | float | bool) or value is None:
        text = json.dumps(value, ensure_ascii=True)
    elif isinstance(value, int):
        text = str(value)
    elif isinstance(value, list):
        return f"a list of {len(cast('list[object]', value))}"
    else:
        return "an object" if isinstance(value, dict) else "another type"
    return text if len(text) <= 60 else text[:57] + "..."


def _shaped(result: CallToolResult, params: CallToolRequestParams, most_characters: int | None) -> CallToolResult:
    if result.is_error:
        if result.structured_content is not None:
            return result
        for part in result.content:
            if isinstance(part, TextContent) and (told := told_by_resolver(part.text)):
                return told_result(told)
        return error_result(
            InternalError(
                f"{params.name} failed unexpectedly",
                fix="try again; if it stays, `bst doctor` and the server's log say more",
            )
        )
    if result.structured_content is None:
        return result
    offset = (params.arguments or {}).get("cursor")
    structured = cast("dict[str, Any]", result.structured_content)
    if most_characters is not None:
        structured = bounded(structured, offset, most_characters)
    others = [part for part in result.content if not isinstance(part, TextContent)]
    return result.model_copy(
        update={
            "content": [TextContent(type="text", text=compact(structured)), *others],
            "structured_content": structured,
        }
    )


def bounded(structured: dict[str, Any], cursor: object = None, most_characters: int = MAX_CHARACTERS) -> dict[str, Any]:
    """Return the answer under the size cap: its longest list is shortened, and it says so.

    A list that can be paged keeps `next_cursor` right, so nothing is out of reach.
    """
    if len(compact(structured)) <= most_characters:
        return structured
    lists = [(path, rows) for path, rows in _lists(structured) if len(rows) > 1]
    if not lists:
        return structured
    path, rows = max(lists, key=lambda found: len(compact(found[1])))
    low, high = 1, len(rows)
    while low < high:
        middle = (low + high + 1) // 2
        if len(compact(_with_list(structured, path, rows[:middle]))) <= most_characters - 200:
            low = middle
        else:
            high = middle - 1
    shortened = _with_list(structured, path, rows[:low])
    shortened["truncated"] = True
    if "next_cursor" in structured and len(path) == 1:
        start = int(cursor) if isinstance(cursor, str | int) and str(cursor).isdigit() else 0
        shortened["next_cursor"] = str(start + low)
    return shortened


def _lists(value: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], list[Any]]]:
    found: list[tuple[tuple[str, ...], list[Any]]] = []
    for key, part in value.items():
        if isinstance(part, list):
            found.append(((*path, key), cast("list[Any]", part)))
        elif isinstance(part, dict):
            found.extend(_lists(cast("dict[str, Any]", part), (*path, key)))
    return found


def _with_list(value: dict[str, Any], path: tuple[str, ...], rows: list[Any]) -> dict[str, Any]:
    head, *rest = path
    return {**value, head: _with_list(value[head], tuple(rest), rows) if rest else rows}
