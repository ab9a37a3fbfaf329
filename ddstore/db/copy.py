"""Whole columns to the server by binary COPY, and from it; the per-row work is in the native core.

Writing checks every value against the column's type before the first byte is sent: PostgreSQL never sees a value that
its type would change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore import _native
from ddstore.arrays import Column, first
from ddstore.db.strung import MAX_STRUNG, Strung, fetch_strung, strung_bytes, strung_width
from ddstore.errors import InvalidSeries, SchemaMismatch
from ddstore.moments import PG_EPOCH_DAYS, epoch_ticks, moments_of, pg_days, pg_micros

__all__ = [
    "TEXT_TYPES",
    "WIDTHS",
    "CopyField",
    "copy_in",
    "copy_out",
    "fetch_columns",
    "make_field",
    "select_cast",
    "values_of",
]

Cursor = psycopg.Cursor[Any]

#: Types that COPY transfers as a fixed number of bytes, by PostgreSQL's name.
WIDTHS: Mapping[str, int] = {
    "bool": 1,
    "int2": 2,
    "int4": 4,
    "int8": 8,
    "float4": 4,
    "float8": 8,
    "timestamptz": 8,
    "timestamp": 8,
    "date": 4,
    "time": 8,
}
#: Types whose wire form is their text.
TEXT_TYPES = frozenset({"text", "varchar", "bpchar", "name", "json"})

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_CHUNK_ROWS = 65_536
_UUID = re.compile(rb"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})*")


@dataclass(frozen=True, slots=True, eq=False)
class CopyField:
    """One column ready to be sent: ``kind`` as :func:`ddstore._native.copy_encode` names it."""

    name: str
    kind: str
    data: Any
    valid: NDArray[np.bool_] | None = None
    offsets: NDArray[np.int64] | None = None


def copy_in(cur: Cursor, table: pgsql.Composable, fields: Sequence[CopyField], rows: int) -> int:
    """Append ``rows`` rows to ``table`` by binary COPY, in the caller's transaction; return the server's count."""
    names = pgsql.SQL(", ").join(pgsql.Identifier(field.name) for field in fields)
    statement = pgsql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, names)
    columns = [(field.kind, field.data, field.valid, field.offsets) for field in fields]
    with cur.copy(statement) as copy:
        copy.write(HEADER)
        for start in range(0, rows, _CHUNK_ROWS):
            copy.write(_native.copy_encode(columns, start, min(start + _CHUNK_ROWS, rows)))
        copy.write(TRAILER)
    return cur.rowcount


def fetch_columns(
    cur: Cursor, query: pgsql.Composable, types: Sequence[str], *, most_rows: int | None = None
) -> list[Column]:
    """Run ``query`` (a SELECT without parameters) and return its columns, in the fastest way that holds them.

    That is as strung columns (see :mod:`ddstore.db.strung`) where the whole result stays below the server's 1 GB, else
    by COPY. ``most_rows`` says how many rows there can be at most; without it, or with texts, the server is asked.
    Rows keep their order if the transaction has parallel plans switched off. ``types`` are those of :func:`copy_out`.
    """
    columns = [Strung(f"c{i}", type_) for i, type_ in enumerate(types)]
    if "text" in types or most_rows is None or most_rows * strung_width(columns) > MAX_STRUNG:
        fits = strung_bytes(cur, query, columns) <= MAX_STRUNG
    else:
        fits = True
    return fetch_strung(cur, query, columns) if fits else copy_out(cur, query, types)


def copy_out(cur: Cursor, query: pgsql.Composable, types: Sequence[str]) -> list[Column]:
    """Run ``query`` (a SELECT without parameters) by binary COPY and return its columns, however many rows there are.

    ``types`` are PostgreSQL's names of the columns' types: those of :data:`WIDTHS`, and ``text`` for the rest (see
    :func:`select_cast`). Times come back as the raw int64 that PostgreSQL stores, dates as int32.

    Raises:
        ValueError: the query returns other types than said (a programming error).
    """
    statement = pgsql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with cur.copy(statement) as copy:
        stream = b"".join(copy)
    blocks, masks = _native.copy_decode(stream, [WIDTHS.get(type_, -1) for type_ in types])
    columns = []
    for block, mask, type_ in zip(blocks, masks, types, strict=True):
        valid = None if mask is None else np.frombuffer(mask, dtype=np.bool_)
        if isinstance(block, tuple):
            texts, offsets = block
            columns.append(Column(np.frombuffer(texts, np.uint8), valid, np.frombuffer(offsets, np.int64)))
        else:
            columns.append(Column(np.frombuffer(block, dtype=_DTYPES[type_]), valid))
    return columns


_DTYPES: Mapping[str, np.dtype[Any]] = {
    "bool": np.dtype(np.bool_),
    "int2": np.dtype(np.int16),
    "int4": np.dtype(np.int32),
    "int8": np.dtype(np.int64),
    "float4": np.dtype(np.float32),
    "float8": np.dtype(np.float64),
    "timestamptz": np.dtype(np.int64),
    "timestamp": np.dtype(np.int64),
    "date": np.dtype(np.int32),
    "time": np.dtype(np.int64),
}


def select_cast(expression: pgsql.Composable, type_: str) -> tuple[pgsql.Composable, str]:
    """Return how to SELECT a column of ``type_`` for :func:`fetch_columns`, and the type to declare there."""
    if type_ in WIDTHS:
        return expression, type_
    if type_ in ("text", "varchar"):
        return expression, "text"
    return pgsql.SQL("CAST({} AS text)").format(expression), "text"


def make_field(name: str, type_: str, column: Column, *, is_time: bool = False) -> CopyField:
    """Return ``column`` as it is sent to a column of PostgreSQL's ``type_``.

    ``is_time`` marks a table's time column: its NULLs are refused, and datetime64 for a bigint becomes nanoseconds.

    Raises:
        SchemaMismatch: data of this kind does not go into ``type_``, or binary COPY of ``type_`` is not supported.
        InvalidSeries: a value would be changed by the type; names the row.
    """
    valid = column.valid
    if is_time and valid is not None:
        raise InvalidSeries("a time is missing", column=name, row=first(~valid), remedy="Drop the row.")
    if valid is not None and not valid.any():
        # Nothing but NULLs: then the dtype, which is often a guess, does not matter.
        return CopyField(name, "c", b"", valid)
    kind = column.kind
    if type_ in ("timestamptz", "timestamp") and (kind == "M" or (kind in "iu" and is_time)):
        return CopyField(name, "8", pg_micros(column, name=name), valid)
    if type_ == "int8" and is_time and kind == "M":
        return CopyField(name, "8", epoch_ticks(column, "ns", name=name), valid)
    if type_ == "date" and kind == "M":
        return CopyField(name, "4", pg_days(column, name=name), valid)
    if type_ == "bool" and kind == "b":
        return CopyField(name, "1", column.data, valid)
    if type_ in ("float4", "float8", "int2", "int4", "int8") and kind in "iuf":
        data = _exact(column, np.dtype(f"{type_[0]}{type_[-1]}"), name)
        return CopyField(name, type_[-1], data, valid)
    if type_ in TEXT_TYPES and kind == "T":
        return CopyField(name, "v", column.data, valid, column.offsets)
    if type_ == "jsonb" and kind == "T":
        return CopyField(name, "j", column.data, valid, column.offsets)
    if type_ == "uuid" and kind == "T":
        return CopyField(name, "u", _uuids(column, name), valid)
    what = "text" if kind == "T" else str(column.data.dtype)
    if type_ in {*WIDTHS, *TEXT_TYPES, "jsonb", "uuid"}:
        remedy = f"Convert it to what {type_} holds before writing."
    else:
        remedy = "Write this table with SQL: COPY or INSERT into the table itself."
    raise SchemaMismatch(f"{what} data does not go into a column of type {type_}", column=name, remedy=remedy)


def _exact(column: Column, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return numbers in the dtype of the database's column, if every one of them survives the way."""
    data = column.data
    if data.dtype == dtype:
        return np.ascontiguousarray(data)
    if column.valid is not None:
        data = np.where(column.valid, data, data.dtype.type(0))
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        # Python ints and floats compare exactly; as floats the limits of int64 are powers of two, so these do as well.
        wrong = (data < limits.min) | (data > limits.max) if data.dtype.kind != "f" else _not_integral(data, dtype)
    else:
        with np.errstate(over="ignore"):
            target = data.astype(dtype)
        if data.dtype.kind == "f":
            wrong = (target != data) & (data == data)
        else:
            # Through 64 bits and back; 2**63 and 2**64 are floats that no integer reaches.
            wide: type[np.signedinteger[Any] | np.unsignedinteger[Any]]
            wide = np.int64 if data.dtype.kind == "i" else np.uint64
            over = target >= dtype.type(2) ** (63 if wide is np.int64 else 64)
            wrong = over | (np.where(over, 0, target).astype(wide) != data.astype(wide))
    if np.any(wrong):
        row = first(wrong)
        raise InvalidSeries(
            f"{data[row]} ({data.dtype}) cannot be kept exactly as {_SQL_NAMES[dtype]}",
            column=name,
            row=row,
            remedy=f"Convert it yourself, .astype({dtype.name!r}), or use a column of a wider type.",
        )
    return data.astype(dtype)


