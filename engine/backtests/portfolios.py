"""One strategy over several symbols with shared capital, as a pure computation that leaves what a single run leaves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.backtests.computation import (
    ENGINE_VERSION,
    Outcome,
    document_of,
    execution_settings,
    exits_of,
    rule_warnings,
    skipped_entries,
    strategy_facts,
)
from engine.backtests.presentation import JOINT, trade_columns
from engine.backtests.stopping import ShouldStop, never, stop_if
from engine.backtests.wording import (
    assumptions_of,
    data_warnings,
    sharing_assumptions,
    tell_together,
    trading_warnings,
)
from engine.core.candles import Candles, FloatColumn
from engine.core.execution import Intrabar
from engine.core.metrics import compute_metrics, daily_marks
from engine.core.portfolio import (
    ALONE,
    Leg,
    PortfolioResult,
    PortfolioSettings,
    Weighting,
    basket_candles,
    check_portfolio_accounting,
    combined_simulation,
    correlation_table,
    daily_changes,
    refuse_unmodelled,
    simulate_portfolio,
)
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.signals import compute_signals
from engine.core.simulation import Simulation
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import Interval
from engine.core.times import iso_utc
from engine.errors import BadRequest, LabError, TooLarge
from engine.history import LoadedCandles
from engine.run_inputs import RunInputs

# Symbols times bars: the account keeps a few columns of that size.
MOST_CELLS = 2_000_000
FEWEST_RETURNS = 3
# Entries that a symbol alone might have made.
_REFUSALS = ("no_free_slot", "insufficient_margin")


@dataclass(frozen=True, slots=True)
class Sharing:
    """How the symbols of a run share its capital."""

    weights: Weighting = "equal"
    max_positions: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One symbol of a run: its candles, the rules of its market, and what stands beside them."""

    series: Series
    loaded: LoadedCandles
    rules: Mapping[str, str | None] | None
    inputs: RunInputs

    @property
    def symbol(self) -> str:
        """Return the symbol."""
        return self.series.symbol


