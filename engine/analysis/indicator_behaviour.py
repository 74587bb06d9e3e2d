"""One indicator: its declaration, and how it behaved on stored candles."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, flag, shown, table
from engine.analysis.market_data import MarketData
from engine.core.candles import FloatColumn
from engine.core.expressions import Evaluator, tree_of
from engine.core.expressions.nodes import SERIES, Node
from engine.core.expressions.warmup import series_used, warmup_bars
from engine.core.indicators import REGISTRY, Indicator
from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.errors import BadRequest, NotFound

HORIZONS = (1, 10, 50)
JUDGED_HORIZON = 10
BUCKETS = 5
LAGS = (1, 5, 20)
SAMPLES, SEED = 1_000, 0
FEWEST_VALUES = 200
CAVEAT = (
    "in-sample: the buckets are cut on the same bars whose next returns are shown, costs are left out, and windows overlap; "
    "a difference here is an idea to test in a named study, not a result"
)


@dataclass(frozen=True, slots=True)
class Question:
    """An indicator as it was asked for: its declaration and the expression to look at."""

    declared: Indicator
    tree: Node


def read_question(text: str) -> Question:
    """Return what `rsi` or `rsi(close, 21)` names; an unknown word is NotFound with the nearest ones."""
    name = text.partition("(")[0].strip().lower()
    if name not in REGISTRY:
        if name in SERIES or name == "tf":
            raise BadRequest(
                f"{name!r} is a word of the language, but no indicator", fix="list_indicators kind indicator lists them"
            )
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5) or difflib.get_close_matches(
            name, REGISTRY, n=3, cutoff=0.0
        )
        raise NotFound(
            f"there is no indicator {name[:40]!r}", fix=f"did you mean {', '.join(near)}? list_indicators shows all"
        )
    declared = REGISTRY[name]
    return Question(declared, tree_of(text if "(" in text else declared.example(), {}))


def indicator_brief(question: Question, data: MarketData | None, why_no_data: str) -> Brief:
    """Return declaration and, where candles are stored, behaviour."""
    declared = question.declared
    brief: Brief = {
        "indicator": {
            "name": declared.name,
            "signature": declared.signature(),
            "summary": declared.summary,
            "formula": declared.formula,
            "source": declared.source,
            "family": declared.family,
            "reads": list(declared.inputs),
            "warmup_rule": declared.warmup,
            "expression": question.tree.text,
        },
        "data": None,
        "behaviour": None,
        "flags": [],
    }
    if data is None:
        return brief | {"why_no_behaviour": why_no_data}
    interval = data.series.interval
    extras = series_used(question.tree) - set(SERIES) | series_used(question.tree) & {"funding_rate", "open_interest"}
    if extras:
        return brief | {"why_no_behaviour": f"it reads {', '.join(sorted(extras))}; evaluate_expression shows it"}
    evaluator = Evaluator(data.candles, interval)
    evaluator.expect([question.tree])
    brief["indicator"]["warmup_bars"] = warmup_bars(question.tree, interval)
    brief["data"] = data.described()
    if "simulated" in data.source:
        brief["flags"] = [flag("simulated", "high", "simulated candles: the behaviour is that of a generator")]
    close = data.candles.close
    if question.tree.boolean:
        brief["behaviour"] = _condition(evaluator.conditions(question.tree), close)
    else:
        brief["behaviour"] = _number(evaluator.numbers(question.tree), close)
    return brief


def _condition(values: Any, close: FloatColumn) -> Brief:
    gaps = np.diff(np.flatnonzero(values))
    found: Brief = {
        "true_bars": int(values.sum()),
        "true_share": shown(float(values.mean())),
        "median_bars_between": shown(float(np.median(gaps))) if len(gaps) else None,
    }
    rows = [
        [f"{name}", int(mask.sum()), *_forward_means(close, mask)]
        for name, mask in (("true", values), ("false", ~values))
    ]
    return found | _forward(rows, values.astype(np.float64), close)


def _number(values: FloatColumn, close: FloatColumn) -> Brief:
    known = values[~np.isnan(values)]
    if len(known) < FEWEST_VALUES:
        return {"known_bars": len(known), "why": f"{FEWEST_VALUES} known values are needed"}
    quantiles = np.percentile(known, (1, 5, 25, 50, 75, 95, 99))
    is_price = bool(0.5 < np.median(known / close[~np.isnan(values)]) < 2.0)
    judged = close / values - 1.0 if is_price else values
    found: Brief = {
        "known_bars": len(known),
        "distribution": table(
            ["min", "p1", "p5", "p25", "median", "p75", "p95", "p99", "max", "mean", "deviation", "last"],
            [[known.min(), *quantiles, known.max(), known.mean(), known.std(ddof=1), values[-1]]],
        ),
        "autocorrelation": {f"lag_{lag}": shown(_autocorrelation(known, lag), 4) for lag in LAGS},
        "time": _time_above(judged, is_price=is_price),
    }
    return found | _buckets(judged, close, "close / indicator - 1" if is_price else "its value")


def _autocorrelation(values: FloatColumn, lag: int) -> float:
    before, after = values[:-lag], values[lag:]
    if before.std() <= 0 or after.std() <= 0:
        return math.nan
    return float(np.corrcoef(before, after)[0, 1])


def _time_above(values: FloatColumn, *, is_price: bool) -> Brief:
    """Return the share of time above 0, or above the middle of its range or its median where 0 is never crossed."""
    known = values[~np.isnan(values)]
    level, what = 0.0, "close above it" if is_price else "above 0"
    if known.min() >= 0.0 or known.max() <= 0.0:
        is_percent = known.min() >= 0.0 and 30.0 < known.max() <= 100.0
        level, what = (50.0, "above 50") if is_percent else (float(np.median(known)), "above its median")
    is_above = known > level
    changes = int(np.count_nonzero(is_above[1:] != is_above[:-1]))
    return {
        "what": what,
        "share": shown(float(is_above.mean()), 4),
        "mean_bars_on_one_side": shown(len(known) / (changes + 1), 4),
    }


def _buckets(judged: FloatColumn, close: FloatColumn, what: str) -> Brief:
    known = judged[np.isfinite(judged)]
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, BUCKETS + 1)))
    if len(edges) < 3:
        return {"forward_returns": {"rows": [], "why": "the values hardly vary"}}
    rows: list[list[Any]] = []
    codes = np.clip(np.searchsorted(edges, judged, side="right") - 1, 0, len(edges) - 2)
    codes = np.where(np.isfinite(judged), codes, -1)
    for bucket in range(len(edges) - 1):
        mask = codes == bucket
        label = f"{shown(float(edges[bucket]), 4):g} to {shown(float(edges[bucket + 1]), 4):g}"
        rows.append([label, int(mask.sum()), *_forward_means(close, mask)])
    extreme = np.where(codes == len(edges) - 2, 1.0, np.where(codes == 0, 0.0, math.nan))
    return _forward(rows, extreme, close) | {"bucketed_by": what}


def _forward_means(close: FloatColumn, mask: Any) -> list[float]:
    means: list[float] = []
    for horizon in HORIZONS:
        ahead = close[horizon:] / close[:-horizon] - 1.0
        chosen = ahead[mask[: len(ahead)]]
        means.append(float(chosen.mean()) if len(chosen) else math.nan)
    return means


def _forward(rows: list[list[Any]], groups: FloatColumn, close: FloatColumn) -> Brief:
    """Return the table and the difference of its last group (1) and its first (0), with an interval."""
    columns = ["bucket", "bars", *(f"mean_return_next_{horizon}" for horizon in HORIZONS)]
    return {
        "forward_returns": table(columns, rows, 4)
        | {"extreme_difference": _difference(groups, close), "caveat": CAVEAT},
    }


def _difference(groups: FloatColumn, close: FloatColumn) -> Brief:
    ahead = close[JUDGED_HORIZON:] / close[:-JUDGED_HORIZON] - 1.0
    groups = groups[: len(ahead)]
    kept = ~np.isnan(groups)
    if np.count_nonzero(groups == 1.0) < 30 or np.count_nonzero(groups == 0.0) < 30:
        return {"why": "fewer than 30 bars on one side"}
    block = max(float(JUDGED_HORIZON), optimal_block_length(ahead))
    random = np.random.default_rng(SEED)
    drawn: list[float] = []
    high, low = np.where(groups == 1.0, 1.0, 0.0), np.where(groups == 0.0, 1.0, 0.0)
    for _ in range(0, SAMPLES, 50):
        rows = stationary_indices(len(ahead), 50, block, random)
        values = ahead[rows]
        above, below = high[rows], low[rows]
        with np.errstate(all="ignore"):
            drawn += (
                (values * above).sum(axis=1) / above.sum(axis=1) - (values * below).sum(axis=1) / below.sum(axis=1)
            ).tolist()
    known = np.array([value for value in drawn if math.isfinite(value)])
    observed = float(ahead[kept & (groups == 1.0)].mean() - ahead[kept & (groups == 0.0)].mean())
    bounds = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return {
        "horizon_bars": JUDGED_HORIZON,
        "last_minus_first": shown(observed, 4),
        "low_95": shown(float(bounds[0]), 4),
        "high_95": shown(float(bounds[1]), 4),
        "contains_0": bool(bounds[0] <= 0 <= bounds[1]),
    }
