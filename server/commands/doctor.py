"""`bst doctor`: what works, what does not, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from server.commands.options import feed_option, home_option, json_option, settings_from
from server.commands.output import EXIT_ERROR, console_for_people, print_json, telling_errors

MARKS = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "failed": "[red]✗[/red]"}


@click.command(short_help="Check this installation.")
@feed_option
@home_option
@click.option("--reach-agents", is_flag=True, help="Also connect to the agents' own base addresses.")
@json_option
@telling_errors()
def doctor(feed: str | None, home: Path | None, reach_agents: bool, as_json: bool) -> None:
    """Check interpreter, packages, settings, database, exchange, compiler, agents and clients.

    The exit code is 1 when something essential fails; warnings leave it at 0.
    """
    from server.diagnosis import diagnose
    from server.logs import configure_logging

    configure_logging("ERROR")
    findings = diagnose(settings_from(feed=feed, home=home), reach_agents=reach_agents)
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        print_json({"healthy": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        from rich.markup import escape

        console = console_for_people()
        for finding in findings:
            console.print(f"{MARKS[finding.state]} [bold]{finding.check:<10}[/bold] {escape(finding.found)}")
            if finding.fix:
                console.print(f"             fix: {escape(finding.fix)}")
    if failed:
        raise click.exceptions.Exit(EXIT_ERROR)
