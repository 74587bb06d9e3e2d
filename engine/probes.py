"""The one place where a look at the outcome of an expression on a market is written down."""

from __future__ import annotations

from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.sketches import sketch_of
from engine.core.timeframes import next_open
from engine.store import Store


async def note_probe(store: Store, series: Series, expression: str, candles: Candles, *, at_ms: int) -> None:
    """Count an expression, in its normal form, as tried on these candles; the same again is not counted twice."""
    range_ms = (int(candles.ts[0]), next_open(series.interval, int(candles.ts[-1])))
    sketch = sketch_of(series.symbol, series.interval, candles)
    await store.note_probe(series, expression, range_ms, sketch, at_ms=at_ms)
