"""Profit, notional and fees of linear, inverse and spot positions; scalars and arrays alike."""

from __future__ import annotations

from typing import TypeVar

from engine.core.candles import FloatColumn

Number = TypeVar("Number", float, FloatColumn)


def gross_profit(side: Number, quantity: Number, entry_price: Number, exit_price: Number, *, inverse: bool) -> Number:
    """Return the profit of a position before costs.

    Parameters
    ----------
    side : float or ndarray
        +1 long, -1 short.
    quantity : float or ndarray
        Base units (linear, spot) or USD contracts (inverse).
    entry_price, exit_price : float or ndarray
        Fill prices in quote currency.
    inverse : bool

    Returns
    -------
    float or ndarray
        Quote currency (linear, spot), coin (inverse).

    Notes
    -----
    Source: Bybit help centre, "Profit & Loss calculations" for USDT and inverse contracts.

    >>> round(gross_profit(1.0, 0.001, 55937.5, 55563.0, inverse=False), 6)
    -0.3745
    """
    if inverse:
        return side * quantity * (1.0 / entry_price - 1.0 / exit_price)
    return side * quantity * (exit_price - entry_price)


def notional_value(quantity: Number, price: Number, *, inverse: bool) -> Number:
    """Return the value of a fill in the settlement currency; a fee is this times its rate (Bybit v5 docs, order fees).

    >>> notional_value(100.0, 50000.0, inverse=True)
    0.002
    """
    return quantity / price if inverse else quantity * price
