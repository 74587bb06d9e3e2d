"""`bst tools`: the catalogue as the settings offer it."""

from __future__ import annotations

import json

from tools.catalog import all_tools


def test_json_lists_every_tool_in_catalogue_order(run) -> None:
    document = json.loads(run("tools", "--json").stdout)
    assert [row["name"] for row in document["tools"]] == [tool.name for tool in all_tools()]
    assert document["total"] == len(document["tools"])
    assert all(row["summary"] and row["effect"] in ("reads", "writes", "deletes") for row in document["tools"])


def test_the_table_names_them_too(run) -> None:
    shown = run("tools").stdout
    assert all(tool.name in shown for tool in all_tools())


def test_a_selection_narrows_the_list(run) -> None:
    rows = json.loads(run("tools", "--json", "--toolsets", "jobs", "--read-only").stdout)["tools"]
    assert {row["family"] for row in rows} == {"jobs"}
    assert {row["effect"] for row in rows} == {"reads"}


def test_read_only_that_leaves_nothing_is_refused(run, monkeypatch) -> None:
    monkeypatch.setenv("BST_TOOLS", "save_strategy")
    result = run("tools", "--read-only")
    assert result.exit_code == 1
    assert "nothing would be offered" in result.stderr
    assert "save_strategy" in result.stderr


def test_an_unknown_toolset_is_told(run) -> None:
    result = run("tools", "--toolsets", "jbos")
    assert result.exit_code == 1
    assert "jobs" in result.stderr
