"""`bst login`: log in to an agent that takes no key; outside of any server, because a person has to act."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.options import home_option, settings_from
from server.commands.output import telling_errors


@click.command(short_help="Log in to Copilot.")
@click.argument("agent", type=click.Choice(["copilot"]))
@click.option("--yes", is_flag=True, help="The notice about its terms has been read.")
@home_option
@telling_errors()
def login(agent: str, yes: bool, home: Path | None) -> None:
    """Log in to AGENT with a code that GitHub shows in a browser; tokens are kept in files that only this user can read."""
    del agent  # the only one there is
    from agents import copilot
    from agents.providers import COPILOT_NOTICE

    settings = settings_from(home=home)
    click.echo(COPILOT_NOTICE)
    if not yes:
        click.confirm("go on?", abort=True)
    found = copilot.login(settings.copilot_folder, click.echo, api_base=settings.copilot_api_base)
    click.echo(f"logged in; model {found.model} of {', '.join(found.models)}")
    click.echo(f"tokens are in {settings.copilot_folder}")
    if not settings.copilot:
        click.echo('next: set BST_COPILOT=1; BST_AGENT_MODELS=\'{"copilot": "..."}\' picks another model')
