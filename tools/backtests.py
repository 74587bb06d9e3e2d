"""Backtests: run, list, read, prove."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from engine.core.run_settings import RunSettings
from engine.core.series import clean_symbol
from engine.core.times import parse_range_ms
from tools.arguments import Bar, Cursor, End, Market, RunId, Start, Symbol, next_cursor, offset_of
from tools.declare import LabHandle, ProgressHandle, tool

DEFAULT_SETTINGS = RunSettings.model_validate({})


class StrategyUsed(BaseModel):
    """What was tested."""

    name: str
    origin: str = Field(description="catalogue, saved or inline")
    params: dict[str, float]
    fingerprint: str = Field(description="Same logic, same hash")


class DataUsed(BaseModel):
    """What it was tested on."""

    symbol: str
    category: str
    interval: str
    start: str
    end: str = Field(description="Exclusive")
    bars: int
    warmup_bars: int
    gaps: int
    source: str = Field(description="bybit, simulated, replay, imported, or several joined by +")
    sha256: str = Field(description="Of the candles")


class IntrabarRange(BaseModel):
    """Both extremes of what may have happened inside bars that held stop and target."""

    ambiguous_bars: int
    decided_bars: int = Field(description="Of them, by 1-minute candles")
    pessimistic_net_profit: float
    optimistic_net_profit: float


class BacktestResult(BaseModel):
    """A stored backtest. Returns are fractions; money in the settlement currency; null has its reason in undefined."""

    run_id: str
    created: str
    strategy: StrategyUsed
    data: DataUsed
    metrics: dict[str, float | int | None]
    undefined: dict[str, str] = Field(description="Why a metric is null")
    intrabar: IntrabarRange | None = Field(description="Only when bars were ambiguous")
    exits: dict[str, int] = Field(description="Trades by exit reason")
    skipped_entries: dict[str, int]
    assumptions: list[str]
    warnings: list[str]


@tool("writes", core=True, asks_exchange=True)
async def run_backtest(
    strategy: Annotated[
        str | dict[str, Any],
        Field(description="Name from list_strategies, or a strategy document", examples=["ema_cross"]),
    ],
    symbol: Symbol,
    start: Start,
    end: End,
    interval: Bar = "15",
    category: Market = "linear",
    params: Annotated[dict[str, float] | None, Field(description="Strategy parameters; default: its own")] = None,
    settings: Annotated[RunSettings, Field(description="Costs, size, execution")] = DEFAULT_SETTINGS,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> BacktestResult:
    """Simulate a strategy bar by bar on Bybit candles and store the run.

    Signals use closed bars and fill at the next open. Missing candles are fetched when that is quick; otherwise the error
    names the start_backfill call. The same inputs give the same run_id and the same bytes. Trades: get_trades.
    """
    start_ms, end_ms = parse_range_ms(start, end)
    result = await lab.backtests.run(
        strategy=strategy,
        params=params or {},
        symbol=clean_symbol(symbol),
        category=category,
        interval=interval,
        start_ms=start_ms,
        end_ms=end_ms,
        settings=settings,
        report=progress,
    )
    return BacktestResult(**result)


class RunRow(BaseModel):
    """One line of the list."""

    run_id: str
    created: str
    strategy: str
    params: dict[str, float]
    symbol: str
    interval: str
    start: str
    end: str
    trades: int
    total_return: float | None
    sharpe: float | None
    max_drawdown: float | None
    source: str


class RunPage(BaseModel):
    """Stored runs."""

    items: list[RunRow]
    total: int
    next_cursor: str | None


@tool("reads", core=True)
async def list_runs(
    strategy: Annotated[str | None, Field(max_length=64, description="Only this strategy")] = None,
    symbol: Annotated[str | None, Field(max_length=40, description="Only this symbol")] = None,
    sort: Annotated[
        Literal["created", "total_return", "sharpe", "max_drawdown", "trades"],
        Field(description="Best first; max_drawdown: smallest first"),
    ] = "created",
    limit: Annotated[int, Field(ge=1, le=40)] = 10,
    cursor: Annotated[str | None, Field(max_length=120, description="next_cursor of the last answer")] = None,
    *,
    lab: LabHandle,
) -> RunPage:
    """List stored backtests."""
    name = clean_symbol(symbol) if symbol else None
    rows, total, following = await lab.backtests.list(
        strategy=strategy, symbol=name, sort=sort, limit=limit, cursor=cursor
    )
    return RunPage(items=[RunRow(**row) for row in rows], total=total, next_cursor=following)


class EquityCurve(BaseModel):
    """Equity at 00:00 UTC, evenly thinned to the points asked for."""

    columns: list[str]
    rows: list[list[Any]]
    days: int


class RunCard(BacktestResult):
    """A stored backtest, with its settings and, when asked for, its equity."""

    settings: dict[str, Any]
    equity: EquityCurve | None = None


@tool("reads", core=True)
async def get_run(
    run_id: RunId,
    equity_points: Annotated[int, Field(ge=0, le=500, description="Daily equity, thinned to so many; 0: none")] = 0,
    *,
    lab: LabHandle,
) -> RunCard:
    """Return a stored backtest: figures, data, settings, assumptions; equity on request."""
    return RunCard(**await lab.backtests.card(run_id, equity_points))


class TradeRow(BaseModel):
    """One trade. Times are the opens of the bars it was filled in; pnl is net; mae and mfe are money, never negative."""

    side: str
    entry_time: str
    entry_price: float
    exit_time: str
    exit_price: float
    quantity: float
    pnl: float
    fees: float
    funding: float
    exit_reason: str
    bars: int
    mae: float
    mfe: float


class TradePage(BaseModel):
    """Trades of a run; the sum is over all of them."""

    run_id: str
    items: list[TradeRow]
    total: int
    next_cursor: str | None
    total_pnl: float


@tool("reads", core=True)
async def get_trades(
    run_id: RunId,
    sort: Annotated[Literal["time", "worst", "best"], Field(description="Order")] = "time",
    limit: Annotated[int, Field(ge=1, le=500)] = 15,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> TradePage:
    """Return the trades of a run, page by page; all at once as the resource run://{id}/trades.csv."""
    offset = offset_of(cursor)
    rows, total, total_pnl = await lab.backtests.trades(run_id, sort, limit, offset)
    return TradePage(
        run_id=run_id,
        items=[TradeRow(**row) for row in rows],
        total=total,
        next_cursor=next_cursor(offset, len(rows), total),
        total_pnl=total_pnl,
    )


class Reproduction(BaseModel):
    """Whether a run comes out the same again."""

    run_id: str
    identical: bool = Field(description="Result and trades, byte for byte")
    data_unchanged: bool
    differences: list[str]
    stored_sha256: str
    recomputed_sha256: str
    engine_then: str
    engine_now: str


@tool("reads")
async def reproduce_run(run_id: RunId, *, lab: LabHandle) -> Reproduction:
    """Run a stored backtest again from its manifest and compare every byte of the result."""
    return Reproduction(**await lab.backtests.reproduce(run_id))
