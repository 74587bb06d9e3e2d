"""The compiled account against the plain one: trade for trade, equity bit for bit, on markets and settings nobody chose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.market_detail import MarketDetail
from engine.core.perpetual import MarginTier
from engine.core.portfolio import Leg, PortfolioResult, PortfolioSettings, run, simulate_portfolio
from engine.core.portfolio.reference_account import simulate_portfolio_plainly
from engine.core.signals import Signals
from engine.core.trades import EXIT_REASONS
from engine.errors import BadRequest, Cancelled

Simulate = Callable[[dict[str, Leg], PortfolioSettings], PortfolioResult]
NONE = math.nan
STEP_MS = 60_000
# Examples share one compiled loop; the first of them may compile it, so no deadline holds.
THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def random_candles(rng: np.random.Generator, bars: int, width: float) -> Candles:
    """Return bars with gaps in price and in time, ties and standing prices."""
    moves = np.where(rng.random(bars) < 0.2, 0.0, rng.normal(0, width, bars))
    gaps = np.where(rng.random(bars) < 0.3, rng.normal(0, width, bars), 0.0)
    close = 100 * np.exp(np.cumsum(moves + gaps))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(gaps)
    high = np.maximum(opened, close) * (1 + np.abs(rng.normal(0, width, bars)))
    low = np.minimum(opened, close) * (1 - np.minimum(np.abs(rng.normal(0, width, bars)), 0.9))
    prices = (np.maximum(np.round(column, 2), 0.01) for column in (opened, high, low, close))
    step = np.cumsum(np.where(rng.random(bars) < 0.1, 2, 1)) + rng.integers(0, 10)
    return Candles(step * STEP_MS, *prices, np.ones(bars), np.ones(bars))


def random_signals(rng: np.random.Generator, candles: Candles) -> Signals:
    bars, density = len(candles), float(rng.choice([0.02, 0.1, 0.4]))

    def fraction(share: float) -> float:
        return float(rng.choice([0.005, 0.02, 0.05, 0.5])) if rng.random() < share else NONE

    def distance(share: float) -> np.ndarray | None:
        if rng.random() > share:
            return None
        column = np.abs(rng.normal(0, 0.03, bars)) * candles.close
        column[rng.random(bars) < 0.1] = rng.choice([NONE, 0.0])
        return column

    return Signals(
        *(rng.random(bars) < density * share for share in (1.0, 0.5, 1.0, 0.5)),
        stop_fraction=fraction(0.4), stop_distance=distance(0.3),
        target_fraction=fraction(0.4), target_distance=distance(0.3),
        trail_fraction=fraction(0.2), trail_distance=distance(0.2),
        trail_activation_fraction=fraction(0.3), breakeven_fraction=fraction(0.2),
        max_bars=int(rng.choice([0, 0, 3, 20])), warmup_bars=0,
        session=rng.random(bars) < 0.7 if rng.random() < 0.2 else None,
        is_flat_outside_session=bool(rng.random() < 0.5),
    )  # fmt: skip


def random_detail(rng: np.random.Generator, candles: Candles) -> MarketDetail:
    bars = len(candles)
    at_open, inside = np.where(rng.random((2, bars)) < 0.2, rng.normal(0, 0.1, (2, bars)), 0.0)
    pays = rng.random() < 0.5
    mark = None
    if rng.random() < 0.5:
        factor = 1 + rng.normal(0, 0.002, bars)
        mark = Candles(candles.ts, *(column * factor for column in candles.columns()[1:]))  # type: ignore[arg-type]
    return MarketDetail(at_open if pays else None, inside if pays else None, mark)


def random_execution(rng: np.random.Generator, category: str, leverage: float) -> ExecutionSettings:
    mode, value = [
        ("equity_fraction", 1.0), ("equity_fraction", 0.3), ("risk", 0.05), ("quote", 700.0), ("quantity", 3.0),
    ][rng.integers(5)]  # fmt: skip
    is_rounded, is_spot = bool(rng.random() < 0.5), category == "spot"
    has_tiers = not is_spot and rng.random() < 0.5
    return ExecutionSettings(
        capital=1.0, category=category, size_mode=mode, size_value=value, leverage=1.0 if is_spot else leverage,  # type: ignore[arg-type]
        slippage_fraction=float(rng.choice([0.0, 0.0003])), target_fee=rng.choice(["maker", "taker"]),
        intrabar=rng.choice(["pessimistic", "optimistic"]), allow_short=not is_spot and bool(rng.random() < 0.8),
        round_to_lot=is_rounded, lot_step=0.1 if is_rounded else 0.0, min_quantity=0.2 if is_rounded else 0.0,
        min_notional=float(rng.choice([0.0, 100.0])), max_quantity=float(rng.choice([0.0, 20.0])),
        tick_size=float(rng.choice([0.0, 0.01])),
        margin_tiers=(MarginTier(1e12, 0.02, 0.0, 50.0), MarginTier(1e13, 0.05, 3e10, 10.0)) if has_tiers else (),
    )  # fmt: skip


@st.composite
def portfolios(draw: st.DrawFn) -> tuple[dict[str, Leg], PortfolioSettings]:
    rng = np.random.default_rng(draw(st.integers(0, 1_000_000)))
    symbols = draw(st.sampled_from([1, 2, 3, 10]))
    category = draw(st.sampled_from(["linear", "linear", "inverse", "spot"]))
    leverage, width = draw(st.sampled_from([1.0, 5.0, 20.0])), draw(st.sampled_from([0.01, 0.05]))
    legs: dict[str, Leg] = {}
    for index in range(symbols):
        candles = random_candles(rng, draw(st.integers(1, 150)), width)
        legs[f"S{index}"] = Leg(
            candles,
            random_signals(rng, candles),
            random_execution(rng, category, leverage),
            random_detail(rng, candles),
        )
    return legs, PortfolioSettings(
        capital=draw(st.sampled_from([1_000.0, 50_000.0])),
        weighting=draw(st.sampled_from(["equal", "inverse_volatility"])),
        max_positions=draw(st.sampled_from([None, 1, 4])),
        volatility_bars=10,
    )


def assert_identical(found: PortfolioResult, judge: PortfolioResult) -> None:
    for name in ("ts", "equity", "open_positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(judge, name), err_msg=name)
    assert (found.peak_leverage, found.ruined_ms) == (judge.peak_leverage, judge.ruined_ms)
    assert list(found.symbols) == list(judge.symbols)
    for symbol, ours in found.symbols.items():
        theirs = judge.symbols[symbol]
        for column in fields(ours.trades):
            mine, its = getattr(ours.trades, column.name), getattr(theirs.trades, column.name)
            np.testing.assert_array_equal(mine, its, err_msg=f"{symbol} {column.name}")
        np.testing.assert_array_equal(ours.contribution, theirs.contribution)
        assert list(ours.skipped_entries.items()) == list(theirs.skipped_entries.items())
        assert (ours.capped_entries, ours.ambiguous_bars) == (theirs.capped_entries, theirs.ambiguous_bars)


def outcome(simulate: Simulate, legs: dict[str, Leg], shared: PortfolioSettings) -> PortfolioResult | str:
    """Return the result, or why it is refused: luck at a high leverage may grow past the first maintenance tier."""
    try:
        return simulate(legs, shared)
    except BadRequest as refusal:
        return str(refusal)


@given(portfolios())
@THOROUGH
def test_the_compiled_account_is_the_plain_one_bit_for_bit(case: tuple[dict[str, Leg], PortfolioSettings]) -> None:
    legs, shared = case
    found, judge = outcome(simulate_portfolio, legs, shared), outcome(simulate_portfolio_plainly, legs, shared)
    if isinstance(found, str) or isinstance(judge, str):
        assert found == judge
        event("refused")
        return
    assert_identical(found, judge)
    for result in found.symbols.values():
        for reason in np.unique(result.trades.exit_reason).tolist():
            event(f"exit {EXIT_REASONS[reason]}")
        for reason, skipped in result.skipped_entries.items():
            if skipped:
                event(f"skipped {reason}")
    event("ruined" if found.ruined_ms is not None else "alive")


def one_portfolio() -> tuple[dict[str, Leg], PortfolioSettings]:
    rng = np.random.default_rng(4)
    legs: dict[str, Leg] = {}
    for symbol in ("A", "B", "C"):
        candles = random_candles(rng, 400, 0.01)
        signals = replace(random_signals(rng, candles), session=None)
        detail = random_detail(rng, candles)
        legs[symbol] = Leg(candles, signals, ExecutionSettings(capital=1.0, leverage=2.0), detail)
    return legs, PortfolioSettings(capital=1_000.0, max_positions=2)


def test_a_run_in_chunks_is_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    legs, shared = one_portfolio()
    at_once = simulate_portfolio(legs, shared)
    assert sum(len(result.trades) for result in at_once.symbols.values()) > 20
    monkeypatch.setattr(run, "_CELLS_A_CHUNK", 10)
    assert_identical(simulate_portfolio(legs, shared), at_once)


def test_a_run_that_is_not_wanted_any_more_ends_at_its_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    legs, shared = one_portfolio()
    monkeypatch.setattr(run, "_CELLS_A_CHUNK", 10)
    looks = count(1)
    with pytest.raises(Cancelled):
        simulate_portfolio(legs, shared, cancelled=lambda: next(looks) == 5)
    assert next(looks) == 6


def test_detail_of_other_candles_is_refused() -> None:
    legs, shared = one_portfolio()
    short = MarketDetail(np.zeros(3), np.zeros(3))
    with pytest.raises(BadRequest, match="the funding have 3 rows for 400 candles"):
        simulate_portfolio(legs | {"B": replace(legs["B"], detail=short)}, shared)


def test_the_same_position_is_above_the_tier_for_both_accounts() -> None:
    legs, shared = one_portfolio()
    low = replace(legs["B"].execution, margin_tiers=(MarginTier(300.0, 0.01, 0.0, 50.0),))
    legs |= {"B": replace(legs["B"], execution=low)}
    with pytest.raises(BadRequest, match="first maintenance tier") as ours:
        simulate_portfolio(legs, shared)
    with pytest.raises(BadRequest) as theirs:
        simulate_portfolio_plainly(legs, shared)
    assert str(ours.value) == str(theirs.value)
