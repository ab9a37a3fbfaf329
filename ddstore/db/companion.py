"""The DDL of what belongs to a managed table: companion, cold foreign table, index on the hot rows."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.db.catalog import NATIVE_TYPES, ManagedColumn, ManagedTable
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.db.relation import Column, PlannedColumn, Relation
from ddstore.errors import SchemaMismatch

__all__ = [
    "HotIndex",
    "add_segment_columns",
    "bind_cold_columns",
    "create_cold",
    "create_companion",
    "create_hot_index",
    "drop_cold",
    "drop_companion",
    "drop_hot_index",
    "element_of",
    "optional_segment_columns",
    "require_segment_columns",
    "sum_type",
    "type_of",
    "value_of",
]

Fragment = pgsql.SQL | pgsql.Composed

#: What helps to find the hot rows of a series: "brin" costs a writer next to nothing, "btree" gives them in order.
HotIndex = Literal["brin", "btree"]

# What PostgreSQL's own sum() returns is inexact for floats; ours is the exactly rounded sum, in these types.
_SUM_TYPE = {"int2": "numeric", "int4": "numeric", "int8": "numeric", "float4": "float8", "float8": "float8"}


def create_companion(conn: Connection, table_id: int, relation: Relation, columns: Sequence[PlannedColumn]) -> str:
    """Create ``ddstore.segment_<table_id>``, one row per segment; return its label."""
    name = pgsql.Identifier("ddstore", f"segment_{table_id}")
    _create_wrappers(conn, table_id, columns)
    time = next(c.column for c in columns if c.role == "time")
    keys = [c for c in columns if c.role == "key"]
    values = [c for c in columns if c.role == "value"]
    parts: list[Fragment] = [pgsql.SQL("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")]
    parts += [
        pgsql.SQL("{} {}{}").format(pgsql.Identifier(f"k{c.id}"), type_of(c.column), _collation(c.column)) for c in keys
    ]
    parts += [
        pgsql.SQL("t_min {0} NOT NULL, t_max {0} NOT NULL").format(type_of(time)),
        pgsql.SQL("n int NOT NULL CHECK (n > 0), time bytea NOT NULL"),
    ]
    for plan in values:
        parts += [
            pgsql.SQL("{} {}{}").format(name, type_, pgsql.SQL(" NOT NULL" if required else ""))
            for name, type_, required in _segment_columns(table_id, plan)
        ]
    parts.append(pgsql.SQL("created_at timestamptz NOT NULL DEFAULT now(), written jsonb"))
    conn.execute(pgsql.SQL("CREATE TABLE {} ({})").format(name, pgsql.SQL(", ").join(parts)))
    conn.execute(pgsql.SQL("ALTER TABLE {} ALTER time SET STORAGE EXTERNAL").format(name))
    _set_storage(conn, name, values)
    index = [pgsql.Identifier(f"k{c.id}") for c in keys] + [pgsql.Identifier("t_max"), pgsql.Identifier("t_min")]
    conn.execute(
        pgsql.SQL("CREATE INDEX {} ON {} ({})").format(
            pgsql.Identifier(f"segment_{table_id}_series"), name, pgsql.SQL(", ").join(index)
        )
    )
    _close(conn, name)
    _comment(conn, "TABLE", name, f"Segments of {relation.label}: its cold rows, compressed. Never write to it.")
    return f"ddstore.segment_{table_id}"


def create_cold(conn: Connection, table: ManagedTable) -> pgsql.Identifier:
    """Create the foreign table ``<table>_cold`` over the segments, as inheritance child of ``table``.

    Raises:
        SchemaMismatch: a relation of that name exists.
    """
    name = f"{_clip(table.name, 58)}_cold"
    cold = pgsql.Identifier(table.schema, name)
    try:
        conn.execute(
            pgsql.SQL("CREATE FOREIGN TABLE {} () INHERITS ({}) SERVER ddstore OPTIONS (segments {})").format(
                cold, table.identifier, pgsql.Literal(table.segments)
            )
        )
    except pg_errors.DuplicateTable as error:
        raise SchemaMismatch(
            f"{table.schema}.{name} exists, and that is the name of the view on compressed rows",
            series=table.label,
            remedy="Rename it.",
        ) from error
    options = [_segment_option(column) for column in table.columns.values()]
    options += [
        pgsql.SQL("ALTER {} OPTIONS (ADD missing {})").format(
            pgsql.Identifier(added.column.name), pgsql.Literal(added.missing)
        )
        for added in table.added
        if added.missing is not None
    ]
    conn.execute(pgsql.SQL("ALTER FOREIGN TABLE {} {}").format(cold, pgsql.SQL(", ").join(options)))
    _close(conn, cold)
    _comment(conn, "FOREIGN TABLE", cold, f"The compressed rows of {table.label}; {table.label} itself shows them too.")
    return cold


def drop_cold(conn: Connection, cold: pgsql.Identifier) -> None:
    """Drop a cold foreign table; the segments stay."""
    conn.execute(pgsql.SQL("DROP FOREIGN TABLE IF EXISTS {}").format(cold))


def drop_companion(conn: Connection, table_id: int) -> None:
    """Drop the companion of a table and the segments in it."""
    conn.execute(pgsql.SQL("DROP TABLE IF EXISTS {}").format(pgsql.Identifier("ddstore", f"segment_{table_id}")))
    for (name,) in conn.execute(sql("companion_types"), {"table_id": table_id}).fetchall():
        conn.execute(pgsql.SQL("DROP TYPE {}").format(pgsql.Identifier("ddstore", name)))


def element_of(table: ManagedTable, column: ManagedColumn, value: pgsql.Composable) -> pgsql.Composable:
    """Return the SQL of what stands for ``value`` in the arrays of a column's segments."""
    if not column.wrapped:
        return value
    return pgsql.SQL("CASE WHEN num_nulls({0}) = 0 THEN ROW({0})::{1} END").format(value, _wrapper(table.id, column.id))


