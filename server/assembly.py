"""The composition root: builds feed, store, jobs and backtests once, from settings, and hands them out as a Lab."""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

import httpx2

from agents.pipelines.runner import JOB_KIND, PipelineRunner
from agents.router import build_router
from engine.analysis import Analyses
from engine.backfill import Backfill
from engine.backtests import Backtests
from engine.history import History
from engine.instruments import Instruments
from engine.jobs import BackfillBody, Jobs
from engine.market.clock import SystemClock
from engine.market.exchange import SimulatedExchange
from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.ports import Clock, Feed, LimitMemory
from engine.run_inputs import RunInputSource
from engine.store import Store
from engine.strategies import Strategies
from server.toolbox import ServerToolbox
from tools.lab import Lab

if TYPE_CHECKING:
    from server.settings import Settings

SIMULATED_URL = "http://simulated.exchange"
# A job outlasts a ban of the exchange; a direct call does not wait for one.
JOB_PATIENCE_S = 3_600.0


async def open_lab(settings: Settings) -> Lab:
    """Open everything; what was opened is closed again when a later part fails."""
    settings.home.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        store = await Store.open(settings.store_url)
        opened.push_async_callback(store.close)
        feed = open_feed(settings, clock, store)
        opened.push_async_callback(feed.close)
        backfill = Backfill(feed, store, clock)
        patient = Backfill(feed, store, clock, patience_s=JOB_PATIENCE_S)
        router = build_router(settings.agents(), store, clock)
        opened.push_async_callback(router.close)
        toolbox = ServerToolbox(settings)
        pipelines = PipelineRunner(router, store, clock, toolbox)
        jobs = Jobs(store, clock, {"backfill": BackfillBody(patient, store), JOB_KIND: pipelines})
        opened.push_async_callback(jobs.close)
        await jobs.resume_interrupted()
        opened.pop_all()
    instruments = Instruments(feed, store, clock)
    history = History(store, backfill, instruments, clock)
    strategies = Strategies(store, clock)
    inputs = RunInputSource(feed, store, history, clock)
    lab = Lab(
        version=version("bybit-strategy-tester"),
        home=settings.home,
        clock=clock,
        feed=feed,
        store=store,
        instruments=instruments,
        history=history,
        strategies=strategies,
        backtests=Backtests(feed, store, history, inputs, instruments, strategies, clock),
        jobs=jobs,
        analyses=Analyses(feed, store, history, strategies, clock),
        # Without keys every question goes back to the calling model.
        router=router,
        analyst=router,
        pipelines=pipelines,
    )
    toolbox.bind(lab)
    router.warm_up()
    return lab


def open_feed(settings: Settings, clock: Clock, memory: LimitMemory) -> Feed:
    """Return the feed that the settings name; the simulated one runs in this process and opens no port."""
    if settings.feed == "simulated":
        return BybitFeed(
            base_url=SIMULATED_URL,
            name="simulated",
            clock=clock,
            limiter=RequestLimiter(SIMULATED_URL, clock=clock, rules=RateRules(rate_per_s=None)),
            transport=httpx2.ASGITransport(app=SimulatedExchange(seed=settings.simulation_seed)),
        )
    rules = RateRules(rate_per_s=settings.requests_per_second or None, ban_s=settings.ban_seconds)
    limiter = RequestLimiter(settings.bybit_rest_url, clock=clock, memory=memory, rules=rules)
    return BybitFeed(base_url=settings.bybit_rest_url, clock=clock, limiter=limiter)


async def close_lab(lab: Lab) -> None:
    """Stop jobs (they can be resumed), then close agents and feed, then the store."""
    await lab.jobs.close()
    await lab.router.close()
    await lab.feed.close()
    await lab.store.close()
