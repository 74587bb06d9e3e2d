"""Configurations of MCP clients: where each keeps its file, and how our entry is merged into it."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from platformdirs import user_config_path

from engine.errors import BadRequest, Conflict

ClientName = Literal["vscode", "claude-desktop", "claude-code", "cursor", "codex"]


@dataclass(frozen=True, slots=True)
class ClientConfiguration:
    """How one client is configured.

    Attributes
    ----------
    title : str
        Its name as people know it.
    folder : {"config", "home", "here"}
        What `path` is relative to: the platform's folder of application settings, the user's home, or the
        current folder (a project's file).
    path : tuple of str
    section : str
        The key that holds the servers.
    format : {"json", "toml"}
    states_transport : bool
        Whether an entry carries `"type": "stdio"`.
    after : str
        What to do for the client to see the change.
    """

    title: str
    folder: Literal["config", "home", "here"]
    path: tuple[str, ...]
    section: str
    format: Literal["json", "toml"]
    states_transport: bool
    after: str


# Sources: the clients' own documentation pages on MCP configuration.
CLIENTS: Final[dict[ClientName, ClientConfiguration]] = {
    "vscode": ClientConfiguration(
        title="VS Code (all workspaces)",
        folder="config",
        path=("Code", "User", "mcp.json"),
        section="servers",
        format="json",
        states_transport=True,
        after="run `MCP: List Servers` in VS Code and start it",
    ),
    "claude-desktop": ClientConfiguration(
        title="Claude Desktop",
        folder="config",
        path=("Claude", "claude_desktop_config.json"),
        section="mcpServers",
        format="json",
        states_transport=False,
        after="quit Claude Desktop completely and start it again",
    ),
    "claude-code": ClientConfiguration(
        title="Claude Code (this folder)",
        folder="here",
        path=(".mcp.json",),
        section="mcpServers",
        format="json",
        states_transport=True,
        after="start `claude` in this folder and approve the server",
    ),
    "cursor": ClientConfiguration(
        title="Cursor",
        folder="home",
        path=(".cursor", "mcp.json"),
        section="mcpServers",
        format="json",
        states_transport=False,
        after="enable it in Cursor's settings under MCP",
    ),
    "codex": ClientConfiguration(
        title="Codex",
        folder="home",
        path=(".codex", "config.toml"),
        section="mcp_servers",
        format="toml",
        states_transport=False,
        after="start Codex again",
    ),
}


def configuration_path(client: ClientName) -> Path:
    """Return the client's file on this platform."""
    configuration = CLIENTS[client]
    folder = {
        "config": lambda: user_config_path(roaming=True),
        "home": Path.home,
        "here": Path.cwd,
    }[configuration.folder]()
    return folder.joinpath(*configuration.path)


def server_command() -> list[str]:
    """Return the command a client runs.

    Absolute, because clients start servers in any folder and with a PATH of their own (Claude Desktop on Windows
    ignores `cwd`). `-P` keeps that folder off the import path: a project with a `server` or `tools` folder would
    otherwise be run in our place.
    """
    return [sys.executable, "-P", "-m", "server", "serve"]


def server_entry(client: ClientName, command: list[str]) -> dict[str, Any]:
    """Return our entry in the client's form."""
    transport = {"type": "stdio"} if CLIENTS[client].states_transport else {}
    return {**transport, "command": command[0], "args": command[1:]}


def merged(client: ClientName, text: str, name: str, entry: dict[str, Any]) -> str:
    """Return the file's text with our entry in it; every other entry stays as it is.

    Parameters
    ----------
    client : str
    text : str
        What the file holds now; empty when there is none.
    name : str
        Name of the entry.
    entry : dict
        From `server_entry`.
    """
    if CLIENTS[client].format == "toml":
        return _merged_toml(text, CLIENTS[client].section, name, entry)
    return _merged_json(text, CLIENTS[client].section, name, entry)


def _merged_json(text: str, section: str, name: str, entry: dict[str, Any]) -> str:
    document: Any = {}
    if text.strip():
        try:
            document = json.loads(text)
        except ValueError as error:
            raise BadRequest(
                f"the file is not plain JSON ({error}); comments and trailing commas cannot be kept by a merge",
                fix="add the block shown by `--print` by hand, or mend the file",
            ) from error
    if not isinstance(document, dict) or not isinstance(document.get(section, {}), dict):
        raise BadRequest(f"the file has no object {section!r}", fix=f'it should look like {{"{section}": {{}}}}')
    whole = cast("dict[str, Any]", document)
    servers = cast("dict[str, Any]", whole.get(section, {}))
    if servers.get(name) == entry:
        return text
    whole[section] = {**servers, name: entry}
    return json.dumps(whole, ensure_ascii=False, indent=indent_of(text)) + "\n"


def indent_of(text: str) -> int | str:
    """Return the indentation the file uses, so that a merge does not rewrite every line."""
    for line in text.splitlines():
        stripped = line.lstrip()
        if stripped and stripped != line:
            white = line[: len(line) - len(stripped)]
            return "\t" if white.startswith("\t") else len(white)
    return 2


def _merged_toml(text: str, section: str, name: str, entry: dict[str, Any]) -> str:
    by_hand = Conflict(f"{section!r} is written in a form that cannot be appended to", fix="add the block by hand")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"the file is not valid TOML: {error}", fix="mend the file, then try again") from error
    servers = document.get(section, {})
    if not isinstance(servers, dict):
        raise by_hand
    if servers.get(name) == entry:
        return text
    if name in servers:
        # Rewriting a table inside somebody's file without a TOML writer would lose comments or more.
        raise Conflict(
            f"[{section}.{name}] is there already and says something else",
            fix=f"remove that table from the file, or pass another --name than {name!r}",
        )
    block = toml_block(section, name, entry)
    result = f"{text.rstrip()}\n\n{block}" if text.strip() else block
    try:
        appended = tomllib.loads(result)
    except tomllib.TOMLDecodeError as error:
        raise by_hand from error
    if appended != {**document, section: {**servers, name: entry}}:
        raise by_hand
    return result


