"""The engines that run the benchmark's jobs: ours through its public functions, and peers through theirs.

Every engine computes its own indicators, signals, trades, equity and metrics inside the clock; data are converted outside.
A cross of two averages is decided at the close and filled at the next open; fee 0.055 %, slippage 0.01 %.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.core.candles import Candles
from engine.core.execution import ExecutionSettings
from engine.core.metrics import compute_metrics
from engine.core.signals import compute_signals
from engine.core.simulator import simulate
from engine.core.strategy import compile_strategy, parse_strategy
from engine.core.sweep import sweep

FEE, SLIPPAGE, CAPITAL, SHARE = 0.00055, 0.0001, 1_000_000.0, 0.02
STOP, TARGET, TRAIL = 0.005, 0.010, 0.004
SETTINGS = ExecutionSettings(
    capital=CAPITAL, taker_fee_fraction=FEE, slippage_fraction=SLIPPAGE, size_value=SHARE, target_fee="taker"
)
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an engine answered: trades of each combination; of the first one its crosses and, asked for, its exit bars."""

    trades: list[int]
    crosses: tuple[np.ndarray, np.ndarray] | None = None
    exit_bars: np.ndarray | None = None


def document(*, levels: bool) -> Any:
    """Return the job in the strategy language."""
    period = {"default": 20, "min": 2, "max": 400, "integer": True}
    raw: dict[str, Any] = {
        "name": "ema_pair", "params": {"fast": period, "slow": period},
        "define": {"f": "ema(close, fast)", "s": "ema(close, slow)"},
        "long_entry": "crossover(f, s)", "long_exit": "crossunder(f, s)",
        "short_entry": "crossunder(f, s)", "short_exit": "crossover(f, s)",
    }  # fmt: skip
    if levels:
        raw |= {
            "stop_loss": {"percent": STOP * 100}, "take_profit": {"percent": TARGET * 100},
            "trailing_stop": {"percent": TRAIL * 100},
        }  # fmt: skip
    return parse_strategy(raw)


class Ours:
    """This engine."""

    name = "ours"

    def __init__(self, candles: Candles) -> None:
        self._candles = candles

    def single(self, pair: Pair, *, levels: bool, detail: bool = False) -> Outcome:
        """Run once, with trades, equity and every metric."""
        strategy = compile_strategy(document(levels=levels), {"fast": pair[0], "slow": pair[1]})
        signals = compute_signals(strategy, self._candles, "1")
        simulation = simulate(self._candles, signals, SETTINGS)
        compute_metrics(simulation, self._candles, "1", SETTINGS)
        return Outcome([len(simulation.trades)])

    def grid(self, pairs: Sequence[Pair], *, levels: bool) -> Outcome:
        """Run every pair."""
        points = [{"fast": fast, "slow": slow} for fast, slow in pairs]
        result = sweep(self._candles, document(levels=levels), points, "1", SETTINGS)
        return Outcome([int(count) for count in result.values["trades"]])


