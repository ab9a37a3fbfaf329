"""Looks at a user's table and says whether DDStore can manage it, and if not, why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql as pgsql

from ddstore.bounds import Bound, Lossless
from ddstore.db.catalog import CODED_AS, NATIVE_TYPES, TIME_TYPES, ManagedColumn, Role, parse_name
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import NotPermitted, SchemaMismatch

__all__ = [
    "MAX_KEYS",
    "MAX_VALUES",
    "Column",
    "PlannedColumn",
    "Relation",
    "check_compactable",
    "check_constraints",
    "check_manageable",
    "inspect",
    "plan_added",
    "plan_columns",
]

MAX_KEYS = 30  # an index has at most 32 columns, and the companion's needs t_max and t_min besides
MAX_VALUES = 100  # a segment's row must fit a page: each column needs up to 75 bytes there, TOAST pointers included


@dataclass(frozen=True, slots=True)
class Column:
    """One column as PostgreSQL describes it."""

    name: str
    type: str
    type_schema: str
    type_oid: int
    generated: str  # '': not at all, 's': stored, 'v': computed whenever it is read
    array: bool  # an array of the type exists
    sortable: bool  # the type has a default btree operator class
    collation: tuple[str, str] | None  # where it is not the type's own


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: its columns and, in ``facts``, what may stand in the way of managing it."""

    oid: int
    schema: str
    name: str
    columns: Mapping[str, Column]
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """``schema.name``."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> pgsql.Identifier:
        """The relation, quoted for SQL."""
        return pgsql.Identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class PlannedColumn:
    """A column with its part in the managed table; ``id`` becomes ``managed_column.id``."""

    id: int
    column: Column
    role: Role
    bound: Bound

    @property
    def native(self) -> bool:
        """Whether the column is of numbers."""
        return self.role == "value" and self.column.type in NATIVE_TYPES

    @property
    def wrapped(self) -> bool:
        """Whether segments hold the column's values in a composite type."""
        return self.role == "value" and not self.column.array


def inspect(conn: Connection, name: str) -> Relation:
    """Return the relation that ``name`` means in SQL, on the search path when it has no schema.

    Raises:
        SchemaMismatch: there is no such relation.
    """
    schema, relation = parse_name(name)
    row = conn.execute(sql("relation_facts"), {"schema": schema, "name": relation}).fetchone()
    if row is None:
        known = [label for (label,) in conn.execute(sql("relation_names"))]
        close = difflib.get_close_matches(name, [*known, *(label.partition(".")[2] for label in known)], n=3)
        raise SchemaMismatch(
            f"there is no table {name!r}",
            series=name,
            remedy=f"Did you mean {' or '.join(close)}?" if close else "Create it, or use create_table().",
        )
    facts = row[0]
    columns = {
        c["name"]: Column(
            name=c["name"],
            type=c["type"],
            type_schema=c["type_schema"],
            type_oid=c["type_oid"],
            generated=c["generated"],
            array=c["array"],
            sortable=c["sortable"],
            collation=None if c["collation"] is None else (c["collation"][0], c["collation"][1]),
        )
        for c in facts["columns"]
    }
    return Relation(facts["oid"], facts["schema"], facts["name"], columns, facts)


_PARTITIONS = (
    "PostgreSQL lets no partition have a child, which is where compacted rows are read. Copy the rows into an ordinary "
    "table and adopt that: segments are found by key and time without partitions."
)
_KINDS = {"f": "a foreign table", "v": "a view", "m": "a materialized view"}


def check_manageable(relation: Relation) -> None:
    """Refuse what compaction could not handle without changing its meaning or losing rows.

    Raises:
        SchemaMismatch: says what stands in the way and what to do about it.
        NotPermitted: the role does not own the table.
    """
    facts = relation.facts
    kind = facts["kind"]
    obstacles: list[tuple[object, str, str]] = [
        (facts["managed"], "is already managed", "release() it first."),
        (facts["system"], "belongs to PostgreSQL or to DDStore", "Manage a table of your own."),
        (kind == "p", "is a partitioned table", _PARTITIONS),
        (kind != "r", f"is {_KINDS.get(kind, 'no table')}", "Only ordinary tables can be managed."),
        (facts["partition"], "is a partition", f"DETACH it and adopt it as a table of its own. {_PARTITIONS}"),
        (facts["persistence"] == "t", "is temporary", "Create it as a permanent table."),
        (
            facts["persistence"] == "u",
            "is unlogged: after a crash it would be empty, and its compacted rows would not",
            "ALTER TABLE ... SET LOGGED first.",
        ),
        (not facts["heap"], "uses another table access method than heap", "Create it USING heap."),
        (facts["typed"], "is a typed table", "Create it with columns of its own."),
        (facts["inheritance"], f"takes part in inheritance ({facts['inheritance']})", "Use NO INHERIT first."),
    ]
    _refuse(relation, obstacles)
    check_compactable(relation)
    if not facts["owned"]:
        raise NotPermitted(
            f"only the owner of {relation.label} may have it managed",
            series=relation.label,
            remedy="Connect as its owner.",
        )


