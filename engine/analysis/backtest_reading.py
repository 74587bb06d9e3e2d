"""What a stored backtest shows to somebody who does not want to believe it too early."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, day, flag, shown, table
from engine.analysis.stored_runs import StoredRun, run_facts
from engine.analysis.trade_groups import clusters, concentration, costs, regime_split
from engine.core.candles import Candles
from engine.core.metrics.tables import deepest_drawdowns, period_returns
from engine.core.validation.sharpe_inference import minimum_track_record, probabilistic_sharpe
from engine.core.validation.sharpe_interval import sharpe_interval
from engine.core.validation.sharpe_moments import sharpe_moments
from engine.errors import BadRequest

KEY_METRICS = (
    "net_profit", "total_return", "cagr", "buy_and_hold_return", "sharpe", "sortino", "calmar", "volatility",
    "max_drawdown", "max_drawdown_intraday", "max_drawdown_days", "trades", "win_rate", "profit_factor", "payoff",
    "expectancy", "exposure", "max_consecutive_losses",
)  # fmt: skip
CONVENTIONS = (
    "money in currency, net of all costs; fractions of 1; ratios and drawdowns from daily marks at 00:00 UTC, flat days "
    "kept, 365 days a year, risk-free rate 0; _intraday on bar closes. explain_metric tells each exactly, get_run has more"
)
FEW_TRADES = 30
DEEPEST = 3
_TOLD_BY_FLAGS = ("simulated data", "too few to tell", "the capital was lost")


def backtest_brief(run: StoredRun, candles: Candles | None, verdict: Brief) -> Brief:
    """Return the whole reading of one run.

    Parameters
    ----------
    run : StoredRun
    candles : Candles or None
        Of the run, as far as they may be seen; for the split by regime.
    verdict : dict
        Verdict so far, or why there is none.
    """
    split = regime_split(run, candles)
    paid, held, months = costs(run), concentration(run), _months(run)
    evidence = _evidence(run)
    return {
        "run": run_facts(run),
        "metrics": {name: run.metrics.get(name) for name in KEY_METRICS},
        "undefined": {name: why for name, why in run.result["undefined"].items() if name in KEY_METRICS},
        "conventions": CONVENTIONS,
        "evidence": evidence,
        "flags": _flags(run, paid, held, months, split, evidence),
        "costs": paid,
        "concentration": held,
        "clusters": clusters(run),
        "months": months,
        "drawdowns": _drawdowns(run),
        "regimes": split,
        "intrabar": _intrabar(run),
        "verdict": verdict,
        "warnings": [text for text in run.result["warnings"] if not any(part in text for part in _TOLD_BY_FLAGS)],
    }


def _intrabar(run: StoredRun) -> Brief:
    found: Brief = run.result["intrabar"]
    return found if found["ambiguous_bars"] else {"ambiguous_bars": 0}


def _evidence(run: StoredRun) -> Brief:
    if run.returns is None or len(run.returns) < 4:
        return {
            "why": "the equity was lost" if run.returns is None else f"{len(run.returns)} daily returns are too few"
        }
    try:
        moments = sharpe_moments(run.returns)
    except BadRequest as error:
        return {"why": error.message}
    interval = sharpe_interval(run.returns)
    told = (moments.skew, moments.kurtosis)
    needed = minimum_track_record(moments.sharpe, 0.0, *told)
    return {
        "days": len(run.returns),
        "sharpe_95_low": shown(interval.low),
        "sharpe_95_high": shown(interval.high),
        "probability_sharpe_above_0": shown(probabilistic_sharpe(moments.sharpe, 0.0, moments.observations, *told)),
        "days_needed_for_95": math.ceil(needed) if math.isfinite(needed) else None,
        "note": "as if this were the only strategy ever tried; get_verdict counts the others",
    }


def _months(run: StoredRun) -> Brief:
    known = [one for one in period_returns(run, "month") if one.fraction is not None]
    ordered = sorted(known, key=lambda one: float(one.fraction or 0.0))
    count = min(3, (len(ordered) + 1) // 2)
    return {
        "count": len(known),
        "positive": sum(float(one.fraction or 0.0) > 0 for one in known),
        "worst": [[one.label, shown(one.fraction)] for one in ordered[:count]],
        "best": [[one.label, shown(one.fraction)] for one in ordered[::-1][:count]],
    }


def _drawdowns(run: StoredRun) -> Brief:
    rows = [
        [one.depth, day(one.peak_ms), day(one.trough_ms), day(one.recovered_ms), one.days]
        for one in deepest_drawdowns(run, DEEPEST)
    ]
    return table(["depth", "peak", "trough", "recovered", "days"], rows)


def _flags(
    run: StoredRun, paid: Brief, held: Brief, months: Brief, split: Brief, evidence: Brief
) -> list[dict[str, str]]:
    found = [
        *_flags_of_evidence(run, evidence),
        *_flags_of_money(run, paid, held),
        *_flags_of_spread(run, months, split),
    ]
    if run.metrics["trades"] == 0:
        return [each for each in found if each["flag"] in ("no_trades", "simulated")]
    order = ("high", "medium", "low")
    return sorted(found, key=lambda one: order.index(one["severity"]))


def _flags_of_evidence(run: StoredRun, evidence: Brief) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    trades = run.metrics["trades"]
    if trades == 0:
        found.append(flag("no_trades", "high", "nothing was traded, so there is nothing to judge"))
    elif trades < FEW_TRADES:
        found.append(
            flag("few_trades", "high", f"{trades} trades; fewer than {FEW_TRADES} cannot tell skill from luck")
        )
    if "simulated" in run.data["source"]:
        found.append(flag("simulated", "high", "simulated candles: the figures say nothing about a real market"))
    if run.returns is None:
        found.append(flag("ruined", "high", "the capital was lost"))
    low = evidence.get("sharpe_95_low")
    high = evidence.get("sharpe_95_high")
    if low is not None and high is not None and low <= 0 <= high:
        found.append(flag("not_distinguishable", "high", "the 95 % interval of the Sharpe ratio contains 0"))
    needed = evidence.get("days_needed_for_95")
    if needed is not None and needed > evidence["days"]:
        found.append(flag("too_short", "medium", f"{evidence['days']} days; {needed} would be needed"))
    return found


def _flags_of_money(run: StoredRun, paid: Brief, held: Brief) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    net, share = float(run.trades.pnl.sum()), paid["share_of_profit_before_costs"]
    if paid["profit_before_costs"] <= 0:
        found.append(flag("no_edge_before_costs", "high", "it loses before any cost is charged"))
    elif share is not None and share > 1:
        found.append(flag("costs_exceed_profit", "high", "costs are larger than the profit before them"))
    elif share is not None and share > 0.5:
        found.append(flag("costs_take_half", "medium", f"costs take {share:.0%} of the profit before them"))
    if net > 0 and held["net_without_best"] <= 0:
        found.append(flag("one_trade", "high", "without its best trade the run loses"))
    elif net > 0 and held["net_without_best_5"] <= 0 and run.metrics["trades"] > 5:
        found.append(flag("five_trades", "medium", "without its 5 best trades the run loses"))
    spread = run.result["intrabar"]
    worst, best = spread["pessimistic_net_profit"], spread["optimistic_net_profit"]
    if spread["ambiguous_bars"] and (worst <= 0 < best or abs(best - worst) > 0.2 * abs(net)):
        found.append(
            flag(
                "ambiguous_bars",
                "medium",
                f"{spread['ambiguous_bars']} bars held stop and target; intrabar magnify decides",
            )
        )
    liquidated = run.result["exits"].get("liquidation", 0)
    if liquidated:
        found.append(flag("liquidations", "high", f"{liquidated} positions were liquidated"))
    return found


def _flags_of_spread(run: StoredRun, months: Brief, split: Brief) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    total, holding = run.metrics["total_return"], run.metrics["buy_and_hold_return"]
    if holding is not None and total is not None and 0 < total < holding:
        found.append(flag("holding_earned_more", "medium", "buying and holding earned more over the same bars"))
    net = float(run.trades.pnl.sum())
    profits: list[Any] = [row for row in split["rows"] if row[3] > 0]
    if net > 0 and profits:
        best = max(profits, key=lambda row: row[3])
        if best[3] >= 0.8 * sum(row[3] for row in profits) and len(split["rows"]) > 1:
            found.append(flag("one_regime", "medium", f"nearly all profit comes from the regime {best[0]!r}"))
    if net > 0 and months["count"] >= 3 and months["positive"] <= months["count"] / 2:
        found.append(flag("few_good_months", "medium", f"{months['positive']} of {months['count']} months gained"))
    if run.drawdowns[-1] > 0.5 * np.max(run.drawdowns) > 0.02:
        found.append(flag("under_water", "low", f"it ends {run.drawdowns[-1]:.1%} below its peak"))
    return found
