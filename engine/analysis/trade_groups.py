"""Where the profit of a run came from: groups of trades, costs, single trades, regimes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.analysis.figures import Brief, shown, table
from engine.analysis.stored_runs import StoredRun
from engine.core.candles import Candles, FloatColumn
from engine.core.timeframes import DAY_MS, step_ms
from engine.core.trades import EXIT_REASONS, ExitReason
from engine.core.validation.regimes import GRID_NAMES, UNKNOWN, label_regimes

_HOUR_MS = 3_600_000
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Upper bounds of bars held.
_HOLDING = ((0, "same bar"), (4, "1-4 bars"), (19, "5-19 bars"), (99, "20-99 bars"), (None, "100+ bars"))
# These fill at a limit price or at a price the exchange sets, so no slippage is part of them.
_UNSLIPPED_EXITS = (ExitReason.TAKE_PROFIT, ExitReason.LIQUIDATION, ExitReason.END_OF_DATA)


def clusters(run: StoredRun) -> Brief:
    """Return trades, net profit and win rate by side, exit reason, holding time, hour and weekday of the entry (UTC)."""
    rows: list[list[Any]] = []
    for kind, name, mask in _groups(run):
        pnl = run.trades.pnl[mask]
        decided = np.count_nonzero(pnl)
        rate = np.count_nonzero(pnl > 0) / decided if decided else None
        rows.append([kind, name, len(pnl), float(pnl.sum()), None if rate is None else round(rate, 3)])
    return table(["by", "group", "trades", "net_profit", "win_rate"], rows, 5)


def _groups(run: StoredRun) -> Iterator[tuple[str, str, Any]]:
    trades = run.trades
    candidates: list[tuple[str, str, Any]] = [
        ("side", "long", trades.side > 0),
        ("side", "short", trades.side < 0),
        *(("exit", name, trades.exit_reason == code) for code, name in enumerate(EXIT_REASONS)),
    ]
    lowest = 0
    for highest, name in _HOLDING:
        within = trades.bars >= lowest if highest is None else (trades.bars >= lowest) & (trades.bars <= highest)
        candidates.append(("held", name, within))
        lowest = 0 if highest is None else highest + 1
    if step_ms(run.record.interval) < DAY_MS:  # type: ignore[arg-type]
        hours = run.entry_ms % DAY_MS // _HOUR_MS
        candidates += [("hour", f"{low:02d}-{low + 6:02d}", hours // 6 == low // 6) for low in (0, 6, 12, 18)]
    if step_ms(run.record.interval) <= DAY_MS:  # type: ignore[arg-type]
        # The epoch was a Thursday.
        weekdays = (run.entry_ms // DAY_MS + 3) % 7
        candidates += [("weekday", name, weekdays == row) for row, name in enumerate(_WEEKDAYS)]
    yield from (group for group in candidates if np.any(group[2]))


def slippage_paid(run: StoredRun) -> float:
    """Return what adverse fills cost, in settlement currency.

    Notes
    -----
    A market or stop fill is the undisturbed price times 1 + s (bought) or 1 - s (sold); the difference on the quantity is
    what slippage took. Limit entries, targets, liquidations and the close at the end of the data have none. Rounding of
    levels to ticks is not part of it.
    """
    fraction = float(run.settings["slippage_percent"]) / 100.0
    trades, side = run.trades, run.trades.side.astype(np.float64)
    order = run.manifest["strategy"]["document"].get("entry_order")
    entered = (
        np.zeros(len(trades))
        if order is not None and order["type"] == "limit"
        else _slipped(run, trades.entry_price, side, fraction)
    )
    left = np.where(
        np.isin(trades.exit_reason, _UNSLIPPED_EXITS), 0.0, _slipped(run, trades.exit_price, -side, fraction)
    )
    return float(np.sum(entered) + np.sum(left))


def _slipped(run: StoredRun, fills: FloatColumn, way: FloatColumn, fraction: float) -> FloatColumn:
    undisturbed = fills / (1.0 + way * fraction)
    if run.is_inverse:
        return run.trades.quantity * np.abs(1.0 / undisturbed - 1.0 / fills)
    return run.trades.quantity * np.abs(fills - undisturbed)


def costs(run: StoredRun) -> Brief:
    """Return what the trades made before costs, what each cost took, and the share of it that costs took."""
    trades = run.trades
    fees, funding, slippage = float(trades.fees.sum()), float(trades.funding.sum()), slippage_paid(run)
    before = float(trades.gross_pnl.sum()) + slippage
    total = fees + funding + slippage
    share = total / before if before > 0 else None
    found: Brief = {
        "profit_before_costs": shown(before),
        "fees": shown(fees),
        "funding": shown(funding),
        "slippage": shown(slippage),
        "total_costs": shown(total),
        "net_profit": shown(float(trades.pnl.sum())),
        "share_of_profit_before_costs": shown(share),
    }
    if share is None:
        found["why_no_share"] = "there was no profit before costs"
    return found


def concentration(run: StoredRun) -> Brief:
    """Return how much hangs on few trades; shares are of the net profit, None where there was none."""
    ordered = np.sort(run.trades.pnl)[::-1]
    net = float(ordered.sum())
    best, five = float(ordered[:1].sum()), float(ordered[:5].sum())
    wins = ordered[ordered > 0]
    half = int(np.searchsorted(np.cumsum(wins), wins.sum() / 2.0) + 1) if len(wins) else 0
    return {
        "best_trade": shown(best),
        "best_trade_share": shown(best / net) if net > 0 else None,
        "best_5_share": shown(five / net) if net > 0 else None,
        "net_without_best": shown(net - best),
        "net_without_best_5": shown(net - five),
        "winners_for_half_of_gross_wins": half,
    }


def regime_split(run: StoredRun, candles: Candles | None) -> Brief:
    """Return trades and net profit by the regime at the close of the bar that decided the entry."""
    if run.is_portfolio:
        return {"rows": [], "why": "a run of several symbols has no one regime; market_regime_detection shows each"}
    if candles is None or len(candles) != run.data["bars"] or candles.sha256() != run.data["sha256"]:
        return {"rows": [], "why": "the candles of the run are not all to be seen, or have changed"}
    labels = label_regimes(candles.close)
    known = labels[labels != UNKNOWN]
    at_entry = labels[run.trades.signal_bar]
    rows: list[list[Any]] = []
    for code, name in ((UNKNOWN, "warm-up"), *enumerate(GRID_NAMES)):
        mask = at_entry == code
        share = float(np.mean(known == code)) if len(known) and code != UNKNOWN else None
        if np.any(mask) or share:
            rows.append(
                [name, None if share is None else round(share, 3), int(mask.sum()), float(run.trades.pnl[mask].sum())]
            )
    return table(["regime_at_entry", "share_of_bars", "trades", "net_profit"], rows, 5) | {
        "rule": "trend over 50 bars x volatility against its own median, causal"
    }
