"""Hot rows as they are read: one statement, outside any long transaction, each row version named exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.compact.plan import (
    SeriesPlan,
    comparable_key,
    due_condition,
    hot_column,
    series_condition,
    typed_key,
)
from ddstore.compact.policy import CompactOptions
from ddstore.db.catalog import ManagedColumn, ManagedTable, SeriesKey
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.db.strung import Strung, fetch_strung, strung_width
from ddstore.errors import SchemaMismatch

__all__ = [
    "HotRows",
    "fetch_rows",
    "hot_columns",
    "read_edges",
    "read_filenode",
    "read_rows",
    "row_width",
    "time_literal",
]


_SLACK = 65_536  # rows that may come beyond twice the planned ones before they are sorted and cut by the server

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
        values: per value column, what the core codes of it, see :func:`hot_columns`; 0 where NULL.
        valid: per value column, False where NULL.
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


def hot_columns(table: ManagedTable) -> pgsql.Composable:
    """Return what a read selects besides the series: place, version, time, and the value columns as ``v<id>``.

    A column whose values the core does not code comes as a 64-bit hash of each value's text (not of ``CAST(.. AS
    text)``, which takes blanks off a char(n)).
    """
    named = [(hot_column(table.time), "time"), *((_coded_part(c), f"v{c.id}") for c in table.values)]
    columns = [pgsql.SQL("{} AS {}").format(column, pgsql.Identifier(name)) for column, name in named]
    return pgsql.SQL(", ").join([pgsql.SQL("hot.ctid AS place, hot.xmin AS version"), *columns])


def _coded_part(column: ManagedColumn) -> pgsql.Composable:
    if column.coded_as is not None:
        return hot_column(column)
    return pgsql.SQL(sql("compact_hash")).format(column=hot_column(column))


def row_width(table: ManagedTable) -> int:
    """Return the bytes that one row takes when it is read."""
    return strung_width(_strung(table))


def read_rows(
    conn: Connection,
    wanted: Sequence[tuple[SeriesPlan, int]],
    options: CompactOptions,
    *,
    since: int | None = None,
    until: int | None = None,
) -> HotRows:
    """Read the oldest due rows of some series of one table, ordered by series, time and place.

    Several series are one scan of the table: where they are interleaved in it, no index could read one alone.

    Args:
        conn: a connection in a READ COMMITTED transaction, to be ended right after.
        wanted: series of the same table, each with the most rows to read of it.
        options: decides which rows are due.
        since: leave out rows before this time (as PostgreSQL stores it). Rows moved earlier in this run are dead but
            still in the heap: starting behind them keeps a long run linear.
        until: leave out rows after this time.
    """
    table = wanted[0][0].table
    due = due_condition(table, options)
    for comparison, moment in ((" AND {} >= {}", since), (" AND {} <= {}", until)):
        if moment is not None:
            due += pgsql.SQL(comparison).format(hot_column(table.time), time_literal(table.time, moment))
    # The file is asked for first: a rewrite in between makes the number stale, and the commit then refuses.
    filenode = read_filenode(conn, table)
    if len(wanted) == 1:
        conn.execute(sql("compact_use_index"))
    # Unsorted and unlimited is cheaper for the server, as long as about as many rows come as were counted.
    expected = 2 * sum(rows for _, rows in wanted) + _SLACK
    limited = pgsql.SQL("SELECT * FROM ({}) AS found LIMIT {}").format(_every_row(wanted, due), pgsql.Literal(expected))
    found = fetch_rows(conn, table, limited, filenode, None)
    if len(found) == expected:
        found = fetch_rows(conn, table, _oldest_rows(wanted, due), filenode, None)
    found = found.take(np.lexsort((found.place, found.time, found.series)))
    first = np.searchsorted(found.series, np.arange(len(wanted)))
    limits = np.array([rows for _, rows in wanted])
    surplus = np.arange(len(found)) - first[found.series] >= limits[found.series]
    return found.take(np.flatnonzero(~surplus)) if surplus.any() else found


def read_edges(conn: Connection, plan: SeriesPlan, options: CompactOptions, rows: int) -> list[int]:
    """Return the time (as PostgreSQL stores it) of every ``rows``-th due row of a series, oldest first.

    Reading up to one of them is reading about that many rows, whatever follows.
    """
    table = plan.table
    query = pgsql.SQL(sql("compact_time_edges")).format(
        fractions=pgsql.Literal([end / plan.rows for end in range(rows, plan.rows, rows)]),
        time=hot_column(table.time),
        table=table.identifier,
        series=series_condition(table, plan.key),
        due=due_condition(table, options),
    )
    with conn.cursor() as cursor:
        (edges,) = fetch_strung(cursor, query, [Strung("edge", table.time.type)])
    return [int(edge) for edge in edges.data] if edges.valid is None else []


def _every_row(wanted: Sequence[tuple[SeriesPlan, int]], due: pgsql.Composable) -> pgsql.Composable:
    """All due rows of these series, in any order."""
    if len(wanted) == 1:
        return _series_rows(0, wanted[0][0], due)
    # NULL is no value to join by: series with NULLs in the same key columns make one join.
    alike: dict[tuple[bool, ...], list[tuple[int, SeriesKey]]] = {}
    for ordinal, (plan, _) in enumerate(wanted):
        alike.setdefault(tuple(part is None for part in plan.key), []).append((ordinal, plan.key))
    table = wanted[0][0].table
    joins = [_join(table, missing, series, due) for missing, series in alike.items()]
    return pgsql.SQL("\nUNION ALL\n").join(joins)


def _join(
    table: ManagedTable, missing: Sequence[bool], series: Sequence[tuple[int, SeriesKey]], due: pgsql.Composable
) -> pgsql.Composable:
    given = [(number, key) for number, (key, null) in enumerate(zip(table.keys, missing, strict=True)) if not null]
    values = [
        pgsql.SQL("({})").format(
            pgsql.SQL(", ").join([pgsql.Literal(ordinal), *(typed_key(c, str(key[i])) for i, c in given)])
        )
        for ordinal, key in series
    ]
    match = [
        pgsql.SQL("{} = {}").format(comparable_key(c), pgsql.Identifier("wanted", c.segment_column)) for _, c in given
    ]
    match += [
        pgsql.SQL("{} IS NULL").format(hot_column(c)) for c, null in zip(table.keys, missing, strict=True) if null
    ]
    return pgsql.SQL(sql("compact_hot_group")).format(
        columns=hot_columns(table),
        table=table.identifier,
        wanted=pgsql.SQL(", ").join(values),
        names=pgsql.SQL(", ").join(pgsql.Identifier(n) for n in ["ordinal", *(c.segment_column for _, c in given)]),
        match=pgsql.SQL(" AND ").join(match),
        due=due,
    )


def _oldest_rows(wanted: Sequence[tuple[SeriesPlan, int]], due: pgsql.Composable) -> pgsql.Composable:
    """The oldest due rows of these series, so many of each: a scan per series."""
    branches = [
        pgsql.SQL(sql("compact_hot_oldest")).format(
            series_rows=_series_rows(ordinal, plan, due), time=hot_column(plan.table.time), rows=pgsql.Literal(rows)
        )
        for ordinal, (plan, rows) in enumerate(wanted)
    ]
    return pgsql.SQL("\nUNION ALL\n").join(branches)


def _series_rows(ordinal: int, plan: SeriesPlan, due: pgsql.Composable) -> pgsql.Composable:
    return pgsql.SQL(sql("compact_hot_series")).format(
        ordinal=pgsql.Literal(ordinal),
        columns=hot_columns(plan.table),
        table=plan.table.identifier,
        series=series_condition(plan.table, plan.key),
        due=due,
    )


def read_filenode(conn: Connection, table: ManagedTable) -> int:
    """Return which file holds the table's rows now; -1 when there is no such table."""
    found = conn.execute(sql("compact_filenode"), {"oid": table.oid}).fetchone()
    return -1 if found is None or found[0] is None else int(found[0])


