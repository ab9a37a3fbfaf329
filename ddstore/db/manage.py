"""Managing tables: create one, adopt one in place, let one go; the bounds and the compactor's policy that it keeps."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import get_args

from psycopg import errors as pg_errors
from psycopg import sql as pgsql
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound
from ddstore.db.catalog import (
    ManagedColumn,
    ManagedTable,
    SeriesKey,
    UniqueCheck,
    load_table,
    parse_name,
    require_intact,
    series_bound,
)
from ddstore.db.companion import (
    HotIndex,
    create_cold,
    create_companion,
    create_hot_index,
    drop_cold,
    drop_companion,
    drop_hot_index,
)
from ddstore.db.pool import Connection, translate_errors
from ddstore.db.queries import sql
from ddstore.db.relation import (
    PlannedColumn,
    Relation,
    check_constraints,
    check_manageable,
    inspect,
    plan_columns,
)
from ddstore.db.shrinking import claim_shrinking, unclaim_shrinking
from ddstore.errors import BoundConflict, NotInstalled, SchemaMismatch
from ddstore.profiles import Profile

__all__ = [
    "adopt",
    "attach_cold",
    "create_table",
    "detach_cold",
    "drop_management",
    "drop_orphans",
    "ensure_samples",
    "orphans",
    "set_column_bound",
    "set_policy",
    "set_series_bound",
]

logger = logging.getLogger(__name__)

_DEFAULT_TYPE = "float8"


def create_table(
    conn: Connection,
    name: str,
    *,
    time: str,
    key: Mapping[str, str] | Sequence[str] = (),
    columns: Mapping[str, Bound | tuple[str, Bound]],
    time_type: str = "timestamptz",
    profile: Profile = Profile.BALANCED,
    segment_rows: int | None = None,
    min_rows: int = 1024,
    hot_for: timedelta = timedelta(0),
    hot_index: HotIndex = "brin",
    unique_check: UniqueCheck = "hot",
) -> ManagedTable:
    """Create a table (and its schema, when missing) and manage it.

    Args:
        name: ``table`` or ``schema.table``, read as SQL reads names.
        time: name of the time column, of type ``time_type``.
        key: the key columns, name -> type; a mere sequence of names means ``text``.
        columns: the value columns, name -> bound or (type, bound); the type defaults to ``float8``.
        profile, segment_rows, min_rows, hot_for: the compactor's policy, see :class:`ManagedTable`.
        hot_index: the index on the rows that are not compacted yet. "brin" lets writes run as fast as without an
            index; "btree" suits many small reads of many hot rows. A key of a type that BRIN does not know (bool, an
            enum) makes it a btree.
        unique_check: see :func:`adopt`.

    Raises:
        SchemaMismatch: the table exists, a type is unknown or does not suit, or a name is used twice.
        NotPermitted: the role may not create the table.
        NotInstalled: the catalog is missing.
    """
    _check_hot_index(hot_index)
    keys = dict(key) if isinstance(key, Mapping) else dict.fromkeys([key] if isinstance(key, str) else key, "text")
    values = {n: (_DEFAULT_TYPE, given) if isinstance(given, Bound) else given for n, given in columns.items()}
    names = [time, *keys, *values]
    for column in names:
        if names.count(column) > 1 or not column:
            raise SchemaMismatch("column names must differ and not be empty", series=name, column=column)
    with translate_errors(), conn.transaction():
        label = _create_plain_table(conn, name, time, time_type, keys, {n: type_ for n, (type_, _) in values.items()})
        bounds = {n: bound for n, (_, bound) in values.items()}
        policy = profile, segment_rows, min_rows, hot_for
        table = _manage(conn, label, time, list(keys), bounds, policy, hot_index)
        return table if unique_check == "hot" else set_policy(conn, table, unique_check=unique_check)


def adopt(
    conn: Connection,
    relation: str,
    *,
    time: str,
    key: Sequence[str] = (),
    max_error: Mapping[str, Bound] | None = None,
    profile: Profile = Profile.BALANCED,
    segment_rows: int | None = None,
    min_rows: int = 1024,
    hot_for: timedelta = timedelta(0),
    hot_index: HotIndex = "btree",
    unique_check: UniqueCheck = "hot",
) -> ManagedTable:
    """Manage an existing table in place; columns without ``max_error`` are stored lossless.

    Nothing is rewritten. Readers and writers go on: the index on (key, time), when no index of the table will do, is
    built CONCURRENTLY if ``conn`` is idle (inside a transaction it must be built under a lock that blocks writers),
    and the rest needs SHARE UPDATE EXCLUSIVE for a moment. From then on unique constraints, primary keys and
    ON CONFLICT see hot rows only.

    ``hot_index`` is the kind of that index, see :func:`create_table`; "brin" is content with a btree that exists.
    ``unique_check="all"`` has triggers keep unique keys unique among compacted rows, too; docs/sql.md has its price.

    Raises:
        SchemaMismatch: the table cannot be managed (says why), or a column, type or bound does not fit.
        NotPermitted: the role does not own the table.
        NotInstalled: the catalog is missing.
    """
    _check_hot_index(hot_index)
    key = [key] if isinstance(key, str) else list(key)
    bounds = dict(max_error or {})
    with translate_errors():
        if conn.info.transaction_status == TransactionStatus.IDLE:
            with _autocommit(conn):
                found = inspect(conn, relation)
                check_manageable(found)
                plan_columns(found, time=time, key=key, max_error=bounds)
                create_hot_index(conn, found, time=time, key=key, kind=hot_index, concurrently=True)
        with conn.transaction():
            policy = profile, segment_rows, min_rows, hot_for
            table = _manage(conn, relation, time, key, bounds, policy, hot_index)
            return table if unique_check == "hot" else set_policy(conn, table, unique_check=unique_check)


def ensure_samples(conn: Connection) -> ManagedTable:
    """Return ``ddstore.samples``, the table behind ``write(Series)``, managed from its first use on.

    Raises:
        NotInstalled: the catalog is missing.
        NotPermitted: it is not managed yet and the role does not own it.
    """
    try:
        return load_table(conn, "ddstore.samples")
    except SchemaMismatch:
        with translate_errors(), conn.transaction():
            # Under the lock, because two first writers may meet here.
            conn.execute("LOCK TABLE ddstore.samples IN SHARE UPDATE EXCLUSIVE MODE")
            found = inspect(conn, "ddstore.samples")
            if not found.facts["managed"]:
                adopt(conn, "ddstore.samples", time="time", key=["series"], hot_index="brin")
        return load_table(conn, "ddstore.samples")


def attach_cold(conn: Connection, table: ManagedTable) -> ManagedTable:
    """Make SELECT on ``table`` see its segments; needs the extension. Returns the table as it is then.

    Raises:
        SchemaMismatch: the table's columns changed since it was adopted, or the name ``<table>_cold`` is taken.
        NotPermitted: the role may not use the foreign server.
    """
    require_intact(table)
    with translate_errors(), conn.transaction():
        cold = create_cold(conn, table)
        conn.execute(sql("set_cold"), {"table_id": table.id, "cold": cold.as_string(conn)})
    return load_table(conn, table.id)


def detach_cold(conn: Connection, table: ManagedTable) -> ManagedTable:
    """Undo :func:`attach_cold`; the segments stay, and SQL no longer sees them."""
    with translate_errors(), conn.transaction():
        # The catalog's label may hold dots inside names, so the identifier is asked for again.
        row = conn.execute(sql("cold_name"), {"table_id": table.id}).fetchone()
        if row is not None:
            drop_cold(conn, pgsql.Identifier(*row))
        conn.execute(sql("set_cold"), {"table_id": table.id, "cold": None})
    return load_table(conn, table.id)


def drop_management(conn: Connection, table: ManagedTable, *, restored_rows: int) -> None:
    """Let a table go: drop its cold table, companion, models, index and catalog rows. The DDL half of release.

    ``restored_rows`` is how many rows the caller has put back into the heap, in this transaction. Companion and
    segments go only if that is every row in them.

    Raises:
        SchemaMismatch: the segments hold another number of rows; nothing was dropped.
    """
    with translate_errors(), conn.transaction():
        conn.execute(pgsql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table.segments_identifier))
        query = pgsql.SQL(sql("rows_in_segments")).format(segments=table.segments_identifier)
        row = conn.execute(query).fetchone()
        held = 0 if row is None else int(row[0])
        if held != restored_rows:
            raise SchemaMismatch(
                f"{restored_rows} rows were put back, but the segments hold {held}",
                series=table.label,
                remedy="Nothing was dropped: release the table again.",
            )
        detach_cold(conn, table)
        drop_companion(conn, table.id)
        unclaim_shrinking(conn, table)
        conn.execute(sql("delete_managed_table"), {"table_id": table.id})
        drop_hot_index(conn, table)


def orphans(conn: Connection) -> dict[int, str]:
    """Return the companions (by table id) whose table was dropped without :func:`drop_management`.

    With the extension there are none: an event trigger drops them. Without, they hold every compressed row until the
    next compaction of all tables.
    """
    with translate_errors():
        return dict(conn.execute(sql("orphans")).fetchall())


def drop_orphans(conn: Connection) -> list[str]:
    """Drop what :func:`orphans` returns, compressed rows included; return the labels of the companions."""
    with translate_errors(), conn.transaction():
        return [label for (label,) in conn.execute(sql("drop_orphans")).fetchall()]


def set_series_bound(
    conn: Connection,
    table: ManagedTable,
    column: ManagedColumn,
    series_key: SeriesKey,
    bound: Bound,
    *,
    replace: bool = False,
) -> None:
    """Record the bound that one series keeps for itself; with ``replace``, change it for segments to come.

    Raises:
        BoundConflict: the series already keeps another bound, and ``replace`` is not given.
        SchemaMismatch: the column's type cannot have a bound, or a constraint checks its values.
    """
    _check_bound(conn, table, column, bound)
    row = {
        "table_id": table.id,
        "column_id": column.id,
        "series_key": Jsonb(list(series_key)),
        "bound_kind": bound.kind,
        "bound_value": bound.value,
    }
    with translate_errors():
        if replace:
            conn.execute(sql("replace_series_bound"), row)
            return
        if conn.execute(sql("insert_series_bound"), row).rowcount == 1:
            return
    kept = series_bound(conn, table, column, series_key)
    if kept != bound:
        raise BoundConflict(
            f"the series keeps max_error {kept}, and {bound} was given",
            series="/".join(part or "NULL" for part in series_key) or table.label,
            column=column.name,
            remedy=f"Write with {kept} or without max_error, or change it for new segments: set_max_error().",
        )


def set_column_bound(conn: Connection, table: ManagedTable, column: ManagedColumn, bound: Bound) -> None:
    """Change a column's bound for segments to come; those that exist keep theirs.

    Raises:
        SchemaMismatch: the column's type cannot have a bound, or a constraint checks its values.
    """
    _check_bound(conn, table, column, bound)
    with translate_errors():
        conn.execute(
            sql("replace_column_bound"),
            {"table_id": table.id, "column_id": column.id, "bound_kind": bound.kind, "bound_value": bound.value},
        )


def set_policy(
    conn: Connection,
    table: ManagedTable,
    *,
    profile: Profile | None = None,
    segment_rows: int | None = None,
    min_rows: int | None = None,
    hot_for: timedelta | None = None,
    unique_check: UniqueCheck | None = None,
) -> ManagedTable:
    """Change how the compactor goes about a table, for segments to come; what is None stays as it is.

    All None changes nothing, and needs no right.

    Args:
        segment_rows: 0 leaves it to the profile from now on.
        unique_check: holds at once, for rows that are written from now on; see :func:`adopt`.

    Raises:
        SchemaMismatch: a setting is out of its range, a unique key lacks the time, or the table is not managed now.
        NotInstalled: ``unique_check="all"`` without the extension.
        NotPermitted: the role may not write the catalog.
    """
    policy = {"profile": profile, "segment_rows": segment_rows, "min_rows": min_rows, "hot_for": hot_for}
    if unique_check == "all" and table.cold is None:
        raise NotInstalled(
            "unique_check='all' needs the extension: SQL does not see compacted rows here",
            series=table.label,
            remedy="Switch it on: ddstore migrate.",
        )
    with translate_errors(), _in_range(table.label), conn.transaction():
        if any(value is not None for value in policy.values()):
            conn.execute(sql("update_policy"), {"table_id": table.id, **policy})
        if unique_check is not None:
            conn.execute(sql("update_unique_check"), {"table_id": table.id, "unique_check": unique_check})
    return load_table(conn, table.id)


def _check_hot_index(hot_index: str) -> None:
    if hot_index not in get_args(HotIndex):
        raise SchemaMismatch(f"hot_index={hot_index!r} is unknown", remedy="Use brin or btree.")


def _check_bound(conn: Connection, table: ManagedTable, column: ManagedColumn, bound: Bound) -> None:
    if bound.kind == "lossless":
        return
    if not column.native:
        raise SchemaMismatch(
            f"a column of type {column.type} cannot have a max_error ({bound})",
            series=table.label,
            column=column.name,
            remedy="Only numbers can: float4, float8, int2, int4, int8.",
        )
    check_constraints(inspect(conn, table.identifier.as_string(conn)), {column.name: bound})


_Policy = tuple[Profile, int | None, int, timedelta]


def _manage(
    conn: Connection,
    name: str,
    time: str,
    key: Sequence[str],
    bounds: Mapping[str, Bound],
    policy: _Policy,
    hot_index: HotIndex,
) -> ManagedTable:
    """Do the catalog's and the companion's part, in the caller's transaction."""
    relation = inspect(conn, name)
    check_manageable(relation)
    # Keeps the columns as they were inspected and other adopters out; readers and writers pass.
    conn.execute(pgsql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(relation.identifier))
    relation = inspect(conn, name)
    check_manageable(relation)
    columns = plan_columns(relation, time=time, key=key, max_error=bounds)
    create_hot_index(conn, relation, time=time, key=key, kind=hot_index, concurrently=False)
    table_id = _insert_catalog_rows(conn, relation, columns, policy)
    claim_shrinking(conn, table_id, relation.identifier)  # before there are segments that would have to follow
    segments = create_companion(conn, table_id, relation, columns)
    conn.execute(sql("set_segments"), {"table_id": table_id, "segments": segments})
    table = load_table(conn, table_id)
    usable = conn.execute(sql("foreign_server_usable")).fetchone()
    if usable is not None and not usable[0]:
        logger.warning("%s: no right to use the foreign server ddstore, so SQL sees its hot rows only", table.label)
    return attach_cold(conn, table) if usable is not None and usable[0] else table


