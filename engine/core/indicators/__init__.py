"""Indicators: one file a family; importing this package declares all of them and compiles none."""

from engine.core.indicators import averages, channels, functions, momentum, statistics, trend, volatility, volume
from engine.core.indicators.registry import REGISTRY, Indicator, Parameter

__all__ = [
    "REGISTRY",
    "Indicator",
    "Parameter",
    "averages",
    "channels",
    "functions",
    "momentum",
    "statistics",
    "trend",
    "volatility",
    "volume",
]