def value_of(column: ManagedColumn, element: pgsql.Composable) -> pgsql.Composable:
    """Return the SQL of the value that ``element`` stands for, see :func:`element_of`."""
    return pgsql.SQL("({}).value").format(element) if column.wrapped else element


def add_segment_columns(conn: Connection, table: ManagedTable, columns: Sequence[PlannedColumn]) -> None:
    """Add value columns to the companion; :func:`require_segment_columns` follows when every segment has them."""
    _create_wrappers(conn, table.id, columns)
    actions = [
        pgsql.SQL("ADD COLUMN {} {}").format(name, type_)
        for plan in columns
        for name, type_, _ in _segment_columns(table.id, plan)
    ]
    conn.execute(pgsql.SQL("ALTER TABLE {} {}").format(table.segments_identifier, pgsql.SQL(", ").join(actions)))
    _set_storage(conn, table.segments_identifier, columns)


def require_segment_columns(conn: Connection, table: ManagedTable, columns: Sequence[PlannedColumn]) -> None:
    """From now on every segment must have these columns."""
    actions = [
        pgsql.SQL("ALTER {} SET NOT NULL").format(name)
        for plan in columns
        for name, _, required in _segment_columns(table.id, plan)
        if required
    ]
    conn.execute(pgsql.SQL("ALTER TABLE {} {}").format(table.segments_identifier, pgsql.SQL(", ").join(actions)))


def optional_segment_columns(conn: Connection, table: ManagedTable, columns: Sequence[ManagedColumn]) -> None:
    """From now on segments may be without these columns: the table has dropped them."""
    actions = [
        pgsql.SQL("ALTER {} DROP NOT NULL").format(pgsql.Identifier(f"{column.segment_column}_{part}"))
        for column in columns
        for part in ("residual" if column.native else "array", "count")
    ]
    conn.execute(pgsql.SQL("ALTER TABLE {} {}").format(table.segments_identifier, pgsql.SQL(", ").join(actions)))


