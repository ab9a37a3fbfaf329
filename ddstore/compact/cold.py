"""Rows of segments, as they are read back, ready to be put into other segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.codec.format import as_native, dtype_of
from ddstore.compact.fidelity import Written
from ddstore.compact.plan import SeriesPlan
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.companion import value_of
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.db.strung import Strung, fetch_strung
from ddstore.decoding import DecodedSegment, decode_segments
from ddstore.errors import CompactionConflict
from ddstore.reading import Selection

__all__ = ["ColdRows", "OldSegment", "list_series", "payload_bytes", "read_segments"]


@dataclass(frozen=True, slots=True)
class OldSegment:
    """One segment as it is stored: its id, the transaction that wrote its row, its rows, bytes, and what it records."""

    id: int
    version: int
    n: int
    bytes: int
    written: Written | None


@dataclass(frozen=True, slots=True)
class ColdRows:
    """Rows of some segments of one series, in order of time; of one time in the order of the segments.

    Attributes:
        ids: the segments.
        source: int32, per row the position of its segment among these.
        time: int64, as PostgreSQL stores it.
        values: per value column, what the core codes of it, as :class:`~ddstore.compact.rows.HotRows` has it.
        valid: per value column, False where NULL.
        entries: per value column that the core does not code, int32, the row's element of all the segments' arrays in
            order, counted from 1; 0 where NULL. Empty for other columns.
    """

    ids: list[int]
    source: NDArray[np.int32]
    time: NDArray[np.int64]
    values: tuple[NDArray[Any], ...]
    valid: tuple[NDArray[np.bool_], ...]
    entries: tuple[NDArray[np.int32], ...]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: slice | NDArray[np.intp]) -> ColdRows:
        """Return some of the rows: views for a slice, copies for an index array."""
        return ColdRows(
            self.ids,
            self.source[rows],
            self.time[rows],
            tuple(v[rows] for v in self.values),
            tuple(v[rows] for v in self.valid),
            tuple(e[rows] if len(e) else e for e in self.entries),
        )


def list_series(
    conn: Connection, table: ManagedTable, selection: Selection
) -> Iterator[tuple[SeriesPlan, list[OldSegment]]]:
    """Yield the series that have segments in a range, each with these, in order of time."""
    keys = [pgsql.SQL("t.{}::text").format(pgsql.Identifier(key.segment_column)) for key in table.keys]
    query = pgsql.SQL(sql("recompress_segments")).format(
        keys=pgsql.SQL(", ").join(keys),
        bytes=_bytes(table),
        segments=table.segments_identifier,
        condition=selection.segments(table),
    )
    rows = conn.execute(query).fetchall()
    for key, group in groupby(rows, key=lambda row: tuple(row[2])):
        found = [
            OldSegment(id_, version, n, size, None if written is None else Written.parse(written))
            for id_, version, _, n, size, written in group
        ]
        yield SeriesPlan(table, key, sum(segment.n for segment in found)), found


def payload_bytes(conn: Connection, table: ManagedTable, ids: Sequence[int]) -> int:
    """Return the bytes of what some segments hold."""
    query = pgsql.SQL(sql("recompress_sizes")).format(bytes=_bytes(table), segments=table.segments_identifier)
    row = conn.execute(query, {"ids": list(ids)}).fetchone()
    return 0 if row is None else int(row[0])


def _bytes(table: ManagedTable) -> pgsql.Composable:
    parts: list[pgsql.Composable] = [pgsql.SQL("octet_length(t.time)")]
    for column in (*table.values, *table.lost):
        for part in ("residual", "latents") if column.native else ("residual", "array"):
            name = pgsql.Identifier("t", f"{column.segment_column}_{part}")
            size = pgsql.SQL("pg_column_size({})" if part == "array" else "octet_length({})").format(name)
            parts.append(pgsql.SQL("coalesce({}, 0)").format(size))
    return pgsql.SQL("({})").format(pgsql.SQL(" + ").join(parts))


def read_segments(conn: Connection, plan: SeriesPlan, old: Sequence[OldSegment]) -> ColdRows:
    """Decode some segments of one series, listed in order of time.

    Raises:
        CorruptSegment: one is damaged.
        CompactionConflict: one is gone.
    """
    table, ids = plan.table, [segment.id for segment in old]
    condition = pgsql.SQL("t.id = ANY ({})").format(pgsql.Literal(ids))
    segments = list(decode_segments(conn, table, table.values, condition))
    if [segment.id for segment in segments] != ids:
        raise CompactionConflict("segments are gone that were listed", series=plan.label)
    time = np.concatenate([segment.time for segment in segments])
    order = np.argsort(time, kind="stable")
    counts = [len(segment.time) for segment in segments]
    values, valid, entries = [], [], []
    for column in table.values:
        v, there = _joined(segments, column)
        numbers = np.empty(0, np.int32)
        if column.coded_as is None:
            v, there, numbers = _elements(conn, table, column, segments, v, there)
        values.append(v[order])
        valid.append(there[order])
        entries.append(numbers[order] if len(numbers) else numbers)
    source = np.repeat(np.arange(len(segments), dtype=np.int32), counts)
    return ColdRows(ids, source[order], time[order], tuple(values), tuple(valid), tuple(entries))


def _joined(segments: Sequence[DecodedSegment], column: ManagedColumn) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    pairs = [segment.values[column.id] for segment in segments]
    kind = dtype_of(as_native(column.coded_as or "int4"))
    values = np.concatenate([values for values, _ in pairs]).astype(kind, copy=False)
    valid = np.concatenate([np.ones(len(v), np.bool_) if mask is None else mask for v, mask in pairs])
    return values, valid


def _elements(
    conn: Connection,
    table: ManagedTable,
    column: ManagedColumn,
    segments: Sequence[DecodedSegment],
    positions: NDArray[Any],
    valid: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int32]]:
    """Of each row the hash of its value, whether there is one, and which of all arrays' elements it is, from 1."""
    array = pgsql.Identifier("t", f"{column.segment_column}_array")
    element = value_of(column, pgsql.SQL("entry.value"))
    query = pgsql.SQL(sql("recompress_hashes")).format(
        hash=pgsql.SQL(sql("compact_hash")).format(column=element),
        array=array,
        segments=table.segments_identifier,
        ids=pgsql.Literal([segment.id for segment in segments]),
        element=pgsql.SQL("unnest(old.elements)"),
    )
    with conn.cursor() as cursor:
        (hashes,) = fetch_strung(cursor, query, [Strung("hash", "int8")])
    lengths = [segment.entries[column.id] for segment in segments]
    if len(hashes) != sum(lengths):
        raise CompactionConflict("segments have changed that were read", series=table.label, column=column.name)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    numbers = positions + np.repeat(starts, [len(segment.time) for segment in segments])
    numbers = np.where(valid, numbers, 0)
    if not len(hashes):
        return np.zeros(len(numbers), np.int64), valid, np.zeros(len(numbers), np.int32)
    if hashes.valid is not None:
        valid = valid & hashes.valid[numbers]
    return hashes.data[numbers], valid, np.where(valid, numbers + 1, 0).astype(np.int32)