class Raptor:
    """raptorbt: a run has one direction, so a long and a short leg; both legs of a batch share its threads."""

    name = "raptorbt"

    def __init__(self, candles: Candles) -> None:
        import raptorbt

        self._raptor, self._candles = raptorbt, candles
        self._prices = [np.ascontiguousarray(column) for column in candles.columns()[1:6]]
        self._times = candles.ts * 1_000_000

    def _config(self, *, levels: bool) -> Any:
        config = self._raptor.BacktestConfig(
            initial_capital=CAPITAL, fees=FEE, slippage=SLIPPAGE, fill_timing="next_bar_open",
            periods_per_year=525_600.0,
        )  # fmt: skip
        if levels:
            # The trail is tighter than the stop at every bar, so the stop never decides.
            config.set_trailing_stop(TRAIL)
            config.set_fixed_target(TARGET)
        return config

    def _legs(self, pair: Pair, averages: dict[int, np.ndarray], config: Any) -> list[Any]:
        above, below = crosses(averages[pair[0]], averages[pair[1]])
        return [
            self._raptor.BatchSingleItem("long", above, below, 1, config=config),
            self._raptor.BatchSingleItem("short", below, above, -1, config=config),
        ]

    def single(self, pair: Pair, *, levels: bool, detail: bool = False) -> Outcome:
        """Run both legs, with trades, equity and metrics."""
        averages = {period: self._raptor.ema(self._candles.close, period) for period in pair}
        results = self._raptor.batch_single_backtest(
            self._times, *self._prices, self._legs(pair, averages, self._config(levels=levels))
        )
        for _, result in results:
            result.equity_curve()
        trades = sum(result.metrics.total_trades for _, result in results)
        exits = np.sort([trade.exit_idx for _, run in results for trade in run.trades()]) if detail else None
        return Outcome([trades], crosses(averages[pair[0]], averages[pair[1]]), exits)

    def grid(self, pairs: Sequence[Pair], *, levels: bool) -> Outcome:
        """Run batches of 100 pairs."""
        averages = {
            period: self._raptor.ema(self._candles.close, period) for period in {one for pair in pairs for one in pair}
        }
        config, counts = self._config(levels=levels), []
        for start in range(0, len(pairs), 100):
            items = [leg for pair in pairs[start : start + 100] for leg in self._legs(pair, averages, config)]
            results = self._raptor.batch_single_backtest(self._times, *self._prices, items)
            found = [result.metrics.total_trades for _, result in results]
            counts.extend(found[row] + found[row + 1] for row in range(0, len(found), 2))
        return Outcome(counts, crosses(averages[pairs[0][0]], averages[pairs[0][1]]))


class Vectorbt:
    """vectorbt, numba engine: a fixed cash value, because its percent sizing refuses reversals; metrics as it defines them."""

    name = "vectorbt"

    def __init__(self, candles: Candles) -> None:
        import pandas as pd
        import vectorbt

        self._vbt = vectorbt
        # Without a zone: pandas turns an index with one into Python objects again and again.
        index = pd.to_datetime(candles.ts, unit="ms")
        names = ("open", "high", "low", "close")
        self._bars = {name: pd.Series(getattr(candles, name), index=index) for name in names}

    def _run(self, pairs: Sequence[Pair], *, levels: bool, detail: bool = False) -> Outcome:
        close = self._bars["close"]
        fast, slow = zip(*pairs, strict=True)
        one = self._vbt.MA.run(close, list(fast), ewm=True, short_name="fast")
        other = self._vbt.MA.run(close, list(slow), ewm=True, short_name="slow")
        above = one.ma_crossed_above(other).to_numpy(copy=True).reshape(len(close), -1)
        below = one.ma_crossed_below(other).to_numpy(copy=True).reshape(len(close), -1)
        for row, period in enumerate(slow):
            above[:period, row] = below[:period, row] = False
        shifted = [np.vstack((np.zeros((1, mask.shape[1]), bool), mask[:-1])) for mask in (above, below)]
        more: dict[str, Any] = {"sl_stop": TRAIL, "sl_trail": True, "tp_stop": TARGET} if levels else {}
        portfolio = self._vbt.Portfolio.from_signals(
            close, entries=shifted[0], short_entries=shifted[1], price=self._bars["open"], open=self._bars["open"],
            high=self._bars["high"], low=self._bars["low"], size=CAPITAL * SHARE, size_type="value", fees=FEE,
            slippage=SLIPPAGE, init_cash=CAPITAL, upon_opposite_entry="reverse", freq="1min", **more,
        )  # fmt: skip
        portfolio.total_return(), portfolio.max_drawdown(), portfolio.sharpe_ratio(), portfolio.sortino_ratio()
        counts = np.atleast_1d(portfolio.trades.count())
        exits = np.sort(portfolio.trades.records["exit_idx"].to_numpy()) if detail else None
        return Outcome([int(count) for count in counts], (above[:, 0], below[:, 0]), exits)

    def single(self, pair: Pair, *, levels: bool, detail: bool = False) -> Outcome:
        """Run once."""
        return self._run([pair], levels=levels, detail=detail)

    def grid(self, pairs: Sequence[Pair], *, levels: bool) -> Outcome:
        """Run batches of 50 pairs."""
        outcomes = [self._run(pairs[start : start + 50], levels=levels) for start in range(0, len(pairs), 50)]
        return Outcome([count for outcome in outcomes for count in outcome.trades], outcomes[0].crosses)


