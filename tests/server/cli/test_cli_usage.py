"""The group of commands: what is offered, what a mistake answers, and what starting costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from server.cli import COMMANDS

HEAVY = ("mcp", "pydantic", "numpy", "numba", "rich", "sqlmodel", "httpx2", "uvicorn", "asyncio")


def imported_after(code: str) -> set[str]:
    script = f"import sys, json; {code}; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_lists_every_command(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: bst {name}")


def test_version_is_the_distributions(run) -> None:
    assert run("--version").stdout == "bst, version 0.1.0\n"


def test_a_mistyped_command_is_wrong_usage_and_names_the_nearest(run) -> None:
    result = run("backtset")
    assert result.exit_code == 2
    assert "Did you mean backtest" in result.stderr
    assert result.stdout == ""


def test_a_strange_command_lists_the_commands(run) -> None:
    result = run("xyzzy")
    assert result.exit_code == 2
    assert "install-client" in result.stderr


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert imported_after("import server.cli").isdisjoint(HEAVY)


def test_help_of_all_commands_imports_nothing_heavy() -> None:
    code = "from server.cli import bst; bst.main(['--help'], prog_name='bst', standalone_mode=False)"
    assert imported_after(code).isdisjoint(
        {"mcp", "pydantic", "numpy", "numba", "rich", "sqlmodel", "httpx2", "uvicorn"}
    )


def test_the_module_is_the_same_program(run_process) -> None:
    done = run_process("nonsense")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
