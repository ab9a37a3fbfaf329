"""Reading a managed table: hot rows as they are, cold rows decoded here, both of one snapshot. Needs no extension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.arrays import Column
from ddstore.codec.format import as_native, dtype_of
from ddstore.db.catalog import ManagedColumn, ManagedTable, require_intact
from ddstore.db.companion import value_of
from ddstore.db.copy import fetch_columns, select_cast, values_of
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.decoding import DecodedSegment, Pair, decode_segments
from ddstore.errors import SchemaMismatch
from ddstore.moments import PG_EPOCH_US, PG_MIN_US, moments_of, tick_bound
from ddstore.series import Frame

__all__ = ["Selection", "begin_snapshot", "read_table", "select_rows"]

_LEAST_HEAP_ROW = 28  # bytes that a row takes in the heap at the very least: its header and its line pointer
_PG_MAX = 9_223_371_331_200_000_000  # the first microsecond since 2000 that is no timestamp any more

_Managed = Sequence[ManagedColumn]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a table: some key values (by column name; None is NULL), and stored ticks start <= t < end."""

    key: Mapping[str, Any]
    start: int | None
    end: int | None

    def rows(self, table: ManagedTable) -> pgsql.Composable:
        """The condition on the heap ``t``."""
        time = pgsql.Identifier("t", table.time.name)
        parts = [_equals(pgsql.Identifier("t", name), value) for name, value in self.key.items()]
        if self.start is not None:
            parts.append(pgsql.SQL("{} >= {}").format(time, _tick_literal(table.time, self.start)))
        if self.end is not None:
            parts.append(pgsql.SQL("{} < {}").format(time, _tick_literal(table.time, self.end)))
        return pgsql.SQL(" AND ").join(parts) if parts else pgsql.SQL("true")

    def segments(self, table: ManagedTable) -> pgsql.Composable:
        """The condition on the companion ``t``: segments that may hold such rows."""
        names = {column.name: column.segment_column for column in table.keys}
        parts = [_equals(pgsql.Identifier("t", names[name]), value) for name, value in self.key.items()]
        if self.start is not None:
            parts.append(pgsql.SQL("t.t_max >= {}").format(_tick_literal(table.time, self.start)))
        if self.end is not None:
            parts.append(pgsql.SQL("t.t_min < {}").format(_tick_literal(table.time, self.end)))
        return pgsql.SQL(" AND ").join(parts) if parts else pgsql.SQL("true")


def _equals(column: pgsql.Composable, value: Any) -> pgsql.Composable:
    if value is None:
        return pgsql.SQL("{} IS NULL").format(column)
    # As text: PostgreSQL reads an untyped literal in the column's own type.
    return pgsql.SQL("{} = {}").format(column, pgsql.Literal(str(value)))


def _tick_literal(column: ManagedColumn, tick: int) -> pgsql.Composable:
    if column.type == "int8":
        return pgsql.Literal(tick)
    if not PG_MIN_US - PG_EPOCH_US <= tick < _PG_MAX:
        return pgsql.Literal("infinity" if tick > 0 else "-infinity")
    kind = pgsql.SQL("timestamptz" if column.type == "timestamptz" else "timestamp")
    return pgsql.SQL("({} '2000-01-01 00:00:00+00' + {}::interval)").format(kind, pgsql.Literal(f"{tick} microseconds"))


def select_rows(table: ManagedTable, key: Any, start: Any, end: Any) -> Selection:
    """Turn what the user asked for into a :class:`Selection`.

    ``key`` is a mapping of some key columns to values, or the values of all key columns in order (a single one bare).

    Raises:
        SchemaMismatch: ``key`` names no key column, or has too many or too few values.
        InvalidSeries: ``start`` or ``end`` is not a time.
    """
    names = [column.name for column in table.keys]
    if key is None:
        key = {}
    elif not isinstance(key, Mapping):
        given = list(key) if isinstance(key, (tuple, list)) else [key]
        if len(given) != len(names):
            raise SchemaMismatch(
                f"{len(given)} key values for {len(names)} key columns", series=table.label, remedy=_keys_are(names)
            )
        key = dict(zip(names, given, strict=True))
    for name in key:
        if name not in names:
            raise SchemaMismatch(f"{name!r} is not a key column", series=table.label, remedy=_keys_are(names))
    time_type = table.time.type
    return Selection(
        key, tick_bound(start, time_type=time_type, name="start"), tick_bound(end, time_type=time_type, name="end")
    )