class BacktestingPy:
    """backtesting.py: Python at every bar, whole units."""

    name = "backtesting.py"

    def __init__(self, candles: Candles) -> None:
        import pandas as pd

        names = {"Open": candles.open, "High": candles.high, "Low": candles.low, "Close": candles.close}
        self._frame = pd.DataFrame(names, index=pd.to_datetime(candles.ts, unit="ms"))
        self._close = candles.close

    def single(self, pair: Pair, *, levels: bool, detail: bool = False) -> Outcome:
        """Run once."""
        import warnings

        import pandas as pd
        from backtesting import Backtest, Strategy

        close = pd.Series(self._close)
        one, other = (close.ewm(span=period, adjust=False).mean().to_numpy() for period in pair)
        above, below = crosses(one, other)
        above[: pair[1]] = below[: pair[1]] = False

        class Cross(Strategy):
            def init(self) -> None:
                self.row = -1

            def next(self) -> None:
                row = len(self.data) - 1
                if levels:
                    for trade in self.trades:
                        bars = slice(trade.entry_bar, row + 1)
                        if trade.is_long:
                            stop = max(highs[bars].max(), trade.entry_price) * (1 - TRAIL)
                            trade.sl = stop if trade.sl is None else max(trade.sl, stop)
                        else:
                            stop = min(lows[bars].min(), trade.entry_price) * (1 + TRAIL)
                            trade.sl = stop if trade.sl is None else min(trade.sl, stop)
                if above[row] or below[row]:
                    self.position.close()
                    price = self.data.Close[-1]
                    way = 1 if above[row] else -1
                    more = {"sl": price * (1 - way * STOP), "tp": price * (1 + way * TARGET)} if levels else {}
                    (self.buy if way > 0 else self.sell)(size=SHARE, **more)

        highs, lows = self._frame["High"].to_numpy(), self._frame["Low"].to_numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Its whole units need prices far below the capital.
            stats = Backtest(self._frame, Cross, cash=CAPITAL * 1000, commission=FEE, finalize_trades=True).run()
        exits = np.sort(stats["_trades"]["ExitBar"].to_numpy()) if detail else None
        return Outcome([int(stats["# Trades"])], (above, below), exits)

    def grid(self, pairs: Sequence[Pair], *, levels: bool) -> Outcome:
        """Run pair by pair."""
        outcomes = [self.single(pair, levels=levels) for pair in pairs]
        return Outcome([outcome.trades[0] for outcome in outcomes], outcomes[0].crosses)


PEERS: dict[str, type[Any]] = {"raptorbt": Raptor, "vectorbt": Vectorbt, "backtesting": BacktestingPy}


def crosses(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where one column rises above another and where it falls below: strict on the new bar, weak on the old."""
    above, below = np.zeros((2, len(one)), np.bool_)
    above[1:] = (one[1:] > other[1:]) & (one[:-1] <= other[:-1])
    below[1:] = (one[1:] < other[1:]) & (one[:-1] >= other[:-1])
    return above, below


def installed_peers() -> dict[str, str]:
    """Return the versions of the peers that are installed, by package."""
    return {name: importlib.metadata.version(name) for name in PEERS if importlib.util.find_spec(name)}