def check_compactable(relation: Relation, lossy: Mapping[str, Bound] | None = None) -> None:
    """Refuse tables whose rows cannot become cold without further consequences. May change any day after adoption.

    Args:
        lossy: the columns that are going to be read back with an error.

    Raises:
        SchemaMismatch: says what stands in the way and what to do about it.
    """
    facts = relation.facts
    obstacles: list[tuple[object, str, str]] = [
        (
            facts["referenced_by"],
            f"is referenced by a foreign key of {facts['referenced_by']}",
            "Compaction deletes hot rows: drop the foreign key.",
        ),
        (
            facts["delete_trigger"],
            f"has a trigger on DELETE ({facts['delete_trigger']})",
            "Compaction would fire it for every row: drop or disable it.",
        ),
        (facts["rule"], f"has a rule ({facts['rule']})", "Drop the rule."),
        (facts["force_rls"], "forces row level security on its owner", "Use NO FORCE ROW LEVEL SECURITY."),
    ]
    _refuse(relation, obstacles)
    check_constraints(relation, lossy or {})


def check_constraints(relation: Relation, lossy: Mapping[str, Bound]) -> None:
    """Refuse CHECK constraints on columns that are read back with an error: a value read may violate them.

    The planner believes constraints and would leave such rows out, and no release could put them back.

    Args:
        lossy: the columns concerned, with their bounds.

    Raises:
        SchemaMismatch: names the constraint and the column.
    """
    for constraint in relation.facts["checks"]:
        for name in constraint["columns"]:
            if name in lossy:
                raise SchemaMismatch(
                    f"the constraint {constraint['name']} ({constraint['definition']}) checks a column with "
                    f"max_error {lossy[name]}, whose values as read back may violate it",
                    series=relation.label,
                    column=name,
                    remedy="Keep the column lossless, or drop the constraint and check rows where they are written.",
                )


def _refuse(relation: Relation, obstacles: Sequence[tuple[object, str, str]]) -> None:
    for present, what, remedy in obstacles:
        if present:
            raise SchemaMismatch(f"{relation.label} {what}", series=relation.label, remedy=remedy)


def plan_columns(
    relation: Relation, *, time: str, key: Sequence[str], max_error: Mapping[str, Bound]
) -> list[PlannedColumn]:
    """Give every column of ``relation`` its role and bound, in the table's own order; unnamed ones are lossless.

    Raises:
        SchemaMismatch: a name is unknown or used twice, or a type does not suit its role or bound.
    """
    names = [time, *key, *max_error]
    for name in names:
        if name not in relation.columns:
            close = difflib.get_close_matches(name, relation.columns, n=3)
            raise SchemaMismatch(
                f"{relation.label} has no column {name!r}",
                series=relation.label,
                column=name,
                remedy=f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(relation.columns)}.",
            )
        if names.count(name) > 1:
            raise SchemaMismatch(
                "a column has one part only",
                series=relation.label,
                column=name,
                remedy="Name it once: as time, as key, or in max_error. Time and keys are always stored exactly.",
            )
        if relation.columns[name].generated and name not in max_error:
            raise SchemaMismatch(
                "a generated column cannot be the time or a key",
                series=relation.label,
                column=name,
                remedy="Choose a column that is written.",
            )
    planned = [
        PlannedColumn(
            number,
            column,
            "time" if column.name == time else "key" if column.name in key else "value",
            max_error.get(column.name, Lossless()),
        )
        for number, column in enumerate(relation.columns.values(), start=1)
    ]
    values = sum(p.role == "value" for p in planned)
    if len(key) > MAX_KEYS or not 1 <= values <= MAX_VALUES:
        raise SchemaMismatch(
            f"{relation.label} has {len(key)} key and {values} value columns",
            series=relation.label,
            remedy=f"At most {MAX_KEYS} key columns and between 1 and {MAX_VALUES} value columns can be managed.",
        )
    for plan in planned:
        _check_type(relation, plan)
    check_constraints(relation, {p.column.name: p.bound for p in planned if p.bound.kind != "lossless"})
    return planned


def plan_added(relation: Relation, added: Sequence[ManagedColumn], values: int) -> list[PlannedColumn]:
    """Plan value columns that were added to a table that is managed and has ``values`` of them, lossless.

    Raises:
        SchemaMismatch: a column's type does not suit, or there are too many.
    """
    if values + len(added) > MAX_VALUES:
        raise SchemaMismatch(
            f"{relation.label} has {values + len(added)} value columns since {added[-1].name} was added",
            series=relation.label,
            column=added[-1].name,
            remedy=f"Drop some: at most {MAX_VALUES} can be managed, those counted that segments hold of dropped ones.",
        )
    planned = [PlannedColumn(column.id, relation.columns[column.name], "value", Lossless()) for column in added]
    for plan in planned:
        _check_type(relation, plan)
    return planned


def _check_type(relation: Relation, plan: PlannedColumn) -> None:
    column, role = plan.column, plan.role
    trouble = None
    if column.generated == "v":
        raise SchemaMismatch(
            "a virtual generated column is stored nowhere",
            series=relation.label,
            column=column.name,
            remedy="Drop it, or compute it in a view on top; a STORED one can be managed.",
        )
    if role == "time" and (column.type not in TIME_TYPES or column.type_schema != "pg_catalog"):
        trouble = "cannot be the time", f"Use one of {', '.join(sorted(TIME_TYPES))}."
    elif role == "key" and not column.sortable:
        trouble = "cannot be a key: it has no order", "Use a type that btree indexes know, such as text or int8."
    elif plan.bound.kind != "lossless" and not plan.native:
        trouble = f"cannot have a max_error ({plan.bound})", f"Only {', '.join(sorted(NATIVE_TYPES))} can."
    elif column.type in CODED_AS and column.type_schema != "pg_catalog":
        trouble = f"of schema {column.type_schema} is confusable with PostgreSQL's own", "Rename that type."
    if trouble is not None:
        raise SchemaMismatch(
            f"a column of type {column.type} {trouble[0]}",
            series=relation.label,
            column=column.name,
            remedy=trouble[1],
        )
