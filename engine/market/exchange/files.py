"""Replay of candle files: bars are served exactly as they stand in a folder, and nothing is made up.

Which file is which: `manifest.json` in the folder, ``{"files": [{"file", "symbol", "category", "interval", "kind"?,
"tick_size"?, "lot_step"?, "min_notional"?, "max_leverage"?}]}``, when there is one; otherwise the name, such as
`BTCUSDT_linear_1.parquet` (SYMBOL_CATEGORY_INTERVAL, then .parquet, .csv or .csv.gz). Other names are noted in the log and left
alone. `kind` is trade, mark, index, premium or funding; a funding file has a column `funding_rate` and needs no interval.

Columns: `ts` (or time, timestamp, open_time) in milliseconds UTC or ISO 8601, open, high, low, close, volume, and turnover if there
is one; without it turnover is served as "0", which says that the file has none. A missing bar is a gap. Longer intervals
are aggregated from the bars that exist, and only where the file spans the whole bar; a bar that is still open by the
exchange's clock is served from the file's bars that are closed already, at the file's own interval not at all.
Open interest, ratios, books and trades are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import Candles, TimeColumn
from engine.core.series import CandleKind, Category
from engine.core.timeframes import DAY_MS, INTERVALS, Interval, floor_open, next_open, step_ms
from engine.errors import BadRequest
from engine.market.exchange.folder import FileEntry, read_candles, read_funding, scan_folder
from engine.market.exchange.listings import Listing
from engine.market.exchange.sources import Levels, Trade, Window

_MOST_DECIMALS = 12
_SAMPLED_PRICES = 5000


@dataclass(frozen=True, slots=True, eq=False)
class _CandleFile:
    candles: Candles
    has_turnover: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Funding:
    times: list[int]
    rates: list[str]


class ReplayMarket:
    """A market read from a folder once, at the start."""

    label: Literal["simulated", "replay"] = "replay"

    def __init__(self, folder: Path) -> None:
        self._files: dict[tuple[Category, str, CandleKind], dict[Interval, _CandleFile]] = {}
        self._funding: dict[tuple[Category, str], _Funding] = {}
        self._listings: dict[tuple[Category, str], Listing] = {}
        self._aggregates: dict[tuple[Category, str, CandleKind, Interval], Candles] = {}
        rules: dict[tuple[Category, str], FileEntry] = {}
        for entry in scan_folder(folder):
            self._load(folder, entry)
            if entry.kind == "trade":
                rules.setdefault((entry.category, entry.symbol), entry)
        if not rules:
            raise BadRequest(
                f"no candle files in {folder.name!r}",
                fix="name files like BTCUSDT_linear_1.parquet, or describe them in manifest.json",
            )
        for (category, symbol), entry in rules.items():
            self._listings[category, symbol] = self._make_listing(entry)

    def listings(self, category: Category) -> Sequence[Listing]:
        """Return the symbols that have a file, by name."""
        found = [listing for (known, _), listing in self._listings.items() if known == category]
        return sorted(found, key=lambda listing: listing.symbol)

    def listing(self, category: Category, symbol: str) -> Listing | None:
        """Return the listing of a symbol that has a file."""
        return self._listings.get((category, symbol))

    def candle_rows(
        self, listing: Listing, kind: CandleKind, interval: Interval, window: Window, now_ms: int
    ) -> list[str]:
        """Return the rows of a window, ascending."""
        files = self._files.get((listing.category, listing.symbol, kind), {})
        base = _base_interval(files, interval)
        if base is None:
            return []
        closed = _closed(files[base].candles, base, now_ms)
        candles = self._bars(listing, kind, interval, base, closed, now_ms)
        first, after = (int(row) for row in np.searchsorted(candles.ts, (window.first_ms, window.last_ms + 1)))
        if window.newest:
            first = max(first, after - window.limit)
        else:
            after = min(after, first + window.limit)
        chosen = candles.take(slice(first, max(first, after)))
        return _row_texts(chosen, has_volume=kind == "trade", has_turnover=files[base].has_turnover)

    def _bars(
        self, listing: Listing, kind: CandleKind, interval: Interval, base: Interval, closed: Candles, now_ms: int
    ) -> Candles:
        if base == interval:
            return closed
        key = (listing.category, listing.symbol, kind, interval)
        whole = self._files[listing.category, listing.symbol, kind][base].candles
        if key not in self._aggregates:
            self._aggregates[key] = aggregate(whole, base, interval)
        bars = self._aggregates[key]
        if len(closed) == len(whole):
            return bars
        open_ms = floor_open(interval, now_ms)
        done = bars.take(bars.ts < open_ms)
        growing = closed.between(open_ms, now_ms)
        # The file's first bar may lie inside the growing one: then its beginning is not known.
        if not len(growing) or (len(done) == 0 and int(closed.ts[0]) > open_ms):
            return done
        return Candles.concatenate([done, _merged(growing, np.array([0]), np.array([open_ms]))])

    def ticker(self, listing: Listing, now_ms: int) -> dict[str, str]:
        """Return what the bars of the last 24 hours say; mark, index, interest and quotes stay empty."""
        files = self._files[listing.category, listing.symbol, "trade"]
        base = min(files, key=step_ms)
        candles = _closed(files[base].candles, base, now_ms)
        if not len(candles):
            return {}
        day = candles.between(now_ms - DAY_MS, now_ms)
        last = float(candles.close[-1])
        earlier = candles.close[candles.ts + step_ms(base) <= now_ms - DAY_MS]
        before = float(earlier[-1]) if len(earlier) else float(candles.open[0])
        return {
            "lastPrice": number_text(last), "prevPrice24h": number_text(before),
            "price24hPcnt": f"{(last - before) / before:.6f}",
            "highPrice24h": number_text(float(day.high.max(initial=last))),
            "lowPrice24h": number_text(float(day.low.min(initial=last))),
            "volume24h": number_text(float(day.volume.sum())),
            "turnover24h": number_text(float(day.turnover.sum())) if files[base].has_turnover else "0",
        }  # fmt: skip

    def order_book(self, listing: Listing, depth: int, now_ms: int) -> Levels:  # noqa: ARG002 - files know no book
        """Return an empty book."""
        return Levels((), ())

    def recent_trades(self, listing: Listing, limit: int, now_ms: int) -> list[Trade]:  # noqa: ARG002 - no trades
        """Return no trades."""
        return []

    def funding(self, listing: Listing, window: Window, now_ms: int) -> list[tuple[int, str]]:
        """Return the settlements of the funding file, newest first."""
        known = self._funding.get((listing.category, listing.symbol))
        if known is None:
            return []
        last_ms = min(window.last_ms, now_ms)
        rows = [
            (at_ms, rate)
            for at_ms, rate in zip(known.times, known.rates, strict=True)
            if window.first_ms <= at_ms <= last_ms
        ]
        return rows[::-1][: window.limit]

    def open_interest(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:  # noqa: ARG002
        """Return no samples."""
        return []

    def account_ratio(self, listing: Listing, step_ms: int, window: Window, now_ms: int) -> list[tuple[int, str, str]]:  # noqa: ARG002
        """Return no samples."""
        return []

    def downtimes(self, now_ms: int) -> list[tuple[Category, int, int]]:  # noqa: ARG002 - files do not say why bars are missing
        """Return no downtimes."""
        return []

    def _load(self, folder: Path, entry: FileEntry) -> None:
        path = folder / entry.file
        if entry.kind == "funding":
            times, rates = read_funding(path)
            self._funding[entry.category, entry.symbol] = _Funding(times, [number_text(rate) for rate in rates])
            return
        candles, has_turnover = read_candles(path, entry)
        interval = entry.interval
        if interval is None:
            raise BadRequest(f"{entry.file!r} has no interval", fix=f"interval is one of {', '.join(INTERVALS)}")
        group = self._files.setdefault((entry.category, entry.symbol, entry.kind), {})
        if interval in group:
            raise BadRequest(f"{entry.file!r}: a second file for the same series", fix="keep one file per series")
        group[interval] = _CandleFile(candles, has_turnover)

    def _make_listing(self, entry: FileEntry) -> Listing:
        files = self._files[entry.category, entry.symbol, "trade"]
        launch_ms = min(int(file.candles.ts[0]) for file in files.values())
        decimals, units = _tick(entry, [file.candles for file in files.values()])
        base, quote = _coins(entry.symbol)
        made = Listing(
            category=entry.category, symbol=entry.symbol, base_coin=base, quote_coin=quote,
            settle_coin=base if entry.category == "inverse" else quote, launch_ms=launch_ms,
            price_decimals=decimals, tick_units=units, lot_decimals=0 if entry.category == "inverse" else 3,
            min_notional=entry.min_notional or "5", max_leverage=entry.max_leverage or "100.00",
        )  # fmt: skip
        return made if entry.lot_step is None else replace(made, lot_decimals=_decimals(entry.lot_step, entry))


def aggregate(candles: Candles, base: Interval, interval: Interval) -> Candles:
    """Return the longer bars that the candles span wholly; a gap inside a bar leaves the bar of what exists."""
    buckets = np.array([floor_open(interval, at) for at in candles.ts.tolist()], dtype=np.int64)
    opens, first = np.unique(buckets, return_index=True)
    bars = _merged(candles, first, opens)
    begin, end = int(candles.ts[0]), next_open(base, int(candles.ts[-1]))
    spanned = [begin <= open_ms and next_open(interval, open_ms) <= end for open_ms in opens.tolist()]
    return bars.take(np.array(spanned, dtype=np.bool_))


def _merged(candles: Candles, first: NDArray[np.intp], opens: TimeColumn) -> Candles:
    last = np.append(first[1:], len(candles)) - 1
    return Candles(
        ts=opens, open=candles.open[first], high=np.maximum.reduceat(candles.high, first),
        low=np.minimum.reduceat(candles.low, first), close=candles.close[last],
        volume=np.add.reduceat(candles.volume, first), turnover=np.add.reduceat(candles.turnover, first),
    )  # fmt: skip


def number_text(value: float) -> str:
    """Print the shortest decimal that reads back as the same double, never with an exponent.

    >>> number_text(17071.0), number_text(1e-08)
    ('17071', '0.00000001')
    """
    text = repr(value)
    if "e" in text:
        return np.format_float_positional(value, trim="-")
    return text.removesuffix(".0")


def _row_texts(candles: Candles, *, has_volume: bool, has_turnover: bool) -> list[str]:
    columns = [candles.ts.tolist()]
    prices = (candles.open, candles.high, candles.low, candles.close, *((candles.volume,) if has_volume else ()))
    columns.extend([number_text(value) for value in column.tolist()] for column in prices)
    if has_volume:
        columns.append(
            [number_text(value) for value in candles.turnover.tolist()] if has_turnover else ["0"] * len(candles)
        )
    template = "[" + ",".join(['"%s"'] * len(columns)) + "]"
    return [template % row for row in zip(*columns, strict=True)]


def _closed(candles: Candles, interval: Interval, now_ms: int) -> Candles:
    after = int(np.searchsorted(candles.ts, now_ms, side="right"))
    if after and next_open(interval, int(candles.ts[after - 1])) > now_ms:
        after -= 1
    return candles if after == len(candles) else candles.take(slice(0, after))


def _base_interval(files: dict[Interval, _CandleFile], interval: Interval) -> Interval | None:
    """Return the file's interval to build from: the same, or the longest that divides it."""
    if interval in files:
        return interval
    fitting: list[Interval] = [known for known in INTERVALS if known in files and _divides(known, interval)]
    return fitting[-1] if fitting else None


