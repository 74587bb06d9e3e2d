"""Strategy documents with partial targets, entry orders, additions and sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.core.candles import Candles
from engine.core.signals import compute_signals
from engine.core.strategy import compile_strategy, parse_strategy
from engine.errors import BadRequest

PLAIN: dict[str, Any] = {"name": "plain", "long_entry": "close > open", "take_profit": {"percent": 5}}
RULES: dict[str, Any] = {
    "partial_take_profits": [{"fraction": 0.5, "percent": 1}, {"fraction": "share", "percent": 2}],
    "max_entries": 3,
    "session": {"start_hour": 22, "end_hour": 6, "weekdays": [3, 4], "flat_outside": True},
    "params": {"share": {"default": 0.25, "min": 0.1, "max": 0.5}},
}


def fingerprint(document: dict[str, Any]) -> str:
    return compile_strategy(parse_strategy(document)).fingerprint()


def candles_of(bars: int) -> Candles:
    ts = np.arange(bars, dtype=np.int64) * 3_600_000
    price = np.full(bars, 100.0)
    return Candles(ts, price, price + 1, price - 1, price + 0.5, price, price)


def test_a_document_without_them_keeps_the_fingerprint_it_always_had() -> None:
    assert fingerprint(PLAIN) == "f502f164fb8589fcd35a89735bf2726098ec02500e630293affc1038007c0f00"
    assert fingerprint(PLAIN | {"max_entries": 1}) == fingerprint(PLAIN)


@pytest.mark.parametrize("name", ["partial_take_profits", "max_entries", "session"])
def test_each_of_them_is_part_of_the_fingerprint(name: str) -> None:
    changed = PLAIN | {"params": RULES["params"]} | {name: RULES[name]}
    assert fingerprint(changed) != fingerprint(PLAIN)
    limit = PLAIN | {"entry_order": {"type": "limit", "percent": 1}}
    stop = PLAIN | {"entry_order": {"type": "stop", "percent": 1}}
    assert len({fingerprint(PLAIN), fingerprint(limit), fingerprint(stop)}) == 3


def test_signals_carry_what_the_document_says() -> None:
    signals = compute_signals(compile_strategy(parse_strategy(PLAIN | RULES)), candles_of(72), "60")
    assert [(part.share, part.fraction) for part in signals.partial_targets] == [(0.5, 0.01), (0.25, 0.02)]
    assert (signals.max_entries, signals.is_flat_outside_session) == (3, True)
    assert signals.session is not None
    # The epoch was a Thursday (3): its hours 0 to 5 and 22, 23, the same on Friday, none on Saturday.
    assert np.flatnonzero(signals.session).tolist() == [0, 1, 2, 3, 4, 5, 22, 23, 24, 25, 26, 27, 28, 29, 46, 47]


def test_an_entry_order_reads_its_offset_at_the_signal_bar_and_needs_one() -> None:
    document = PLAIN | {"entry_order": {"type": "stop", "distance": "close - open - hour / 100", "bars": 3}}
    signals = compute_signals(compile_strategy(parse_strategy(document)), candles_of(60), "60")
    assert signals.order is not None
    assert (signals.order.kind, signals.order.bars) == ("stop", 3)
    assert signals.order.distance is not None
    assert signals.order.distance[:3].tolist() == pytest.approx([0.5, 0.49, 0.48])
    vanishing = PLAIN | {"entry_order": {"type": "stop", "distance": "hour / 100"}}
    entries = compute_signals(compile_strategy(parse_strategy(vanishing)), candles_of(25), "60").long_entry
    assert (bool(entries[0]), bool(entries[1]), bool(entries[24])) == (False, True, False)


@pytest.mark.parametrize(
    "change",
    [
        {"partial_take_profits": [{"fraction": 0.5}]},
        {"partial_take_profits": [{"fraction": 0.7, "percent": 1}, {"fraction": 0.7, "percent": 2}]},
        {"partial_take_profits": [{"fraction": 0.2, "percent": 2}, {"fraction": 0.2, "percent": 1}]},
        {"partial_take_profits": [{"fraction": 0.2, "percent": 6}]},
        {"partial_take_profits": [{"fraction": 0.1, "percent": row} for row in range(1, 6)]},
        {"max_entries": 11}, {"max_entries": 1.5}, {"max_entries": 0},
        {"entry_order": {"type": "market", "percent": 1}}, {"entry_order": {"type": "limit"}},
        {"entry_order": {"type": "limit", "percent": 1, "bars": 0.5}},
        {"entry_order": {"type": "limit", "percent": 1}, "max_entries": 2},
        {"session": {"start_hour": 6, "end_hour": 6}}, {"session": {"weekdays": [7]}}, {"session": {"weekdays": []}},
        {"session": {"hours": 3}},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_a_fix(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse_strategy(PLAIN | change)
    assert refusal.value.fix
