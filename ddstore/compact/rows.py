"""Hot rows as they are read: one statement, outside any long transaction, each row version named exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.compact.plan import SeriesPlan, due_condition, hot_column, series_condition
from ddstore.compact.policy import CompactOptions
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.copy import WIDTHS, copy_out
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
    """Return the columns of a read besides ctid and xmin: the time, then the coded columns."""
    return pgsql.SQL(", ").join([hot_column(table.time), *map(hot_column, coded_columns(table))])


def row_width(table: ManagedTable) -> int:
    """Return the bytes that one row takes in the COPY stream."""
    return 2 + (4 + 4) + (4 + 6) + (4 + 4) + (4 + 8) + sum(4 + WIDTHS[c.type] for c in coded_columns(table))


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
    rows = fetch_rows(conn, table, pgsql.SQL("\nUNION ALL\n").join(branches), filenode)
    # The branches arrive in order on every server seen so far, but SQL does not promise it.
    order = np.lexsort((rows.place, rows.time, rows.series))
    return rows if np.array_equal(order, np.arange(len(rows))) else rows.take(order)


def read_filenode(conn: Connection, table: ManagedTable) -> int:
    """Return which file holds the table's rows now; -1 when there is no such table."""
    found = conn.execute(sql("compact_filenode"), {"oid": table.oid}).fetchone()
    return -1 if found is None or found[0] is None else int(found[0])


def fetch_rows(conn: Connection, table: ManagedTable, query: pgsql.Composable, filenode: int) -> HotRows:
    """Run a query (or a DELETE) that returns a series number, ctid, xmin and :func:`hot_columns`.

    Raises:
        SchemaMismatch: a row has no time.
    """
    coded = coded_columns(table)
    with conn.cursor() as cursor:
        # xid travels as 4 bytes, like int4
        series, ctid, xmin, time, *values = copy_out(
            cursor, query, ["int4", "tid", "int4", table.time.type, *(c.type for c in coded)]
        )
    if time.valid is not None:
        raise SchemaMismatch(
            "a row has no time",
            series=table.label,
            column=table.time.name,
            remedy="Give every row its time, and declare the column NOT NULL.",
        )
    place = np.zeros(len(time), np.int64)
    for byte in range(ctid.data.shape[1]):  # big-endian: block in 4 bytes, offset in 2
        place = place << 8 | ctid.data[:, byte]
    valid = [np.ones(len(time), np.bool_) if v.valid is None else v.valid for v in values]
    return HotRows(filenode, series.data, place, xmin.data, time.data, tuple(v.data for v in values), tuple(valid))


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
