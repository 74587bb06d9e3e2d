"""A computation whose caller has gone ends at its next look, wherever in a portfolio run that is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from engine.backtests.portfolios import Part, Sharing, compute_portfolio
from engine.backtests.stopping import never, run_off_loop
from engine.core.candles import Candles
from engine.core.portfolio import run
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.strategy import compile_strategy, parse_strategy
from engine.errors import Cancelled
from engine.history import LoadedCandles
from engine.run_inputs import RunInputs

DOCUMENT = {
    "name": "narrow", "long_entry": "close > sma(close, 10)", "long_exit": "close < sma(close, 10)",
    "stop_loss": {"percent": 2}, "take_profit": {"percent": 2},
}  # fmt: skip
HOUR_MS = 3_600_000
WAIT_SECONDS = 60.0


def part(symbol: str, seed: int, rows: int = 600) -> Part:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.03, np.minimum(opened, close) * 0.97
    candles = Candles(np.arange(rows, dtype=np.int64) * HOUR_MS, opened, high, low, close, np.ones(rows), np.ones(rows))
    series = Series("simulated", "linear", symbol, "trade", "60")
    return Part(series, LoadedCandles(candles, "simulated", (), 0), None, RunInputs())


def compute(intrabar: str, should_stop: Callable[[], bool]) -> dict[str, object]:
    parts = [part("AUSDT", 1), part("BUSDT", 2)]
    settings = RunSettings.model_validate({"intrabar": intrabar})
    compiled = compile_strategy(parse_strategy(DOCUMENT))
    outcome = compute_portfolio(
        compiled, "given", parts, (0, 600 * HOUR_MS), settings, Sharing(), should_stop=should_stop
    )
    return outcome.result["intrabar"]


async def test_a_thread_learns_that_its_caller_was_cancelled() -> None:
    started, told = threading.Event(), threading.Event()
    never_set = threading.Event()

    def work(should_stop: Callable[[], bool]) -> None:
        started.set()
        while not should_stop():
            never_set.wait(0.001)
        told.set()

    task = asyncio.create_task(run_off_loop(work))
    assert await asyncio.to_thread(started.wait, WAIT_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(told.wait, WAIT_SECONDS)


def test_a_portfolio_run_ends_at_whichever_look_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CELLS_A_CHUNK", 600)
    looks = count(1)
    compute("pessimistic", lambda: next(looks) == 0)
    asked = next(looks) - 1
    # Before the signals of two symbols, then before each half of the bars, by either reading of the ambiguous ones.
    assert asked == 6
    for last in range(1, asked + 1):
        looks = count(1)
        with pytest.raises(Cancelled):
            compute("pessimistic", lambda last=last, looks=looks: next(looks) == last)
        assert next(looks) == last + 1


def test_both_readings_of_ambiguous_bars_are_the_same_from_either_side() -> None:
    pessimistic, optimistic = compute("pessimistic", never), compute("optimistic", never)
    assert pessimistic["ambiguous_bars"]
    assert optimistic["ambiguous_bars"]
    for name in ("pessimistic_net_profit", "optimistic_net_profit"):
        assert pessimistic[name] == optimistic[name]
    assert pessimistic["pessimistic_net_profit"] != pessimistic["optimistic_net_profit"]
