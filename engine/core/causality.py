"""Proof by replay that a strategy never looks ahead: its past must not change when the future is cut off or made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, FloatColumn
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import Interval
from engine.core.trades import ExitReason, Trades
from engine.errors import BadRequest, DataMissing

Future = Literal["cut off", "NaN", "made up"]
Execution = Callable[[Candles, Signals], Simulation]
FUTURES: tuple[Future, ...] = ("cut off", "NaN", "made up")
MOST_CUTS = 200
_DECISIONS = ("long_entry", "long_exit", "short_entry", "short_exit")
_DISTANCES = ("stop_distance", "target_distance", "trail_distance")


@dataclass(frozen=True, slots=True)
class Leak:
    """One place where the past changed with the future.

    Attributes
    ----------
    what : str
        Column of the signals, or `trades.` and a column of the trades.
    future : str
        What was done to the bars from `cut` on.
    cut : int
        First row of the future.
    row : int
        First row that changed: a bar, or a trade's number.
    """

    what: str
    future: Future
    cut: int
    row: int


@dataclass(frozen=True, slots=True)
class LagSensitivity:
    """What is left of the result when every decision comes one bar later: an edge that vanishes lived on one bar.

    Final equities in the settlement currency.
    """

    final_equity: float
    delayed_final_equity: float


@dataclass(frozen=True, slots=True)
class CausalityReport:
    """What was replayed, and what leaked.

    Attributes
    ----------
    cuts : tuple of int
        Rows at which the future began, ascending.
    comparisons : int
        Columns compared bit by bit.
    compared_trades : int
        Trades closed before a cut that were compared, over all cuts; 0 when nothing was simulated.
    leaks : tuple of Leak
        Empty: the past never changed.
    """

    cuts: tuple[int, ...]
    comparisons: int
    compared_trades: int
    leaks: tuple[Leak, ...]
    lag: LagSensitivity | None

    @property
    def causal(self) -> bool:
        """Say whether the past never changed."""
        return not self.leaks


def prove_causality(
    strategy: CompiledStrategy,
    candles: Candles,
    interval: Interval,
    *,
    cuts: int = 8,
    seed: int = 0,
    execution: Execution | None = None,
    extras: Mapping[str, FloatColumn] | None = None,
) -> CausalityReport:
    """Replay a strategy on prefixes of the candles, and on candles whose future is poisoned.

    Parameters
    ----------
    cuts : int
        How many random rows after the warm-up begin a future, 1 to 200.
    execution : callable, optional
        Simulates candles and signals; the trades closed before each cut are then compared too, and the result with
        every decision one bar later is told.
    extras : mapping of str to ndarray of float64, optional
        `funding_rate` and `open_interest`, aligned with the candles.

    Returns
    -------
    CausalityReport

    Notes
    -----
    Every future is tried at every cut: none at all, NaN in every column, and prices that were made up. Values are
    compared bit by bit, NaN being equal to NaN.
    """
    given = dict(extras or {})

    def decide(some: Candles, rows: Mapping[str, FloatColumn]) -> Signals:
        return compute_signals(strategy, some, interval, extras=rows)

    whole = decide(candles, given)
    simulated = None if execution is None else execution(candles, whole)
    random = np.random.default_rng(seed)
    rows = choose_cuts(len(candles), whole.warmup_bars, cuts, random)
    leaks: list[Leak] = []
    comparisons = compared_trades = 0
    for cut in rows:
        for future in FUTURES:
            part = decide(
                with_future(candles, cut, future, random),
                {name: _poisoned(values, cut, future) for name, values in given.items()},
            )
            for what, before, after in _signal_columns(whole, part, cut):
                comparisons += 1
                leaks.extend(_leak(what, future, cut, before, after))
            # Only candles without a future are candles a simulator takes.
            if future == "cut off" and execution is not None and simulated is not None:
                replayed = execution(candles.take(slice(0, cut)), part)
                compared_trades += int(_closed(simulated.trades, cut).sum())
                for what, before, after in _trade_columns(simulated.trades, replayed.trades, cut):
                    comparisons += 1
                    leaks.extend(_leak(what, future, cut, before, after))
    lag = None
    if execution is not None and simulated is not None:
        late = execution(candles, delay(whole))
        lag = LagSensitivity(float(simulated.equity[-1]), float(late.equity[-1]))
    return CausalityReport(rows, comparisons, compared_trades, tuple(leaks), lag)


def choose_cuts(bars: int, warmup_bars: int, count: int, random: np.random.Generator) -> tuple[int, ...]:
    """Return distinct rows, ascending, past the warm-up and before the last bar."""
    if not 1 <= count <= MOST_CUTS:
        raise BadRequest(f"cuts is {count}", fix=f"cuts is a whole number from 1 to {MOST_CUTS}")
    first = warmup_bars + 2
    if first >= bars:
        raise DataMissing(
            f"{bars:,} bars leave nothing to cut after a warm-up of {warmup_bars:,}", fix="choose a longer range"
        )
    found = random.choice(np.arange(first, bars), size=min(count, bars - first), replace=False)
    return tuple(int(row) for row in np.sort(found))


def with_future(candles: Candles, cut: int, future: Future, random: np.random.Generator) -> Candles:
    """Return the candles with their rows from `cut` on cut off, made NaN, or made up."""
    if future == "cut off":
        return candles.take(slice(0, cut))
    prices = [column.copy() for column in candles.columns()[1:]]
    # Wild enough to move any extreme, average or sum that could see it.
    factors = random.uniform(0.01, 100.0, len(candles) - cut) if future == "made up" else np.full(1, np.nan)
    for column in prices:
        column[cut:] = column[cut:] * factors
    return Candles(candles.ts, *prices)  # type: ignore[arg-type]


def delay(signals: Signals, bars: int = 1) -> Signals:
    """Return the signals with every decision, and the distances read at it, `bars` bars later."""
    moved: dict[str, Any] = {}
    for name in (*_DECISIONS, *_DISTANCES):
        column = getattr(signals, name)
        if column is None:
            continue
        late = np.zeros_like(column) if column.dtype == np.bool_ else np.full(len(column), np.nan)
        late[bars:] = column[: max(len(column) - bars, 0)]
        moved[name] = late
    return replace(signals, warmup_bars=signals.warmup_bars + bars, **moved)


def first_difference(before: NDArray[Any], after: NDArray[Any]) -> int | None:
    """Return the first row whose bits differ, NaN being equal to NaN; None where the columns are the same."""
    rows = min(len(before), len(after))
    same = before[:rows] == after[:rows]
    if before.dtype.kind == "f":
        # Zeros of different sign are equal numbers, and different values once something divides by them.
        same &= np.signbit(before[:rows]) == np.signbit(after[:rows])
        same |= np.isnan(before[:rows]) & np.isnan(after[:rows])
    wrong = np.flatnonzero(~same)
    if len(wrong):
        return int(wrong[0])
    return None if len(before) == len(after) else rows


def _leak(what: str, future: Future, cut: int, before: NDArray[Any], after: NDArray[Any]) -> Iterator[Leak]:
    row = first_difference(before, after)
    if row is not None:
        yield Leak(what, future, cut, row)


def _signal_columns(whole: Signals, part: Signals, cut: int) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    for name in (*_DECISIONS, *_DISTANCES):
        before, after = getattr(whole, name), getattr(part, name)
        if before is not None:
            yield name, before[:cut], after[:cut]


def _trade_columns(whole: Trades, part: Trades, cut: int) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    before, after = _closed(whole, cut), _closed(part, cut)
    for field in fields(Trades):
        yield f"trades.{field.name}", getattr(whole, field.name)[before], getattr(part, field.name)[after]


def _closed(trades: Trades, cut: int) -> NDArray[np.bool_]:
    # What the end of the data closed is still open in the longer run.
    return (trades.exit_bar < cut) & (trades.exit_reason != ExitReason.END_OF_DATA)


def _poisoned(values: FloatColumn, cut: int, future: Future) -> FloatColumn:
    if future == "cut off":
        return values[:cut]
    result = values.copy()
    result[cut:] = np.nan if future == "NaN" else -1.0 - result[cut:]
    return result
