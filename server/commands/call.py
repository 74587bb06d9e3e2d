"""`bst call`: run one tool and print its answer as one JSON document."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from server.collector import undisturbed_start
from server.commands.options import feed_option, home_option, settings_from
from server.commands.output import EXIT_ERROR, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from server.commands.connection import Answer
    from server.settings import Settings


@click.command(
    short_help="Run a tool, print its JSON.",
    epilog='\b\nbst call search_instruments \'{"query": "BTC"}\'\nbst call run_backtest @request.json',
)
@click.argument("tool")
@click.argument("arguments", default="{}")
@feed_option
@home_option
@click.option("--detach", is_flag=True, help="Print a started job's handle and leave; it runs on under a server.")
@telling_errors(always_json=True)
def call(tool: str, arguments: str, feed: str | None, home: Path | None, detach: bool) -> None:
    """Run TOOL with ARGUMENTS, a JSON object, `-` for stdin or @FILE, and print its answer as JSON.

    The exit code is 0 for a result, 1 for an error object and 2 for wrong usage. A tool that starts a job is
    waited for, and the job's result is printed. Nothing is shortened: the cap on answers is for models.
    """
    with undisturbed_start():
        check_tool_name(tool)
        given = parse_arguments(arguments)
        settings = settings_from(feed=feed, home=home)
    answer = run_until_stopped(run_tool(settings, tool, given, detach=detach))
    print_json(answer.document)
    if answer.is_error:
        raise click.exceptions.Exit(EXIT_ERROR)


async def run_tool(settings: Settings, tool: str, arguments: dict[str, Any], *, detach: bool) -> Answer:
    """Call the tool and, when it only started a job, stay until that job has ended."""
    from server.commands.connection import JOB_ENDED, JOB_TOOLS, ask, await_job, in_process_client, started_job
    from server.commands.progress import progress_bar

    only = (tool, *JOB_TOOLS) if starts_jobs(tool) else (tool,)
    with progress_bar(tool) as on_progress:
        async with in_process_client(settings, only) as client:
            answer = await ask(client, tool, arguments, on_progress)
            job_id = started_job(answer) if starts_jobs(tool) else None
            if job_id is not None and not detach:
                answer = await await_job(client, job_id, on_progress)
    if job_id is not None and detach and answer.document.get("state") not in JOB_ENDED:
        click.echo("the job waits until a server with the same home runs (`bst serve`), which takes it up", err=True)
    return answer


def starts_jobs(tool: str) -> bool:
    """Tell tools that start background work by their verb; looking at jobs must not wait for them."""
    return tool.startswith("start_")


def check_tool_name(name: str) -> None:
    """Refuse a name that no tool has, with the nearest ones."""
    from tools.catalog import all_tools

    known = [tool.name for tool in all_tools()]
    if name in known:
        return
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`bst tools` lists them"
    raise click.UsageError(f"there is no tool {name!r}; {hint}")


def parse_arguments(text: str) -> dict[str, Any]:
    """Return the JSON object given on the command line, on stdin (`-`) or in a file (`@FILE`)."""
    source = "ARGUMENTS"
    if text == "-":
        source, text = "stdin", decode(sys.stdin.buffer.read())
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = decode(Path(source).read_bytes())
        except OSError as error:
            raise click.UsageError(f"{source!r} cannot be read: {error.strerror}") from error
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        quoting = " (in PowerShell and cmd, quotes get lost: use @FILE or -)" if source == "ARGUMENTS" else ""
        raise click.UsageError(f"{source} is not JSON: {error}{quoting}") from error
    if not isinstance(value, dict):
        raise click.UsageError(f"{source} is a JSON {type(value).__name__}, needed is an object of arguments")
    return value


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python would read though JSON has no such numbers."""
    raise ValueError(f"{name} is not a JSON number")


def decode(raw: bytes) -> str:
    """Return the text of a file; Windows tools write byte order marks and UTF-16."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    return raw.decode("utf-8-sig", errors="replace")
