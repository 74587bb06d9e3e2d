"""How a pipeline uses the tools of a server: the same ones, by the same door, as any client; whoever owns them hands it in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from engine.errors import LabError


class ToolRefused(LabError):
    """A tool answered with its error object.

    Parameters
    ----------
    tool : str
        Who refused.
    told : mapping
        The error object: code, message, fix.
    """

    def __init__(self, tool: str, told: Mapping[str, Any]) -> None:
        super().__init__(f"{tool}: {told.get('message', 'refused')}", fix=str(told.get("fix", "")))
        self.refused_code = str(told.get("code", "failed"))


class Toolbox(Protocol):
    """The tools of a server during one step."""

    def takes(self, tool: str, argument: str) -> bool:
        """Return whether the server offers a tool that has this argument."""
        ...

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a tool's structured answer, or raise `ToolRefused`."""
        ...


class ToolboxSource(Protocol):
    """Whoever opens toolboxes."""

    def open(self) -> AbstractAsyncContextManager[Toolbox]:
        """Open the tools for as long as the block lasts."""
        ...
