"""Strategies and the language they are written in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from engine.core.series import clean_symbol
from tools.arguments import Bar, Cursor, End, Market, Start, Symbol, next_cursor, offset_of
from tools.declare import LabHandle, ProgressHandle, tool
from tools.withholding import WithheldPart

Document = Annotated[
    dict[str, Any],
    Field(
        description="Strategy document: name, params, define, long_entry, ...; get_strategy shows one, docs://writing-a-strategy explains"
    ),
]
StrategyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="From list_strategies")]


class StrategyRow(BaseModel):
    """One line of the list."""

    name: str
    origin: str = Field(description="catalogue or saved")
    description: str
    weakness: str
    params: dict[str, float] = Field(description="Defaults")


class StrategyPage(BaseModel):
    """Strategies by name."""

    items: list[StrategyRow]
    total: int
    next_cursor: str | None


@tool("reads", core=True)
async def list_strategies(
    query: Annotated[str, Field(max_length=60, description="Part of name or description")] = "",
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> StrategyPage:
    """List the strategies at hand, shipped and saved, with their known weakness."""
    offset = offset_of(cursor)
    found = [item for item in await lab.strategies.list() if item.matches(query)]
    rows = [
        StrategyRow(
            name=item.name,
            origin=item.origin,
            description=item.parsed.description,
            weakness=item.parsed.weakness,
            params=item.defaults,
        )
        for item in found[offset : offset + limit]
    ]
    return StrategyPage(items=rows, total=len(found), next_cursor=next_cursor(offset, len(rows), len(found)))


class StrategyCard(BaseModel):
    """One strategy, whole."""

    name: str
    origin: str
    version: int
    fingerprint: str = Field(description="Same logic, same hash")
    warmup_bars: int | None = Field(description="With default parameters; null where it depends on the interval")
    document: dict[str, Any]


@tool("reads")
async def get_strategy(
    name: StrategyName,
    version: Annotated[int | None, Field(ge=1, description="Default: the latest")] = None,
    *,
    lab: LabHandle,
) -> StrategyCard:
    """Return the document of a shipped or saved strategy; copy and change it to write your own."""
    item = await lab.strategies.find(name, version)
    facts = lab.strategies.validate(item.document, None)
    return StrategyCard(
        name=item.name,
        origin=item.origin,
        version=item.version,
        fingerprint=facts["fingerprint"],
        warmup_bars=facts["warmup_bars"],
        document=item.document,
    )


class Validation(BaseModel):
    """Whether a document can run, and what it would need."""

    valid: bool
    name: str | None = None
    error: str | None = None
    fix: str | None = None
    position: int | None = Field(None, description="Character in the expression, from 0")
    warnings: list[str] = []
    warmup_bars: int | None = Field(None, description="null where it depends on the interval")
    sides: list[str] = []
    series: list[str] = Field([], description="Inputs it reads")
    functions: list[str] = []
    higher_timeframes: list[str] = []
    params: dict[str, float] = {}
    rules: dict[str, str] = Field({}, description="In normal form")
    fingerprint: str | None = None


@tool("reads", core=True)
async def validate_strategy(
    document: Document,
    params: Annotated[dict[str, float] | None, Field(description="Values to check it with")] = None,
    *,
    lab: LabHandle,
) -> Validation:
    """Check a strategy document before running it: grammar, names, parameters, warm-up, conditions that can never hold."""
    return Validation(**lab.strategies.validate(document, params))


class SavedStrategy(BaseModel):
    """Where a strategy was saved."""

    name: str
    version: int
    fingerprint: str
    created: bool = Field(description="False when this content was saved already")


@tool("writes")
async def save_strategy(document: Document, *, lab: LabHandle) -> SavedStrategy:
    """Save a valid strategy document under its name; changed content becomes a new version, old ones stay.

    Names of shipped strategies cannot be taken.
    """
    saved, created = await lab.strategies.save(document)
    fingerprint = lab.strategies.validate(saved.document, None)["fingerprint"]
    return SavedStrategy(name=saved.name, version=saved.version, fingerprint=fingerprint, created=created)


class IndicatorRow(BaseModel):
    """One word of the language."""

    name: str
    signature: str
    summary: str
    kind: str
    details: dict[str, Any] | None = Field(None, description="Formula, source and warm-up, when one is asked for")


class IndicatorPage(BaseModel):
    """Words of the language."""

    names: list[str] = Field(description="All that match")
    items: list[IndicatorRow] = Field(description="Some of them, described")
    total: int
    next_cursor: str | None


@tool("reads", core=True)
async def list_indicators(
    query: Annotated[str, Field(max_length=60, description="Exact name for all details, or part of one")] = "",
    kind: Annotated[Literal["indicator", "function", "series"] | None, Field(description="Only these")] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Cursor = None,
    *,
    lab: LabHandle,
) -> IndicatorPage:
    """List the indicators, functions and series that expressions may use: all names, and some of them described."""
    words = lab.strategies.words(query, kind)
    offset = offset_of(cursor)
    rows = [IndicatorRow(**word) for word in words[offset : offset + limit]]
    return IndicatorPage(
        names=[word["name"] for word in words],
        items=rows,
        total=len(words),
        next_cursor=next_cursor(offset, len(rows), len(words)),
    )


class ExpressionValues(BaseModel):
    """The last values of an expression and its distribution over the range; null where it is undefined."""

    expression: str = Field(description="Normal form")
    type: str
    symbol: str
    interval: str
    warmup_bars: int
    bars: int
    columns: list[str]
    rows: list[list[Any]]
    summary: dict[str, float | int | None]
    counted: bool = Field(description="Verdicts on this market count it as one more trial")
    source: str
    withheld: WithheldPart | None = None


@tool("reads", asks_exchange=True)
async def evaluate_expression(
    expression: Annotated[
        str, Field(min_length=1, max_length=2000, description='E.g. "crossover(ema(close, 20), ema(close, 50))"')
    ],
    symbol: Symbol,
    start: Start,
    end: End,
    interval: Bar = "15",
    category: Market = "linear",
    params: Annotated[dict[str, float] | None, Field(description="Names the expression may use")] = None,
    limit: Annotated[int, Field(ge=1, le=500, description="Newest rows shown")] = 20,
    *,
    lab: LabHandle,
    progress: ProgressHandle,
) -> ExpressionValues:
    """Compute one expression on stored candles: newest values, how often it is true, its spread. More than one indicator counts as a trial."""
    outcome = await lab.backtests.evaluate(
        expression, params or {}, clean_symbol(symbol), category, interval, start, end, limit, progress
    )
    return ExpressionValues(**outcome)
