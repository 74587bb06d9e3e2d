"""Several stored runs side by side: aligned figures, paired tests on common days, who is dominated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, Severity, day, flag, table
from engine.analysis.stored_runs import StoredRun
from engine.core.candles import FloatColumn, TimeColumn
from engine.core.run_settings import DEFAULT_FEES_PERCENT
from engine.core.validation.bootstrap import optimal_block_length, stationary_indices
from engine.core.validation.return_matrix import CHUNK_VALUES

METRICS = (
    "total_return", "cagr", "sharpe", "sortino", "volatility", "max_drawdown", "trades", "win_rate", "profit_factor",
    "expectancy", "exposure", "buy_and_hold_return",
)  # fmt: skip
LABELS = "ABCDEF"
MOST_PARAMS = 6
SAMPLES = 2_000
SEED = 0
FEWEST_DAYS = 20
FEW_TRADES = 30
PERIODS_PER_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference of two runs on the same days, second minus first, per year.

    Attributes
    ----------
    correlation : float
        Of daily returns; NaN where one of them does not vary.
    mean_difference, sharpe_difference : float
    sharpe_low, sharpe_high : float
        95 % percentile interval.
    mean_p, sharpe_p : float
        Two-sided, of no difference.
    mean_block : float
        In days.
    """

    correlation: float
    mean_difference: float
    mean_p: float
    sharpe_difference: float
    sharpe_low: float
    sharpe_high: float
    sharpe_p: float
    mean_block: float


def paired_test(first: FloatColumn, second: FloatColumn, samples: int = SAMPLES, seed: int = SEED) -> PairedTest:
    """Compare two series of daily returns of the same days; see `paired_tests`."""
    return paired_tests([first, second], samples, seed)[0, 1]


