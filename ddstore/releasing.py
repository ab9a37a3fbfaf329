"""Handing a table back: every segment decoded into plain rows again, then everything of DDStore's dropped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.db.catalog import ManagedColumn, ManagedTable, require_intact
from ddstore.db.companion import value_of
from ddstore.db.copy import WIDTHS, CopyField, copy_in
from ddstore.db.manage import drop_management, set_policy
from ddstore.db.pool import Connection
from ddstore.db.queries import Escaped, sql
from ddstore.decoding import DecodedSegment, Pair, decode_segments
from ddstore.errors import SchemaMismatch
from ddstore.following import follow_changes

__all__ = ["ReleaseReport", "release_table"]

_SEGMENTS_AT_ONCE = 64
_STAGE = pgsql.Identifier("pg_temp", "ddstore_release")


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """What a release did: ``rows`` rows of ``segments`` segments are plain rows of ``table`` again."""

    table: str
    rows: int
    segments: int

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def release_table(conn: Connection, table: ManagedTable) -> ReleaseReport:
    """Put every cold row back into the heap and forget the table; in the caller's transaction.

    Values come back as they are read: within their bound, not as they were first written. Generated columns are
    computed again. Triggers of the table do not fire: its rows were inserted long ago.

    Raises:
        CorruptSegment: a segment is damaged; nothing was changed.
        SchemaMismatch: the table does not take the rows back (a constraint), or has a column in another type than its
            segments; nothing was changed.
    """
    require_intact(table)
    table = follow_changes(conn, table)
    if table.unique_check == "all":
        set_policy(conn, table, unique_check="hot")  # the rows that go back are not in anybody's way
    conn.execute(pgsql.SQL(sql("release_block")).format(segments=table.segments_identifier))
    ids = [row[0] for row in conn.execute(pgsql.SQL(sql("release_ids")).format(segments=table.segments_identifier))]
    rows = 0
    if ids:
        conn.execute(_stage(table))
        conn.execute(sql("release_plan"))
        insert = _insert(table)
        triggers = _silence_triggers(conn, table)
        for start in range(0, len(ids), _SEGMENTS_AT_ONCE):
            rows += _put_back(conn, table, insert, ids[start : start + _SEGMENTS_AT_ONCE])
        conn.execute(sql("release_planned"))
        for trigger in triggers:
            conn.execute(trigger)
    drop_management(conn, table, restored_rows=rows)
    return ReleaseReport(table.label, rows, len(ids))


def _put_back(conn: Connection, table: ManagedTable, insert: pgsql.Composed, ids: list[int]) -> int:
    condition = pgsql.SQL("t.id = ANY ({})").format(pgsql.Literal(ids))
    segments = list(decode_segments(conn, table, table.values, condition))
    expected = sum(len(segment.time) for segment in segments)
    with conn.cursor() as cursor:
        copy_in(cursor, _STAGE, _fields(table, segments), expected)
        try:
            restored = cursor.execute(insert, {"ids": ids}).rowcount
        except pg_errors.IntegrityError as error:
            raise SchemaMismatch(
                f"the table does not take its rows back: {error.diag.message_primary}",
                series=table.label,
                remedy="Remove the hot rows that stand in the way, or the constraint, and release again.",
            ) from error
        if restored != expected:
            raise SchemaMismatch(
                f"{restored} of {expected} rows went back into the table; nothing was changed",
                series=table.label,
                remedy="A segment or a trigger of the table drops rows: see ddstore verify.",
            )
        cursor.execute(sql("release_emptied"))
    return expected


def _silence_triggers(conn: Connection, table: ManagedTable) -> list[pgsql.Composed]:
    """Disable the user's triggers on INSERT; return the statements that enable them again."""
    again = []
    for name, state in conn.execute(sql("release_triggers"), {"oid": table.oid}).fetchall():
        trigger = pgsql.Identifier(name)
        conn.execute(pgsql.SQL("ALTER TABLE ONLY {} DISABLE TRIGGER {}").format(table.identifier, trigger))
        how = pgsql.SQL("ENABLE ALWAYS" if state == "A" else "ENABLE")
        again.append(pgsql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(table.identifier, how, trigger))
    return again


def _fields(table: ManagedTable, segments: list[DecodedSegment]) -> list[CopyField]:
    counts = [len(segment.time) for segment in segments]
    fields = [
        CopyField("segment", "8", np.repeat(np.array([s.id for s in segments], dtype=np.int64), counts)),
        CopyField("row", "8", np.concatenate([np.arange(1, n + 1, dtype=np.int64) for n in counts])),
        CopyField("time", "8", np.concatenate([segment.time for segment in segments])),
    ]
    for column in table.values:
        parts = [_staged(segment, column) for segment in segments]
        valid = np.concatenate([np.ones(len(v), np.bool_) if mask is None else mask for v, mask in parts])
        width = WIDTHS[_staged_type(column)]
        fields.append(CopyField(f"c{column.id}", str(width), np.concatenate([v for v, _ in parts]), valid))
    return fields


def _staged(segment: DecodedSegment, column: ManagedColumn) -> Pair:
    values, valid = segment.values[column.id]
    return (values, valid) if column.coded_as is not None else (values + np.int32(1), valid)


def _staged_type(column: ManagedColumn) -> str:
    """A column's own type, or that of positions among the elements of its array, from 1."""
    return column.type if column.coded_as is not None else "int4"


def _stage(table: ManagedTable) -> pgsql.Composed:
    columns = [("time", table.time.type)]
    columns += [(f"c{column.id}", _staged_type(column)) for column in table.values]
    return pgsql.SQL(sql("release_stage")).format(
        columns=pgsql.SQL(", ").join(
            pgsql.SQL("{} {}").format(pgsql.Identifier(name), pgsql.Identifier("pg_catalog", type_))
            for name, type_ in columns
        )
    )


def _insert(table: ManagedTable) -> pgsql.Composed:
    targets = [table.time, *table.keys]
    sources = [pgsql.Identifier("r", "time")]
    sources += [pgsql.Identifier("s", column.segment_column) for column in table.keys]
    entries: list[pgsql.Composable] = []
    for column in table.values:
        if column.generated:
            continue
        name = f"c{column.id}"
        targets.append(column)
        if column.coded_as is not None:
            sources.append(pgsql.Identifier("r", name))
            continue
        sources.append(pgsql.Identifier(name, "value"))
        array = pgsql.Identifier(f"{name}_array")
        entries.append(
            pgsql.SQL(sql("release_entries")).format(
                value=value_of(column, pgsql.SQL("unnest({})").format(array)),
                array=array,
                segments=table.segments_identifier,
                name=pgsql.Identifier(name),
            )
        )
    return pgsql.SQL(sql("release_rows")).format(
        table=Escaped(table.identifier),
        columns=pgsql.SQL(", ").join(Escaped(pgsql.Identifier(column.name)) for column in targets),
        values=pgsql.SQL(", ").join(sources),
        segments=table.segments_identifier,
        entries=pgsql.SQL("\n").join(entries),
    )
