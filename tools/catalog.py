"""The catalogue: families in their order, and which of their tools a server offers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from engine.errors import BadRequest
from tools import (
    agents,
    analysis,
    backtests,
    history,
    jobs,
    market,
    optimization,
    strategies,
    system,
    validation,
)
from tools.declare import ToolDef

FAMILIES: tuple[ModuleType, ...] = (
    market,
    history,
    strategies,
    backtests,
    optimization,
    jobs,
    validation,
    analysis,
    agents,
    system,
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tools to offer; fixed at start, never changed by a call.

    Attributes
    ----------
    toolsets : sequence of str
        Family names, `core`, or `all`.
    tools : sequence of str
        Single tools: only these when no toolsets are named, besides the toolsets otherwise.
    exclude : sequence of str
        Single tools withheld.
    read_only : bool
        Offer only tools that change nothing; wins over everything.
    """

    toolsets: Sequence[str] = field(default_factory=lambda: ("all",))
    tools: Sequence[str] = ()
    exclude: Sequence[str] = ()
    read_only: bool = False


def tools_in(family: ModuleType) -> list[ToolDef]:
    """Return the tools of a family in written order."""
    return [value for value in vars(family).values() if isinstance(value, ToolDef)]


def family_name(family: ModuleType) -> str:
    """Return the toolset name of a family, the last part of its module's."""
    return family.__name__.rpartition(".")[2]


def all_tools() -> list[ToolDef]:
    """Return every tool in catalogue order; a repeated name is a mistake of ours and raises."""
    tools = [tool for family in FAMILIES for tool in tools_in(family)]
    names = [tool.name for tool in tools]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise RuntimeError(f"tool names declared twice: {sorted(repeated)}")
    return tools


def select(selection: Selection) -> list[ToolDef]:
    """Return the tools a server offers, in catalogue order."""
    tools = all_tools()
    by_family = {family_name(family): {tool.name for tool in tools_in(family)} for family in FAMILIES}
    groups = {
        **by_family,
        "all": {tool.name for tool in tools},
        "core": {tool.name for tool in tools if tool.core},
    }
    toolsets = selection.toolsets
    if selection.tools and tuple(toolsets) == ("all",):
        toolsets = ()
    wanted = set[str]().union(*(groups[name] for name in _known(toolsets, groups, "toolset")))
    wanted |= set(_known(selection.tools, groups["all"], "tool"))
    wanted -= set(_known(selection.exclude, groups["all"], "tool"))
    offered = [tool for tool in tools if tool.name in wanted and (tool.effect == "reads" or not selection.read_only)]
    if not offered:
        raise _nothing_offered(selection, wanted)
    return offered


def _nothing_offered(selection: Selection, wanted: set[str]) -> BadRequest:
    if selection.read_only and wanted:
        named = ", ".join(sorted(wanted))
        return BadRequest(
            f"nothing would be offered: read-only withholds {named}",
            fix="leave read_only (BST_READ_ONLY) off, or name tools that only read (`bst tools --read-only` lists them)",
        )
    return BadRequest(
        "nothing would be offered: every tool is excluded",
        fix="name other toolsets or tools, or exclude fewer (`bst tools` lists them)",
    )


def _known(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    allowed = list(known)
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=3) or allowed
            raise BadRequest(f"unknown {what} {name!r}", fix=f"did you mean one of: {', '.join(sorted(near))}")
    return list(names)
