"""What trades, its rules, its state and its history."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from engine.core.markets import RiskTier
from engine.core.run_settings import DEFAULT_FEES_PERCENT
from engine.core.series import Series, clean_symbol
from engine.core.timeframes import Interval, advance, ceil_open, floor_open, step_ms
from engine.core.times import iso_utc, parse_range_ms, parse_time_ms
from engine.errors import BadRequest
from tools.arguments import Bar, Code, Cursor, Market, Start, Symbol, next_cursor, offset_of, read_interval
from tools.declare import LabHandle, ProgressHandle, tool
from tools.withholding import WithheldPart, withheld_part


class InstrumentRow(BaseModel):
    """One line of a search."""

    symbol: str
    base: str
    quote: str
    status: str
    contract: str
    launched: str | None


class InstrumentPage(BaseModel):
    """Instruments that match."""

    items: list[InstrumentRow]
    total: int
    next_cursor: str | None
    source: str = Field(description="Who listed them; stored: fetched before this process")


@tool("reads", core=True, asks_exchange=True)
async def search_instruments(
    query: Annotated[str, Field(max_length=40, description="Part of a symbol or coin")] = "",
    category: Market = "linear",
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> InstrumentPage:
    """Find instruments that trade on Bybit.

    Use it first when a symbol is uncertain.
    """
    offset = offset_of(cursor)
    found, total = await lab.instruments.search(category, query.strip().upper(), limit, offset)
    rows = [
        InstrumentRow(
            symbol=instrument.symbol,
            base=instrument.base_coin,
            quote=instrument.quote_coin,
            status=instrument.status,
            contract=instrument.contract_type,
            launched=None if instrument.launch_ms is None else iso_utc(instrument.launch_ms),
        )
        for instrument in found
    ]
    return InstrumentPage(
        items=rows,
        total=total,
        next_cursor=next_cursor(offset, len(rows), total),
        source=lab.instruments.origin(category),
    )


class RiskTierRow(BaseModel):
    """One maintenance tier; margins are fractions of position value."""

    up_to_value: float
    maintenance_margin: float
    initial_margin: float
    max_leverage: float
    deduction: float


class InstrumentCard(BaseModel):
    """The trading rules of one instrument; decimals as the exchange prints them."""

    symbol: str
    category: str
    base: str
    quote: str
    settle: str
    status: str
    contract: str
    tick_size: str
    lot_step: str
    min_quantity: str
    max_market_quantity: str | None
    min_notional: str | None
    max_leverage: str | None
    funding_interval_minutes: int | None
    launched: str | None
    delivery: str | None
    fees_percent: dict[str, float] = Field(description="Bybit non-VIP")
    risk_tiers: list[RiskTierRow] = Field(description="First five, lowest first")
    source: str = Field(description="Who gave the rules and, after +, the tiers; stored: fetched before this process")


@tool("reads", asks_exchange=True)
async def get_instrument(symbol: Symbol, category: Market = "linear", *, lab: LabHandle) -> InstrumentCard:
    """Show the trading rules of one instrument: tick, lot, minimum order, leverage tiers, fees, funding interval, launch."""
    instrument = await lab.instruments.find(category, clean_symbol(symbol))
    sources = [lab.instruments.origin(category, instrument.symbol)]
    tiers: list[RiskTier] = []
    if category != "spot":
        tiers = await lab.feed.risk_tiers(category, instrument.symbol)
        sources.append(lab.feed.source)
    taker, maker = DEFAULT_FEES_PERCENT[category]
    return InstrumentCard(
        symbol=instrument.symbol,
        category=category,
        base=instrument.base_coin,
        quote=instrument.quote_coin,
        settle=instrument.settle_coin,
        status=instrument.status,
        contract=instrument.contract_type,
        tick_size=str(instrument.tick_size),
        lot_step=str(instrument.lot_step),
        min_quantity=str(instrument.min_quantity),
        max_market_quantity=_text(instrument.max_market_quantity),
        min_notional=_text(instrument.min_notional),
        max_leverage=_text(instrument.max_leverage),
        funding_interval_minutes=instrument.funding_interval_minutes,
        launched=None if instrument.launch_ms is None else iso_utc(instrument.launch_ms),
        delivery=None if instrument.delivery_ms is None else iso_utc(instrument.delivery_ms),
        fees_percent={"taker": taker, "maker": maker},
        risk_tiers=[
            RiskTierRow(
                up_to_value=float(tier.limit_value),
                maintenance_margin=float(tier.maintenance_margin),
                initial_margin=float(tier.initial_margin),
                max_leverage=float(tier.max_leverage),
                deduction=float(tier.deduction),
            )
            for tier in tiers[:5]
        ],
        source="+".join(dict.fromkeys(sources)),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class MarketSnapshot(BaseModel):
    """The state of one market now; rates and changes are fractions."""

    symbol: str
    category: str
    at: str
    last_price: float
    mark_price: float | None
    index_price: float | None
    change_24h: float | None
    high_24h: float | None
    low_24h: float | None
    turnover_24h: float | None
    open_interest: float | None
    funding_rate: float | None
    next_funding: str | None
    bids: list[tuple[float, float]] = Field(description="(price, size), best first")
    asks: list[tuple[float, float]]
    source: str


@tool("reads", asks_exchange=True)
async def get_market_snapshot(
    symbol: Symbol,
    category: Market = "linear",
    depth: Annotated[int, Field(ge=1, le=25, description="Book levels a side")] = 5,
    *,
    lab: LabHandle,
) -> MarketSnapshot:
    """Show price, 24 h range, funding, open interest and top of the book, as of now.

    Not for history: that is get_candles and get_derivatives_history.
    """
    name = clean_symbol(symbol)
    await lab.instruments.find(category, name)
    ticker = await lab.feed.ticker(category, name)
    book = await lab.feed.order_book(category, name, depth)
    return MarketSnapshot(
        symbol=name,
        category=category,
        at=iso_utc(book.at_ms),
        last_price=ticker.last_price,
        mark_price=ticker.mark_price,
        index_price=ticker.index_price,
        change_24h=ticker.change_24h,
        high_24h=ticker.high_24h,
        low_24h=ticker.low_24h,
        turnover_24h=ticker.turnover_24h,
        open_interest=ticker.open_interest,
        funding_rate=ticker.funding_rate,
        next_funding=None if ticker.next_funding_ms is None else iso_utc(ticker.next_funding_ms),
        bids=list(book.bids),
        asks=list(book.asks),
        source=lab.feed.source,
    )


class CandleTable(BaseModel):
    """Closed candles as rows of `columns`, oldest first."""

    symbol: str
    category: str
    interval: str
    columns: list[str]
    rows: list[list[Any]]
    total: int = Field(description="Bars in the range")
    next_cursor: str | None
    gaps: int = Field(description="Stretches the exchange has no bars for")
    source: str
    sha256: str = Field(description="Of the whole range")
    withheld: WithheldPart | None = None


@tool("reads", core=True, asks_exchange=True)
async def get_candles(
    symbol: Symbol,
    interval: Bar = "15",
    category: Market = "linear",
    start: Annotated[str | None, Field(max_length=40, description="ISO 8601 UTC; without it the newest bars")] = None,
    end: Annotated[str | None, Field(max_length=40, description="ISO 8601 UTC, exclusive")] = None,
    limit: Annotated[int, Field(ge=1, le=1000, description="Rows in this answer")] = 40,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> CandleTable:
    """Return closed candles; fetches and stores what is missing when that is quick.

    For looking at a few bars: run_backtest loads its own.
    """
    series = Series(lab.feed.name, category, clean_symbol(symbol), "trade", interval)
    start_ms, end_ms = await _range_ms(lab, interval, start, end, limit)
    loaded = await lab.history.load(series, start_ms, end_ms, progress)
    offset = offset_of(cursor)
    part = loaded.candles.take(slice(offset, offset + limit))
    return CandleTable(
        symbol=series.symbol,
        category=category,
        interval=interval,
        columns=["time", "open", "high", "low", "close", "volume"],
        rows=_rows(part),
        total=len(loaded.candles),
        next_cursor=next_cursor(offset, len(part), len(loaded.candles)),
        gaps=len(loaded.gaps),
        source=loaded.source,
        sha256=loaded.candles.sha256(),
        withheld=withheld_part(loaded.withheld),
    )


async def _range_ms(lab: Any, interval: Interval, start: str | None, end: str | None, bars: int) -> tuple[int, int]:
    if start is not None and end is not None:
        return parse_range_ms(start, end)
    if start is not None:
        start_ms = ceil_open(interval, parse_time_ms(start, "start"))
        return start_ms, advance(interval, start_ms, bars)
    end_ms = parse_time_ms(end, "end") if end is not None else await lab.feed.server_time_ms()
    newest = floor_open(interval, end_ms)
    return advance(interval, newest, -bars), newest


def _rows(candles: Any) -> list[list[Any]]:
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [
        [iso_utc(at_ms), *(None if value != value else value for value in row)]
        for at_ms, row in zip(candles.ts.tolist(), values, strict=True)
    ]


class MultiTimeframe(BaseModel):
    """Closed candles of several intervals up to the same moment."""

    symbol: str
    category: str
    until: str
    aligned: bool
    columns: list[str]
    intervals: dict[str, list[list[Any]]] = Field(description="Rows by interval, oldest first")
    source: str
    withheld: WithheldPart | None = None


@tool("reads", asks_exchange=True)
async def get_mtf_candles(
    symbol: Symbol,
    intervals: Annotated[list[Code], Field(min_length=1, max_length=5)] = ["15", "60", "240"],  # noqa: B006 - never changed
    category: Market = "linear",
    end: Annotated[str | None, Field(max_length=40, description="ISO 8601 UTC, exclusive; default now")] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Bars of the largest interval")] = 10,
    aligned: Annotated[bool, Field(description="Build the larger from the smallest, so that they agree")] = True,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> MultiTimeframe:
    """Return candles of several intervals that end at the same moment.

    Inside a strategy use tf("240", expression) instead: it repaints nothing.
    """
    from engine.core.resample import resample  # numpy: not before a call needs it

    name = clean_symbol(symbol)
    ordered = sorted(set(intervals), key=step_ms)
    base, largest = ordered[0], ordered[-1]
    end_ms = parse_time_ms(end, "end") if end is not None else await lab.feed.server_time_ms()
    newest = floor_open(largest, end_ms)
    start_ms = advance(largest, newest, -limit)
    sources: set[str] = set()
    tables: dict[str, list[list[Any]]] = {}
    base_candles = None
    for interval in ordered:
        if aligned and base_candles is not None:
            tables[interval] = _rows(resample(base_candles, base, interval)[0].take(slice(-limit, None)))
            continue
        series = Series(lab.feed.name, category, name, "trade", interval)
        until_ms = newest if aligned else floor_open(interval, end_ms)
        loaded = await lab.history.load(
            series, start_ms if aligned else advance(interval, until_ms, -limit), until_ms, progress
        )
        base_candles = loaded.candles
        sources.add(loaded.source)
        tables[interval] = _rows(loaded.candles.take(slice(-limit, None)))
    return MultiTimeframe(
        symbol=name,
        category=category,
        until=iso_utc(newest if aligned else end_ms),
        aligned=aligned,
        columns=["time", "open", "high", "low", "close", "volume"],
        intervals=tables,
        source="+".join(sorted(sources)),
        withheld=withheld_part(await lab.studies.withheld(category, name, end_ms)),
    )


DerivativeKind = Literal["funding", "open_interest", "long_short_ratio", "mark_price", "index_price", "premium"]


class DerivativesTable(BaseModel):
    """History of one derivative figure as rows of `columns`, oldest first."""

    symbol: str
    category: str
    kind: str
    columns: list[str]
    rows: list[list[Any]]
    total: int
    unit: str
    source: str
    withheld: WithheldPart | None = None


@tool("reads", asks_exchange=True)
async def get_derivatives_history(
    symbol: Symbol,
    kind: Annotated[DerivativeKind, Field(description="Which figure")],
    start: Start,
    end: Annotated[str, Field(max_length=40, description="ISO 8601 UTC, exclusive")],
    interval: Annotated[
        Literal["5", "15", "30", "60", "240", "D"],
        BeforeValidator(read_interval),
        Field(description="Sampling; funding has its own times"),
    ] = "60",
    category: Annotated[Literal["linear", "inverse"], Field(description="Market type")] = "linear",
    limit: Annotated[int, Field(ge=1, le=1000, description="Newest rows of the range")] = 50,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> DerivativesTable:
    """Return funding, open interest, long/short ratio, or mark, index and premium prices over time."""
    name = clean_symbol(symbol)
    await lab.instruments.find(category, name)
    start_ms, end_ms = parse_range_ms(start, end)
    columns, rows, unit, source = await _derivative_rows(
        lab, category, name, kind, interval, start_ms, end_ms, limit, progress
    )
    return DerivativesTable(
        symbol=name,
        category=category,
        kind=kind,
        columns=columns,
        rows=rows[-limit:],
        total=len(rows),
        unit=unit,
        source=source,
        withheld=withheld_part(await lab.studies.withheld(category, name, end_ms)),
    )


_CANDLE_KINDS = {"mark_price": "mark", "index_price": "index", "premium": "premium"}
_SAMPLES = {"5": "5min", "15": "15min", "30": "30min", "60": "1h", "240": "4h", "D": "1d"}
_UNITS = {
    "funding": "fraction of position value per settlement; positive: longs pay shorts",
    "open_interest": "base units (linear) or USD (inverse)",
    "long_short_ratio": "shares of accounts net long and net short",
    "mark_price": "quote currency",
    "index_price": "quote currency",
    "premium": "fraction",
}


async def _derivative_rows(
    lab: Any,
    category: Any,
    symbol: str,
    kind: str,
    interval: str,
    start_ms: int,
    end_ms: int,
    limit: int,
    progress: Any,
) -> tuple[list[str], list[list[Any]], str, str]:
    unit = _UNITS[kind]
    if kind in _CANDLE_KINDS:
        if kind == "premium" and category == "inverse":
            raise BadRequest(
                "Bybit has no premium index for inverse contracts", fix="use category linear, or kind funding"
            )
        series = Series(lab.feed.name, category, symbol, _CANDLE_KINDS[kind], interval)  # type: ignore[arg-type]
        loaded = await lab.history.load(series, start_ms, end_ms, progress)
        rows = [row[:5] for row in _rows(loaded.candles)]
        return ["time", "open", "high", "low", "close"], rows, unit, loaded.source
    if kind == "funding":
        points = await lab.feed.funding_history(category, symbol, start_ms, end_ms, limit)
        return ["time", "rate"], [[iso_utc(point.at_ms), point.rate] for point in points], unit, lab.feed.source
    sample = _SAMPLES[interval]
    if kind == "open_interest":
        interest = await lab.feed.open_interest(category, symbol, sample, start_ms, end_ms, limit)
        return ["time", "value"], [[iso_utc(point.at_ms), point.value] for point in interest], unit, lab.feed.source
    ratios = await lab.feed.long_short_ratio(category, symbol, sample, start_ms, end_ms, limit)
    shares = [[iso_utc(point.at_ms), point.long_share, point.short_share] for point in ratios]
    return ["time", "long", "short"], shares, unit, lab.feed.source
