"""`bst doctor`: each part, what is wrong with it, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from server import diagnosis
from server.diagnosis import check_packages, package_origins

CHECKS = ["python", "packages", "settings", "home", "database", "exchange", "compiler", "agents", "clients"]


def states(document: dict) -> dict[str, str]:
    return {check["check"]: check["state"] for check in document["checks"]}


def test_a_healthy_installation_passes(run) -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert list(states(document)) == CHECKS
    assert document["healthy"]
    assert {name: state for name, state in states(document).items() if name != "clients"} == dict.fromkeys(
        CHECKS[:-1], "ok"
    )


def test_people_see_one_line_a_check(run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert all(check in result.stdout for check in CHECKS)


def test_a_home_that_cannot_be_written_fails_with_its_fix(run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    result = run("doctor", "--json", "--home", str(tmp_path / "taken" / "home"))
    assert result.exit_code == 1
    home = next(check for check in json.loads(result.stdout)["checks"] if check["check"] == "home")
    assert home["state"] == "failed"
    assert "BST_HOME" in home["fix"]


def test_a_file_that_is_no_database_fails(run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bst.sqlite").write_bytes(b"this is not a database at all, " * 200)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert states(json.loads(result.stdout))["database"] == "failed"


def test_an_exchange_out_of_reach_is_a_warning(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "EXCHANGE_PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BYBIT_REST_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        result = run("doctor", "--json", "--feed", "bybit")
    assert result.exit_code == 0
    exchange = next(check for check in json.loads(result.stdout)["checks"] if check["check"] == "exchange")
    assert exchange["state"] == "warning"
    assert exchange["fix"]


async def test_a_clock_far_off_is_a_warning() -> None:
    class Ahead:
        name = source = "bybit"

        async def server_time_ms(self) -> int:
            await asyncio.sleep(0)
            return 120_000

    class Stopped:
        def now_ms(self) -> int:
            return 0

    finding = await diagnosis.check_exchange(Ahead(), Stopped())  # pyright: ignore[reportArgumentType]
    assert finding.state == "warning"
    assert "+120.0 s" in finding.found


def test_secrets_are_named_and_never_shown(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BST_HTTP_TOKEN", "hunter2hunter2")
    result = run("doctor", "--json")
    assert "BST_HTTP_TOKEN" in result.stdout
    assert "hunter2" not in result.output


def test_another_projects_package_is_found_out(tmp_path: Path) -> None:
    origins = package_origins()
    assert check_packages(origins).state == "ok"
    for stranger in (tmp_path / "agents", None):
        finding = check_packages({**origins, "agents": stranger})
        assert finding.state == "failed"
        assert "agents" in finding.found


def test_agents_are_named_with_what_they_lack_and_keys_are_never_shown(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-very-secret")
    monkeypatch.setenv("DEEPSEEK_API_BASE", "http://127.0.0.1:1")
    result = run("doctor", "--json", "--reach-agents")
    checks = [each for each in json.loads(result.stdout)["checks"] if each["check"] in {"agents", "agent"}]
    assert "deepseek-fast" in checks[0]["found"]
    assert "PERPLEXITY_API_KEY" in checks[0]["found"]
    assert checks[1]["state"] == "warning"
    assert "sk-very-secret" not in result.output


def test_an_unreadable_list_of_local_agents_fails_with_its_form(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BST_LOCAL_AGENTS", "[{]")
    result = run("doctor", "--json")
    found = next(each for each in json.loads(result.stdout)["checks"] if each["check"] == "agents")
    assert found["state"] == "failed"
    assert "base_url" in found["fix"]
