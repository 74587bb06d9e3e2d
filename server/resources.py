"""Stored runs, strategies and documentation as resources, with an index of each."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from engine.errors import LabError, NotFound
from server.pages import page_names, page_text

if TYPE_CHECKING:
    from server.lab_server import LabServer
    from server.lifespan import LabKeeper
    from tools.lab import Lab

LISTED_RUNS: Final = 50
NAMED_RUNS: Final = 5
JSON_TYPE: Final = "application/json"
CSV_TYPE: Final = "text/csv"
MARKDOWN_TYPE: Final = "text/markdown"


def add_resources(server: LabServer, keeper: LabKeeper) -> None:
    """Offer templates and index resources; the lab is opened by the first one that is read."""
    shelf = Shelf(keeper)
    offer = server.resource
    offer("run://{run_id}", name="run", description="A stored backtest", mime_type=JSON_TYPE)(shelf.run)
    offer("run://{run_id}/trades.csv", name="run_trades", description="All trades of a run", mime_type=CSV_TYPE)(
        shelf.trades
    )
    offer("run://{run_id}/equity.csv", name="run_equity", description="Equity after every bar", mime_type=CSV_TYPE)(
        shelf.equity
    )
    offer("strategy://{name}", name="strategy", description="A strategy document", mime_type=JSON_TYPE)(shelf.strategy)
    offer("docs://{page}", name="docs", description="A page of documentation", mime_type=MARKDOWN_TYPE)(shelf.page)
    offer("index://runs", name="runs", description="The newest stored runs", mime_type=JSON_TYPE)(shelf.runs)
    offer("index://strategies", name="strategies", description="All strategies", mime_type=JSON_TYPE)(shelf.strategies)
    offer("index://docs", name="pages", description="All pages of documentation", mime_type=JSON_TYPE)(shelf.pages)


class Shelf:
    """Reads what the resources name."""

    def __init__(self, keeper: LabKeeper) -> None:
        self._keeper = keeper

    async def run(self, run_id: str) -> str:
        """Return the result of a run."""
        async with self._lab_for_run() as lab:
            return _json(await lab.backtests.card(run_id, 0))

    async def trades(self, run_id: str) -> str:
        """Return the trades of a run."""
        async with self._lab_for_run() as lab:
            return await lab.backtests.trades_csv(run_id)

    async def equity(self, run_id: str) -> str:
        """Return the equity of a run."""
        async with self._lab_for_run() as lab:
            return await lab.backtests.equity_csv(run_id)

    async def strategy(self, name: str) -> str:
        """Return a strategy document."""
        async with self._telling_errors():
            lab = await self._keeper.lab()
            return _json((await lab.strategies.find(name)).document)

    async def page(self, page: str) -> str:
        """Return a page of documentation."""
        text = await asyncio.to_thread(page_text, page)
        if text is None:
            known = await asyncio.to_thread(page_names)
            near = difflib.get_close_matches(page, known, n=3) or known
            hint = f"pages: {', '.join(near)}" if near else "this installation came without docs"
            raise ResourceNotFoundError(f"there is no page {page[:64]!r}; {hint}")
        return text

    async def runs(self) -> str:
        """Return the newest runs."""
        async with self._telling_errors():
            lab = await self._keeper.lab()
            rows, total, *_ = await lab.backtests.list(
                strategy=None, symbol=None, sort="created", limit=LISTED_RUNS, cursor=None
            )
            return _json({"total": total, "items": [{"uri": f"run://{row['run_id']}", **row} for row in rows]})

    async def strategies(self) -> str:
        """Return all strategies."""
        async with self._telling_errors():
            found = await (await self._keeper.lab()).strategies.list()
            rows = [{"uri": f"strategy://{item.name}", "name": item.name, "origin": item.origin} for item in found]
            return _json({"total": len(rows), "items": rows})

    async def pages(self) -> str:
        """Return all pages."""
        names = await asyncio.to_thread(page_names)
        return _json({"total": len(names), "items": [{"uri": f"docs://{name}", "name": name} for name in names]})

    @asynccontextmanager
    async def _lab_for_run(self) -> AsyncGenerator[Lab]:
        async with self._telling_errors():
            lab = await self._keeper.lab()
            try:
                yield lab
            except NotFound as error:
                latest = ", ".join(run.id for run in (await lab.store.list_runs(limit=NAMED_RUNS)).items)
                raise NotFound(error.message, fix=f"the latest runs: {latest}" if latest else error.fix) from error

    @asynccontextmanager
    async def _telling_errors(self) -> AsyncGenerator[None]:
        try:
            yield
        except NotFound as error:
            raise ResourceNotFoundError(_told(error)) from error
        except LabError as error:
            raise ResourceError(_told(error)) from error


def _told(error: LabError) -> str:
    return f"{error.message}; {error.fix}" if error.fix else error.message


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
