"""How much to risk on a stored strategy: Kelly with its interval, ruin and drawdown by simulation, liquidation distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, flag, shown, table
from engine.analysis.stored_runs import StoredRun, run_facts
from engine.core.candles import FloatColumn
from engine.core.perpetual import MarginTier, find_tier, liquidation_price
from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.core.validation.monte_carlo import path_figures
from engine.errors import BadRequest
from engine.run_inputs import tiers_from_manifest

PATHS = 2_000
SEED = 0
HORIZON_DAYS = 365
FEWEST_DAYS, FEWEST_TRADES = 20, 10
RUIN_LEVEL = 0.5
MULTIPLES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
LARGEST_MULTIPLE = 10.0
LEVERAGES = (2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % percentile interval; NaN where nothing defines it."""

    value: float
    low: float
    high: float


class PathSimulation:
    """One set of resampled days, so that sizes are compared on the same luck.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        Daily returns at the size of the run.
    days : int
        Length of a path.
    paths, seed : int
    """

    def __init__(self, returns: FloatColumn, days: int = HORIZON_DAYS, paths: int = PATHS, seed: int = SEED) -> None:
        # Volatility clusters where returns do not.
        self.mean_block = max(optimal_block_length(returns), optimal_block_length(returns**2))
        random = np.random.default_rng(seed)
        pieces = [
            stationary_indices(len(returns), paths, self.mean_block, random)
            for _ in range(math.ceil(days / len(returns)))
        ]
        self._drawn = returns[np.concatenate(pieces, axis=1)[:, :days]]

    def at(self, multiple: float) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
        """Return final equity, largest drawdown and lowest equity of each path at a multiple of the run's size."""
        return path_figures(multiple * self._drawn)

    def drawdown_quantile(self, multiple: float, quantile: float) -> float:
        """Return a quantile of the largest drawdown."""
        return float(np.quantile(self.at(multiple)[1], quantile))

    def largest_multiple(self, tolerance: float, quantile: float) -> float:
        """Return the largest multiple whose drawdown stays within `tolerance` at that quantile of paths, by bisection."""
        if self.drawdown_quantile(LARGEST_MULTIPLE, quantile) <= tolerance:
            return LARGEST_MULTIPLE
        low, high = 0.0, LARGEST_MULTIPLE
        for _ in range(14):
            middle = (low + high) / 2.0
            low, high = (middle, high) if self.drawdown_quantile(middle, quantile) <= tolerance else (low, middle)
        return low


def kelly_of_trades(pnl: FloatColumn, samples: int = PATHS, seed: int = SEED) -> Interval:
    """Return W - (1 - W) / (average win / average loss) and its interval from resampled trades (independent draws)."""
    drawn = np.random.default_rng(seed).choice(pnl, size=(samples, len(pnl)))
    values = _kelly(drawn)
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return Interval(float(_kelly(pnl[None, :])[0]), float(low), float(high))


def _kelly(rows: FloatColumn) -> FloatColumn:
    wins, losses = (rows > 0).sum(axis=1), (rows < 0).sum(axis=1)
    with np.errstate(all="ignore"):
        average_win = np.where(rows > 0, rows, 0.0).sum(axis=1) / wins
        average_loss = -np.where(rows < 0, rows, 0.0).sum(axis=1) / losses
        rate = wins / (wins + losses)
        values = rate - (1.0 - rate) / (average_win / average_loss)
    return np.where((wins > 0) & (losses > 0), values, math.nan)


def kelly_of_days(returns: FloatColumn, samples: int = PATHS, seed: int = SEED) -> Interval:
    """Return mean / variance of daily returns, a multiple of the run's size, with a stationary bootstrap interval."""
    rows = stationary_indices(len(returns), samples, optimal_block_length(returns), np.random.default_rng(seed))
    drawn = returns[rows]
    with np.errstate(all="ignore"):
        values = drawn.mean(axis=1) / drawn.var(axis=1, ddof=1)
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    variance = float(returns.var(ddof=1))
    return Interval(float(returns.mean()) / variance if variance > 0 else math.nan, float(low), float(high))


