"""The words of the strategy language, described for people and models."""

from __future__ import annotations

from typing import Any, Literal

from engine.core.expressions.nodes import SERIES
from engine.core.indicators import REGISTRY, Indicator

WordKind = Literal["indicator", "function", "series"]
FRAME = {
    "name": "tf",
    "signature": 'tf("240", expression)',
    "summary": "value of an expression on a higher timeframe, as of its last closed bar; never repaints",
    "kind": "function",
}


def describe_words(query: str = "", kind: WordKind | None = None) -> list[dict[str, Any]]:
    """Return the words whose name or summary contains the query; an exact name comes alone, with its details."""
    wanted = query.strip().lower()
    words = [word for word in _all_words() if kind in (None, word["kind"])]
    for word in words:
        if word["name"] == wanted:
            return [word | {"details": _details(REGISTRY[wanted])}] if wanted in REGISTRY else [word]
    return [word for word in words if wanted in f"{word['name']} {word['summary']}".lower()]


def _all_words() -> list[dict[str, Any]]:
    words = [_word(declared) for declared in REGISTRY.values()]
    words.append(FRAME)
    return words + [
        {"name": name, "signature": name, "summary": summary, "kind": "series"} for name, summary in SERIES.items()
    ]


def _word(declared: Indicator) -> dict[str, Any]:
    return {
        "name": declared.name,
        "signature": declared.signature(),
        "summary": declared.summary,
        "kind": "function" if declared.family == "functions" else "indicator",
    }


def _details(declared: Indicator) -> dict[str, Any]:
    return {
        "family": declared.family,
        "formula": declared.formula,
        "source": declared.source,
        "warmup_bars": declared.warmup,
        "reads": list(declared.inputs),
        "example": declared.example(),
    }
