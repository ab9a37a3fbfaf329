"""What the catalog says: which tables are managed, with which columns, bounds and companions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound, Lossless, make_bound
from ddstore.db.pool import Connection, translate_errors
from ddstore.db.queries import sql
from ddstore.errors import SchemaMismatch
from ddstore.profiles import Profile

__all__ = [
    "CODED_AS",
    "MAX_KEY_BYTES",
    "NATIVE_TYPES",
    "TIME_TYPES",
    "AddedColumn",
    "ManagedColumn",
    "ManagedTable",
    "SeriesKey",
    "UniqueCheck",
    "list_tables",
    "load_series_bounds",
    "load_table",
    "parse_name",
    "require_intact",
    "series_bound",
]

SeriesKey = tuple[str | None, ...]
Role = Literal["time", "key", "value"]
#: Among which rows unique keys are kept unique.
UniqueCheck = Literal["hot", "all"]

#: Bytes that the key of one series may have, as text: an entry of a btree index, such as ours on series, ends at 2,700.
MAX_KEY_BYTES = 2048
#: Numbers: value types that the core knows, and that may have a bound.
NATIVE_TYPES = frozenset({"float4", "float8", "int2", "int4", "int8"})
#: Value types whose values the core codes, and as which of its own. Of other types it codes which value a row has.
CODED_AS: Mapping[str, str] = {type_: type_ for type_ in sorted(NATIVE_TYPES)} | {
    "timestamptz": "int8",
    "timestamp": "int8",
    "time": "int8",
    "date": "int4",
}
#: Types a time column may have.
TIME_TYPES = frozenset({"timestamptz", "timestamp", "int8"})


@dataclass(frozen=True, slots=True)
class ManagedColumn:
    """One column of a managed table. ``type`` is PostgreSQL's own name for it (``float8``, ``timestamptz``).

    ``wrapped``: there are no arrays of the type, as it is an array itself; segments hold arrays of a composite type
    that has a value of it as its only field. ``generated``: PostgreSQL computes it from others; it is stored like
    them, and never written.
    """

    id: int
    name: str
    type: str
    role: Role
    bound: Bound
    wrapped: bool = False
    generated: bool = False

    @property
    def native(self) -> bool:
        """Whether this column is of numbers: it may have a bound and models, and segments know its statistics."""
        return self.role == "value" and self.type in NATIVE_TYPES

    @property
    def coded_as(self) -> str | None:
        """As which of its types the core codes a value column's values; None: it codes which value a row has."""
        return CODED_AS.get(self.type)

    @property
    def segment_column(self) -> str:
        """The name (or prefix) of this column in the companion table, as the foreign table's options give it."""
        return "time" if self.role == "time" else f"{'k' if self.role == 'key' else 'c'}{self.id}"


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column that the table has and its segments have not, yet.

    Attributes:
        column: as the catalog will have it, its id included.
        missing: what rows of before read in it, as text; None is NULL.
    """

    column: ManagedColumn
    missing: str | None


@dataclass(frozen=True)
class ManagedTable:
    """A user's table that DDStore looks after.

    Two are equal when the same rows fit both: what only tells the compactor how to go about it does not count.

    Attributes:
        id: its number in the catalog; the companion is ``ddstore.segment_<id>``.
        oid: the table's oid in PostgreSQL.
        segments: label of the companion table, which holds one row per segment.
        cold: label of the foreign table over the segments; None without the extension.
        profile: the decode-cost budget of new segments.
        segment_rows: rows in a full segment; None leaves it to the profile.
        min_rows: a series with fewer hot rows than this is left alone.
        hot_for: rows younger than this stay in the heap.
        unique_check: among which rows unique keys are unique: "hot" ones, or "all".
        changes: what happened to the table's columns that its segments cannot follow, in words; see
            :func:`require_intact`.
        lost: value columns of the segments that the table no longer has, or has in another type. They are not read,
            but columns that are may be conditioned on them.
        added: columns that were added since, which :func:`ddstore.db.follow.follow_changes` adds to the segments.
        behind: whether there is something to do for it.
    """

    id: int
    oid: int
    schema: str
    name: str
    segments: str
    cold: str | None
    profile: Profile = field(compare=False)
    segment_rows: int | None = field(compare=False)
    min_rows: int = field(compare=False)
    hot_for: timedelta = field(compare=False)
    time: ManagedColumn
    keys: tuple[ManagedColumn, ...]
    values: tuple[ManagedColumn, ...]
    unique_check: UniqueCheck = field(default="hot", compare=False)
    changes: tuple[str, ...] = ()
    lost: tuple[ManagedColumn, ...] = ()
    added: tuple[AddedColumn, ...] = ()
    behind: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        """``schema.name``, for messages and for :func:`load_table`."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> pgsql.Identifier:
        """The table, quoted for SQL."""
        return pgsql.Identifier(self.schema, self.name)

    @property
    def segments_identifier(self) -> pgsql.Identifier:
        """The companion table, quoted for SQL."""
        return pgsql.Identifier("ddstore", f"segment_{self.id}")

    @property
    def full_segment_rows(self) -> int:
        """Rows in a full segment: the table's own number, else its profile's."""
        return self.segment_rows or self.profile.segment_rows

    @cached_property
    def columns(self) -> dict[str, ManagedColumn]:
        """Every column by name: time, then keys, then values."""
        return {column.name: column for column in (self.time, *self.keys, *self.values)}

    @property
    def lossy(self) -> dict[str, Bound]:
        """The columns that are read back with an error, by name, and which."""
        return {column.name: column.bound for column in self.values if column.bound.kind != "lossless"}

    @property
    def written(self) -> dict[str, ManagedColumn]:
        """What a writer gives, by name: every column that PostgreSQL does not compute, those added lately included."""
        every = [*self.columns.values(), *(added.column for added in self.added)]
        return {column.name: column for column in every if not column.generated}

    def value(self, name: str) -> ManagedColumn:
        """Return the value column called ``name``.

        Raises:
            SchemaMismatch: there is none.
        """
        known = [*self.values, *(added.column for added in self.added)]
        for column in known:
            if column.name == name:
                return column
        raise SchemaMismatch(
            f"{self.label} has no value column {name!r}",
            series=self.label,
            column=name,
            remedy=_suggest(name, [column.name for column in known], "Its value columns are"),
        )


