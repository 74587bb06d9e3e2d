"""Puts a question together: our instructions from files, everything else as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

from agents.hygiene import DATA_RULE, clean_text, data_block, escape_angles

MOST_PROMPT_CHARACTERS = 40_000
MOST_CONTEXT_CHARACTERS = 100_000
_LONGEST_COMPLAINT = 800
_LONGEST_PREVIOUS = 4_000


@cache
def prompt_text(name: str) -> str:
    """Return a prompt file of `agents/prompts`."""
    return files("agents").joinpath("prompts", f"{name}.txt").read_text(encoding="utf-8").strip()


@cache
def prompt_version(name: str) -> str:
    """Return name and content hash of a prompt file, so that an answer tells which words asked for it."""
    return f"{name}@{hashlib.sha256(prompt_text(name).encode()).hexdigest()[:8]}"


def system_text(task: str, *, instructions: str = "", is_structured: bool) -> str:
    """Return our own instructions: role, task, rules about data, numbers and form."""
    parts = [prompt_text("system"), prompt_text(f"task-{task}"), DATA_RULE, instructions]
    parts.append(prompt_text("form-json" if is_structured else "form-text"))
    return "\n\n".join(part for part in parts if part)


def user_text(prompt: str, *, brief: Any, context: str, schema: Mapping[str, Any] | None) -> str:
    """Return the question, cleaned so that it cannot forge a block, and its data blocks."""
    parts = [clean_text(prompt, most_characters=MOST_PROMPT_CHARACTERS)]
    if brief is not None:
        parts.append(data_block("brief", brief))
    if context:
        parts.append(data_block("context", context, most_characters=MOST_CONTEXT_CHARACTERS))
    if schema is not None:
        parts.append(schema_block(schema))
    return "\n\n".join(parts)


def schema_block(schema: Mapping[str, Any]) -> str:
    """Return the JSON schema of the answer, marked; the word JSON is what DeepSeek's JSON mode looks for."""
    body = escape_angles(json.dumps(schema, ensure_ascii=False))
    return f"Answer with one JSON object that satisfies this schema:\n<schema>\n{body}\n</schema>"


def read_schema_block(prompt: str) -> Mapping[str, Any] | None:
    """Return the schema that a prompt asks for; None when it asks for text."""
    begin = prompt.rfind("<schema>\n")
    if begin < 0:
        return None
    return cast("Mapping[str, Any]", json.loads(prompt[begin + len("<schema>\n") : prompt.index("\n</schema>", begin)]))


def asked_again(prompt: str, previous: str, problems: Sequence[str]) -> str:
    """Return the question once more, with what was wrong with the last answer, compactly."""
    complaint = " | ".join(problems)[:_LONGEST_COMPLAINT]
    shown = data_block("previous_answer", previous, most_characters=_LONGEST_PREVIOUS)
    return f"{prompt}\n\n{shown}\n\nThe previous answer was refused. Mend exactly this and answer again: {complaint}"
