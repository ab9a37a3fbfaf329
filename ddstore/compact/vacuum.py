"""Give the space of moved rows back, and tell the planner about the new segments."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.db.catalog import ManagedTable
from ddstore.db.pool import Connection, Database, connect, translate_errors
from ddstore.db.queries import sql
from ddstore.db.shrinking import claim_shrinking
from ddstore.errors import DDStoreError

__all__ = ["vacuum", "vacuum_segments"]

_ONLY_SINCE = 180000  # from there on VACUUM includes inheritance children, and warns about foreign tables
# Bytes; a smaller heap is scanned in milliseconds, however empty, and filled again soon.
_SHRUNK_FROM = 32 << 20  # by VACUUM
_STEPPED_FROM = 8 << 20
_STEP_PAGES = 1024  # 8 MB: two milliseconds' work under the lock, of which a quarter is there for the smallest step
_MISSES = 200  # so often somebody may be using the table; then what is left waits for the next pass
_PAUSE_S = 0.01  # after each


class _Heap(NamedTuple):
    """The heap of hot rows, as compact_heap says it is: its bytes, its TOAST table, and who shrinks it."""

    size: int
    toast: int
    toast_size: int
    able: bool  # the extension and we can shrink it in steps
    undecided: bool
    ours: bool  # VACUUM was told not to

    @property
    def stepwise(self) -> bool:
        return self.able and self.ours

    @property
    def truncate(self) -> LiteralString:
        """What VACUUM shall do about it, as an option."""
        if self.stepwise or self.size < _SHRUNK_FROM:
            return ", TRUNCATE false"
        return ", TRUNCATE true" if self.ours else ""  # the extension has gone since; or as its owner has set it


def vacuum(database: Database, table: ManagedTable) -> list[str]:
    """VACUUM the hot part of ``table`` and ANALYZE its segments; return what did not work, in words.

    Plain VACUUM: readers and writers go on; a lock that is not free at once is left alone. To shrink a heap is to shut
    everybody out: the extension does it in steps of milliseconds, VACUUM in one that may take a tenth of a second on a
    busy machine. Small heaps keep their pages.
    """

    def both(conn: Connection) -> None:
        only = pgsql.SQL("ONLY " if conn.info.server_version >= _ONLY_SINCE else "")
        _forget_summaries(conn, table)
        heap = _heap(conn, table)
        options = pgsql.SQL(f"SKIP_LOCKED{heap.truncate}")
        conn.execute(pgsql.SQL("VACUUM ({}) {}{}").format(options, only, table.identifier))
        if heap.stepwise:
            for oid, size in ((table.oid, heap.size), (heap.toast, heap.toast_size)):
                if size >= _STEPPED_FROM:
                    _shrink(conn, oid)
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


def _heap(conn: Connection, table: ManagedTable) -> _Heap:
    """Who shrinks it is decided now for tables that were adopted before it could be."""
    heap = _read_heap(conn, table)
    if not (heap.able and heap.undecided):
        return heap
    with contextlib.suppress(pg_errors.LockNotAvailable, pg_errors.InsufficientPrivilege), conn.transaction():
        conn.execute(sql("compact_patience"))
        claim_shrinking(conn, table.id, table.identifier)
    return _read_heap(conn, table)


def _read_heap(conn: Connection, table: ManagedTable) -> _Heap:
    row = conn.execute(sql("compact_heap"), {"table_id": table.id}).fetchone()
    return _Heap(0, 0, 0, False, False, False) if row is None else _Heap(*row)  # VACUUM says that the table is gone


def _shrink(conn: Connection, oid: int) -> None:
    """Step by step, each a transaction, give back the pages at the end of a heap that are empty."""
    misses = 0
    while misses < _MISSES:
        row = conn.execute(sql("compact_shrink"), {"oid": oid, "pages": _STEP_PAGES}).fetchone()
        given = None if row is None else row[0]
        if given is None:
            misses += 1
            time.sleep(_PAUSE_S)
        elif given < _STEP_PAGES:
            return