def load_table(conn: Connection, name_or_id: str | int) -> ManagedTable:
    """Return one managed table: by its label, by a name as SQL reads names (on the search path or not), or by id.

    Raises:
        SchemaMismatch: no managed table answers to it; the remedy names the closest ones.
        NotInstalled: the database has no catalog.
    """
    if isinstance(name_or_id, int):
        for table in _fetch(conn, table_id=name_or_id):
            return table
        raise SchemaMismatch(f"there is no managed table with id {name_or_id}", remedy="See: ddstore stats.")
    rows = _rows(conn, table_id=None)
    found = [row for row in rows if f"{row['schema']}.{row['name']}" == name_or_id]
    if len(found) != 1:
        schema, name = parse_name(name_or_id)
        found = [
            row
            for row in rows
            if row["name"] == name and (row["schema"] == schema if schema is not None else row["visible"])
        ]
    for row in found:
        return _table(row)
    labels = [f"{row['schema']}.{row['name']}" for row in rows]
    raise SchemaMismatch(
        f"{name_or_id!r} is not a managed table",
        series=name_or_id,
        remedy=_suggest(name_or_id, labels, "Managed tables are")
        if labels
        else "Create one with create_table() or take one over with adopt().",
    )


def list_tables(conn: Connection) -> list[ManagedTable]:
    """Return every managed table in order of id; those whose table was dropped are left out.

    Raises:
        NotInstalled: the database has no catalog.
    """
    return _fetch(conn, table_id=None)


def load_series_bounds(conn: Connection, table_id: int) -> dict[tuple[int, SeriesKey], Bound]:
    """Return the bounds that single series of a table keep for themselves, by (column id, series key)."""
    with translate_errors():
        rows = conn.execute(sql("series_bounds"), {"table_id": table_id}).fetchall()
    return {(column_id, tuple(key)): make_bound(kind, value) for column_id, key, kind, value in rows}


