"""How a failure is told: one small object that names the next step."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from engine.errors import LabError


def compact(value: object) -> str:
    """Return JSON without spaces; that halves the tokens of a table."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_object(error: LabError) -> dict[str, Any]:
    """Return the error as every channel shows it."""
    return {
        "code": error.code,
        "message": error.message,
        "fix": error.fix,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after_s,
    }


def as_tool_error(error: LabError) -> ToolError:
    """Return what a resolver raises for an anticipated failure; the SDK would report the error itself as a crash."""
    return ToolError(compact(error_object(error)))


def told_by_resolver(text: str) -> dict[str, Any] | None:
    """Return the error object inside the text that the SDK made of `as_tool_error`, None for any other text."""
    start = text.find('{"code":')
    if start < 0:
        return None
    try:
        told = json.loads(text[start:])
    except ValueError:
        return None
    return told if set(told) == {"code", "message", "fix", "retryable", "retry_after_s"} else None