def risk_brief(run: StoredRun, capital: float | None, tolerance: float) -> Brief:
    """Return how large this strategy could be traded with a capital and a largest accepted drawdown (fraction)."""
    money = run.capital if capital is None else capital
    if not 0 < tolerance < 1:
        raise BadRequest(f"tolerance {tolerance:g}", fix="the largest drawdown accepted is a fraction between 0 and 1")
    kelly, simulated = _kelly_block(run), _simulated(run, money, tolerance)
    share = _used_share(run)
    return {
        "run": run_facts(run),
        "request": {"capital": money, "currency": run.data["currency"], "tolerance": tolerance},
        "own_size": {
            "mean_notional_share_of_equity": shown(share),
            "note": "sizes below are multiples of this; 1 is the size the run traded",
        },
        "measured": {
            "trades": run.metrics["trades"],
            "max_drawdown": run.metrics["max_drawdown"],
            "max_drawdown_intraday": run.metrics["max_drawdown_intraday"],
            "max_consecutive_losses": run.metrics["max_consecutive_losses"],
            "worst_trade_share_of_equity": shown(_worst_trade(run)),
            "worst_excursion_of_price": shown(_worst_excursion(run)),
        },
        "kelly": kelly,
        "simulation": simulated,
        "liquidation": _liquidation(run, money),
        "flags": _flags(run, kelly, simulated, tolerance),
        "assumptions": [
            "the future resembles the run: its days are resampled, nothing worse than they were can appear",
            "a multiple scales daily returns; lots, order limits, margin and market impact are not scaled",
            "drawdowns are measured at 00:00 UTC; inside a day they are deeper",
        ],
    }


def _kelly_block(run: StoredRun) -> Brief:
    found: Brief = {
        "meaning": "an upper bound from the past; half of it is the usual ceiling, and the interval decides"
    }
    trades = run.trades.pnl
    if len(trades) >= FEWEST_TRADES and run.metrics["kelly"] is not None:
        interval = kelly_of_trades(trades)
        found["from_trades"] = _told(interval, run.metrics["kelly"]) | {"unit": "fraction of capital at stake a trade"}
    else:
        why = run.result["undefined"].get("kelly") or f"{len(trades)} trades; {FEWEST_TRADES} are needed"
        found["from_trades"] = {"value": run.metrics["kelly"], "why_no_interval": why}
    if run.returns is not None and len(run.returns) >= FEWEST_DAYS and np.std(run.returns) > 0:
        interval = kelly_of_days(run.returns)
        found["continuous"] = _told(interval, interval.value) | {"unit": "multiple of the size the run traded"}
    else:
        found["continuous"] = {"value": None, "why": _why_no_days(run)}
    return found


def _told(interval: Interval, value: float) -> Brief:
    return {
        "value": shown(value),
        "half": shown(value / 2.0),
        "low_95": shown(interval.low),
        "high_95": shown(interval.high),
    }


def _why_no_days(run: StoredRun) -> str:
    if run.returns is None:
        return "the equity fell to zero or below"
    if len(run.returns) < FEWEST_DAYS:
        return f"{len(run.returns)} daily returns; {FEWEST_DAYS} are needed"
    return "the daily returns do not vary"


def _simulated(run: StoredRun, capital: float, tolerance: float) -> Brief:
    if run.returns is None or len(run.returns) < FEWEST_DAYS or not np.std(run.returns) > 0:
        return {"why": _why_no_days(run)}
    paths = PathSimulation(run.returns)
    rows: list[list[Any]] = []
    for multiple in MULTIPLES:
        final, fall, lowest = paths.at(multiple)
        low, middle = np.quantile(final, [0.05, 0.5])
        half, bad = np.quantile(fall, [0.5, 0.95])
        rows.append(
            [
                multiple, float(capital * low), float(capital * middle), float(half), float(bad),
                float(np.mean(fall > tolerance)), float(np.mean(lowest <= RUIN_LEVEL)),
            ]
        )  # fmt: skip
    careful, middling = paths.largest_multiple(tolerance, 0.95), paths.largest_multiple(tolerance, 0.5)
    share = _used_share(run)
    return {
        "method": f"stationary bootstrap of {len(run.returns)} days, mean block {paths.mean_block:.1f}, {PATHS} paths of "
        f"{HORIZON_DAYS} days, seed {SEED}",
        "ruin_means": f"equity at or below {RUIN_LEVEL:g} of the capital at some day's end",
        "sizes": table(
            ["multiple", "final_p5", "final_p50", "drawdown_p50", "drawdown_p95", "beyond_tolerance", "ruin"], rows, 4
        ),
        "largest_size_for_tolerance": {
            "multiple_95_percent_sure": shown(careful, 3),
            "multiple_50_percent_sure": shown(middling, 3),
            "largest_looked_at": LARGEST_MULTIPLE,
            "mean_notional_95_percent_sure": None if share is None else shown(careful * share * capital, 4),
        },
    }


