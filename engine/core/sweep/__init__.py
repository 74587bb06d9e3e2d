"""Thousands of combinations of parameters over the same candles."""

from __future__ import annotations

from engine.core.sweep.figures import SWEEP_METRICS
from engine.core.sweep.result import SweepResult
from engine.core.sweep.sweep import sweep

__all__ = ["SWEEP_METRICS", "SweepResult", "sweep"]
