"""Bybit's public REST API as a `CandleFeed`: one long-lived client, every request through the limiter and the retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx2
from pydantic import TypeAdapter

from engine.core.markets import FundingRate, Instrument, LongShortRatio, OpenInterest, OrderBook, RiskTier, Ticker
from engine.core.series import Category, FeedName, Series, Source
from engine.core.timeframes import advance, count_opens, floor_open
from engine.errors import BadPayload, BadRequest, Banned, NotFound, RateLimited, Unavailable, Unreachable
from engine.market import translation, wire
from engine.market.answers import Answer, read_answer
from engine.market.fields import validate
from engine.market.limits import RequestLimiter
from engine.market.pages import Reading, read_page
from engine.market.retries import Patience, retry
from engine.market.rows import RowRules, read_rows
from engine.market.samples import SAMPLE_STEPS_MS, SamplePages, SampleReader
from engine.ports import CandlePage, Clock, SampleInterval

Result = TypeVar("Result")
Read = TypeVar("Read")
Parameters = Mapping[str, str | int]

PAGE_BARS = 1000
# An answer that parses but contradicts the question is asked for again this often; then the server is at fault.
_TRUST_ATTEMPTS = 3
# States that a plain question by symbol may not find (Bybit v5 docs, market/instrument: the default is Trading).
_OTHER_STATES = ("PreLaunch", "Delivering", "Closed")
_KIND_CATEGORIES: Mapping[str, tuple[Category, ...]] = {
    "trade": ("linear", "inverse", "spot"),
    "mark": ("linear", "inverse"),
    "index": ("linear", "inverse"),
    "premium": ("linear",),
}
_UNREACHABLE_FIX = (
    "check the network and BYBIT_REST_URL, or start with --feed simulated; ranges that are stored work offline"
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class BybitFeed:
    """Market data over HTTP; implements `engine.ports.CandleFeed`.

    Parameters
    ----------
    base_url : str
        Scheme and host, for instance ``https://api.bybit.com``, a regional host, or a local exchange.
    clock : Clock
        For deadlines and waits only: what is closed is decided by the exchange's own clock.
    limiter : RequestLimiter
        Shared by every feed of the same host.
    name : FeedName
        Which feed the series belong to.
    patience : Patience, optional
    transport : httpx2.AsyncBaseTransport, optional
        Takes the place of the network, for instance ``httpx2.ASGITransport(exchange, raise_app_exceptions=False)``.
    """

    def __init__(
        self,
        *,
        base_url: str,
        clock: Clock,
        limiter: RequestLimiter,
        name: FeedName = "bybit",
        patience: Patience | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadRequest(f"{base_url!r} is not an address", fix="BYBIT_REST_URL is like https://api.bybit.com")
        self.name: FeedName = name
        self._answered_by: Source = name
        self._base_url = base_url
        self._host = parts.hostname
        self._is_local = parts.hostname in _LOOPBACK
        self._clock = clock
        self._limiter = limiter
        self._patience = patience or Patience()
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None
        self._closed = False

    @property
    def source(self) -> Source:
        """Return who answered last; before any answer, who is expected to."""
        return self._answered_by

    async def server_time_ms(self) -> int:
        """Return the exchange's clock."""
        _, result = await self._get("/v5/market/time", {}, wire.TIME)
        return result.time_nano // 1_000_000

    async def candle_page(self, series: Series, start_ms: int, end_ms: int) -> CandlePage:
        """Return the closed candles of one window [start_ms, end_ms), both aligned, at most 1,000 bars."""
        self._check_window(series, start_ms, end_ms)
        rules = RowRules(series.category, series.kind, series.interval)
        deadline = self._deadline()

        async def read(first_ms: int, until_ms: int) -> Reading:
            # Bybit's `end` is the open of the last bar, inclusive, and both bounds are always sent: what comes back
            # for a lone or unaligned start differs from category to category (Bybit v5 docs, market/kline).
            asked: Parameters = {
                "category": series.category,
                "symbol": series.symbol,
                "interval": series.interval,
                "start": first_ms,
                "end": advance(series.interval, until_ms, -1),
                "limit": count_opens(series.interval, first_ms, until_ms),
            }

            def understand(answer: Answer, result: wire.CandleResult) -> Reading:
                if answer.server_time_ms is None or (result.rows and result.symbol != series.symbol):
                    raise BadPayload("the candles lack the exchange's time or carry another symbol", fix="try again")
                candles, notes = read_rows(result.rows, rules, first_ms, until_ms)
                return Reading(candles, answer.server_time_ms, answer.source or self.name, notes)

            return await self._read(wire.CANDLE_PATHS[series.kind], asked, wire.CANDLES, understand, deadline)

        return await read_page(series.interval, start_ms, end_ms, read)

    async def instruments(self, category: Category, symbol: str | None = None) -> list[Instrument]:
        """Return the instruments that trade (all pages), or the one asked for in whatever state; empty when unknown."""
        if symbol is None:
            return await self._instrument_pages({"category": category})
        states: tuple[str | None, ...] = (None,) if category == "spot" else (None, *_OTHER_STATES)
        for state in states:
            asked: Parameters = {"category": category, "symbol": symbol} | ({"status": state} if state else {})
            try:
                found = [row for row in await self._instrument_pages(asked) if row.symbol == symbol]
            except NotFound:
                return []
            if found:
                return found
        return []

    async def ticker(self, category: Category, symbol: str) -> Ticker:
        """Return the latest figures."""
        asked: Parameters = {"category": category, "symbol": symbol}
        _, result = await self._get("/v5/market/tickers", asked, wire.TICKERS)
        for row in result.rows:
            if row.symbol == symbol:
                return translation.ticker(category, row)
        raise NotFound(f"the exchange has no ticker of {symbol!r} in {category!r}", fix="search the symbols")

    async def order_book(self, category: Category, symbol: str, depth: int) -> OrderBook:
        """Return the best `depth` levels a side, 1 to 1,000."""
        if not 1 <= depth <= 1000:
            raise BadRequest(f"depth {depth!r} is out of range", fix="depth is 1 to 1000")
        asked: Parameters = {"category": category, "symbol": symbol, "limit": depth}

        def understand(_: Answer, result: wire.BookResult) -> OrderBook:
            if result.symbol != symbol:
                raise BadPayload(f"the order book of {result.symbol!r:.40} came instead", fix="try again")
            return translation.order_book(result, depth)

        return await self._read("/v5/market/orderbook", asked, wire.BOOK, understand, self._deadline())

    async def funding_history(
        self, category: Category, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> list[FundingRate]:
        """Return the newest `limit` settlements in [start_ms, end_ms), ascending, over as many pages as needed."""
        asked = self._contract_parameters(category, symbol)
        # Settlements are at least an hour apart.
        pages = SamplePages(start_ms, end_ms, limit, page_rows=200, step_ms=3_600_000)
        rows = await pages.collect(self._sample_reader("/v5/market/funding/history", asked, wire.FUNDING))
        return [translation.funding_rate(row) for row in rows]

    async def open_interest(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[OpenInterest]:
        """Return the newest `limit` samples in [start_ms, end_ms), ascending."""
        asked = self._contract_parameters(category, symbol) | {"intervalTime": interval}
        pages = SamplePages(start_ms, end_ms, limit, page_rows=200, step_ms=SAMPLE_STEPS_MS[interval])
        rows = await pages.collect(self._sample_reader("/v5/market/open-interest", asked, wire.INTEREST))
        return [translation.open_interest(row) for row in rows]

    async def long_short_ratio(
        self, category: Category, symbol: str, interval: SampleInterval, start_ms: int, end_ms: int, limit: int
    ) -> list[LongShortRatio]:
        """Return the newest `limit` samples in [start_ms, end_ms), ascending; there are none before 2020-07-20."""
        asked = self._contract_parameters(category, symbol) | {"period": interval}
        pages = SamplePages(start_ms, end_ms, limit, page_rows=500, step_ms=SAMPLE_STEPS_MS[interval])
        rows = await pages.collect(self._sample_reader("/v5/market/account-ratio", asked, wire.RATIO))
        return [translation.long_short_ratio(row) for row in rows]

    async def risk_tiers(self, category: Category, symbol: str) -> list[RiskTier]:
        """Return the maintenance tiers, lowest first."""
        asked = self._contract_parameters(category, symbol)
        rows: list[wire.WireRiskTier] = []
        async for page in self._cursor_pages("/v5/market/risk-limit", asked, wire.RISK):
            rows += [row for row in page.rows if row.symbol == symbol]
        if not rows:
            raise NotFound(f"the exchange has no risk tiers of {symbol!r} in {category!r}", fix="search the symbols")
        return translation.risk_tiers(rows)

    async def close(self) -> None:
        """Release connections; the feed cannot be used afterwards."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _instrument_pages(self, asked: Parameters) -> list[Instrument]:
        category: Any = asked["category"]
        if category != "spot":
            asked = {**asked, "limit": 1000}
        found: dict[str, Instrument] = {}
        async for page in self._cursor_pages("/v5/market/instruments-info", asked, wire.INSTRUMENTS):
            if page.category != category:
                raise BadPayload(f"instruments of {page.category!r} came instead of {category!r}", fix="try again")
            found.update((row.symbol, translation.instrument(category, row)) for row in page.rows)
        return list(found.values())

    async def _cursor_pages(self, path: str, asked: Parameters, adapter: TypeAdapter[Any]) -> AsyncIterator[Any]:
        deadline = self._deadline()
        seen: set[str] = {""}
        cursor = ""
        while True:
            _, page = await self._get(path, {**asked, **({"cursor": cursor} if cursor else {})}, adapter, deadline)
            yield page
            # Cursors come percent-encoded inside the JSON; the client encodes them again when it sends them.
            cursor = unquote(page.next_page_cursor)
            if not cursor:
                return
            if cursor in seen:
                raise BadPayload("the exchange repeats a page for ever", fix="try again later")
            seen.add(cursor)

    def _sample_reader(self, path: str, asked: Parameters, adapter: TypeAdapter[Any]) -> SampleReader:
        deadline = self._deadline()

        async def read(first_ms: int, last_ms: int, limit: int, understand: Callable[[list[Any]], Read]) -> Read:
            # A lone startTime is an error or is ignored, so both ends are always sent; both are inclusive.
            window: Parameters = {**asked, "startTime": first_ms, "endTime": last_ms, "limit": limit}
            return await self._read(path, window, adapter, lambda _, result: understand(result.rows), deadline)

        return read

    async def _read(
        self,
        path: str,
        asked: Parameters,
        adapter: TypeAdapter[Result],
        understand: Callable[[Answer, Result], Read],
        deadline: float,
    ) -> Read:
        """Ask until the content itself can be trusted, a few times at most."""
        for attempts_left in range(_TRUST_ATTEMPTS - 1, 0, -1):
            answer, result = await self._get(path, asked, adapter, deadline)
            try:
                return understand(answer, result)
            except BadPayload:
                await self._clock.sleep(self._patience.retry_base_s / attempts_left)
        return understand(*await self._get(path, asked, adapter, deadline))

    async def _get(
        self, path: str, asked: Parameters, adapter: TypeAdapter[Result], deadline: float | None = None
    ) -> tuple[Answer, Result]:
        until = self._deadline() if deadline is None else deadline

        async def attempt() -> tuple[Answer, Result]:
            answer = await self._request(path, asked, until)
            return answer, validate(adapter, answer.result, "the result")

        return await retry(attempt, clock=self._clock, patience=self._patience, deadline=until)

    async def _request(self, path: str, asked: Parameters, deadline: float) -> Answer:
        granted_at = await self._limiter.acquire()
        response = await self._send(path, asked, deadline - self._clock.monotonic())
        try:
            answer = read_answer(response.status_code, response.headers, response.content)
        except Banned as exc:
            await self._limiter.ban()
            exc.retry_after_s = self._limiter.rules.ban_s
            raise
        except RateLimited as exc:
            exc.retry_after_s = self._limiter.slow_down(granted_at, exc.retry_after_s)
            raise
        self._limiter.succeeded()
        self._answered_by = answer.source or self.name
        return answer

    async def _send(self, path: str, asked: Parameters, left_s: float) -> httpx2.Response:
        # The read timeout starts anew with every byte; this bound ends an answer that only drips.
        bound_s = min(left_s, self._patience.connect_timeout_s + 2 * self._patience.read_timeout_s)
        try:
            async with asyncio.timeout(bound_s):
                return await self._open_client().get(path, params=asked)
        except (TimeoutError, httpx2.TimeoutException) as exc:
            raise Unavailable("the exchange did not answer in time", fix="try again later") from exc
        except httpx2.ConnectError as exc:
            raise Unreachable(f"the exchange's host {self._host!r} cannot be reached", fix=_UNREACHABLE_FIX) from exc
        except httpx2.HTTPError as exc:
            raise Unavailable(
                f"the connection to the exchange broke ({type(exc).__name__})", fix=_UNREACHABLE_FIX
            ) from exc

    def _open_client(self) -> httpx2.AsyncClient:
        if self._closed:
            raise Unavailable("this feed is closed", fix="open a new one")
        if self._client is None:
            # Opened at the first request: loading certificates takes a while, and many runs never ask.
            self._client = httpx2.AsyncClient(
                base_url=self._base_url,
                transport=self._transport,
                timeout=httpx2.Timeout(
                    self._patience.read_timeout_s, connect=self._patience.connect_timeout_s, pool=30
                ),
                limits=httpx2.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=30),
                headers={"User-Agent": "bybit-strategy-tester"},
                trust_env=not self._is_local,  # an exchange on this machine is not behind a proxy
            )
        return self._client

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._patience.deadline_s

    def _check_window(self, series: Series, start_ms: int, end_ms: int) -> None:
        if series.feed != self.name:
            raise BadRequest(f"{series} belongs to feed {series.feed!r}, this is {self.name!r}", fix="ask its own feed")
        if series.category not in _KIND_CATEGORIES[series.kind]:
            raise BadRequest(
                f"there are no {series.kind} candles in {series.category!r}",
                fix=f"category is one of {', '.join(_KIND_CATEGORIES[series.kind])}",
            )
        if any(floor_open(series.interval, bound) != bound for bound in (start_ms, end_ms)):
            raise BadRequest(f"the window [{start_ms}, {end_ms}) is not aligned", fix="both bounds are bar opens")
        bars = count_opens(series.interval, start_ms, end_ms)
        if not 1 <= bars <= PAGE_BARS:
            raise BadRequest(f"the window holds {bars} bars", fix=f"ask for 1 to {PAGE_BARS} bars at a time")

    @staticmethod
    def _contract_parameters(category: Category, symbol: str) -> dict[str, str | int]:
        if category == "spot":
            raise BadRequest("spot has no such figures", fix="category is 'linear' or 'inverse'")
        return {"category": category, "symbol": symbol}
