"""Tool calls from the command line: the same server, policy and code that an MCP client meets, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from server.collector import undisturbed_start

if TYPE_CHECKING:
    from mcp.client import Client

    from server.settings import Settings


JOB_ENDED = frozenset({"done", "failed", "cancelled", "interrupted"})
WAIT_SECONDS = 20
# What `await_job` calls.
JOB_TOOLS = ("wait_for_job", "get_job_result")


class OnProgress(Protocol):
    """Told how far a call is, in the unit the message names."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Show it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered: its structured result, or its error object."""

    document: dict[str, Any]
    is_error: bool


@asynccontextmanager
async def in_process_client(settings: Settings, only: Collection[str]) -> AsyncGenerator[Client]:
    """Connect an MCP client, which will call `only` these tools, to a server with these settings in this process."""
    with undisturbed_start():
        from mcp.client import Client

        from server.logs import configure_logging
        from server.mcp_app import create_server

        configure_logging(settings.log_level)
        # People and scripts read this, not a model: pages come as long as they were asked for.
        server = create_server(settings, most_characters=None, only=only)
    async with Client(server) as client:
        yield client


async def ask(client: Client, tool: str, arguments: dict[str, Any], on_progress: OnProgress | None = None) -> Answer:
    """Call a tool and return its answer; protocol failures look like any other error."""
    from mcp.shared.exceptions import MCPError
    from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

    request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=arguments))
    try:
        # `client.call_tool` would list the tools first and check our own answer against our own schema.
        result = await client.session.send_request(request, CallToolResult, progress_callback=on_progress)
    except MCPError as error:
        refused = {"code": "protocol", "message": str(error), "fix": "`bst tools` lists what this server offers"}
        return Answer({**refused, "retryable": False, "retry_after_s": None}, is_error=True)
    document = result.structured_content
    if document is None:
        texts = [part.text for part in result.content if part.type == "text"]
        document = {"text": "\n".join(texts)}
    return Answer(document, bool(result.is_error))


def started_job(answer: Answer) -> str | None:
    """Return the id of the job that an answer hands out, also of one that did the same before and has ended."""
    job_id = answer.document.get("job_id")
    return job_id if isinstance(job_id, str) and not answer.is_error else None


async def await_job(client: Client, job_id: str, on_progress: OnProgress | None = None) -> Answer:
    """Wait until a job has ended and return its result, or its error object."""
    while True:
        answer = await ask(client, "wait_for_job", {"job_id": job_id, "wait_seconds": WAIT_SECONDS}, on_progress)
        if answer.is_error:
            return answer
        if answer.document.get("state") in JOB_ENDED:
            break
    result = await ask(client, "get_job_result", {"job_id": job_id})
    if result.is_error or result.document.get("state") == "done":
        return result
    return Answer(job_error(result.document), is_error=True)


def job_error(job: dict[str, Any]) -> dict[str, Any]:
    """Return the error object of a job that ended without a result."""
    state = job.get("state", "failed")
    ended = {
        "code": state,
        "message": f"the job was {state}" if state != "failed" else "the job failed",
        "fix": "start it again with the same arguments; what it stored is kept",
        "retryable": True,
        "retry_after_s": None,
    }
    return {**ended, **(job.get("error") or {}), "job_id": job.get("job_id")}
