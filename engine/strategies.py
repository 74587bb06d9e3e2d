"""Strategies by name: the shipped catalogue, the saved ones, and the words they are written in."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.core import catalogue
from engine.core.strategy import compile_strategy, explain, parse_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.vocabulary import WordKind, describe_words
from engine.errors import BadExpression, BadRequest, Conflict, NotFound
from engine.ports import Clock
from engine.store import Store


@dataclass(frozen=True, slots=True)
class NamedStrategy:
    """A strategy under its name; `version` counts the saved contents, shipped ones have 1."""

    name: str
    origin: str
    version: int
    parsed: StrategyDocument

    @property
    def defaults(self) -> dict[str, float]:
        """Return the default parameters."""
        return {name: param.default for name, param in self.parsed.params.items()}

    @property
    def document(self) -> dict[str, Any]:
        """Return the document as it is written, without what was left out."""
        return self.parsed.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"name": self.name}

    def matches(self, query: str) -> bool:
        """Say whether name or description contain the text."""
        return query.strip().lower() in f"{self.name} {self.parsed.description}".lower()


class Strategies:
    """Finds, checks and saves strategies."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list(self) -> list[NamedStrategy]:
        """Return all strategies, shipped ones first."""
        shipped = [NamedStrategy(name, "catalogue", 1, catalogue.load(name)) for name in catalogue.names()]
        saved = [
            NamedStrategy(row.name, "saved", row.version, parse_strategy(row.document))
            for row in await self._store.list_strategies()
        ]
        return [*shipped, *saved]

    async def find(self, name: str, version: int | None = None) -> NamedStrategy:
        """Return a strategy by name; an unknown one is NotFound with the nearest names."""
        if name in catalogue.names():
            if version not in (None, 1):
                raise NotFound(f"the shipped strategy {name!r} has no version {version}", fix="leave version out")
            return NamedStrategy(name, "catalogue", 1, catalogue.load(name))
        known = [row.name for row in await self._store.list_strategies()]
        if name not in known:
            near = difflib.get_close_matches(name, [*catalogue.names(), *known], n=3, cutoff=0.4)
            hint = f"did you mean {', '.join(near)}? " if near else ""
            raise NotFound(f"there is no strategy {name[:64]!r}", fix=f"{hint}list_strategies shows all")
        row = await self._store.strategy(name, version)
        return NamedStrategy(row.name, "saved", row.version, parse_strategy(row.document))

    async def resolve(self, strategy: str | Mapping[str, Any]) -> NamedStrategy:
        """Return a strategy from its name, or from a document written inline (an object, or its JSON text)."""
        if isinstance(strategy, str) and not strategy.lstrip().startswith("{"):
            return await self.find(strategy.strip())
        parsed = parse_strategy(strategy)
        return NamedStrategy(parsed.name, "inline", 1, parsed)

    async def save(self, raw: object) -> tuple[NamedStrategy, bool]:
        """Save a valid document; return it and whether this content is new."""
        parsed = parse_strategy(raw)
        if parsed.name in catalogue.names():
            raise Conflict(f"{parsed.name!r} is a shipped strategy", fix="give the document another name")
        text = json.dumps(parsed.model_dump(mode="json", exclude_none=True))
        before = {(row.name, row.version) for row in await self._store.list_strategies()}
        saved = await self._store.save_strategy(parsed.name, text, at_ms=self._clock.now_ms())
        return NamedStrategy(saved.name, "saved", saved.version, parsed), (saved.name, saved.version) not in before

    def validate(self, raw: object, params: Mapping[str, float] | None) -> dict[str, Any]:
        """Return what is known of a document, or why it cannot run; an invalid document is an answer, not a failure."""
        try:
            explained = asdict(explain(compile_strategy(parse_strategy(raw), params)))
        except BadRequest as error:
            position = error.position if isinstance(error, BadExpression) else None
            return {"valid": False, "error": error.message, "fix": error.fix, "position": position}
        return {"valid": True, **explained}

    def words(self, query: str, kind: WordKind | None) -> list[dict[str, Any]]:
        """Return the words of the language that match; an exact name comes alone, with all its details."""
        return describe_words(query, kind)