def paired_tests(
    returns: Sequence[FloatColumn], samples: int = SAMPLES, seed: int = SEED
) -> dict[tuple[int, int], PairedTest]:
    """Compare every pair of several series of daily returns of the same days.

    Parameters
    ----------
    returns : sequence of ndarray of float64, shape (n,)
        n >= 9, no NaN.
    samples, seed : int

    Returns
    -------
    dict of (int, int) to PairedTest
        By the places of both series, the smaller first.

    Notes
    -----
    Stationary bootstrap of whole days, the same days for all (Politis and Romano 1994); p-values from the centred
    distribution, (1 + hits) / (1 + samples) (Ledoit and Wolf 2008 discuss the test). The block is the longest of the
    optimal ones of all series and of all their differences.
    """
    pairs = list(combinations(range(len(returns)), 2))
    differences = [returns[second] - returns[first] for first, second in pairs]
    block = max(optimal_block_length(series) for series in (*returns, *differences))
    means, sharpes = _resampled(returns, samples, block, seed)
    found: dict[tuple[int, int], PairedTest] = {}
    for first, second in pairs:
        one, two = returns[first], returns[second]
        mean = float(two.mean() - one.mean()) * PERIODS_PER_YEAR
        sharpe = float(_sharpes(two[None, :])[0] - _sharpes(one[None, :])[0])
        drawn = sharpes[second] - sharpes[first]
        known = drawn[~np.isnan(drawn)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
        varies = one.std() > 0 and two.std() > 0
        found[first, second] = PairedTest(
            correlation=float(np.corrcoef(one, two)[0, 1]) if varies else math.nan,
            mean_difference=mean,
            mean_p=_p_value(means[second] - means[first], mean),
            sharpe_difference=sharpe,
            sharpe_low=float(low),
            sharpe_high=float(high),
            sharpe_p=_p_value(known, sharpe),
            mean_block=float(block),
        )
    return found


def _resampled(
    returns: Sequence[FloatColumn], samples: int, block: float, seed: int
) -> tuple[FloatColumn, FloatColumn]:
    """Return mean and Sharpe ratio a year of each series in each sample, shape (series, samples)."""
    random = np.random.default_rng(seed)
    days = len(returns[0])
    figures = np.empty((2, len(returns), samples))
    width = max(1, CHUNK_VALUES // days)
    for start in range(0, samples, width):
        end = min(start + width, samples)
        rows = stationary_indices(days, end - start, block, random)
        for place, series in enumerate(returns):
            drawn = series[rows]
            figures[0, place, start:end] = drawn.mean(axis=1) * PERIODS_PER_YEAR
            figures[1, place, start:end] = _sharpes(drawn)
    return figures[0], figures[1]


def _sharpes(rows: FloatColumn) -> FloatColumn:
    spread = rows.std(axis=1, ddof=1)
    return math.sqrt(PERIODS_PER_YEAR) * rows.mean(axis=1) / np.where(spread > 1e-14, spread, math.nan)


def _p_value(drawn: FloatColumn, observed: float) -> float:
    if math.isnan(observed) or not len(drawn):
        return math.nan
    return float((1 + np.count_nonzero(np.abs(drawn - observed) >= abs(observed))) / (1 + len(drawn)))


def comparison_brief(runs: Sequence[StoredRun]) -> Brief:
    """Return the comparison of 2 to 6 runs, which tables name by letters."""
    names = LABELS[: len(runs)]
    days, returns = common_days(runs)
    common = _on_common_days(names, returns) if len(days) >= 2 else None
    differences = _differences(runs)
    return {
        **_identities(names, runs),
        # Exactly as the engine tells them.
        "metrics": {
            "columns": ["metric", *names],
            "rows": [[metric, *(run.metrics[metric] for run in runs)] for metric in METRICS],
        },
        "conventions": "each over its whole range; ratios from daily marks at 00:00 UTC, 365 days a year; fractions of 1; money in its currency",
        "common_days": {
            "days": len(days),
            "first": day(None if not len(days) else int(days[0]) - 1),
            "last": day(None if not len(days) else int(days[-1]) - 1),
        },
        "on_common_days": common,
        "pairs": _pairs(names, returns),
        "dominated": _dominated(names, common, comparable=not differences),
        "flags": [*differences, *_flags(names, runs, len(days))],
    }


def common_days(runs: Sequence[StoredRun]) -> tuple[TimeColumn, list[FloatColumn]]:
    """Return the ends of the whole days that all runs cover, and each run's returns of them."""
    series = [run.whole_days() for run in runs]
    days = series[0][0]
    for times, _ in series[1:]:
        days = np.intersect1d(days, times)
    return days, [values[np.isin(times, days)] for times, values in series]


def _identities(names: str, runs: Sequence[StoredRun]) -> Brief:
    """Return what the runs are: told once where they agree."""
    told = [
        {name: run.data[name] for name in ("symbol", "category", "interval", "start", "end", "source", "currency")}
        for run in runs
    ]
    common = {name: value for name, value in told[0].items() if all(one[name] == value for one in told)}
    differing = [name for name in told[0] if name not in common]
    rows: list[list[Any]] = [
        [
            label,
            run.id,
            run.result["strategy"]["name"],
            _few(run.result["strategy"]["params"]),
            *(one[name] for name in differing),
        ]
        for label, run, one in zip(names, runs, told, strict=True)
    ]
    return {"runs": table(["label", "run_id", "strategy", "params", *differing], rows), "alike_in": common}


def _few(params: dict[str, float]) -> dict[str, float | str]:
    """Return the first parameters of many."""
    if len(params) <= MOST_PARAMS:
        return dict(params)
    return {**dict(list(params.items())[:MOST_PARAMS]), "more": f"{len(params) - MOST_PARAMS} others: get_run"}


def _on_common_days(names: str, returns: Sequence[FloatColumn]) -> Brief:
    rows: list[list[Any]] = []
    for name, values in zip(names, returns, strict=True):
        equity = np.concatenate(([1.0], np.cumprod(1.0 + values)))
        fall = float(np.max(1.0 - equity / np.maximum.accumulate(equity)))
        rows.append([name, float(equity[-1] - 1.0), float(_sharpes(values[None, :])[0]), fall])
    return table(["run", "total_return", "sharpe", "max_drawdown"], rows)


def _pairs(names: str, returns: Sequence[FloatColumn]) -> Brief:
    if len(returns[0]) < FEWEST_DAYS:
        return {"rows": [], "why": f"{len(returns[0])} common days; {FEWEST_DAYS} are needed for a test"}
    pairs = paired_tests(returns)
    rows: list[list[Any]] = []
    for (first, second), found in pairs.items():
        rows.append(
            [
                f"{names[second]}-{names[first]}", found.correlation, found.mean_difference, found.mean_p,
                found.sharpe_difference, found.sharpe_low, found.sharpe_high, found.sharpe_p,
                min(1.0, found.sharpe_p * len(pairs)),
            ]
        )  # fmt: skip
    columns = ["pair", "correlation", "mean_difference", "mean_p", "sharpe_difference", "low_95", "high_95", "sharpe_p"]
    note = f"differences a year; paired stationary bootstrap, {SAMPLES} samples, seed {SEED}; _all: Bonferroni over {len(pairs)} pairs"
    return table([*columns, "sharpe_p_all"], rows, 3) | {"note": note}


def _dominated(names: str, common: Brief | None, *, comparable: bool) -> Brief:
    if common is None:
        return {"by": {}, "why": "there are not enough common days"}
    figures = {row[0]: row[1:] for row in common["rows"] if None not in row}
    by = {
        worse: [better for better in figures if _dominates(figures[better], figures[worse])]
        for worse in names
        if worse in figures
    }
    told: Brief = {
        "by": {worse: better for worse, better in by.items() if better},
        "meaning": "on common days: return and Sharpe no higher, drawdown no smaller; no proof",
    }
    return told if comparable else told | {"caution": "the runs differ in more than the strategy: see flags"}


def _dominates(better: Sequence[float], worse: Sequence[float]) -> bool:
    at_least = better[0] >= worse[0] and better[1] >= worse[1] and better[2] <= worse[2]
    return at_least and list(better) != list(worse)


def _differences(runs: Sequence[StoredRun]) -> list[dict[str, str]]:
    severities: dict[str, Severity] = {"range": "high", "costs": "high", "source": "high", "engine": "medium"}
    found: list[dict[str, str]] = []
    for name, tell in _CONDITIONS.items():
        values = list(dict.fromkeys(tell(run) for run in runs))
        if len(values) > 1:
            found.append(flag(f"different_{name}", severities.get(name, "medium"), "; ".join(values)))
    return found


def _costs_text(run: StoredRun) -> str:
    settings = run.settings
    default = DEFAULT_FEES_PERCENT[run.data["category"]]
    given = (settings["taker_fee_percent"], settings["maker_fee_percent"])
    taker, maker = (known if fee is None else fee for fee, known in zip(given, default, strict=True))
    return f"fees {taker:g} % taker, {maker:g} % maker, slippage {settings['slippage_percent']:g} %, funding {'on' if settings['funding'] else 'off'}"


def _size_text(run: StoredRun) -> str:
    """Return the size that was traded, in words; the settings' own comes before the strategy's."""
    size = {name: value for name, value in (run.settings.get("size") or {}).items() if value is not None}
    return " and ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in size.items()) or "of the strategy"


# What else than the strategy may differ between runs.
_CONDITIONS: dict[str, Callable[[StoredRun], str]] = {
    "market": lambda run: f"{run.data['symbol']} {run.data['category']}",
    "interval": lambda run: str(run.data["interval"]),
    "range": lambda run: f"{run.data['start'][:10]} to {run.data['end'][:10]}",
    "costs": _costs_text,
    "capital": lambda run: f"{run.capital:g} {run.data['currency']}",
    "leverage_and_size": lambda run: f"leverage {run.settings['leverage']:g}, size {_size_text(run)}",
    "source": lambda run: str(run.data["source"]),
    "engine": lambda run: str(run.manifest["engine"]),
}


def _flags(names: str, runs: Sequence[StoredRun], days: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if any("simulated" in run.data["source"] for run in runs):
        found.append(flag("simulated", "high", "simulated candles: the figures say nothing about a real market"))
    ruined = [name for name, run in zip(names, runs, strict=True) if run.returns is None]
    few = [
        f"{name} closed {run.metrics['trades']}"
        for name, run in zip(names, runs, strict=True)
        if run.metrics["trades"] < FEW_TRADES
    ]
    if ruined:
        found.append(flag("ruined", "high", f"{', '.join(ruined)} lost the capital and leave no days to compare"))
    if few:
        found.append(flag("few_trades", "high", f"{', '.join(few)} trades; fewer than {FEW_TRADES} are mostly chance"))
    if days < 90:
        found.append(flag("few_common_days", "high", f"{days} common days; differences are mostly chance"))
    found.append(
        flag(
            "chosen_afterwards", "low", "the best of several is flattered by the choice; get_verdict counts all trials"
        )
    )
    return found
