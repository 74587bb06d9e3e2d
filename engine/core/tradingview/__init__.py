"""TradingView's exported "List of trades": read, aligned with our trades, and the first difference explained."""

from __future__ import annotations

from engine.core.tradingview.comparison import Comparison, compare_trades
from engine.core.tradingview.lists import TradeColumns, columns_of, parse_trade_list

__all__ = ["Comparison", "TradeColumns", "columns_of", "compare_trades", "parse_trade_list"]
