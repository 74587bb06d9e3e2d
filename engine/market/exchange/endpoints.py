"""What each path answers: one function per endpoint, from a query to the JSON text of `result`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from engine.core.series import CandleKind, Category
from engine.market.exchange.instruments import instrument_row, risk_rows
from engine.market.exchange.listings import Listing
from engine.market.exchange.parameters import ParameterRefused, Query, UnalignedStart, encode_cursor, whole_number
from engine.market.exchange.sources import MarketSource, Window

_DERIVATIVES: tuple[Category, ...] = ("linear", "inverse")
_RISK_SYMBOLS_A_PAGE = 15
_PRODUCTS: dict[Category, int] = {"linear": 1, "inverse": 1, "spot": 2}
_MARKET_DATA_SERVICE = 5
_TICKER_FIELDS = [
    "symbol",
    "lastPrice",
    "indexPrice",
    "markPrice",
    "prevPrice24h",
    "price24hPcnt",
    "highPrice24h",
    "lowPrice24h",
    "prevPrice1h",
    "openInterest",
    "openInterestValue",
    "turnover24h",
    "volume24h",
    "fundingRate",
    "nextFundingTime",
    "predictedDeliveryPrice",
    "basisRate",
    "deliveryFeeRate",
    "deliveryTime",
    "ask1Size",
    "bid1Price",
    "ask1Price",
    "bid1Size",
    "basis",
    "preOpenPrice",
    "preQty",
    "curPreListingPhase",
    "fundingIntervalHour",
    "basisRateYear",
    "fundingCap",
]
_SPOT_TICKER_FIELDS = [
    "symbol",
    "bid1Price",
    "bid1Size",
    "ask1Price",
    "ask1Size",
    "lastPrice",
    "prevPrice24h",
    "price24hPcnt",
    "highPrice24h",
    "lowPrice24h",
    "turnover24h",
    "volume24h",
    "usdIndexPrice",
]


@dataclass(frozen=True, slots=True)
class Request:
    """A question put to the exchange at a time of its clock."""

    query: Query
    now_ms: int
    source: MarketSource
    unaligned_start: UnalignedStart

    def listing(self, category: Category) -> Listing:
        """Return the listing named by `symbol`, or refuse it."""
        found = self.source.listing(category, self.query.text("symbol"))
        if found is None:
            raise ParameterRefused("Not supported symbols")
        return found

    def asked_listings(self, category: Category) -> list[Listing]:
        """Return the listing named by `symbol`, or all of the fixed list."""
        return [self.listing(category)] if self.query.text("symbol") else list(self.source.listings(category))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path's answer, the message of its success, and the shape of its result when it refuses."""

    answer: Callable[[Request], str]
    refused: str = '{"category":"","list":[],"nextPageCursor":""}'
    message: str = "OK"


