"""How a tool is declared: a typed function and its effect; hints, schema, docs and snapshot are derived from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from mcp.server.mcpserver import Context, Resolve

from engine.errors import LabError
from tools.failures import as_tool_error
from tools.lab import Lab
from tools.progress import PacedProgress

# reads: changes nothing; writes: adds to the store; deletes: removes something that would have to be fetched again.
Effect = Literal["reads", "writes", "deletes"]


@dataclass(frozen=True, slots=True)
class ToolDef:
    """One tool: the function, and what calling it does to the world."""

    function: Callable[..., Any]
    effect: Effect
    core: bool
    asks_exchange: bool
    third_party_text: bool
    task: bool = False

    @property
    def name(self) -> str:
        """Return the public name, the function's own."""
        return self.function.__name__

    @property
    def title(self) -> str:
        """Return the name as people read it."""
        return self.name.replace("_", " ").capitalize()

    @property
    def description(self) -> str:
        """Return the docstring as one paragraph per blank line, the text a model chooses by."""
        paragraphs = (self.function.__doc__ or "").strip().split("\n\n")
        return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def tool(
    effect: Effect,
    *,
    core: bool = False,
    asks_exchange: bool = False,
    third_party_text: bool = False,
    task: bool = False,
) -> Callable[[Callable[..., Any]], ToolDef]:
    """Declare a function as a tool.

    Parameters
    ----------
    effect : {"reads", "writes", "deletes"}
        Read-only servers offer only the first kind.
    core : bool
        Whether the tool belongs to the small profile for hosts with little room.
    asks_exchange : bool
        Whether it may ask the exchange (docs say so).
    third_party_text : bool
        Whether text written by strangers comes back, so that hosts ask their user to look.
    task : bool
        Whether it starts a job and answers at once with its `job_id`, `state` and `next`; clients that declare the
        Tasks extension get a task instead.
    """

    def declare(function: Callable[..., Any]) -> ToolDef:
        return ToolDef(function, effect, core, asks_exchange, third_party_text, task)

    return declare


class Progress(Protocol):
    """Tell the caller how far the work is."""

    async def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report `done` of `total`, in the unit the message names."""
        ...


async def current_lab(context: Context[Any]) -> Lab:
    """Return the lab of this server, opened at the first call."""
    keeper: Any = context.request_context.lifespan_context
    try:
        return await keeper.lab()
    except LabError as error:
        raise as_tool_error(error) from error


async def current_progress(context: Context[Any]) -> Progress:
    """Return the caller's progress channel, silent until the tool runs; a no-op when the caller asked for none."""
    return PacedProgress(context.report_progress)


LabHandle = Annotated[Lab, Resolve(current_lab)]
ProgressHandle = Annotated[Progress, Resolve(current_progress)]
