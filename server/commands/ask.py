"""`bst ask`: a question to the agents, through the same tool that MCP clients call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.delegation import show_delegated
from server.commands.material import file_option, read_material, selection_option
from server.commands.options import home_option, json_option, settings_from
from server.commands.output import fail, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from server.commands.connection import Answer
    from server.settings import Settings

TASKS = ("reason", "research", "explain", "code", "document", "audit")
WITHOUT_PROMPT = "Say what matters most in the context."


@click.command(
    short_help="Ask an agent.", epilog='\b\nbst ask "What is a Sharpe ratio?"\nbst ask --task explain --file x.py'
)
@click.argument("prompt", required=False)
@click.option("--task", type=click.Choice(TASKS), help="Kind of question; otherwise told by its words.")
@click.option("--agent", help="Only this agent (`bst call list_agents` names them).")
@click.option("--run", "run_ids", multiple=True, help="A run_id whose facts go along; may be repeated.")
@file_option
@selection_option
@home_option
@json_option
@telling_errors()
def ask(
    prompt: str | None,
    task: str | None,
    agent: str | None,
    run_ids: tuple[str, ...],
    file: str | None,
    selection: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Ask the agents PROMPT, about the selection or --file if given, and print the checked answer.

    On a terminal the text appears as it comes. Without any agent the question is printed with all that is needed to answer it
    elsewhere; the exit code is 0 then too.
    """
    material = read_material(file, selection)
    if not prompt and not material.text.strip():
        raise click.UsageError("give a PROMPT, --file or --selection")
    arguments: dict[str, Any] = {"prompt": prompt or WITHOUT_PROMPT, "task": task, "agent": agent}
    if material.text:
        arguments["context"] = f"file {material.file}:\n{material.text}" if material.file else material.text
    if run_ids:
        arguments["run_ids"] = list(run_ids)
    given = {name: value for name, value in arguments.items() if value is not None}
    shown = StreamedText(is_on=not as_json and sys.stdout.isatty())
    answer = run_until_stopped(call_tool(settings_from(home=home), "ask_agents", given, shown))
    if answer.is_error:
        fail(answer.document, as_json=as_json)
    if as_json:
        print_json(answer.document)
    elif answer.document["status"] == "delegated":
        show_delegated({**answer.document, "question": given["prompt"]}, tool="ask_agents")
    else:
        show_answer(answer.document, shown)


async def call_tool(settings: Settings, tool: str, arguments: dict[str, Any], shown: StreamedText) -> Answer:
    """Call a tool of a server in this process, showing text on its way."""
    from server.commands.connection import ask as ask_tool
    from server.commands.connection import in_process_client

    async with in_process_client(settings, (tool,)) as client:
        return await ask_tool(client, tool, arguments, shown.hear)


class StreamedText:
    """Prints pieces of an answer as they come, and remembers them.

    Parameters
    ----------
    is_on : bool
        Only a terminal shows text that is not checked yet.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self.text = ""

    async def hear(self, progress: float, total: float | None, message: str | None) -> None:
        """Take a notification; news of another attempt end what was shown."""
        del progress, total
        from tools.agent_streaming import WRITES

        if not self._is_on or not message:
            return
        _, writes, piece = message.partition(WRITES)
        if writes:
            self.text += piece
            click.echo(piece, nl=False)
        elif self.text:
            click.echo(f"\n[{message}]")
            self.text = ""


def show_answer(document: dict[str, Any], shown: StreamedText) -> None:
    """Print the checked answer, or what is left of it after its pieces, and who gave it."""
    text = str(document["answer"])
    begun = shown.text.strip()
    if begun and text.startswith(begun):
        click.echo(text[len(begun) :])
    else:
        click.echo(("\n" if shown.text else "") + text)
    for source in document.get("sources") or []:
        click.echo(f"  {source['title']} {source['url']}".rstrip())
    click.echo(said_by(document), err=True)


def said_by(document: dict[str, Any]) -> str:
    """Return one line: who answered, after which failures, at what cost."""
    failed = [f"{each['agent']} {each['outcome']}" for each in document["attempts"] if each["outcome"] != "answered"]
    parts = [f"{document['agent']} ({document['served_model']})", document["route"]["task"]]
    parts += ["cached"] if document["cached"] else [f"{document['cost_usd']:.4f} USD"]
    parts += [f"after {', '.join(failed)}"] if failed else []
    return f"-- {', '.join(parts)}"