def series_bound(conn: Connection, table: ManagedTable, column: ManagedColumn, key: SeriesKey) -> Bound | None:
    """Return the bound that one series keeps for itself, or None where its column's bound holds."""
    with translate_errors():
        row = conn.execute(
            sql("series_bound"), {"table_id": table.id, "column_id": column.id, "series_key": Jsonb(list(key))}
        ).fetchone()
    return None if row is None else make_bound(row[0], row[1])


def require_intact(table: ManagedTable) -> None:
    """Refuse to go on when the segments have columns that the table has in another type, or not at all any more.

    Raises:
        SchemaMismatch: a column has another type; a key or the time was dropped; or, in a restored database without
            the extension, a column's name is unknown: it was dropped or renamed.
    """
    if table.changes:
        raise SchemaMismatch(
            f"{table.label} has changed since it was adopted: {'; '.join(table.changes)}",
            series=table.label,
            remedy="Undo the change; to change a column's type, release() the table, alter it, and adopt() it again.",
        )


_IDENTIFIER = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s".]+))\s*(?P<dot>\.)?')


def parse_name(name: str) -> tuple[str | None, str]:
    """Split ``name`` or ``schema.name`` the way SQL does: unquoted parts fold to lower case, ``"quoted"`` ones do not.

    Raises:
        SchemaMismatch: ``name`` is not one or two identifiers.
    """
    parts: list[str] = []
    position, more = 0, True
    while more:
        match = _IDENTIFIER.match(name, position)
        if match is None:
            break
        parts.append(match["quoted"].replace('""', '"') if match["quoted"] else match["plain"].lower())
        position, more = match.end(), match["dot"] is not None
    if more or position != len(name) or len(parts) not in (1, 2) or any(len(p.encode()) > 63 for p in parts):
        raise SchemaMismatch(
            f"{name!r} is not a table name",
            series=name,
            remedy='Write schema.table; put parts with capitals, dots or spaces in double quotes: public."My Table".',
        )
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def _fetch(conn: Connection, *, table_id: int | None) -> list[ManagedTable]:
    return [_table(row) for row in _rows(conn, table_id=table_id)]


def _rows(conn: Connection, *, table_id: int | None) -> list[Mapping[str, Any]]:
    with translate_errors():
        return [row[0] for row in conn.execute(sql("managed_tables"), {"table_id": table_id})]


def _table(row: Mapping[str, Any]) -> ManagedTable:
    present: list[ManagedColumn] = []
    lost: list[ManagedColumn] = []
    for c in row["columns"]:
        bound = make_bound(c["bound_kind"], c["bound_value"])
        column = ManagedColumn(c["id"], c["name"], c["type"], c["role"], bound, c["wrapped"], c["generated"])
        # Without its time a table is nothing; what became of it is among the changes.
        (present if c["present"] or column.role == "time" else lost).append(column)
    added = [
        AddedColumn(
            ManagedColumn(c["id"], c["name"], c["type"], "value", Lossless(), c["wrapped"], c["generated"]),
            c["missing"],
        )
        for c in row["added"]
    ]
    return ManagedTable(
        id=row["id"],
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        segments=row["segments"],
        cold=row["cold"],
        profile=Profile.named(row["profile"]),
        segment_rows=row["segment_rows"],
        min_rows=row["min_rows"],
        hot_for=timedelta(microseconds=row["hot_for_us"]),
        time=next(column for column in present if column.role == "time"),
        keys=tuple(column for column in present if column.role == "key"),
        values=tuple(column for column in present if column.role == "value"),
        unique_check=row["unique_check"],
        changes=tuple(row["changes"]),
        lost=tuple(column for column in lost if column.role == "value"),
        added=tuple(added),
        behind=row["behind"],
    )


def _suggest(given: str, known: Sequence[str], intro: str) -> str:
    close = difflib.get_close_matches(given, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"{intro} {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}."
