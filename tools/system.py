"""Health, caches and their clearing."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver import Resolve
from pydantic import BaseModel, Field

from engine.core.series import clean_symbol
from engine.core.times import iso_utc
from tools.asking import consent
from tools.declare import LabHandle, tool


class PartHealth(BaseModel):
    """One part."""

    part: str
    ok: bool
    detail: str


class Health(BaseModel):
    """Whether the parts of this server work."""

    status: Literal["ok", "degraded"]
    now: str
    version: str
    feed: str = Field(description="Who answered last, else the feed of the settings")
    parts: list[PartHealth]


@tool("reads")
async def health_check(
    exchange: Annotated[bool, Field(description="Ask the exchange for its time too")] = False, *, lab: LabHandle
) -> Health:
    """Report whether database, jobs and, on request, the exchange work."""
    parts = [
        PartHealth(part=part, ok=ok, detail=detail) for part, ok, detail in await lab.check_health(exchange=exchange)
    ]
    return Health(
        status="ok" if all(part.ok for part in parts) else "degraded",
        now=iso_utc(lab.clock.now_ms()),
        version=lab.version,
        feed=lab.feed.source,
        parts=parts,
    )


class CacheStats(BaseModel):
    """What takes room."""

    database_bytes: int
    series: int
    candles: int
    runs: int
    jobs: int
    exports: int
    export_bytes: int


@tool("reads")
async def cache_stats(*, lab: LabHandle) -> CacheStats:
    """Show how much is stored: candles, runs, jobs, exported files."""
    series = await lab.store.list_series()
    exports = [file for file in (lab.home / "exports").glob("*") if file.is_file()]
    return CacheStats(
        database_bytes=await lab.store.size_bytes(),
        series=len(series),
        candles=sum(each.bars for each in series),
        runs=(await lab.store.list_runs(limit=1)).total,
        jobs=(await lab.store.list_jobs(limit=1)).total,
        exports=len(exports),
        export_bytes=sum(file.stat().st_size for file in exports),
    )


class Cleared(BaseModel):
    """What was removed."""

    what: str
    removed: int
    note: str


@tool("deletes")
async def clear_cache(
    what: Annotated[Literal["candles", "exports"], Field(description="Runs are never removed")],
    symbol: Annotated[str | None, Field(max_length=40, description="Only this symbol's candles")] = None,
    confirm: Annotated[bool | None, Field(description="Must be true where the host cannot ask the user")] = None,
    *,
    agreed: Annotated[bool, Resolve(consent("Remove stored data?"))],
    lab: LabHandle,
) -> Cleared:
    """Remove stored candles or exported files; candles can be fetched again, imported ones cannot."""
    del confirm, agreed  # without consent the call does not get here
    if what == "exports":
        removed = 0
        for file in (lab.home / "exports").glob("*"):
            if file.is_file():
                file.unlink()
                removed += 1
        return Cleared(what=what, removed=removed, note="exported files removed")
    name = clean_symbol(symbol) if symbol else None
    removed = 0
    for each in await lab.store.list_series(feed=lab.feed.name, symbol=name):
        if await lab.store.delete_series(each.series):
            removed += each.bars
    return Cleared(
        what=what, removed=removed, note="bars removed; stored runs stay, reproduce_run will miss their candles"
    )
