"""What one simulated run leaves behind: trades, equity and counts, and the check that they add up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from engine.core.candles import Candles, FloatColumn
from engine.core.costs import gross_profit, notional_value
from engine.core.execution import ExecutionSettings
from engine.core.trades import ExitReason, SideColumn, Trades


class SkipReason(IntEnum):
    """Why an entry signal did not become a position; its lower-case name is what results print."""

    CONFLICTING_SIGNALS = 0
    DIRECTION_NOT_ALLOWED = 1
    RUINED = 2
    NO_STOP = 3
    BELOW_MIN_QUANTITY = 4
    BELOW_MIN_NOTIONAL = 5
    INSUFFICIENT_MARGIN = 6


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """One run, bar by bar.

    Attributes
    ----------
    trades : Trades
    equity : ndarray of float64, shape (n,)
        Marked at every close, fees included, settlement currency; never NaN.
    position : ndarray of int8, shape (n,)
        Side held when the bar has closed.
    exposed_bars : int
        Bars that had a position at any time after the orders at their open.
    ambiguous_bars : int
        Bars in which stop and target both lay and the order of prices decided; run the other `intrabar` to see it.
    skipped_entries : dict of str to int
        Entry signals that opened nothing, by the lower-case name of their `SkipReason`.
    capped_entries : int
        Entries made smaller to respect the largest quantity or the leverage.
    ruined_bar : int or None
        First bar whose mark was zero or less; nothing is opened from there on.
    warmup_bars : int
        Rows before this one carry no signal.
    """

    trades: Trades
    equity: FloatColumn
    position: SideColumn
    exposed_bars: int
    ambiguous_bars: int
    skipped_entries: dict[str, int]
    capped_entries: int
    ruined_bar: int | None
    warmup_bars: int

    @property
    def ruined(self) -> bool:
        """Say whether the capital was lost."""
        return self.ruined_bar is not None


def check_accounting(simulation: Simulation, candles: Candles, settings: ExecutionSettings) -> tuple[str, ...]:
    """Rebuild the run from its trades alone and return what does not add up; empty when everything does.

    Checked within 1e-9 of the money that moved: profit of each trade from its fills, fees between the cheapest and the
    dearest rate, cash plus open position = equity at every close, sum of profits = final - initial equity, order and
    overlap of trades.
    """
    trades = simulation.trades
    inverse = settings.category == "inverse"
    entry_value = notional_value(trades.quantity, trades.entry_price, inverse=inverse)
    exit_value = notional_value(trades.quantity, trades.exit_price, inverse=inverse)
    moved = settings.capital + np.abs(simulation.equity).max(initial=0.0) + float(np.sum(entry_value + exit_value))
    tolerance = 1e-9 * moved
    gross = gross_profit(
        trades.side.astype(np.float64), trades.quantity, trades.entry_price, trades.exit_price, inverse=inverse
    )
    entry_fee, exit_fee = _fees(trades, entry_value, exit_value, settings)
    cash, held = _cash_and_held(simulation, candles, settings, entry_fee, trades.pnl + entry_fee)
    findings = {
        "gross profit does not follow from the fills": np.abs(gross - trades.gross_pnl),
        "profit is not gross less fees and funding": np.abs(
            trades.gross_pnl - trades.fees - trades.funding - trades.pnl
        ),
        "fees do not follow from the fills": np.abs(entry_fee + exit_fee - trades.fees),
        "cash and position are not the equity": np.abs(cash + held - simulation.equity),
        "profits do not sum to the change of equity": np.abs(
            np.atleast_1d(np.sum(trades.pnl) - (simulation.equity[-1] - settings.capital))
        ),
    }
    broken = [text for text, errors in findings.items() if not np.all(errors <= tolerance)]
    left_at_the_open = trades.exit_reason[:-1] == ExitReason.SIGNAL
    if np.any(trades.entry_bar[1:] < trades.exit_bar[:-1] + ~left_at_the_open) or np.any(trades.bars < 0):
        broken.append("trades overlap")
    if np.any(trades.signal_bar + 1 != trades.entry_bar):
        broken.append("an entry does not follow its signal")
    return tuple(broken)


def _fees(
    trades: Trades, entry_value: FloatColumn, exit_value: FloatColumn, settings: ExecutionSettings
) -> tuple[FloatColumn, FloatColumn]:
    rate = np.where(
        trades.exit_reason == ExitReason.TAKE_PROFIT, settings.target_fee_fraction, settings.taker_fee_fraction
    )
    return entry_value * settings.taker_fee_fraction, exit_value * rate


def _cash_and_held(
    simulation: Simulation,
    candles: Candles,
    settings: ExecutionSettings,
    entry_fee: FloatColumn,
    exit_change: FloatColumn,
) -> tuple[FloatColumn, FloatColumn]:
    """Return the cash and the value of the open position at every close, from the trade list."""
    trades, bars = simulation.trades, len(candles)
    change = np.zeros(bars)
    np.subtract.at(change, trades.entry_bar, entry_fee)
    np.add.at(change, trades.exit_bar, exit_change)
    held = np.zeros(bars)
    for row in range(len(trades)):
        open_bars = slice(int(trades.entry_bar[row]), int(trades.exit_bar[row]))
        close = candles.close[open_bars]
        held[open_bars] += gross_profit(
            np.full(len(close), float(trades.side[row])),
            np.full(len(close), trades.quantity[row]),
            np.full(len(close), trades.entry_price[row]),
            close,
            inverse=settings.category == "inverse",
        )
    return settings.capital + np.cumsum(change), held
