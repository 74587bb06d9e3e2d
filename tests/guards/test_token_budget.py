"""What the tool list costs a model: tokens of name, description and input schema of every tool."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.mcp_app import to_sdk_tool
from tools.catalog import all_tools
from tools.declare import ToolDef

ALL_LIMIT = 9_000
CORE_LIMIT = 4_000
# 9,000 tokens for the 51 tools of the whole catalogue.
MEAN_LIMIT = 9_000 / 51

# tiktoken would fetch the vocabulary; the file is named after the hash of its address.
O200K_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"
# Measured with o200k_base over this catalogue: 4.08 characters a token in all, 3.75 in the densest definition.
CHARACTERS_PER_TOKEN = 4.0


def token_counter(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[str], int], str]:
    """Return an exact counter when a package that ships o200k_base is installed, a cautious estimate otherwise."""
    package = importlib.util.find_spec("litellm")
    folder = Path(package.origin or "").parent / "litellm_core_utils" / "tokenizers" if package else None
    if folder is None or not (folder / O200K_FILE).is_file():
        return (lambda text: round(len(text) / CHARACTERS_PER_TOKEN)), "estimated"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    return (lambda text: len(encoding.encode(text))), "counted"


def visible(tool: ToolDef) -> str:
    sdk_tool = to_sdk_tool(tool)
    shown = {"name": sdk_tool.name, "description": sdk_tool.description, "inputSchema": sdk_tool.parameters}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def test_the_tool_list_stays_within_its_token_budget(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
):
    count, how = token_counter(monkeypatch)
    tokens = {tool.name: count(visible(tool)) for tool in all_tools()}
    core = sum(tokens[tool.name] for tool in all_tools() if tool.core)
    total = sum(tokens.values())
    mean = total / len(tokens)
    figures = f"{how}: all {total}, core {core}, mean {mean:.0f}, dearest {max(tokens, key=lambda name: tokens[name])}"
    record_property("tokens", figures)
    sys.stdout.write(f"{figures}\n")
    assert total <= ALL_LIMIT, figures
    assert core <= CORE_LIMIT, figures
    assert mean <= MEAN_LIMIT, figures


def test_every_description_fits_where_hosts_cut_it():
    too_long = {
        tool.name: len(tool.description.encode()) for tool in all_tools() if len(tool.description.encode()) > 2048
    }
    assert not too_long


def test_the_instructions_fit_where_hosts_cut_them():
    from server.mcp_app import INSTRUCTIONS

    assert len(INSTRUCTIONS.encode()) <= 2048
