"""What commands print: JSON for machines on stdout, tables for people, errors with their fix on stderr."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from engine.errors import LabError, StorageFailed

if TYPE_CHECKING:
    from rich.console import Console

Parameters = ParamSpec("Parameters")
Command = Callable[Parameters, None]

EXIT_ERROR = 1
EXIT_USAGE = 2
PLAIN_WIDTH = 120  # of tables that go into a file or a pipe
EXIT_INTERRUPTED = 130  # as shells report a program ended by Ctrl-C


def print_json(document: object) -> None:
    """Print one JSON document: indented for a person at a terminal, one line for a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False))


def print_error(error: Mapping[str, Any]) -> None:
    """Print an error object for a person, on stderr."""
    click.echo(f"error ({error.get('code', 'failed')}): {error.get('message', '')}", err=True)
    if fix := error.get("fix"):
        click.echo(f"  fix: {fix}", err=True)


def fail(error: Mapping[str, Any], *, as_json: bool) -> NoReturn:
    """Show an error object where it was asked for and leave with exit code 1."""
    if as_json:
        print_json(error)
    else:
        print_error(error)
    raise click.exceptions.Exit(EXIT_ERROR)


def fail_with(error: LabError, *, as_json: bool) -> NoReturn:
    """Show an error of the engine as tools show it."""
    from tools.failures import error_object  # it knows MCP, which a command that succeeds may not need

    fail(error_object(error), as_json=as_json)


def telling_errors(*, always_json: bool = False) -> Callable[[Command[Parameters]], Command[Parameters]]:
    """Turn anticipated failures of a command into its error output; never a traceback.

    Parameters
    ----------
    always_json : bool
        Show errors as JSON on stdout even without a `--json` flag.
    """

    def decorate(command: Command[Parameters]) -> Command[Parameters]:
        @functools.wraps(command)
        def telling(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
            as_json = always_json or bool(options.get("as_json", False))
            try:
                command(*arguments, **options)
            except LabError as error:
                fail_with(error, as_json=as_json)
            except (PermissionError, FileExistsError, NotADirectoryError) as error:
                blocked = StorageFailed(
                    f"{error.filename or 'a file'!r} cannot be used: {error.strerror}",
                    fix="choose another folder with --home or BST_HOME",
                )
                fail_with(blocked, as_json=as_json)

        return telling

    return decorate


def console_for_people(*, stderr: bool = False) -> Console:
    """Return a rich console: colours and bars only on a terminal, NO_COLOR respected, plain text otherwise."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def figure(value: object, *, percent: bool = False, digits: int = 2) -> str:
    """Return a number as people read it; a dash where there is none.

    >>> figure(0.1234, percent=True), figure(12345.678), figure(None)
    ('12.34 %', '12,345.68', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if percent:
        return f"{value * 100:,.{digits}f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
