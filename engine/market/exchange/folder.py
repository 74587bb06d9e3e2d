"""Which files of a folder hold which market, and what is in them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.candle_files import check_times, read_candle_file, read_columns, read_numbers, read_times
from engine.core.candles import Candles
from engine.core.series import CandleKind, Category
from engine.core.timeframes import INTERVALS, Interval
from engine.errors import BadRequest

_LOG = logging.getLogger(__name__)
_NAME = re.compile(
    rf"^(?P<symbol>[A-Z0-9]+)_(?P<category>linear|inverse|spot)_(?P<interval>{'|'.join(INTERVALS)})\.(parquet|csv|csv\.gz)$"
)


class FileEntry(BaseModel):
    """What one file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    symbol: str
    category: Category
    interval: Interval | None = None
    kind: CandleKind | Literal["funding"] = "trade"
    tick_size: str | None = None
    lot_step: str | None = None
    min_notional: str | None = None
    max_leverage: str | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: list[FileEntry]


def scan_folder(folder: Path) -> list[FileEntry]:
    """Return the files of a folder that are candles, from its manifest or by their names."""
    if not folder.is_dir():
        raise BadRequest(f"{folder.name!r} is not a folder", fix="--data names a folder of candle files")
    manifest = folder / "manifest.json"
    if manifest.is_file():
        try:
            return _Manifest.model_validate_json(manifest.read_bytes()).files
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadRequest(f"manifest.json is not valid at {where}: {first['msg']}", fix="mend the manifest") from exc
    entries: list[FileEntry] = []
    for path in sorted(folder.iterdir()):
        match = _NAME.match(path.name)
        if match is None:
            _LOG.info("ignored %r: not named like BTCUSDT_linear_1.parquet", path.name)
        else:
            entries.append(FileEntry.model_validate({"file": path.name, **match.groupdict()}))
    return entries


def read_candles(path: Path, entry: FileEntry) -> tuple[Candles, bool]:
    """Return the candles of a file and whether they have turnover; bars are checked, never changed."""
    candles = read_candle_file(path, entry.interval, trades=entry.kind == "trade", premium=entry.kind == "premium")
    return candles, not bool(np.isnan(candles.turnover).any())


def read_funding(path: Path) -> tuple[list[int], list[float]]:
    """Return the settlement times and rates of a file."""
    columns = read_columns(path)
    ts = read_times(columns, path)
    check_times(ts, path)
    return ts.tolist(), read_numbers(columns, "funding_rate", path).tolist()
