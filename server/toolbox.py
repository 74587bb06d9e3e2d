"""The catalogue's tools for pipelines: an MCP client in this process, so that policy, checks and answers are those of any client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agents.toolbox import Toolbox, ToolRefused
from engine.errors import LabError

if TYPE_CHECKING:
    from mcp.client import Client
    from mcp.server import MCPServer

    from tools.lab import Lab

    ServeLab = Callable[[Lab], MCPServer[Any]]


class ServerToolbox:
    """Opens the tools that this server offers over a lab that is handed in once it is open.

    Parameters
    ----------
    serve : callable
        Returns the server over a lab; it says which tools are offered: a pipeline gets no other ones than a client.
    """

    def __init__(self, serve: ServeLab) -> None:
        self._serve = serve
        self._lab: asyncio.Future[Lab] = asyncio.get_running_loop().create_future()

    def bind(self, lab: Lab) -> None:
        """Say which lab the tools work in; jobs that go on from an earlier process wait for it."""
        self._lab.set_result(lab)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Toolbox]:
        """Connect a client for one step."""
        # The SDK is imported already wherever a server runs; the assembly must not import it for those who only open a lab.
        from mcp.client import Client

        server = self._serve(await asyncio.shield(self._lab))
        refused: LabError | None = None
        async with Client(server) as client:
            listed = await client.list_tools()
            arguments = {
                tool.name: frozenset(str(name) for name in (tool.input_schema.get("properties") or {}))
                for tool in listed.tools
            }
            try:
                yield _ClientToolbox(client, arguments)
            except LabError as error:
                # Raised inside the connection it would arrive wrapped in groups.
                refused = error
        if refused is not None:
            raise refused


class _ClientToolbox:
    """The tools behind one connected client."""

    def __init__(self, client: Client, arguments: Mapping[str, frozenset[str]]) -> None:
        self._client = client
        self._arguments = arguments

    def takes(self, tool: str, argument: str) -> bool:
        """Return whether the server offers a tool that has this argument."""
        return argument in self._arguments.get(tool, frozenset())

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a tool's structured answer, or raise `ToolRefused`."""
        if tool not in self._arguments:
            raise ToolRefused(
                tool, {"code": "not_found", "message": "this server does not offer it", "fix": "see BST_TOOLSETS"}
            )
        result = await self._client.call_tool(tool, dict(arguments))
        told: dict[str, Any] = result.structured_content or {}
        if result.is_error:
            raise ToolRefused(tool, told)
        return told
