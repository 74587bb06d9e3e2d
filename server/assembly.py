"""The composition root: builds feed, store, jobs and backtests once, from settings, and hands them out as a Lab."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx2

from agents.pipelines.runner import JOB_KIND, PipelineRunner
from agents.router import build_router
from agents.settings import AgentSettings
from engine.analysis import Analyses
from engine.backfill import Backfill
from engine.backtests import Backtests, Holdouts
from engine.history import History
from engine.instruments import Instruments
from engine.jobs import BackfillBody, Jobs
from engine.market.clock import SystemClock
from engine.market.exchange import SimulatedExchange
from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.ports import CandleFeed, Clock, JobWorkers, LimitMemory
from engine.run_inputs import RunInputSource
from engine.sealed_feed import SealedFeed
from engine.searches.bodies import SearchParts
from engine.searches.market import MarketLoader
from engine.searches.searches import SEARCH_KINDS, Searches, search_bodies
from engine.store import Store
from engine.strategies import Strategies
from engine.studies import Studies
from engine.verdicts import Examinations, Verdicts, examination_bodies
from server.toolbox import ServerToolbox
from tools.lab import Lab

if TYPE_CHECKING:
    from server.settings import Settings
    from server.toolbox import ServeLab

SIMULATED_URL = "http://simulated.exchange"
# Beside the database, so that an older copy of it cannot forget a seal or an opening.
LEDGER_WITNESS = "ledger-witness.jsonl"
# Computations run on threads. With Python's own 5 ms an answer that passes through a few threads waits for each of them.
THREAD_SWITCH_S = 0.0005
# A job outlasts a ban of the exchange; a direct call does not wait for one.
JOB_PATIENCE_S = 3_600.0


async def open_lab(
    settings: Settings, serve: ServeLab, workers: JobWorkers | None = None, *, is_worker: bool = False
) -> Lab:
    """Open everything; what was opened is closed again when a later part fails.

    Parameters
    ----------
    settings : Settings
    serve : callable
        Makes a server over the lab when a pipeline of this lab needs the tools.
    workers : JobWorkers, optional
        Processes that compute searches and long examinations, so that this one goes on answering.
    is_worker : bool
        This process runs the jobs it is told to, and no agents.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(THREAD_SWITCH_S)
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        store = await Store.open(settings.store_url)
        opened.push_async_callback(store.close)
        await store.keep_witness(settings.home / LEDGER_WITNESS, at_ms=clock.now_ms())
        feed = open_feed(settings, clock, store)
        opened.push_async_callback(feed.close)
        backfill = Backfill(feed, store, clock)
        patient = Backfill(feed, store, clock, patience_s=JOB_PATIENCE_S)
        sealed = SealedFeed(feed, store)
        instruments = Instruments(sealed, store, clock)
        history = History(store, backfill, instruments, clock)
        strategies = Strategies(store, clock)
        studies = Studies(store, instruments, sealed, clock)
        # Funding is fetched into the store like candles, and read from there like them: without what a seal withholds.
        inputs = RunInputSource(feed, store, history, clock)
        backtests = Backtests(sealed, store, history, inputs, instruments, strategies, studies, clock)
        parts = SearchParts(
            store=store,
            clock=clock,
            markets=MarketLoader(patient, history, instruments, inputs),
            backtests=backtests,
            threads=os.cpu_count() or 1,
            most_points=settings.search_max_points,
        )
        holdouts = Holdouts(store, backtests, clock)
        verdicts, examinations = Verdicts(store, backtests, holdouts), Examinations(store, backtests)
        router = build_router(AgentSettings() if is_worker else settings.agents(), store, clock)
        opened.push_async_callback(router.close)
        toolbox = ServerToolbox(serve)
        pipelines = PipelineRunner(router, store, clock, toolbox)
        computations = {**search_bodies(parts), **examination_bodies(verdicts, examinations)}
        bodies = {JOB_KIND: pipelines, "backfill": BackfillBody(patient, store), **computations}
        # A database in memory is nobody else's, so its jobs stay here.
        workers = workers if store.is_shared else None
        jobs = Jobs(store, clock, bodies, heavy_kinds=SEARCH_KINDS, workers=workers, worker_kinds=tuple(computations))
        opened.push_async_callback(jobs.close)
        if not is_worker:
            await jobs.resume_interrupted()
        opened.pop_all()

    async def verdict_so_far(run_id: str) -> dict[str, Any]:
        if await verdicts.takes_long(run_id):
            return {"verdict": None, "why": "its study is large: get_verdict weighs it"}
        return await verdicts.judge(run_id, [])

    lab = Lab(
        version=version("bybit-strategy-tester"),
        home=settings.home,
        clock=clock,
        feed=sealed,
        store=store,
        backfill=backfill,
        instruments=instruments,
        history=history,
        strategies=strategies,
        studies=studies,
        backtests=backtests,
        searches=Searches(parts, sealed, instruments, strategies, studies, jobs),
        holdouts=holdouts,
        verdicts=verdicts,
        examinations=examinations,
        jobs=jobs,
        analyses=Analyses(sealed, store, history, strategies, clock, judge=verdict_so_far),
        # Without keys every question goes back to the calling model.
        router=router,
        analyst=router,
        pipelines=pipelines,
    )
    toolbox.bind(lab)
    if workers is not None:
        # A server is asked again and again; a command may end without any question that needs the library.
        router.warm_up()
    return lab


def open_feed(settings: Settings, clock: Clock, memory: LimitMemory) -> CandleFeed:
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
