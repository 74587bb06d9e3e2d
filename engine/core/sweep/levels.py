"""Stops, targets and sizes of many combinations as one table of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.execution import SizeMode
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.strategy_document import Amount, StrategyDocument
from engine.core.sweep import event_kernel as kernel
from engine.core.sweep.plan import names_behind

Points = Mapping[str, NDArray[np.float64]]
_RULES: dict[str, Any] = {"long_entry": "open > 0", "long_exit": None, "short_entry": None, "short_exit": None}
_LEVELS: dict[str, Any] = dict.fromkeys(
    ("stop_loss", "take_profit", "trailing_stop", "breakeven_after_percent", "max_bars", "size")
)


def document_size_mode(document: StrategyDocument) -> SizeMode | None:
    """Return how a document sizes its positions, None where it leaves that to the settings."""
    size = document.size
    if size is None:
        return None
    if size.risk_percent is not None:
        return "risk"
    modes: tuple[SizeMode, ...] = ("equity_fraction", "quote", "quantity")
    return next(mode for mode in modes if getattr(size, mode) is not None)


def document_sizes(document: StrategyDocument, points: Points, count: int) -> NDArray[np.float64]:
    """Return the size of every combination in the unit of the document's size mode (shape (count,))."""
    size = document.size
    if size is None:
        raise ValueError("the document has no size")
    part = {"size": size} if size.risk_percent is None else {"size": size, "stop_loss": document.stop_loss}

    def pick(found: CompiledStrategy) -> float:
        return found.size.value if found.size is not None else np.nan

    reader = _Reader(document, points, count)
    if size.risk_percent is not None:
        return reader.percent(size.risk_percent, part, pick)
    amount = next(amount for amount in (size.equity_fraction, size.quote, size.quantity) if amount is not None)
    return reader.amount(amount, part, pick)


def level_table(
    document: StrategyDocument, points: Points, count: int, sizes: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the levels of every combination (shape (count, LEVELS); the columns of `event_kernel`).

    Parameters
    ----------
    sizes : float, or ndarray of float64, shape (count,)
        Size values in the unit of the size mode.

    Notes
    -----
    Every combination is taken to be valid.
    """
    table = np.full((count, kernel.LEVELS), np.nan)
    table[:, kernel.MAX_BARS] = 0.0
    table[:, kernel.SIZE] = sizes
    reader = _Reader(document, points, count)
    stop, target, trail = document.stop_loss, document.take_profit, document.trailing_stop
    if stop is not None and stop.percent is not None:
        table[:, kernel.STOP] = reader.percent(stop.percent, {"stop_loss": stop}, lambda found: found.stop.fraction)
    if target is not None and target.percent is not None:
        table[:, kernel.TARGET] = reader.percent(
            target.percent, {"take_profit": target}, lambda found: found.target.fraction
        )
    if trail is not None and trail.percent is not None:
        table[:, kernel.TRAIL] = reader.percent(
            trail.percent, {"trailing_stop": trail}, lambda found: found.trail.fraction
        )
    if trail is not None and trail.activation_percent is not None:
        table[:, kernel.ACTIVATION] = reader.percent(
            trail.activation_percent, {"trailing_stop": trail}, lambda found: found.trail_activation_fraction
        )
    if (after := document.breakeven_after_percent) is not None:
        table[:, kernel.BREAKEVEN] = reader.percent(
            after, {"breakeven_after_percent": after}, lambda found: found.breakeven_fraction
        )
    if document.max_bars is not None:
        table[:, kernel.MAX_BARS] = reader.amount(
            document.max_bars, {"max_bars": document.max_bars}, lambda found: found.max_bars
        )
    return table


class _Reader:
    """Reads amounts that are numbers, parameters, or expressions of them."""

    def __init__(self, document: StrategyDocument, points: Points, count: int) -> None:
        self._document, self._points, self._count = document, points, count

    def percent(
        self, amount: Amount, part: Mapping[str, Any], pick: Callable[[CompiledStrategy], float]
    ) -> NDArray[np.float64]:
        plain = self._plain(amount)
        return self.amount(amount, part, pick) if plain is None else plain / 100.0

    def amount(
        self, amount: Amount, part: Mapping[str, Any], pick: Callable[[CompiledStrategy], float]
    ) -> NDArray[np.float64]:
        plain = self._plain(amount)
        return self._compiled(part, pick) if plain is None else plain

    def _plain(self, amount: Amount) -> NDArray[np.float64] | None:
        if isinstance(amount, str):
            return self._points.get(amount.strip())
        return np.full(self._count, float(amount))

    def _compiled(self, part: Mapping[str, Any], pick: Callable[[CompiledStrategy], float]) -> NDArray[np.float64]:
        fragment = self._document.model_copy(update={**_RULES, **_LEVELS, **part})
        texts = [text for text in _texts(part) if text]
        names = sorted({name for text in texts for name in names_behind(text, self._document)[0]})
        columns = [self._points[name] for name in names]
        known: dict[tuple[float, ...], float] = {}
        values = np.empty(self._count)
        for row, point in enumerate(zip(*columns, strict=True) if columns else [()] * self._count):
            key = tuple(map(float, point))
            if key not in known:
                known[key] = pick(compile_strategy(fragment, dict(zip(names, key, strict=True))))
            values[row] = known[key]
        return values


def _texts(part: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for value in part.values():
        amounts = [value] if isinstance(value, (int, float, str)) else list(value.model_dump().values())
        found.extend(amount for amount in amounts if isinstance(amount, str))
    return found
