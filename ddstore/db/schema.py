"""The catalog's own schema: migrations, applied in order, once, under a lock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import errors as pg_errors

from ddstore.db.pool import Connection, translate_errors
from ddstore.db.queries import sql
from ddstore.db.resources import resource_dir
from ddstore.errors import NotInstalled, NotPermitted, SchemaMismatch

__all__ = ["Migration", "is_migrated", "migrate", "migrations", "pending", "require_migrated"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file: ``name`` orders it, ``sha256`` proves later that it was not edited after it ran."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the text, as recorded in ``ddstore.migration``."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the migrations this version of DDStore ships, in the order in which they run."""
    files = sorted(resource_dir("migrations").glob("*.sql"), key=lambda file: file.name)
    return [Migration(file.stem, file.read_text(encoding="utf-8")) for file in files]


def migrate(conn: Connection) -> list[str]:
    """Bring the catalog up to date; return the names of the migrations that ran (empty when none was due).

    Each migration is one transaction under an advisory lock, so any number of processes may call this at once.
    Needs CREATE on the database, never superuser. On a connection that is already in a transaction the migrations
    become part of it.

    Raises:
        SchemaMismatch: a migration that ran was edited since, or the catalog is newer than this DDStore.
        NotPermitted: the role may not create the schema.
    """
    ran: list[str] = []
    with translate_errors():
        for migration in migrations():
            with conn.transaction():
                conn.execute(sql("migration_lock"))
                applied = _applied(conn)
                _check_history(applied)
                if migration.name not in applied:
                    _apply(conn, migration)
                    ran.append(migration.name)
    return ran


def pending(conn: Connection) -> list[str]:
    """Return the names of the migrations that :func:`migrate` would run."""
    with translate_errors():
        applied = _applied(conn)
    return [migration.name for migration in migrations() if migration.name not in applied]


def is_migrated(conn: Connection) -> bool:
    """Whether the catalog is there and up to date."""
    return not pending(conn)


def require_migrated(conn: Connection) -> None:
    """Raise unless the catalog is there and up to date.

    Raises:
        NotInstalled: it is missing or older than this DDStore.
    """
    if due := pending(conn):
        raise NotInstalled(
            f"the database has no up-to-date DDStore catalog ({len(due)} migrations to run)",
            remedy="Run: ddstore migrate.",
        )


def _applied(conn: Connection) -> dict[str, str]:
    """Return name -> sha256 of what ran; empty without a catalog."""
    row = conn.execute(sql("migration_table_exists")).fetchone()
    if row is None or not row[0]:
        return {}
    return dict(conn.execute(sql("migrations_applied")).fetchall())


def _check_history(applied: dict[str, str]) -> None:
    shipped = {migration.name: migration for migration in migrations()}
    for name, sha256 in applied.items():
        if name not in shipped:
            raise SchemaMismatch(
                f"the catalog holds migration {name}, which this DDStore does not know",
                remedy="The database was migrated by a newer version: upgrade ddstore.",
            )
        if shipped[name].sha256 != sha256:
            raise SchemaMismatch(
                f"migration {name} was edited after it ran in this database",
                remedy="Restore the file as it was released; put changes in a new migration.",
            )


def _apply(conn: Connection, migration: Migration) -> None:
    try:
        conn.execute(migration.text.encode())
    except pg_errors.InsufficientPrivilege as error:
        role, database = conn.info.user, conn.info.dbname
        raise NotPermitted(
            f"role {role!r} may not create DDStore's catalog: {error.diag.message_primary}",
            remedy=f'Ask the owner to run: GRANT CREATE ON DATABASE "{database}" TO "{role}".',
        ) from error
    conn.execute(sql("migration_record"), {"name": migration.name, "sha256": migration.sha256})
