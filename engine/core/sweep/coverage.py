"""What the event kernel can run, and why it cannot run the rest."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail
from engine.core.strategy_document import Level, StrategyDocument

_SETTINGS = frozenset(
    (
        "capital", "category", "taker_fee_fraction", "maker_fee_fraction", "slippage_fraction", "size_mode", "size_value",
        "leverage", "intrabar", "round_to_lot", "lot_step", "min_quantity", "min_notional", "max_quantity", "tick_size",
        "target_fee", "allow_long", "allow_short", "margin_tiers",
    )
)  # fmt: skip
_DOCUMENT = frozenset(
    (
        "schema_version", "name", "description", "weakness", "source", "params", "define", "long_entry", "long_exit",
        "short_entry", "short_exit", "stop_loss", "take_profit", "trailing_stop", "breakeven_after_percent", "max_bars",
        "size",
    )
)  # fmt: skip
_DETAIL = frozenset(
    ("funding_at_open", "funding_inside", "mark", "missing_mark_bars", "minutes", "minute_start", "minute_stop")
)
_LEVEL = frozenset(("percent", "distance", "activation_percent"))
_INTRABAR = ("pessimistic", "optimistic")


def reason_for_bar_loop(
    candles: Candles, document: StrategyDocument, settings: ExecutionSettings, detail: MarketDetail
) -> str | None:
    """Say what needs the bar loop, None where the event kernel covers everything.

    A setting or field this module does not know is covered only while it keeps its default.
    """
    if unknown := _unknown_fields(settings, _SETTINGS):
        return f"the setting {unknown[0]}"
    if unknown := _unknown_fields(detail, _DETAIL):
        return f"{unknown[0]} of the market"
    if settings.intrabar not in _INTRABAR:
        return f"intrabar {settings.intrabar!r}"
    for name, field in type(document).model_fields.items():
        if name not in _DOCUMENT and getattr(document, name) != field.get_default(call_default_factory=True):
            return f"{name} of the strategy"
    levels: tuple[Level | None, ...] = (document.stop_loss, document.take_profit, document.trailing_stop)
    for level in levels:
        others = set() if level is None else level.model_fields_set - _LEVEL
        if others:
            return f"{min(others)} of a level"
    if not _bars_contain_their_prices(candles):
        return "bars whose open or close lies outside their low and high"
    return None


def _unknown_fields(given: ExecutionSettings | MarketDetail, known: frozenset[str]) -> list[str]:
    """Return the fields outside those that are known whose value is not the default."""
    return [
        field.name
        for field in fields(given)
        if field.name not in known
        and getattr(given, field.name) != (None if field.default is MISSING else field.default)
    ]


def _bars_contain_their_prices(candles: Candles) -> bool:
    return bool(
        np.all(candles.high >= np.maximum(candles.open, candles.close))
        and np.all(candles.low <= np.minimum(candles.open, candles.close))
    )