_SQL_NAMES = {
    np.dtype("f4"): "real (float4)",
    np.dtype("f8"): "double precision (float8)",
    np.dtype("i2"): "smallint (int2)",
    np.dtype("i4"): "integer (int4)",
    np.dtype("i8"): "bigint (int8)",
}


def _not_integral(data: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    limit = 2.0 ** (8 * dtype.itemsize - 1)
    wide = data.astype(np.float64)
    # -0.0 would lose its sign; NaN and infinity fail the comparison.
    outside = ~((wide >= -limit) & (wide < limit))
    return np.asarray(outside | (np.trunc(wide) != wide) | ((wide == 0) & np.signbit(wide)))


def _uuids(column: Column, name: str) -> NDArray[np.uint8]:
    assert column.offsets is not None
    texts = column.data.tobytes()
    lengths = np.diff(column.offsets)
    present = np.ones(len(column), dtype=np.bool_) if column.valid is None else column.valid
    if (wrong := (lengths != 36) & present).any() or _UUID.fullmatch(texts) is None:
        raise InvalidSeries(
            "not a UUID", column=name, row=first(wrong) if wrong.any() else None, remedy="Write them as 8-4-4-4-12."
        )
    packed = np.zeros((len(column), 16), dtype=np.uint8)
    packed[present] = np.frombuffer(bytes.fromhex(texts.replace(b"-", b"").decode()), dtype=np.uint8).reshape(-1, 16)
    return packed


def _text_objects(column: Column) -> NDArray[Any]:
    """Return a text column as an object array of str; None where NULL."""
    assert column.offsets is not None
    blob, at = column.data.tobytes(), column.offsets.tolist()
    objects = np.empty(len(column), dtype=object)
    if blob.isascii():  # then characters are bytes
        text = blob.decode()
        objects[:] = [text[a:b] for a, b in pairwise(at)]
    else:
        objects[:] = [blob[a:b].decode() for a, b in pairwise(at)]
    if column.valid is not None:
        objects[~column.valid] = None
    return objects


def _times_of_day(column: Column) -> NDArray[Any]:
    """Return microseconds since midnight as PostgreSQL prints a ``time``, an object array of str; None where NULL."""
    found, which = np.unique(column.data, return_inverse=True)
    texts = np.empty(len(found), dtype=object)
    for row, micros in enumerate(found.tolist()):
        seconds, fraction = divmod(micros, 1_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        texts[row] = f"{clock}.{fraction:06}".rstrip("0") if fraction else clock
    objects = texts[which]
    if column.valid is not None:
        objects[~column.valid] = None
    return objects


def values_of(column: Column, type_: str, *, name: str) -> NDArray[Any]:
    """Return a column of :func:`fetch_columns` in the form users see: datetime64, numbers, bools, or text as objects.

    Times of day are text: NumPy has no type for them.

    Raises:
        InvalidSeries: a time that datetime64 cannot hold.
    """
    if column.offsets is not None:
        return _text_objects(column)
    if type_ in ("timestamptz", "timestamp"):
        return moments_of(column.data, name=name)
    if type_ == "time":
        return _times_of_day(column)
    if type_ == "date":
        return (column.data.astype(np.int64) + np.int64(PG_EPOCH_DAYS)).view("datetime64[D]")
    return column.data
