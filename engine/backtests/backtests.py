"""Runs backtests, stores them under the hash of their manifest, reads them again and proves them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.backtests.blocks import Block, tables_of
from engine.backtests.causality import prove_run
from engine.backtests.computation import Outcome, canonical_json, compute, fitting_rules, instrument_rules
from engine.backtests.evaluation import evaluation_of, evaluation_slice
from engine.backtests.expression_values import values_card, values_of
from engine.backtests.pictures import ChartKind, draw
from engine.backtests.portfolios import Part, Sharing, check_shareable, compute_portfolio
from engine.backtests.presentation import (
    csv_text,
    holdout_warnings,
    run_card,
    run_line,
    study_card,
    symbols_of,
    thinned_equity,
    trade_rows,
    withheld_card,
)
from engine.backtests.recomputation import Recomputed, compare_with_stored, recompute, recompute_unchanged
from engine.backtests.reopening import ReopenedRun, reopen
from engine.backtests.stopping import run_off_loop
from engine.candle_files import read_text_file
from engine.core.candles import Candles
from engine.core.causality import CausalityReport
from engine.core.expressions import tree_of
from engine.core.expressions.looking import is_plain
from engine.core.expressions.warmup import series_used
from engine.core.holdout import Withheld
from engine.core.markets import Instrument
from engine.core.portfolio import Weighting
from engine.core.run_settings import RunSettings
from engine.core.series import Category, Series
from engine.core.strategy import CompiledStrategy, compile_strategy
from engine.core.timeframes import Interval, next_open
from engine.core.times import iso_utc, parse_range_ms
from engine.core.tradingview import Comparison, columns_of, compare_trades, parse_trade_list
from engine.errors import BadRequest, DataMissing, NotFound
from engine.history import History, Report
from engine.instruments import Instruments
from engine.ports import Clock, Feed
from engine.probes import note_probe
from engine.run_inputs import RunInputSource
from engine.store import RunRecord, Store
from engine.strategies import Strategies
from engine.studies import Studies

LISTED_METRICS = ("trades", "total_return", "sharpe", "max_drawdown", "net_profit", "profit_factor", "win_rate")

# Room for the simulation is left within the time of a direct answer.
GATHERING_SECONDS = 35.0


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluated:
    """A computed run, the candles it rests on, and what was kept back of the range asked for."""

    outcome: Outcome
    candles: Candles
    withheld: Withheld | None


class Backtests:
    """Runs backtests and reads stored ones."""

    def __init__(
        self,
        feed: Feed,
        store: Store,
        history: History,
        inputs: RunInputSource,
        instruments: Instruments,
        strategies: Strategies,
        studies: Studies,
        clock: Clock,
    ) -> None:
        self._feed = feed
        self._store = store
        self._history = history
        self._inputs = inputs
        self._instruments = instruments
        self._strategies = strategies
        self._studies = studies
        self._clock = clock

    async def run(  # noqa: PLR0913 - the request of the tool, flat
        self,
        *,
        strategy: str | Mapping[str, Any],
        params: Mapping[str, float],
        symbol: str,
        category: Category,
        interval: Interval,
        start_ms: int,
        end_ms: int,
        settings: RunSettings,
        study: str | None = None,
        sealed: bool | None = None,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """Run, store and return a backtest, and count it as a trial of its study.

        Repeating the same request returns the same run. Of a sealed market only the bars before the seal are used.
        """
        named = await self._strategies.resolve(strategy)
        compiled = compile_strategy(named.parsed, params)
        series = Series(self._feed.name, category, symbol, "trade", interval)
        market = (series.feed, category, (symbol,))
        belongs_to = await self._studies.resolve(study, sealed, *market, (start_ms, end_ms))
        evaluated = await self._evaluate(compiled, named.origin, series, (start_ms, end_ms), settings, report)
        card = await self._stored(evaluated, compiled, series)
        await self._record(evaluated, compiled, series, settings, belongs_to.id, card)
        return card | await self._standing(belongs_to.id, card, evaluated.withheld)

    async def run_shared(  # noqa: PLR0913 - the request of the tool, flat
        self,
        *,
        strategy: str | Mapping[str, Any],
        params: Mapping[str, float],
        symbols: Sequence[str],
        weights: Weighting,
        max_positions: int | None,
        category: Category,
        interval: Interval,
        start_ms: int,
        end_ms: int,
        settings: RunSettings,
        study: str | None = None,
        sealed: bool | None = None,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """Run one strategy over several symbols with shared capital; stored, named and counted as a run of one is."""
        named = await self._strategies.resolve(strategy)
        compiled = compile_strategy(named.parsed, params)
        series = [Series(self._feed.name, category, symbol, "trade", interval) for symbol in symbols]
        check_shareable(compiled, series, settings)
        range_ms = (start_ms, end_ms)
        market = (self._feed.name, category, tuple(symbols))
        belongs_to = await self._studies.resolve(study, sealed, *market, range_ms)
        parts = await self._parts(compiled, series, range_ms, settings, report)
        seals = [part.loaded.withheld for part in parts if part.loaded.withheld is not None]
        withheld = min(seals, key=lambda seal: seal.from_ms, default=None)
        if withheld is not None:
            # All end with the first that must.
            range_ms = (start_ms, withheld.last_open_ms(interval))
            parts = await self._parts(compiled, series, range_ms, settings, report)
        sharing = Sharing(weights, max_positions)
        outcome = await run_off_loop(
            lambda should_stop: compute_portfolio(
                compiled, named.origin, parts, range_ms, settings, sharing, should_stop=should_stop
            )
        )
        evaluated = _Evaluated(outcome, outcome.candles, withheld)
        card = await self._stored(evaluated, compiled, series[0])
        together = replace(series[0], symbol=",".join(symbols))
        await self._record(evaluated, compiled, together, settings, belongs_to.id, card)
        return card | await self._standing(belongs_to.id, card, withheld)

    async def _standing(self, study_id: str, card: Mapping[str, Any], withheld: Withheld | None) -> dict[str, Any]:
        """Return what an evaluation tells of its study: a holdout that confirms nothing is told before it is trusted."""
        study = await self._store.study(study_id)
        warnings = [*card["warnings"], *holdout_warnings(study)]
        return {"study": study_card(study), "withheld": withheld_card(withheld), "warnings": warnings}

    async def _parts(
        self,
        compiled: CompiledStrategy,
        series: Sequence[Series],
        range_ms: tuple[int, int],
        settings: RunSettings,
        report: Report | None,
    ) -> list[Part]:
        try:
            async with asyncio.timeout(GATHERING_SECONDS):
                return [await self._part(compiled, one, range_ms, settings, report) for one in series]
        except TimeoutError as error:
            raise DataMissing(
                f"gathering the data of {len(series)} symbols takes longer than a direct answer may",
                fix="call again: what was fetched is kept; or call start_backfill for each symbol first",
            ) from error

    async def _record(
        self,
        evaluated: _Evaluated,
        compiled: CompiledStrategy,
        series: Series,
        settings: RunSettings,
        study_id: str,
        card: Mapping[str, Any],
    ) -> None:
        """Count a run as a trial of its study."""
        manifest, candles = evaluated.outcome.manifest, evaluated.candles
        legs = evaluated.outcome.shared
        markets = None if legs is None else {symbol: leg.candles for symbol, leg in legs[1].items()}
        trial = evaluation_of(compiled, series, candles, evaluated.outcome.simulation, card["metrics"], markets)
        shared = manifest.get("portfolio")
        described = manifest["inputs"] if shared is None else {"portfolio": shared}
        where = evaluation_slice(series, candles, settings, manifest.get("instrument"), described)
        now_ms, run_id = self._clock.now_ms(), evaluated.outcome.run_id
        await self._store.record_trials(study_id, where, trial, origin=run_id, at_ms=now_ms)
        await self._store.link_run(run_id, study_id, at_ms=now_ms)

    async def evaluate_run(
        self,
        compiled: CompiledStrategy,
        origin: str,
        series: Series,
        range_ms: tuple[int, int],
        settings: RunSettings,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """Run and store a backtest that judges and does not search: it is no trial of any study."""
        evaluated = await self._evaluate(compiled, origin, series, range_ms, settings, report)
        return await self._stored(evaluated, compiled, series)

    async def _evaluate(
        self,
        compiled: CompiledStrategy,
        origin: str,
        series: Series,
        range_ms: tuple[int, int],
        settings: RunSettings,
        report: Report | None,
    ) -> _Evaluated:
        part = await self._part(compiled, series, range_ms, settings, report)
        loaded, inputs = part.loaded, part.inputs
        if loaded.withheld is not None:
            range_ms = (range_ms[0], min(range_ms[1], loaded.withheld.last_open_ms(series.interval)))
        given = (compiled, origin, loaded, series, range_ms, settings, part.rules)
        outcome = await asyncio.to_thread(compute, *given, inputs)
        if settings.intrabar == "magnify" and outcome.simulation.ambiguous_bars:
            stored_tiers = () if part.rules is None else None
            magnified = await self._inputs.gather(
                series, loaded.candles, settings, minutes=True, stored_tiers=stored_tiers, report=report
            )
            outcome = await asyncio.to_thread(compute, *given, replace(magnified, extras=inputs.extras))
        return _Evaluated(outcome, loaded.candles, loaded.withheld)

    async def _part(
        self,
        compiled: CompiledStrategy,
        series: Series,
        range_ms: tuple[int, int],
        settings: RunSettings,
        report: Report | None,
    ) -> Part:
        """Return candles, rules and inputs of one symbol, fetched where they are missing."""
        loaded = await self._history.load(series, *range_ms, report)
        if len(loaded.candles) == 0:
            raise DataMissing(
                f"there are no candles of {series} between {iso_utc(range_ms[0])} and {iso_utc(range_ms[1])}",
                fix="choose a later range: get_instrument shows the launch, get_coverage what is stored",
            )
        instrument = await self._instruments.find_if_reachable(series.category, series.symbol)
        check_leverage(settings, instrument)
        # When the exchange does not even tell the instrument, only what is stored can be used.
        stored_tiers = () if instrument is None else None
        inputs = await self._inputs.gather(series, loaded.candles, settings, stored_tiers=stored_tiers, report=report)
        extras = await self._inputs.extras(series, loaded.candles, compiled.series)
        return Part(series, loaded, fitting_rules(instrument_rules(instrument), loaded), replace(inputs, extras=extras))

    async def _stored(self, evaluated: _Evaluated, compiled: CompiledStrategy, series: Series) -> dict[str, Any]:
        outcome = evaluated.outcome
        try:
            return run_card(await self._store.run(outcome.run_id))
        except NotFound:
            pass
        metrics = outcome.result["metrics"]
        record = RunRecord(
            id=outcome.run_id,
            created_ms=self._clock.now_ms(),
            name=compiled.name,
            strategy=compiled.name,
            category=series.category,
            symbol=outcome.result["data"]["symbol"],
            interval=series.interval,
            source=outcome.result["data"]["source"],
            manifest=canonical_json(outcome.manifest),
            result=canonical_json(outcome.result),
            metrics={name: metrics[name] for name in LISTED_METRICS},
            feed=series.feed,
            end_ms=next_open(series.interval, int(evaluated.candles.ts[-1])),
        )
        await self._store.save_run(record, trades=outcome.trades, equity=outcome.equity)
        return run_card(record)

    async def card(self, run_id: str, equity_points: int, blocks: Sequence[Block] = ()) -> dict[str, Any]:
        """Return a stored run with its settings and, when asked for, its daily equity, thinned, and tables."""
        record = await self.record(run_id)
        card = run_card(record) | {"settings": json.loads(record.manifest)["settings"]}
        if equity_points:
            card["equity"] = thinned_equity(await self._store.run_equity(run_id), equity_points)
        if blocks:
            again = await self._unchanged(run_id)
            card["blocks"] = await asyncio.to_thread(tables_of, again.outcome, blocks)
        return card

    async def list(
        self, *, strategy: str | None, symbol: str | None, sort: str, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], int, str | None, int]:
        """Return lines of stored runs, best or newest first, their number, the cursor of the next page, and how many are withheld."""
        page = await self._store.list_runs(
            strategy=strategy,
            symbol=symbol,
            sort=sort,
            descending=sort != "max_drawdown",
            limit=limit,
            cursor=cursor,
        )
        rows = [run_line(await self._store.run(summary.id)) for summary in page.items]
        return rows, page.total, page.next_cursor, page.withheld

    async def trades(self, run_id: str, sort: str, limit: int, offset: int) -> tuple[list[dict[str, Any]], int, float]:
        """Return some trades of a run, how many there are, and the sum of all their profits."""
        symbols = symbols_of(await self.record(run_id))
        columns = await self._store.run_trades(run_id)
        order = np.arange(len(columns["pnl"]))
        if sort != "time":
            order = np.argsort(columns["pnl"], kind="stable")
            order = order[::-1] if sort == "best" else order
        rows = trade_rows(columns, order[offset : offset + limit], symbols)
        return rows, len(order), float(columns["pnl"].sum())

    async def trades_csv(self, run_id: str) -> str:
        """Return all trades of a run as CSV text."""
        symbols = symbols_of(await self.record(run_id))
        columns = await self._store.run_trades(run_id)
        rows = trade_rows(columns, np.arange(len(columns["pnl"])), symbols)
        names = ["symbol", "side", "entry_time", "entry_price", "exit_time", "exit_price", "pnl"]
        header = list(rows[0]) if rows else names
        return csv_text(header, [list(row.values()) for row in rows])

    async def equity_csv(self, run_id: str) -> str:
        """Return the bar-by-bar equity of a run as CSV text; recomputed, so the candles must still be the same."""
        times, equity = await self.equity_curve(run_id)
        return csv_text(
            ["time", "equity"],
            [[iso_utc(at), value] for at, value in zip(times.tolist(), equity.tolist(), strict=True)],
        )

    async def equity_curve(self, run_id: str) -> tuple[Any, Any]:
        """Return bar opens (int64 ms) and equity at their closes (float64) of a stored run."""
        again = await self._unchanged(run_id)
        return again.candles.ts, again.outcome.simulation.equity

    async def chart(self, run_id: str, kind: ChartKind, range_ms: tuple[int, int] | None) -> bytes:
        """Return a PNG of a stored run."""
        again = await self._unchanged(run_id)
        return await asyncio.to_thread(draw, run_id, again.outcome, again.candles, kind, range_ms)

    async def compare_with_list(self, run_id: str, path: str, utc_offset_minutes: int) -> Comparison:
        """Compare a stored run with a list of trades exported by TradingView."""
        text = await asyncio.to_thread(read_text_file, path)
        theirs = parse_trade_list(text, utc_offset_minutes=utc_offset_minutes)
        again = await self._unchanged(run_id)
        outcome, candles = again.outcome, again.candles
        if outcome.shared is not None:
            raise BadRequest(
                f"{run_id} trades several symbols, and a list of trades is of one",
                fix="run the backtest of that symbol alone with symbol, and compare that run",
            )
        rules = outcome.manifest["instrument"] or {}
        ours = columns_of(outcome.simulation.trades, candles)
        tick, inverse = float(rules.get("tick_size") or 0), outcome.manifest["data"]["category"] == "inverse"
        return await asyncio.to_thread(compare_trades, theirs, ours, candles, tick=tick, inverse=inverse)

    async def prove_causality(self, run_id: str, cuts: int) -> CausalityReport:
        """Replay a stored run on cut and made-up futures: nothing before the cut may change."""
        return await prove_run(await self._unchanged(run_id), self._inputs, cuts)

    async def reopen(self, run_id: str) -> ReopenedRun:
        """Return a stored run ready to be examined."""
        return await reopen(await self.record(run_id), self._store, self._inputs)

    async def _unchanged(self, run_id: str) -> Recomputed:
        return await recompute_unchanged(await self.record(run_id), self._store, self._inputs)

    async def reproduce(self, run_id: str) -> dict[str, Any]:
        """Run a stored manifest again and compare bytes."""
        record = await self.record(run_id)
        trades = await self._store.run_trades(run_id)
        return compare_with_stored(record, trades, await recompute(record, self._store, self._inputs))

    async def record(self, run_id: str) -> RunRecord:
        """Return a stored run; an unknown one is NotFound with the latest ones."""
        try:
            return await self._store.run(run_id)
        except NotFound as error:
            latest = await self._store.list_runs(limit=3)
            known = ", ".join(row.id for row in latest.items) or "none yet: run_backtest makes one"
            raise NotFound(error.message, fix=f"the latest runs: {known}") from error

    async def evaluate(  # noqa: PLR0913 - the request of the tool, flat
        self,
        expression: str,
        params: Mapping[str, float],
        symbol: str,
        category: Category,
        interval: Interval,
        start: str,
        end: str,
        limit: int,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """Evaluate one expression over a range of candles."""
        tree = tree_of(expression, params)
        start_ms, end_ms = parse_range_ms(start, end)
        series = Series(self._feed.name, category, symbol, "trade", interval)
        loaded = await self._history.load(series, start_ms, end_ms, report)
        if len(loaded.candles) == 0:
            raise DataMissing(f"there are no candles of {series} in that range", fix="choose a later range")

        extras = await self._inputs.extras(series, loaded.candles, series_used(tree))
        values = await asyncio.to_thread(values_of, tree, loaded.candles, interval, extras)
        is_probe = not is_plain(expression)
        if is_probe:
            await note_probe(self._store, series, tree.text, loaded.candles, at_ms=self._clock.now_ms())
        told = values_card(tree, series, loaded.candles, values, limit)
        return told | {"counted": is_probe, "source": loaded.source, "withheld": withheld_card(loaded.withheld)}


def check_leverage(settings: RunSettings, instrument: Instrument | None) -> None:
    """Refuse a leverage that the instrument does not allow."""
    most = None if instrument is None else instrument.max_leverage
    if most is not None and settings.leverage > float(most):
        raise BadRequest(
            f"leverage {settings.leverage:g} is above the {float(most):g} that the instrument allows",
            fix=f"settings.leverage is 1 to {float(most):g}",
        )
