"""The one transaction that turns hot rows into segments: insert the segments, delete exactly the rows read.

Why nothing can be lost or doubled:

- A row version is named by (file of the table, ctid, xmin). VACUUM may free a place and an INSERT may fill it again
  between our read and our commit, but then xmin differs; CLUSTER, VACUUM FULL and rewriting ALTERs may put another
  row of the same xmin there, but then the file differs. We hold ROW EXCLUSIVE on the table before we compare the
  file, so it cannot be rewritten after the comparison.
- The transaction is REPEATABLE READ: the arrays gathered from the rows and the DELETE see one snapshot, and a row that
  anyone updated or deleted since makes the DELETE raise instead of skipping it or following it to its new version,
  as READ COMMITTED would. A row inserted late is not named, so it stays hot.
- The DELETE returns what it deleted, and that is compared bit by bit with what was encoded (and what
  ``encode_column`` decoded again and verified). Any difference rolls everything back.
- The table is compared with the catalog as it was when the rows were read: a column added meanwhile is not dropped
  with the rows, a released table gets no more segments.
- Readers see both the segment and the missing rows, or neither: it is one commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import errors as pg_errors
from psycopg import sql as pgsql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from ddstore.codec.segment import EncodedColumn
from ddstore.compact.plan import SeriesPlan, hot_column
from ddstore.compact.rows import HotRows, coded_columns, fetch_rows, hot_columns, read_filenode
from ddstore.compact.train import SeriesModel
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.pool import Connection
from ddstore.db.queries import Escaped, sql
from ddstore.errors import CompactionConflict, CorruptSegment

__all__ = ["EncodedSegment", "LeaseLost", "commit_segments"]


class LeaseLost(CompactionConflict):
    """Another worker has taken a series over (or its table was released); this one must leave it alone."""


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """One segment, ready to be stored.

    Attributes:
        plan: its series.
        job: the lease under which it is written.
        rows: exactly the rows it holds, ordered by time and place.
        time: the encoded times.
        columns: per coded column (:func:`~ddstore.compact.rows.coded_columns`), the encoded values.
        models: per coded column, the model its bytes need, if any.
    """

    plan: SeriesPlan
    job: int
    rows: HotRows
    time: bytes
    columns: tuple[EncodedColumn, ...]
    models: tuple[SeriesModel | None, ...]

    @property
    def payload(self) -> list[bytes]:
        """Every byte string that the core coded, in the order in which the stored row is hashed."""
        parts = [self.time]
        for column in self.columns:
            parts += [column.latents or b"", column.residual]
        return parts


def commit_segments(conn: Connection, worker: str, segments: Sequence[EncodedSegment]) -> dict[SeriesModel, int]:
    """Store ``segments`` (of one table, from one read) and delete exactly their rows, in one transaction.

    Args:
        conn: a connection that has not begun a transaction yet. The caller commits when this returns and rolls back
            when it raises.
        worker: whose leases the segments are written under.
        segments: what to insert, with the models that are not stored yet.

    Returns:
        The ids that newly stored models have once the caller has committed.

    Raises:
        LeaseLost: a series is no longer this worker's.
        CompactionConflict: a row, or the table, changed since it was read.
        CorruptSegment: the server holds other bytes than were sent.
    """
    table = segments[0].plan.table
    rows = HotRows.join([segment.rows for segment in segments])
    for kind, dumper in _DUMPERS.items():
        conn.adapters.register_dumper(kind, dumper)
    try:
        _begin(conn, table, rows.filenode)
        _record(conn, worker, segments)
        stored = {model: _store_model(conn, model) for model in _new_models(segments)}
        _insert(conn, table, segments, stored)
        _delete(conn, table, rows)
    except (pg_errors.SerializationFailure, pg_errors.DeadlockDetected, pg_errors.LockNotAvailable) as error:
        raise CompactionConflict(
            f"rows changed while they were being compacted: {error.diag.message_primary}", series=table.label
        ) from error
    return stored


def _begin(conn: Connection, table: ManagedTable, filenode: int) -> None:
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    # LOCK comes before the first query, so that the snapshot is not older than the lock. We hold nothing yet and may
    # wait; later we hold row locks and must not, lest a user's transaction be the victim of a deadlock with us.
    conn.execute("SET LOCAL lock_timeout = '10s'")
    conn.execute(pgsql.SQL("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE").format(table.identifier))
    conn.execute("SET LOCAL lock_timeout = '100ms'")
    if read_filenode(conn, table) != filenode:
        raise CompactionConflict("the table was rewritten while it was being compacted", series=table.label)
    if load_table(conn, table.id) != table:
        raise CompactionConflict("the table was altered while it was being compacted", series=table.label)


def _record(conn: Connection, worker: str, segments: Sequence[EncodedSegment]) -> None:
    jobs = list(dict.fromkeys(segment.job for segment in segments))
    of_job = [[segment for segment in segments if segment.job == job] for job in jobs]
    updated = conn.execute(
        sql("compact_record"),
        {
            "worker": worker,
            "ids": jobs,
            "rows": [sum(len(s.rows) for s in mine) for mine in of_job],
            "segments": [len(mine) for mine in of_job],
            "bytes": [
                sum(len(part) for s in mine for part in s.payload) + sum(len(m.data) for m in _new_models(mine))
                for mine in of_job
            ],
        },
    ).rowcount
    if updated != len(jobs):
        raise LeaseLost("another worker has taken the series over", series=segments[0].plan.label)


def _new_models(segments: Sequence[EncodedSegment]) -> list[SeriesModel]:
    used = dict.fromkeys(model for segment in segments for model in segment.models if model is not None)
    return [model for model in used if model.id is None]


def _store_model(conn: Connection, model: SeriesModel) -> int:
    row = conn.execute(
        sql("compact_model_insert"),
        {
            "table_id": model.table_id,
            "column_id": model.column_id,
            "series": Jsonb(list(model.key)),
            "bytes": model.data,
            "encoder": model.encoder,
            "record": Jsonb(model.record),
        },
    ).fetchone()
    if row is None or bytes(row[1]) != hashlib.sha256(model.data).digest():
        raise CorruptSegment("the server holds another model than was sent")
    return int(row[0])


def _insert(
    conn: Connection, table: ManagedTable, segments: Sequence[EncodedSegment], stored: dict[SeriesModel, int]
) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(_insert_query(table), [_parameters(s, stored) for s in segments], returning=True)
        for segment in segments:
            row = cursor.fetchone()
            if row is None:
                raise CompactionConflict("rows are gone that were read", series=segment.plan.label)
            if bytes(row[0]) != hashlib.sha256(b"".join(segment.payload)).digest():
                raise CorruptSegment("the server holds other bytes than were sent", series=segment.plan.label)
            cursor.nextset()


def _insert_query(table: ManagedTable) -> pgsql.Composed:
    relation = Escaped(table.identifier)
    # A key is copied from a row: its text would lose the padding of char(n).
    values: dict[str, pgsql.Composable] = {
        key.segment_column: pgsql.SQL(sql("compact_key")).format(key=Escaped(hot_column(key)), table=relation)
        for key in table.keys
    }
    for name in ("t_min", "t_max", "n", "time"):
        values[name] = pgsql.Placeholder(name)
    arrays: list[pgsql.Composable] = []
    payload: list[pgsql.Composable] = [pgsql.SQL("time")]
    for column in table.values:
        prefix = column.segment_column
        if column.native:
            for part in ("latents", "residual", "model", "count", "min", "max", "sum"):
                values[f"{prefix}_{part}"] = pgsql.Placeholder(f"{prefix}_{part}")
            payload.append(pgsql.SQL("coalesce({}, '')").format(pgsql.Identifier(f"{prefix}_latents")))
            payload.append(pgsql.Identifier(f"{prefix}_residual"))
        else:
            # (time, ctid) is the order of the encoded rows: a ctid's order is that of HotRows.place.
            array, count = pgsql.Identifier(f"{prefix}_array"), pgsql.Identifier(f"{prefix}_count")
            arrays.append(
                pgsql.SQL("array_agg({c} ORDER BY {time}, hot.ctid) AS {array}, count({c})::int AS {count}").format(
                    c=Escaped(hot_column(column)), time=Escaped(hot_column(table.time)), array=array, count=count
                )
            )
            values[f"{prefix}_array"], values[f"{prefix}_count"] = array, count
    gather = pgsql.SQL(sql("compact_gather")).format(arrays=pgsql.SQL(", ").join(arrays), table=relation)
    return pgsql.SQL(sql("compact_insert")).format(
        gather=gather if arrays else pgsql.SQL("SELECT"),
        segments=table.segments_identifier,
        columns=pgsql.SQL(", ").join(map(pgsql.Identifier, values)),
        values=pgsql.SQL(", ").join(values.values()),
        payload=pgsql.SQL(" || ").join(payload),
    )


def _parameters(segment: EncodedSegment, stored: dict[SeriesModel, int]) -> dict[str, Any]:
    table, rows = segment.plan.table, segment.rows
    moment = {"timestamptz": _Timestamptz, "timestamp": _Timestamp}.get(table.time.type, int)
    parameters: dict[str, Any] = {
        "rows": _Tids(rows.tids()),
        "row": _Tids(rows.take(slice(1)).tids()),
        "t_min": moment(rows.time[0]),
        "t_max": moment(rows.time[-1]),
        "n": len(rows),
        "time": segment.time,
    }
    for column, coded, model in zip(coded_columns(table), segment.columns, segment.models, strict=True):
        prefix = column.segment_column
        parameters |= {
            f"{prefix}_latents": coded.latents,
            f"{prefix}_residual": coded.residual,
            f"{prefix}_model": None if model is None else stored.get(model, model.id),
            f"{prefix}_count": coded.count,
            f"{prefix}_min": coded.min,
            f"{prefix}_max": coded.max,
            f"{prefix}_sum": coded.sum,
        }
    return parameters


def _delete(conn: Connection, table: ManagedTable, rows: HotRows) -> None:
    query = pgsql.SQL(sql("compact_delete")).format(
        table=Escaped(table.identifier), columns=Escaped(hot_columns(table))
    )
    deleted = fetch_rows(conn, table, query, rows.filenode, {"rows": _Tids(rows.tids())})
    if not deleted.same_rows(rows):
        raise CompactionConflict(
            f"{len(rows)} rows were read, and not exactly these {len(deleted)} could be deleted", series=table.label
        )


class _Tids(bytes):
    """A ``tid[]`` in PostgreSQL's binary form."""


class _Timestamp(int):
    """A ``timestamp`` as PostgreSQL stores it: Python's datetime knows neither infinity nor the year 10000."""


class _Timestamptz(int):
    """The same for ``timestamptz``."""


class _TidsDumper(Dumper):
    format = Format.BINARY
    oid = 1010

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


class _TimestampDumper(Dumper):
    format = Format.BINARY
    oid = 1114

    def dump(self, obj: int) -> bytes:
        return int(obj).to_bytes(8, "big", signed=True)


class _TimestamptzDumper(_TimestampDumper):
    oid = 1184


_DUMPERS: dict[type, type[Dumper]] = {
    _Tids: _TidsDumper,
    _Timestamp: _TimestampDumper,
    _Timestamptz: _TimestamptzDumper,
}
