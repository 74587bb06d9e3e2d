"""`.env.example` lists every setting, with its description, its values and its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic.fields import FieldInfo

from server.settings import Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
ENTRY = re.compile(r"^# (?P<comment>[^\n]+)\n# (?P<name>[A-Z][A-Z0-9_]*)=(?P<value>[^\n]*)$", re.MULTILINE)

FIELDS = {str(field.validation_alias): field for field in Settings.model_fields.values()}


@pytest.fixture
def entries() -> dict[str, tuple[str, str]]:
    text = EXAMPLE.read_text(encoding="utf-8")
    found = {match["name"]: (match["comment"], match["value"]) for match in ENTRY.finditer(text)}
    assert len(found) == len(ENTRY.findall(text)), "a setting is listed twice"
    return found


def shown_default(field: FieldInfo) -> str:
    if field.default_factory is not None or field.default is None:
        return ""
    if isinstance(field.default, tuple):
        return ",".join(field.default)
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def test_the_example_lists_the_settings_and_nothing_else(entries: dict[str, tuple[str, str]]) -> None:
    assert list(entries) == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_each_setting_is_described_with_its_values_and_default(name: str, entries: dict[str, tuple[str, str]]) -> None:
    comment, value = entries[name]
    field = FIELDS[name]
    assert field.description
    assert field.description in comment
    assert value == shown_default(field)
    for choice in get_args(field.annotation):
        if isinstance(choice, str):
            assert choice in comment


def test_the_example_changes_nothing_when_it_is_read_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)
    plain = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    copied = tmp_path / ".env"
    copied.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    assert Settings(_env_file=copied) == plain  # pyright: ignore[reportCallIssue]


def test_defaults_written_out_are_accepted_as_values(
    tmp_path: Path, entries: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)
    lines = [f"{name}={value}" for name, (_, value) in entries.items() if value]
    written = tmp_path / ".env"
    written.write_text("\n".join(lines), encoding="utf-8")
    plain = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    assert Settings(_env_file=written) == plain  # pyright: ignore[reportCallIssue]
