"""The eight analyses: what is stored goes in, a brief of facts comes out; no model is asked here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from engine.analysis.backtest_reading import backtest_brief
from engine.analysis.code_review import code_review
from engine.analysis.comparison import comparison_brief
from engine.analysis.figures import Brief
from engine.analysis.indicator_behaviour import indicator_brief, read_question
from engine.analysis.market_data import MarketData, MarketReader
from engine.analysis.metric_words import find_word, metric_brief
from engine.analysis.regimes import BARS as REGIME_BARS
from engine.analysis.regimes import regime_brief
from engine.analysis.risk import risk_brief
from engine.analysis.scenario_candles import CHARACTERS, scenario_candles
from engine.analysis.scenarios import scenario_brief
from engine.analysis.stored_runs import StoredRun, read_run
from engine.analysis.strategy_review import strategy_review
from engine.core.candles import Candles
from engine.core.expressions.looking import review_text
from engine.core.expressions.nodes import EXTRA_SERIES
from engine.core.expressions.warmup import check_nesting
from engine.core.series import Category, Series
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.timeframes import Interval, next_open
from engine.core.times import parse_time_ms
from engine.errors import BadRequest, LabError
from engine.history import History, Report
from engine.ports import Clock, Feed
from engine.probes import note_probe
from engine.store import Store
from engine.strategies import Strategies

# From a run id to its verdict, where the lab has a judge.
Judge = Callable[[str], Awaitable[Mapping[str, Any]]]
FEWEST_RUNS, MOST_RUNS = 2, 6


class Analyses:
    """Computes briefs from the store.

    Parameters
    ----------
    judge : callable, optional
        Returns the verdict of a run so far.
    """

    def __init__(
        self,
        feed: Feed,
        store: Store,
        history: History,
        strategies: Strategies,
        clock: Clock,
        judge: Judge | None = None,
    ) -> None:
        self._feed = feed
        self._store = store
        self._strategies = strategies
        self._clock = clock
        self._judge = judge
        self._markets = MarketReader(feed, store, history, clock)

    async def backtest(self, run_id: str) -> Brief:
        """Return the reading of a stored run."""
        run = await read_run(self._store, run_id)
        candles, verdict = await self._candles_of(run), await self._verdict(run_id)
        return await asyncio.to_thread(backtest_brief, run, candles, verdict)

    async def _candles_of(self, run: StoredRun) -> Candles | None:
        if run.is_portfolio:
            return None
        end_ms = next_open(run.series.interval, parse_time_ms(run.data["last_bar"]))
        return await self._store.read_candles(run.series, int(run.marks_ms[0]), end_ms)

    async def _verdict(self, run_id: str) -> Brief:
        if self._judge is None:
            return {"verdict": None, "why": "this server has no judge; treat the run as an unproven candidate"}
        try:
            told = await self._judge(run_id)
        except LabError as error:
            return {"verdict": None, "why": error.message}
        if told.get("verdict") is None:
            return dict(told)
        failed = [
            {
                "check": check["name"],
                "value": check["value"],
                "threshold": check["threshold"],
                "why": check["why"],
            }
            for check in told["checks"]
            if check["passed"] is False
        ]
        return {
            "verdict": told["verdict"],
            "failed": failed,
            "caps": told["caps"],
            "trials": told["trials"],
            "effective_trials": told["effective_trials"],
            "reasons": "get_verdict",
        }

    async def comparison(self, run_ids: Sequence[str]) -> Brief:
        """Return the comparison of 2 to 6 stored runs."""
        names = list(dict.fromkeys(run_ids))
        if not FEWEST_RUNS <= len(names) <= MOST_RUNS:
            raise BadRequest(
                f"{len(names)} different runs",
                fix=f"run_ids takes {FEWEST_RUNS} to {MOST_RUNS} different ids (list_runs)",
            )
        runs = [await read_run(self._store, name) for name in names]
        return await asyncio.to_thread(comparison_brief, runs)

    async def risk(self, run_id: str, capital: float | None, tolerance: float) -> Brief:
        """Return how large a stored run could have been traded."""
        run = await read_run(self._store, run_id)
        return await asyncio.to_thread(risk_brief, run, capital, tolerance)

    async def indicator(
        self, indicator: str, symbol: str | None, interval: Interval | None, category: Category | None
    ) -> Brief:
        """Return declaration and behaviour of an indicator on the newest stored bars."""
        question = read_question(indicator)
        data = await self._markets.best(symbol=symbol, category=category, interval=interval)
        wanted = " ".join(filter(None, (symbol, category, interval)))
        known = "start_backfill fetches those of a symbol that search_instruments knows"
        why = f"no candles{f' of {wanted}' if wanted else ''} are stored; {known}"
        brief = await asyncio.to_thread(indicator_brief, question, data, why)
        if data is not None and brief["behaviour"] is not None:
            # It tells how prices moved after each value: that is a rule tried, however plain the indicator.
            await self._note(data, question.tree.text)
        return brief

    async def _note(self, data: MarketData, text: str) -> None:
        await note_probe(self._store, data.series, text, data.candles, at_ms=self._clock.now_ms())

    async def metric(self, name: str, run_id: str | None) -> Brief:
        """Return what a metric means and, with a run, its value and interval."""
        found = find_word(name)
        run = None if run_id is None else await read_run(self._store, run_id)
        return await asyncio.to_thread(metric_brief, found, run)

    async def regime(self, symbol: str, category: Category, interval: Interval, report: Report | None = None) -> Brief:
        """Return the regime of a market at its last closed bar and before."""
        series = Series(self._feed.name, category, symbol, "trade", interval)
        data = await self._markets.newest(series, REGIME_BARS, report)
        return await asyncio.to_thread(regime_brief, data)

    async def strategy(self, strategy: str | Mapping[str, Any]) -> Brief:
        """Return the review of a strategy, counted on the stored market with the most bars."""
        named = await self._strategies.resolve(strategy)
        compiled = compile_strategy(named.parsed)
        data = await self._markets.best()
        review = await asyncio.to_thread(strategy_review, compiled, named.origin, data)
        if data is not None and review["conditions"]["rows"]:
            await self._note(data, review_text(compiled.fingerprint()))
        return review

    async def code(self, code: str) -> Brief:
        """Return the review of code written elsewhere."""
        return await asyncio.to_thread(code_review, code)

    async def scenarios(self, strategy: str | Mapping[str, Any]) -> Brief:
        """Return runnable scenarios on the interval of the longest stored market, and store the made-up candles."""
        named = await self._strategies.resolve(strategy)
        compiled = compile_strategy(named.parsed)
        longest = await self._markets.best()
        interval = _fitting_interval(compiled, None if longest is None else longest.series.interval)
        made_up = {} if compiled.series & set(EXTRA_SERIES) else await self._made_up(interval)
        data = await self._markets.best(interval=interval)
        brief = await asyncio.to_thread(scenario_brief, compiled, interval, made_up, data)
        if data is not None:
            # The style tells how prices moved around the entries.
            await self._note(data, review_text(compiled.fingerprint()))
        return brief

    async def _made_up(self, interval: Interval) -> dict[str, Candles]:
        found: dict[str, Candles] = {}
        for character in CHARACTERS:
            candles = await asyncio.to_thread(scenario_candles, character, interval)
            series = character.series(self._feed.name, interval)
            end_ms = next_open(interval, int(candles.ts[-1]))
            await self._store.commit_page(
                series,
                candles,
                start_ms=int(candles.ts[0]),
                end_ms=end_ms,
                source="simulated",
                at_ms=self._clock.now_ms(),
            )
            found[character.name] = candles
        return found


def _fitting_interval(compiled: CompiledStrategy, wished: Interval | None) -> Interval:
    """Return an interval on which every `tf` of the strategy stands, the wished one if it may be."""
    candidates: list[Interval] = [*((wished,) if wished else ()), "60", "15", "5", "1"]
    for interval in candidates:
        try:
            for frame in compiled.higher_timeframes:
                check_nesting(frame, interval)
        except BadRequest:
            continue
        if interval not in ("W", "M"):
            return interval
    raise BadRequest(
        f"no interval fits under tf {', '.join(sorted(compiled.higher_timeframes))}",
        fix="use a timeframe of minutes or D",
    )
