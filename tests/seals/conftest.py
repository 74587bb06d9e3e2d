"""A laboratory whose market has prices nobody could mistake in the part that will be sealed."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp.client import Client

import server.assembly
from engine.core.candles import Candles
from engine.core.series import Series
from engine.core.times import parse_time_ms
from engine.ports import CandleFeed, CandlePage
from server.mcp_app import create_server
from server.settings import Settings

START, SEALED_FROM, END = "2024-01-01", "2024-05-01", "2024-06-01"
SEALED_FROM_MS = parse_time_ms(SEALED_FROM)
MARKET = {"symbol": "BTCUSDT", "interval": "60"}
RANGE = {"start": START, "end": END}
BACKTEST = {"strategy": "ema_cross", **MARKET, **RANGE}
STUDY = "the sealed one"


class PlantedFeed:
    """A real feed of the simulated exchange whose figures after the start of the seal lie around one planted number."""

    def __init__(self, feed: CandleFeed, planted: float) -> None:
        self._feed = feed
        self._planted = planted
        self.name = feed.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    async def candle_page(self, series: Series, start_ms: int, end_ms: int) -> CandlePage:
        page = await self._feed.candle_page(series, start_ms, end_ms)
        if "BTC" not in series.symbol:
            return page
        # A bar is planted when a sealed minute is in it: for bars longer than the seal's alignment, by its close.
        bars = page.candles
        late = np.append(bars.ts[1:], end_ms) > SEALED_FROM_MS
        columns = [np.where(late, self._planted + _wiggle(bars), column) for column in bars.columns()[1:5]]
        columns[1] = np.where(late, columns[1] + 3.0, columns[1])
        columns[2] = np.where(late, columns[2] - 3.0, columns[2])
        return dataclasses.replace(page, candles=Candles(bars.ts, *columns, bars.volume, bars.turnover))

    async def ticker(self, category: Any, symbol: str) -> Any:
        found = await self._feed.ticker(category, symbol)
        prices = dict.fromkeys(("last_price", "mark_price", "index_price", "high_24h", "low_24h"), self._planted)
        return dataclasses.replace(found, **prices) if "BTC" in symbol else found

    async def order_book(self, category: Any, symbol: str, depth: int) -> Any:
        found = await self._feed.order_book(category, symbol, depth)
        return dataclasses.replace(found, bids=((self._planted, 1.0),)) if "BTC" in symbol else found

    async def funding_history(self, category: Any, symbol: str, *rest: Any) -> Any:
        return self._late(await self._feed.funding_history(category, symbol, *rest), "rate", self._planted / 1e8)

    async def open_interest(self, category: Any, symbol: str, *rest: Any) -> Any:
        return self._late(await self._feed.open_interest(category, symbol, *rest), "value", self._planted)

    async def long_short_ratio(self, category: Any, symbol: str, *rest: Any) -> Any:
        return self._late(await self._feed.long_short_ratio(category, symbol, *rest), "long_share", self._planted)

    def _late(self, points: list[Any], name: str, value: float) -> list[Any]:
        return [
            dataclasses.replace(point, **{name: value}) if point.at_ms >= SEALED_FROM_MS else point for point in points
        ]


def _wiggle(bars: Candles) -> Any:
    """Return moves that differ from bar to bar and depend on time alone, the same in every interval's closes."""
    hours = bars.ts / 3_600_000
    return np.sin(hours * 1.7) * 40 + np.cos(hours * 0.13) * 90


MARKS_END = "2024-06-01T01:00"


@dataclasses.dataclass
class Lab:
    """A connected client, its folder, and what it was answered."""

    client: Client
    home: Path

    async def ask(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any], str]:
        """Return whether the call failed, the structured answer, and everything that was said as text."""
        result = await self.client.call_tool(tool, arguments)
        assert result.structured_content is not None
        text = "\n".join(part.text for part in result.content if part.type == "text")
        return bool(result.is_error), result.structured_content, text

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a call that must work."""
        failed, answer, _ = await self.ask(tool, arguments)
        assert not failed, answer
        return answer

    async def refused(self, tool: str, arguments: dict[str, Any], code: str = "sealed") -> dict[str, Any]:
        """Return the error of a call that must fail in this way."""
        failed, answer, _ = await self.ask(tool, arguments)
        assert failed, answer
        assert answer["code"] == code, answer
        return answer

    async def seal(self) -> dict[str, Any]:
        """Run the backtest that creates the sealed study."""
        return await self.call("run_backtest", BACKTEST | {"study": STUDY})


OpenLab = Callable[..., AbstractAsyncContextManager[Lab]]


@contextmanager
def planted() -> Generator[None]:
    """Have every lab that is opened see the planted market; "888" in the name of its folder plants another number."""
    real_feed = server.assembly.open_feed

    def planted_feed(settings: Any, *rest: Any) -> Any:
        return PlantedFeed(real_feed(settings, *rest), 888_000.0 if "888" in settings.home.name else 777_000.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.assembly, "open_feed", planted_feed)
        yield


@asynccontextmanager
async def opened(home: Path, **changes: Any) -> AsyncGenerator[Lab]:
    """Open a lab over a folder."""
    settings = Settings.model_validate({"home": home, "feed": "simulated", **changes})
    async with Client(create_server(settings, most_characters=None)) as client:
        yield Lab(client, home)


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose database has the market's candles and nothing else: fetching them once is enough."""
    home = tmp_path_factory.mktemp("filled")

    async def fill() -> None:
        async with opened(home) as lab:
            await lab.call("get_candles", {**MARKET, **RANGE, "limit": 1})
            await lab.call(
                "get_derivatives_history", {"symbol": "BTCUSDT", "kind": "mark_price", "start": START, "end": MARKS_END}
            )

    with planted():
        asyncio.run(fill())
    return home


@pytest.fixture
def open_lab(tmp_path: Path, filled_home: Path) -> Iterator[OpenLab]:
    """Return a way to open labs, each with a folder of its own name; opening a name again opens the same lab again."""

    @asynccontextmanager
    async def open_one(name: str = "home", **changes: Any) -> AsyncGenerator[Lab]:
        home = tmp_path / name
        if not home.exists():
            # The other market has been fetched by nobody.
            home.mkdir() if "888" in name else shutil.copytree(filled_home, home)
        async with opened(home, **changes) as lab:
            yield lab

    with planted():
        yield open_one
