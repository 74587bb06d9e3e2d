"""What is timed: the jobs W1 to W6, how large each engine runs them, and the checks that come before the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from engines import PEERS, SETTINGS, STOP, TARGET, TRAIL, Ours, Pair, crosses, document
from market import make_candles

from engine.core.candles import Candles
from engine.core.expressions import tree_of
from engine.core.expressions.evaluation import Evaluator
from engine.core.kernel import COUNTERS, RECORD_WIDTH, ROW_WIDTH, RUINED_BAR, run_bars
from engine.core.market_detail import NO_DETAIL
from engine.core.metrics import compute_metrics
from engine.core.portfolio import (
    Leg,
    PortfolioResult,
    PortfolioSettings,
    basket_candles,
    combined_simulation,
    simulate_portfolio,
)
from engine.core.portfolio.reference_account import simulate_portfolio_plainly
from engine.core.signals import Signals, compute_signals
from engine.core.simulator import kernel_rules, pack_decisions, simulate
from engine.core.strategy import compile_strategy
from engine.core.sweep import event_kernel, sweep
from engine.core.sweep.batch import Shapes, make_batch
from engine.core.sweep.blocks import price_blocks
from engine.core.sweep.columns import ColumnBank, Evaluation
from engine.core.sweep.levels import level_table
from engine.core.sweep.perpetual_events import margin_of, settled_bars
from engine.core.sweep.plan import plan_strategy

GRID: list[Pair] = [(fast, slow) for fast in range(4, 43, 2) for slow in range(50, 296, 5)]
ONE: Pair = (20, 50)
SYMBOLS = 20
# Jobs that no peer has.
ALONE = ("W4", "W6")
WINDOWS, OUT_SHARE = 12, 4


@dataclass(frozen=True, slots=True)
class Job:
    """A job: bars of the whole, combinations, and whether stops, targets and trails are on."""

    name: str
    title: str
    bars: int
    pairs: list[Pair]
    levels: bool


JOBS = {
    "W1": Job("W1", "one run, trades + equity + metrics", 1_000_000, [ONE], False),
    "W1S": Job("W1S", "one run with stop, target, trail", 1_000_000, [ONE], True),
    "W2": Job("W2", "1,000 combinations", 100_000, GRID, False),
    "W3": Job("W3", "1,000 combinations with stop, target, trail", 100_000, GRID, True),
    "W4": Job("W4", "walk-forward, 12 windows x 200 combinations", 500_000, GRID[::5], True),
    "W6": Job("W6", "one account over 20 symbols, trades + equity + metrics", 35_000, [ONE], False),
}
# Slow engines run a part of a job; the figure is a bar and combination, so it compares.
PARTS: dict[str, dict[str, tuple[int, int]]] = {
    "backtesting": {"W1": (100_000, 1), "W1S": (50_000, 1), "W2": (20_000, 2), "W3": (20_000, 2)},
    "vectorbt": {"W2": (100_000, 50), "W3": (100_000, 50)},
    "raptorbt": {"W2": (100_000, 200), "W3": (100_000, 200)},
}


@dataclass(frozen=True, slots=True)
class Timed:
    """One engine's part of a job: what to call, and how many bars times combinations that is."""

    label: str
    work: Callable[[], object]
    cells: int
    part: str


