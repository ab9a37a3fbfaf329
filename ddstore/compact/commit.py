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
- Columns that the core does not code are gathered from the very rows that are deleted, and stored as distinct values
  and positions only where these, as decoded, give back every byte of what was gathered.
- The table is compared with the catalog as it was when the rows were read: a column added meanwhile is not dropped
  with the rows, a released table gets no more segments.
- An UPDATE or DELETE that began before is not to miss a row that moves: with the extension, unless a trigger wants to
  see the row go, it is marked as moved elsewhere, and the statement raises instead (``sql/extension/move.c``).
- Readers see both the segment and the missing rows, or neither: it is one commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import errors as pg_errors
from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.compact.insert import DUMPERS, EncodedSegment, Tids, insert_parameters, insert_query
from ddstore.compact.rows import HotRows, fetch_rows, hot_columns, read_filenode
from ddstore.compact.train import SeriesModel
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.pool import Connection
from ddstore.db.queries import Escaped, sql
from ddstore.db.relation import check_compactable, inspect
from ddstore.errors import CompactionConflict, CorruptSegment

__all__ = ["LeaseLost", "commit_segments", "insert_segments"]


class LeaseLost(CompactionConflict):
    """Another worker has taken a series over (or its table was released); this one must leave it alone."""


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
        SchemaMismatch: the table has got a trigger, a foreign key or a constraint that forbids it.
    """
    table = segments[0].plan.table
    rows = HotRows.join([segment.rows for segment in segments if isinstance(segment.rows, HotRows)])
    try:
        _begin(conn, table, rows.filenode)
        _record(conn, worker, segments)
        stored = {model: _store_model(conn, model) for model in _new_models(segments)}
        insert_segments(conn, table, segments, stored)
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
    # A trigger or a foreign key that is not there now cannot come before we are through: it needs a stronger lock.
    check_compactable(inspect(conn, table.identifier.as_string(conn)), table.lossy)


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
    if row is None or bytes(row[1]) != _hash(model.data):
        raise CorruptSegment("the server holds another model than was sent")
    return int(row[0])


def insert_segments(
    conn: Connection,
    table: ManagedTable,
    segments: Sequence[EncodedSegment],
    stored: dict[SeriesModel, int],
    *,
    cold: bool = False,
) -> list[int]:
    """Insert segments of hot (or ``cold``) rows, in the caller's transaction; return their ids.

    Raises:
        CompactionConflict: rows are gone that were read.
        CorruptSegment: the server holds other bytes than were sent.
    """
    for kind, dumper in DUMPERS.items():
        conn.adapters.register_dumper(kind, dumper)
    conn.execute(sql("compact_plan"))
    ids = []
    with conn.cursor() as cursor:
        parameters = [insert_parameters(segment, stored) for segment in segments]
        cursor.executemany(insert_query(table, cold=cold), parameters, returning=True)
        for segment in segments:
            row = cursor.fetchone()
            if row is None:
                raise CompactionConflict("rows are gone that were read", series=segment.plan.label)
            positions = zip(row[1], segment.positions, strict=True)
            if row[0] != _hash(b"".join(segment.payload)) or any(
                found is not None and (sent is None or found != _hash(sent)) for found, sent in positions
            ):
                raise CorruptSegment("the server holds other bytes than were sent", series=segment.plan.label)
            ids.append(int(row[2]))
            cursor.nextset()
    return ids


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _delete(conn: Connection, table: ManagedTable, rows: HotRows) -> None:
    moving = table.cold is not None and _movable(conn, table)
    query = pgsql.SQL(sql("compact_leaving" if moving else "compact_delete")).format(
        table=Escaped(table.identifier), columns=Escaped(hot_columns(table))
    )
    deleted = fetch_rows(conn, table, query, rows.filenode, {"rows": Tids(rows.tids())})
    if not deleted.same_rows(rows):
        raise CompactionConflict(
            f"{len(rows)} rows were read, and not exactly these {len(deleted)} could be deleted", series=table.label
        )
    if moving:
        conn.execute(sql("compact_move"), {"oid": table.oid, "rows": Tids(rows.tids())})


def _movable(conn: Connection, table: ManagedTable) -> bool:
    row = conn.execute(sql("compact_movable"), {"oid": table.oid}).fetchone()
    return row is not None and bool(row[0])
