"""Backtests: run, list, read, prove."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal, TypedDict

from mcp.types import CallToolResult, ImageContent
from pydantic import BaseModel, Field

from engine.core.run_settings import RunSettings
from engine.core.series import Category, clean_symbol
from engine.core.timeframes import Interval
from engine.core.times import iso_utc, parse_range_ms
from engine.errors import BadRequest
from tools.arguments import (
    IN_WORDS,
    Bar,
    Cursor,
    End,
    Market,
    RunId,
    Sealed,
    Start,
    StudyName,
    Symbol,
    next_cursor,
    offset_of,
)
from tools.declare import LabHandle, ProgressHandle, tool
from tools.withholding import WithheldPart

# Of the engine, whose own names for them would bring its working parts along.
Weighting = Literal["equal", "inverse_volatility"]
Block = Literal["months", "years", "drawdowns", "rolling_sharpe", "sides", "tradingview", "correlations"]
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
    first_bar: str
    last_bar: str
    currency: str | None = Field(description="Of all money; null where the instrument is not known")
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


class StudyUsed(BaseModel):
    """The study it counts in."""

    id: str
    name: str
    trials: int = Field(description="Distinct strategies evaluated in it so far")
    sealed_from: str | None


class PortfolioUsed(BaseModel):
    """How several symbols shared the capital, and what each brought."""

    weights: str
    max_positions: int | None
    peak_positions: int
    peak_leverage: float = Field(description="Notionals over equity after a fill")
    mean_correlation: float | None = Field(description="Of daily price returns; the table: get_run correlations")
    columns: list[str]
    rows: list[list[Any]] = Field(description="Net profits sum to that of the run; refused for want of slot or margin")


class BacktestResult(BaseModel):
    """A stored backtest. Returns are fractions; money in the settlement currency; null has its reason in undefined."""

    run_id: str
    created: str
    strategy: StrategyUsed
    data: DataUsed
    metrics: dict[str, float | int | None]
    undefined: dict[str, str] = Field(description="Why a metric is null")
    portfolio: PortfolioUsed | None = None
    intrabar: IntrabarRange
    exits: dict[str, int] = Field(description="Trades by exit reason")
    skipped_entries: dict[str, int]
    assumptions: list[str]
    warnings: list[str]
    study: StudyUsed | None = None
    withheld: WithheldPart | None = Field(None, description="End of the range that a sealed holdout keeps back")


@tool("writes", core=True, asks_exchange=True)
async def run_backtest(
    strategy: Annotated[
        str | dict[str, Any],
        Field(description="Name from list_strategies, or a strategy document", examples=["ema_cross"]),
    ],
    start: Start,
    end: End,
    symbol: Symbol | None = None,
    symbols: Annotated[
        list[str] | None, Field(min_length=2, max_length=20, description="Instead: portfolio, one capital")
    ] = None,
    weights: Annotated[Weighting | None, Field(description="Default equal")] = None,
    max_positions: Annotated[int | None, Field(ge=1, le=20, description="At once")] = None,
    interval: Bar = "15",
    category: Market = "linear",
    params: Annotated[dict[str, float] | None, Field(description="Strategy parameters; default: its own")] = None,
    settings: Annotated[
        RunSettings,
        Field(
            json_schema_extra=IN_WORDS,
            description="capital, taker_fee_percent, maker_fee_percent, slippage_percent, leverage, funding, allow_short, "
            "round_to_lot, size {equity_fraction|quote|quantity|risk_percent: number}, "
            "intrabar pessimistic|optimistic|magnify",
        ),
    ] = DEFAULT_SETTINGS,
    study: StudyName = None,
    sealed: Sealed = None,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> BacktestResult:
    """Simulate a strategy bar by bar and store the run.

    Signals use closed bars and fill at the next open. Missing candles are fetched when quick; else the error names the
    start_backfill call. Trades: get_trades. weights, max_positions: of symbols.
    """
    start_ms, end_ms = parse_range_ms(start, end)
    names = _symbols_asked(symbol, symbols, is_shared=weights is not None or max_positions is not None)
    request: _Request = {
        "strategy": strategy,
        "params": params or {},
        "category": category,
        "interval": interval,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "settings": settings,
        "study": study,
        "sealed": sealed,
        "report": progress,
    }
    if len(names) == 1:
        return BacktestResult(**await lab.backtests.run(symbol=names[0], **request))
    result = await lab.backtests.run_shared(
        symbols=names, weights=weights or "equal", max_positions=max_positions, **request
    )
    return BacktestResult(**result)


class _Request(TypedDict):
    """What runs of one symbol and of several ask alike."""

    strategy: str | dict[str, Any]
    params: dict[str, float]
    category: Category
    interval: Interval
    start_ms: int
    end_ms: int
    settings: RunSettings
    study: str | None
    sealed: bool | None
    report: ProgressHandle


def _symbols_asked(symbol: str | None, symbols: list[str] | None, *, is_shared: bool) -> list[str]:
    """Return the symbols of a run; an argument that would do nothing is refused."""
    if symbols is None:
        if symbol is None:
            raise BadRequest("no symbol is named", fix="give symbol, or symbols (2 to 20) for a portfolio")
        if is_shared:
            raise BadRequest(
                "weights and max_positions are of symbols", fix="leave them out, or give symbols (2 to 20)"
            )
        return [clean_symbol(symbol)]
    names = [clean_symbol(name) for name in symbols]
    if symbol is not None and clean_symbol(symbol) not in names:
        raise BadRequest(f"symbol {symbol!r} is not among symbols", fix="give either symbol or symbols")
    return names


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
    withheld: int = Field(0, description="Runs not shown: they rest on sealed bars")


@tool("reads", core=True)
async def list_runs(
    strategy: Annotated[str | None, Field(max_length=64, description="Only this strategy")] = None,
    symbol: Annotated[str | None, Field(max_length=40, description="Only this symbol")] = None,
    sort: Annotated[
        Literal["created", "total_return", "sharpe", "max_drawdown", "trades"],
        Field(description="Best first; max_drawdown: smallest first"),
    ] = "created",
    limit: Annotated[int, Field(ge=1, le=40)] = 10,
    cursor: Annotated[str | None, Field(max_length=120, description="next_cursor")] = None,
    *,
    lab: LabHandle,
) -> RunPage:
    """List stored backtests."""
    name = clean_symbol(symbol) if symbol else None
    rows, total, following, withheld = await lab.backtests.list(
        strategy=strategy, symbol=name, sort=sort, limit=limit, cursor=cursor
    )
    return RunPage(items=[RunRow(**row) for row in rows], total=total, next_cursor=following, withheld=withheld)


class EquityCurve(BaseModel):
    """Equity at 00:00 UTC, evenly thinned to the points asked for."""

    columns: list[str]
    rows: list[list[Any]]
    days: int


class Table(BaseModel):
    """A table; total counts its rows where fewer are shown."""

    columns: list[str]
    rows: list[list[Any]]
    total: int


class RunCard(BacktestResult):
    """A stored backtest, with its settings and, when asked for, its equity and tables."""

    settings: dict[str, Any]
    equity: EquityCurve | None = None
    blocks: dict[str, Table] | None = Field(None, description="Numbers to 6 digits")


@tool("reads", core=True)
async def get_run(
    run_id: RunId,
    equity_points: Annotated[int, Field(ge=0, le=500, description="Daily equity, thinned to so many; 0: none")] = 0,
    blocks: Annotated[
        list[Block] | None, Field(max_length=7, description="Tables wanted; correlations: of portfolios")
    ] = None,
    *,
    lab: LabHandle,
) -> RunCard:
    """Return a stored backtest: figures, data, settings, assumptions; equity and tables on request."""
    return RunCard(**await lab.backtests.card(run_id, equity_points, blocks or ()))


class TradeRow(BaseModel):
    """One trade. Times are the opens of the bars it was filled in; pnl is net; mae and mfe are money, never negative."""

    symbol: str
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


class Picture(BaseModel):
    """What the picture beside this shows."""

    run_id: str
    kind: str
    bytes: int
    size: str


@tool("reads", core=True)
async def show_chart(
    run_id: RunId,
    kind: Annotated[
        Literal["run", "monthly_returns"], Field(description="Candles with fills, equity and drawdown; or months")
    ] = "run",
    start: Annotated[str | None, Field(max_length=40, description="Only from here, ISO 8601 UTC")] = None,
    end: Annotated[str | None, Field(max_length=40, description="Only to here")] = None,
    *,
    lab: LabHandle,
) -> Annotated[CallToolResult, Picture]:
    """Draw a stored run as a PNG. Figures: get_run."""
    if (start is None) != (end is None):
        raise BadRequest("a part has a start and an end", fix="give both start and end, or neither")
    range_ms = None if start is None or end is None else parse_range_ms(start, end)
    png = await lab.backtests.chart(run_id, kind, range_ms)
    picture = Picture(run_id=run_id, kind=kind, bytes=len(png), size="1200x900")
    return CallToolResult(
        content=[ImageContent(type="image", data=base64.b64encode(png).decode(), mime_type="image/png")],
        structured_content=picture.model_dump(mode="json"),
    )


class Causality(BaseModel):
    """Whether the past of a run changes with its future."""

    causal: bool
    cuts: int
    comparisons: int
    leaks: list[str]


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
    causality: Causality | None = Field(None, description="When asked for")


@tool("reads")
async def reproduce_run(
    run_id: RunId,
    prove_causality: Annotated[int, Field(ge=0, le=50, description="Replays on cut and made-up futures; 0: none")] = 0,
    *,
    lab: LabHandle,
) -> Reproduction:
    """Run a stored backtest again from its manifest and compare every byte; on request prove that it never looks ahead."""
    proof = None
    again = await lab.backtests.reproduce(run_id)
    if prove_causality:
        report = await lab.backtests.prove_causality(run_id, prove_causality)
        proof = Causality(
            causal=report.causal,
            cuts=len(report.cuts),
            comparisons=report.comparisons,
            leaks=[
                f"{leak.what} at bar {leak.row}, future {leak.future} from bar {leak.cut}" for leak in report.leaks[:5]
            ],
        )
    return Reproduction(**again, causality=proof)


class ListComparison(BaseModel):
    """How a run and a list of trades agree."""

    run_id: str
    their_trades: int
    our_trades: int
    matched_entries: int = Field(description="Same side and time")
    matched: int = Field(description="In every field")
    missing_in_theirs: int
    missing_in_ours: int
    missing: list[dict[str, Any]] = Field(description="The first trades of each list that the other lacks, and why")
    first_difference: dict[str, Any] | None
    likely_reason: str | None
    explanations: list[dict[str, Any]] = Field(description="Reason, confidence 0 to 1, detail; likeliest first")


@tool("reads")
async def compare_with_tradingview(
    run_id: RunId,
    path: Annotated[str, Field(min_length=1, max_length=1000, description='"List of trades" CSV on this machine')],
    utc_offset_minutes: Annotated[
        int, Field(ge=-840, le=840, description="Of times without a zone: the chart's time zone")
    ] = 0,
    *,
    lab: LabHandle,
) -> ListComparison:
    """Compare a run with TradingView's "List of trades" export: first differing trade and the likely reason."""
    found = await lab.backtests.compare_with_list(run_id, path, utc_offset_minutes)
    first = found.first_difference
    return ListComparison(
        run_id=run_id,
        their_trades=found.their_trades,
        our_trades=found.our_trades,
        matched_entries=found.matched_entries,
        matched=found.matched,
        missing_in_theirs=found.missing_in_theirs,
        missing_in_ours=found.missing_in_ours,
        missing=[
            {
                "missing_in": one.missing_in,
                "time": iso_utc(one.at_ms),
                "side": "long" if one.side > 0 else "short",
                "row": one.row,
                "reason": one.reason,
            }
            for one in found.missing
        ],
        first_difference=None
        if first is None
        else {
            "time": iso_utc(first.at_ms),
            "their_row": first.their_row,
            "our_row": first.our_row,
            "fields": list(first.fields),
        },
        likely_reason=found.likely_reason,
        explanations=[
            {"reason": one.reason, "confidence": round(one.confidence, 2), "detail": one.detail}
            for one in found.explanations
        ],
    )
