"""Named arrays of equal length as one checksummed blob, so that results can gain columns without a new table."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import BadRequest, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

COLUMNS_CODEC = 1
# Booleans, integers, floats and fixed-width text: kinds whose bytes mean the same everywhere.
_KINDS = "biufU"
_ALIGNMENT = 8

Columns = dict[str, "NDArray[Any]"]


@dataclass(frozen=True, slots=True)
class PackedColumns:
    """A blob of columns and what is needed to trust it."""

    rows: int
    crc32: int
    codec: int
    data: bytes


def pack(columns: Mapping[str, NDArray[Any]]) -> PackedColumns:
    """Pack one-dimensional columns of equal length: header (JSON of names and dtypes), then raw little-endian bytes."""
    rows = {len(column) for column in columns.values()}
    if len(rows) > 1:
        raise BadRequest("columns differ in length", fix=f"lengths found: {sorted(rows)}")
    little = {name: _little_endian(name, column) for name, column in columns.items()}
    count = rows.pop() if rows else 0
    header = json.dumps({"rows": count, "columns": [[name, column.dtype.str] for name, column in little.items()]})
    head = header.encode()
    head += b" " * (-(len(head) + 4) % _ALIGNMENT)
    data = b"".join((len(head).to_bytes(4, "little"), head, *(_padded(column.tobytes()) for column in little.values())))
    return PackedColumns(count, zlib.crc32(data), COLUMNS_CODEC, data)


def unpack(packed: PackedColumns, *, what: str) -> Columns:
    """Unpack columns as read-only views; `what` names the owner in the error when the bytes are damaged."""
    if packed.codec != COLUMNS_CODEC or zlib.crc32(packed.data) != packed.crc32:
        raise StorageFailed(f"the stored {what} are damaged (checksum differs)", fix="run it again")
    head_bytes = int.from_bytes(packed.data[:4], "little")
    header = json.loads(packed.data[4 : 4 + head_bytes])
    at, columns = 4 + head_bytes, Columns()
    for name, text in header["columns"]:
        dtype = np.dtype(text)
        columns[name] = np.frombuffer(packed.data, dtype, header["rows"], at)
        size = dtype.itemsize * header["rows"]
        at += size + -size % _ALIGNMENT
    return columns


def _little_endian(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.ndim != 1 or column.dtype.kind not in _KINDS:
        raise BadRequest(
            f"column {name!r} has {column.ndim} dimensions and dtype {column.dtype}",
            fix="columns are one-dimensional booleans, integers, floats or text",
        )
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<"))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
