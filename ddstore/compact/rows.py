"""Hot rows as they are read: one statement, outside any long transaction, each row version named exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.compact.plan import SeriesPlan, due_condition, hot_column, series_condition
from ddstore.compact.policy import CompactOptions
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import SchemaMismatch

__all__ = [
    "HotRows",
    "coded_columns",
    "fetch_rows",
    "hot_columns",
    "read_filenode",
    "read_rows",
    "row_width",
]


class _Wire(NamedTuple):
    """How PostgreSQL sends a type: the function, and NumPy's type of what comes."""

    send: str
    received: np.dtype[Any]


_WIRE = {
    "int2": _Wire("int2send", np.dtype(">i2")),
    "int4": _Wire("int4send", np.dtype(">i4")),
    "int8": _Wire("int8send", np.dtype(">i8")),
    "float4": _Wire("float4send", np.dtype(">f4")),
    "float8": _Wire("float8send", np.dtype(">f8")),
    "timestamp": _Wire("timestamp_send", np.dtype(">i8")),
    "timestamptz": _Wire("timestamptz_send", np.dtype(">i8")),
}
_PLACE = _Wire("tidsend", np.dtype([("block", ">u4"), ("offset", ">u2")]))
_VERSION = _Wire("xidsend", np.dtype(">i4"))
_FIXED = 4  # columns before the values: series, place, version, time; the last of them and the values may be NULL

_INFINITY = (1 << 63) - 1  # how PostgreSQL stores the timestamps 'infinity' and, negated, '-infinity'


@dataclass(frozen=True, slots=True)
class HotRows:
    """Row versions of one table, as arrays of one length.

    Attributes:
        filenode: the table's file when they were read; a rewrite of the table gives it another one.
        series: int32, position of the row's series in the request.
        place: int64, the row's ctid as ``block << 16 | offset``.
        xmin: int32 bit pattern of the transaction that wrote the row version.
        time: int64, as PostgreSQL stores it.
        values: per coded column, in its own type; 0 where NULL.
        valid: per coded column, False where NULL.
    """

    filenode: int
    series: NDArray[np.int32]
    place: NDArray[np.int64]
    xmin: NDArray[np.int32]
    time: NDArray[np.int64]
    values: tuple[NDArray[Any], ...]
    valid: tuple[NDArray[np.bool_], ...]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: slice | NDArray[np.intp]) -> HotRows:
        """Return some of the rows: views for a slice, copies for an index array."""
        return HotRows(
            self.filenode,
            self.series[rows],
            self.place[rows],
            self.xmin[rows],
            self.time[rows],
            tuple(v[rows] for v in self.values),
            tuple(v[rows] for v in self.valid),
        )

    @staticmethod
    def join(parts: Sequence[HotRows]) -> HotRows:
        """Return the rows of several parts of one read."""
        first = parts[0]
        return HotRows(
            first.filenode,
            np.concatenate([p.series for p in parts]),
            np.concatenate([p.place for p in parts]),
            np.concatenate([p.xmin for p in parts]),
            np.concatenate([p.time for p in parts]),
            tuple(np.concatenate([p.values[i] for p in parts]) for i in range(len(first.values))),
            tuple(np.concatenate([p.valid[i] for p in parts]) for i in range(len(first.valid))),
        )

    def same_rows(self, other: HotRows) -> bool:
        """Whether both hold the same row versions with the same content, bit by bit, in whatever order."""
        if len(self) != len(other):
            return False
        mine, theirs = self.take(np.argsort(self.place)), other.take(np.argsort(other.place))
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (mine.place, theirs.place),
            (mine.xmin, theirs.xmin),
            (mine.time, theirs.time),
            *zip(mine.valid, theirs.valid, strict=True),
            *((a.view(_bits(a)), b.view(_bits(b))) for a, b in zip(mine.values, theirs.values, strict=True)),
        ]
        return all(np.array_equal(a, b) for a, b in pairs)

    def tids(self) -> bytes:
        """Return the rows' ctids as PostgreSQL's binary form of ``tid[]``."""
        element = np.dtype([("length", ">i4"), ("block", ">u4"), ("offset", ">u2")])
        array = np.empty(len(self), element)
        array["length"] = 6
        array["block"] = self.place >> 16
        array["offset"] = self.place & 0xFFFF
        # dimensions, has nulls, oid of tid, length, lower bound
        return np.array([1, 0, 27, len(self), 1], ">i4").tobytes() + array.tobytes()


def coded_columns(table: ManagedTable) -> tuple[ManagedColumn, ...]:
    """Return the value columns that the core codes, in the order of :attr:`HotRows.values`."""
    return tuple(column for column in table.values if column.native)


def hot_columns(table: ManagedTable) -> pgsql.Composable:
    """Return what a read selects besides the series: place, version, time, and the coded columns as ``v<id>``."""
    named = [(hot_column(table.time), "time"), *((hot_column(c), f"v{c.id}") for c in coded_columns(table))]
    columns = [pgsql.SQL("{} AS {}").format(column, pgsql.Identifier(name)) for column, name in named]
    return pgsql.SQL(", ").join([pgsql.SQL("hot.ctid AS place, hot.xmin AS version"), *columns])


def row_width(table: ManagedTable) -> int:
    """Return the bytes that one row takes when it is read."""
    fixed = _WIRE["int4"], _PLACE, _VERSION, _WIRE[table.time.type]
    values = [_WIRE[c.type] for c in coded_columns(table)]
    return sum(wire.received.itemsize for wire in (*fixed, *values)) + len(values) + 1


