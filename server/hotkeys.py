"""The hotkeys of VS Code's `AI:` tasks, and how they are merged into a user's keybindings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, cast

from platformdirs import user_config_path

from engine.errors import BadRequest
from server.clients import indent_of

RUN_TASK: Final = "workbench.action.tasks.runTask"
# The chord prefix of VS Code's own, with second strokes that it leaves free: nothing is shadowed.
CHORDS: Final[dict[str, str]] = {
    "AI: Generate Code": "ctrl+k alt+1",
    "AI: Refactor Code": "ctrl+k alt+2",
    "AI: Analyze Logic": "ctrl+k alt+3",
    "AI: Explain Code": "ctrl+k alt+4",
    "AI: Code Review Workflow": "ctrl+k alt+5",
    "AI: Strategy Development Workflow": "ctrl+k alt+6",
    "AI: Refactor with Audit Workflow": "ctrl+k alt+7",
    "AI: Generate Documentation": "ctrl+k alt+8",
}


def keybindings_path() -> Path:
    """Return the user's keybindings of VS Code on this platform."""
    return user_config_path(roaming=True).joinpath("Code", "User", "keybindings.json")


def keybindings(platform: str = sys.platform) -> list[dict[str, str]]:
    """Return one entry a task, in the form of a user's file."""
    first = "cmd" if platform == "darwin" else "ctrl"
    return [
        {"key": chord.replace("ctrl", first), "command": RUN_TASK, "args": label} for label, chord in CHORDS.items()
    ]


def merged_keybindings(text: str, platform: str = sys.platform) -> str:
    """Return the file's text with our entries at its end; a task that has a key there already keeps it.

    Raises
    ------
    BadRequest
        When the file has comments or is no list: rewriting it would lose what is in it.
    """
    document: Any = []
    heading, body = _split_heading(text)
    if body.strip():
        try:
            document = json.loads(body)
        except ValueError as error:
            raise BadRequest(
                f"the file is not plain JSON ({error}); comments and trailing commas cannot be kept by a merge",
                fix="add the block shown by `--keys --print` by hand, or remove the comments",
            ) from error
    if not isinstance(document, list):
        raise BadRequest("the file is not a list of keybindings", fix="it should look like []")
    entries = cast("list[dict[str, Any]]", document)
    bound = {entry.get("args") for entry in entries if entry.get("command") == RUN_TASK}
    added = [entry for entry in keybindings(platform) if entry["args"] not in bound]
    if not added:
        return text
    return heading + json.dumps([*entries, *added], ensure_ascii=False, indent=indent_of(body)) + "\n"


def _split_heading(text: str) -> tuple[str, str]:
    """Return the comment lines that VS Code itself writes above the list, and the rest."""
    lines = text.splitlines(keepends=True)
    count = next((place for place, line in enumerate(lines) if not line.lstrip().startswith("//")), len(lines))
    return "".join(lines[:count]), "".join(lines[count:])