def server_time(request: Request) -> str:
    """Answer the clock."""
    return _compact({"timeSecond": str(request.now_ms // 1000), "timeNano": f"{request.now_ms}000000"})


def candles(kind: CandleKind, categories: tuple[Category, ...]) -> Callable[[Request], str]:
    """Return the endpoint of one kind of candles."""

    def answer(request: Request) -> str:
        category = request.query.category(default="linear", allowed=categories)
        listing = request.listing(category)
        interval = request.query.interval()
        window = request.query.candle_window(interval, request.now_ms, request.unaligned_start)
        rows = request.source.candle_rows(listing, kind, interval, window, request.now_ms)
        rows.reverse()
        return f'{{"symbol":"{listing.symbol}","category":"{category}","list":[{",".join(rows)}]}}'

    return answer


def instruments_info(request: Request) -> str:
    """Answer the trading rules; only spot comes without pages."""
    category = request.query.category()
    wanted = request.query.text("status")
    listings = request.asked_listings(category)
    if wanted or not request.query.text("symbol"):
        listings = [found for found in listings if found.status(request.now_ms) == (wanted or "Trading")]
    base = request.query.text("baseCoin")
    listings = [found for found in listings if not base or found.base_coin == base]
    if category == "spot":
        return _compact({"category": category, "list": [instrument_row(found, request.now_ms) for found in listings]})
    limit = request.query.limit(default=500, most=1000)
    after = request.query.cursor().get("last", "")
    rest = [found for found in listings if found.symbol > after]
    page = rest[:limit]
    more = encode_cursor(first=page[0].symbol, last=page[-1].symbol) if len(rest) > limit else ""
    rows = [instrument_row(found, request.now_ms) for found in page]
    return _compact({"category": category, "list": rows, "nextPageCursor": more})


def tickers(request: Request) -> str:
    """Answer the latest figures of one symbol or of all that trade."""
    category = request.query.category()
    fields = _SPOT_TICKER_FIELDS if category == "spot" else _TICKER_FIELDS
    base = request.query.text("baseCoin")
    rows: list[dict[str, str]] = []
    for listing in request.asked_listings(category):
        figures = request.source.ticker(listing, request.now_ms) if not base or listing.base_coin == base else {}
        if figures:
            figures = {"deliveryTime": "0", **figures, "symbol": listing.symbol}
            rows.append({name: figures.get(name, "") for name in fields})
    return _compact({"category": category, "list": rows})


def order_book(request: Request) -> str:
    """Answer the best levels; times and sequence numbers are integers."""
    category = request.query.category()
    listing = request.listing(category)
    depth = request.query.limit(default=1 if category == "spot" else 25, most=1000)
    levels = request.source.order_book(listing, depth, request.now_ms)
    sequence = request.now_ms // 100
    return _compact(
        {"s": listing.symbol, "b": levels.bids, "a": levels.asks, "ts": request.now_ms, "u": sequence % 10**8,
         "seq": sequence, "cts": request.now_ms - 3}
    )  # fmt: skip


def recent_trades(request: Request) -> str:
    """Answer the newest trades; there are no pages."""
    category = request.query.category()
    listing = request.listing(category)
    most = 60 if category == "spot" else 1000
    limit = request.query.limit(default=min(most, 500), most=most)
    rows = [
        {"execId": f"{trade.at_ms * 1000 + len(listing.symbol)}", "symbol": listing.symbol, "price": trade.price,
         "size": trade.size, "side": trade.side, "time": str(trade.at_ms), "isBlockTrade": False, "isRPITrade": False,
         "seq": str(trade.at_ms // 100)}
        for trade in request.source.recent_trades(listing, limit, request.now_ms)
    ]  # fmt: skip
    return _compact({"category": category, "list": rows})


def funding_history(request: Request) -> str:
    """Answer settlements; a start without an end is refused (Bybit v5 docs, market/history-fund-rate)."""
    category = request.query.category(allowed=_DERIVATIVES)
    listing = request.listing(category)
    start, end = request.query.milliseconds("startTime"), request.query.milliseconds("endTime")
    if start is not None and end is None:
        raise ParameterRefused("params error: endTime is invalid")
    limit = request.query.limit(default=200, most=200)
    window = Window(start or 0, request.now_ms if end is None else end, limit, newest=True)
    rows = [
        {"symbol": listing.symbol, "fundingRate": rate, "fundingRateTimestamp": str(at_ms)}
        for at_ms, rate in request.source.funding(listing, window, request.now_ms)
    ]
    return _compact({"category": category, "list": rows})


def open_interest(request: Request) -> str:
    """Answer open interest, anchored at the end."""
    category = request.query.category(allowed=_DERIVATIVES)
    listing = request.listing(category)
    step_ms = request.query.sample_step_ms("intervalTime")
    window = _sample_window(request, most=200)
    found = request.source.open_interest(listing, step_ms, window, request.now_ms)
    rows = [{"openInterest": both, "singleOpenInterest": one, "timestamp": str(at_ms)} for at_ms, both, one in found]
    cursor = _sample_cursor([at_ms for at_ms, _, _ in found], window)
    return _compact({"symbol": listing.symbol, "category": category, "list": rows, "nextPageCursor": cursor})


def account_ratio(request: Request) -> str:
    """Answer the shares of accounts long and short, anchored at the end."""
    listing = request.listing(request.query.category(allowed=_DERIVATIVES))
    step_ms = request.query.sample_step_ms("period")
    window = _sample_window(request, most=500)
    found = request.source.account_ratio(listing, step_ms, window, request.now_ms)
    rows = [
        {"symbol": listing.symbol, "buyRatio": long, "sellRatio": short, "timestamp": str(at_ms)}
        for at_ms, long, short in found
    ]
    return _compact({"list": rows, "nextPageCursor": _sample_cursor([at_ms for at_ms, _, _ in found], window)})


def risk_limit(request: Request) -> str:
    """Answer maintenance tiers, fifteen symbols a page."""
    category = request.query.category(allowed=_DERIVATIVES)
    after = request.query.cursor().get("last", "")
    listings = [found for found in request.asked_listings(category) if found.symbol > after]
    page = listings[:_RISK_SYMBOLS_A_PAGE]
    more = encode_cursor(first=page[0].symbol, last=page[-1].symbol) if len(listings) > len(page) else ""
    rows = [row for listing in page for row in risk_rows(listing)]
    return _compact({"category": category, "list": rows, "nextPageCursor": more})


def system_status(request: Request) -> str:
    """Answer the maintenance windows that left gaps in the candles."""
    rows = [
        {"id": f"{category}-{begin}", "title": f"{category} maintenance",
         "state": "completed" if end <= request.now_ms else "ongoing", "begin": str(begin), "end": str(end), "href": "",
         "serviceTypes": [_MARKET_DATA_SERVICE], "product": [_PRODUCTS[category]], "uidSuffix": [], "maintainType": 1,
         "env": 1}
        for category, begin, end in request.source.downtimes(request.now_ms)
    ]  # fmt: skip
    return _compact({"list": rows})


def _sample_window(request: Request, *, most: int) -> Window:
    """Return a window that ends at endTime, or now; a lone startTime is ignored."""
    start, end = request.query.milliseconds("startTime"), request.query.milliseconds("endTime")
    limit = request.query.limit(default=50, most=most)
    first_ms = start if start is not None and end is not None else 0
    last_ms = request.now_ms if end is None else end
    below = whole_number(request.query.cursor().get("lasttime", ""))
    if below is not None:
        last_ms = min(last_ms, below * 1000 - 1)
    return Window(first_ms, last_ms, limit, newest=True)


def _sample_cursor(times: list[int], window: Window) -> str:
    if len(times) < window.limit:
        return ""
    return encode_cursor(lastid=times[-1] // 300_000, lasttime=times[-1] // 1000)


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


_NO_CANDLES = '{"symbol":"","category":"","list":[]}'
ENDPOINTS: dict[str, Endpoint] = {
    "/v5/market/time": Endpoint(server_time),
    "/v5/market/kline": Endpoint(candles("trade", ("linear", "inverse", "spot")), _NO_CANDLES),
    "/v5/market/mark-price-kline": Endpoint(candles("mark", _DERIVATIVES), _NO_CANDLES),
    "/v5/market/index-price-kline": Endpoint(candles("index", _DERIVATIVES), _NO_CANDLES),
    "/v5/market/premium-index-price-kline": Endpoint(candles("premium", ("linear",)), _NO_CANDLES),
    "/v5/market/instruments-info": Endpoint(instruments_info),
    "/v5/market/tickers": Endpoint(tickers, '{"category":"","list":[]}'),
    "/v5/market/orderbook": Endpoint(order_book, "{}"),
    "/v5/market/recent-trade": Endpoint(recent_trades, '{"category":"","list":[]}'),
    "/v5/market/funding/history": Endpoint(funding_history, '{"category":"","list":[]}'),
    "/v5/market/open-interest": Endpoint(open_interest, '{"symbol":"","category":"","list":[],"nextPageCursor":""}'),
    "/v5/market/account-ratio": Endpoint(account_ratio, '{"list":[],"nextPageCursor":""}'),
    "/v5/market/risk-limit": Endpoint(risk_limit),
    "/v5/system/status": Endpoint(system_status, '{"list":[]}', message=""),
}
