"""Puts the suite's fixtures on the same server that users get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.conformance.interactive import INTERACTIVE_TOOLS
from server.conformance.plain import PLAIN_TOOLS
from server.conformance.surface import add_legacy_answers, add_prompts, add_resources
from server.conformance.tasks import TaskFixtures
from server.mcp_app import create_server

if TYPE_CHECKING:
    from server.lab_server import LabServer
    from server.settings import Settings


def create_conformance_server(settings: Settings) -> LabServer:
    """Return the real server, all its tools included, plus what the suite calls by name."""
    fixtures = TaskFixtures()
    server = create_server(
        settings,
        more_tools=[*PLAIN_TOOLS, *INTERACTIVE_TOOLS, *fixtures.tools()],
        more_task_tools=fixtures.task_tool_names(),
        more_tasks=[fixtures.asking],
    )
    add_resources(server)
    add_prompts(server)
    add_legacy_answers(server)
    return server
