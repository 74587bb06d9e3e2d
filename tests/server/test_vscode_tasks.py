"""The eight AI tasks of VS Code: names agree everywhere, and what an editor hands over arrives as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.hygiene import read_data_block
from agents.scripted import ScriptedModel, ServedModel, serve
from server.cli import COMMANDS, bst
from server.hotkeys import CHORDS, RUN_TASK, keybindings, merged_keybindings
from server.settings import Settings

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / ".vscode" / "extensions" / "bst-keys" / "package.json"
LABELS = [
    "AI: Generate Code",
    "AI: Refactor Code",
    "AI: Analyze Logic",
    "AI: Explain Code",
    "AI: Code Review Workflow",
    "AI: Strategy Development Workflow",
    "AI: Refactor with Audit Workflow",
    "AI: Generate Documentation",
]
# A question and a pipeline; BST_TASKS=all starts every task as a process (12 seconds of work each, most of it imports).
PROCESSES = LABELS if os.environ.get("BST_TASKS") == "all" else ["AI: Explain Code", "AI: Code Review Workflow"]
FILE_NAME = "страт $(touch pwned) 'a' \"b\" & c.py" if os.name != "nt" else "страт $(touch pwned) 'a' & c.py"
FILE_TEXT = (
    "# Привет $(touch pwned) `touch pwned` ${HOME} %PATH%\nquote = 'it''s \"quoted\"'\n\nif quote: print(quote)\n"
)
SELECTED = FILE_TEXT.splitlines(keepends=True)[0] + "quote = 'it''s \"quoted\"' && touch pwned; y > x\n"
TYPED = 'Куплю "дно" $(touch pwned); --help & echo'
# Second strokes of VS Code's own chords after ctrl+k (its page of keyboard shortcuts).
TAKEN = {
    "enter",
    "f12",
    *"bcdefghijklmnopqrstuvwxyz",
    *(f"ctrl+{key}" for key in "0123456789abcdefghijklmnopqrstuvwxyz"),
}


def tasks() -> dict[str, dict[str, Any]]:
    document = json.loads((ROOT / ".vscode" / "tasks.json").read_text(encoding="utf-8"))
    return {task["label"]: task for task in document["tasks"] if task["label"].startswith("AI:")}


@dataclass(frozen=True)
class Expanded:
    """A task as VS Code starts it: a process with an argument vector, nothing in between."""

    command: list[str]
    environment: dict[str, str]
    folder: str


def expanded(task: dict[str, Any], file: Path) -> Expanded:
    known = {"file": str(file), "selectedText": SELECTED, "workspaceFolder": str(ROOT)}

    def fill(text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name = found.group(1)
            return TYPED if name.startswith("input:") else known[name]

        return re.sub(r"\$\{([^}]+)\}", value, text)

    options = task["options"]
    return Expanded(
        [fill(part) for part in (task["command"], *task["args"])],
        {name: fill(text) for name, text in options.get("env", {}).items()},
        fill(options["cwd"]),
    )


@pytest.fixture(scope="module")
def served() -> Iterator[ServedModel]:
    with serve(ScriptedModel()) as served:
        yield served


@pytest.fixture
def surroundings(served: ServedModel, tmp_path: Path) -> dict[str, str]:
    served.model.restart()
    unset = {str(field.validation_alias) for field in Settings.model_fields.values()}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | {
        "BST_HOME": str(tmp_path / "home"),
        "DEEPSEEK_API_KEY": "sk-scripted",
        "DEEPSEEK_API_BASE": served.base_url("deepseek"),
        # The environment is what it is; resolving it again would need the network.
        "UV_NO_SYNC": "1",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a folder" / FILE_NAME
    path.parent.mkdir()
    path.write_text(FILE_TEXT, encoding="utf-8", newline="\n")
    return path


def check_arrival(task: dict[str, Any], served: ServedModel, folder: Path) -> None:
    """What the editor handed over is in the question, character for character, and nothing of it was run."""
    prompt = served.model.log[0].prompt
    words = " ".join(task["args"])
    if "env" in task["options"]:
        assert SELECTED in read_data_block("context", prompt)
    elif "pipeline" in words and "${file}" in words:
        assert json.loads(read_data_block("context", prompt))["code"] == FILE_TEXT
    elif "${file}" in words:
        assert read_data_block("context", prompt).endswith(FILE_TEXT)
    if "${input:wish}" in words:
        assert TYPED in prompt
    if "${input:idea}" in words:
        assert read_data_block("brief", prompt)["idea"] == TYPED
    assert not list(folder.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


def test_labels_of_tasks_keys_extension_and_docs_agree():
    extension = json.loads(EXTENSION.read_text(encoding="utf-8"))
    assert set(extension["contributes"]) == {"keybindings"}
    entries = extension["contributes"]["keybindings"]
    assert list(tasks()) == LABELS == list(CHORDS)
    assert {entry["args"]: entry["key"] for entry in entries} == CHORDS
    assert {entry["args"]: entry["mac"] for entry in entries} == {
        entry["args"]: entry["key"] for entry in keybindings("darwin")
    }
    assert {entry["command"] for entry in entries} == {RUN_TASK}
    docs = (ROOT / "docs" / "vscode.md").read_text(encoding="utf-8")
    for label, chord in CHORDS.items():
        assert re.search(rf"\| {re.escape(label)} \| `{re.escape(chord)}` \|", docs, re.IGNORECASE), label


def test_tasks_are_processes_of_commands_that_exist():
    for task in tasks().values():
        assert task["type"] == "process", "a shell would read the selection as its own language"
        assert task["command"] == "uv"
        run, program, command, *_ = task["args"]
        assert (run, program) == ("run", "bst")
        assert command in COMMANDS
        selected = [part for part in task["args"] if "${selectedText}" in part]
        assert not selected, "a selection goes through the environment"


def test_chords_shadow_no_default():
    first, second = zip(*(chord.split(" ") for chord in CHORDS.values()), strict=True)
    assert set(first) == {"ctrl+k"}, "a chord prefix of VS Code's own takes no key away"
    assert TAKEN.isdisjoint(second)
    assert len(set(second)) == len(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_a_task_hands_over_what_the_editor_gave(
    label: str, served: ServedModel, surroundings: dict[str, str], file: Path, monkeypatch: pytest.MonkeyPatch
):
    task = tasks()[label]
    started = expanded(task, file)
    monkeypatch.chdir(file.parent)
    for name in {str(field.validation_alias) for field in Settings.model_fields.values()}:
        monkeypatch.delenv(name, raising=False)
    for name, value in (surroundings | started.environment).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(bst, started.command[3:], prog_name="bst")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()
    check_arrival(task, served, file.parent)


@pytest.mark.parametrize("label", PROCESSES)
def test_a_task_runs_as_a_process_without_a_shell(
    label: str, served: ServedModel, surroundings: dict[str, str], file: Path
):
    task = tasks()[label]
    started = expanded(task, file)
    # Without uv on this machine its interpreter runs the same command.
    command = started.command if shutil.which("uv") else [sys.executable, "-m", "server", *started.command[3:]]
    done = subprocess.run(
        command,
        cwd=started.folder,
        env=surroundings | started.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert done.stdout.strip()
    check_arrival(task, served, file.parent)


def test_keys_are_merged_below_what_is_there_and_only_once():
    before = '// Place your key bindings in this file\n[\n    { "key": "f5", "command": "x" }\n]\n'
    after = merged_keybindings(before, "linux")
    assert after.startswith("// Place your key bindings in this file\n")
    entries = json.loads(after.partition("\n")[2])
    assert entries[0] == {"key": "f5", "command": "x"}
    assert entries[1:] == keybindings("linux")
    assert merged_keybindings(after, "linux") == after


def test_a_task_that_has_a_key_keeps_it():
    own = [{"key": "f6", "command": RUN_TASK, "args": LABELS[0]}]
    entries = json.loads(merged_keybindings(json.dumps(own), "linux"))
    assert [entry["key"] for entry in entries if entry["args"] == LABELS[0]] == ["f6"]
    assert len(entries) == len(LABELS)


def test_install_client_writes_the_keys_beside_a_backup(tmp_path: Path):
    path = tmp_path / "keybindings.json"
    path.write_text("[]", encoding="utf-8")
    command = ["install-client", "vscode", "--keys", "--path", str(path)]
    shown = CliRunner().invoke(bst, command)
    assert "nothing written" in shown.output
    assert path.read_text(encoding="utf-8") == "[]"
    written = CliRunner().invoke(bst, [*command, "--yes"])
    assert written.exit_code == 0, written.output
    assert json.loads(path.read_text(encoding="utf-8")) == keybindings()
    assert path.with_name("keybindings.json.bak").read_text(encoding="utf-8") == "[]"
