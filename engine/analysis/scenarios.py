"""Situations a strategy should be run in, as arguments of run_backtest, with what must come out and what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, shown
from engine.analysis.market_data import MarketData
from engine.analysis.scenario_candles import BARS, CHARACTERS, Character
from engine.core.candles import Candles, FloatColumn
from engine.core.expressions.nodes import EXTRA_SERIES
from engine.core.series import Category
from engine.core.signals import Signals, compute_signals
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import Interval, next_open
from engine.core.times import iso_utc
from engine.errors import DataMissing

SLICE_BARS = 500
MOST_SLICES = 4
LOOK_BACK_BARS = 20

# A check of a finished run: metric, comparison, value, and whether it must hold or is only expected.
Check = list[Any]


@dataclass(frozen=True, slots=True)
class Style:
    """Whether a strategy enters with the move before it or against it: side x return of the bars before, in deviations."""

    name: str
    score: float
    entries: int


def scenario_brief(
    compiled: CompiledStrategy, interval: Interval, made_up: dict[str, Candles], data: MarketData | None
) -> Brief:
    """Return runnable scenarios.

    Parameters
    ----------
    compiled : CompiledStrategy
    interval : Interval
    made_up : dict of str to Candles
        Made-up markets by the name of their character.
    data : MarketData or None
        Stored candles to cut slices from.
    """
    missing = compiled.series & set(EXTRA_SERIES)
    style = measure_style(compiled, interval, list(made_up.values()) + ([] if data is None else [data.candles]))
    simulated = (
        []
        if missing
        else [
            _simulated(compiled, interval, style, one, made_up[one.name]) for one in CHARACTERS if one.name in made_up
        ]
    )
    slices = [] if data is None else list(_slices(compiled, data, style))
    notes = [f"the strategy reads {', '.join(sorted(missing))}, which made-up markets do not have"] if missing else []
    warmup = compiled.warmup_bars(interval)
    if warmup >= BARS:
        notes.append(f"it needs {warmup} bars to warm up and made-up markets have {BARS}: it cannot trade there")
    if data is None:
        notes.append("no market slices: no candles are stored (start_backfill fetches them)")
    return {
        "how": "call run_backtest with strategy, interval, common and the scenario's arguments, then compare its metrics with expected",
        "interval": interval,
        "common": {"interval": interval, "settings": {"funding": False}},
        "style": {"name": style.name, "score": shown(style.score, 3), "entries_seen": style.entries},
        "expected_columns": ["metric", "is", "value", "kind"],
        "kinds": {
            "must": "follows from the rules; a run that breaks it shows a fault",
            "expect": "follows from the style; a run that breaks it is worth a look",
        },
        "scenarios": [*simulated, *slices],
        "notes": notes,
        "caution": "made-up markets test behaviour; they are no evidence that a strategy earns",
    }


def measure_style(compiled: CompiledStrategy, interval: Interval, markets: list[Candles]) -> Style:
    """Return whether entries follow or fade the move of the bars before them."""
    scores: list[float] = []
    if compiled.series & set(EXTRA_SERIES):
        return Style("unknown", float("nan"), 0)
    for candles in markets:
        signals = _signals(compiled, candles, interval)
        if signals is None or len(candles) <= LOOK_BACK_BARS:
            continue
        moves = _moves(candles.close)
        for mask, side in ((signals.long_entry, 1.0), (signals.short_entry, -1.0)):
            scores += (side * moves[mask & ~np.isnan(moves)]).tolist()
    if len(scores) < 10:
        return Style("unknown", float(np.mean(scores)) if scores else float("nan"), len(scores))
    score = float(np.mean(scores))
    name = "with the move" if score > 0.2 else "against the move" if score < -0.2 else "neither"
    return Style(name, score, len(scores))


def _moves(close: FloatColumn) -> FloatColumn:
    logs = np.log(close)
    deviation = float(np.diff(logs).std())
    moves = np.full(len(close), np.nan)
    if deviation > 0:
        moves[LOOK_BACK_BARS:] = (logs[LOOK_BACK_BARS:] - logs[:-LOOK_BACK_BARS]) / (
            deviation * np.sqrt(LOOK_BACK_BARS)
        )
    return moves


def _signals(compiled: CompiledStrategy, candles: Candles, interval: Interval) -> Signals | None:
    try:
        return compute_signals(compiled, candles, interval)
    except DataMissing:
        return None


def _simulated(
    compiled: CompiledStrategy, interval: Interval, style: Style, character: Character, candles: Candles
) -> Brief:
    series = character.series("bybit", interval)
    expected = [*_musts(compiled, _signals(compiled, candles, interval)), *_expectations(compiled, style, character)]
    if character.quiet and not compiled.series & {"volume", "turnover"}:
        expected.append(["net_profit", "equals that of", "sideways", "must"])
    return {
        "name": character.name,
        "why": f"{character.what}; {_purpose(character)}",
        "arguments": _arguments(series.symbol, series.category, candles, interval),
        "expected": expected,
    }


def _purpose(character: Character) -> str:
    return {
        "trend_up": "does it ride a rise?",
        "trend_down": "does it survive a fall?",
        "sideways": "what do false signals and costs take?",
        "crash": "how much of a crash reaches the account?",
        "gaps": "stops fill at the open, beyond their price",
        "low_volume": "does volume decide anything?",
    }[character.name]


def _arguments(symbol: str, category: Category, candles: Candles, interval: Interval) -> Brief:
    return {
        "symbol": symbol,
        "category": category,
        "start": iso_utc(int(candles.ts[0])),
        "end": iso_utc(next_open(interval, int(candles.ts[-1]))),
    }


def _musts(compiled: CompiledStrategy, signals: Signals | None) -> Iterator[Check]:
    """Yield what follows from the signals alone: an entry needs a signal at an earlier close."""
    if signals is None:
        return
    # The last bar's signal has no next open to fill at.
    entries = int(np.count_nonzero(signals.long_entry[:-1]) + np.count_nonzero(signals.short_entry[:-1]))
    most = entries * (1 + len(compiled.partials))
    yield ["trades", "==" if most == 0 else "<=", most, "must"]
    for side in ("long", "short"):
        if f"{side}_entry" not in compiled.rules:
            yield [f"{side}_trades", "==", 0, "must"]


def _expectations(compiled: CompiledStrategy, style: Style, character: Character) -> Iterator[Check]:
    follows, fades = style.name == "with the move", style.name == "against the move"
    buys, sells = "long_entry" in compiled.rules, "short_entry" in compiled.rules
    if character.name == "trend_up" and follows:
        yield ["net_profit", ">" if buys else "<=", 0, "expect"]
    if character.name == "trend_down" and follows:
        yield ["net_profit", ">" if sells else "<=", 0, "expect"]
    if character.name == "sideways" and (follows or fades):
        yield ["net_profit", "<=" if follows else ">", 0, "expect"]
    if character.name in ("trend_up", "trend_down") and fades:
        hurt = sells if character.name == "trend_up" else buys
        if hurt:
            yield ["net_profit", "<=", 0, "expect"]
    if character.name == "crash":
        yield ["max_drawdown", "<", 0.5, "expect"]


def _slices(compiled: CompiledStrategy, data: MarketData, style: Style) -> Iterator[Brief]:
    """Yield stretches of the stored market that stand out."""
    candles, interval = data.candles, data.series.interval
    length = max(SLICE_BARS, 3 * compiled.warmup_bars(interval))
    starts = np.arange(0, len(candles) - length + 1, max(1, length // 2))
    if len(starts) < 2 or compiled.series & set(EXTRA_SERIES):
        return
    logs = np.log(candles.close)
    moves = logs[starts + length - 1] - logs[starts]
    widths = np.array([float(np.diff(logs[start : start + length]).std()) for start in starts])
    choices = (
        ("strongest rise", int(np.argmax(moves))),
        ("strongest fall", int(np.argmin(moves))),
        ("wildest", int(np.argmax(widths))),
        ("quietest", int(np.argmin(widths))),
    )
    for name, row in choices[:MOST_SLICES]:
        part = candles.take(slice(int(starts[row]), int(starts[row]) + length))
        change = float(part.close[-1] / part.close[0] - 1.0)
        yield {
            "name": f"{name} of {data.series.symbol}",
            "why": f"{length} stored bars ({data.source}), price {change:+.1%}; a slice chosen for its character, no estimate",
            "arguments": _arguments(data.series.symbol, data.series.category, part, interval),
            "expected": [
                *_musts(compiled, _signals(compiled, part, interval)),
                *_slice_expectations(compiled, style, name),
            ],
        }


def _slice_expectations(compiled: CompiledStrategy, style: Style, name: str) -> Iterator[Check]:
    side = {"strongest rise": "long_entry", "strongest fall": "short_entry"}.get(name)
    if side is not None and style.name == "with the move":
        yield ["net_profit", ">" if side in compiled.rules else "<=", 0, "expect"]
