"""Merging our entry into clients' configurations: nothing else is touched, and a second time changes nothing."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path, PurePath

import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from engine.errors import BadRequest, Conflict
from server import clients
from server.cli import bst
from server.commands.install_client import NAMES

COMMAND = ["C:\\Users\\Müller\\env\\python.exe", "-P", "-m", "server", "serve"]
JSON_CLIENTS = [name for name, client in clients.CLIENTS.items() if client.format == "json"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    return lambda *arguments, stdin=None: CliRunner().invoke(bst, ["install-client", *arguments], input=stdin)


@pytest.mark.parametrize(
    ("platform", "client", "parts"),
    [
        (Windows, "vscode", ("Roaming", "Code", "User", "mcp.json")),
        (Windows, "claude-desktop", ("Roaming", "Claude", "claude_desktop_config.json")),
        (MacOS, "vscode", ("Library", "Application Support", "Code", "User", "mcp.json")),
        (MacOS, "claude-desktop", ("Library", "Application Support", "Claude", "claude_desktop_config.json")),
        (Unix, "vscode", (".config", "Code", "User", "mcp.json")),
        (Unix, "claude-desktop", (".config", "Claude", "claude_desktop_config.json")),
        *((platform, "cursor", (".cursor", "mcp.json")) for platform in (Windows, MacOS, Unix)),
        *((platform, "codex", (".codex", "config.toml")) for platform in (Windows, MacOS, Unix)),
    ],
)
def test_each_platform_has_its_file(platform, client, parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("WIN_PD_OVERRIDE_APPDATA", "C:\\Users\\me\\AppData\\Roaming")

    def config_path(*, roaming: bool) -> Path:
        return Path(platform(roaming=roaming).user_config_dir.replace("\\", "/"))

    monkeypatch.setattr(clients, "user_config_path", config_path)
    assert clients.configuration_path(client).parts[-len(parts) :] == PurePath(*parts).parts


def test_a_project_file_lies_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert clients.configuration_path("claude-code") == tmp_path / ".mcp.json"


def test_the_command_line_offers_exactly_the_known_clients() -> None:
    assert list(NAMES) == list(clients.CLIENTS)


def test_the_command_is_absolute_and_keeps_the_clients_folder_off_the_import_path() -> None:
    command = clients.server_command()
    assert Path(command[0]).is_absolute()
    assert command == [sys.executable, "-P", "-m", "server", "serve"]


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_an_empty_file_gets_our_entry(client: clients.ClientName) -> None:
    entry = clients.server_entry(client, COMMAND)
    text = clients.merged(client, "", "bst", entry)
    configuration = clients.CLIENTS[client]
    document = tomllib.loads(text) if configuration.format == "toml" else json.loads(text)
    assert document == {configuration.section: {"bst": entry}}
    assert entry["command"] == COMMAND[0]
    assert entry["args"] == COMMAND[1:]
    assert ("type" in entry) == configuration.states_transport


@pytest.mark.parametrize("client", JSON_CLIENTS)
def test_other_entries_stay_in_json(client: clients.ClientName) -> None:
    section = clients.CLIENTS[client].section
    before = {
        "theme": "dark",
        section: {"other": {"command": "x", "env": {"é": "ü"}}, "bst": {"command": "old"}},
        "last": [1],
    }
    entry = clients.server_entry(client, COMMAND)
    after = json.loads(clients.merged(client, json.dumps(before, indent=4), "bst", entry))
    assert after == {**before, section: {**before[section], "bst": entry}}
    assert list(after) == list(before)


def test_other_entries_and_comments_stay_in_toml() -> None:
    before = '# mine\nmodel = "x"  # why\n\n[mcp_servers.other]\ncommand = "y"\n'
    entry = clients.server_entry("codex", COMMAND)
    after = clients.merged("codex", before, "bst", entry)
    assert after.startswith(before)
    assert tomllib.loads(after)["mcp_servers"] == {"other": {"command": "y"}, "bst": entry}


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_second_time_changes_nothing(client: clients.ClientName) -> None:
    entry = clients.server_entry(client, COMMAND)
    once = clients.merged(client, "", "bst", entry)
    assert clients.merged(client, once, "bst", entry) == once


@pytest.mark.parametrize("white", ["  ", "    ", "\t"])
def test_the_files_own_indentation_is_kept(white: str) -> None:
    before = json.dumps({"mcpServers": {"other": {"command": "x"}}}, indent=white)
    after = clients.merged("cursor", before, "bst", {"command": "y", "args": []})
    assert after.splitlines()[1].startswith(f'{white}"')
    assert before.splitlines()[:4] == after.splitlines()[:4]


@pytest.mark.parametrize(
    ("client", "text", "error"),
    [
        ("vscode", '{"servers": {}, // mine\n}', BadRequest),
        ("vscode", "[]", BadRequest),
        ("vscode", '{"servers": []}', BadRequest),
        ("cursor", "{", BadRequest),
        ("codex", "[mcp_servers", BadRequest),
        ("codex", '[mcp_servers.bst]\ncommand = "other"\n', Conflict),
        ("codex", 'mcp_servers = { other = { command = "y" } }\n', Conflict),
    ],
)
def test_a_file_that_cannot_be_merged_safely_is_refused(client, text: str, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        clients.merged(client, text, "bst", clients.server_entry(client, COMMAND))
    assert refused.value.fix  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_our_entry_is_recognised_and_others_are_not(client: clients.ClientName) -> None:
    uv = {"command": "uv", "args": ["run", "bst", "serve"]}
    for entry in (clients.server_entry(client, COMMAND), uv):
        assert clients.is_configured(client, clients.merged(client, "", "any", entry))
    assert not clients.is_configured(client, clients.merged(client, "", "bst", {"command": "x", "args": ["serve"]}))
    assert not clients.is_configured(client, "")


def test_the_line_ends_of_the_file_are_kept(run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(b'{\r\n  "mcpServers": {}\r\n}\r\n')
    assert run("cursor", "--path", str(file), "--yes").exit_code == 0
    raw = file.read_bytes()
    assert raw.count(b"\n") == raw.count(b"\r\n") > 3


def test_without_write_the_change_is_only_shown(run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    result = run("cursor", "--path", str(file))
    assert result.exit_code == 0
    assert '+    "bst": {' in result.stdout
    assert "--write" in result.stdout
    assert not file.exists()


def test_writing_keeps_a_backup_and_a_second_run_does_nothing(run, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "mcp.json"
    file.parent.mkdir()
    before = '{"mcpServers": {"other": {"command": "x"}}}'
    file.write_text(before, encoding="utf-8")
    first = run("cursor", "--path", str(file), "--write", "--yes")
    assert first.exit_code == 0
    assert set(json.loads(file.read_text(encoding="utf-8"))["mcpServers"]) == {"other", "bst"}
    assert (file.parent / "mcp.json.bak").read_text(encoding="utf-8") == before
    written = file.read_bytes()
    second = run("cursor", "--path", str(file), "--write", "--yes")
    assert "nothing to do" in second.stdout
    assert file.read_bytes() == written
    assert sorted(path.name for path in file.parent.iterdir()) == ["mcp.json", "mcp.json.bak"]
    third = run("cursor", "--path", str(file), "--yes", "--name", "another")
    assert third.exit_code == 0
    assert (file.parent / "mcp.json.bak2").read_bytes() == written


def test_the_folder_of_a_client_that_never_ran_is_made(run, tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    assert run("codex", "--path", str(file), "--yes").exit_code == 0
    assert "bst" in tomllib.loads(file.read_text(encoding="utf-8"))["mcp_servers"]


def test_a_no_leaves_the_file_alone(run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    result = run("cursor", "--path", str(file), "--write", stdin="n\n")
    assert result.exit_code == 1
    assert not file.exists()


def test_a_broken_file_is_told_and_left_alone(run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("{ broken", encoding="utf-8")
    result = run("vscode", "--path", str(file), "--yes")
    assert result.exit_code == 1
    assert "not plain JSON" in result.stderr
    assert file.read_text(encoding="utf-8") == "{ broken"
    assert list(tmp_path.iterdir()) == [file]


def test_the_block_alone_can_be_printed(run) -> None:
    document = json.loads(run("claude-desktop", "--print").stdout)
    assert document["mcpServers"]["bst"]["args"][-1] == "serve"


@pytest.mark.parametrize("arguments", [("emacs",), ("vscode", "--name", "a b"), ("vscode", "--name", "")])
def test_wrong_usage_exits_with_two(run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(("file", "section"), [(".vscode/mcp.json", "servers"), (".mcp.json", "mcpServers")])
def test_the_repositorys_own_configurations_start_the_server(file: str, section: str) -> None:
    root = Path(__file__).parents[2]
    entry = json.loads((root / file).read_text(encoding="utf-8"))[section]["bst"]
    assert [entry["command"], *entry["args"]] == ["uv", "run", "bst", "serve"]