def toml_block(section: str, name: str, entry: dict[str, Any]) -> str:
    """Return one table as TOML text; JSON strings and lists of strings are TOML ones too."""
    lines = [f"[{section}.{name}]"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"


def block_text(client: ClientName, name: str, entry: dict[str, Any]) -> str:
    """Return what a person would paste into an empty file."""
    return merged(client, "", name, entry)


def backup_path(path: Path) -> Path:
    """Return a name beside the file that is not taken yet."""
    candidate = path.with_name(path.name + ".bak")
    number = 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.bak{number}")
    return candidate


def write_configuration(path: Path, text: str) -> Path | None:
    """Write the file, whole or not at all, and return the backup of what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    backup, line_end = None, "\n"
    if path.exists():
        before = path.read_bytes()
        backup = backup_path(path)
        backup.write_bytes(before)
        line_end = "\r\n" if b"\r\n" in before else "\n"
    # A link (dotfiles kept elsewhere) stays a link.
    target = path.resolve()
    written = target.with_name(target.name + ".new")
    written.write_text(text, encoding="utf-8", newline=line_end)
    if target.exists():
        written.chmod(target.stat().st_mode)
    written.replace(target)
    return backup


def read_configuration(path: Path) -> str:
    """Return the file's text; empty when there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path.name!r} is not UTF-8", fix="save it as UTF-8, then try again") from error


def is_configured(client: ClientName, text: str) -> bool:
    """Tell whether some entry of the file starts this server, whatever its name and its launcher."""
    configuration = CLIENTS[client]
    try:
        document: Any = tomllib.loads(text) if configuration.format == "toml" else json.loads(text or "{}")
    except ValueError as error:  # tomllib's and json's errors both are
        raise BadRequest(f"the file is not valid {configuration.format.upper()}", fix="mend the file") from error
    servers = document.get(configuration.section) if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        return False
    return any(_starts_us(entry) for entry in cast("dict[str, Any]", servers).values())


def _starts_us(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    known = cast("dict[str, Any]", entry)
    words = [str(known.get("command", "")), *(str(word) for word in known.get("args") or [])]
    return "serve" in words and ("server" in words or any(Path(word).stem == "bst" for word in words))
