"""A metric or a word of statistics explained, with its value in a run and how uncertain that value is."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from engine.analysis.figures import Brief, flag, shown
from engine.analysis.glossary import WORDS, Word
from engine.analysis.stored_runs import StoredRun, run_facts
from engine.core.candles import FloatColumn
from engine.core.metrics import METRICS, Facts, Metric
from engine.core.metrics.returns import RETURN_METRICS
from engine.core.timeframes import DAY_MS
from engine.core.trades import Trades
from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.errors import NotFound

SAMPLES, SEED = 1_000, 0
FEWEST_DAYS, FEWEST_TRADES = 20, 10
CONFIDENCE = 0.95
# Of the daily returns alone; the others need bars, the market, or time that resampling does not keep.
_OF_DAYS = frozenset(metric.name for metric in RETURN_METRICS) - {
    "max_drawdown_intraday", "alpha", "beta", "stability", "max_drawdown_days",
}  # fmt: skip
_OF_TRADES = frozenset(
    ("win_rate", "profit_factor", "expectancy", "risk_expectancy", "payoff", "sqn", "sqn_100", "kelly", "average_win",
     "average_loss", "average_bars")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricInterval:
    """A percentile interval of a metric, and how it was made."""

    low: float
    high: float
    method: str


def find_word(name: str) -> Metric | Word:
    """Return what a name means, under any of its spellings; an unknown one is NotFound with the nearest names."""
    wanted = _plain(name)
    known: dict[str, Metric | Word] = {}
    for word in WORDS:
        known |= {_plain(spelling): word for spelling in (word.name, word.title, *word.aliases)}
    for metric in METRICS.values():
        known |= {_plain(metric.name): metric, _plain(metric.title): metric}
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=5, cutoff=0.5) or [
        one for one in known if wanted and wanted in one
    ]
    names = list(dict.fromkeys(known[one].name for one in near)) or [
        "sharpe",
        "max_drawdown",
        "profit_factor",
        "deflated_sharpe",
    ]
    raise NotFound(
        f"there is no metric {name[:40]!r}", fix=f"did you mean {', '.join(names[:5])}? docs://metrics lists them"
    )


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def metric_brief(found: Metric | Word, run: StoredRun | None) -> Brief:
    """Return definition, convention, formula and source; with a run, value and interval."""
    if isinstance(found, Word):
        brief: Brief = {
            "kind": "word",
            "name": found.name,
            "title": found.title,
            "definition": found.definition,
            "formula": found.formula,
            "source": found.source,
            "reading": found.reading,
        }
        return brief if run is None else brief | {"run": run_facts(run), "value": None, "why": _where(found)}
    brief = {
        "kind": "metric",
        "name": found.name,
        "title": found.title,
        "unit": found.unit,
        "formula": found.definition,
        "convention": found.convention,
        "source": found.source,
        "undefined_when": found.undefined_when or "never",
    }
    return brief if run is None else brief | _value(found, run)


def _where(word: Word) -> str:
    return f"{word.title} is not a figure of one run; get_verdict and the tools named here tell it"


def _value(metric: Metric, run: StoredRun) -> Brief:
    value = run.metrics.get(metric.name)
    interval = metric_interval(metric, run)
    told: Brief = {"run": run_facts(run), "value": value}
    if value is None:
        told["why_no_value"] = run.result["undefined"].get(metric.name, "this run was made before the metric was")
    if isinstance(interval, str):
        told["interval_95"] = None
        told["why_no_interval"] = interval
    else:
        told["interval_95"] = {"low": shown(interval.low), "high": shown(interval.high), "method": interval.method}
    told["flags"] = _flags(metric, run, interval)
    return told


def metric_interval(metric: Metric, run: StoredRun, samples: int = SAMPLES, seed: int = SEED) -> MetricInterval | str:
    """Return a 95 % interval of a metric of a run, or why there is none."""
    if run.metrics.get(metric.name) is None:
        return "the metric has no value in this run"
    if metric.name in _OF_DAYS:
        return _interval_of_days(metric, run, samples, seed)
    if metric.name in _OF_TRADES:
        return _interval_of_trades(metric, run, samples, seed)
    return "it counts or reports what happened and estimates nothing"


def _interval_of_days(metric: Metric, run: StoredRun, samples: int, seed: int) -> MetricInterval | str:
    returns = run.returns
    if returns is None or len(returns) < FEWEST_DAYS:
        return f"{0 if returns is None else len(returns)} daily returns; {FEWEST_DAYS} are needed"
    block = max(optimal_block_length(returns), optimal_block_length(returns**2))
    rows = stationary_indices(len(returns), samples, block, np.random.default_rng(seed))
    elapsed_days = (int(run.marks_ms[-1]) - int(run.marks_ms[0])) / DAY_MS
    values = _measured(metric, lambda row: resampled_days(run.capital, returns[rows[row]], elapsed_days), samples)
    return _told(
        values, f"stationary bootstrap of {len(returns)} days, mean block {block:.1f}, {samples} samples, seed {seed}"
    )


def resampled_days(capital: float, returns: FloatColumn, elapsed_days: float) -> Facts:
    """Return the facts of a made-up account with these daily returns, for metrics that look at nothing else."""
    marks = capital * np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    made_up = SimpleNamespace(
        marks=marks,
        returns=returns,
        drawdowns=1.0 - marks / np.maximum.accumulate(marks),
        elapsed_days=elapsed_days,
        settings=SimpleNamespace(capital=capital),
    )
    return cast("Facts", made_up)


def _interval_of_trades(metric: Metric, run: StoredRun, samples: int, seed: int) -> MetricInterval | str:
    count = len(run.trades)
    if count < FEWEST_TRADES:
        return f"{count} trades; {FEWEST_TRADES} are needed"
    rows = np.random.default_rng(seed).integers(count, size=(samples, count))
    values = _measured(metric, lambda row: _resampled_trades(run.trades, rows[row]), samples)
    return _told(values, f"{count} trades drawn again independently, {samples} samples, seed {seed}")


def _resampled_trades(trades: Trades, rows: Any) -> Facts:
    drawn = Trades(**{name: getattr(trades, name)[rows] for name in Trades.__slots__})
    pnl = drawn.pnl
    return cast("Facts", SimpleNamespace(trades=drawn, pnl=pnl, wins=pnl[pnl > 0], losses=pnl[pnl < 0]))


def _measured(metric: Metric, facts_of: Callable[[int], Facts], samples: int) -> FloatColumn:
    outcomes = (metric.measure(facts_of(row)) for row in range(samples))
    return np.array([math.nan if isinstance(outcome, str) else float(outcome) for outcome in outcomes])


def _told(values: FloatColumn, method: str) -> MetricInterval | str:
    known = values[np.isfinite(values)]
    if len(known) < 0.5 * len(values):
        return "it is undefined in most resampled histories"
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return MetricInterval(float(low), float(high), method)


def _flags(metric: Metric, run: StoredRun, interval: MetricInterval | str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if "simulated" in run.data["source"]:
        found.append(flag("simulated", "high", "simulated candles: the value says nothing about a real market"))
    if run.metrics["trades"] < 30:
        found.append(flag("few_trades", "high", f"{run.metrics['trades']} trades: the value is mostly chance"))
    neutral = 1.0 if metric.name in ("profit_factor", "omega", "payoff") else 0.0
    if not isinstance(interval, str) and interval.low < neutral < interval.high:
        found.append(flag("contains_neutral", "medium", f"the interval contains {neutral:g}"))
    if not isinstance(interval, str):
        found.append(
            flag("one_of_many", "low", "the interval knows nothing of other strategies tried; get_verdict does")
        )
    return found
