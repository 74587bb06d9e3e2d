"""What does not fit in one figure: returns by month and year, the deepest drawdowns, rolling Sharpe, long against short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from engine.core.candles import FloatColumn, TimeColumn
from engine.core.metrics.facts import PERIODS_PER_YEAR, Facts
from engine.core.metrics.returns import SMALLEST_SPREAD
from engine.core.timeframes import DAY_MS

ROLLING_DAYS = 90
MOST_DRAWDOWNS = 10


class MarkedEquity(Protocol):
    """The daily marks of a run, computed just now or read back; see `Facts`."""

    @property
    def marks_ms(self) -> TimeColumn:
        """Return the open of the first bar, then the times of the marks."""
        ...

    @property
    def marks(self) -> FloatColumn:
        """Return the starting capital, then the marks."""
        ...

    @property
    def drawdowns(self) -> FloatColumn:
        """Return 1 - mark / highest mark so far."""
        ...


@dataclass(frozen=True, slots=True)
class PeriodReturn:
    """Return of the account in one calendar month or year (UTC); None once the capital was lost."""

    label: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Drawdown:
    """One fall from a peak; `recovered_ms` is None where it lasted to the end. Depth is a fraction of the peak."""

    peak_ms: int
    trough_ms: int
    recovered_ms: int | None
    depth: float
    days: float


@dataclass(frozen=True, slots=True)
class SideSummary:
    """Closed trades of one side, net of costs, money in settlement currency; None where nothing defines the figure."""

    trades: int
    winning_trades: int
    losing_trades: int
    net_profit: float
    gross_profit: float
    gross_loss: float
    fees: float
    funding: float
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    average_bars: float | None


@dataclass(frozen=True, slots=True, eq=False)
class RollingSharpe:
    """Sharpe ratio of the last 90 daily returns at each daily mark; NaN where they do not vary."""

    ts: TimeColumn
    values: FloatColumn


def period_returns(facts: MarkedEquity, period: Literal["month", "year"]) -> tuple[PeriodReturn, ...]:
    """Return the account's return in every calendar month or year the run touches.

    Notes
    -----
    From daily marks; the mark at 00:00 of the first day belongs to the period that ended there. The first period starts
    with the starting capital. Their product is the total return.
    """
    unit = "M" if period == "month" else "Y"
    # A mark at midnight closes the day before it.
    periods = (facts.marks_ms[1:] - 1).astype("datetime64[ms]").astype(f"datetime64[{unit}]")
    last = np.append(np.flatnonzero(periods[1:] != periods[:-1]), len(periods) - 1)
    ends = facts.marks[1:][last]
    starts = np.concatenate(([facts.marks[0]], ends[:-1]))
    return tuple(
        PeriodReturn(str(label), float(end / start - 1.0) if start > 0 else None)
        for label, start, end in zip(periods[last], starts, ends, strict=True)
    )


def deepest_drawdowns(facts: MarkedEquity, count: int = MOST_DRAWDOWNS) -> tuple[Drawdown, ...]:
    """Return the deepest falls between two peaks of the daily marks, deepest first."""
    peaks = np.flatnonzero(facts.drawdowns <= 0)
    found: list[Drawdown] = []
    for peak, following in zip(peaks.tolist(), [*peaks[1:].tolist(), len(facts.marks)], strict=True):
        if following == peak + 1:
            continue
        trough = peak + int(np.argmax(facts.drawdowns[peak:following]))
        is_open = following == len(facts.marks)
        end_ms = int(facts.marks_ms[-1 if is_open else following])
        peak_ms = int(facts.marks_ms[peak])
        found.append(
            Drawdown(
                peak_ms,
                int(facts.marks_ms[trough]),
                None if is_open else end_ms,
                float(facts.drawdowns[trough]),
                (end_ms - peak_ms) / DAY_MS,
            )
        )
    return tuple(sorted(found, key=lambda fall: (-fall.depth, fall.peak_ms))[:count])


def rolling_sharpe(facts: Facts, days: int = ROLLING_DAYS) -> RollingSharpe:
    """Return sqrt(365) * mean / standard deviation (n - 1) of the last `days` daily returns; empty where there are fewer."""
    if facts.returns is None or len(facts.returns) < days:
        return RollingSharpe(np.empty(0, np.int64), np.empty(0))
    windows = np.lib.stride_tricks.sliding_window_view(facts.returns, days)
    spread = windows.std(axis=1, ddof=1)
    varies = spread > SMALLEST_SPREAD
    ratio = math.sqrt(PERIODS_PER_YEAR) * windows.mean(axis=1) / np.where(varies, spread, 1.0)
    return RollingSharpe(facts.marks_ms[days:], np.where(varies, ratio, math.nan))


def side_summary(facts: Facts, side: Literal["long", "short"]) -> SideSummary:
    """Return the figures of one side's closed trades."""
    trades = facts.trades
    chosen = trades.side > 0 if side == "long" else trades.side < 0
    pnl = trades.pnl[chosen]
    gain, loss = float(pnl[pnl > 0].sum()), float(-pnl[pnl < 0].sum())
    wins, losses = int(np.count_nonzero(pnl > 0)), int(np.count_nonzero(pnl < 0))
    return SideSummary(
        trades=len(pnl),
        winning_trades=wins,
        losing_trades=losses,
        net_profit=float(pnl.sum()),
        gross_profit=gain,
        gross_loss=loss,
        fees=float(trades.fees[chosen].sum()),
        funding=float(trades.funding[chosen].sum()),
        win_rate=wins / (wins + losses) if wins + losses else None,
        profit_factor=gain / loss if loss > 0 else None,
        expectancy=float(pnl.mean()) if len(pnl) else None,
        average_bars=float(trades.bars[chosen].mean()) if len(pnl) else None,
    )