def _insert_catalog_rows(
    conn: Connection, relation: Relation, columns: Sequence[PlannedColumn], policy: _Policy
) -> int:
    profile, segment_rows, min_rows, hot_for = policy
    with _in_range(relation.label):
        row = conn.execute(
            sql("insert_managed_table"),
            {
                "oid": relation.oid,
                "profile": profile,
                "segment_rows": segment_rows,
                "min_rows": min_rows,
                "hot_for": hot_for,
            },
        ).fetchone()
    assert row is not None
    table_id = int(row[0])
    with conn.cursor() as cursor:
        cursor.executemany(
            sql("insert_managed_column"),
            [
                {
                    "table_id": table_id,
                    "id": plan.id,
                    "name": plan.column.name,
                    "relation": relation.oid,
                    "role": plan.role,
                    "bound_kind": plan.bound.kind,
                    "bound_value": plan.bound.value,
                }
                for plan in columns
            ],
        )
    return table_id


@contextmanager
def _in_range(label: str) -> Iterator[None]:
    try:
        yield
    except (pg_errors.CheckViolation, pg_errors.NumericValueOutOfRange) as error:
        raise SchemaMismatch(
            f"a setting is out of its range: {error.diag.message_primary}",
            series=label,
            remedy="profile is fast, balanced or archive; segment_rows 16 to 1048576; min_rows above 0; hot_for >= 0; "
            "unique_check hot or all.",
        ) from error
    except pg_errors.FeatureNotSupported as error:
        raise SchemaMismatch(
            str(error.diag.message_primary), series=label, remedy="Add the time to the key, or leave it at hot."
        ) from error


