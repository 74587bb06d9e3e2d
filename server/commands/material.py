"""What a command for agents works on: a file, stdin, or the text selected in an editor, handed over in an environment variable."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from server.commands.call import decode

# A variable keeps every character of a selection; a command line would have to quote it.
SELECTION_VARIABLE = "BST_SELECTED_TEXT"

file_option = click.option("--file", "file", help="File to work on; `-` reads stdin.")
selection_option = click.option(
    "--selection",
    envvar=SELECTION_VARIABLE,
    help=f"Text to work on, of --file if both are given; editors hand it over in {SELECTION_VARIABLE}.",
)


@dataclass(frozen=True, slots=True)
class Material:
    """A text and the name of the file it is from."""

    text: str
    file: str


def read_material(file: str | None, selection: str | None) -> Material:
    """Return the selection, or the whole of the file or stdin when nothing is selected."""
    name = "" if file in {None, "-"} else Path(str(file)).name
    if selection and selection.strip():
        return Material(selection, name)
    if file is None:
        return Material("", "")
    return Material(decode(sys.stdin.buffer.read()) if file == "-" else _read(Path(file)), name)


def _read(path: Path) -> str:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
