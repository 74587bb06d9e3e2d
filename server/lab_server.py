"""The SDK's server with the two doors it lacks: a stdout of our own, and requests its decorators leave out."""

from __future__ import annotations

from typing import Any, TextIO

import anyio
from mcp.server import MCPServer
from mcp.server.extension import RequestHandler
from mcp.server.mcpserver import Context
from mcp.server.stdio import stdio_server
from mcp.types import GetPromptResult, InputRequiredResult, SubscriptionsListenRequestParams
from pydantic import BaseModel

from server.lifespan import LabKeeper
from server.prompts import check_prompt_call
from server.tasks.extension import TasksExtension
from server.tasks.listening import TaskListening


class LabServer(MCPServer[Any]):
    """The SDK's server, which can also serve stdio on a stream of our own and answer requests of older revisions."""

    keeper: LabKeeper

    async def serve_streams(self, stdout: TextIO) -> None:
        """Serve the connection on stdin and this stream until stdin ends; file descriptor 1 is left alone."""
        async with stdio_server(stdout=anyio.wrap_file(stdout)) as (reading, writing):
            await self._lowlevel_server.run(reading, writing, self._lowlevel_server.create_initialization_options())

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Return the prompt filled in; the SDK would answer a wrong call as a crash of its own."""
        check_prompt_call(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)

    def answer(self, method: str, params: type[BaseModel], handler: RequestHandler) -> None:
        """Answer a request of the specification that the SDK's decorators leave out."""
        self._lowlevel_server.add_request_handler(method, params, handler)

    def watch_tasks(self, extension: TasksExtension) -> None:
        """Let clients listen to tasks on the stream on which the SDK tells them of changed lists."""
        method = "subscriptions/listen"
        entry = self._lowlevel_server.get_request_handler(method)
        if entry is None:
            raise RuntimeError(f"the SDK does not answer {method}")
        self._lowlevel_server.add_request_handler(
            method, SubscriptionsListenRequestParams, TaskListening(extension, entry.handler).listen
        )
