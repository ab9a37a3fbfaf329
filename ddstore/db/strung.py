"""Columns of a query as one row: the server strings all values of a column together, in PostgreSQL's binary form.

COPY and ordinary results cost the client a few microseconds per row; here a result is one row whatever it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg import sql as pgsql

from ddstore.arrays import Column
from ddstore.db.queries import sql

__all__ = ["MAX_STRUNG", "Strung", "fetch_strung", "strung_bytes", "strung_width"]

#: The server makes no row above 1 GB; what frames the values is small.
MAX_STRUNG = (1 << 30) - (1 << 20)


class _Wire(NamedTuple):
    """How PostgreSQL sends a type: the function, and NumPy's type of what comes."""

    send: str
    received: np.dtype[Any]


_WIRE: Mapping[str, _Wire] = {
    "bool": _Wire("boolsend", np.dtype(np.bool_)),
    "int2": _Wire("int2send", np.dtype(">i2")),
    "int4": _Wire("int4send", np.dtype(">i4")),
    "int8": _Wire("int8send", np.dtype(">i8")),
    "float4": _Wire("float4send", np.dtype(">f4")),
    "float8": _Wire("float8send", np.dtype(">f8")),
    "timestamp": _Wire("timestamp_send", np.dtype(">i8")),
    "timestamptz": _Wire("timestamptz_send", np.dtype(">i8")),
    "date": _Wire("date_send", np.dtype(">i4")),
    "time": _Wire("time_send", np.dtype(">i8")),
    "tid": _Wire("tidsend", np.dtype([("block", ">u4"), ("offset", ">u2")])),
    "xid": _Wire("xidsend", np.dtype(">i4")),
}


class Strung(NamedTuple):
    """A column of the query: its name, PostgreSQL's name of its type, and whether NULLs are to be told apart.

    Types are those with a fixed width that the core or COPY knows, ``tid`` and ``xid``, and ``text``.
    """

    name: str
    type: str
    nullable: bool = True


def strung_width(columns: Sequence[Strung]) -> int:
    """Return the bytes that one row takes, texts apart."""
    sizes = (4 if c.type == "text" else _WIRE[c.type].received.itemsize for c in columns)
    return sum(sizes) + sum(c.nullable for c in columns)


def strung_bytes(cursor: psycopg.Cursor[Any], query: pgsql.Composable, columns: Sequence[Strung]) -> int:
    """Return what the columns of a SELECT take at most. The server reads the rows for it, but no long text."""
    texts = [
        pgsql.SQL("coalesce(sum(octet_length({})), 0)").format(pgsql.Identifier("rows", column.name))
        for column in columns
        if column.type == "text"
    ]
    statement = pgsql.SQL(sql("strung_measure")).format(
        texts=pgsql.SQL(" + ").join(texts) if texts else pgsql.SQL("0"),
        rows=query,
        names=pgsql.SQL(", ").join(pgsql.Identifier(column.name) for column in columns),
    )
    found = cursor.execute(statement).fetchone()
    assert found is not None, "an aggregate has one row"
    # A character that is one byte in the server's encoding may be three in UTF-8.
    return int(found[0]) * strung_width(columns) + 3 * int(found[1])


def fetch_strung(
    cursor: psycopg.Cursor[Any],
    query: pgsql.Composable,
    columns: Sequence[Strung],
    parameters: Mapping[str, Any] | None = None,
) -> list[Column]:
    """Run a SELECT, or a DELETE that returns, and give its ``columns`` (named here, in the query's order).

    Rows are in the order in which the server made them, the same for all columns.

    Where NULL, data is 0 (text: empty). Times are the raw int64 that PostgreSQL stores, dates int32, ``tid`` the
    fields ``block`` and ``offset``, ``xid`` its bit pattern as int32.

    The caller makes sure that all of it takes less than :data:`MAX_STRUNG`.
    """
    parts = [part for column in columns for part in _parts(column)]
    statement = pgsql.SQL(sql("strung")).format(
        names=pgsql.SQL(", ").join(pgsql.Identifier(column.name) for column in columns),
        rows=query,
        columns=pgsql.SQL(", ").join(parts),
    )
    found = cursor.execute(statement, parameters, binary=True).fetchone()
    assert found is not None, "an aggregate has one row"
    strings = iter([bytearray() if part is None else part for part in found])  # NULL: there were no rows
    result = []
    for column in columns:
        data = next(strings)
        offsets = None
        if column.type == "text":
            lengths = np.frombuffer(next(strings), ">i4")
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
            values = np.frombuffer(data, np.uint8)
        else:
            values = np.frombuffer(data, _WIRE[column.type].received)
            values = values.copy() if values.dtype.names else values.astype(values.dtype.newbyteorder("="))
        valid = np.frombuffer(next(strings), np.bool_) if column.nullable else None
        result.append(Column(values, None if valid is None or valid.all() else valid, offsets))
    return result


def _parts(column: Strung) -> list[pgsql.Composable]:
    name = pgsql.Identifier("rows", column.name)
    parts: list[pgsql.Composable]
    if column.type == "text":
        sent = pgsql.SQL("pg_catalog.textsend({})").format(name)
        parts = [
            pgsql.SQL("pg_catalog.string_agg(coalesce({}, ''), '')").format(sent),
            _aggregate("int4send", pgsql.SQL("coalesce(octet_length({}), 0)").format(sent)),
        ]
    elif column.nullable:
        wire = _WIRE[column.type]
        parts = [
            pgsql.SQL("pg_catalog.string_agg(coalesce({}({}), {}), '')").format(
                pgsql.Identifier("pg_catalog", wire.send), name, pgsql.Literal(bytes(wire.received.itemsize))
            )
        ]
    else:
        parts = [_aggregate(_WIRE[column.type].send, name)]
    if column.nullable:
        parts.append(_aggregate("boolsend", pgsql.SQL("{} IS NOT NULL").format(name)))
    return parts


def _aggregate(send: str, value: pgsql.Composable) -> pgsql.Composable:
    return pgsql.SQL("pg_catalog.string_agg({}({}), '')").format(pgsql.Identifier("pg_catalog", send), value)
