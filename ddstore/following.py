"""Following ALTER TABLE: columns that were added, renamed or dropped since a table was adopted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.bounds import Lossless
from ddstore.codec.aggregates import column_stats
from ddstore.codec.segment import encode_column
from ddstore.db.catalog import AddedColumn, ManagedColumn, ManagedTable, load_table, require_intact
from ddstore.db.companion import (
    add_segment_columns,
    bind_cold_columns,
    element_of,
    optional_segment_columns,
    require_segment_columns,
    sum_type,
    type_of,
)
from ddstore.db.pool import Connection, translate_errors
from ddstore.db.queries import Escaped, sql
from ddstore.db.relation import PlannedColumn, inspect, plan_added
from ddstore.db.strung import Strung, fetch_strung
from ddstore.errors import CompactionConflict, SchemaMismatch
from ddstore.profiles import Profile

__all__ = ["follow_changes"]


def follow_changes(conn: Connection, table: ManagedTable) -> ManagedTable:
    """Bring segments and catalog in line with the table's columns; return the table as it is then. Idempotent.

    A column that was added becomes one of the segments': lossless, and in the rows of before with the value that
    PostgreSQL gave these when it was added. Readers of cold rows wait for as long as it takes to write each segment's
    row once; nothing is decoded. Columns that were dropped stay where they are, and get no more values.

    Raises:
        SchemaMismatch: segments cannot follow (:func:`~ddstore.db.catalog.require_intact`), or cannot take the column.
        NotPermitted: the role does not own the segments, or may not write the catalog.
        CompactionConflict: others used the segments for too long.
    """
    if not table.behind:
        return table
    try:
        with translate_errors(), conn.transaction():
            conn.execute(sql("follow_patience"))
            # Keeps the columns as they are; readers and writers of the heap pass.
            conn.execute(pgsql.SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.identifier))
            table = load_table(conn, table.id)
            require_intact(table)
            _follow_names(conn, table)
            if table.added:
                _add(conn, table)
            if table.lost:
                optional_segment_columns(conn, table, table.lost)
    except (pg_errors.LockNotAvailable, pg_errors.DeadlockDetected) as error:
        raise CompactionConflict(
            f"its segments are too busy to get the columns that were added: {error.diag.message_primary}",
            series=table.label,
            remedy="Run it again when no long query reads them.",
        ) from error
    return load_table(conn, table.id)


def _follow_names(conn: Connection, table: ManagedTable) -> None:
    present = table.columns.values()
    ids = [column.id for column in (*table.lost, *present)]
    conn.execute(sql("follow_free_names"), {"table_id": table.id, "ids": ids})
    conn.execute(
        sql("follow_names"),
        {
            "table_id": table.id,
            "relation": table.oid,
            "ids": [column.id for column in present],
            "names": [column.name for column in present],
        },
    )


def _add(conn: Connection, table: ManagedTable) -> None:
    relation = inspect(conn, table.identifier.as_string(conn))
    columns = [added.column for added in table.added]
    planned = plan_added(relation, columns, len(table.values) + len(table.lost))
    # In the order in which readers lock: the cold table, then the segments. Models before these, as compaction does.
    bind_cold_columns(conn, table, columns)
    if any(column.native for column in columns):
        conn.execute(sql("follow_lock_models"))
    for plan in planned:
        conn.execute(
            sql("insert_managed_column"),
            {
                "table_id": table.id,
                "id": plan.id,
                "relation": table.oid,
                "name": plan.column.name,
                "role": plan.role,
                "bound_kind": plan.bound.kind,
                "bound_value": plan.bound.value,
            },
        )
    add_segment_columns(conn, table, planned)
    lengths = [n for (n,) in conn.execute(pgsql.SQL(sql("follow_lengths")).format(segments=table.segments_identifier))]
    if lengths:
        for added, plan in zip(table.added, planned, strict=True):
            _fill(conn, table, added, plan, lengths)
        _check_checksums(conn, table, columns)
    require_segment_columns(conn, table, planned)


def _fill(
    conn: Connection, table: ManagedTable, added: AddedColumn, plan: PlannedColumn, lengths: Sequence[int]
) -> None:
    """Give every segment the added column: the same value in all rows."""
    column, missing = added.column, added.missing
    literal = pgsql.SQL("CAST({} AS {})").format(pgsql.Literal(missing), type_of(plan.column))
    value: Any = np.int32(0)  # where the core codes positions in an array of one
    if column.coded_as is not None:
        with conn.cursor() as cursor:
            query = pgsql.SQL("SELECT {}").format(literal)
            value = fetch_strung(cursor, query, [Strung("value", column.type)])[0].data[0]
    coded = [_constant(value, n, missing is not None, column) for n in lengths]
    parts: dict[str, pgsql.Composable] = {"residual": pgsql.Identifier("filled", "residual")}
    parts["count"] = pgsql.Identifier("s", "n") if missing is not None else pgsql.Literal(0)
    if column.native:
        parts |= {"min": literal, "max": literal}
        parts["sum"] = pgsql.SQL("{}::{}").format(pgsql.Identifier("filled", "sum"), sum_type(column.type))
    elif missing is None or column.coded_as is not None:
        parts["array"] = pgsql.SQL("'{}'")
    else:
        parts["array"] = pgsql.SQL("ARRAY[{}]").format(element_of(table, column, literal))
    query = pgsql.SQL(sql("follow_fill")).format(
        segments=table.segments_identifier,
        assignments=pgsql.SQL(", ").join(
            pgsql.SQL("{} = {}").format(pgsql.Identifier(f"{column.segment_column}_{part}"), Escaped(made))
            for part, made in parts.items()
        ),
    )
    conn.execute(
        query,
        {
            "lengths": list(lengths),
            "residuals": [residual for residual, _ in coded],
            "sums": [None if total is None else str(total) for _, total in coded],
        },
    )


def _constant(value: Any, n: int, there: bool, column: ManagedColumn) -> tuple[bytes, Any]:
    """The residual and the sum of ``n`` times the same value, or of as many NULLs."""
    values, valid = np.full(n, value), None if there else np.zeros(n, np.bool_)
    # A constant is as small in this profile as in any other.
    coded = encode_column(values, valid, type=column.coded_as or "int4", bound=Lossless(), profile=Profile.FAST)
    return coded.residual, column_stats(values, valid)[3]


def _check_checksums(conn: Connection, table: ManagedTable, columns: Sequence[ManagedColumn]) -> None:
    """Columns that others are conditioned on are known by their checksums: the new ones must not pass for them."""

    def residual(column: ManagedColumn) -> pgsql.Identifier:
        return pgsql.Identifier(f"{column.segment_column}_residual")

    others = [*table.values, *table.lost, *columns]
    collision = pgsql.SQL(sql("follow_collision"))
    collisions = [
        collision.format(residual=residual(other), new=residual(new))
        for new in columns
        for other in others
        if other != new
    ]
    query = pgsql.SQL(sql("follow_ambiguous")).format(
        segments=table.segments_identifier, collisions=pgsql.SQL(" OR ").join(collisions)
    )
    row = conn.execute(query).fetchone()
    if row is None or row[0]:
        raise SchemaMismatch(
            "the checksum of a column that was added is by chance that of another",
            series=table.label,
            column=columns[0].name,
            remedy="Drop the column and add it with another default, or release() the table and adopt() it again.",
        )
