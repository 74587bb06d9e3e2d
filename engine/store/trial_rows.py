"""One trial as a link of its study's chain, and the packed daily returns of trials recorded together."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import BadRequest, StorageFailed
from engine.store.ledger_rows import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engine.core.candles import TimeColumn
    from engine.core.evaluations import EvaluationBatch, EvaluationSlice

RETURNS_CODEC = 1
FIGURES = ("trades", "daily_sharpe", "skew", "kurtosis", "total_return", "max_drawdown", "fees_paid")
_NEEDED = FIGURES[:4]
# What all trials of one batch share and every link of the chain vouches for.
SHARED = (
    "category", "symbol", "interval", "start_ms", "end_ms", "bars", "data_sha256", "costs_sha256", "strategy", "origin",
    "job_id", "seed", "at_ms",
)  # fmt: skip
_WIDTH = 4
# Returns of many strategies on one market share their exponents: the fastest level finds what there is to find.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class PreparedTrial:
    """A trial before it has a number: everything its row and its link need."""

    position: int
    key: str
    fingerprint: str
    params: str
    figures: tuple[float | None, ...]
    returns_sha256: str

    def link_text(self, number: int, shared: str) -> str:
        """Return what is hashed of this trial under its number."""
        return link_text(number, self.key, self.fingerprint, self.params, self.figures, self.returns_sha256, shared)


def link_text(
    number: int,
    key: str,
    fingerprint: str,
    params: str,
    figures: Sequence[float | None],
    returns_sha256: str,
    shared: str,
) -> str:
    """Return the canonical text of a trial's row."""
    return json.dumps([number, key, fingerprint, params, list(figures), returns_sha256, shared], separators=(",", ":"))


def shared_text(row: Mapping[str, Any]) -> str:
    """Return the hash of what the trials of a batch share."""
    return hashlib.sha256(canonical([row[name] for name in SHARED]).encode()).hexdigest()


def prepare(where: EvaluationSlice, batch: EvaluationBatch) -> list[PreparedTrial]:
    """Return the batch's distinct trials in their order; the first of two equal ones stays."""
    _check(batch)
    returns = _little(batch.daily_returns)
    columns = [_column(batch, name) for name in FIGURES]
    found: dict[str, PreparedTrial] = {}
    for position, (fingerprint, point) in enumerate(zip(batch.fingerprints, batch.points, strict=True)):
        key = where.trial_key(fingerprint)
        if key not in found:
            found[key] = PreparedTrial(
                position,
                key,
                fingerprint,
                canonical({name: float(value) for name, value in point.items()}),
                tuple(column[position] for column in columns),
                hashlib.sha256(returns[position].tobytes()).hexdigest(),
            )
    return list(found.values())


def pack_returns(returns: NDArray[np.float32]) -> tuple[bytes, int]:
    """Return the packed matrix (shape (n, d)) and its checksum: float32, little-endian, bytes of one weight together."""
    data = zlib.compress(_little(returns).view(np.uint8).reshape(-1, _WIDTH).T.tobytes(), _LEVEL)
    return data, zlib.crc32(data)


def unpack_returns(row: Any, *, what: str) -> NDArray[np.float32]:
    """Return the matrix of a row of `trial_returns`, shape (rows, days)."""
    if row.codec != RETURNS_CODEC or zlib.crc32(row.data) != row.crc32:
        raise StorageFailed(f"the stored returns of {what} are damaged (checksum differs)", fix="restore a backup")
    weights = np.frombuffer(zlib.decompress(row.data), np.uint8).reshape(_WIDTH, -1)
    return np.ascontiguousarray(weights.T).view("<f4").reshape(row.rows, row.days)


def pack_marks(marks_ms: TimeColumn) -> bytes:
    """Return the packed ends of the daily returns."""
    return zlib.compress(np.ascontiguousarray(marks_ms, "<i8").tobytes(), _LEVEL)


def unpack_marks(data: bytes) -> TimeColumn:
    """Return the ends of the daily returns."""
    return np.frombuffer(zlib.decompress(data), "<i8")


def _check(batch: EvaluationBatch) -> None:
    shape, wanted = batch.daily_returns.shape, (len(batch), len(batch.marks_ms))
    missing = [name for name in _NEEDED if name not in batch.metrics]
    if shape != wanted or missing or len(batch.points) != len(batch):
        raise BadRequest(
            f"a batch of {len(batch)} trials has returns of shape {shape} and lacks the figures {missing}",
            fix=f"daily returns have shape {wanted}, and every trial a point and the figures {', '.join(_NEEDED)}",
        )


def _column(batch: EvaluationBatch, name: str) -> list[float | None]:
    column = batch.metrics.get(name)
    if column is None:
        return [None] * len(batch)
    return [value if math.isfinite(value) else None for value in np.asarray(column, np.float64).tolist()]


def _little(returns: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(returns, "<f4")
