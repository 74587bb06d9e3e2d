"""Candle files, CSV (also gzipped) and Parquet: read with every row checked, written so that nothing is lost."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.core.candles import VALUE_COLUMNS, Candles
from engine.core.resample import bucket_opens
from engine.core.timeframes import DAY_MS, Interval, next_open
from engine.errors import BadRequest

FileFormat = Literal["csv", "parquet"]
TIME_NAMES = ("time", "ts", "timestamp", "open_time")
PRICE_NAMES = ("open", "high", "low", "close")
LARGEST_FILE_BYTES = 2 * 1024**3
LARGEST_TEXT_BYTES = 20 * 1024**2
# Before 2010 there was nothing to trade; a smaller number is seconds, a larger one microseconds or nanoseconds.
_EARLIEST_MS, _LATEST_MS = 1_262_304_000_000, 4_102_444_800_000


def read_candle_file(path: Path, interval: Interval | None, *, trades: bool = True, premium: bool = False) -> Candles:
    """Return the candles of a file; a row that is no candle refuses the whole file.

    Parameters
    ----------
    path : Path
        `.csv`, `.csv.gz` or `.parquet` with a time column (milliseconds UTC or ISO 8601 bar opens, ascending),
        open, high, low, close, and for `trades` volume and optionally turnover (NaN where absent).
    interval : Interval or None
        Times must be opens of it; None checks no alignment.
    premium : bool
        Values may be zero or negative and the open may lie outside low and high (Bybit v5 docs,
        market/premium-index-kline).
    """
    columns = read_columns(path)
    ts = read_times(columns, path)
    opens, highs, lows, closes = (read_numbers(columns, name, path) for name in PRICE_NAMES)
    unknown = np.full(len(ts), np.nan)
    volume = read_numbers(columns, "volume", path) if trades else unknown
    turnover = read_numbers(columns, "turnover", path) if trades and "turnover" in columns else unknown
    candles = Candles(ts, opens, highs, lows, closes, volume, turnover)
    check_times(ts, path)
    if interval is not None:
        _check_alignment(ts, interval, path)
        _check_spacing(ts, interval, path)
    if not premium:
        _check_prices(candles, path)
    if trades and (volume < 0).any():
        row = int(np.argmax(volume < 0))
        raise BadRequest(
            f"{path.name!r}: {_place(path, row)} has a negative volume, {volume[row]:g}", fix="mend the row"
        )
    return candles


def read_text_file(path: str) -> str:
    """Return the text of a small UTF-8 file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise BadRequest(f"there is no file {file.name!r} at that place", fix="give the full path of an existing file")
    if file.stat().st_size > LARGEST_TEXT_BYTES:
        raise BadRequest(f"{file.name!r} is larger than 20 MB", fix="export fewer trades")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file.name!r} cannot be read as text", fix="export it again as CSV") from error


def write_candle_file(path: Path, candles: Candles, file_format: FileFormat) -> list[str]:
    """Write candles and return the columns written; a half-written file never bears the name."""
    names = ["time", *VALUE_COLUMNS]
    columns = dict(zip(names, candles.columns(), strict=True))
    if np.isnan(candles.turnover).all():
        names.remove("turnover")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if file_format == "parquet":
        # Half a second of import that only Parquet pays.
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({name: columns[name] for name in names}), partial, compression="zstd")
    else:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(*(columns[name].tolist() for name in names), strict=True))
    partial.replace(path)
    return names


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """Return the columns of a file by lower-case name."""
    suffixes = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffixes not in (".csv", ".csv.gz", ".parquet"):
        raise BadRequest(f"{path.name!r} is not a candle file", fix="give a .csv, .csv.gz or .parquet file")
    if not path.is_file():
        raise BadRequest(f"there is no file {path.name!r} at that place", fix="give the full path of an existing file")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise BadRequest(f"{path.name!r} is larger than 2 GiB", fix="split it")
    try:
        if suffixes == ".parquet":
            return _read_parquet(path)
        raw = gzip.decompress(path.read_bytes()) if suffixes == ".csv.gz" else path.read_bytes()
        rows = csv.reader(io.StringIO(raw.decode("utf-8-sig")))
        header = [name.strip().lower() for name in next(rows, [])]
        body = [row for row in rows if row]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{path.name!r} cannot be read", fix="mend or replace the file") from error
    if any(len(row) != len(header) for row in body):
        raise BadRequest(f"{path.name!r} has rows that are not as long as its header", fix="mend the file")
    return dict(zip(header, zip(*body, strict=True), strict=False))


