"""The store: everything the laboratory keeps."""

from __future__ import annotations

from engine.store.agent_store import AgentStore
from engine.store.copy_store import CopyStore
from engine.store.instrument_store import InstrumentStore
from engine.store.job_store import JobStore
from engine.store.lease_store import LeaseStore
from engine.store.point_store import PointStore
from engine.store.run_store import RunStore
from engine.store.strategy_store import StrategyStore
from engine.store.witness_store import WitnessStore


class Store(
    CopyStore, PointStore, InstrumentStore, RunStore, StrategyStore, JobStore, LeaseStore, AgentStore, WitnessStore
):
    """An open store. `Store.open(url)` opens it, `close()` lets go of it."""
