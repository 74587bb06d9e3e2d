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
@click.option("--keys", is_flag=True, help="Of vscode: the hotkeys of the AI tasks instead of the server.")
@click.option("--name", default="bst", show_default=True, help="Name of the server in the client.")
@telling_errors()
def install_client(
    client: str, write: bool, yes: bool, print_only: bool, path: Path | None, keys: bool, name: str
) -> None:
    """Show what CLIENT's configuration would become, and write it with --write.

    Other entries are never touched, and the file as it was is kept beside it.
    """
    from server import clients

    if keys:
        install_keys(client, path, write=write, yes=yes, print_only=print_only)
        return
    chosen = cast("ClientName", client)
    check_name(name)
    entry = clients.server_entry(chosen, clients.server_command())
    if print_only:
        click.echo(clients.block_text(chosen, name, entry), nl=False)
        return
    file = path or clients.configuration_path(chosen)
    before = clients.read_configuration(file)
    after = clients.merged(chosen, before, name, entry)
    if offer(clients.CLIENTS[chosen].title, file, before, after, write=write, yes=yes):
        click.echo(f"next: {clients.CLIENTS[chosen].after}")


def install_keys(client: str, path: Path | None, *, write: bool, yes: bool, print_only: bool) -> None:
    """Do the same with the hotkeys: VS Code reads them from the user's folder, never from a project's."""
    from server import clients, hotkeys

    if client != "vscode":
        raise click.UsageError("--keys goes with vscode only")
    if print_only:
        click.echo(hotkeys.merged_keybindings(""), nl=False)
        return
    file = path or hotkeys.keybindings_path()
    before = clients.read_configuration(file)
    if offer("VS Code, hotkeys", file, before, hotkeys.merged_keybindings(before), write=write, yes=yes):
        click.echo("next: open this project in VS Code, select text, press the first chord (docs/vscode.md)")


def offer(title: str, file: Path, before: str, after: str, *, write: bool, yes: bool) -> bool:
    """Show a change and write it when asked to; return whether it was written."""
    from server import clients

    click.echo(f"{title}: {file}")
    if after == before:
        click.echo("already there, nothing to do")
        return False
    click.echo(change(before, after), nl=False)
    if not (write or yes):
        click.echo("nothing written; add --write to write it")
        return False
    if not yes:
        click.confirm("write this?", abort=True)
    backup = clients.write_configuration(file, after)
    click.echo("written" + (f"; the file as it was: {backup.name}" if backup else ""))
    return True


def check_name(name: str) -> None:
    """Refuse a name that would need quoting in some client's file."""
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise click.UsageError(f"--name {name!r} may hold letters, digits, - and _ only")


def change(before: str, after: str) -> str:
    """Return the change as a unified diff."""
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), "now", "then", n=2)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
