"""What every tool's answer looks like: bounded, the same facts in both channels, errors with their fix."""

from __future__ import annotations

import difflib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Extension
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolRequestParams, CallToolResult, TextContent
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.errors import BadRequest, LabError, NotFound
from tools.failures import compact, error_object, told_by_resolver

logger = logging.getLogger(__name__)

# JSON of figures runs at about two characters a token (o200k_base), so this holds the cap of 8,000 tokens.
MAX_CHARACTERS = 16_000


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

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Run the call under the policy and log one line about it."""
        started = time.perf_counter()
        refusal = self._refusal(params)
        result = error_result(refusal) if refusal else await call_next(ctx)
        if isinstance(result, CallToolResult):
            result = _shaped(result, params)
            logger.info(
                "%s %s in %.0f ms",
                params.name if params.name in self._tools else "unknown tool",
                "failed" if result.is_error else "answered",
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
            return _argument_error(error, list(tool.parameters.get("properties", {})))
        except RecursionError:
            return BadRequest("the arguments are nested too deeply", fix="flatten them")
        return None


def _argument_error(error: ValidationError, known: list[str]) -> BadRequest:
    problems: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=True)[:20]:
        place = ".".join(str(part) for part in detail["loc"] if not _is_union_branch(part)) or "arguments"
        problems.setdefault(place[:80], _problem(detail, known))
    message = "; ".join(f"{place}: {problem}" for place, problem in list(problems.items())[:5])
    return BadRequest(message, fix=f"this tool takes: {', '.join(known) or 'no arguments'}")


def _is_union_branch(part: object) -> bool:
    """Tell pydantic's names of union members (`str`, `dict[str,any]`, `function-...`) from names of arguments."""
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or any(mark in part for mark in "[(-"))


def _problem(detail: ErrorDetails, known: list[str]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        near = difflib.get_close_matches(name, known, n=1)
        return "unknown argument" + (f", did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return "is missing"
    text = detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{text[:200]}, found {_shown(detail['input'])}"


def _shown(value: object) -> str:
    if isinstance(value, str | int | float | bool) or value is None:
        text = json.dumps(value, ensure_ascii=True, default=str) if not isinstance(value, int) else str(value)[:60]
        return text if len(text) <= 60 else text[:57] + "..."
    return {"dict": "an object", "list": "a list"}.get(type(value).__name__, "another type")


def _shaped(result: CallToolResult, params: CallToolRequestParams) -> CallToolResult:
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
    structured = bounded(cast("dict[str, Any]", result.structured_content), offset)
    others = [part for part in result.content if not isinstance(part, TextContent)]
    return result.model_copy(
        update={
            "content": [TextContent(type="text", text=compact(structured)), *others],
            "structured_content": structured,
        }
    )


def bounded(structured: dict[str, Any], cursor: object = None) -> dict[str, Any]:
    """Return the answer under the size cap: its longest list is shortened, and it says so.

    A list that can be paged keeps `next_cursor` right, so nothing is out of reach.
    """
    if len(compact(structured)) <= MAX_CHARACTERS:
        return structured
    lists = [(path, rows) for path, rows in _lists(structured) if len(rows) > 1]
    if not lists:
        return structured
    path, rows = max(lists, key=lambda found: len(compact(found[1])))
    low, high = 1, len(rows)
    while low < high:
        middle = (low + high + 1) // 2
        if len(compact(_with_list(structured, path, rows[:middle]))) <= MAX_CHARACTERS - 200:
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
