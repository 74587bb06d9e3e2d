"""One backtest as a pure computation: everything it depends on goes in, everything that is stored comes out."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from engine.backtests.presentation import trade_columns
from engine.backtests.wording import assumptions_of, warnings_of
from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.markets import Instrument
from engine.core.metrics import compute_metrics, daily_marks
from engine.core.portfolio import Leg, PortfolioResult
from engine.core.price_steps import decimal_step
from engine.core.run_settings import RunSettings, Size
from engine.core.series import Category, Series
from engine.core.signals import Signals, compute_signals
from engine.core.simulation import Simulation, check_accounting
from engine.core.strategy import CompiledSize, CompiledStrategy
from engine.core.times import iso_utc
from engine.core.trades import EXIT_REASONS
from engine.errors import LabError
from engine.history import LoadedCandles
from engine.run_inputs import RunInputs

# Part of every manifest: a change of figures by a change of code gets a new number.
ENGINE_VERSION = "4"
# The tick of a listing is coarser than this share of the price only where it was made for other prices.
MOST_TICK_OF_PRICE = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything one computation leaves: the stored texts and columns, and what pictures and tables are made of.

    Of a portfolio `candles` are those of its basket, and `shared` has its symbols.
    """

    manifest: dict[str, Any]
    result: dict[str, Any]
    trades: dict[str, Any]
    equity: dict[str, Any]
    simulation: Simulation
    candles: Candles
    shared: tuple[PortfolioResult, dict[str, Leg]] | None = None

    @property
    def run_id(self) -> str:
        """Return the run's name, which its manifest decides, whatever spelling the strategy was given in."""
        decides = {**self.manifest, "strategy": {**self.manifest["strategy"], "document": None, "origin": None}}
        return "run_" + hashlib.sha256(canonical_json(decides).encode()).hexdigest()[:12]

    @property
    def sha256(self) -> str:
        """Return the hash of result and trades, the bytes that must come out again."""
        return outcome_sha256(self.result, self.trades)


