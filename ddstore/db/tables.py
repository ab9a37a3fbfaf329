"""For SQLAlchemy users: the catalog as Core tables, and reflection of managed tables (extra ``sqlalchemy``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddstore.db.catalog import parse_name
from ddstore.errors import NotInstalled, SchemaMismatch

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql as pg
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise NotInstalled("SQLAlchemy is not installed", remedy="Run: pip install 'ddstore[sqlalchemy]'.") from error

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = [
    "codings",
    "compaction",
    "managed_column",
    "managed_table",
    "managed_table_row",
    "metadata",
    "models",
    "segments",
    "tables",
]

#: Everything of schema ``ddstore`` below. Reading only: migrations create it, the library writes it.
metadata = sa.MetaData(schema="ddstore")

managed_table_row = sa.Table(
    "managed_table",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("relation", pg.REGCLASS, nullable=False, unique=True),
    sa.Column("segments", pg.REGCLASS, unique=True),
    sa.Column("cold", pg.REGCLASS, unique=True),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("segment_rows", sa.Integer),
    sa.Column("min_rows", sa.Integer, nullable=False),
    sa.Column("hot_for", pg.INTERVAL, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("unique_check", sa.Text, nullable=False),
    sa.Column("shrinks", sa.Boolean),
)

managed_column = sa.Table(
    "managed_column",
    metadata,
    sa.Column("table_id", sa.ForeignKey("ddstore.managed_table.id"), primary_key=True),
    sa.Column("id", sa.SmallInteger, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("bound_kind", sa.Text, nullable=False),
    sa.Column("bound_value", sa.Double, nullable=False),
    sa.Column("attrelid", pg.OID),
    sa.Column("attnum", sa.SmallInteger),
)

#: The view ``ddstore.tables``: one row per managed table, with sizes in bytes.
tables = sa.Table(
    "tables",
    metadata,
    sa.Column("relation", pg.REGCLASS),
    sa.Column("cold", pg.REGCLASS),
    sa.Column("time_column", sa.Text),
    sa.Column("key_columns", pg.ARRAY(sa.Text)),
    sa.Column("max_error", pg.JSONB),
    sa.Column("segments", sa.BigInteger),
    sa.Column("cold_rows", sa.BigInteger),
    sa.Column("segment_bytes", sa.BigInteger),
    sa.Column("models", sa.BigInteger),
    sa.Column("model_bytes", sa.BigInteger),
    sa.Column("hot_size", sa.BigInteger),
    sa.Column("cold_size", sa.BigInteger),
    sa.Column("profile", sa.Text),
    sa.Column("segment_rows", sa.Integer),
    sa.Column("min_rows", sa.Integer),
    sa.Column("hot_for", pg.INTERVAL),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("table_id", sa.Integer),
)

#: The view ``ddstore.segments``: one row per segment, with payload bytes in total and per column.
segments = sa.Table(
    "segments",
    metadata,
    sa.Column("relation", pg.REGCLASS),
    sa.Column("series", pg.JSONB),
    sa.Column("segment_id", sa.BigInteger),
    sa.Column("t_min", sa.Text),
    sa.Column("t_max", sa.Text),
    sa.Column("rows", sa.Integer),
    sa.Column("time_bytes", sa.BigInteger),
    sa.Column("latents_bytes", sa.BigInteger),
    sa.Column("residual_bytes", sa.BigInteger),
    sa.Column("array_bytes", sa.BigInteger),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("column_bytes", pg.JSONB),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("table_id", sa.Integer),
)

#: The view ``ddstore.codings``: series' columns by mode and coder of their segments, sizes in bytes.
codings = sa.Table(
    "codings",
    metadata,
    sa.Column("relation", pg.REGCLASS),
    sa.Column("series", pg.JSONB),
    sa.Column("column_name", sa.Text),
    sa.Column("mode", sa.Integer),
    sa.Column("coder", sa.Integer),
    sa.Column("segments", sa.BigInteger),
    sa.Column("rows", sa.BigInteger),
    sa.Column("non_null", sa.BigInteger),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("bits_per_sample", sa.Double),
    sa.Column("escapes", sa.BigInteger),
    sa.Column("exact_segments", sa.BigInteger),
    sa.Column("table_id", sa.Integer),
)

#: The view ``ddstore.models``: trained models, their sizes in bytes, and how they were trained.
models = sa.Table(
    "models",
    metadata,
    sa.Column("relation", pg.REGCLASS),
    sa.Column("column_name", sa.Text),
    sa.Column("series", pg.JSONB),
    sa.Column("model_id", sa.BigInteger),
    sa.Column("bytes", sa.Integer),
    sa.Column("encoder_bytes", sa.Integer),
    sa.Column("record", pg.JSONB),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("table_id", sa.Integer),
)

#: The view ``ddstore.compaction``: the last attempt at each series.
compaction = sa.Table(
    "compaction",
    metadata,
    sa.Column("relation", pg.REGCLASS),
    sa.Column("series", pg.JSONB),
    sa.Column("state", sa.Text),
    sa.Column("profile", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("attempts", sa.Integer),
    sa.Column("not_before", sa.DateTime(timezone=True)),
    sa.Column("heartbeat", sa.DateTime(timezone=True)),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("rows", sa.BigInteger),
    sa.Column("segments", sa.Integer),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("note", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("table_id", sa.Integer),
)


def managed_table(bind: Engine | Connection, name: str, metadata: sa.MetaData | None = None) -> sa.Table:
    """Reflect a managed table, ready for ``select()``: hot and compressed rows alike.

    ``name`` is read as SQL reads names; without a schema it is looked up on the search path. The table is added to
    ``metadata`` (default: a new one).

    Raises:
        SchemaMismatch: no managed table has that name.
    """
    schema, table = parse_name(name)
    row = managed_table_row
    relation = sa.table(
        "pg_class", sa.column("oid"), sa.column("relname"), sa.column("relnamespace"), schema="pg_catalog"
    )
    space = sa.table("pg_namespace", sa.column("oid"), sa.column("nspname"), schema="pg_catalog")
    wanted = space.c.nspname == schema if schema is not None else sa.func.pg_catalog.pg_table_is_visible(relation.c.oid)
    query = (
        sa.select(space.c.nspname)
        .select_from(row)
        .join(relation, relation.c.oid == row.c.relation)
        .join(space, space.c.oid == relation.c.relnamespace)
        .where(relation.c.relname == table, wanted)
    )
    if isinstance(bind, sa.Engine):
        with bind.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
    else:
        found = bind.execute(query).scalar_one_or_none()
    if found is None:
        raise SchemaMismatch(f"{name!r} is not a managed table", series=name, remedy="See: ddstore stats.")
    into = sa.MetaData() if metadata is None else metadata
    return sa.Table(table, into, schema=found, autoload_with=bind)
