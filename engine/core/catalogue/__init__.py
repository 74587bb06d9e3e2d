"""The strategies that ship with the product: one JSON document each."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from engine.core.expressions.resolution import closest
from engine.core.strategy import parse_strategy
from engine.core.strategy_document import StrategyDocument
from engine.errors import NotFound

_SUFFIX = ".json"


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Return the names of all shipped strategies, in alphabetical order."""
    found = (entry.name for entry in resources.files(__name__).iterdir() if entry.name.endswith(_SUFFIX))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found))


@lru_cache(maxsize=64)
def load(name: str) -> StrategyDocument:
    """Return a shipped strategy."""
    if name not in names():
        raise NotFound(
            f"the catalogue has no strategy {name!r}",
            fix=f"{closest(name, names())} it has: {', '.join(names())}".strip(),
        )
    return parse_strategy(resources.files(__name__).joinpath(f"{name}{_SUFFIX}").read_text(encoding="utf-8"))


def load_all() -> tuple[StrategyDocument, ...]:
    """Return every shipped strategy."""
    return tuple(load(name) for name in names())