def size_of(job: Job, engine: str) -> tuple[int, list[Pair]]:
    """Return the bars and pairs an engine runs of a job."""
    bars, count = PARTS.get(engine, {}).get(job.name, (job.bars, len(job.pairs)))
    step = max(len(job.pairs) // count, 1)
    return bars, job.pairs[::step][:count]


def timed(job: Job, engine: str, scale: float) -> tuple[Timed, list[str]]:
    """Return one engine's part of a job and what checking it found."""
    bars, pairs = size_of(job, engine)
    candles = make_candles(int(bars * scale))
    if job.name == "W4":
        work, cells = walk_forward(candles, pairs)
        return Timed("ours", work, cells, f"{len(candles):,} bars"), []
    if job.name == "W6":
        return Timed("ours", portfolio(len(candles), simulate_portfolio), len(candles) * SYMBOLS, "full"), []
    runner = Ours(candles) if engine == "ours" else PEERS[engine](candles)
    findings = [] if engine == "ours" else agreement(runner, candles, pairs, levels=job.levels)
    if len(job.pairs) == 1:
        work: Callable[[], object] = lambda: runner.single(ONE, levels=job.levels)  # noqa: E731
    else:
        work = lambda: runner.grid(pairs, levels=job.levels)  # noqa: E731
    part = "full" if (bars, len(pairs)) == (job.bars, len(job.pairs)) else f"{bars:,} bars x {len(pairs)}"
    return Timed(runner.name, work, len(candles) * len(pairs), part), findings


def agreement(runner: object, candles: Candles, pairs: Sequence[Pair], *, levels: bool) -> list[str]:
    """Compare a peer's trades with ours: on its own crosses trade by trade, and on ours by number."""
    few = candles.take(slice(0, min(len(candles), 50_000)))
    checked = type(runner)(few)  # type: ignore[call-arg]
    found = checked.single(ONE, levels=levels, detail=True)  # type: ignore[attr-defined]
    expected = simulate(few, fed(*found.crosses, levels=levels), SETTINGS).trades.exit_bar
    # Several trades may end in one bar, so both sides are counted by bar.
    ends = [np.bincount(np.asarray(bars, np.int64), minlength=len(few) + 2) for bars in (found.exit_bars, expected)]
    same = int(np.minimum(*ends).sum())
    ours = Ours(few).grid(pairs[:2], levels=levels).trades
    theirs = checked.grid(pairs[:2], levels=levels).trades  # type: ignore[attr-defined]
    return [
        f"{len(found.exit_bars)} trades, ours on its crosses {len(expected)}, same exit bar {same}; "
        f"two pairs on own averages {theirs}, ours {ours}"
    ]


def fed(above: np.ndarray, below: np.ndarray, *, levels: bool) -> Signals:
    """Return signals made of masks, for engines whose averages start differently."""
    stop, target, trail = (STOP, TARGET, TRAIL) if levels else (math.nan,) * 3
    return Signals(above, below, below, above, stop, None, target, None, trail, None, math.nan, math.nan, 0, 0)


def walk_forward(candles: Candles, pairs: Sequence[Pair]) -> tuple[Callable[[], object], int]:
    """Return a walk-forward of ours: the best pair in each window, run again on the bars after it."""
    outside = len(candles) // (OUT_SHARE + WINDOWS)
    inside = OUT_SHARE * outside
    strategy = document(levels=True)
    points = [{"fast": fast, "slow": slow} for fast, slow in pairs]

    def work() -> list[float]:
        nets: list[float] = []
        for window in range(WINDOWS):
            start = window * outside
            seen = sweep(candles.take(slice(start, start + inside)), strategy, points, "1", SETTINGS)
            best = seen.best("net_profit")[0]
            after = candles.take(slice(start + inside - 300, start + inside + outside))
            run = simulate(after, compute_signals(compile_strategy(strategy, points[best]), after, "1"), SETTINGS)
            nets.append(float(run.equity[-1]))
        return nets

    return work, WINDOWS * inside * len(pairs)


def portfolio(bars: int, simulate_shared: Callable[..., PortfolioResult]) -> Callable[[], object]:
    """Return a run of one strategy over 20 symbols with shared capital, five positions at most."""
    strategy = compile_strategy(document(levels=False), {"fast": ONE[0], "slow": ONE[1]})
    markets = {f"S{seed}": make_candles(bars, seed) for seed in range(SYMBOLS)}
    execution = replace(SETTINGS, size_value=1.0)
    shared = PortfolioSettings(capital=SETTINGS.capital, max_positions=5)

    def work() -> object:
        legs = {name: Leg(one, compute_signals(strategy, one, "1"), execution) for name, one in markets.items()}
        found = simulate_shared(legs, shared)
        simulation, _ = combined_simulation(found, legs)
        return compute_metrics(simulation, basket_candles(found, legs), "1", execution)

    return work


def limits(job: Job, scale: float) -> list[Timed]:
    """Return what a job cannot be faster than: the bare kernel with ready masks, and plain numpy finding the crosses."""
    candles = make_candles(int(min(job.bars, 1_000_000) * scale))
    if job.name == "W4":
        return []
    if job.name == "W6":
        few = len(candles) // 10
        work = portfolio(few, simulate_portfolio_plainly)
        return [Timed("the plain account it answers to", work, few * SYMBOLS, f"{few:,} bars")]
    strategy = compile_strategy(document(levels=job.levels), {"fast": ONE[0], "slow": ONE[1]})
    signals = compute_signals(strategy, candles, "1")
    one, other = (Evaluator(candles, "1").numbers(tree_of(f"ema(close, {period})")) for period in ONE)
    found = [Timed("plain numpy: crosses of ready averages", lambda: crosses(one, other), len(candles), "one core")]
    if len(job.pairs) == 1:
        found.append(Timed("bare bar kernel, masks ready", bare_bars(candles, signals), len(candles), "one core"))
    else:
        found.append(
            Timed(
                "bare event kernel, masks ready", bare_events(candles, job), len(candles) * len(job.pairs), "two cores"
            )
        )
    return found


def bare_events(candles: Candles, job: Job) -> Callable[[], object]:
    """Return a call of the event kernel alone, on two threads."""
    strategy, bars, count = document(levels=job.levels), len(candles), len(job.pairs)
    columns = {name: np.array([pair[row] for pair in job.pairs], float) for row, name in enumerate(("fast", "slow"))}
    plan = plan_strategy(strategy, {"fast": 20.0, "slow": 50.0})
    bank = ColumnBank(bars, 80)
    batch = make_batch(
        plan, Shapes(plan, columns, count, "1", {}), bank, Evaluation(candles, "1", None, 10**8), bars, map
    )
    levels = level_table(strategy, columns, count, SETTINGS.size_value)
    prices = [column.view() for column in candles.columns()[1:5]]
    for column in prices:
        column.flags.writeable = False
    marks_at = np.arange(1_439, bars, 1_440)
    marks, figures = np.empty((count, len(marks_at))), np.empty((count, event_kernel.FIGURES))
    nothing = np.zeros(0, np.bool_)
    blocks, rules = price_blocks(candles), kernel_rules(fed(nothing, nothing, levels=False), SETTINGS)
    settled, margin = settled_bars(candles, NO_DETAIL), margin_of(candles, NO_DETAIL, ())
    pool = ThreadPoolExecutor(2)

    def run(first: int) -> None:
        event_kernel.run_combinations(
            *prices, blocks, batch.masks, batch.mask_rows, bank.table, batch.distance_rows, levels, batch.warmups,
            rules, settled, margin, marks_at, marks, figures, first, min(first + 32, count),
        )  # fmt: skip

    return lambda: list(pool.map(run, range(0, count, 32)))


def bare_bars(candles: Candles, signals: Signals) -> Callable[[], object]:
    """Return a call of the bar kernel alone."""
    bars = len(candles)
    prices = [column.view() for column in candles.columns()[1:5]]
    nothing = np.empty(0)
    for column in (*prices, nothing):
        column.flags.writeable = False
    packed, rules = pack_decisions(signals), kernel_rules(signals, SETTINGS)
    equity, position = np.empty(bars), np.empty(bars, np.int8)
    most = int(np.count_nonzero(signals.long_entry | signals.short_entry))
    rows, records = np.empty((most, ROW_WIDTH), np.int64), np.empty((most, RECORD_WIDTH))

    def work() -> int:
        counters = np.zeros(COUNTERS, np.int64)
        counters[RUINED_BAR] = -1
        return run_bars(
            *prices, packed, nothing, nothing, nothing, rules, equity, position, rows, records, counters
        )  # fmt: skip

    return work


def growth(scale: float) -> dict[str, list[tuple[int, float]]]:
    """Return seconds by bars for one run and for 20 combinations, and by combinations over 100,000 bars."""
    strategy = document(levels=False)
    largest = make_candles(int(5_000_000 * scale))
    measured: dict[str, list[tuple[int, float]]] = {"one run": [], "20 combinations": [], "100,000 bars": []}
    points = [{"fast": fast, "slow": slow} for fast, slow in GRID]
    for bars in (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000, 5_000_000):
        if bars <= len(largest):
            candles = largest.take(slice(0, bars))
            ours = Ours(candles)
            measured["one run"].append((bars, best_of(lambda ours=ours: ours.single(ONE, levels=False))))
            measured["20 combinations"].append(
                (bars, best_of(lambda candles=candles: sweep(candles, strategy, points[::50], "1", SETTINGS)))
            )
    candles = largest.take(slice(0, min(100_000, len(largest))))
    for count in (1, 3, 10, 30, 100, 300, 1_000):
        chosen = points[:count]
        seconds = best_of(lambda chosen=chosen: sweep(candles, strategy, chosen, "1", SETTINGS))
        measured["100,000 bars"].append((count, seconds))
    return measured


INDICATORS: dict[str, tuple[str, ...]] = {
    "EMA 20": ("ema(close, 20)",),
    "RSI 14": ("rsi(close, 14)",),
    "ATR 14": ("atr(14)",),
    "Bollinger 20": ("bb_upper(close, 20, 2)", "bb_middle(close, 20, 2)", "bb_lower(close, 20, 2)"),
    "MACD": ("macd(close, 12, 26, 9)", "macd_signal(close, 12, 26, 9)", "macd_hist(close, 12, 26, 9)"),
    "Supertrend 10,3": ("supertrend(3, 10)",),
}


def indicators(scale: float) -> list[tuple[str, float, float | None]]:
    """Return milliseconds of ours and of TA-Lib over 1,000,000 bars, every output of each indicator."""
    candles = make_candles(int(1_000_000 * scale))
    peers = _talib(candles)
    rows: list[tuple[str, float, float | None]] = []
    for name, expressions in INDICATORS.items():
        trees = [tree_of(expression) for expression in expressions]

        def ours(trees: list = trees) -> None:
            evaluator = Evaluator(candles, "1")
            evaluator.expect(trees)
            for tree in trees:
                evaluator.numbers(tree)

        theirs = peers.get(name)
        ours()
        rounds = [(best_of(ours, 2), best_of(theirs, 2) if theirs else math.nan) for _ in range(3)]
        mine, peer = np.median(np.array(rounds), axis=0) * 1e3
        rows.append((name, float(mine), None if math.isnan(peer) else float(peer)))
    return rows


def _talib(candles: Candles) -> dict[str, Callable[[], object]]:
    try:
        import talib
    except ImportError:
        return {}
    high, low, close = candles.high, candles.low, candles.close
    return {
        "EMA 20": lambda: talib.EMA(close, 20),
        "RSI 14": lambda: talib.RSI(close, 14),
        "ATR 14": lambda: talib.ATR(high, low, close, 14),
        "Bollinger 20": lambda: talib.BBANDS(close, 20, 2, 2),
        "MACD": lambda: talib.MACD(close, 12, 26, 9),
    }


def best_of(work: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of some runs in seconds, after one that does not count."""
    work()
    return min(seconds(work) for _ in range(times))


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