def bind_cold_columns(conn: Connection, table: ManagedTable, columns: Sequence[ManagedColumn]) -> None:
    """Let the foreign table read columns that were added, from its segments rather than as what they lack."""
    row = conn.execute(sql("cold_name"), {"table_id": table.id}).fetchone()
    if row is None:
        return
    cold = pgsql.Identifier(*row)
    for name, _ in conn.execute(sql("cold_missing"), {"table_id": table.id}).fetchall():
        drop = pgsql.SQL("ALTER FOREIGN TABLE {} ALTER {} OPTIONS (DROP missing)")
        conn.execute(drop.format(cold, pgsql.Identifier(name)))
    options = [_segment_option(column) for column in columns]
    conn.execute(pgsql.SQL("ALTER FOREIGN TABLE {} {}").format(cold, pgsql.SQL(", ").join(options)))


def sum_type(type_: str) -> pgsql.Identifier:
    """Return the type that the companion has for sums of a type of numbers, quoted for SQL."""
    return pgsql.Identifier("pg_catalog", _SUM_TYPE[type_])


def create_hot_index(
    conn: Connection, relation: Relation, *, time: str, key: Iterable[str], kind: HotIndex, concurrently: bool
) -> None:
    """Make the hot rows of one series easy to find, unless an index of the table already does.

    ``concurrently`` lets writers go on meanwhile; it needs a connection in autocommit.
    """
    keys = list(key)
    columns = [*keys, time]
    found = conn.execute(
        sql("usable_index"), {"oid": relation.oid, "columns": columns, "brin": kind == "brin"}
    ).fetchone()
    if found is not None and found[0]:
        return
    definition = _brin(conn, relation, keys, time) if kind == "brin" else None
    if definition is None:
        definition = pgsql.SQL("({})").format(pgsql.SQL(", ").join(map(pgsql.Identifier, columns)))
    name = f"ddstore_series_{secrets.token_hex(4)}"  # the "hot_indexes" query knows them by it
    how = pgsql.SQL("CONCURRENTLY ") if concurrently else pgsql.SQL("")
    try:
        conn.execute(
            pgsql.SQL("CREATE INDEX {}{} ON {} {}").format(how, pgsql.Identifier(name), relation.identifier, definition)
        )
    except psycopg.Error:
        if concurrently:  # a failed concurrent build leaves an invalid index behind
            with contextlib.suppress(psycopg.Error):
                index = pgsql.Identifier(relation.schema, name)
                conn.execute(pgsql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
        raise


def _brin(conn: Connection, relation: Relation, keys: Sequence[str], time: str) -> pgsql.Composed | None:
    """What follows ``ON <table>`` for a BRIN index; None when a key has a type that BRIN does not know."""
    found = conn.execute(sql("brin_operator_classes"), {"oid": relation.oid, "columns": list(keys)}).fetchall()
    if any(operators is None for (operators,) in found):
        return None
    parts: list[pgsql.Composable] = [
        pgsql.SQL("{} {}").format(pgsql.Identifier(name), pgsql.Identifier(*operators))
        for name, (operators,) in zip(keys, found, strict=True)
    ]
    return pgsql.SQL("USING brin ({}) WITH (pages_per_range = 32, autosummarize = on)").format(
        pgsql.SQL(", ").join([*parts, pgsql.Identifier(time)])
    )


def drop_hot_index(conn: Connection, table: ManagedTable) -> None:
    """Drop the index that :func:`create_hot_index` made, if it made one."""
    for schema, name in conn.execute(sql("hot_indexes"), {"oid": table.oid}).fetchall():
        conn.execute(pgsql.SQL("DROP INDEX {}").format(pgsql.Identifier(schema, name)))


def _segment_columns(table_id: int, plan: PlannedColumn) -> Iterator[tuple[pgsql.Identifier, Fragment, bool]]:
    """The companion's columns of one value column: name, type, and whether every segment has it."""
    type_ = type_of(plan.column)
    if plan.native:
        parts: dict[str, Fragment] = {"latents": _BYTES, "residual": _BYTES}
        parts |= {"model": pgsql.SQL("bigint REFERENCES ddstore.model"), "count": pgsql.SQL("int")}
        parts |= {"min": pgsql.SQL("{}").format(type_), "max": pgsql.SQL("{}").format(type_)}
        parts |= {"sum": pgsql.SQL("{}").format(sum_type(plan.column.type))}
        required = {"residual", "count"}
    else:
        element = _wrapper(table_id, plan.id) if plan.wrapped else type_
        parts = {"array": pgsql.SQL("{}[]").format(element), "residual": _BYTES, "count": pgsql.SQL("int")}
        required = {"array", "count"}
    for part, definition in parts.items():
        yield pgsql.Identifier(f"c{plan.id}_{part}"), definition, part in required


_BYTES = pgsql.SQL("bytea")


def _create_wrappers(conn: Connection, table_id: int, columns: Sequence[PlannedColumn]) -> None:
    for plan in columns:
        if plan.wrapped:
            conn.execute(
                pgsql.SQL("CREATE TYPE {} AS (value {})").format(_wrapper(table_id, plan.id), type_of(plan.column))
            )


def _set_storage(conn: Connection, name: pgsql.Identifier, values: Sequence[PlannedColumn]) -> None:
    """Spare the server from compressing what is already dense; let it compress the arrays as well as it can."""
    external = [f"c{c.id}_latents" for c in values if c.native]
    external += [f"c{c.id}_residual" for c in values]
    actions = [pgsql.SQL("ALTER {} SET STORAGE EXTERNAL").format(pgsql.Identifier(column)) for column in external]
    row = conn.execute(sql("lz4_available")).fetchone()
    if row is not None and row[0]:
        actions += [
            pgsql.SQL("ALTER {} SET COMPRESSION lz4").format(pgsql.Identifier(f"c{c.id}_array"))
            for c in values
            if not c.native
        ]
    conn.execute(pgsql.SQL("ALTER TABLE {} {}").format(name, pgsql.SQL(", ").join(actions)))


def _segment_option(column: ManagedColumn) -> Fragment:
    return pgsql.SQL("ALTER {} OPTIONS (ADD segment_column {})").format(
        pgsql.Identifier(column.name), pgsql.Literal(column.segment_column)
    )


def _wrapper(table_id: int, column_id: int) -> pgsql.Identifier:
    return pgsql.Identifier("ddstore", f"segment_{table_id}_c{column_id}")


def type_of(column: Column) -> pgsql.Identifier:
    """Return the type of a table's column, quoted for SQL, without its modifier."""
    return pgsql.Identifier(column.type_schema, column.type)


def _collation(column: Column) -> Fragment:
    if column.collation is None:
        return pgsql.SQL("")
    return pgsql.SQL(" COLLATE {}").format(pgsql.Identifier(*column.collation))


def _close(conn: Connection, name: pgsql.Identifier) -> None:
    """Take away what default privileges gave to others: policies and column rights are the managed table's alone."""
    for (role,) in conn.execute(sql("grantees"), {"relation": name.as_string(conn)}).fetchall():
        whom = pgsql.SQL("PUBLIC") if role is None else pgsql.Identifier(role)
        conn.execute(pgsql.SQL("REVOKE ALL ON {} FROM {}").format(name, whom))


def _comment(conn: Connection, kind: str, name: pgsql.Identifier, text: str) -> None:
    statement = pgsql.SQL(
        "COMMENT ON FOREIGN TABLE {} IS {}" if kind == "FOREIGN TABLE" else "COMMENT ON TABLE {} IS {}"
    )
    conn.execute(statement.format(name, pgsql.Literal(text)))


def _clip(name: str, size: int) -> str:
    """Cut a name to ``size`` bytes, as PostgreSQL does with identifiers, never inside a character."""
    return name.encode()[:size].decode(errors="ignore")


assert set(_SUM_TYPE) == NATIVE_TYPES
