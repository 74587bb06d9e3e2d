"""`bst install-client`: write our entry into an MCP client's configuration."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from server.commands.output import telling_errors

if TYPE_CHECKING:
    from server.clients import ClientName

NAMES = ("vscode", "claude-desktop", "claude-code", "cursor", "codex")


@click.command(short_help="Write an MCP client's configuration.")
@click.argument("client", type=click.Choice(NAMES))
@click.option("--write", is_flag=True, help="Write the file; without it the change is only shown.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--print", "print_only", is_flag=True, help="Print only the block to paste.")
@click.option("--path", type=click.Path(dir_okay=False, path_type=Path), help="Another file than the client's own.")
@click.option("--name", default="bst", show_default=True, help="Name of the server in the client.")
@telling_errors()
def install_client(client: str, write: bool, yes: bool, print_only: bool, path: Path | None, name: str) -> None:
    """Show what CLIENT's configuration would become, and write it with --write.

    Other entries are never touched, and the file as it was is kept beside it.
    """
    from server import clients

    chosen = cast("ClientName", client)
    check_name(name)
    entry = clients.server_entry(chosen, clients.server_command())
    if print_only:
        click.echo(clients.block_text(chosen, name, entry), nl=False)
        return
    file = path or clients.configuration_path(chosen)
    before = clients.read_configuration(file)
    after = clients.merged(chosen, before, name, entry)
    click.echo(f"{clients.CLIENTS[chosen].title}: {file}")
    if after == before:
        click.echo("already there, nothing to do")
        return
    click.echo(change(before, after), nl=False)
    if not (write or yes):
        click.echo("nothing written; add --write to write it")
        return
    if not yes:
        click.confirm("write this?", abort=True)
    backup = clients.write_configuration(file, after)
    click.echo("written" + (f"; the file as it was: {backup.name}" if backup else ""))
    click.echo(f"next: {clients.CLIENTS[chosen].after}")


def check_name(name: str) -> None:
    """Refuse a name that would need quoting in some client's file."""
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise click.UsageError(f"--name {name!r} may hold letters, digits, - and _ only")


def change(before: str, after: str) -> str:
    """Return the change as a unified diff."""
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), "now", "then", n=2)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
