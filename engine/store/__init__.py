"""The database: metadata as tables, candles as checksummed segments."""

from engine.store.run_store import RunRecord
from engine.store.spans import CoverageSpan
from engine.store.store import Store

__all__ = ["CoverageSpan", "RunRecord", "Store"]
