"""`bst scripted-model`: a model server that answers from the brief alone and breaks on purpose, for tests and offline use."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.errors import BadRequest
from server.commands.output import telling_errors

if TYPE_CHECKING:
    from agents.scripted import FaultPlan


@click.command(short_help="Serve a scripted model (OpenAI wire formats).")
@click.option("--port", required=True, type=click.IntRange(0, 65_535), help="0 picks a free port.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Fault script (JSON) to play."
)
@telling_errors()
def scripted_model(port: int, host: str, faults: Path | None) -> None:
    """Serve a model that fills every form from the brief it is given, and print its address on one line.

    Point DEEPSEEK_API_BASE at ADDRESS/deepseek, PERPLEXITY_API_BASE at ADDRESS/perplexity, a local agent at ADDRESS/NAME/v1.
    What it says is composed of the brief's figures: no opinion of any model.
    """
    from agents.scripted import ScriptedModel, serve

    model = ScriptedModel(faults=None if faults is None else _plan(faults))
    try:
        with serve(model, host=host, port=port) as served:
            click.echo(served.url)
            # Until Ctrl-C or SIGTERM, which both arrive as KeyboardInterrupt.
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise click.UsageError(
            f"{host}:{port} cannot be opened: {error.strerror}; --port 0 picks a free one"
        ) from error


def _plan(path: Path) -> FaultPlan:
    from pydantic import ValidationError

    from agents import scripted

    try:
        return scripted.FaultPlan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise BadRequest(
            f"the fault script cannot be read: {place}: {first['msg']}",
            fix='it looks like {"faults": [{"kind": "503", "times": 2}]}',
        ) from error
