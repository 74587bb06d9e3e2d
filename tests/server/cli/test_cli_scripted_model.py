"""`bst scripted-model`: one line with its address, answers from what it is given, faults from a file, and a quick end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

PATIENCE_S = 120.0
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "What does a Sortino ratio hide?"}]}


@contextmanager
def scripted_model(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-P", "-m", "server", "scripted-model", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def ask(address: str, agent: str) -> httpx2.Response:
    return httpx2.post(f"{address}/{agent}/v1/chat/completions", json=QUESTION, timeout=PATIENCE_S)


def test_it_answers_at_the_address_it_prints_and_plays_the_fault_script(tmp_path: Path):
    script = tmp_path / "faults.json"
    script.write_text(json.dumps({"faults": [{"kind": "503", "times": 1}]}), encoding="utf-8")
    with scripted_model("--faults", str(script)) as (address, process):
        assert address.startswith("http://127.0.0.1:")
        refused, answered = ask(address, "attic"), ask(address, "attic")
        assert refused.status_code == 503
        document: dict[str, Any] = answered.raise_for_status().json()
        assert document["choices"][0]["message"]["content"].strip()
        assert document["usage"]["completion_tokens"] > 0
        process.terminate()
        process.wait(PATIENCE_S)
        assert process.stdout is not None
        assert process.stdout.read() == ""


@pytest.mark.parametrize("text", ['{"faults": [{"kind": "sulks"}]}', "not JSON"])
def test_a_fault_script_that_cannot_be_read_names_the_place_and_shows_a_right_one(run, tmp_path: Path, text: str):
    script = tmp_path / "faults.json"
    script.write_text(text, encoding="utf-8")
    result = run("scripted-model", "--port", "0", "--faults", str(script))
    assert result.exit_code == 1
    assert "the fault script cannot be read" in result.output
    assert '"kind": "503"' in result.output