def fetch_rows(
    conn: Connection, table: ManagedTable, rows: pgsql.Composable, filenode: int, parameters: Mapping[str, Any] | None
) -> HotRows:
    """Run a query (or a DELETE) that returns ``series``, ``place``, ``version`` and :func:`hot_columns`.

    Raises:
        SchemaMismatch: a row has no time.
    """
    with conn.cursor() as cursor:
        series, place, version, time, *columns = fetch_strung(cursor, rows, _strung(table), parameters)
    if time.valid is not None:
        raise SchemaMismatch(
            "a row has no time",
            series=table.label,
            column=table.time.name,
            remedy="Give every row its time, and declare the column NOT NULL.",
        )
    return HotRows(
        filenode,
        series.data,
        place.data["block"].astype(np.int64) << 16 | place.data["offset"],
        version.data,
        time.data,
        tuple(column.data for column in columns),
        tuple(np.ones(len(time), np.bool_) if c.valid is None else c.valid for c in columns),
    )


def _strung(table: ManagedTable) -> list[Strung]:
    return [
        Strung("series", "int4", nullable=False),
        Strung("place", "tid", nullable=False),
        Strung("version", "xid", nullable=False),
        Strung("time", table.time.type),
        *(Strung(f"v{c.id}", "int8" if c.coded_as is None else c.type) for c in table.values),
    ]


def _bits(array: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{array.dtype.itemsize}")


def time_literal(column: ManagedColumn, time: int) -> pgsql.Composable:
    """Return a stored time as SQL, exact over the whole range (Python's datetime ends with the year 9999)."""
    if column.type == "int8":
        return pgsql.Literal(time)
    kind = pgsql.SQL("timestamptz" if column.type == "timestamptz" else "timestamp")
    if abs(time) >= _INFINITY:
        return pgsql.SQL("{} {}").format(kind, pgsql.Literal("infinity" if time > 0 else "-infinity"))
    return pgsql.SQL("({} '2000-01-01 00:00:00+00' + {}::interval)").format(kind, pgsql.Literal(f"{time} microseconds"))
