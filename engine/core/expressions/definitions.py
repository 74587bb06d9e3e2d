"""Definitions of an expression: any order, no circles."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.expressions.nodes import Node
from engine.core.expressions.resolution import resolve
from engine.core.expressions.syntax import Syntax, parse
from engine.errors import BadExpression


def resolve_definitions(definitions: Mapping[str, str], bound: Mapping[str, Node]) -> dict[str, Node]:
    """Return `bound` and every definition by name, each written out."""
    parsed: dict[str, Syntax] = {}
    for name, text in definitions.items():
        with naming(f"define.{name}"):
            parsed[name] = parse(text)
    names = dict(bound)
    for name in _in_order(parsed):
        with naming(f"define.{name}"):
            names[name] = resolve(parsed[name], names)
    return names


class naming:  # noqa: N801  # a context manager reads as a word
    """Put the place in front of the message of a BadExpression that passes through."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, BadExpression):
            where = "" if exc.position is None else f", character {exc.position}"
            message = f"{self._place}{where}: {exc.message}"
            raise BadExpression(message, fix=exc.fix, position=exc.position) from exc


def _in_order(parsed: Mapping[str, Syntax]) -> list[str]:
    waiting = {name: syntax.names & parsed.keys() for name, syntax in parsed.items()}
    ordered: list[str] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if needs.issubset(ordered)]
        if not ready:
            circle = ", ".join(repr(name) for name in waiting)
            raise BadExpression(f"the definitions {circle} use each other in a circle", fix="break the circle")
        ordered.extend(ready)
        for name in ready:
            del waiting[name]
    return ordered