def read_rows(
    conn: Connection,
    wanted: Sequence[tuple[SeriesPlan, int]],
    options: CompactOptions,
    *,
    since: int | None = None,
) -> HotRows:
    """Read the oldest due rows of some series of one table, ordered by series, time and place.

    Args:
        conn: a connection in a READ COMMITTED transaction, to be ended right after.
        wanted: series of the same table, each with the most rows to read of it.
        options: decides which rows are due.
        since: leave out rows before this time (as PostgreSQL stores it). Rows moved earlier in this run are dead but
            still in the index: starting behind them keeps a long run linear.
    """
    table = wanted[0][0].table
    columns, due = hot_columns(table), due_condition(table, options)
    if since is not None:
        due = pgsql.SQL("{} AND {} >= {}").format(due, hot_column(table.time), _time_literal(table.time, since))
    branches = [
        pgsql.SQL(sql("compact_hot_rows")).format(
            ordinal=pgsql.Literal(ordinal),
            columns=columns,
            table=table.identifier,
            series=series_condition(table, plan.key),
            due=due,
            time=hot_column(table.time),
            rows=pgsql.Literal(rows),
        )
        for ordinal, (plan, rows) in enumerate(wanted)
    ]
    # The file is asked for first: a rewrite in between makes the number stale, and the commit then refuses.
    filenode = read_filenode(conn, table)
    rows = fetch_rows(conn, table, pgsql.SQL("\nUNION ALL\n").join(branches), filenode, None)
    # The branches arrive in order on every server seen so far, but SQL does not promise it.
    order = np.lexsort((rows.place, rows.time, rows.series))
    return rows if np.array_equal(order, np.arange(len(rows))) else rows.take(order)


def read_filenode(conn: Connection, table: ManagedTable) -> int:
    """Return which file holds the table's rows now; -1 when there is no such table."""
    found = conn.execute(sql("compact_filenode"), {"oid": table.oid}).fetchone()
    return -1 if found is None or found[0] is None else int(found[0])


def fetch_rows(
    conn: Connection, table: ManagedTable, rows: pgsql.Composable, filenode: int, parameters: Mapping[str, Any] | None
) -> HotRows:
    """Run a query (or a DELETE) that returns ``series``, ``place``, ``version`` and :func:`hot_columns`.

    The server strings each column's binary values together: one row comes back instead of one per row, which is ten
    times faster than COPY, where the client pays for every row.

    Raises:
        SchemaMismatch: a row has no time.
    """
    coded = coded_columns(table)
    columns = [("series", _WIRE["int4"]), ("place", _PLACE), ("version", _VERSION), ("time", _WIRE[table.time.type])]
    columns += [(f"v{column.id}", _WIRE[column.type]) for column in coded]
    strings = [_strung(name, wire) for name, wire in columns]
    strings += [_strung_validity(name) for name, _ in columns[_FIXED - 1 :]]
    query = pgsql.SQL(sql("compact_strung")).format(rows=rows, columns=pgsql.SQL(", ").join(strings))
    with conn.cursor(binary=True) as cursor:
        found = cursor.execute(query, parameters).fetchone()
    assert found is not None, "an aggregate has one row"
    strung: list[bytes] = [b"" if part is None else part for part in found]
    arrays = [np.frombuffer(data, wire.received) for data, (_, wire) in zip(strung, columns, strict=False)]
    series, place, version, time, *values = (
        a if a.dtype.names else a.astype(a.dtype.newbyteorder("=")) for a in arrays
    )
    has_time, *valid = (np.frombuffer(data, np.bool_) for data in strung[len(columns) :])
    if not has_time.all():
        raise SchemaMismatch(
            "a row has no time",
            series=table.label,
            column=table.time.name,
            remedy="Give every row its time, and declare the column NOT NULL.",
        )
    place = place["block"].astype(np.int64) << 16 | place["offset"]
    return HotRows(filenode, series, place, version, time, tuple(values), tuple(valid))


def _strung(name: str, wire: _Wire) -> pgsql.Composable:
    send, column = pgsql.Identifier("pg_catalog", wire.send), pgsql.Identifier("rows", name)
    value = column if wire in (_PLACE, _VERSION) else pgsql.SQL("coalesce({}, '0')").format(column)
    if wire.send.startswith("timestamp"):
        value = pgsql.SQL("coalesce({}, 'infinity')").format(column)
    return pgsql.SQL("pg_catalog.string_agg({}({}), '')").format(send, value)


def _strung_validity(name: str) -> pgsql.Composable:
    return pgsql.SQL("pg_catalog.string_agg(CASE WHEN {} IS NULL THEN '\\x00'::bytea ELSE '\\x01' END, '')").format(
        pgsql.Identifier("rows", name)
    )


def _bits(array: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{array.dtype.itemsize}")


def _time_literal(column: ManagedColumn, time: int) -> pgsql.Composable:
    """Return a stored time as SQL, exact over the whole range (Python's datetime ends with the year 9999)."""
    if column.type == "int8":
        return pgsql.Literal(time)
    kind = pgsql.SQL("timestamptz" if column.type == "timestamptz" else "timestamp")
    if abs(time) >= _INFINITY:
        return pgsql.SQL("{} {}").format(kind, pgsql.Literal("infinity" if time > 0 else "-infinity"))
    return pgsql.SQL("({} '2000-01-01 00:00:00+00' + {}::interval)").format(kind, pgsql.Literal(f"{time} microseconds"))
