"""One expression over a range of candles: its values, and what is shown of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.backtests.presentation import condition_summary, number_summary, plain_value
from engine.core.candles import Candles, FloatColumn
from engine.core.expressions import Evaluator
from engine.core.expressions.nodes import Node
from engine.core.expressions.warmup import warmup_bars
from engine.core.series import Series
from engine.core.timeframes import Interval
from engine.core.times import iso_utc


def values_of(tree: Node, candles: Candles, interval: Interval, extras: Mapping[str, FloatColumn]) -> Any:
    """Return the column of an expression (shape (n,)): bool for a condition, else float64, NaN where it is not known."""
    evaluator = Evaluator(candles, interval, extras=extras)
    evaluator.expect([tree])
    return evaluator.conditions(tree) if tree.boolean else evaluator.numbers(tree)


def values_card(tree: Node, series: Series, candles: Candles, values: Any, limit: int) -> dict[str, Any]:
    """Return the newest values, and how all of them spread."""
    times = candles.ts[-limit:].tolist()
    shown = [plain_value(value) for value in values[-limit:].tolist()]
    return {
        "expression": tree.text,
        "type": "condition" if tree.boolean else "number",
        "symbol": series.symbol,
        "interval": series.interval,
        "warmup_bars": warmup_bars(tree, series.interval, int(candles.ts[0])),
        "bars": len(values),
        "columns": ["time", "value"],
        "rows": [[iso_utc(at), value] for at, value in zip(times, shown, strict=True)],
        "summary": condition_summary(values) if tree.boolean else number_summary(values),
    }
