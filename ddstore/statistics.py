"""What a managed table costs: rows, bytes and coding, in total and per series and column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from psycopg import sql as pgsql

from ddstore import _native
from ddstore.codec.format import Mode
from ddstore.db.catalog import ManagedColumn, ManagedTable, SeriesKey, load_series_bounds
from ddstore.db.copy import WIDTHS
from ddstore.db.pool import Connection
from ddstore.db.queries import sql

__all__ = ["ColumnStats", "TableStats", "table_stats"]

_TIME_BYTES = 8
_RESIDUALS_AT_ONCE = 64


@dataclass(slots=True)
class ColumnStats:
    """One value column of one series, as its segments hold it.

    Attributes:
        series: the key's values as text; empty for a table without key columns.
        values: non-NULL values in segments.
        bytes: what they take there: residuals and latents, or the array.
        model_bytes: the series' shared models, as decoding needs them.
        ratio: ``width * values / (bytes + model_bytes)``; None without cold values, or for types without a width.
        bits_per_sample: ``8 * (bytes + model_bytes) / values``.
        modes: segments by coding mode; ``array`` for types the core does not code, ``damaged`` for corrupt ones.
        escapes: values stored bit-exact beside the lattice.
        exact_segments: segments that are bit-exact by construction.
        note: what to know about it, e.g. that the bound is finer than the values.
    """

    series: SeriesKey
    column: str
    type: str
    max_error: str
    values: int
    bytes: int
    model_bytes: int = 0
    ratio: float | None = None
    bits_per_sample: float | None = None
    modes: dict[str, int] = field(default_factory=dict)
    escapes: int = 0
    exact_segments: int = 0
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TableStats:
    """One managed table.

    Attributes:
        payload_bytes: timestamps, residuals, latents and arrays in all segments; ``time_bytes`` of them timestamps.
        model_bytes: shared models as decoding needs them; ``encoder_bytes`` is what further encoding needs besides.
        segments_size, hot_size: on disk, with indexes and TOAST: the companion, and the table's own heap.
        raw_bytes: cold timestamps and fixed-width values as PostgreSQL holds them, without row headers.
        ratio: ``raw_bytes / (payload_bytes + model_bytes)``, arrays left out on both sides; None without cold rows.
    """

    table: str
    rows_hot: int
    rows_cold: int
    series: int
    segments: int
    payload_bytes: int
    time_bytes: int
    model_bytes: int
    encoder_bytes: int
    segments_size: int
    hot_size: int
    raw_bytes: int
    ratio: float | None
    columns: list[ColumnStats]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def table_stats(conn: Connection, table: ManagedTable) -> TableStats:
    """Count everything of one table; reads all hot rows and all residuals once."""
    sizes = conn.execute(sql("stats_sizes"), {"oid": table.oid, "segments": table.segments}).fetchone()
    assert sizes is not None
    hot = _hot_rows(conn, table)
    cold, segments, rows_cold, time_bytes = _cold_columns(conn, table)
    encoder_bytes = _add_models(conn, table, cold)
    _add_modes(conn, table, cold)
    for stats in cold.values():
        _finish(stats)
    coded = [stats for stats in cold.values() if stats.type in _NATIVE]
    raw_bytes = _TIME_BYTES * rows_cold + sum(WIDTHS[stats.type] * stats.values for stats in coded)
    model_bytes = sum(stats.model_bytes for stats in cold.values())
    stored = time_bytes + sum(stats.bytes for stats in coded) + model_bytes
    return TableStats(
        table=table.label,
        rows_hot=sum(hot.values()),
        rows_cold=rows_cold,
        series=len(hot.keys() | {key for key, _ in cold}),
        segments=segments,
        payload_bytes=time_bytes + sum(stats.bytes for stats in cold.values()),
        time_bytes=time_bytes,
        model_bytes=model_bytes,
        encoder_bytes=encoder_bytes,
        segments_size=int(sizes[1]),
        hot_size=int(sizes[0]),
        raw_bytes=raw_bytes,
        ratio=raw_bytes / stored if rows_cold and stored else None,
        columns=[cold[name] for name in sorted(cold, key=lambda item: (tuple(p or "" for p in item[0]), item[1]))],
    )


_NATIVE = frozenset({"float4", "float8", "int2", "int4", "int8"})
_Columns = dict[tuple[SeriesKey, int], ColumnStats]


def _key(columns: Iterable[pgsql.Composable]) -> pgsql.Composable:
    return pgsql.SQL(", ").join(pgsql.SQL("CAST({} AS text)").format(column) for column in columns)


def _cold_key(table: ManagedTable) -> pgsql.Composable:
    return _key(pgsql.Identifier("t", column.segment_column) for column in table.keys)


def _hot_rows(conn: Connection, table: ManagedTable) -> dict[SeriesKey, int]:
    keys = [pgsql.Identifier("t", column.name) for column in table.keys]
    query = pgsql.SQL(sql("stats_hot")).format(
        keys=_key(keys), table=table.identifier, groups=pgsql.SQL(", ").join(keys) if keys else pgsql.SQL("()")
    )
    return {tuple(key): rows for key, rows in conn.execute(query) if rows}


def _cold_columns(conn: Connection, table: ManagedTable) -> tuple[_Columns, int, int, int]:
    bounds = load_series_bounds(conn, table.id)
    sums: list[pgsql.Composable] = []
    for column in table.values:
        sums.append(pgsql.SQL(", sum({})::bigint").format(_part(column, "count")))
        if column.native:
            size = pgsql.SQL("octet_length({}) + coalesce(octet_length({}), 0)").format(
                _part(column, "residual"), _part(column, "latents")
            )
        else:
            size = pgsql.SQL("pg_column_size({})").format(_part(column, "array"))
        sums.append(pgsql.SQL(", sum({})::bigint").format(size))
    query = pgsql.SQL(sql("stats_cold")).format(
        keys=_cold_key(table), columns=pgsql.SQL("").join(sums), segments=table.segments_identifier
    )
    found: _Columns = {}
    segments = rows = time_bytes = 0
    for row in conn.execute(query):
        key: SeriesKey = tuple(row[0])
        segments, rows, time_bytes = segments + row[1], rows + row[2], time_bytes + row[3]
        for position, column in enumerate(table.values):
            bound = bounds.get((column.id, key), column.bound)
            values, size = row[4 + 2 * position : 6 + 2 * position]
            stats = ColumnStats(key, column.name, column.type, str(bound), int(values), int(size))
            if not column.native:
                stats.modes = {"array": row[1]}
            found[key, column.id] = stats
    return found, segments, rows, time_bytes


def _part(column: ManagedColumn, part: str) -> pgsql.Identifier:
    return pgsql.Identifier("t", f"c{column.id}_{part}")


def _add_models(conn: Connection, table: ManagedTable, columns: _Columns) -> int:
    encoder_bytes = 0
    for column_id, key, size, encoder in conn.execute(sql("stats_models"), {"table_id": table.id}):
        encoder_bytes += encoder
        if (stats := columns.get((tuple(key), column_id))) is not None:
            stats.model_bytes = size
    return encoder_bytes


def _add_modes(conn: Connection, table: ManagedTable, columns: _Columns) -> None:
    coded = [column for column in table.values if column.native]
    if not coded or not columns:
        return
    query = pgsql.SQL(sql("stats_residuals")).format(
        keys=_cold_key(table),
        columns=pgsql.SQL(", ").join(_part(column, "residual") for column in coded),
        segments=table.segments_identifier,
    )
    modes: dict[tuple[SeriesKey, int], Counter[str]] = {name: Counter() for name in columns}
    with conn.cursor(name="ddstore_residuals", binary=True) as cursor:
        cursor.itersize = _RESIDUALS_AT_ONCE
        cursor.execute(query)
        for key, *residuals in cursor:
            for column, residual in zip(coded, residuals, strict=True):
                stats = columns.get((tuple(key), column.id))
                if stats is None:
                    continue  # a segment committed meanwhile; only outside a snapshot
                try:
                    info: Mapping[str, Any] = _native.peek_column(residual)
                except _native.CorruptError:
                    modes[tuple(key), column.id]["damaged"] += 1
                    continue
                modes[tuple(key), column.id][Mode(info["mode"]).name.lower()] += 1
                stats.escapes += info["escapes"]
                stats.exact_segments += info["exact"]
    for name, counter in modes.items():
        if counter:
            columns[name].modes = dict(counter)


def _finish(stats: ColumnStats) -> None:
    stored = stats.bytes + stats.model_bytes
    if stats.values and stored:
        stats.bits_per_sample = 8 * stored / stats.values
        if stats.type in _NATIVE:
            stats.ratio = WIDTHS[stats.type] * stats.values / stored
    if "damaged" in stats.modes:
        stats.note = "damaged segments: run ddstore verify"
    elif stats.exact_segments and stats.max_error != "Lossless()":
        whole = "all" if stats.exact_segments == sum(stats.modes.values()) else f"{stats.exact_segments}"
        stats.note = f"{whole} segments are stored exactly: the bound is finer than the values' own grid or resolution"
