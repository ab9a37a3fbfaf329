"""Segments decoded in Python, column by column; what reading and releasing have in common. Needs no extension."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from ddstore.codec.segment import decode_column
from ddstore.codec.times import decode_times
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import CorruptSegment

__all__ = ["DecodedSegment", "Pair", "decode_segments"]

_SEGMENTS_AT_ONCE = 32

#: Values and validity (None: nothing is NULL), as :func:`ddstore.codec.segment.decode_column` returns them.
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

    Segments stream from the server a few at a time and are decoded side by side; the core releases the GIL.

    Raises:
        CorruptSegment: names the segment, its table and the column.
    """
    parts: list[pgsql.Composable] = [pgsql.Identifier("t", name) for name in ("id", "n", "time")]
    model_parts: list[int] = []
    for column in columns:
        parts += _parts(column)
        if column.native:
            model_parts.append(len(parts) - 1)
    query = pgsql.SQL(sql("read_payload")).format(
        columns=pgsql.SQL(", ").join(parts), segments=table.segments_identifier, condition=condition
    )
    models: dict[int, bytes] = {}

    def decode(row: tuple[Any, ...]) -> DecodedSegment:
        id_, n, time, *rest = row
        values: dict[int, Pair] = {}
        entries: dict[int, int] = {}
        name = table.time.name
        fields = iter(rest)
        try:
            ticks = decode_times(time, n)
            for column in columns:
                name = column.name
                residual = next(fields)
                if column.coded_as is None:
                    entries[column.id], nulls = next(fields), next(fields)
                    values[column.id] = _positions(residual, n, entries[column.id], nulls)
                    continue
                if residual is None:
                    raise CorruptSegment("its values are missing")
                latents, model = (next(fields), next(fields)) if column.native else (None, None)
                values[column.id] = decode_column(
                    residual, latents, None if model is None else models[model], column.coded_as, n
                )
        except (CorruptSegment, ValueError) as error:
            what = error.what if isinstance(error, CorruptSegment) else str(error)
            raise CorruptSegment(
                f"segment {id_} of {table.segments} is damaged: {what}",
                series=table.label,
                column=name,
                remedy="Other segments stay readable; ddstore verify lists every damaged one.",
            ) from None
        return DecodedSegment(id_, ticks, values, entries)

    with (
        conn.cursor(name="ddstore_segments", binary=True) as cursor,
        ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
    ):
        cursor.execute(query)
        while rows := cursor.fetchmany(_SEGMENTS_AT_ONCE):
            wanted = {row[at] for row in rows for at in model_parts if row[at] is not None} - models.keys()
            if wanted:
                models.update(conn.execute(sql("read_models"), {"ids": list(wanted)}, binary=True).fetchall())
            yield from pool.map(decode, rows)


def _part(column: ManagedColumn, part: str) -> pgsql.Identifier:
    return pgsql.Identifier("t", f"c{column.id}_{part}")


def _parts(column: ManagedColumn) -> list[pgsql.Composable]:
    """What decoding a column takes; the model comes last."""
    residual, array = _part(column, "residual"), _part(column, "array")
    if column.native:
        return [residual, _part(column, "latents"), _part(column, "model")]
    if column.coded_as is not None:
        return [residual]
    return [
        residual,
        pgsql.SQL("CASE WHEN coalesce(array_ndims({0}), 1) = 1 THEN cardinality({0}) ELSE -1 END").format(array),
        pgsql.SQL("num_nulls(VARIADIC {})").format(array),
    ]


def _positions(residual: bytes | None, n: int, entries: int, nulls: int) -> Pair:
    if residual is None:
        if entries != n:
            raise CorruptSegment(f"an array of {entries} values for {n} rows")
        return np.arange(n, dtype=np.int32), None
    positions, valid = decode_column(residual, None, None, "int4", n)
    used = positions if valid is None else positions[valid]
    if nulls or (used < 0).any() or (used >= entries).any():
        raise CorruptSegment("a row has no value at its position")
    return positions, valid