def _used_share(run: StoredRun) -> float | None:
    before = run.equity_before
    # Positions of a portfolio overlap, so that no trade has an equity of its own before it.
    if run.is_portfolio or not len(before) or not bool(np.all(before > 0)):
        return None
    return float(np.mean(run.notional / before))


def _worst_trade(run: StoredRun) -> float | None:
    before = run.equity_before
    # Positions of a portfolio overlap, so that no trade has an equity of its own before it.
    if run.is_portfolio or not len(before) or not bool(np.all(before > 0)):
        return None
    return float(np.min(run.trades.pnl / before))


def _worst_excursion(run: StoredRun) -> float | None:
    return float(np.max(run.trades.mae / run.notional)) if len(run.trades) else None


def _liquidation(run: StoredRun, capital: float) -> Brief:
    if run.record.category == "spot":
        return {"rows": [], "why": "spot is not liquidated"}
    if run.is_portfolio:
        return {"rows": [], "why": "each symbol of a portfolio has its own tiers: get_instrument"}
    tiers = tiers_from_manifest(run.manifest["inputs"].get("tiers"))
    if not tiers or not len(run.trades):
        return {
            "rows": [],
            "why": "no maintenance tiers are stored with the run" if not tiers else "no trade, no price",
        }
    price = float(run.trades.exit_price[-1])
    rows = [row for leverage in LEVERAGES if (row := _distances(run, tiers, capital, price, leverage)) is not None]
    columns = ["leverage", "position_value", "long_distance", "short_distance", "closer_than_worst_excursion"]
    return table(columns, rows, 4) | {
        "note": "isolated margin, the whole capital as margin; distance of the liquidation price from the entry, fraction"
    }


def _distances(
    run: StoredRun, tiers: Sequence[MarginTier], capital: float, price: float, leverage: float
) -> list[Any] | None:
    value = capital * leverage
    tier = find_tier(tiers, value)
    if tier is None or tier.max_leverage < leverage:
        return None
    quantity = value * price if run.is_inverse else value / price
    distances = [
        abs(liquidation_price(side, quantity, price, leverage, tier, inverse=run.is_inverse) / price - 1.0)
        for side in (1, -1)
    ]
    worst = _worst_excursion(run) or 0.0
    return [leverage, value, *distances, min(distances) <= worst]


def _flags(run: StoredRun, kelly: Brief, simulated: Brief, tolerance: float) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if run.metrics["trades"] == 0:
        return [flag("no_trades", "high", "nothing was traded, so no size follows from it")]
    if run.returns is None:
        found.append(flag("ruined", "high", "the run lost its capital: at this size there is nothing to advise"))
    lowest = [part["low_95"] for part in (kelly["from_trades"], kelly["continuous"]) if part.get("low_95") is not None]
    values = [part["value"] for part in (kelly["from_trades"], kelly["continuous"]) if part["value"] is not None]
    if any(value <= 0 for value in values):
        found.append(flag("no_edge", "high", "Kelly is not above 0: no size is justified by this run"))
    elif any(low <= 0 for low in lowest):
        found.append(flag("edge_uncertain", "high", "the interval of Kelly contains 0: the edge may not exist"))
    if run.metrics["trades"] < 30:
        found.append(flag("few_trades", "high", f"{run.metrics['trades']} trades carry no estimate of size"))
    if "simulated" in run.data["source"]:
        found.append(flag("simulated", "high", "simulated candles: nothing here fits a real account"))
    if run.metrics["max_drawdown"] is not None and run.metrics["max_drawdown"] > tolerance:
        found.append(flag("beyond_tolerance", "high", "the run itself fell further than the tolerance"))
    sure = simulated.get("largest_size_for_tolerance", {}).get("multiple_95_percent_sure")
    if sure is not None and sure < 1:
        found.append(flag("too_large", "medium", f"the tolerance asks for {sure:g} of the size the run traded"))
    return found
