"""Who gives the free end of a managed table's heap back to the system: VACUUM in one go, or the compactor in steps.

Where the extension can do it in steps, VACUUM and autovacuum are told to leave it: ``vacuum_truncate = false``, of
the table and of its TOAST. ``ddstore.managed_table.shrinks`` remembers that it was us who said so; whatever the user
has set himself, before or after, stays as it is.
"""

from __future__ import annotations

from psycopg import sql as pgsql

from ddstore.db.catalog import ManagedTable
from ddstore.db.pool import Connection
from ddstore.db.queries import sql

__all__ = ["claim_shrinking", "unclaim_shrinking"]


def claim_shrinking(conn: Connection, table_id: int, table: pgsql.Identifier) -> None:
    """Have the compactor shrink a table from now on, where that is not decided yet and can be; in a transaction."""
    row = conn.execute(sql("shrink_claim"), {"table_id": table_id}).fetchone()
    if row is not None and row[0]:
        conn.execute(
            pgsql.SQL("ALTER TABLE ONLY {} SET (vacuum_truncate = false, toast.vacuum_truncate = false)").format(table)
        )


def unclaim_shrinking(conn: Connection, table: ManagedTable) -> None:
    """Undo :func:`claim_shrinking`: take back what it has set; in a transaction."""
    options = [pgsql.SQL(name) for (name,) in conn.execute(sql("shrink_unclaim"), {"table_id": table.id})]
    if options:
        conn.execute(
            pgsql.SQL("ALTER TABLE ONLY {} RESET ({})").format(table.identifier, pgsql.SQL(", ").join(options))
        )