def _read_parquet(path: Path) -> dict[str, Sequence[Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table: Any = parquet.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise BadRequest(f"{path.name!r} is not a Parquet file", fix="mend or replace the file") from error
    columns: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
        columns[str(name).lower()] = column.to_numpy()
    return columns


def read_times(columns: dict[str, Sequence[Any]], path: Path) -> NDArray[np.int64]:
    """Return the time column in milliseconds UTC."""
    name = next((name for name in TIME_NAMES if name in columns), None)
    if columns and not any(len(column) for column in columns.values()):
        raise BadRequest(f"{path.name!r} has a header and no rows", fix="give a file with candles")
    if name is None or not len(columns[name]):
        raise BadRequest(f"{path.name!r} has no times", fix=f"name the time column one of {', '.join(TIME_NAMES)}")
    values = columns[name]
    try:
        if isinstance(values[0], str) and not values[0].strip().isdigit():
            times = np.array([_iso_ms(text) for text in values], dtype=np.int64)
        else:
            times = np.array(values, dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(f"{path.name!r} has times that cannot be read", fix="milliseconds UTC or ISO 8601") from error
    if times.min() < _EARLIEST_MS or times.max() > _LATEST_MS:
        raise BadRequest(
            f"{path.name!r} has times outside 2010 to 2100, the first is {int(times[0])}", fix="give milliseconds UTC"
        )
    return times


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1000)


def read_numbers(columns: dict[str, Sequence[Any]], name: str, path: Path) -> NDArray[np.float64]:
    """Return a column of finite numbers."""
    if name not in columns:
        raise BadRequest(f"{path.name!r} has no column {name!r}", fix=f"it has {', '.join(columns)}"[:300])
    try:
        numbers = np.array(columns[name], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"{path.name!r} has text in column {name!r}", fix="mend the file") from error
    if not np.isfinite(numbers).all():
        raise BadRequest(f"{path.name!r} has empty or infinite numbers in column {name!r}", fix="mend the file")
    return numbers


def check_times(ts: NDArray[np.int64], path: Path) -> None:
    """Refuse times that repeat or go back."""
    steps = np.diff(ts)
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        what = "repeats a bar" if steps[row - 1] == 0 else "goes back in time"
        raise BadRequest(
            f"{path.name!r} {what} at {_place(path, row)}: {int(ts[row])} after {int(ts[row - 1])}",
            fix="sort the file by time and remove repeats",
        )


def _check_alignment(ts: NDArray[np.int64], interval: Interval, path: Path) -> None:
    wrong = bucket_opens(interval, ts) != ts
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadRequest(
            f"{path.name!r}: {_place(path, row)} opens at {int(ts[row])}, which is no open of interval {interval}",
            fix="times are bar opens in milliseconds UTC; check the interval",
        )


def _check_spacing(ts: NDArray[np.int64], interval: Interval, path: Path) -> None:
    """Refuse bars of a longer interval: their opens are opens of the shorter one too, with holes between."""
    if len(ts) < 3:
        return
    spacing = int(np.median(np.diff(ts)))
    if spacing > next_open(interval, int(ts[0])) - int(ts[0]) + DAY_MS * 3 * (interval == "M"):
        raise BadRequest(
            f"{path.name!r} has a bar every {spacing // 60_000} minutes, which is not interval {interval}",
            fix="give the interval of the file",
        )


def _check_prices(candles: Candles, path: Path) -> None:
    body_top, body_bottom = np.maximum(candles.open, candles.close), np.minimum(candles.open, candles.close)
    bad = (candles.high < body_top) | (candles.low > body_bottom) | (candles.low <= 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise BadRequest(
            f"{path.name!r}: {_place(path, row)} is no candle (low <= open, close <= high, above 0): {_values(candles, row)}",
            fix="mend the row",
        )


def _place(path: Path, row: int) -> str:
    """Return where a row stands: the line of a text file, whose first line is its header; the row of a Parquet file."""
    return f"row {row + 1}" if path.suffix == ".parquet" else f"line {row + 2}"


def _values(candles: Candles, row: int) -> str:
    return ", ".join(f"{name} {getattr(candles, name)[row]:g}" for name in PRICE_NAMES)
