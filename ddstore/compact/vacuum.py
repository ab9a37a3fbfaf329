"""Give the space of moved rows back, and tell the planner about the new segments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.db.catalog import ManagedTable
from ddstore.db.pool import Connection, Database, connect, translate_errors
from ddstore.db.queries import sql
from ddstore.errors import DDStoreError

__all__ = ["vacuum", "vacuum_segments"]

_ONLY_SINCE = 180000  # from there on VACUUM includes inheritance children, and warns about foreign tables
_SHRUNK_FROM = 32 << 20  # bytes; a smaller heap is scanned in milliseconds, however empty, and filled again soon


def vacuum(database: Database, table: ManagedTable) -> list[str]:
    """VACUUM the hot part of ``table`` and ANALYZE its segments; return what did not work, in words.

    Plain VACUUM: readers and writers go on; a lock that is not free at once is left alone. To shrink a heap VACUUM
    shuts everybody out for a moment, some tens of milliseconds on a busy machine, so small ones keep their pages.
    """

    def both(conn: Connection) -> None:
        only = pgsql.SQL("ONLY " if conn.info.server_version >= _ONLY_SINCE else "")
        _forget_summaries(conn, table)
        row = conn.execute(sql("compact_heap_size"), {"oid": table.oid}).fetchone()
        options = "SKIP_LOCKED" if row is not None and row[0] >= _SHRUNK_FROM else "SKIP_LOCKED, TRUNCATE false"
        conn.execute(pgsql.SQL("VACUUM ({}) {}{}").format(pgsql.SQL(options), only, table.identifier))
        conn.execute(pgsql.SQL("ANALYZE {}").format(table.segments_identifier))

    return _try(database, table.label, both)


def vacuum_segments(database: Database, table: ManagedTable) -> list[str]:
    """The same for the segments of ``table``, where some were replaced."""
    statement = pgsql.SQL("VACUUM (SKIP_LOCKED, ANALYZE) {}").format(table.segments_identifier)
    return _try(database, table.segments, lambda conn: conn.execute(statement))


def _try(database: Database, label: str, work: Callable[[Connection], object]) -> list[str]:
    try:
        with connect(database.url, autocommit=True) as conn, translate_errors():
            work(conn)
    except (DDStoreError, psycopg.Error) as error:
        return [f"{label} was not vacuumed: {error}"]
    return []


def _forget_summaries(conn: Connection, table: ManagedTable) -> None:
    """Let VACUUM summarize the heap anew for the BRIN index: a summary only ever widens, and pages are used again."""
    with contextlib.suppress(pg_errors.LockNotAvailable), conn.transaction():
        conn.execute(sql("compact_patience"))
        conn.execute(sql("compact_forget_summaries"), {"oid": table.oid})
