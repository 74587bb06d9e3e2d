"""The command line as tests use it: in this process through click's runner, or as a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from server.cli import bst
from server.settings import Settings

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]

SETTING_NAMES = [str(field.validation_alias) for field in Settings.model_fields.values()]


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a home and a folder of its own, and the simulated feed."""
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BST_FEED", "simulated")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(bst, list(arguments), input=stdin, prog_name="bst")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def call(run: Run) -> Callable[..., Any]:
    """Run a tool and return its document."""

    def invoke(tool: str, **arguments: object) -> Any:
        result = run("call", tool, json.dumps(arguments))
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke


@pytest.fixture
def run_process(monkeypatch: pytest.MonkeyPatch) -> RunProcess:
    """Run a command as a process of its own, with these environment variables besides the test's."""

    def invoke(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return subprocess.run(
            [sys.executable, "-P", "-m", "server", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return invoke