def outcome_sha256(result: Mapping[str, Any], trades: Mapping[str, Any]) -> str:
    """Return the hash of a result and the columns of its trades."""
    digest = hashlib.sha256(canonical_json(result).encode())
    for name, column in sorted(trades.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def canonical_json(value: object) -> str:
    """Return the one spelling of a document that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def instrument_rules(instrument: Instrument | None) -> dict[str, str | None] | None:
    """Return the rules a run depends on, as printed, for its manifest."""
    if instrument is None:
        return None
    names = ("settle_coin", "tick_size", "lot_step", "min_quantity", "max_market_quantity", "min_notional")
    return {name: None if (value := getattr(instrument, name)) is None else str(value) for name in names}


def fitting_rules(rules: Mapping[str, str | None] | None, loaded: LoadedCandles) -> dict[str, str | None] | None:
    """Return the rules a run on these candles can keep to; `listed_tick_size` stands in them where they were changed.

    An imported market may bear a name whose tick is coarser than its prices: nothing could be traded there. Tick and lot
    then come from the prices: the last decimal they have, and the power of ten that is worth up to one unit of quote.
    """
    kept = None if rules is None else dict(rules)
    if kept is None or "imported" not in loaded.source:
        return kept
    candles, tick = loaded.candles, float(kept["tick_size"] or 0)
    price = float(np.median(candles.close))
    if tick <= MOST_TICK_OF_PRICE * price:
        return kept
    step = decimal_step(np.concatenate((candles.open, candles.high, candles.low, candles.close)))
    if step >= tick:
        return kept
    lot = 10.0 ** math.floor(-math.log10(price))
    own = {"tick_size": f"{step:g}", "lot_step": f"{lot:g}", "min_quantity": f"{lot:g}", "max_market_quantity": None}
    return kept | own | {"listed_tick_size": f"{tick:g}"}


def rule_warnings(rules: Mapping[str, str | None] | None) -> list[str]:
    """Return what a reader should know of the trading rules."""
    if rules is None or not rules.get("listed_tick_size"):
        return []
    told = f"tick {rules['tick_size']} and lot {rules['lot_step']} come from the imported prices"
    return [f"{told}: the listed tick {rules['listed_tick_size']} is too coarse for them"]


def compute(
    compiled: CompiledStrategy,
    origin: str,
    loaded: LoadedCandles,
    series: Series,
    range_ms: tuple[int, int],
    settings: RunSettings,
    rules: Mapping[str, str | None] | None,
    inputs: RunInputs,
) -> Outcome:
    """Return what a run leaves, from its inputs alone: no clock, no store, no network."""
    from engine.core.simulator import simulate  # numba takes most of a second to import; only a run pays for it

    candles = loaded.candles
    currency = None if rules is None else rules["settle_coin"]
    execution = execution_settings(settings, compiled.size, series.category, rules, inputs)
    signals = compute_signals(compiled, candles, series.interval, extras=inputs.extras)
    simulation = simulate(candles, signals, execution, inputs.detail)
    if broken := check_accounting(simulation, candles, execution, inputs.detail):
        raise LabError(f"the run does not add up: {'; '.join(broken)}", fix="please report this with the run's inputs")
    measured = compute_metrics(simulation, candles, series.interval, execution, unmodelled=inputs.unmodelled)
    skipped = skipped_entries(simulation, signals.void_entries)
    strategy = strategy_facts(compiled, origin)
    data = {
        "symbol": series.symbol,
        "category": series.category,
        "interval": series.interval,
        "start": iso_utc(range_ms[0]),
        "end": iso_utc(range_ms[1]),
        "bars": len(candles),
        "first_bar": iso_utc(int(candles.ts[0])),
        "last_bar": iso_utc(int(candles.ts[-1])),
        "currency": currency,
        "source": loaded.source,
        "sha256": candles.sha256(),
    }
    result = {
        "strategy": strategy,
        "data": data | {"warmup_bars": signals.warmup_bars, "gaps": len(loaded.gaps)},
        "metrics": dict(measured.values),
        "undefined": dict(measured.reasons),
        "intrabar": _extremes(simulation, candles, signals, execution, inputs),
        "exits": exits_of(simulation),
        "skipped_entries": skipped,
        "assumptions": [*assumptions_of(execution, simulation), *inputs.assumptions],
        "warnings": [
            *warnings_of(compiled, loaded, simulation, series, settings, range_ms, skipped),
            *rule_warnings(rules),
            *inputs.warnings,
        ],
    }
    manifest = {
        "engine": ENGINE_VERSION,
        "strategy": strategy | {"document": document_of(compiled)},
        "data": data
        | {
            "feed": series.feed,
            "start_ms": range_ms[0],
            "end_ms": range_ms[1],
            "gaps": [list(gap) for gap in loaded.gaps],
        },
        "settings": settings.model_dump(mode="json"),
        "instrument": rules,
        "inputs": inputs.described,
    }
    marks_ts, marks = daily_marks(candles.ts, simulation.equity, series.interval)
    return Outcome(
        manifest,
        result,
        trade_columns(simulation.trades, candles),
        {"ts": marks_ts, "equity": marks},
        simulation,
        candles,
    )


def strategy_facts(compiled: CompiledStrategy, origin: str) -> dict[str, Any]:
    """Return what a result says of its strategy."""
    return {
        "name": compiled.name,
        "origin": origin,
        "params": dict(compiled.params),
        "fingerprint": compiled.fingerprint(),
    }


def document_of(compiled: CompiledStrategy) -> dict[str, Any]:
    """Return the strategy document as the manifest keeps it."""
    return compiled.document.model_dump(mode="json", exclude_none=True)


def skipped_entries(simulation: Simulation, void_entries: int) -> dict[str, int]:
    """Return the entries that opened nothing, by the reasons that occurred."""
    counts = {**simulation.skipped_entries, "no_valid_distance": void_entries}
    return {reason: count for reason, count in counts.items() if count}


def exits_of(simulation: Simulation) -> dict[str, int]:
    """Return how many trades ended for each reason."""
    reasons = (EXIT_REASONS[code] for code in simulation.trades.exit_reason.tolist())
    return dict(sorted(Counter(reasons).items()))


def execution_settings(
    settings: RunSettings,
    size: CompiledSize | None,
    category: Category,
    rules: Mapping[str, str | None] | None,
    inputs: RunInputs,
) -> ExecutionSettings:
    """Return the simulator's settings: fractions for percent, the instrument's rules, spot without shorts."""
    taker, maker = settings.fees_percent(category)
    mode, value = _size(settings.size, size)
    kept = rules if settings.round_to_lot and rules is not None else {}

    def rule(name: str) -> float:
        return float(kept.get(name) or 0)

    return ExecutionSettings(
        capital=settings.capital_in(category),
        category=category,
        taker_fee_fraction=taker / 100,
        maker_fee_fraction=maker / 100,
        slippage_fraction=settings.slippage_percent / 100,
        size_mode=cast("Any", mode),
        size_value=value,
        leverage=settings.leverage,
        # Without minutes to look at no bar was ambiguous, and either reading is the same.
        intrabar="pessimistic"
        if settings.intrabar == "magnify" and inputs.detail.minutes is None
        else settings.intrabar,
        margin_tiers=inputs.tiers,
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
    simulation: Simulation, candles: Candles, signals: Signals, execution: ExecutionSettings, inputs: RunInputs
) -> dict[str, Any]:
    worst = best = simulation
    # Without an ambiguous bar every reading of the bars is this one.
    if simulation.ambiguous_bars:
        from engine.core.simulator import simulate_extremes  # as above

        worst, best = simulate_extremes(candles, signals, execution, inputs.detail)
    return {
        "ambiguous_bars": simulation.ambiguous_bars,
        "decided_bars": simulation.decided_bars,
        "pessimistic_net_profit": float(worst.equity[-1] - execution.capital),
        "optimistic_net_profit": float(best.equity[-1] - execution.capital),
    }