def check_shareable(compiled: CompiledStrategy, series: Sequence[Series], settings: RunSettings) -> None:
    """Refuse, before anything is fetched, what shared capital does not model."""
    if len({one.symbol for one in series}) < len(series):
        raise BadRequest("a symbol is named twice", fix="name each of symbols once")
    if series[0].category == "inverse":
        raise BadRequest(
            "inverse contracts settle each in its own coin, so their capital cannot be shared",
            fix=f'set category "linear", {ALONE}',
        )
    refuse_unmodelled(
        has_partial_targets=bool(compiled.partials),
        max_entries=compiled.max_entries,
        has_order=compiled.order is not None,
        intrabar=settings.intrabar,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """Everything a run depends on, its legs laid out, and the hash of each symbol's candles."""

    compiled: CompiledStrategy
    origin: str
    parts: Sequence[Part]
    range_ms: tuple[int, int]
    settings: RunSettings
    sharing: Sharing
    legs: dict[str, Leg]
    shared: PortfolioSettings
    digests: Sequence[str]

    @property
    def interval(self) -> Interval:
        return self.parts[0].series.interval


def compute_portfolio(
    compiled: CompiledStrategy,
    origin: str,
    parts: Sequence[Part],
    range_ms: tuple[int, int],
    settings: RunSettings,
    sharing: Sharing,
    *,
    should_stop: ShouldStop = never,
) -> Outcome:
    """Return what a portfolio run leaves, from its inputs alone: no clock, no store, no network."""
    currency = _common_currency(parts)
    _check_size(parts)
    request = _Request(
        compiled, origin, parts, range_ms, settings, sharing,
        legs=_legs(compiled, parts, settings, should_stop),
        shared=PortfolioSettings(
            capital=settings.capital_in(parts[0].series.category),
            weighting=sharing.weights,
            max_positions=sharing.max_positions,
        ),
        digests=[part.loaded.candles.sha256() for part in parts],
    )  # fmt: skip
    found = simulate_portfolio(request.legs, request.shared, cancelled=should_stop)
    if broken := check_portfolio_accounting(found, request.legs, request.shared.capital):
        raise LabError(f"the run does not add up: {'; '.join(broken)}", fix="please report this with the run's inputs")
    simulation, symbols = combined_simulation(found, request.legs)
    basket = basket_candles(found, request.legs)
    strategy, data = strategy_facts(compiled, origin), _data(request, found, currency)
    result = _result(request, found, simulation, basket, should_stop)
    marks_ts, marks = daily_marks(found.ts, simulation.equity, request.interval)
    return Outcome(
        _manifest(request, strategy, data),
        {"strategy": strategy, "data": data | _data_facts(request)} | result,
        trade_columns(simulation.trades, basket) | {"symbol": symbols},
        {"ts": marks_ts, "equity": marks},
        simulation,
        basket,
        (found, request.legs),
    )


def _result(
    request: _Request, found: PortfolioResult, simulation: Simulation, basket: Candles, should_stop: ShouldStop
) -> dict[str, Any]:
    """Return what is told of a run beside its strategy and data."""
    legs, parts, sharing, interval = request.legs, request.parts, request.sharing, request.interval
    execution = replace(legs[parts[0].symbol].execution, capital=request.shared.capital)
    measured = compute_metrics(simulation, basket, interval, execution, unmodelled=_unmodelled(parts))
    skipped = skipped_entries(simulation, sum(leg.signals.void_entries for leg in legs.values()))
    return {
        "metrics": dict(measured.values),
        "undefined": dict(measured.reasons),
        "portfolio": _shares(found, legs, sharing, interval),
        "intrabar": _extremes(simulation, legs, request.shared, should_stop),
        "exits": exits_of(simulation),
        "skipped_entries": skipped,
        "assumptions": [
            *sharing_assumptions(execution, sharing.weights, sharing.max_positions, len(parts)),
            *assumptions_of(execution, simulation, rounding=_rounding(legs)),
            *tell_together({part.symbol: part.inputs.assumptions for part in parts}),
        ],
        "warnings": [
            *request.compiled.warnings,
            *tell_together({part.symbol: _part_warnings(part, request) for part in parts}),
            *trading_warnings(simulation, skipped),
        ],
    }


def _manifest(request: _Request, strategy: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run depends on, so that it can be run again."""
    start_ms, end_ms = request.range_ms
    described = zip(request.parts, request.digests, strict=True)
    return {
        "engine": ENGINE_VERSION,
        "strategy": {**strategy, "document": document_of(request.compiled)},
        "data": {**data, "feed": request.parts[0].series.feed, "start_ms": start_ms, "end_ms": end_ms},
        "settings": request.settings.model_dump(mode="json"),
        "portfolio": {
            "weights": request.sharing.weights,
            "max_positions": request.sharing.max_positions,
            "volatility_bars": request.shared.volatility_bars,
            "legs": [_described(part, digest) for part, digest in described],
        },
    }


def correlations_of(outcome: Outcome) -> dict[str, list[list[float | None]]]:
    """Return the correlation tables of daily price returns and of daily profits; None where one never moved."""
    if outcome.shared is None:
        raise BadRequest(
            "a run of one symbol has no correlations", fix="leave correlations out of blocks, or run several symbols"
        )
    found, legs = outcome.shared
    returns, profits = daily_changes(found, legs, outcome.manifest["data"]["interval"])
    return {"returns": _table(returns), "profits": _table(profits)}


def _legs(
    compiled: CompiledStrategy, parts: Sequence[Part], settings: RunSettings, should_stop: ShouldStop
) -> dict[str, Leg]:
    """Return what the strategy decides on each symbol, and the rules it trades by there."""
    legs: dict[str, Leg] = {}
    for part in parts:
        stop_if(should_stop)
        candles, inputs = part.loaded.candles, part.inputs
        signals = compute_signals(compiled, candles, part.series.interval, extras=inputs.extras)
        execution = execution_settings(settings, compiled.size, part.series.category, part.rules, inputs)
        legs[part.symbol] = Leg(candles, signals, execution, inputs.detail)
    return legs


def _common_currency(parts: Sequence[Part]) -> str | None:
    known = {part.rules["settle_coin"] for part in parts if part.rules is not None}
    if len(known) > 1:
        raise BadRequest(
            f"the symbols settle in {', '.join(sorted(str(coin) for coin in known))}",
            fix="name symbols of one settlement currency; get_instrument shows settle_coin",
        )
    return known.pop() if known else None


def _check_size(parts: Sequence[Part]) -> None:
    bars = max(len(part.loaded.candles) for part in parts)
    if bars * len(parts) > MOST_CELLS:
        raise TooLarge(
            f"{len(parts)} symbols of {bars:,} bars are more than the {MOST_CELLS:,} bars that one portfolio run takes",
            fix="name fewer symbols, a shorter range or a longer interval",
        )


def _data(request: _Request, found: PortfolioResult, currency: str | None) -> dict[str, Any]:
    parts, range_ms = request.parts, request.range_ms
    return {
        "symbol": JOINT.join(part.symbol for part in parts),
        "category": parts[0].series.category,
        "interval": request.interval,
        "start": iso_utc(range_ms[0]),
        "end": iso_utc(range_ms[1]),
        "bars": len(found.ts),
        "first_bar": iso_utc(int(found.ts[0])),
        "last_bar": iso_utc(int(found.ts[-1])),
        "currency": currency,
        "source": "+".join(sorted({name for part in parts for name in part.loaded.source.split("+")})),
        "sha256": hashlib.sha256("".join(request.digests).encode()).hexdigest(),
    }


def _data_facts(request: _Request) -> dict[str, int]:
    """Return what a result tells of its data beyond what the manifest keeps."""
    first = request.legs[request.parts[0].symbol]
    return {
        "warmup_bars": first.signals.warmup_bars,
        "gaps": sum(len(part.loaded.gaps) for part in request.parts),
    }


def _described(part: Part, digest: str) -> dict[str, Any]:
    return {
        "symbol": part.symbol,
        "bars": len(part.loaded.candles),
        "source": part.loaded.source,
        "sha256": digest,
        "gaps": [list(gap) for gap in part.loaded.gaps],
        "instrument": part.rules,
        "inputs": part.inputs.described,
    }


def _unmodelled(parts: Sequence[Part]) -> dict[str, str]:
    told: dict[str, dict[str, list[str]]] = {}
    for part in parts:
        for metric, reason in part.inputs.unmodelled.items():
            told.setdefault(metric, {}).setdefault(part.symbol, []).append(reason)
    nobody: dict[str, list[str]] = {part.symbol: [] for part in parts}
    return {metric: "; ".join(tell_together(nobody | reasons)) for metric, reasons in told.items()}


def _part_warnings(part: Part, request: _Request) -> list[str]:
    warmup = request.legs[part.symbol].signals.warmup_bars
    told = data_warnings(part.loaded, warmup, part.series, request.settings, request.range_ms)
    return [*told, *rule_warnings(part.rules), *part.inputs.warnings]


def _rounding(legs: Mapping[str, Leg]) -> str:
    rounded = sum(leg.execution.round_to_lot for leg in legs.values())
    if rounded == 0:
        return "quantities and prices are not rounded"
    if rounded == len(legs):
        return "quantities, levels and smallest orders by each symbol's own rules (get_instrument)"
    whole = ", ".join(symbol for symbol, leg in legs.items() if not leg.execution.round_to_lot)
    return f"quantities, levels and smallest orders by each symbol's own rules; not rounded: {whole}"


def _shares(found: PortfolioResult, legs: Mapping[str, Leg], sharing: Sharing, interval: Interval) -> dict[str, Any]:
    """Return what each symbol brought, rounded to 8 digits."""
    rows: list[list[Any]] = []
    for symbol, part in found.symbols.items():
        trades = part.trades
        money = (float(trades.pnl.sum()), float(trades.fees.sum()), float(trades.funding.sum()))
        refused = sum(part.skipped_entries[reason] for reason in _REFUSALS if reason in part.skipped_entries)
        rows.append([symbol, len(trades), *(float(f"{value:.8g}") for value in money), refused])
    returns, _ = daily_changes(found, legs, interval)
    return {
        "weights": sharing.weights,
        "max_positions": sharing.max_positions,
        "peak_positions": int(found.open_positions.max()),
        "peak_leverage": float(f"{found.peak_leverage:.8g}"),
        "mean_correlation": _mean_correlation(returns),
        "columns": ["symbol", "trades", "net_profit", "fees", "funding", "refused_entries"],
        "rows": rows,
    }


def _table(changes: FloatColumn) -> list[list[float | None]]:
    if changes.shape[1] < FEWEST_RETURNS:
        return [[None] * len(changes) for _ in changes]
    return [
        [None if math.isnan(cell) else round(cell, 2) for cell in row] for row in correlation_table(changes).tolist()
    ]


def _mean_correlation(returns: FloatColumn) -> float | None:
    """Return the mean of the pairs whose correlation is known, None where there is none."""
    if returns.shape[1] < FEWEST_RETURNS or len(returns) < 2:
        return None
    pairs = correlation_table(returns)[np.triu_indices(len(returns), 1)]
    known = pairs[~np.isnan(pairs)]
    return round(float(known.mean()), 4) if len(known) else None


def _extremes(
    simulation: Simulation, legs: Mapping[str, Leg], shared: PortfolioSettings, should_stop: ShouldStop
) -> dict[str, Any]:
    """Return the profit when every ambiguous bar is read one way, and the other way."""
    end = float(simulation.equity[-1])
    ends: dict[Intrabar, float] = {"pessimistic": end, "optimistic": end}
    if simulation.ambiguous_bars:
        is_pessimistic = next(iter(legs.values())).execution.intrabar == "pessimistic"
        other: Intrabar = "optimistic" if is_pessimistic else "pessimistic"
        read = {name: replace(leg, execution=replace(leg.execution, intrabar=other)) for name, leg in legs.items()}
        ends[other] = float(simulate_portfolio(read, shared, cancelled=should_stop).equity[-1])
    return {
        "ambiguous_bars": simulation.ambiguous_bars,
        "decided_bars": 0,
        "pessimistic_net_profit": ends["pessimistic"] - shared.capital,
        "optimistic_net_profit": ends["optimistic"] - shared.capital,
    }
