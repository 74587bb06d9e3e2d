"""Sealed bars stay behind one door: who may touch stored bars, and who may ask the exchange for pages of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FLOORS = ("engine", "agents", "tools", "server")
TABLES = {"SEGMENTS", "POINTS", "RUN_COLUMNS", "SegmentRow", "PointRow", "RunColumnsRow"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def names_in(tree: ast.Module) -> set[str]:
    """Return every name and attribute that a file mentions, imports among them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {each.name for each in node.names}
    return found


def users_of(wanted: set[str]) -> set[str]:
    return {path for path, tree in sources() if names_in(tree) & wanted}


def test_only_the_store_touches_the_tables_of_bars_points_and_results() -> None:
    assert {path for path in users_of(TABLES) if not path.startswith("engine/store/")} == set()


def test_bars_are_read_past_a_seal_only_where_nothing_of_them_comes_out() -> None:
    assert users_of({"read_buckets"}) == {"engine/store/candle_store.py", "engine/store/copy_store.py"}


def test_only_the_backfill_asks_the_exchange_for_pages_of_candles() -> None:
    callers = {
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "candle_page"
    }
    assert callers == {"engine/backfill.py"}


def test_everybody_but_the_backfill_and_the_inputs_of_runs_is_given_the_sealed_feed() -> None:
    tree = next(tree for path, tree in sources() if path == "server/assembly.py")
    given_the_feed = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and any(isinstance(argument, ast.Name) and argument.id == "feed" for argument in node.args)
    }
    assert given_the_feed == {"Backfill", "RunInputSource", "SealedFeed"}
