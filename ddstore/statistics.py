"""What a managed table costs: rows, bytes and coding, in total and per series and column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from psycopg import sql as pgsql

from ddstore.codec.format import Coder, Mode
from ddstore.db.catalog import CODED_AS, ManagedTable, SeriesKey, load_series_bounds
from ddstore.db.copy import WIDTHS
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.profiles import Profile

__all__ = ["CodingStats", "ColumnStats", "TableStats", "table_stats"]

_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class CodingStats:
    """Those segments of one series' column that are coded alike.

    Attributes:
        mode: how the column is predicted, as in docs/format.md (``lattice``, ``btae``); its number where this version
            does not know the name; ``damaged`` where the bytes do not begin like a column (``verify`` finds other
            damage). Of types that the core does not code, how the positions in the list of distinct values are; or
            ``array``: a value per row.
        coder: how residuals became bits (``mix``), by name or number as well; None for arrays and damaged columns.
        segments, rows: how many, NULLs included.
        share: ``rows`` as a part of the column's cold rows, 0 to 1.
        bytes: latents, residuals and arrays.
        bits_per_sample: ``8 * bytes / rows``; models, which other codings may share, are not in it.
        escapes: values stored bit-exact beside the lattice.
        exact_segments: segments that are bit-exact by construction.
    """

    mode: str
    coder: str | None
    segments: int
    rows: int
    share: float
    bytes: int
    bits_per_sample: float
    escapes: int
    exact_segments: int


@dataclass(slots=True)
class ColumnStats:
    """One value column of one series, as its segments hold it.

    Attributes:
        series: the key's values as text; empty for a table without key columns.
        rows: cold rows; ``values`` of them are not NULL.
        bytes: what they take in segments: residuals, latents and arrays.
        model_bytes: the series' shared models, as decoding needs them.
        bits_per_sample: ``8 * bytes / rows``; models are not in it.
        ratio: ``width * values / (bytes + model_bytes)``; None without cold values, or for types without a width.
        codings: segments by mode and coder; those with the most rows first.
        escapes: values stored bit-exact beside the lattice.
        exact_segments: segments that are bit-exact by construction.
        note: what to know about it, e.g. that the bound is finer than the values.
    """

    series: SeriesKey
    column: str
    type: str
    max_error: str
    rows: int = 0
    values: int = 0
    bytes: int = 0
    model_bytes: int = 0
    bits_per_sample: float | None = None
    ratio: float | None = None
    codings: list[CodingStats] = field(default_factory=list)
    escapes: int = 0
    exact_segments: int = 0
    note: str | None = None

    @property
    def segments(self) -> int:
        """How many hold the column."""
        return sum(coding.segments for coding in self.codings)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TableStats:
    """One managed table.

    Attributes:
        profile, segment_rows: of segments to come: the decode-cost budget, and rows in a full one.
        payload_bytes: timestamps, residuals, latents and arrays in all segments; ``time_bytes`` of them timestamps.
        model_bytes: shared models as decoding needs them; ``encoder_bytes`` is what further encoding needs besides.
        segments_size, hot_size: on disk, with indexes and TOAST: the companion, and the table's own heap.
        raw_bytes: cold timestamps, and values of types that the core codes, as PostgreSQL holds them, without headers.
        ratio: ``raw_bytes / (payload_bytes + model_bytes)``, other types left out of both; None without cold rows.
    """

    table: str
    profile: Profile
    segment_rows: int
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
    """Count everything of one table; reads all hot rows, and of a segment's columns the first bytes."""
    sizes = conn.execute(sql("stats_sizes"), {"oid": table.oid, "segments": table.segments}).fetchone()
    assert sizes is not None
    hot = _hot_rows(conn, table)
    keys, segments, rows_cold, time_bytes = _cold_series(conn, table)
    columns = _columns(conn, table)
    encoder_bytes = _add_models(conn, table, columns)
    for stats in columns.values():
        _finish(stats)
    coded = [stats for stats in columns.values() if stats.type in CODED_AS]
    raw_bytes = _TIME_BYTES * rows_cold + sum(WIDTHS[stats.type] * stats.values for stats in coded)
    model_bytes = sum(stats.model_bytes for stats in columns.values())
    stored = time_bytes + sum(stats.bytes for stats in coded) + model_bytes
    return TableStats(
        table=table.label,
        profile=table.profile,
        segment_rows=table.full_segment_rows,
        rows_hot=sum(hot.values()),
        rows_cold=rows_cold,
        series=len(hot.keys() | keys),
        segments=segments,
        payload_bytes=time_bytes + sum(stats.bytes for stats in columns.values()),
        time_bytes=time_bytes,
        model_bytes=model_bytes,
        encoder_bytes=encoder_bytes,
        segments_size=int(sizes[1]),
        hot_size=int(sizes[0]),
        raw_bytes=raw_bytes,
        ratio=raw_bytes / stored if rows_cold and stored else None,
        columns=[
            columns[name] for name in sorted(columns, key=lambda item: (tuple(p or "" for p in item[0]), item[1]))
        ],
    )


