"""Signals of whole strategies, the shipped ones included."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from engine.core import catalogue
from engine.core.candles import Candles
from engine.core.expressions import evaluate
from engine.core.signals import compute_signals
from engine.core.strategy import compile_strategy, explain, parse_strategy
from engine.errors import NotFound

RULES = ("long_entry", "long_exit", "short_entry", "short_exit")
SHIPPED = (
    "adx_trend", "atr_channel", "bollinger_breakout", "bollinger_reversion", "buy_and_hold", "donchian_breakout", "ema_cross",
    "macd_cross", "momentum", "random_entry", "rsi_reversal", "rsi_trend", "sma_cross", "stochastic", "supertrend", "vwap_reversion",
)  # fmt: skip


def make_candles(rows: int = 3_000, seed: int = 11) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.004, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    ts = np.arange(rows, dtype=np.int64) * 900_000 + 1_704_067_200_000
    return Candles(ts, opened, high, low, close, random.uniform(1, 9, rows), random.uniform(1, 9, rows))


CANDLES = make_candles()


def signals_of(document: dict | str, **params: float):
    loaded = catalogue.load(document) if isinstance(document, str) else parse_strategy(document)
    return compute_signals(compile_strategy(loaded, params), CANDLES, "15")


def test_an_ema_cross_signals_where_a_plain_loop_finds_crossings() -> None:
    averages = []
    for length in (20, 50):
        value = float(np.mean(CANDLES.close[:length]))
        column = [float("nan")] * (length - 1) + [value]
        for price in CANDLES.close[length:]:
            value += 2 / (length + 1) * (price - value)
            column.append(value)
        averages.append(column)
    fast, slow = averages
    up = [row for row in range(50, 3_000) if fast[row] > slow[row] and fast[row - 1] <= slow[row - 1]]
    down = [row for row in range(50, 3_000) if fast[row] < slow[row] and fast[row - 1] >= slow[row - 1]]
    signals = signals_of("ema_cross", fast=20, slow=50)
    assert len(up) > 10
    assert np.flatnonzero(signals.long_entry).tolist() == np.flatnonzero(signals.short_exit).tolist() == up
    assert np.flatnonzero(signals.short_entry).tolist() == np.flatnonzero(signals.long_exit).tolist() == down
    assert (signals.stop_fraction, signals.target_fraction) == (0.02, 0.04)
    assert np.isnan(signals.trail_fraction)
    assert signals.warmup_bars == 50


def test_the_ema_cross_document_is_the_one_the_design_names() -> None:
    document = catalogue.load("ema_cross")
    assert {name: param.default for name, param in document.params.items()} == {"fast": 20, "slow": 50}
    assert document.define == {"f": "ema(close, fast)", "s": "ema(close, slow)"}
    assert document.trailing_stop is None


def test_nothing_is_signalled_before_the_warm_up() -> None:
    document = {"name": "x", "long_entry": "not (close > sma(close, 30))", "short_entry": "hour >= 0", "max_bars": 5}
    signals = signals_of(document)
    assert signals.warmup_bars == 29
    assert not signals.long_entry[:29].any()
    assert not signals.short_entry[:29].any()
    assert signals.short_entry[29:].all()
    assert signals.max_bars == 5


def test_an_entry_without_a_positive_stop_distance_is_not_taken() -> None:
    document = {"name": "x", "long_entry": "close > 0", "stop_loss": {"distance": "close - open"}}
    signals = signals_of(document)
    np.testing.assert_array_equal(signals.long_entry, CANDLES.close > CANDLES.open)
    np.testing.assert_array_equal(signals.stop_distance, CANDLES.close - CANDLES.open)
    assert np.isnan(signals.stop_fraction)


def test_a_shared_memo_changes_nothing() -> None:
    memo: dict = {}
    for params in ({"fast": 10, "slow": 50}, {"fast": 20, "slow": 50}, {"fast": 10, "slow": 60}):
        strategy = compile_strategy(catalogue.load("ema_cross"), params)
        shared, alone = compute_signals(strategy, CANDLES, "15", memo=memo), compute_signals(strategy, CANDLES, "15")
        for rule in RULES:
            np.testing.assert_array_equal(getattr(shared, rule), getattr(alone, rule))
    assert sum(key.startswith("15|ema(") for key in memo) == 4


def test_the_catalogue_holds_what_it_promises() -> None:
    assert catalogue.names() == SHIPPED
    with pytest.raises(NotFound, match="ema_crss") as caught:
        catalogue.load("ema_crss")
    assert "did you mean 'ema_cross'?" in caught.value.fix


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_strategy_compiles_signals_and_says_its_weakness(name: str) -> None:
    document = catalogue.load(name)
    strategy = compile_strategy(document)
    signals = compute_signals(strategy, CANDLES, "15")
    assert document.name == name
    assert document.description
    assert document.weakness
    assert document.source
    assert signals.long_entry.any()
    for side in explain(strategy).sides:
        assert getattr(signals, f"{side}_entry").any()
    if name != "buy_and_hold":
        assert strategy.warnings == ()
    for rule in RULES:
        column = getattr(signals, rule)
        assert column.shape == (len(CANDLES),)
        assert column.dtype == np.bool_
        assert not column[: signals.warmup_bars].any()


@pytest.mark.parametrize("name", SHIPPED)
def test_signals_of_a_shipped_strategy_never_change_when_bars_are_added(name: str) -> None:
    strategy = compile_strategy(catalogue.load(name))
    whole = compute_signals(strategy, CANDLES, "15")
    for rows in (1, 100, 1_777):
        part = compute_signals(strategy, CANDLES.take(slice(0, rows)), "15")
        for rule in RULES:
            np.testing.assert_array_equal(getattr(part, rule), getattr(whole, rule)[:rows])


def test_buy_and_hold_buys_on_the_first_bar() -> None:
    assert signals_of("buy_and_hold").long_entry[0]


def test_chance_enters_about_as_often_as_it_says() -> None:
    signals = signals_of("random_entry", chance=0.1)
    share = (signals.long_entry | signals.short_entry).mean()
    assert 0.08 < share < 0.12
    assert (
        signals_of("random_entry", seed=2).long_entry.tolist() != signals_of("random_entry", seed=1).long_entry.tolist()
    )


def test_shipped_documents_are_plain_json_in_the_package() -> None:
    for name in SHIPPED:
        text = resources.files("engine.core.catalogue").joinpath(f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text)["name"] == name


def test_signals_read_the_expression_they_were_given() -> None:
    signals = signals_of("bollinger_breakout")
    expected = evaluate("crossover(close, bb_upper(close, 20, 2))", CANDLES, "15")
    np.testing.assert_array_equal(signals.long_entry, expected)
