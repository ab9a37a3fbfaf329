"""Read every segment as it is stored, decode it with the production decoder, and name each that is damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.codec.aggregates import column_stats
from ddstore.codec.stored import SegmentColumns, StoredColumn
from ddstore.codec.times import decode_times
from ddstore.compact.policy import Progress
from ddstore.db.catalog import ManagedColumn, ManagedTable, SeriesKey, list_tables, load_table
from ddstore.db.pool import Connection, Database
from ddstore.db.queries import sql
from ddstore.errors import CorruptSegment, NotInstalled, NotPermitted

__all__ = ["DamagedSegment", "VerifyReport", "verify"]

_BATCH = 64  # segments fetched at once
_UNREADABLE = (CorruptSegment, NotInstalled, NotPermitted)  # the last two: libbsc's, which this process does not decode


@dataclass(frozen=True, slots=True)
class DamagedSegment:
    """One segment (or one of its columns) that cannot be read as it was written."""

    table: str
    id: int
    series: tuple[str | None, ...]
    column: str | None
    what: str

    def __str__(self) -> str:
        series = ", ".join("NULL" if part is None else part for part in self.series)
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.table}[{series}], segment {self.id}{column}: {self.what}"


@dataclass(slots=True)
class VerifyReport:
    """What :func:`verify` found; ``damaged`` is empty when all is well."""

    tables: int = 0
    segments: int = 0
    rows: int = 0
    damaged: list[DamagedSegment] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every segment is sound."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "ok": self.ok,
            "tables": self.tables,
            "segments": self.segments,
            "rows": self.rows,
            "damaged": [
                {"table": d.table, "id": d.id, "series": list(d.series), "column": d.column, "what": d.what}
                for d in self.damaged
            ],
        }


def verify(database: Database, table: str | int | None = None, *, progress: Progress | None = None) -> VerifyReport:
    """Decode every segment of ``table`` (or of all managed tables) and check it against what its row says.

    Checked are the checksums and the decoding of every column, the order and the ends of the times, count, min, max
    and sum of each column, and that distinct values and positions belong together. Reads batch by batch, so
    compaction goes on meanwhile.

    Args:
        progress: called after every batch with the table's label, and the segments done and known of so far.

    Raises:
        SchemaMismatch: ``table`` is not managed.
        ConnectionFailed, NotInstalled, NotPermitted: the catalog or the segments cannot be read at all.
    """
    report = VerifyReport()
    with database.connection() as conn:
        tables = list_tables(conn) if table is None else [load_table(conn, table)]
    for managed in tables:
        _Verifier(database, managed, report).run(progress)
    return report


class _Verifier:
    """Verifies one table; keeps the models it has met."""

    def __init__(self, database: Database, table: ManagedTable, report: VerifyReport) -> None:
        self._database = database
        self._table = table
        self._report = report
        self._models: dict[int, tuple[bytes, int] | None] = {}
        self._query = _segment_query(table)

    def run(self, progress: Progress | None) -> None:
        """Verify every segment that exists when its batch is read."""
        self._report.tables += 1
        after = 0
        while True:
            with self._database.connection() as conn:
                ids = _ids(conn, self._table, after)
            if not ids:
                return
            for row in self._rows(ids):
                self._check(row)
            after = ids[-1]
            if progress is not None:
                progress(self._table.label, self._report.segments, self._report.segments)

    def _rows(self, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Fetch segments together; where that fails, one by one, so that one broken page hides no other segment."""
        try:
            yield from self._fetch(ids)
            return
        except (psycopg.Error, CorruptSegment):
            pass
        for number in ids:
            try:
                yield from self._fetch([number])
            except (pg_errors.DataError, pg_errors.InternalError, CorruptSegment) as error:
                self._report.segments += 1
                self._damaged(number, (), None, f"PostgreSQL cannot read it: {error}")

    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        with self._database.connection() as conn, conn.cursor(binary=True) as cursor:
            cursor.execute(self._query, {"ids": list(ids)})
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def _check(self, row: dict[str, Any]) -> None:
        self._report.segments += 1
        self._report.rows += row["n"]
        key = tuple(row["series"])
        for column, what in self._damages(row):
            self._damaged(row["id"], key, column, what)

    def _damages(self, row: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
        table, n = self._table, row["n"]
        try:
            time = decode_times(row["time"], n)
        except _UNREADABLE as error:
            yield table.time.name, str(error)
        else:
            if (time[1:] < time[:-1]).any():
                yield table.time.name, "times are not in order"
            if (int(time[0]), int(time[-1])) != (_moment(row["t_min"]), _moment(row["t_max"])):
                yield table.time.name, "the first or last time is not what the segment's row says"
        stored = {column.id: self._stored(column, row) for column in _held(table)}
        coded = SegmentColumns(n, {id_: column for id_, column in stored.items() if column is not None})
        for column in table.values:
            try:
                what = self._native(column, row, coded) if column.native else _other(column, row, coded)
            except _UNREADABLE as error:
                what = str(error)
            if what is not None:
                yield column.name, what

    def _stored(self, column: ManagedColumn, row: dict[str, Any]) -> StoredColumn | None:
        """One column as the row has it, None where the core coded nothing of it."""
        prefix = column.segment_column
        residual, latents, number = (row.get(f"{prefix}_{part}") for part in ("residual", "latents", "model"))
        if residual is None:
            return None
        found = None if number is None else self._model(number)
        model = None if found is None else found[0]
        return StoredColumn(column.name, column.coded_as or "int4", residual, latents, model)

    def _native(self, column: ManagedColumn, row: dict[str, Any], coded: SegmentColumns) -> str | None:
        prefix = column.segment_column
        if (number := row[f"{prefix}_model"]) is not None:
            found = self._model(number)
            if found is None:
                return f"its model {number} is missing"
            if found[1] != column.id:
                return f"its model {number} is another column's"
        for name, expected in zip(("count", "min", "max", "sum"), column_stats(*coded.decode(column.id)), strict=True):
            stored = row[f"{prefix}_{name}"]
            if not _same(stored, expected):
                return f"{name} is {expected}, and the segment's row says {stored}"
        return None

    def _model(self, number: int) -> tuple[bytes, int] | None:
        if number not in self._models:
            with self._database.connection() as conn:
                row = conn.execute(sql("verify_model"), {"id": number}).fetchone()
            self._models[number] = None if row is None else (bytes(row[0]), int(row[1]))
        return self._models[number]

    def _damaged(self, number: int, series: SeriesKey, column: str | None, what: str) -> None:
        self._report.damaged.append(DamagedSegment(self._table.label, number, series, column, what))


def _ids(conn: Connection, table: ManagedTable, after: int) -> list[int]:
    query = pgsql.SQL(sql("verify_ids")).format(segments=table.segments_identifier)
    return [number for (number,) in conn.execute(query, {"after": after, "limit": _BATCH})]


def _held(table: ManagedTable) -> tuple[ManagedColumn, ...]:
    """Value columns of the segments: those that the table has lost may be needed to decode the others."""
    return (*table.values, *table.lost)


def _segment_query(table: ManagedTable) -> pgsql.Composed:
    keys = [pgsql.SQL("{}::text").format(pgsql.Identifier(key.segment_column)) for key in table.keys]
    columns: list[pgsql.Composable] = [
        pgsql.SQL("id, n, time, ARRAY[{}]::text[] AS series").format(pgsql.SQL(", ").join(keys)),
        pgsql.SQL("{} AS t_min, {} AS t_max").format(_raw_time(table, "t_min"), _raw_time(table, "t_max")),
    ]
    for column in _held(table):
        prefix = column.segment_column
        if column.native:
            parts = ("residual", "latents", "model", "count", "min", "max", "sum")
            columns += [pgsql.Identifier(f"{prefix}_{part}") for part in parts]
        else:
            array = pgsql.Identifier(f"{prefix}_array")
            columns.append(
                pgsql.SQL(
                    "{residual}, {count}, coalesce(array_length({array}, 1), 0) AS {length}, "
                    "pg_catalog.num_nonnulls(VARIADIC {array}) AS {present}"
                ).format(
                    array=array,
                    residual=pgsql.Identifier(f"{prefix}_residual"),
                    count=pgsql.Identifier(f"{prefix}_count"),
                    length=pgsql.Identifier(f"{prefix}_length"),
                    present=pgsql.Identifier(f"{prefix}_present"),
                )
            )
    return pgsql.SQL(sql("verify_segments")).format(
        columns=pgsql.SQL(", ").join(columns), segments=table.segments_identifier
    )


def _raw_time(table: ManagedTable, name: str) -> pgsql.Composable:
    """A time as the 8 bytes PostgreSQL sends: datetime knows neither infinity nor the year 10000."""
    send = {"int8": "int8send", "timestamp": "timestamp_send", "timestamptz": "timestamptz_send"}[table.time.type]
    return pgsql.SQL("{}({})").format(pgsql.Identifier("pg_catalog", send), pgsql.Identifier(name))


def _moment(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _other(column: ManagedColumn, row: dict[str, Any], coded: SegmentColumns) -> str | None:
    prefix, n = column.segment_column, row["n"]
    length, present, count = row[f"{prefix}_length"], row[f"{prefix}_present"], row[f"{prefix}_count"]
    if row[f"{prefix}_residual"] is None:
        if column.coded_as is not None:
            return "its values are missing"
        if length != n:
            return f"it holds {length} values for {n} rows"
    else:
        values, valid = coded.decode(column.id)
        rows = values if valid is None else values[valid]
        positions = 0 if column.coded_as is not None else int(rows.max(initial=-1)) + 1
        if length != positions:
            return f"it holds {length} values for {positions} positions"
        if present != length:
            return "a distinct value is NULL"
        if positions and rows.min(initial=0) < 0:
            return "a row has no value at its position"
        present = len(rows)
    if present != count:
        return f"count is {present}, and the segment's row says {count}"
    return None


def _same(stored: Any, expected: Any) -> bool:
    if isinstance(stored, float) and isinstance(expected, float) and math.isnan(stored):
        return math.isnan(expected)
    return bool(stored == expected)
