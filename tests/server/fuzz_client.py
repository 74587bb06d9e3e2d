"""A connected client that synchronous code (hypothesis, a benchmark) can call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.client import Client

from server.mcp_app import create_server
from server.settings import Settings

ERROR_KEYS = {"code", "message", "fix", "retryable", "retry_after_s"}
NOISE = ("Traceback", "pydantic", "site-packages", "object at 0x")
LONGEST_SECONDS = 300  # finds a call that hangs, not a slow machine


class FuzzClient:
    """Calls tools of an in-memory server with generated data."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client
        listed = portal.call(client.list_tools).tools
        self.tools: dict[str, dict[str, Any]] = {each.name: each.input_schema for each in listed}
        portal.call(self._call, "cache_stats", {})  # opens the lab, so that no fuzzed call has to wait for it

    def complaint(self, name: str, arguments: dict[str, Any]) -> str | None:
        """Call a tool; return what is wrong with its answer, None when nothing is."""
        result = self._portal.call(self._call, name, arguments)
        if not result.is_error:
            return None
        told: Any = result.structured_content
        if set(told) != ERROR_KEYS:
            return f"an error of another shape: {told}"
        if told["code"] == "internal" or not told["message"]:
            return f"unforeseen: {told}"
        found = [noise for noise in NOISE if noise in told["message"] + told["fix"]]
        return f"{found} in {told}" if found else None

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        with anyio.fail_after(LONGEST_SECONDS):
            return await self._client.call_tool(name, arguments)


@contextmanager
def connected(home: Path) -> Generator[FuzzClient]:
    """Connect to a server whose data are generated and whose folder is this one."""
    server = create_server(Settings.model_validate({"home": home, "feed": "simulated"}))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:
        yield FuzzClient(portal, client)
