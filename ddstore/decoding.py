"""Segments decoded in Python, column by column; what reading and releasing have in common. Needs no extension."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.codec.segment import checksum
from ddstore.codec.stored import SegmentColumns, StoredColumn, unmet
from ddstore.codec.times import decode_times
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import CorruptSegment, NotInstalled, NotPermitted

__all__ = ["DecodedSegment", "Pair", "decode_segments"]

_SEGMENTS_AT_ONCE = 32

#: Values and validity (None: nothing is NULL), as :meth:`ddstore.codec.stored.SegmentColumns.decode` returns them.
Pair = tuple[NDArray[Any], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """The coded columns of one segment, by column id.

    Attributes:
        id: of its row in the companion.
        time: int64 ticks as stored.
        values: what the core coded. Of a column whose values it does not code, int32 positions in the column's array,
            from 0; rows of an array that has a value per row are in its order.
        entries: of such a column, how many elements the array has.
    """

    id: int
    time: NDArray[np.int64]
    values: Mapping[int, Pair]
    entries: Mapping[int, int]


def decode_segments(
    conn: Connection, table: ManagedTable, columns: Sequence[ManagedColumn], condition: pgsql.Composable
) -> Iterator[DecodedSegment]:
    """Decode time and the given value ``columns`` of the segments that meet ``condition``, in order of t_min, id.

    Segments stream from the server a few at a time and are decoded side by side; the core releases the GIL. Columns
    that those asked for are conditioned on are fetched and decoded, too, where they are needed.

    Raises:
        CorruptSegment: names the segment, its table and the column.
        NotInstalled, NotPermitted: the column is coded by libbsc, and this process has it not or does not trust it.
    """
    parts: list[pgsql.Composable] = [pgsql.Identifier("t", name) for name in ("id", "n", "time")]
    for column in columns:
        parts += _coded_parts(column)
        if column.coded_as is None:
            parts += _array_parts(column)
    query = pgsql.SQL(sql("read_payload")).format(
        columns=pgsql.SQL(", ").join(parts), segments=table.segments_identifier, condition=condition
    )
    models: dict[int, bytes] = {}

    def decode(row: _Row) -> DecodedSegment:
        values: dict[int, Pair] = {}
        name = table.time.name
        try:
            ticks = decode_times(row.time, row.n)
            coded = SegmentColumns(row.n, {id_: column.with_model(models) for id_, column in row.coded.items()})
            for column in columns:
                name = column.name
                if column.coded_as is None:
                    values[column.id] = _positions(row, column.id, coded)
                else:
                    values[column.id] = coded.decode(column.id)
        except (CorruptSegment, ValueError) as error:
            what = error.what if isinstance(error, CorruptSegment) else str(error)
            raise CorruptSegment(
                f"segment {row.id} of {table.segments} is damaged: {what}",
                series=table.label,
                column=name,
                remedy="Other segments stay readable; ddstore verify lists every damaged one.",
            ) from None
        except (NotInstalled, NotPermitted) as error:
            raise type(error)(
                f"segment {row.id} of {table.segments} cannot be read: {error.what}",
                series=table.label,
                column=name,
                remedy=error.remedy,
            ) from None
        return DecodedSegment(row.id, ticks, values, {id_: length for id_, (length, _) in row.arrays.items()})

    with (
        conn.cursor(name="ddstore_segments", binary=True) as cursor,
        ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
    ):
        cursor.execute(query)
        while fetched := cursor.fetchmany(_SEGMENTS_AT_ONCE):
            rows = [_Row.of(fields, columns) for fields in fetched]
            _fetch_needed(conn, table, {row.id: row for row in rows if row.unmet})
            wanted = {c.model for row in rows for c in row.coded.values() if c.model is not None} - models.keys()
            if wanted:
                models.update(conn.execute(sql("read_models"), {"ids": list(wanted)}, binary=True).fetchall())
            yield from pool.map(decode, rows)


@dataclass(frozen=True, slots=True)
class _Coded:
    """A coded column as fetched: with the id of its model."""

    column: ManagedColumn
    residual: bytes
    latents: bytes | None
    model: int | None

    def with_model(self, models: Mapping[int, bytes]) -> StoredColumn:
        model = None if self.model is None else models.get(self.model)
        return StoredColumn(self.column.name, self.column.coded_as or "int4", self.residual, self.latents, model)


@dataclass(frozen=True, slots=True)
class _Row:
    """A segment's row as fetched.

    Attributes:
        coded: by column id, the columns that have a residual.
        arrays: by column id, how many elements an array has, and how many of them are NULL.
    """

    id: int
    n: int
    time: bytes
    coded: dict[int, _Coded] = field(default_factory=dict)
    arrays: dict[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Sequence[Any], columns: Sequence[ManagedColumn]) -> _Row:
        """Take id, n, time, and the parts of ``columns``."""
        row, left = cls(*fields[:3]), iter(fields[3:])
        for column in columns:
            row.add(column, left)
            if column.coded_as is None:
                row.arrays[column.id] = next(left), next(left)
        return row

    def add(self, column: ManagedColumn, fields: Iterator[Any]) -> None:
        """Take the :func:`_coded_parts` of ``column``."""
        residual = next(fields)
        latents, model = (next(fields), next(fields)) if column.native else (None, None)
        if residual is not None:
            self.coded[column.id] = _Coded(column, residual, latents, model)

    @property
    def unmet(self) -> set[int]:
        """Checksums of the columns that decoding takes and that were not fetched."""
        return unmet([column.residual for column in self.coded.values()])


def _fetch_needed(conn: Connection, table: ManagedTable, rows: Mapping[int, _Row]) -> None:
    """Fetch what the columns of ``rows`` (by id) are conditioned on, and what that is; what is missing stays so."""
    if not rows:
        return
    query = pgsql.SQL(sql("read_needed"))

    def fetch(parts: Sequence[pgsql.Composable]) -> Iterator[tuple[_Row, Iterator[Any]]]:
        statement = query.format(columns=pgsql.SQL(", ").join(parts), segments=table.segments_identifier)
        for id_, *fields in conn.execute(statement, {"ids": list(rows)}, binary=True):
            yield rows[id_], iter(fields)

    others = [*table.values, *table.lost]
    tail = sql("read_tail")
    tails = list(fetch([pgsql.SQL(tail).format(residual=_part(column, "residual")) for column in others]))
    named = [
        (row, {checksum(last): column for column, last in zip(others, fields, strict=True) if last is not None})
        for row, fields in tails
    ]
    # In every round at least one of the rows gets a column that it did not have.
    while wanted := {columns[crc] for row, columns in named for crc in row.unmet & columns.keys()}:
        found = sorted(wanted, key=lambda column: column.id)
        for row, fields in fetch([part for column in found for part in _coded_parts(column)]):
            for column in found:
                row.add(column, fields)


def _part(column: ManagedColumn, part: str) -> pgsql.Identifier:
    return pgsql.Identifier("t", f"c{column.id}_{part}")


def _coded_parts(column: ManagedColumn) -> list[pgsql.Composable]:
    """What the core needs to decode a column; the model comes last."""
    parts = ("residual", "latents", "model") if column.native else ("residual",)
    return [_part(column, part) for part in parts]


def _array_parts(column: ManagedColumn) -> list[pgsql.Composable]:
    """What of its array tells whether positions fit it."""
    array = _part(column, "array")
    return [
        pgsql.SQL("CASE WHEN coalesce(array_ndims({0}), 1) = 1 THEN cardinality({0}) ELSE -1 END").format(array),
        pgsql.SQL("num_nulls(VARIADIC {})").format(array),
    ]


def _positions(row: _Row, column_id: int, coded: SegmentColumns) -> Pair:
    entries, nulls = row.arrays[column_id]
    if column_id not in row.coded:
        if entries != row.n:
            raise CorruptSegment(f"an array of {entries} values for {row.n} rows")
        return np.arange(row.n, dtype=np.int32), None
    positions, valid = coded.decode(column_id)
    used = positions if valid is None else positions[valid]
    if nulls or (used < 0).any() or (used >= entries).any():
        raise CorruptSegment("a row has no value at its position")
    return positions, valid
