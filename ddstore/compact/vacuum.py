"""Give the space of moved rows back, and tell the planner about the new segments."""

from __future__ import annotations

import psycopg
from psycopg import sql as pgsql

from ddstore.db.catalog import ManagedTable
from ddstore.db.pool import Database, connect, translate_errors
from ddstore.errors import DDStoreError

__all__ = ["vacuum"]

_ONLY_SINCE = 180000  # from there on VACUUM includes inheritance children, and warns about foreign tables


def vacuum(database: Database, table: ManagedTable) -> list[str]:
    """VACUUM the hot part of ``table`` and ANALYZE its segments; return what did not work, in words.

    Plain VACUUM: readers and writers go on; a lock that is not free at once is left alone.
    """
    try:
        conn = connect(database.url, autocommit=True)
    except DDStoreError as error:
        return [f"{table.label} was not vacuumed: {error}"]
    with conn:
        only = pgsql.SQL("ONLY " if conn.info.server_version >= _ONLY_SINCE else "")
        try:
            with translate_errors():
                conn.execute(pgsql.SQL("VACUUM (SKIP_LOCKED) {}{}").format(only, table.identifier))
                conn.execute(pgsql.SQL("ANALYZE {}").format(table.segments_identifier))
        except (DDStoreError, psycopg.Error) as error:
            return [f"{table.label} was not vacuumed: {error}"]
    return []
