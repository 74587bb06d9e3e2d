"""The extension itself: a tool's job handle becomes a task, and `tasks/get`, `tasks/update`, `tasks/cancel` are answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Extension, MethodBinding, require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    RequestParams,
)

from engine.errors import LabError
from server.tasks.task import TASKS, Task, TaskSource

VERSIONS: Final = frozenset({"2026-07-28"})


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class TaskUpdateParams(TaskParams):
    """Which task, and what its client answers."""

    input_responses: dict[str, Any]


class TasksExtension(Extension):
    """Offers tasks to clients that declare the extension in the same request; all others see nothing of it.

    Parameters
    ----------
    tools : collection of str
        Tools whose answer names a job in `job_id`.
    sources : sequence of TaskSource
        Asked in turn for a task id.
    """

    identifier = TASKS

    def __init__(self, tools: Collection[str], sources: Sequence[TaskSource]) -> None:
        self._tools = frozenset(tools)
        self._sources = tuple(sources)

    def methods(self) -> Sequence[MethodBinding]:
        """Return the three requests; the revision before knows none of them."""
        return (
            MethodBinding("tasks/get", TaskParams, self._get, VERSIONS),
            MethodBinding("tasks/update", TaskUpdateParams, self._update, VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, VERSIONS),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a call that started a job with its task, if the client can take one."""
        result = await call_next(ctx)
        if params.name not in self._tools or not declares_tasks(ctx):
            return result
        if not isinstance(result, CallToolResult) or result.is_error or not result.structured_content:
            return result
        task, _ = await self.find(str(result.structured_content["job_id"]))
        return task.created()

    async def find(self, task_id: str) -> tuple[Task, TaskSource]:
        """Return a task and where it is from; an unknown id is the client's mistake."""
        for source in self._sources:
            async with _telling_failures():
                task = await source.find(task_id)
            if task is not None:
                return task, source
        raise MCPError(INVALID_PARAMS, f"there is no task {task_id[:64]!r}")

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        check_task_request(ctx, params.task_id)
        task, _ = await self.find(params.task_id)
        return task.detailed()

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskUpdateParams) -> HandlerResult:
        check_task_request(ctx, params.task_id)
        _, source = await self.find(params.task_id)
        async with _telling_failures():
            await source.answer(params.task_id, params.input_responses)
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        check_task_request(ctx, params.task_id)
        task, source = await self.find(params.task_id)
        if not task.is_over:
            async with _telling_failures():
                await source.cancel(params.task_id)
        return {}


def declares_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Tell whether this very request says that its client understands tasks."""
    can = ctx.session.client_capabilities
    return ctx.protocol_version in VERSIONS and can is not None and TASKS in (can.extensions or {})


def check_task_request(ctx: ServerRequestContext[Any, Any], task_id: str) -> None:
    """Refuse clients that did not declare the extension, and over HTTP a routing header that names another task."""
    require_client_extension(ctx, TASKS)
    if ctx.request is not None and decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER)) != task_id:
        raise MCPError(
            HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter"
        )


@asynccontextmanager
async def _telling_failures() -> AsyncGenerator[None]:
    try:
        yield
    except LabError as error:
        raise MCPError(INTERNAL_ERROR, error.message, {"code": error.code, "fix": error.fix}) from error
