"""A backtest from request to stored run: strategy, candles (fetched when missing), simulation, figures, provenance."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.expressions import Evaluator, tree_of
from engine.core.expressions.warmup import warmup_bars
from engine.core.markets import Instrument
from engine.core.metrics import METRICS, compute_metrics, daily_marks
from engine.core.run_settings import RunSettings, Size
from engine.core.series import Category, Series
from engine.core.signals import compute_signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.simulator import simulate, simulate_extremes
from engine.core.strategy import CompiledSize, CompiledStrategy, compile_strategy, parse_strategy
from engine.core.timeframes import Interval
from engine.core.times import iso_utc, parse_range_ms
from engine.core.trades import EXIT_REASONS, Trades
from engine.errors import DataMissing, LabError, NotFound
from engine.history import History, LoadedCandles, Report
from engine.instruments import Instruments
from engine.ports import Clock, Feed
from engine.store import RunRecord, Store
from engine.strategies import Strategies

# Part of every manifest: a change of figures by a change of code gets a new number.
ENGINE_VERSION = "1"
LISTED_METRICS = ("trades", "total_return", "sharpe", "max_drawdown", "net_profit", "profit_factor", "win_rate")


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything one computation leaves: the stored texts and columns."""

    manifest: dict[str, Any]
    result: dict[str, Any]
    trades: dict[str, Any]
    equity: dict[str, Any]
    simulation: Simulation

    @property
    def run_id(self) -> str:
        """Return the run's name, which its manifest decides."""
        return "run_" + hashlib.sha256(canonical_json(self.manifest).encode()).hexdigest()[:12]

    @property
    def sha256(self) -> str:
        """Return the hash of result and trades, the bytes that must come out again."""
        digest = hashlib.sha256(canonical_json(self.result).encode())
        for name, column in sorted(self.trades.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def canonical_json(value: object) -> str:
    """Return the one spelling of a document that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Backtests:
    """Runs backtests and reads stored ones."""

    def __init__(
        self,
        feed: Feed,
        store: Store,
        history: History,
        instruments: Instruments,
        strategies: Strategies,
        clock: Clock,
    ) -> None:
        self._feed = feed
        self._store = store
        self._history = history
        self._instruments = instruments
        self._strategies = strategies
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
        report: Report | None = None,
    ) -> dict[str, Any]:
        """Run, store and return a backtest; repeating the same request returns the same run."""
        named = await self._strategies.resolve(strategy)
        compiled = compile_strategy(named.parsed, params)
        series = Series(self._feed.name, category, symbol, "trade", interval)
        loaded = await self._history.load(series, start_ms, end_ms, report)
        if len(loaded.candles) == 0:
            raise DataMissing(
                f"there are no candles of {series} between {iso_utc(start_ms)} and {iso_utc(end_ms)}",
                fix="choose a later range: get_instrument shows the launch, get_coverage what is stored",
            )
        instrument = await self._instruments.find_if_reachable(category, symbol)
        outcome = await asyncio.to_thread(
            compute, compiled, named.origin, loaded, series, (start_ms, end_ms), settings, instrument_rules(instrument)
        )
        return await self._stored(outcome, compiled, series)

    async def _stored(self, outcome: Outcome, compiled: CompiledStrategy, series: Series) -> dict[str, Any]:
        try:
            return _card(await self._store.run(outcome.run_id))
        except NotFound:
            pass
        metrics = outcome.result["metrics"]
        record = RunRecord(
            id=outcome.run_id,
            created_ms=self._clock.now_ms(),
            name=compiled.name,
            strategy=compiled.name,
            category=series.category,
            symbol=series.symbol,
            interval=series.interval,
            source=outcome.result["data"]["source"],
            manifest=canonical_json(outcome.manifest),
            result=canonical_json(outcome.result),
            metrics={name: metrics[name] for name in LISTED_METRICS},
        )
        await self._store.save_run(record, trades=outcome.trades, equity=outcome.equity)
        return _card(record)

    async def card(self, run_id: str, equity_points: int) -> dict[str, Any]:
        """Return a stored run with its settings and, thinned, its daily equity."""
        record = await self._run(run_id)
        card = _card(record) | {"settings": json.loads(record.manifest)["settings"]}
        if equity_points:
            columns = await self._store.run_equity(run_id)
            rows = np.unique(np.linspace(0, len(columns["ts"]) - 1, min(equity_points, len(columns["ts"]))).astype(int))
            card["equity"] = {
                "columns": ["time", "equity"],
                "rows": [[iso_utc(int(columns["ts"][row])), float(columns["equity"][row])] for row in rows],
                "days": len(columns["ts"]),
            }
        return card

    async def list(
        self, *, strategy: str | None, symbol: str | None, sort: str, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], int, str | None]:
        """Return lines of stored runs, best or newest first, their number, and the cursor of the next page."""
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
        return rows, page.total, page.next_cursor

    async def trades(self, run_id: str, sort: str, limit: int, offset: int) -> tuple[list[dict[str, Any]], int, float]:
        """Return some trades of a run, how many there are, and the sum of all their profits."""
        await self._run(run_id)
        columns = await self._store.run_trades(run_id)
        order = np.arange(len(columns["pnl"]))
        if sort != "time":
            order = np.argsort(columns["pnl"], kind="stable")
            order = order[::-1] if sort == "best" else order
        return _trade_rows(columns, order[offset : offset + limit]), len(order), float(columns["pnl"].sum())

    async def trades_csv(self, run_id: str) -> str:
        """Return all trades of a run as CSV text."""
        await self._run(run_id)
        columns = await self._store.run_trades(run_id)
        rows = _trade_rows(columns, np.arange(len(columns["pnl"])))
        header = list(rows[0]) if rows else ["side", "entry_time", "entry_price", "exit_time", "exit_price", "pnl"]
        return _csv(header, [list(row.values()) for row in rows])

    async def equity_csv(self, run_id: str) -> str:
        """Return the bar-by-bar equity of a run as CSV text; recomputed, so the candles must still be the same."""
        times, equity = await self.equity_curve(run_id)
        return _csv(
            ["time", "equity"],
            [[iso_utc(at), value] for at, value in zip(times.tolist(), equity.tolist(), strict=True)],
        )

    async def equity_curve(self, run_id: str) -> tuple[Any, Any]:
        """Return bar opens (int64 ms) and equity at their closes (float64) of a stored run."""
        record = await self._run(run_id)
        outcome, candles, unchanged = await self._again(record)
        if not unchanged:
            raise DataMissing(
                f"the candles of {run_id} have changed or are gone, so its curve cannot be recomputed",
                fix="get_run with equity_points returns the stored daily equity",
            )
        return candles.ts, outcome.simulation.equity

    async def reproduce(self, run_id: str) -> dict[str, Any]:
        """Run a stored manifest again and compare bytes."""
        record = await self._run(run_id)
        stored_trades = await self._store.run_trades(run_id)
        stored = Outcome(
            json.loads(record.manifest), json.loads(record.result), dict(stored_trades), {}, cast("Any", None)
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
        data = manifest["data"]
        series = Series(data["feed"], data["category"], data["symbol"], "trade", data["interval"])
        start_ms, end_ms = data["start_ms"], data["end_ms"]
        candles = await self._store.read_candles(series, start_ms, end_ms)
        if len(candles) == 0:
            raise DataMissing(
                f"the candles of {record.id} are not stored any more",
                fix=f"fetch {series} from {iso_utc(start_ms)} to {iso_utc(end_ms)} again with start_backfill",
            )
        compiled = compile_strategy(parse_strategy(manifest["strategy"]["document"]), manifest["strategy"]["params"])
        loaded = LoadedCandles(candles, data["source"], tuple(tuple(gap) for gap in data["gaps"]), 0)
        outcome = await asyncio.to_thread(
            compute,
            compiled,
            manifest["strategy"]["origin"],
            loaded,
            series,
            (start_ms, end_ms),
            RunSettings.model_validate(manifest["settings"]),
            manifest["instrument"],
        )
        return outcome, candles, candles.sha256() == data["sha256"]

    async def _run(self, run_id: str) -> RunRecord:
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

        def column() -> Any:
            evaluator = Evaluator(loaded.candles, interval)
            evaluator.expect([tree])
            return evaluator.conditions(tree) if tree.boolean else evaluator.numbers(tree)

        values = await asyncio.to_thread(column)
        times = loaded.candles.ts[-limit:].tolist()
        shown = [_plain(value) for value in values[-limit:].tolist()]
        return {
            "expression": tree.text,
            "type": "condition" if tree.boolean else "number",
            "symbol": symbol,
            "interval": interval,
            "warmup_bars": warmup_bars(tree, interval),
            "bars": len(values),
            "columns": ["time", "value"],
            "rows": [[iso_utc(at), value] for at, value in zip(times, shown, strict=True)],
            "summary": _condition_summary(values) if tree.boolean else _number_summary(values),
            "source": loaded.source,
        }


def instrument_rules(instrument: Instrument | None) -> dict[str, str | None] | None:
    """Return the rules a run depends on, as printed, for its manifest."""
    if instrument is None:
        return None
    names = ("tick_size", "lot_step", "min_quantity", "max_market_quantity", "min_notional")
    return {name: None if (value := getattr(instrument, name)) is None else str(value) for name in names}


def compute(
    compiled: CompiledStrategy,
    origin: str,
    loaded: LoadedCandles,
    series: Series,
    range_ms: tuple[int, int],
    settings: RunSettings,
    rules: Mapping[str, str | None] | None,
) -> Outcome:
    """Return what a run leaves, from its inputs alone: no clock, no store, no network."""
    candles = loaded.candles
    execution = execution_settings(settings, compiled.size, series.category, rules)
    signals = compute_signals(compiled, candles, series.interval)
    simulation = simulate(candles, signals, execution)
    if broken := check_accounting(simulation, candles, execution):
        raise LabError(f"the run does not add up: {'; '.join(broken)}", fix="please report this with the run's inputs")
    measured = compute_metrics(simulation, candles, series.interval, execution, unmodelled=_unmodelled(series.category))
    strategy = {
        "name": compiled.name,
        "origin": origin,
        "params": dict(compiled.params),
        "fingerprint": compiled.fingerprint(),
    }
    data = {
        "symbol": series.symbol,
        "category": series.category,
        "interval": series.interval,
        "start": iso_utc(range_ms[0]),
        "end": iso_utc(range_ms[1]),
        "bars": len(candles),
        "source": loaded.source,
        "sha256": candles.sha256(),
    }
    result = {
        "strategy": strategy,
        "data": data | {"warmup_bars": signals.warmup_bars, "gaps": len(loaded.gaps)},
        "metrics": dict(measured.values),
        "undefined": dict(measured.reasons),
        "intrabar": _extremes(simulation, candles, signals, execution),
        "exits": dict(sorted(Counter(EXIT_REASONS[code] for code in simulation.trades.exit_reason.tolist()).items())),
        "skipped_entries": {reason: count for reason, count in simulation.skipped_entries.items() if count},
        "assumptions": _assumptions(execution, settings),
        "warnings": _warnings(compiled, loaded, simulation, series, settings, signals.warmup_bars),
    }
    manifest = {
        "engine": ENGINE_VERSION,
        "strategy": strategy | {"document": compiled.document.model_dump(mode="json", exclude_none=True)},
        "data": data
        | {
            "feed": series.feed,
            "start_ms": range_ms[0],
            "end_ms": range_ms[1],
            "gaps": [list(gap) for gap in loaded.gaps],
        },
        "settings": settings.model_dump(mode="json"),
        "instrument": rules,
    }
    marks_ts, marks = daily_marks(candles.ts, simulation.equity, series.interval)
    return Outcome(
        manifest, result, _trade_columns(simulation.trades, candles), {"ts": marks_ts, "equity": marks}, simulation
    )


def execution_settings(
    settings: RunSettings, size: CompiledSize | None, category: Category, rules: Mapping[str, str | None] | None
) -> ExecutionSettings:
    """Return the simulator's settings: fractions for percent, the instrument's rules, spot without shorts."""
    taker, maker = settings.fees_percent(category)
    mode, value = _size(settings.size, size)
    kept = rules if settings.round_to_lot and rules is not None else {}

    def rule(name: str) -> float:
        return float(kept.get(name) or 0)

    return ExecutionSettings(
        capital=settings.capital,
        category=category,
        taker_fee_fraction=taker / 100,
        maker_fee_fraction=maker / 100,
        slippage_fraction=settings.slippage_percent / 100,
        size_mode=cast("Any", mode),
        size_value=value,
        leverage=settings.leverage,
        intrabar=settings.intrabar,
        round_to_lot=rule("lot_step") > 0,
        lot_step=rule("lot_step"),
        min_quantity=rule("min_quantity"),
        min_notional=rule("min_notional"),
        max_quantity=rule("max_market_quantity"),
        tick_size=rule("tick_size"),
        allow_short=settings.allow_short and category != "spot",
    )


def _size(chosen: Size | None, own: CompiledSize | None) -> tuple[str, float]:
    if chosen is None:
        return ("equity_fraction", 1.0) if own is None else (own.mode, own.value)
    if chosen.risk_percent is not None:
        return "risk", chosen.risk_percent / 100
    return next((name, value) for name, value in chosen.model_dump(exclude_none=True).items())


def _extremes(
    simulation: Simulation, candles: Candles, signals: Any, execution: ExecutionSettings
) -> dict[str, Any] | None:
    if simulation.ambiguous_bars == 0:
        return None
    worst, best = simulate_extremes(candles, signals, execution)
    return {
        "ambiguous_bars": simulation.ambiguous_bars,
        "pessimistic_net_profit": float(worst.equity[-1] - execution.capital),
        "optimistic_net_profit": float(best.equity[-1] - execution.capital),
    }


def _unmodelled(category: Category) -> dict[str, str]:
    if category == "spot":
        return {"funding_paid": "spot has no funding"}
    return {"funding_paid": "funding is not modelled by this version"}


def _assumptions(execution: ExecutionSettings, settings: RunSettings) -> list[str]:
    rounding = "quantities and prices are not rounded"
    if execution.round_to_lot:
        rounding = (
            f"quantity rounded down to {execution.lot_step:g}, levels to tick {execution.tick_size:g}, "
            f"minimum order {execution.min_quantity:g} and {execution.min_notional:g} in value"
        )
    return [
        "signals use closed bars and fill at the next bar's open as market orders; an opposite signal closes and reverses there",
        "stop and target are live from the entry bar; a stop beyond the open fills at the open, a target at the better of open and level",
        f"stop and target in one bar: {'stop' if settings.intrabar == 'pessimistic' else 'target'} first ({settings.intrabar})",
        f"fees {execution.taker_fee_fraction * 100:g} % taker, {execution.target_fee_fraction * 100:g} % for targets (maker); "
        f"slippage {execution.slippage_fraction * 100:g} % on market and stop fills",
        f"size {execution.size_mode} {execution.size_value:g}, leverage {execution.leverage:g}",
        rounding,
        "indicators warm up inside the range; an open position is closed at the last close",
        "ratios from equity at 00:00 UTC, 365 days a year, risk-free rate 0",
    ]


def _warnings(
    compiled: CompiledStrategy,
    loaded: LoadedCandles,
    simulation: Simulation,
    series: Series,
    settings: RunSettings,
    warmup: int,
) -> list[str]:
    found = list(compiled.warnings)
    if series.category != "spot":
        found.append("not modelled: funding payments, margin and liquidation by mark price, 1-minute intrabar order")
    elif settings.allow_short:
        found.append("spot cannot be sold short: short entries only close longs")
    if "simulated" in loaded.source:
        found.append("simulated data: these figures say nothing about a real market")
    if "+" in loaded.source:
        found.append(f"the candles come from several sources: {loaded.source}")
    if loaded.gaps:
        found.append(f"{len(loaded.gaps)} gaps in the candles; bars on both sides are treated as neighbours")
    if warmup >= len(loaded.candles):
        found.append(
            f"the range has {len(loaded.candles)} bars but indicators need {warmup} to warm up: no signal was possible"
        )
    if len(simulation.trades) < 30:
        found.append(f"{len(simulation.trades)} trades are too few to tell skill from luck")
    if simulation.ruined:
        found.append("the capital was lost; nothing was traded from then on")
    if simulation.capped_entries:
        found.append(
            f"{simulation.capped_entries} entries were made smaller to respect the largest order or the leverage"
        )
    return found


def _trade_columns(trades: Trades, candles: Candles) -> dict[str, Any]:
    columns = {name: getattr(trades, name) for name in type(trades).__slots__}
    return columns | {"entry_ts": candles.ts[trades.entry_bar], "exit_ts": candles.ts[trades.exit_bar]}


_TRADE_NUMBERS = ("entry_price", "exit_price", "quantity", "pnl", "fees", "funding", "mae", "mfe")


def _trade_rows(columns: Mapping[str, Any], rows: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        numbers = {name: float(columns[name][row]) for name in _TRADE_NUMBERS}
        found.append(
            {
                "side": "long" if columns["side"][row] > 0 else "short",
                "entry_time": iso_utc(int(columns["entry_ts"][row])),
                "entry_price": numbers["entry_price"],
                "exit_time": iso_utc(int(columns["exit_ts"][row])),
                "exit_price": numbers["exit_price"],
                "quantity": numbers["quantity"],
                "pnl": numbers["pnl"],
                "fees": numbers["fees"],
                "funding": numbers["funding"],
                "exit_reason": EXIT_REASONS[int(columns["exit_reason"][row])],
                "bars": int(columns["bars"][row]),
                "mae": numbers["mae"],
                "mfe": numbers["mfe"],
            }
        )
    return found


def _card(record: RunRecord) -> dict[str, Any]:
    result = json.loads(record.result)
    # The stored text is sorted for its hash; people read figures in the order of the registry.
    result["metrics"] = {name: result["metrics"][name] for name in METRICS if name in result["metrics"]}
    return {"run_id": record.id, "created": iso_utc(record.created_ms), **result}


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    return "\n".join([",".join(header), *(",".join(str(value) for value in row) for row in rows)]) + "\n"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _condition_summary(values: Any) -> dict[str, float | int | None]:
    count = int(values.sum())
    return {"true_bars": count, "true_share": count / len(values)}


def _number_summary(values: Any) -> dict[str, float | int | None]:
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return {"known_bars": 0, "min": None, "p5": None, "median": None, "p95": None, "max": None, "last": None}
    p5, median, p95 = (float(value) for value in np.percentile(known, (5, 50, 95)))
    return {
        "known_bars": len(known),
        "min": float(known.min()),
        "p5": p5,
        "median": median,
        "p95": p95,
        "max": float(known.max()),
        "last": _plain(float(values[-1])),
    }
