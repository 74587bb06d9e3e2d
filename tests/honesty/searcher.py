"""An eager searcher: random rules of the strategy language, at hundreds of random parameters, the best one reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.strategy import parse_strategy
from engine.core.strategy_document import StrategyDocument
from engine.core.sweep import SweepResult, sweep

_LOOKING_SHARE = 0.4
_POINTS_LOOKING = 50
_RULES_DUG = 12
# Bybit's taker fee of non-VIP accounts on every fill, and a hundredth of a percent of slippage.
COSTS = ExecutionSettings(
    capital=10_000.0, taker_fee_fraction=0.00055, maker_fee_fraction=0.00055, slippage_fraction=0.0001
)

# Conditions with up to two whole parameters each and their ranges; {a} and {b} stand for their names.
_CONDITIONS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("ema(close, {a}) > ema(close, {b})", ((3, 60), (20, 400))),
    ("sma(close, {a}) > sma(close, {b})", ((3, 60), (20, 400))),
    ("close > ema(close, {a})", ((5, 400),)),
    ("close < sma(close, {a})", ((5, 400),)),
    ("roc(close, {a}) > 0", ((2, 500),)),
    ("rsi(close, {a}) < {b}", ((3, 60), (30, 70))),
    ("rsi(close, {a}) > {b}", ((3, 60), (30, 70))),
    ("sma(rsi(close, {a}), {b}) > 50", ((3, 100), (2, 50))),
    ("close > (highest(high, {a}) + lowest(low, {a})) / 2", ((5, 500),)),
    ("close < sma(close, {a}) - {b} * stdev(close, {a}) / 10", ((5, 300), (-20, 20))),
    ("close > sma(close, {a}) + {b} * stdev(close, {a}) / 10", ((5, 300), (-20, 20))),
    ("hour >= {a} and hour < {b}", ((0, 23), (1, 24))),
    ("weekday >= {a} and weekday <= {b}", ((0, 6), (0, 6))),
    ("stdev(close, {a}) < stdev(close, {b})", ((10, 60), (30, 400))),
    ("atr({a}) / close > atr({b}) / close", ((3, 60), (30, 400))),
)
_PARTNERED_SHARE = 0.4
_BOTH_SIDES_SHARE = 0.7
# Near targets with far stops or none win often and lose rarely: the finds that look safest before they fail.
_TARGET_SHARE = 0.3
_STOP_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Finds:
    """Everything one search evaluated.

    Attributes
    ----------
    documents : list of StrategyDocument
        One a rule.
    rule_of : ndarray of int64, shape (n,)
        The document of each trial.
    points : list of dict of str to int
    daily_returns : ndarray of float32, shape (n, d)
    values : dict of str to ndarray of float64, shape (n,)
    marks_ms : ndarray of int64, shape (d,)
    """

    documents: list[StrategyDocument]
    rule_of: NDArray[np.int64]
    points: list[dict[str, float]]
    daily_returns: NDArray[np.float32]
    values: dict[str, NDArray[np.float64]]
    marks_ms: NDArray[np.int64]

    @property
    def best(self) -> int:
        """Return the trial with the highest Sharpe ratio, the one a searcher would report."""
        return int(np.nanargmax(self.values["sharpe"]))


def search(candles: Candles, rng: np.random.Generator, trials: int, settings: ExecutionSettings = COSTS) -> Finds:
    """Evaluate `trials` random strategies on hourly candles: look around first, then dig where it looked best."""
    looked = max(1, round(trials * _LOOKING_SHARE))
    rules = [random_rule(rng, number) for number in range(-(-looked // _POINTS_LOOKING))]
    tries = [
        _evaluate(candles, rules, row, min(_POINTS_LOOKING, looked - row * _POINTS_LOOKING), rng, settings)
        for row in range(len(rules))
    ]
    promise = [float(np.nan_to_num(one.result.values["sharpe"], nan=-9.0).max()) for one in tries]
    chosen = np.argsort(promise)[::-1][:_RULES_DUG]
    left = trials - looked
    for place, row in enumerate(chosen):
        share = left // len(chosen) + (place < left % len(chosen))
        if share:
            tries.append(_evaluate(candles, rules, int(row), share, rng, settings))
    return Finds(
        documents=[document for document, _ in rules],
        rule_of=np.concatenate([np.full(len(one.points), one.row) for one in tries]),
        points=[point for one in tries for point in one.points],
        daily_returns=np.concatenate([np.asarray(one.result.daily_returns, np.float32) for one in tries]),
        values={name: np.concatenate([one.result.values[name] for one in tries]) for name in tries[0].result.values},
        marks_ms=tries[0].result.marks_ms,
    )


Rule = tuple[StrategyDocument, Callable[[np.random.Generator], dict[str, float]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Try:
    """Some points of one rule."""

    row: int
    points: list[dict[str, float]]
    result: SweepResult


def _evaluate(
    candles: Candles, rules: list[Rule], row: int, count: int, rng: np.random.Generator, settings: ExecutionSettings
) -> _Try:
    document, draw = rules[row]
    points = [draw(rng) for _ in range(count)]
    return _Try(row, points, sweep(candles, document, points, "60", settings, returns_dtype=np.float32))


def random_rule(rng: np.random.Generator, number: int) -> Rule:
    """Return a random strategy with parameters, and how to draw a point of them."""
    chosen = [int(rng.integers(len(_CONDITIONS)))]
    if rng.random() < _PARTNERED_SHARE:
        chosen.append(int(rng.integers(len(_CONDITIONS))))
    names = iter("abcd")
    ranges: dict[str, tuple[int, int]] = {}
    parts: list[str] = []
    for row in chosen:
        text, bounds = _CONDITIONS[row]
        mine = {slot: next(names) for slot in ("a", "b")[: len(bounds)]}
        ranges |= dict(zip(mine.values(), bounds, strict=True))
        parts.append(f"({text.format(**mine)})")
    condition = " and ".join(parts)
    document: dict[str, Any] = {
        "schema_version": 1,
        "name": f"rule_{number}",
        "params": {name: _param(bounds) for name, bounds in ranges.items()},
        "long_entry": condition,
        "long_exit": f"not ({condition})",
        "size": {"equity_fraction": 1.0},
    }
    if rng.random() < _BOTH_SIDES_SHARE:
        document |= {"short_entry": f"not ({condition})", "short_exit": condition}

    for share, level, name, bounds in (
        (_TARGET_SHARE, "take_profit", "t", (5, 100)), (_STOP_SHARE, "stop_loss", "s", (10, 200)),
    ):  # fmt: skip
        if rng.random() < share:
            ranges[name] = bounds
            document["params"][name] = _param(bounds)
            document[level] = {"percent": f"{name} / 10"}

    def draw(source: np.random.Generator) -> dict[str, float]:
        return {name: float(source.integers(low, high + 1)) for name, (low, high) in ranges.items()}

    return parse_strategy(document), draw


def _param(bounds: tuple[int, int]) -> dict[str, Any]:
    low, high = bounds
    return {"default": (low + high) // 2, "min": low, "max": high, "integer": True}
