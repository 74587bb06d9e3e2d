"""A market's regime at its last closed bar and before, from what was known at each bar."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, flag, shown, table
from engine.analysis.market_data import MarketData
from engine.core.candles import FloatColumn
from engine.core.timeframes import DAY_MS, step_ms
from engine.core.times import iso_utc
from engine.core.validation.hidden_markov import filtered_probabilities, fit_hidden_markov
from engine.core.validation.regimes import (
    GRID_NAMES,
    UNKNOWN,
    Labels,
    RegimeRule,
    expanding_median,
    label_regimes,
    summarise_regimes,
    weighted_volatility,
)
from engine.errors import BadRequest

BARS = 2_000
FEWEST_BARS = 200
SHOWN_RUNS = 8
STATES = ("calm", "wild")


def regime_brief(data: MarketData) -> Brief:
    """Return regime now, history, durations and transitions of the rule and of the filtered hidden Markov model."""
    close = data.candles.close
    if len(close) < FEWEST_BARS:
        raise BadRequest(
            f"{len(close)} closed bars of {data.series}; {FEWEST_BARS} are needed",
            fix="use a shorter interval, or fetch more history with start_backfill",
        )
    rule = RegimeRule()
    labels = label_regimes(close, rule)
    periods = 365.0 * DAY_MS / step_ms(data.series.interval)
    hidden = _hidden(close, periods)
    now = _now(data, labels, rule, periods)
    return {
        "data": data.described(),
        "now": now,
        "summary": _summary(labels),
        "transitions": _transitions(labels),
        "recent": _recent(data, labels),
        "hidden_markov": hidden,
        "rule": {
            "trend": f"move over {rule.trend_bars} bars beyond {rule.trend_deviations:g} deviations of a driftless one",
            "volatility": f"wild above {rule.wild_ratio:g} x its own median so far, span {rule.volatility_bars} bars",
            "causal": "each label uses its own close and earlier ones only; it never changes later",
        },
        "flags": _flags(data, now, hidden, labels),
    }


def _now(data: MarketData, labels: Labels, rule: RegimeRule, periods: float) -> Brief:
    logs = np.log(data.candles.close)
    volatility = weighted_volatility(np.diff(logs), rule.volatility_bars)
    median = float(expanding_median(volatility[rule.volatility_bars - 1 :])[-1])
    move = float(logs[-1] - logs[-1 - rule.trend_bars])
    reach = float(volatility[-1]) * math.sqrt(rule.trend_bars)
    since = _run_starts(labels)[-1]
    return {
        "regime": GRID_NAMES[labels[-1]],
        "since": iso_utc(int(data.candles.ts[since])),
        "bars_so_far": len(labels) - since,
        "last_close": shown(float(data.candles.close[-1])),
        "trend_move": shown(math.expm1(move), 4),
        "trend_in_deviations": shown(move / reach if reach > 0 else math.nan, 4),
        "volatility_per_year": shown(float(volatility[-1]) * math.sqrt(periods), 4),
        "volatility_over_its_median": shown(float(volatility[-1]) / median if median > 0 else math.nan, 4),
    }


def _run_starts(labels: Labels) -> list[int]:
    return np.flatnonzero(np.concatenate(([True], labels[1:] != labels[:-1]))).tolist()


def _summary(labels: Labels) -> Brief:
    found = summarise_regimes(labels, len(GRID_NAMES))
    starts = labels[_run_starts(labels)]
    rows: list[list[Any]] = [
        [name, float(found.share[code]), int(np.count_nonzero(starts == code)), float(found.mean_duration[code])]
        for code, name in enumerate(GRID_NAMES)
        if found.share[code] > 0
    ]
    return table(["regime", "share_of_bars", "times", "mean_bars"], rows, 4)


def _transitions(labels: Labels) -> Brief:
    found = summarise_regimes(labels, len(GRID_NAMES))
    seen = [code for code in range(len(GRID_NAMES)) if found.share[code] > 0]
    rows: list[list[Any]] = [
        [GRID_NAMES[code], *(round(float(found.transitions[code, after]), 4) for after in seen)] for code in seen
    ]
    return {
        "columns": ["from_regime", *(GRID_NAMES[code] for code in seen)],
        "rows": rows,
        "meaning": "probability of the next bar's regime",
    }


def _recent(data: MarketData, labels: Labels) -> Brief:
    starts = _run_starts(labels)
    ends = [*starts[1:], len(labels)]
    close = data.candles.close
    rows: list[list[Any]] = [
        [GRID_NAMES[labels[first]], iso_utc(int(data.candles.ts[first])), after - first,
         float(close[after - 1] / close[max(first - 1, 0)] - 1.0)]
        for first, after in list(zip(starts, ends, strict=True))[-SHOWN_RUNS:]
        if labels[first] != UNKNOWN
    ]  # fmt: skip
    return table(["regime", "since", "bars", "return"], rows, 4)


def _hidden(close: FloatColumn, periods: float) -> Brief:
    returns = np.diff(np.log(close))
    half = len(returns) // 2
    try:
        early, whole = fit_hidden_markov(returns[:half]), fit_hidden_markov(returns)
    except BadRequest as error:
        return {"why": error.message}
    now = filtered_probabilities(whole, returns)[-1]
    # Honest history: states of the second half from a model that saw the first half only.
    later = filtered_probabilities(early, returns)[half:].argmax(axis=1)
    rows: list[list[Any]] = [
        [
            name, float(whole.deviations[code]) * math.sqrt(periods), float(whole.means[code]), float(whole.start[code]),
            1.0 / max(1.0 - float(whole.transitions[code, code]), 1e-9), float(now[code]),
        ]
        for code, name in enumerate(STATES)
    ]  # fmt: skip
    columns = ["state", "volatility_per_year", "mean_per_bar", "long_run_share", "expected_bars", "probability_now"]
    return {
        "states": table(columns, rows, 4),
        "transitions": [[round(float(cell), 4) for cell in row] for row in whole.transitions],
        "has_converged": whole.has_converged and early.has_converged,
        "wild_share_of_second_half": shown(float(np.mean(later == 1)), 4),
        "causal": "probability_now: filtered, model fitted to the closed bars up to now; the share of the second half uses a model fitted to the first half only",
    }


def _flags(data: MarketData, now: Brief, hidden: Brief, labels: Labels) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if "simulated" in data.source:
        found.append(flag("simulated", "high", "simulated candles: this is no statement about a real market"))
    if "states" in hidden:
        is_wild = hidden["states"]["rows"][1][5] > 0.5
        if is_wild != now["regime"].endswith("wild"):
            found.append(flag("disagreement", "medium", "rule and hidden Markov model disagree on the volatility now"))
        if not hidden["has_converged"]:
            found.append(flag("not_converged", "low", "the hidden Markov model did not settle"))
    if now["bars_so_far"] <= 3:
        found.append(flag("just_changed", "medium", f"the regime began {now['bars_so_far']} bars ago"))
    if np.count_nonzero(labels != UNKNOWN) < 500:
        found.append(flag("short_history", "low", "fewer than 500 labelled bars: durations and transitions are rough"))
    found.append(flag("no_forecast", "low", "a regime describes the past; transitions are averages, not a forecast"))
    return found
