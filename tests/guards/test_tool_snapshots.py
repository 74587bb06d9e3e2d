"""What clients are told of each tool is committed; a change is seen in review before anybody's host sees it."""

from __future__ import annotations

import pytest

from server.documents import SNAPSHOTS, snapshot
from tools.catalog import all_tools
from tools.declare import ToolDef


@pytest.mark.parametrize("tool", all_tools(), ids=lambda tool: tool.name)
def test_a_tool_is_told_as_recorded(tool: ToolDef):
    recorded = SNAPSHOTS / f"{tool.name}.json"
    assert recorded.is_file(), "run `uv run poe docs` and commit the new snapshot"
    assert recorded.read_text(encoding="utf-8") == snapshot(tool), "run `uv run poe docs` and review the change"


def test_no_snapshot_is_left_of_a_tool_that_is_gone():
    assert {file.stem for file in SNAPSHOTS.glob("*.json")} == {tool.name for tool in all_tools()}
