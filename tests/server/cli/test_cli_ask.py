"""`bst ask`, `bst pipeline`, `bst login`: without a key, at the keyboard."""

from __future__ import annotations

import json
from pathlib import Path


def test_without_an_agent_the_whole_question_is_printed(run) -> None:
    result = run("ask", "What does a Sharpe ratio hide?")
    assert result.exit_code == 0
    assert "Question: What does a Sharpe ratio hide?" in result.stdout
    assert "submit_analysis" in result.stderr


def test_a_pipeline_stops_at_the_first_question_with_its_form(run, tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("x = 1\n", encoding="utf-8")
    result = run("pipeline", "code-review", "--file", str(file), "--json")
    told = json.loads(result.stdout)
    assert told["status"] == "delegated"
    assert told["delegated"]["step"] == "analyse"
    assert told["delegated"]["output_schema"]["required"]


def test_nothing_to_ask_about_is_wrong_usage(run) -> None:
    assert run("ask").exit_code == 2
    assert run("ask", "--file", "nowhere.py").exit_code == 2


def test_the_material_may_come_from_stdin(run) -> None:
    result = run("ask", "Explain", "--file", "-", "--json", stdin="Привет".encode())
    assert json.loads(result.stdout)["route"]["task"] == "explain"


def test_a_login_shows_the_terms_first_and_waits_for_consent(run) -> None:
    result = run("login", "copilot", stdin="n\n")
    assert result.exit_code == 1
    assert "terms" in result.stdout
