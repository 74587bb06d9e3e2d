"""The command line `bst`: every command is a module of `server/commands`, imported when it is asked for."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

# Command -> module of server.commands that defines it; the function has the command's name with underscores.
COMMANDS: Final = {
    "serve": "serve",
    "demo": "demo",
    "backtest": "backtest",
    "backfill": "backfill",
    "call": "call",
    "ask": "ask",
    "pipeline": "pipeline",
    "tools": "tools",
    "doctor": "doctor",
    "install-client": "install_client",
    "login": "login",
    "exchange": "exchange",
    "scripted-model": "scripted_model",
}


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, so that `bst serve` does not pay for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return the commands in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """Import the command's module and return the command."""
        module_name = COMMANDS.get(cmd_name)
        if module_name is None:
            return None
        module = importlib.import_module(f"server.commands.{module_name}")
        return getattr(module, module_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            import difflib  # only a mistyped command needs it

            near = difflib.get_close_matches(name, COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings: environment variables or a .env file; .env.example lists them.",
)
@click.version_option(package_name="bybit-strategy-tester", prog_name="bst")
def bst() -> None:
    """Honest strategy research on Bybit markets, for AI agents (MCP) and at the keyboard."""


def speak_utf8() -> None:
    """Make the streams UTF-8: a redirected Windows console would otherwise use a legacy code page."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a replaced stream (a test's) has none
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for a result, 1 for an error, 2 for wrong usage."""
    speak_utf8()
    # A terminated command leaves like an interrupted one: jobs are set aside, the database is closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bst.main(args=None if arguments is None else list(arguments), prog_name="bst")
