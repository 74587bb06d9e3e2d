"""What a run assumes and what its reader should know, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.execution import ExecutionSettings
from engine.core.run_settings import RunSettings
from engine.core.series import Series
from engine.core.simulation import Simulation
from engine.core.strategy import CompiledStrategy
from engine.core.timeframes import step_ms
from engine.core.times import iso_utc
from engine.history import LoadedCandles

_SKIPS = {
    "conflicting_signals": "long and short at the same close (both void)",
    "direction_not_allowed": "in a direction that is not allowed",
    "ruined": "after the capital was lost",
    "no_stop": "without the stop that risk sizing needs",
    "below_min_quantity": "below the minimum quantity (raise capital or size)",
    "below_min_notional": "below the minimum order value (raise capital or size)",
    "insufficient_margin": "larger than equity times leverage (lower size, or raise capital or leverage)",
    "above_risk_limit": "above the risk limit of the symbol at this leverage",
    "outside_session": "outside the session",
    "order_not_filled": "whose resting order was not filled",
    "no_free_slot": "while max_positions were open",
    "no_valid_distance": "with a stop, target or order distance that is not positive",
}


def assumptions_of(execution: ExecutionSettings, simulation: Simulation, rounding: str | None = None) -> list[str]:
    """Return the execution rules and costs of a run, one sentence each."""
    return [
        "signals use closed bars and fill at the next bar's open as market orders; an opposite signal closes and reverses there",
        "stop and target are live from the entry bar; a stop beyond the open fills at the open, a target at the better of open and level",
        _intrabar(execution, simulation),
        f"fees {execution.taker_fee_fraction * 100:g} % taker, {execution.target_fee_fraction * 100:g} % for targets (maker); "
        f"slippage {execution.slippage_fraction * 100:g} % on market and stop fills",
        _sizing(execution),
        _rounding(execution) if rounding is None else rounding,
        "indicators warm up inside the range; an open position is closed at the last close",
        "ratios from equity at 00:00 UTC, 365 days a year, risk-free rate 0",
    ]


def _sizing(execution: ExecutionSettings) -> str:
    told = f"size {execution.size_mode} {execution.size_value:g}, leverage {execution.leverage:g}"
    if execution.size_mode != "equity_fraction" or execution.leverage == 1:
        return told
    return f"{told}: positions of {execution.size_value * execution.leverage:g} times equity"


def sharing_assumptions(
    execution: ExecutionSettings, weights: str, max_positions: int | None, symbols: int
) -> list[str]:
    """Return how a portfolio shares its capital, one sentence each."""
    slots = min(max_positions or symbols, symbols)
    share = f"1/{slots} of the size"
    if weights == "inverse_volatility":
        share += ", times the symbol's inverse volatility (100 closed bars) over the mean of all symbols"
    if execution.size_mode in ("quote", "quantity"):
        share = "at the fixed size whatever the weights"
    at_once = "all symbols at once" if slots == symbols else f"at most {slots} positions at once"
    return [
        f"one account: entries are sized on its equity at their open, {share}; {at_once}; symbols take capital in the order given",
        "all positions together stay within leverage times equity: entries are made smaller or refused",
        "buy and hold: equal parts of the capital in every symbol",
    ]


def tell_together(told: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what is said of several symbols, each sentence once and with the symbols it is true of."""
    of: dict[str, list[str]] = {}
    for symbol, texts in told.items():
        for text in texts:
            of.setdefault(text, []).append(symbol)
    return [text if len(names) == len(told) else f"{', '.join(names)}: {text}" for text, names in of.items()]


def _rounding(execution: ExecutionSettings) -> str:
    if not execution.round_to_lot:
        return "quantities and prices are not rounded"
    return (
        f"quantity rounded down to {execution.lot_step:g}, levels to tick {execution.tick_size:g}, "
        f"minimum order {execution.min_quantity:g} and {execution.min_notional:g} in value"
    )


def _intrabar(execution: ExecutionSettings, simulation: Simulation) -> str:
    if execution.intrabar == "magnify":
        left = simulation.ambiguous_bars - simulation.decided_bars
        return f"stop and target in one bar: 1-minute candles decide; {left} bars they leave open count as stop first"
    first = "stop" if execution.intrabar == "pessimistic" else "target"
    return f"stop and target in one bar: {first} first ({execution.intrabar})"


def _range_warnings(loaded: LoadedCandles, series: Series, range_ms: tuple[int, int]) -> list[str]:
    found: list[str] = []
    step = step_ms(series.interval)
    first_ms, last_ms = int(loaded.candles.ts[0]), int(loaded.candles.ts[-1])
    if first_ms >= range_ms[0] + step:
        found.append(f"the range asked for starts before the first bar, {iso_utc(first_ms)}")
    if last_ms + 2 * step <= range_ms[1]:
        found.append(f"the range asked for ends after the last closed bar, {iso_utc(last_ms)}")
    return found


def warnings_of(
    compiled: CompiledStrategy,
    loaded: LoadedCandles,
    simulation: Simulation,
    series: Series,
    settings: RunSettings,
    range_ms: tuple[int, int],
    skipped: dict[str, int],
) -> list[str]:
    """Return what a reader should know before believing the figures."""
    return [
        *compiled.warnings,
        *data_warnings(loaded, simulation.warmup_bars, series, settings, range_ms),
        *trading_warnings(simulation, skipped),
    ]


def data_warnings(
    loaded: LoadedCandles, warmup: int, series: Series, settings: RunSettings, range_ms: tuple[int, int]
) -> list[str]:
    """Return what a reader should know of the candles of one symbol."""
    found: list[str] = []
    if series.category == "spot" and settings.allow_short:
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
    return found + _range_warnings(loaded, series, range_ms)


def trading_warnings(simulation: Simulation, skipped: Mapping[str, int]) -> list[str]:
    """Return what a reader should know of the trades."""
    found: list[str] = []
    if skipped and sum(skipped.values()) >= max(1, len(simulation.trades)):
        told = "; ".join(f"{count} {_SKIPS.get(reason, reason)}" for reason, count in skipped.items())
        found.append(f"entries that opened nothing: {told}")
    if len(simulation.trades) < 30:
        found.append(f"{len(simulation.trades)} trades are too few to tell skill from luck")
    if simulation.ruined:
        found.append("the capital was lost; nothing was traded from then on")
    if simulation.capped_entries:
        found.append(
            f"{simulation.capped_entries} entries were made smaller to respect the largest order or the leverage"
        )
    return found