def _keys_are(names: Sequence[str]) -> str:
    return f"Its key columns are {', '.join(names)}." if names else "It has no key columns."


def begin_snapshot(conn: Connection) -> None:
    """Make the transaction that ``conn`` is about to begin read-only and of one snapshot."""
    conn.execute(sql("read_snapshot"))
    conn.execute(sql("read_plain_scan"))


def read_table(
    conn: Connection,
    table: ManagedTable,
    selection: Selection,
    columns: Sequence[str] | None = None,
    *,
    keys: bool = True,
) -> Frame:
    """Return the selected rows of ``table``, hot and cold, in order of time; equal times in the order they came.

    Without ``keys`` the frame has no key columns: worth it where the key is known, for texts take their time.

    ``conn`` must be in a transaction opened by :func:`begin_snapshot`.

    Raises:
        SchemaMismatch: a column is not one of the table's, or is one that its segments have in another type; or a key
            value does not fit its column's type.
        CorruptSegment: stored bytes are damaged.
        InvalidSeries: a time that datetime64 cannot hold.
    """
    require_intact(table)
    if isinstance(columns, str):
        columns = [columns]
    every = (*table.values, *(added.column for added in table.added))
    values = every if columns is None else tuple(table.value(name) for name in dict.fromkeys(columns))
    try:
        key = table.keys if keys else ()
        hot = _read_hot(conn, table, selection, key, values)
        cold = _read_cold(conn, table, selection, key, values)
    except pg_errors.DataError as error:
        raise SchemaMismatch(
            f"a key value does not fit its column: {error.diag.message_primary}",
            series=table.label,
            remedy="Give it in the key column's type.",
        ) from error
    ticks = np.concatenate([cold.time, hot.time])
    order = None if (ticks[1:] >= ticks[:-1]).all() else np.argsort(ticks, kind="stable")
    if order is not None:
        ticks = ticks[order]
    merged: dict[str, NDArray[Any]] = {}
    valid: dict[str, NDArray[np.bool_]] = {}
    for column in (*key, *values):
        data, mask = _join([cold.columns[column.name], hot.columns[column.name]], order)
        merged[column.name] = data
        if mask is not None:
            valid[column.name] = mask
    return Frame(
        ticks if table.time.type == "int8" else moments_of(ticks, name=table.time.name),
        {column.name: merged[column.name] for column in key},
        {column.name: merged[column.name] for column in values},
        valid,
        time_name=table.time.name,
        time_zone="UTC" if table.time.type == "timestamptz" else None,
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    time: NDArray[np.int64]
    columns: Mapping[str, Pair]


def _join(parts: Sequence[Pair], order: NDArray[np.intp] | None) -> Pair:
    data = np.concatenate([values for values, _ in parts])
    mask: NDArray[np.bool_] | None = None
    if any(valid is not None for _, valid in parts):
        mask = np.concatenate(
            [np.ones(len(values), dtype=np.bool_) if valid is None else valid for values, valid in parts]
        )
        mask = None if mask.all() else mask
    if order is None:
        return data, mask
    return data[order], None if mask is None else mask[order]


def _pair(column: Column, type_: str, name: str) -> Pair:
    return values_of(column, type_, name=name), column.valid


def _read_hot(conn: Connection, table: ManagedTable, selection: Selection, keys: _Managed, values: _Managed) -> _Rows:
    wanted = [table.time, *keys, *values]
    casts = [select_cast(pgsql.Identifier("t", column.name), column.type) for column in wanted]
    query = pgsql.SQL(sql("read_hot")).format(
        columns=pgsql.SQL(", ").join(expression for expression, _ in casts),
        table=table.identifier,
        condition=selection.rows(table),
    )
    types = [type_ for _, type_ in casts]
    if selection.key or selection.start is not None or selection.end is not None:
        conn.execute(sql("read_use_brin"), {"oid": table.oid})
    size = conn.execute(sql("read_heap_size"), {"oid": table.oid}).fetchone()
    with conn.cursor() as cursor:
        time, *columns = fetch_columns(
            cursor, query, types, most_rows=None if size is None else size[0] // _LEAST_HEAP_ROW
        )
    if time.valid is not None:
        raise SchemaMismatch(
            "a row has no time",
            series=table.label,
            column=table.time.name,
            remedy="Set the missing times, and the column NOT NULL.",
        )
    return _Rows(
        time.data,
        {c.name: _pair(column, c.type, c.name) for c, column in zip(wanted[1:], columns, strict=True)},
    )


def _read_cold(conn: Connection, table: ManagedTable, selection: Selection, keys: _Managed, values: _Managed) -> _Rows:
    condition = selection.segments(table)
    added = {column.column.id: column.missing for column in table.added}
    stored = [column for column in values if column.id not in added]
    segments = list(decode_segments(conn, table, stored, condition))
    time = np.concatenate([np.empty(0, dtype=np.int64), *(segment.time for segment in segments)])
    columns = dict(_read_keys(conn, table, keys, condition))
    for column in values:
        if column.id in added:
            columns[column.name] = _read_missing(conn, table, column, added[column.id], len(time))
            continue
        parts = [segment.values[column.id] for segment in segments]
        if column.coded_as is None:
            columns[column.name] = _read_entries(conn, table, column, segments, condition)
        else:
            data, valid = _join([(np.empty(0, dtype_of(as_native(column.coded_as))), None), *parts], None)
            columns[column.name] = _pair(Column(data, valid), column.type, column.name)
    keep = np.ones(len(time), dtype=np.bool_)
    if selection.start is not None:
        keep &= time >= selection.start
    if selection.end is not None:
        keep &= time < selection.end
    if not keep.all():
        time = time[keep]
        columns = {name: (data[keep], None if v is None else v[keep]) for name, (data, v) in columns.items()}
    return _Rows(time, columns)


def _read_keys(
    conn: Connection, table: ManagedTable, keys: _Managed, condition: pgsql.Composable
) -> Iterator[tuple[str, Pair]]:
    """Key columns of the segments' rows."""
    casts = [select_cast(pgsql.Identifier("t", column.segment_column), column.type) for column in keys]
    query = pgsql.SQL(sql("read_segments")).format(
        columns=pgsql.SQL(", ").join([pgsql.Identifier("t", "n"), *(expression for expression, _ in casts)]),
        segments=table.segments_identifier,
        condition=condition,
    )
    with conn.cursor() as cursor:
        n, *found = fetch_columns(cursor, query, ["int4", *(type_ for _, type_ in casts)])
    for managed, key in zip(keys, found, strict=True):
        data, valid = _pair(key, managed.type, managed.name)
        yield managed.name, (np.repeat(data, n.data), None if valid is None else np.repeat(valid, n.data))


def _read_missing(conn: Connection, table: ManagedTable, column: ManagedColumn, missing: str | None, n: int) -> Pair:
    """A column that segments lack, because it was added to the table after them."""
    row = conn.execute(sql("read_type"), {"oid": table.oid, "name": column.name}).fetchone()
    assert row is not None
    value = pgsql.SQL("CAST({} AS {})").format(pgsql.Literal(missing), pgsql.Identifier(*row))
    expression, type_ = select_cast(value, column.type)
    with conn.cursor() as cursor:
        (found,) = fetch_columns(cursor, pgsql.SQL("SELECT {}").format(expression), [type_])
    data, valid = _pair(found, column.type, column.name)
    return np.repeat(data, n), None if valid is None else np.repeat(valid, n)


def _read_entries(
    conn: Connection,
    table: ManagedTable,
    column: ManagedColumn,
    segments: Sequence[DecodedSegment],
    condition: pgsql.Composable,
) -> Pair:
    """One column whose values the core does not code: its arrays' elements, each in the rows that have it."""
    array = pgsql.Identifier(f"c{column.id}_array")
    expression, type_ = select_cast(value_of(column, pgsql.SQL("unnest({})").format(array)), column.type)
    query = pgsql.SQL(sql("read_arrays")).format(
        columns=expression, arrays=array, segments=table.segments_identifier, condition=condition
    )
    with conn.cursor() as cursor:
        (found,) = fetch_columns(cursor, query, [type_])
    entries, there = _pair(found, column.type, column.name)
    # One more, which is NULL, for the rows that have none.
    entries = np.append(entries, np.array([None]) if entries.dtype == object else np.zeros(1, entries.dtype))
    there = np.append(np.ones(len(found), np.bool_) if there is None else there, False)
    at = np.full(sum(len(segment.time) for segment in segments), len(found))
    row = first = 0
    for segment in segments:
        positions, valid = segment.values[column.id]
        rows = at[row : row + len(positions)]
        np.copyto(rows, positions + first, where=True if valid is None else valid)
        row, first = row + len(positions), first + segment.entries[column.id]
    valid = there[at]
    return entries[at], None if valid.all() else valid
