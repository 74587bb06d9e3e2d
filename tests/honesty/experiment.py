"""One study of the experiment: a market, a search, and the verdict on what it found best, beside what a naive rule says."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from engine.core.candles import FloatColumn
from engine.core.strategy import compile_strategy
from engine.core.verdict import Evidence, Standings, Verdict, judge
from engine.core.verdict.examination import Bench, own_facts, stability_facts
from engine.core.verdict.study import daily_costs, weigh_search
from tests.honesty.searcher import COSTS, search
from tests.honesty.worlds import Edge, Noise, make_world

# What peers would report: an in-sample Sharpe ratio above this.
NAIVE_SHARPE = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one study came to."""

    seed: int
    noise: Noise
    edge: Edge | None
    trials: int
    best_sharpe: float
    verdict: Verdict
    evidence: Evidence
    rule: str
    search_seconds: float
    verdict_seconds: float

    @property
    def is_naive_find(self) -> bool:
        """Say whether the naive rule would report it."""
        return self.best_sharpe > NAIVE_SHARPE


def run_study(
    seed: int, noise: Noise, *, edge: Edge | None, bars: int, trials: int, real_returns: FloatColumn | None = None
) -> Outcome:
    """Search one market and judge what was found best, as a sealed study with an unopened holdout would be."""
    world = make_world(seed, noise, bars, edge=edge, real_returns=real_returns)
    started = time.perf_counter()
    finds = search(world.candles, np.random.default_rng([seed, 1]), trials)
    searched = time.perf_counter()
    best = finds.best
    document, point = finds.documents[finds.rule_of[best]], finds.points[best]
    bench = Bench(world.candles, "60", COSTS)
    compiled = compile_strategy(document, point)
    evidence = Evidence(
        own=own_facts(bench, bench.run(compiled)),
        search=weigh_search(
            finds.daily_returns, best, len(finds.points),
            daily_costs(finds.daily_returns, finds.values["fees_paid"], COSTS.capital), seed=seed,
        ),
        stability=stability_facts(bench, document, point, seed=seed),
        standings=Standings(
            sealed=True, openings=0, holdout_sharpe=np.nan, holdout_low=np.nan, holdout_high=np.nan,
            ledger_intact=True, simulated=True,
        ),
    )  # fmt: skip
    verdict = judge(evidence)
    judged = time.perf_counter()
    return Outcome(
        seed, noise, edge, len(finds.points), float(finds.values["sharpe"][best]), verdict, evidence,
        f"{compiled.rules['long_entry'].text}", searched - started, judged - searched,
    )  # fmt: skip
