"""`bst pipeline`: run a chain of steps to its end, or to a question that no agent answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.call import parse_arguments
from server.commands.delegation import show_delegated
from server.commands.material import Material, file_option, read_material, selection_option
from server.commands.options import feed_option, home_option, json_option, settings_from
from server.commands.output import fail, print_json, telling_errors
from server.interruption import run_until_stopped

if TYPE_CHECKING:
    from server.commands.connection import Answer
    from server.settings import Settings

NAMES = ("code-review", "strategy-development", "refactor-with-audit", "research-loop")
ABOUT_CODE = ("code-review", "refactor-with-audit")


@click.command(
    short_help="Run a chain of agent steps.",
    epilog='\b\nbst pipeline code-review --file x.py\nbst pipeline strategy-development "Buy after three red bars"'
    '\nbst pipeline research-loop "Trends persist" --input \'{"symbol": "BTCUSDT", "start": "2024-01-01", "end": "2024-06-01"}\'',
)
@click.argument("name", type=click.Choice(NAMES))
@click.argument("wish", required=False)
@click.option("--input", "given", default="{}", help="More input: a JSON object, `-` for stdin or @FILE.")
@file_option
@selection_option
@feed_option
@home_option
@json_option
@telling_errors()
def pipeline(
    name: str,
    wish: str | None,
    given: str,
    file: str | None,
    selection: str | None,
    feed: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Run NAME and print what each step came to; the same call later goes on after the last finished step.

    WISH is the idea of strategy-development and research-loop; for the others, what to look at or change.
    """
    material = read_material(file, selection)
    document = {**_input(name, wish, material), **parse_arguments(given)}
    request = {"name": name, "input": document}
    answer = run_until_stopped(_run(settings_from(feed=feed, home=home), request, as_json=as_json))
    told = answer.document
    if answer.is_error or told["status"] == "failed":
        fail(told if answer.is_error else (told["error"] or told), as_json=as_json)
    if as_json:
        print_json(told)
        return
    for step in told["steps"]:
        _show_step(step)
    if told["status"] == "delegated":
        show_delegated(told["delegated"], tool=f"pipeline {name}")
        click.echo("   then run the same command again", err=True)
    else:
        click.echo(f"-- {name} finished, {told['cost_usd']:.4f} USD", err=True)


def _input(name: str, wish: str | None, material: Material) -> dict[str, Any]:
    if name in ABOUT_CODE:
        if not material.text.strip():
            return {"wish": wish or ""}
        return {"code": material.text, "file": material.file, "wish": wish or ""}
    return (
        {} if not wish else {"idea": wish, **({"material": material.text} if _takes_material(name, material) else {})}
    )


def _takes_material(name: str, material: Material) -> bool:
    return name == "strategy-development" and bool(material.text.strip())


async def _run(settings: Settings, request: dict[str, Any], *, as_json: bool) -> Answer:
    """Call `run_pipeline` until it is no longer running."""
    from server.commands.connection import ask, in_process_client

    last = ""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        del progress, total
        if message and message != last and not as_json:
            last = message
            click.echo(f"   {message}", err=True)

    async with in_process_client(settings, ("run_pipeline",)) as client:
        while True:
            answer = await ask(client, "run_pipeline", request, hear)
            if answer.is_error or answer.document["status"] != "running":
                return answer


def _show_step(step: dict[str, Any]) -> None:
    output = step["output"]
    if output is None:
        return
    who = step["agent"] + (f" ({step['served_model']})" if step["served_model"] else "")
    click.echo(f"== {step['number']}. {step['name']}: {who}, {step['cost_usd']:.4f} USD")
    for name, value in output.items():
        click.echo(f"{name}: {value}" if isinstance(value, str) else f"{name}: {json.dumps(value, ensure_ascii=False)}")
    click.echo()
