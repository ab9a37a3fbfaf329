"""Which series are due for compaction: their hot rows are old enough and many enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound, make_bound
from ddstore.compact.policy import CompactOptions
from ddstore.db.catalog import ManagedColumn, ManagedTable, SeriesKey
from ddstore.db.pool import Connection
from ddstore.db.queries import sql

__all__ = [
    "SeriesPlan",
    "cold_condition",
    "comparable_key",
    "due_condition",
    "group_plans",
    "hot_column",
    "load_bounds",
    "plan_table",
    "series_condition",
    "series_label",
    "typed_key",
]

#: Equality on these types is equality of bytes; on others (numeric, float, collated text) equal keys may differ.
_EXACT_KEYS = frozenset({"bool", "date", "int2", "int4", "int8", "oid", "time", "timestamp", "timestamptz", "uuid"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """One series that is due, with the number of due rows seen while planning."""

    table: ManagedTable
    key: SeriesKey
    rows: int

    @property
    def label(self) -> str:
        """How messages name this series."""
        return series_label(self.table, self.key)


def series_label(table: ManagedTable, key: SeriesKey) -> str:
    """Return ``schema.table`` or ``schema.table[key, ...]``."""
    parts = ", ".join("NULL" if part is None else part for part in key)
    return f"{table.label}[{parts}]" if key else table.label


def plan_table(conn: Connection, table: ManagedTable, options: CompactOptions) -> list[SeriesPlan]:
    """Return the series of ``table`` that are due, in order of their keys. Reads the hot rows only."""
    keys = [_key_text(column) for column in table.keys]
    groups = [comparable_key(c) for c in table.keys]
    query = pgsql.SQL(sql("compact_series")).format(
        keys=pgsql.SQL(", ").join(keys),
        table=table.identifier,
        due=due_condition(table, options),
        groups=pgsql.SQL(", ").join(groups) if groups else pgsql.SQL("()"),
        min_rows=pgsql.Literal(options.min_rows_for(table)),
    )
    return [SeriesPlan(table, tuple(key), rows) for key, rows in conn.execute(query)]


def group_plans(
    plans: Iterable[SeriesPlan], *, max_rows: int, max_series: int, alone_rows: int
) -> Iterator[list[SeriesPlan]]:
    """Group small series, so that each group is read and committed at once.

    Series of ``alone_rows`` rows and more come first, each a group of its own.
    """
    group: list[SeriesPlan] = []
    rows = 0
    small = []
    for plan in plans:
        if plan.rows >= min(alone_rows, max_rows):
            yield [plan]
        else:
            small.append(plan)
    for plan in small:
        if group and (rows + plan.rows > max_rows or len(group) == max_series):
            yield group
            group, rows = [], 0
        group.append(plan)
        rows += plan.rows
    if group:
        yield group


def due_condition(table: ManagedTable, options: CompactOptions) -> pgsql.Composable:
    """Return the SQL condition on the alias ``hot`` that holds for rows which may become cold."""
    if options.all or not table.hot_for:
        return pgsql.SQL("true")
    cutoff = options.moment - table.hot_for
    value: pgsql.Literal
    if table.time.type == "int8":  # nanoseconds since 1970, by convention
        value = pgsql.Literal((cutoff - _EPOCH) // _MICROSECOND * 1000)
    elif table.time.type == "timestamp":
        value = pgsql.Literal(cutoff.replace(tzinfo=None))
    else:
        value = pgsql.Literal(cutoff)
    return pgsql.SQL("{} < {}").format(hot_column(table.time), value)


def load_bounds(conn: Connection, plans: Sequence[SeriesPlan]) -> dict[SeriesKey, dict[int, Bound]]:
    """Return the bounds that these series (of one table) keep for themselves, by column id; none for most."""
    found: dict[SeriesKey, dict[int, Bound]] = {plan.key: {} for plan in plans}
    parameters = {"table_id": plans[0].table.id, "series": Jsonb([list(key) for key in found])}
    for key, column_id, kind, value in conn.execute(sql("compact_bounds"), parameters):
        found[tuple(key)][column_id] = make_bound(kind, value)
    return found


def series_condition(table: ManagedTable, key: SeriesKey) -> pgsql.Composable:
    """Return the SQL condition on the alias ``hot`` that holds for exactly the rows of one series."""
    return _key_condition(table, key, [hot_column(column) for column in table.keys])


def cold_condition(table: ManagedTable, key: SeriesKey) -> pgsql.Composable:
    """Return the SQL condition on the alias ``cold`` of the companion that holds for one series' segments."""
    return _key_condition(table, key, [pgsql.Identifier("cold", column.segment_column) for column in table.keys])


def _key_condition(table: ManagedTable, key: SeriesKey, names: Sequence[pgsql.Composable]) -> pgsql.Composable:
    # With = and IS NULL, because no index serves IS NOT DISTINCT FROM.
    terms: list[pgsql.Composable] = []
    for column, name, value in zip(table.keys, names, key, strict=True):
        if value is None:
            terms.append(pgsql.SQL("{} IS NULL").format(name))
            continue
        terms.append(pgsql.SQL("{} = {}").format(name, pgsql.Literal(value)))
        if column.type not in _EXACT_KEYS:
            terms.append(pgsql.SQL("{} = {}").format(_text(name), pgsql.Literal(value)))
    return pgsql.SQL(" AND ").join(terms) if terms else pgsql.SQL("true")


def hot_column(column: ManagedColumn) -> pgsql.Composable:
    """Return ``hot.<column>``."""
    return pgsql.Identifier("hot", column.name)


def comparable_key(column: ManagedColumn) -> pgsql.Composable:
    """Return the key column of the alias ``hot`` in a form whose equality tells series apart."""
    return hot_column(column) if column.type in _EXACT_KEYS else _key_text(column)


def typed_key(column: ManagedColumn, value: str) -> pgsql.Composable:
    """Return a series' key value in the type that :func:`comparable_key` has."""
    type_ = column.type if column.type in _EXACT_KEYS else "text"
    return pgsql.SQL("{}::{}").format(pgsql.Literal(value), pgsql.Identifier("pg_catalog", type_))


def _key_text(column: ManagedColumn) -> pgsql.Composable:
    return _text(hot_column(column))


def _text(value: pgsql.Composable) -> pgsql.Composable:
    return pgsql.SQL('{}::text COLLATE "C"').format(value)