def _create_plain_table(
    conn: Connection, name: str, time: str, time_type: str, keys: Mapping[str, str], values: Mapping[str, str]
) -> str:
    """Create the schema (when missing) and the table; return its name, quoted as SQL needs it."""
    schema, table = parse_name(name)
    if schema is None:
        row = conn.execute(sql("current_schema")).fetchone()
        if row is None or row[0] is None:
            raise SchemaMismatch(
                f"the search path has no schema to create {name!r} in", remedy="Give the name as schema.table."
            )
        schema = str(row[0])
    exists = conn.execute(sql("schema_exists"), {"schema": schema}).fetchone()
    if exists is None or not exists[0]:
        conn.execute(pgsql.SQL("CREATE SCHEMA {}").format(pgsql.Identifier(schema)))
    definitions = [_column_definition(conn, name, time, time_type, required=True)]
    definitions += [_column_definition(conn, name, n, type_, required=True) for n, type_ in keys.items()]
    definitions += [_column_definition(conn, name, n, type_, required=False) for n, type_ in values.items()]
    identifier = pgsql.Identifier(schema, table)
    try:
        conn.execute(pgsql.SQL("CREATE TABLE {} ({})").format(identifier, pgsql.SQL(", ").join(definitions)))
    except (pg_errors.DuplicateTable, pg_errors.DuplicateObject) as error:
        raise SchemaMismatch(
            f"{schema}.{table} exists", series=name, remedy="Take it over as it is: adopt()."
        ) from error
    return identifier.as_string(conn)


def _column_definition(conn: Connection, table: str, name: str, type_: str, *, required: bool) -> pgsql.Composed:
    try:
        with conn.transaction():  # a name that is no type name at all is an error in SQL, not merely unknown
            row = conn.execute(sql("resolve_type"), {"type": type_}).fetchone()
    except (pg_errors.SyntaxError, pg_errors.InvalidName, pg_errors.InvalidParameterValue):
        row = None
    if row is None or "(" in type_:
        raise SchemaMismatch(
            f"{type_!r} is not a plain type",
            series=table,
            column=name,
            remedy="Name a type without modifiers, such as float8 or text; or create the table in SQL and adopt() it.",
        )
    return pgsql.SQL("{} {}{}").format(
        pgsql.Identifier(name), pgsql.Identifier(*row), pgsql.SQL(" NOT NULL" if required else "")
    )


@contextmanager
def _autocommit(conn: Connection) -> Iterator[None]:
    before = conn.autocommit
    conn.autocommit = True
    try:
        yield
    finally:
        conn.autocommit = before
