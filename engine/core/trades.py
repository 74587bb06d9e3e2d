"""Closed trades as columns, and why each of them ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import FloatColumn

SideColumn = NDArray[np.int8]
BarColumn = NDArray[np.int64]


class ExitReason(IntEnum):
    """Why a position ended; its lower-case name is what results print."""

    SIGNAL = 0
    STOP_LOSS = 1
    TAKE_PROFIT = 2
    TRAILING_STOP = 3
    LIQUIDATION = 4
    MAX_BARS = 5
    END_OF_DATA = 6
    SESSION_END = 7


EXIT_REASONS: tuple[str, ...] = tuple(reason.name.lower() for reason in ExitReason)


# These happen at the open, before anything inside the bar.
EXITS_AT_THE_OPEN = (ExitReason.SIGNAL, ExitReason.MAX_BARS, ExitReason.SESSION_END)


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Closed trades in the order of their entries; every column has one row a trade.

    Money is in the settlement currency (quote; coin for inverse). A position closed in parts has one row a part, which
    share a `position_id`: quantity, entry fees, funding and risk are those of the part, so that sums over rows are sums
    over positions. A position entered several times shows its first entry's bar and its average entry price.

    Attributes
    ----------
    side : ndarray of int8
        +1 long, -1 short.
    signal_bar, entry_bar, exit_bar : ndarray of int64
        Row of the deciding close, of the fill, of the exit.
    entry_price, exit_price : ndarray of float64
        Fill prices, slippage included; the average where there were several entries.
    quantity : ndarray of float64
        Base units; USD contracts for inverse.
    pnl : ndarray of float64
        `gross_pnl - fees - funding`.
    gross_pnl, fees, funding : ndarray of float64
        Fees are those of both fills; funding is positive when paid.
    exit_reason : ndarray of int8
        `ExitReason`.
    mae, mfe : ndarray of float64
        Worst and best excursion from the entry fill in money before costs, magnitudes >= 0. Bars before the exit bar
        count with their high and low. Of the exit bar only what is certain counts: the exit fill, and its open when the
        exit came later than that; all of it when the position lived to its close.
    initial_risk : ndarray of float64
        Money lost at the stop that stood at the entry, before costs; NaN where none stood.
    bars : ndarray of int64
        `exit_bar - entry_bar`: 0 for a trade that ends in the bar of its entry.
    position_id : ndarray of int64
        Counts positions from 0.
    """

    side: SideColumn
    signal_bar: BarColumn
    entry_bar: BarColumn
    exit_bar: BarColumn
    entry_price: FloatColumn
    exit_price: FloatColumn
    quantity: FloatColumn
    pnl: FloatColumn
    gross_pnl: FloatColumn
    fees: FloatColumn
    funding: FloatColumn
    exit_reason: SideColumn
    mae: FloatColumn
    mfe: FloatColumn
    initial_risk: FloatColumn
    bars: BarColumn
    position_id: BarColumn

    def __len__(self) -> int:
        return len(self.side)

    @classmethod
    def from_tables(cls, rows: NDArray[np.int64], records: NDArray[np.float64]) -> Trades:
        """Build the columns from a simulator's two tables.

        Parameters
        ----------
        rows : ndarray of int64, shape (n, 5) or (n, 6)
            side, signal_bar, entry_bar, exit_bar, exit_reason, position_id; without the last, a position a row.
        records : ndarray of float64, shape (n, 9) or (n, 10)
            entry_price, exit_price, quantity, pnl, gross_pnl, fees, mae, mfe, initial_risk, funding; without the last,
            none was paid.
        """
        side, signal_bar, entry_bar, exit_bar, reason = (column.copy() for column in rows.T[:5])
        entry_price, exit_price, quantity, pnl, gross, fees, mae, mfe, risk = (
            column.copy() for column in records.T[:9]
        )
        return cls(
            side=side.astype(np.int8),
            signal_bar=signal_bar,
            entry_bar=entry_bar,
            exit_bar=exit_bar,
            entry_price=entry_price,
            exit_price=exit_price,
            quantity=quantity,
            pnl=pnl,
            gross_pnl=gross,
            fees=fees,
            funding=records[:, 9].copy() if records.shape[1] > 9 else np.zeros(len(side)),
            exit_reason=reason.astype(np.int8),
            mae=mae,
            mfe=mfe,
            initial_risk=risk,
            bars=exit_bar - entry_bar,
            position_id=rows[:, 5].copy() if rows.shape[1] > 5 else np.arange(len(side), dtype=np.int64),
        )