def _divides(shorter: Interval, longer: Interval) -> bool:
    if shorter in ("W", "M") or step_ms(shorter) >= step_ms(longer):
        return False
    return DAY_MS % step_ms(shorter) == 0 if longer in ("D", "W", "M") else step_ms(longer) % step_ms(shorter) == 0


def _tick(entry: FileEntry, candles: list[Candles]) -> tuple[int, int]:
    """Return decimals and units of the tick: the one given, or one of the last decimal found in the prices."""
    if entry.tick_size is not None:
        decimals = _decimals(entry.tick_size, entry)
        return decimals, int(Decimal(entry.tick_size).scaleb(decimals))
    prices = np.concatenate([part.close[:_SAMPLED_PRICES] for part in candles]).tolist()
    found = max(len(number_text(price).partition(".")[2]) for price in prices)
    return min(found, _MOST_DECIMALS), 1


def _decimals(text: str, entry: FileEntry) -> int:
    try:
        exponent = Decimal(text).normalize().as_tuple().exponent
    except InvalidOperation as exc:
        raise BadRequest(f"{entry.file!r}: {text!r} is not a number", fix="write a decimal such as 0.01") from exc
    return max(0, -int(exponent))


def _coins(symbol: str) -> tuple[str, str]:
    for quote in ("USDT", "USDC", "PERP", "USD", "BTC", "ETH", "EUR"):
        base = symbol.removesuffix(quote)
        if base not in (symbol, ""):
            return base, "USDC" if quote == "PERP" else quote
    return symbol, "USD"
