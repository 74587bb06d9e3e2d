"""`bst tools`: what the server offers."""

from __future__ import annotations

from typing import Any

import click

from server.commands.options import json_option, settings_from
from server.commands.output import console_for_people, print_json, telling_errors


@click.command(short_help="List the tools.")
@click.option("--toolsets", help="Family names, core or all, by comma.")
@click.option("--read-only", is_flag=True, default=None, help="Only tools that change nothing.")
@json_option
@telling_errors()
def tools(toolsets: str | None, read_only: bool | None, as_json: bool) -> None:
    """List family, name, effect and purpose of every tool the settings offer."""
    rows = offered_tools(settings_from(toolsets=toolsets, read_only=read_only))
    if as_json:
        print_json({"tools": rows, "total": len(rows)})
        return
    from rich.table import Table

    table = Table("family", "name", "effect", "core", "what it does", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["family"], row["name"], row["effect"], "yes" if row["core"] else "", row["summary"])
    console_for_people().print(table)


def offered_tools(settings: Any) -> list[dict[str, Any]]:
    """Return the rows of the table in catalogue order."""
    from tools.catalog import FAMILIES, Selection, family_name, select, tools_in

    family_of = {tool.name: family_name(family) for family in FAMILIES for tool in tools_in(family)}
    selection = Selection(settings.toolsets, settings.tools, settings.exclude_tools, settings.read_only)
    return [
        {
            "family": family_of[tool.name],
            "name": tool.name,
            "effect": tool.effect,
            "core": tool.core,
            "summary": tool.description.splitlines()[0] if tool.description else "",
        }
        for tool in select(selection)
    ]
