"""Find the drift at which the exact rule of a planted edge earns a Sharpe ratio of 2 a year after costs."""

from __future__ import annotations

import sys

import numpy as np

from engine.core.strategy import parse_strategy
from engine.core.sweep import sweep
from tests.honesty.searcher import COSTS
from tests.honesty.worlds import EDGES, HOURS_PER_YEAR, RULES, Edge, make_world

YEARS = 30


def true_sharpe(edge: Edge, strength: float, seeds: range) -> float:
    """Return the mean annual Sharpe ratio of the exact rule over many years of markets of its own."""
    rule = RULES[edge]
    document = {"name": "exact", "long_entry": rule, "long_exit": f"not ({rule})", "size": {"equity_fraction": 1.0}}
    if edge != "calendar":
        document |= {"short_entry": f"not ({rule})", "short_exit": rule}
    parsed = parse_strategy({"schema_version": 1, "params": {}, **document})
    sharpes: list[float] = []
    for seed in seeds:
        world = make_world(seed, "gbm", HOURS_PER_YEAR * YEARS, edge=edge, strength=strength)
        sharpes.append(float(sweep(world.candles, parsed, [{}], "60", COSTS).values["sharpe"][0]))
    return float(np.mean(sharpes))


def main() -> None:
    """Print the strength that earns 2, by bisection on common random numbers."""
    seeds = range(1_000_000, 1_000_000 + int(sys.argv[1]))
    for edge in EDGES:
        low, high = 0.3, 3.0
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if true_sharpe(edge, middle, seeds) < 2 else (low, middle)
        print(edge, (low + high) / 2, true_sharpe(edge, (low + high) / 2, seeds))


if __name__ == "__main__":
    main()