_Columns = dict[tuple[SeriesKey, int], ColumnStats]


def _key(columns: Iterable[pgsql.Composable]) -> pgsql.Composable:
    return pgsql.SQL(", ").join(pgsql.SQL("CAST({} AS text)").format(column) for column in columns)


def _hot_rows(conn: Connection, table: ManagedTable) -> dict[SeriesKey, int]:
    keys = [pgsql.Identifier("t", column.name) for column in table.keys]
    query = pgsql.SQL(sql("stats_hot")).format(
        keys=_key(keys), table=table.identifier, groups=pgsql.SQL(", ").join(keys) if keys else pgsql.SQL("()")
    )
    return {tuple(key): rows for key, rows in conn.execute(query) if rows}


def _cold_series(conn: Connection, table: ManagedTable) -> tuple[set[SeriesKey], int, int, int]:
    """The series that have segments, and in all: segments, rows, bytes of timestamps."""
    query = pgsql.SQL(sql("stats_cold")).format(
        keys=_key(pgsql.Identifier("t", column.segment_column) for column in table.keys),
        segments=table.segments_identifier,
    )
    found = conn.execute(query).fetchall()
    segments, rows, time_bytes = (sum(row[position] for row in found) for position in (1, 2, 3))
    return {tuple(row[0]) for row in found}, segments, rows, time_bytes


def _columns(conn: Connection, table: ManagedTable) -> _Columns:
    bounds = load_series_bounds(conn, table.id)
    by_id = {column.id: column for column in table.values}
    found: _Columns = {}
    for series, number, mode, coder, segments, rows, share, values, size, escapes, exact in conn.execute(
        sql("stats_codings"), {"table_id": table.id}
    ):
        key: SeriesKey = tuple(series)
        if (column := by_id.get(number)) is None:
            continue  # no longer a column of the table
        if (key, number) not in found:
            bound = bounds.get((number, key), column.bound)
            found[key, number] = ColumnStats(key, column.name, column.type, str(bound))
        stats = found[key, number]
        stats.rows += rows
        stats.values += values
        stats.bytes += size
        stats.escapes += escapes
        stats.exact_segments += exact
        unknown = "array" if column.coded_as is None else "damaged"
        stats.codings.append(
            CodingStats(
                mode=unknown if mode is None else _name(Mode, mode),
                coder=None if coder is None else _name(Coder, coder),
                segments=segments,
                rows=rows,
                share=share,
                bytes=size,
                bits_per_sample=8 * size / rows,
                escapes=escapes,
                exact_segments=exact,
            )
        )
    return found


def _name(numbers: type[IntEnum], number: int) -> str:
    try:
        return numbers(number).name.lower()
    except ValueError:  # a later version's
        return str(number)


def _add_models(conn: Connection, table: ManagedTable, columns: _Columns) -> int:
    encoder_bytes = 0
    for column_id, key, size, encoder in conn.execute(sql("stats_models"), {"table_id": table.id}):
        encoder_bytes += encoder
        if (stats := columns.get((tuple(key), column_id))) is not None:
            stats.model_bytes = size
    return encoder_bytes


def _finish(stats: ColumnStats) -> None:
    stats.bits_per_sample = 8 * stats.bytes / stats.rows
    stored = stats.bytes + stats.model_bytes
    if stats.values and stored and stats.type in CODED_AS:
        stats.ratio = WIDTHS[stats.type] * stats.values / stored
    if any(coding.mode == "damaged" for coding in stats.codings):
        stats.note = "damaged segments: run ddstore verify"
    elif stats.max_error != "Lossless()":
        # What lies on a line is exact whatever the bound.
        fine = sum(coding.exact_segments for coding in stats.codings if coding.mode != "linear")
        if fine:
            whole = "all segments are" if fine == stats.segments else f"{fine} of {stats.segments} segments are"
            stats.note = f"{whole} stored exactly: the bound is finer than the values' own grid or resolution"
