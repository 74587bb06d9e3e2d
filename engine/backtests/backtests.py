"""Runs backtests, stores them under the hash of their manifest, reads them again and proves them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from engine.backtests.blocks import Block, tables_of
from engine.backtests.computation import (
    ENGINE_VERSION,
    Outcome,
    canonical_json,
    compute,
    fitting_rules,
    instrument_rules,
)
from engine.backtests.evaluation import evaluation_of, evaluation_slice
from engine.backtests.pictures import ChartKind, draw
from engine.backtests.portfolios import Part, Sharing, check_shareable, compute_portfolio
from engine.backtests.presentation import (
    condition_summary,
    csv_text,
    number_summary,
    plain_value,
    run_card,
    study_card,
    symbols_of,
    trade_rows,
    withheld_card,
)
from engine.backtests.reopening import ReopenedRun, reopen
from engine.candle_files import read_text_file
from engine.core.candles import Candles
from engine.core.causality import CausalityReport, prove_causality
from engine.core.expressions import Evaluator, tree_of
from engine.core.expressions.warmup import series_used, warmup_bars
from engine.core.holdout import Withheld
from engine.core.markets import Instrument
from engine.core.portfolio import Weighting
from engine.core.run_settings import RunSettings
from engine.core.series import Category, Series
from engine.core.strategy import CompiledStrategy, compile_strategy, parse_strategy
from engine.core.timeframes import Interval, next_open
from engine.core.times import iso_utc, parse_range_ms
from engine.core.tradingview import Comparison, columns_of, compare_trades, parse_trade_list
from engine.errors import BadRequest, DataMissing, NotFound
from engine.history import History, LoadedCandles, Report
from engine.instruments import Instruments
from engine.ports import Clock, Feed
from engine.run_inputs import RunInputSource, tiers_from_manifest
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
        told = study_card(await self._store.study(belongs_to.id))
        return card | {"study": told, "withheld": withheld_card(evaluated.withheld)}

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
        outcome = await asyncio.to_thread(compute_portfolio, compiled, named.origin, parts, range_ms, settings, sharing)
        evaluated = _Evaluated(outcome, outcome.candles, withheld)
        card = await self._stored(evaluated, compiled, series[0])
        together = replace(series[0], symbol=",".join(symbols))
        await self._record(evaluated, compiled, together, settings, belongs_to.id, card)
        told = study_card(await self._store.study(belongs_to.id))
        return card | {"study": told, "withheld": withheld_card(withheld)}

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
        trial = evaluation_of(compiled, series, candles, evaluated.outcome.simulation, card["metrics"])
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
            columns = await self._store.run_equity(run_id)
            rows = np.unique(np.linspace(0, len(columns["ts"]) - 1, min(equity_points, len(columns["ts"]))).astype(int))
            card["equity"] = {
                "columns": ["time", "equity"],
                "rows": [[iso_utc(int(columns["ts"][row])), float(columns["equity"][row])] for row in rows],
                "days": len(columns["ts"]),
            }
        if blocks:
            outcome, _ = await self._unchanged(run_id)
            card["blocks"] = await asyncio.to_thread(tables_of, outcome, blocks)
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
        rows: list[dict[str, Any]] = []
        for summary in page.items:
            result = json.loads((await self._store.run(summary.id)).result)
            rows.append(
                {
                    "run_id": summary.id,
                    "created": iso_utc(summary.created_ms),
                    "strategy": summary.strategy,
                    "params": result["strategy"]["params"],
                    "symbol": summary.symbol,
                    "interval": summary.interval,
                    "start": result["data"]["start"],
                    "end": result["data"]["end"],
                    **{name: result["metrics"][name] for name in ("trades", "total_return", "sharpe", "max_drawdown")},
                    "source": summary.source,
                }
            )
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
        outcome, candles = await self._unchanged(run_id)
        return candles.ts, outcome.simulation.equity

    async def chart(self, run_id: str, kind: ChartKind, range_ms: tuple[int, int] | None) -> bytes:
        """Return a PNG of a stored run."""
        outcome, candles = await self._unchanged(run_id)
        return await asyncio.to_thread(draw, run_id, outcome, candles, kind, range_ms)

    async def compare_with_list(self, run_id: str, path: str, utc_offset_minutes: int) -> Comparison:
        """Compare a stored run with a list of trades exported by TradingView."""
        text = await asyncio.to_thread(read_text_file, path)
        theirs = parse_trade_list(text, utc_offset_minutes=utc_offset_minutes)
        outcome, candles = await self._unchanged(run_id)
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
        outcome, candles = await self._unchanged(run_id)
        manifest = outcome.manifest
        strategy, data = manifest["strategy"], manifest["data"]
        compiled = compile_strategy(parse_strategy(strategy["document"]), strategy["params"])
        alone = {data["symbol"]: candles}
        if outcome.shared is not None:
            alone = {symbol: leg.candles for symbol, leg in outcome.shared[1].items()}
        reports: dict[str, CausalityReport] = {}
        for symbol, own in alone.items():
            series = Series(data["feed"], data["category"], symbol, "trade", data["interval"])
            extras = await self._inputs.extras(series, own, compiled.series)
            reports[symbol] = await asyncio.to_thread(
                prove_causality, compiled, own, series.interval, cuts=-(-cuts // len(alone)), seed=0, extras=extras
            )
        return reports[data["symbol"]] if outcome.shared is None else _joined(reports)

    async def reopen(self, run_id: str) -> ReopenedRun:
        """Return a stored run ready to be examined."""
        return await reopen(await self.record(run_id), self._store, self._inputs)

    async def _unchanged(self, run_id: str) -> tuple[Outcome, Candles]:
        outcome, candles, unchanged = await self._again(await self.record(run_id))
        if not unchanged:
            raise DataMissing(
                f"the data of {run_id} have changed or are gone, so it cannot be shown again",
                fix="run the backtest again; get_run and get_trades still show the stored one",
            )
        return outcome, candles

    async def reproduce(self, run_id: str) -> dict[str, Any]:
        """Run a stored manifest again and compare bytes."""
        record = await self.record(run_id)
        stored_trades = await self._store.run_trades(run_id)
        stored = Outcome(
            json.loads(record.manifest),
            json.loads(record.result),
            dict(stored_trades),
            {},
            cast("Any", None),
            cast("Any", None),
        )
        again, _, unchanged = await self._again(record)
        differences: list[str] = []
        if not unchanged:
            differences.append("the stored candles are not those of the run")
        differences += [
            f"metric {name}: was {stored.result['metrics'][name]!r}, is {value!r}"
            for name, value in again.result["metrics"].items()
            if stored.result["metrics"].get(name) != value
        ]
        if stored.sha256 != again.sha256 and not differences:
            differences.append("trades or provenance differ")
        return {
            "run_id": run_id,
            "identical": stored.sha256 == again.sha256,
            "data_unchanged": unchanged,
            "differences": differences[:20],
            "stored_sha256": stored.sha256,
            "recomputed_sha256": again.sha256,
            "engine_then": stored.manifest["engine"],
            "engine_now": ENGINE_VERSION,
        }

    async def _again(self, record: RunRecord) -> tuple[Outcome, Candles, bool]:
        manifest = json.loads(record.manifest)
        if "portfolio" in manifest:
            return await self._shared_again(record.id, manifest)
        data = manifest["data"]
        series = Series(data["feed"], data["category"], data["symbol"], "trade", data["interval"])
        start_ms, end_ms = data["start_ms"], data["end_ms"]
        candles = await self._stored_candles(record.id, series, start_ms, end_ms)
        compiled = compile_strategy(parse_strategy(manifest["strategy"]["document"]), manifest["strategy"]["params"])
        loaded = LoadedCandles(candles, data["source"], tuple(tuple(gap) for gap in data["gaps"]), 0)
        settings, described = RunSettings.model_validate(manifest["settings"]), manifest["inputs"]
        inputs = await self._inputs.gather(
            series,
            candles,
            settings,
            minutes=described["minutes_sha256"] is not None,
            stored_tiers=tiers_from_manifest(described.get("tiers")),
            closing_settlement=described.get("closing_settlement", True),
        )
        inputs = replace(inputs, extras=await self._inputs.extras(series, candles, compiled.series))
        outcome = await asyncio.to_thread(
            compute,
            compiled,
            manifest["strategy"]["origin"],
            loaded,
            series,
            (start_ms, end_ms),
            settings,
            manifest["instrument"],
            inputs,
        )
        return outcome, candles, candles.sha256() == data["sha256"] and inputs.described == described

    async def _shared_again(self, run_id: str, manifest: dict[str, Any]) -> tuple[Outcome, Candles, bool]:
        data, shared = manifest["data"], manifest["portfolio"]
        range_ms = (data["start_ms"], data["end_ms"])
        settings = RunSettings.model_validate(manifest["settings"])
        compiled = compile_strategy(parse_strategy(manifest["strategy"]["document"]), manifest["strategy"]["params"])
        parts: list[Part] = []
        unchanged = True
        for leg in shared["legs"]:
            series = Series(data["feed"], data["category"], leg["symbol"], "trade", data["interval"])
            candles = await self._stored_candles(run_id, series, *range_ms)
            tiers = tiers_from_manifest(leg["inputs"].get("tiers"))
            inputs = await self._inputs.gather(series, candles, settings, stored_tiers=tiers)
            inputs = replace(inputs, extras=await self._inputs.extras(series, candles, compiled.series))
            loaded = LoadedCandles(candles, leg["source"], tuple(tuple(gap) for gap in leg["gaps"]), 0)
            parts.append(Part(series, loaded, leg["instrument"], inputs))
            unchanged &= candles.sha256() == leg["sha256"] and inputs.described == leg["inputs"]
        sharing = Sharing(shared["weights"], shared["max_positions"])
        outcome = await asyncio.to_thread(
            compute_portfolio, compiled, manifest["strategy"]["origin"], parts, range_ms, settings, sharing
        )
        return outcome, outcome.candles, unchanged

    async def _stored_candles(self, run_id: str, series: Series, start_ms: int, end_ms: int) -> Candles:
        candles = await self._store.read_candles(series, start_ms, end_ms)
        if len(candles) == 0:
            raise DataMissing(
                f"the candles of {run_id} are not stored any more",
                fix=f"fetch {series} from {iso_utc(start_ms)} to {iso_utc(end_ms)} again with start_backfill",
            )
        return candles

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

        def column() -> Any:
            evaluator = Evaluator(loaded.candles, interval, extras=extras)
            evaluator.expect([tree])
            return evaluator.conditions(tree) if tree.boolean else evaluator.numbers(tree)

        values = await asyncio.to_thread(column)
        times = loaded.candles.ts[-limit:].tolist()
        shown = [plain_value(value) for value in values[-limit:].tolist()]
        return {
            "expression": tree.text,
            "type": "condition" if tree.boolean else "number",
            "symbol": symbol,
            "interval": interval,
            "warmup_bars": warmup_bars(tree, interval, int(loaded.candles.ts[0])),
            "bars": len(values),
            "columns": ["time", "value"],
            "rows": [[iso_utc(at), value] for at, value in zip(times, shown, strict=True)],
            "summary": condition_summary(values) if tree.boolean else number_summary(values),
            "source": loaded.source,
            "withheld": withheld_card(loaded.withheld),
        }


def _joined(reports: Mapping[str, CausalityReport]) -> CausalityReport:
    """Return the proofs of several symbols as one; a leak names its symbol."""
    return CausalityReport(
        cuts=tuple(cut for report in reports.values() for cut in report.cuts),
        comparisons=sum(report.comparisons for report in reports.values()),
        compared_trades=sum(report.compared_trades for report in reports.values()),
        leaks=tuple(
            replace(leak, what=f"{symbol} {leak.what}") for symbol, report in reports.items() for leak in report.leaks
        ),
        lag=None,
    )


def check_leverage(settings: RunSettings, instrument: Instrument | None) -> None:
    """Refuse a leverage that the instrument does not allow."""
    most = None if instrument is None else instrument.max_leverage
    if most is not None and settings.leverage > float(most):
        raise BadRequest(
            f"leverage {settings.leverage:g} is above the {float(most):g} that the instrument allows",
            fix=f"settings.leverage is 1 to {float(most):g}",
        )
