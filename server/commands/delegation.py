"""A question that no agent answered, printed so that a person can put it to any model, or answer it."""

from __future__ import annotations

import json
from typing import Any

import click


def show_delegated(document: dict[str, Any], *, tool: str) -> None:
    """Print instructions, question, facts and form plainly; say how an answer is handed in."""
    click.echo("No agent answered. This is the whole question, for any model or for you:\n")
    click.echo(f"{document['instructions']}\n")
    click.echo(f"Question: {document['question']}")
    if document.get("brief"):
        click.echo(f"\nBrief (the only figures that may be quoted):\n{_pretty(document['brief'])}")
    if document.get("output_schema"):
        click.echo(f"\nForm of the answer (JSON schema):\n{_pretty(document['output_schema'])}")
    for note in document.get("notes") or []:
        click.echo(f"  {note}", err=True)
    click.echo(f"-- delegated by {tool}; hand an answer in with:", err=True)
    request = json.dumps({"submission_id": document["submission_id"], "answer": "..."})
    click.echo(f"   bst call submit_analysis '{request}'   (or @FILE with that JSON)", err=True)


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
