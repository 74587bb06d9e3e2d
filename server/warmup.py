"""Loads what the first real call needs, and goes on with jobs left behind, in the background, once a client has its tools."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from engine.errors import LabError
from server.collector import undisturbed_start
from server.lifespan import LabKeeper

logger = logging.getLogger(__name__)

# The answer that triggers the warm-up is written first; imports would compete with it for the interpreter.
HEAD_START_SECONDS: Final = 0.25
HEAVY_MODULE: Final = "server.assembly"
TINY_BARS: Final = 300


class WarmUp:
    """Middleware that starts loading after the first answered tool list."""

    def __init__(self, keeper: LabKeeper, head_start_seconds: float = HEAD_START_SECONDS) -> None:
        self._keeper = keeper
        self._head_start_seconds = head_start_seconds
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass every message on; the first tool list starts the work behind it."""
        result = await call_next(ctx)
        if self.task is None and ctx.method == "tools/list":
            self.task = asyncio.create_task(self._run(), name="warm-up")
        return result

    async def _run(self) -> None:
        await asyncio.sleep(self._head_start_seconds)
        try:
            await asyncio.to_thread(_load_undisturbed)
        except ImportError:  # the first call that needs the part tells its caller
            logger.warning("warm-up: a module could not be imported", exc_info=True)
            return
        if self._keeper.has_database():
            await self._resume_jobs()

    async def _resume_jobs(self) -> None:
        """Open the lab, which goes on with jobs that an earlier process left behind."""
        try:
            await self._keeper.lab()
        except LabError as error:  # the first call that needs the lab tells its caller
            logger.warning("warm-up: the lab does not open: %s", error.message)


def _load_undisturbed() -> None:
    # A full collection of a quarter of a million imported objects stops every thread for a tenth of a second.
    with undisturbed_start():
        load_heavy_parts()


def load_heavy_parts() -> None:
    """Import storage, market and numeric modules, then run a tiny backtest so that the kernels are compiled or loaded."""
    importlib.import_module(HEAVY_MODULE)
    np: Any = importlib.import_module("numpy")
    core = "engine.core"
    candles_type: Any = importlib.import_module(f"{core}.candles").Candles
    catalogue: Any = importlib.import_module(f"{core}.catalogue")
    strategy: Any = importlib.import_module(f"{core}.strategy")
    settings_type: Any = importlib.import_module(f"{core}.execution").ExecutionSettings
    close = 100.0 + np.sin(np.arange(TINY_BARS) / 5.0)
    ts = np.arange(TINY_BARS, dtype=np.int64) * 60_000
    candles = candles_type(ts, close, close + 1.0, close - 1.0, close, np.ones(TINY_BARS), np.ones(TINY_BARS))
    compiled = strategy.compile_strategy(catalogue.load("ema_cross"))
    signals = importlib.import_module(f"{core}.signals").compute_signals(compiled, candles, "1")
    simulate = importlib.import_module(f"{core}.simulator").simulate
    simulate(candles, signals, settings_type(capital=1000.0))
    # Runs on perpetuals charge funding, which takes the loop with every rule.
    settlements = importlib.import_module(f"{core}.perpetual").Settlements(ts[:1], np.zeros(1), close[:1])
    detail = importlib.import_module(f"{core}.market_detail").lay_beside(candles, "1", settlements=settlements)
    simulate(candles, signals, settings_type(capital=1000.0), detail)
